package luabox

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// strFormat is string.format: C's printf with its flags, on bytes.
func (b *box) strFormat(l *lua.LState) int {
	format, arg := b.str(1, "format"), 1
	var out []byte
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			out = append(out, format[i])
			continue
		}
		i++
		if i < len(format) && format[i] == '%' {
			out = append(out, '%')
			continue
		}
		if arg++; arg > l.GetTop() {
			b.badArgument(arg, "format", "no value")
		}
		f, used := b.directive(format[i:])
		i += used
		before := len(out)
		out = b.formatOne(out, f, arg)
		b.charge(int64(len(out) - before))
	}
	return b.push(string(out))
}

// directive is one conversion: what stands between % and its letter, and that.
type directive struct {
	flags     string
	width     int
	precision int // -1: none
	verb      byte
}

// directive reads one; used is where its letter is.
func (b *box) directive(s string) (d directive, used int) {
	i := 0
	for i < len(s) && strings.IndexByte("-+ #0", s[i]) >= 0 {
		i++
	}
	if i > 5 {
		b.fail("invalid format (repeated flags)")
	}
	d.flags, d.precision = s[:i], -1
	twoDigits := func() int {
		start := i
		for i < len(s) && i < start+2 && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		n, err := strconv.Atoi("0" + s[start:i])
		if err != nil || i < len(s) && s[i] >= '0' && s[i] <= '9' {
			b.fail("invalid format (width or precision too long)")
		}
		return n
	}
	d.width = twoDigits()
	if i < len(s) && s[i] == '.' {
		i++
		d.precision = twoDigits()
	}
	if i < len(s) {
		d.verb = s[i]
	}
	return d, i
}

func (b *box) formatOne(out []byte, d directive, arg int) []byte {
	switch d.verb {
	case 'c':
		c := byte(b.integer(arg, "format"))
		if out = d.pad(out, string([]byte{c})); c == 0 { // which ends C's text
			out = bytes.TrimRight(out, "\x00 ")
		}
		return out
	case 'd', 'i':
		return d.number(out, 'd', truncated(b.number(arg, "format")))
	case 'u':
		return d.number(out, 'd', unsigned(b.number(arg, "format")))
	case 'o', 'x', 'X':
		return d.number(out, d.verb, unsigned(b.number(arg, "format")))
	case 'e', 'E', 'f', 'g', 'G':
		n := b.number(arg, "format")
		if s, special := notFinite(n); special {
			if d.verb < 'a' {
				s = strings.ToUpper(s)
			}
			if s[0] != '-' && strings.Contains(d.flags, "+") {
				s = "+" + s
			}
			d.flags = strings.ReplaceAll(d.flags, "0", "")
			return d.pad(out, s)
		}
		if d.precision < 0 {
			d.precision = 6
		}
		if (d.verb == 'g' || d.verb == 'G') && d.precision == 0 {
			d.precision = 1
		}
		return d.number(out, d.verb, n)
	case 'q':
		return quote(out, b.str(arg, "format"))
	case 's':
		s := b.str(arg, "format")
		if d.precision >= 0 && len(s) > d.precision {
			s = s[:d.precision]
		}
		return d.pad(out, s)
	}
	verb := ""
	if d.verb != 0 {
		verb = string([]byte{d.verb})
	}
	b.fail("invalid option '%%%s' to 'format'", verb)
	return out
}

// number lets fmt do it, whose flags mean the same for finite numbers.
func (d directive) number(out []byte, verb byte, n any) []byte {
	if n == uint64(0) {
		d.flags = strings.ReplaceAll(d.flags, "#", "")
	}
	format := "%" + d.flags
	if d.width > 0 {
		format += strconv.Itoa(d.width)
	}
	if d.precision >= 0 {
		format += "." + strconv.Itoa(d.precision)
	}
	return fmt.Appendf(out, format+string(rune(verb)), n)
}

// unsigned is C's conversion of a double to unsigned long long, by way of long
// long as Lua does.
func unsigned(n float64) uint64 {
	if n >= 1<<63 && n < 1<<64 {
		return uint64(n)
	}
	if n >= 1<<64 {
		return 0
	}
	return uint64(truncated(n))
}

func (d directive) pad(out []byte, s string) []byte {
	spaces := max(d.width-len(s), 0)
	if strings.Contains(d.flags, "-") {
		out = append(out, s...)
		return append(out, strings.Repeat(" ", spaces)...)
	}
	out = append(out, strings.Repeat(" ", spaces)...)
	return append(out, s...)
}

func quote(out []byte, s string) []byte {
	out = append(out, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			out = append(out, '\\', c)
		case '\r':
			out = append(out, '\\', 'r')
		case 0:
			out = append(out, `\000`...)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

// finite is for JSON.
func finite(n float64) bool { return !math.IsNaN(n) && !math.IsInf(n, 0) }
