package luabox

import (
	"fmt"
	"strconv"

	lua "github.com/yuin/gopher-lua"
)

const jsonDepth = 1000

// cjson is the library of that name in Redis: encode, decode and null. Objects
// keep the order in which a table got its keys, where Redis has that of C hashes.
func (b *box) cjson() *lua.LTable {
	t := b.lua.NewTable()
	b.null = b.lua.NewUserData()
	t.RawSetString("null", b.null)
	b.functions(t, map[string]lua.LGFunction{"encode": b.jsonEncode, "decode": b.jsonDecode})
	return t
}

func (b *box) jsonEncode(l *lua.LState) int {
	if l.GetTop() != 1 {
		b.badArgument(1, "encode", "expected 1 argument")
	}
	out := b.encode(nil, l.Get(1), 0)
	l.Push(lua.LString(out))
	return 1
}

func (b *box) encode(out []byte, v lua.LValue, depth int) []byte {
	b.charge(8)
	switch v := v.(type) {
	case lua.LString:
		b.charge(int64(len(v)))
		out = encodeString(out, string(v))
	case lua.LNumber:
		if !finite(float64(v)) {
			b.fail("Cannot serialise number: must not be NaN or Inf")
		}
		out = append(out, number(float64(v))...)
	case lua.LBool:
		out = strconv.AppendBool(out, bool(v))
	case *lua.LNilType:
		out = append(out, "null"...)
	case *lua.LTable:
		return b.encodeTable(out, v, depth+1)
	default:
		if v != lua.LValue(b.null) {
			b.fail("Cannot serialise %s: type not supported", v.Type().String())
		}
		out = append(out, "null"...)
	}
	return out
}

func (b *box) encodeTable(out []byte, t *lua.LTable, depth int) []byte {
	if depth > jsonDepth {
		b.fail("Cannot serialise, excessive nesting (%d)", depth)
	}
	b.tick()
	if n := b.arrayLength(t); n > 0 {
		out = append(out, '[')
		for i := 1; i <= n; i++ {
			if i > 1 {
				out = append(out, ',')
			}
			out = b.encode(out, t.RawGetInt(i), depth)
		}
		return append(out, ']')
	}
	out = append(out, '{')
	first := true
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		if !first {
			out = append(out, ',')
		}
		first = false
		switch k := k.(type) {
		case lua.LString:
			b.charge(int64(len(k)))
			out = encodeString(out, string(k))
		case lua.LNumber:
			out = append(out, '"')
			out = append(out, number(float64(k))...)
			out = append(out, '"')
		default:
			b.fail("Cannot serialise %s: table key must be a number or string", k.Type().String())
		}
		out = append(out, ':')
		out = b.encode(out, v, depth)
	}
	return append(out, '}')
}

// arrayLength is the highest index where all keys are positive whole numbers,
// else -1.
func (b *box) arrayLength(t *lua.LTable) int {
	highest, items := 0.0, 0
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		n, ok := k.(lua.LNumber)
		if !ok || n < 1 || float64(n) != float64(int64(n)) {
			return -1
		}
		highest = max(highest, float64(n))
		items++
	}
	if highest > float64(items)*2 && highest > 10 {
		b.fail("Cannot serialise table: excessively sparse array")
	}
	return int(highest)
}

func encodeString(out []byte, s string) []byte {
	out = append(out, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '/':
			out = append(out, '\\', c)
		case '\b':
			out = append(out, '\\', 'b')
		case '\t':
			out = append(out, '\\', 't')
		case '\n':
			out = append(out, '\\', 'n')
		case '\f':
			out = append(out, '\\', 'f')
		case '\r':
			out = append(out, '\\', 'r')
		default:
			if c < 32 || c == 127 {
				out = fmt.Appendf(out, `\u%04x`, c)
			} else {
				out = append(out, c)
			}
		}
	}
	return append(out, '"')
}
