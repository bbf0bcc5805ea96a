package reference

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// JSON as the cjson of Redis reads and writes it. It takes more than RFC 8259
// allows: hexadecimal numbers, leading zeros and signs, nan and inf, control
// characters in texts. Arrays with null in them are refused, as by the Lua's decode.

type (
	object map[string]any // the last of several fields of one name counts
	array  []any
)

// null is cjson.null.
type null struct{}

const maxDepth = 1000

// decode is the Lua's decode(): the value of text that is a JSON object or
// array, else nil.
func decode(text string, given bool) any {
	if !given || len(text) >= 2 && (text[0] == 0 || text[1] == 0) {
		return nil
	}
	d := decoder{s: text}
	v, ok := d.value()
	d.space()
	if !ok || d.i < len(d.s) && d.s[d.i] != 0 {
		return nil
	}
	switch v.(type) {
	case object, array:
		return v
	}
	return nil
}

// field is a field of decoded JSON; null counts as absent, and arrays have none.
func field(t any, name string) any {
	o, _ := t.(object)
	if v := o[name]; v != (null{}) {
		return v
	}
	return nil
}

// items are what ipairs finds in decoded JSON.
func items(t any) array {
	a, _ := t.(array)
	return a
}

// table reports whether v is a table in Lua.
func table(v any) bool {
	switch v.(type) {
	case object, array:
		return true
	}
	return false
}

type decoder struct {
	s     string
	i     int
	depth int
}

func (d *decoder) space() {
	for d.i < len(d.s) && strings.IndexByte(" \t\n\r", d.s[d.i]) >= 0 {
		d.i++
	}
}

// next skips space and takes c if it comes next.
func (d *decoder) next(c byte) bool {
	d.space()
	if d.i < len(d.s) && d.s[d.i] == c {
		d.i++
		return true
	}
	return false
}

func (d *decoder) value() (any, bool) {
	d.space()
	rest := d.s[d.i:]
	switch {
	case rest == "":
		return nil, false
	case rest[0] == '{':
		return d.object()
	case rest[0] == '[':
		return d.array()
	case rest[0] == '"':
		return d.text()
	case strings.HasPrefix(rest, "true"):
		d.i += 4
		return true, true
	case strings.HasPrefix(rest, "false"):
		d.i += 5
		return false, true
	case strings.HasPrefix(rest, "null"):
		d.i += 4
		return null{}, true
	case strings.IndexByte("+-0123456789iInN", rest[0]) >= 0:
		n, length := strtod(rest)
		d.i += length
		return n, length > 0
	}
	return nil, false
}

func (d *decoder) object() (any, bool) {
	d.i++
	if d.depth++; d.depth > maxDepth {
		return nil, false
	}
	o := object{}
	for first := true; ; first = false {
		if first && d.next('}') {
			break
		}
		d.space()
		if d.i >= len(d.s) || d.s[d.i] != '"' {
			return nil, false
		}
		name, ok := d.text()
		if !ok || !d.next(':') {
			return nil, false
		}
		v, ok := d.value()
		if !ok {
			return nil, false
		}
		o[name.(string)] = v
		if d.next('}') {
			break
		}
		if !d.next(',') {
			return nil, false
		}
	}
	d.depth--
	return o, true
}

func (d *decoder) array() (any, bool) {
	d.i++
	if d.depth++; d.depth > maxDepth {
		return nil, false
	}
	a := array{}
	for first := true; ; first = false {
		if first && d.next(']') {
			break
		}
		v, ok := d.value()
		if !ok || v == (null{}) { // which the embedded store drops: nobody may decide on what is left
			return nil, false
		}
		a = append(a, v)
		if d.next(']') {
			break
		}
		if !d.next(',') {
			return nil, false
		}
	}
	d.depth--
	return a, true
}

func (d *decoder) text() (any, bool) {
	d.i++
	var b []byte
	for d.i < len(d.s) {
		c := d.s[d.i]
		d.i++
		switch c {
		case 0:
			return nil, false
		case '"':
			return string(b), true
		case '\\':
			var ok bool
			if b, ok = d.escape(b); !ok {
				return nil, false
			}
		default:
			b = append(b, c)
		}
	}
	return nil, false
}

func (d *decoder) escape(b []byte) ([]byte, bool) {
	if d.i >= len(d.s) {
		return b, false
	}
	c := d.s[d.i]
	d.i++
	if c == 'u' {
		r, ok := d.hex4()
		if ok && r&0xf800 == 0xd800 { // one half of a pair
			low, paired := rune(0), false
			if strings.HasPrefix(d.s[d.i:], `\u`) {
				d.i += 2
				low, paired = d.hex4()
			}
			if r&0x400 != 0 || !paired || low&0xfc00 != 0xdc00 {
				return b, false
			}
			r = (r&0x3ff)<<10 | low&0x3ff + 0x10000
		}
		return utf8.AppendRune(b, r), ok
	}
	i := strings.IndexByte(`"\/bfnrt`, c)
	if i < 0 {
		return b, false
	}
	return append(b, "\"\\/\b\f\n\r\t"[i]), true
}

func (d *decoder) hex4() (rune, bool) {
	if d.i+4 > len(d.s) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(d.s[d.i : d.i+4]) {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	d.i += 4
	return r, true
}

// encode is cjson.encode of a table of texts, its fields in order.
func encode(m map[string]string) string {
	b := []byte{'{'}
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSONText(b, name)
		b = append(b, ':')
		b = appendJSONText(b, m[name])
	}
	return string(append(b, '}'))
}

func appendJSONText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		if j := strings.IndexByte("\"\\/\b\f\n\r\t", c); j >= 0 {
			b = append(b, '\\', `"\/bfnrt`[j])
		} else if c < 0x20 || c == 0x7f {
			b = fmt.Appendf(b, `\u%04x`, c)
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}
