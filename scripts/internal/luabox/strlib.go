package luabox

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// The string library follows the manual of Lua 5.1 and not the Lua machine's
// own, which differs in patterns and formats and has no bound: string.find with
// an evil pattern would run for ever, and string.rep take all memory.
func (b *box) stringFunctions() map[string]lua.LGFunction {
	return map[string]lua.LGFunction{
		"byte": b.strByte, "char": b.strChar, "find": b.strFind, "format": b.strFormat, "gmatch": b.strGmatch,
		"gsub": b.strGsub, "len": b.strLen, "lower": b.strLower, "match": b.strMatch, "rep": b.strRep,
		"reverse": b.strReverse, "sub": b.strSub, "upper": b.strUpper,
	}
}

// position is a 1-based position that may count from the end.
func position(i, length int) int {
	if i < 0 {
		i = max(length+i+1, 0)
	}
	return i
}

func (b *box) optional(n int, function string, otherwise int) int {
	if b.lua.Get(n) == lua.LNil {
		return otherwise
	}
	return b.integer(n, function)
}

func (b *box) strByte(l *lua.LState) int {
	s := b.str(1, "byte")
	first := position(b.optional(2, "byte", 1), len(s))
	last := position(b.optional(3, "byte", first), len(s))
	first, last = max(first, 1), min(last, len(s))
	if first > last {
		return 0
	}
	if last-first+1 > 7990 {
		b.fail("stack overflow (string slice too long)")
	}
	for i := first; i <= last; i++ {
		l.Push(lua.LNumber(s[i-1]))
	}
	return last - first + 1
}

func (b *box) strChar(l *lua.LState) int {
	out := make([]byte, l.GetTop())
	for i := range out {
		c := b.integer(i+1, "char")
		if c < 0 || c > 255 {
			b.badArgument(i+1, "char", "invalid value")
		}
		out[i] = byte(c)
	}
	return b.push(string(out))
}

func (b *box) push(s string) int {
	b.charge(int64(len(s)))
	b.lua.Push(lua.LString(s))
	return 1
}

func (b *box) strLen(l *lua.LState) int {
	l.Push(lua.LNumber(len(b.str(1, "len"))))
	return 1
}

func (b *box) strSub(l *lua.LState) int {
	s := b.str(1, "sub")
	first := max(position(b.integer(2, "sub"), len(s)), 1)
	last := min(position(b.optional(3, "sub", -1), len(s)), len(s))
	if first > last {
		l.Push(lua.LString(""))
	} else {
		l.Push(lua.LString(s[first-1 : last])) // shares the text
	}
	return 1
}

func (b *box) strRep(*lua.LState) int {
	s, n := b.str(1, "rep"), b.integer(2, "rep")
	if n <= 0 || s == "" {
		return b.push("")
	}
	b.charge(int64(len(s)) * int64(n))
	b.lua.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

func (b *box) strReverse(*lua.LState) int {
	s := b.str(1, "reverse")
	b.charge(int64(len(s)))
	out := make([]byte, len(s))
	for i := range out {
		out[i] = s[len(s)-1-i]
	}
	b.lua.Push(lua.LString(out))
	return 1
}

func (b *box) strLower(*lua.LState) int { return b.mapBytes("lower", 'A', 'Z', 'a'-'A') }
func (b *box) strUpper(*lua.LState) int { return b.mapBytes("upper", 'a', 'z', 'A'-'a') }

func (b *box) mapBytes(function string, low, high byte, by int) int {
	s := b.str(1, function)
	b.charge(int64(len(s)))
	out := []byte(s)
	for i, c := range out {
		if c >= low && c <= high {
			out[i] = byte(int(c) + by)
		}
	}
	b.lua.Push(lua.LString(out))
	return 1
}

func (b *box) strFind(*lua.LState) int  { return b.find("find", true) }
func (b *box) strMatch(*lua.LState) int { return b.find("match", false) }

func (b *box) find(function string, positions bool) int {
	l := b.lua
	s, p := b.str(1, function), b.str(2, function)
	start := min(max(position(b.optional(3, function, 1), len(s))-1, 0), len(s))
	if positions && (l.ToBool(4) || !strings.ContainsAny(p, "^$*+?.([%-")) {
		i := strings.Index(s[start:], p)
		if i < 0 {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LNumber(start + i + 1))
		l.Push(lua.LNumber(start + i + len(p)))
		return 2
	}
	m := matcher{box: b, s: s, p: p}
	first := 0
	if strings.HasPrefix(p, "^") {
		first = 1
	}
	for ; start <= len(s); start++ {
		m.level = 0
		if end := m.match(start, first); end >= 0 {
			if !positions {
				return m.pushCaptures(start, end, true)
			}
			l.Push(lua.LNumber(start + 1))
			l.Push(lua.LNumber(end))
			return 2 + m.pushCaptures(start, end, false)
		}
		if first == 1 {
			break
		}
	}
	l.Push(lua.LNil)
	return 1
}

func (b *box) strGmatch(l *lua.LState) int {
	s, p := b.str(1, "gmatch"), b.str(2, "gmatch")
	at := 0
	l.Push(l.NewFunction(func(*lua.LState) int {
		m := matcher{box: b, s: s, p: p}
		for ; at <= len(s); at++ {
			m.level = 0
			end := m.match(at, 0)
			if end < 0 {
				continue
			}
			start := at
			if at = end; end == start {
				at++ // an empty match: go on behind it
			}
			return m.pushCaptures(start, end, true)
		}
		return 0
	}))
	return 1
}

func (b *box) strGsub(l *lua.LState) int {
	s, p := b.str(1, "gsub"), b.str(2, "gsub")
	repl := l.Get(3)
	switch repl.Type() {
	case lua.LTNumber, lua.LTString, lua.LTTable, lua.LTFunction:
	default:
		b.badArgument(3, "gsub", "string/function/table expected")
	}
	most := b.optional(4, "gsub", len(s)+1)
	first := 0
	if strings.HasPrefix(p, "^") {
		first = 1
	}
	m := matcher{box: b, s: s, p: p}
	var out []byte
	at, n := 0, 0
	for n < most {
		m.level = 0
		end := m.match(at, first)
		if end >= 0 {
			n++
			before := len(out)
			out = m.replace(out, at, end, repl)
			b.charge(int64(len(out) - before))
		}
		if end > at {
			at = end
		} else if at < len(s) {
			out = append(out, s[at])
			at++
		} else {
			break
		}
		if first == 1 {
			break
		}
	}
	out = append(out, s[min(at, len(s)):]...)
	b.push(string(out))
	l.Push(lua.LNumber(n))
	return 2
}
