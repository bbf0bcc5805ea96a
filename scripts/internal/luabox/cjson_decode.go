package luabox

import (
	"strconv"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

func (b *box) jsonDecode(l *lua.LState) int {
	if l.GetTop() != 1 {
		b.badArgument(1, "decode", "expected 1 argument")
	}
	s := b.str(1, "decode")
	if len(s) >= 2 && (s[0] == 0 || s[1] == 0) {
		b.fail("JSON parser does not support UTF-16 or UTF-32")
	}
	b.charge(int64(len(s)))
	d := decoder{box: b, s: s}
	d.next()
	v := d.value()
	d.next()
	if d.kind != tokenEnd {
		d.fail("the end")
	}
	l.Push(v)
	return 1
}

// Kinds of tokens, by the names that stand in cjson's errors.
const (
	tokenObjBegin = "T_OBJ_BEGIN"
	tokenObjEnd   = "T_OBJ_END"
	tokenArrBegin = "T_ARR_BEGIN"
	tokenArrEnd   = "T_ARR_END"
	tokenString   = "T_STRING"
	tokenNumber   = "T_NUMBER"
	tokenBoolean  = "T_BOOLEAN"
	tokenNull     = "T_NULL"
	tokenColon    = "T_COLON"
	tokenComma    = "T_COMMA"
	tokenEnd      = "T_END"
)

type decoder struct {
	box   *box
	s     string
	at    int    // behind the token
	kind  string // of the token; what is wrong with it where it is none
	start int    // of the token
	str   string
	num   float64
	yes   bool
	depth int
}

func (d *decoder) fail(want string) {
	d.box.fail("Expected %s but found %s at character %d", want, d.kind, d.start+1)
}

// next reads a token.
func (d *decoder) next() {
	d.box.tick()
	for d.at < len(d.s) && (d.s[d.at] == ' ' || d.s[d.at] == '\t' || d.s[d.at] == '\n' || d.s[d.at] == '\r') {
		d.at++
	}
	d.start = d.at
	if d.at >= len(d.s) || d.s[d.at] == 0 && d.at == len(d.s) {
		d.kind = tokenEnd
		return
	}
	one := func(kind string) { d.kind, d.at = kind, d.at+1 }
	switch c := d.s[d.at]; c {
	case '{':
		one(tokenObjBegin)
	case '}':
		one(tokenObjEnd)
	case '[':
		one(tokenArrBegin)
	case ']':
		one(tokenArrEnd)
	case ':':
		one(tokenColon)
	case ',':
		one(tokenComma)
	case '"':
		d.string()
	default:
		d.word(c)
	}
}

func (d *decoder) word(c byte) {
	for _, w := range []struct {
		text, kind string
		yes        bool
	}{{"true", tokenBoolean, true}, {"false", tokenBoolean, false}, {"null", tokenNull, false}} {
		if len(d.s)-d.at >= len(w.text) && d.s[d.at:d.at+len(w.text)] == w.text {
			d.kind, d.yes, d.at = w.kind, w.yes, d.at+len(w.text)
			return
		}
	}
	d.kind = "invalid token"
	switch {
	case c == '-' || c >= '0' && c <= '9', c == '+', c == 'i', c == 'I', c == 'n', c == 'N':
		if (c == '+' || c > '9') && !invalidNumber(d.s[d.at:]) {
			return
		}
		n, used := parsePrefix(d.s[d.at:])
		if used == 0 {
			d.kind = "invalid number"
			return
		}
		d.kind, d.num, d.at = tokenNumber, n, d.at+used
	}
}

// invalidNumber is for numbers that JSON does not have, but cjson reads.
func invalidNumber(s string) bool {
	if s[0] == '+' {
		return true
	}
	_, used := parsePrefix(s)
	return used > 0
}

func (d *decoder) string() {
	out := []byte(nil)
	i := d.at + 1
	bad := func(kind string, at int) { d.kind, d.start = kind, at }
	for {
		if i >= len(d.s) || d.s[i] == 0 {
			bad("unexpected end of string", i)
			return
		}
		c := d.s[i]
		if c == '"' {
			break
		}
		if c != '\\' {
			out = append(out, c)
			i++
			continue
		}
		if i+1 >= len(d.s) {
			bad("invalid escape code", i)
			return
		}
		switch e := d.s[i+1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 't':
			out = append(out, '\t')
		case 'n':
			out = append(out, '\n')
		case 'f':
			out = append(out, '\f')
		case 'r':
			out = append(out, '\r')
		case 'u':
			r, used := unicodeEscape(d.s[i:])
			if used == 0 {
				bad("invalid unicode escape code", i)
				return
			}
			out = utf8.AppendRune(out, r)
			i += used
			continue
		default:
			bad("invalid escape code", i)
			return
		}
		i += 2
	}
	d.kind, d.str, d.at = tokenString, string(out), i+1
}

// unicodeEscape reads \uXXXX, or two of them where the first is a surrogate.
func unicodeEscape(s string) (r rune, used int) {
	hex4 := func(s string) (rune, bool) {
		if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(s[2:6], 16, 16)
		return rune(n), err == nil
	}
	r, ok := hex4(s)
	switch {
	case !ok, r >= 0xDC00 && r <= 0xDFFF:
		return 0, 0
	case r < 0xD800 || r > 0xDFFF:
		return r, 6
	}
	low, ok := hex4(s[6:])
	if !ok || low < 0xDC00 || low > 0xDFFF {
		return 0, 0
	}
	return 0x10000 + (r-0xD800)<<10 + (low - 0xDC00), 12
}

// value makes a Lua value of the token at hand and what belongs to it.
func (d *decoder) value() lua.LValue {
	d.box.charge(32)
	switch d.kind {
	case tokenString:
		return lua.LString(d.str)
	case tokenNumber:
		return lua.LNumber(d.num)
	case tokenBoolean:
		return lua.LBool(d.yes)
	case tokenNull:
		return d.box.null
	case tokenObjBegin:
		return d.object()
	case tokenArrBegin:
		return d.array()
	}
	d.fail("value")
	return lua.LNil
}

func (d *decoder) descend() {
	d.box.charge(256) // a table
	if d.depth++; d.depth > jsonDepth {
		d.box.fail("Found too many nested data structures (%d) at character %d", d.depth, d.at)
	}
}

func (d *decoder) object() lua.LValue {
	d.descend()
	t := d.box.lua.NewTable()
	d.next()
	if d.kind == tokenObjEnd {
		d.depth--
		return t
	}
	for {
		if d.kind != tokenString {
			d.fail("object key string")
		}
		key := d.str
		if d.next(); d.kind != tokenColon {
			d.fail("colon")
		}
		d.next()
		t.RawSetString(key, d.value())
		if d.next(); d.kind == tokenObjEnd {
			d.depth--
			return t
		}
		if d.kind != tokenComma {
			d.fail("comma or object end")
		}
		d.next()
	}
}

func (d *decoder) array() lua.LValue {
	d.descend()
	t := d.box.lua.NewTable()
	d.next()
	if d.kind == tokenArrEnd {
		d.depth--
		return t
	}
	for i := 1; ; i++ {
		t.RawSetInt(i, d.value())
		if d.next(); d.kind == tokenArrEnd {
			d.depth--
			return t
		}
		if d.kind != tokenComma {
			d.fail("comma or array end")
		}
		d.next()
	}
}
