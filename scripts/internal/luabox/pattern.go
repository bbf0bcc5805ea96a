package luabox

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const (
	maxCaptures   = 32
	maxMatchDepth = 5000
	unfinished    = -1 // length of a capture that is still open
	isPosition    = -2 // length of a () capture
)

// matcher matches one text with one pattern of Lua 5.1.
type matcher struct {
	box      *box
	s, p     string
	level    int
	depth    int
	captures [maxCaptures]struct{ start, length int }
}

func (m *matcher) fail(message string) { m.box.fail("%s", message) }

// match matches s from si with p from pi and returns the end of the match, or -1.
func (m *matcher) match(si, pi int) int {
	m.depth++
	if m.depth > maxMatchDepth {
		m.fail("pattern too complex")
	}
	defer func() { m.depth-- }()
	for {
		m.box.tick()
		if pi >= len(m.p) {
			return si
		}
		switch c := m.p[pi]; {
		case c == '(':
			if pi+1 < len(m.p) && m.p[pi+1] == ')' {
				return m.open(si, pi+2, isPosition)
			}
			return m.open(si, pi+1, unfinished)
		case c == ')':
			return m.close(si, pi+1)
		case c == '$' && pi+1 == len(m.p):
			if si == len(m.s) {
				return si
			}
			return -1
		case c == '%' && pi+1 < len(m.p) && m.p[pi+1] == 'b':
			if si = m.balance(si, pi+2); si < 0 {
				return -1
			}
			pi += 4
			continue
		case c == '%' && pi+1 < len(m.p) && m.p[pi+1] == 'f':
			pi += 2
			if pi >= len(m.p) || m.p[pi] != '[' {
				m.fail("missing '[' after '%f' in pattern")
			}
			end := m.classEnd(pi)
			var before, now byte
			if si > 0 {
				before = m.s[si-1]
			}
			if si < len(m.s) {
				now = m.s[si]
			}
			if m.inSet(before, pi, end-1) || !m.inSet(now, pi, end-1) {
				return -1
			}
			pi = end
			continue
		case c == '%' && pi+1 < len(m.p) && m.p[pi+1] >= '0' && m.p[pi+1] <= '9':
			k := m.captured(m.p[pi+1])
			text := m.s[m.captures[k].start : m.captures[k].start+m.captures[k].length]
			if !strings.HasPrefix(m.s[si:], text) {
				return -1
			}
			si, pi = si+len(text), pi+2
			continue
		}
		end := m.classEnd(pi)
		var suffix byte
		if end < len(m.p) {
			suffix = m.p[end]
		}
		switch suffix {
		case '?':
			if m.single(si, pi, end) {
				if r := m.match(si+1, end+1); r >= 0 {
					return r
				}
			}
			pi = end + 1
		case '*':
			return m.greedy(si, pi, end)
		case '+':
			if !m.single(si, pi, end) {
				return -1
			}
			return m.greedy(si+1, pi, end)
		case '-':
			for {
				if r := m.match(si, end+1); r >= 0 {
					return r
				}
				if !m.single(si, pi, end) {
					return -1
				}
				si++
			}
		default:
			if !m.single(si, pi, end) {
				return -1
			}
			si, pi = si+1, end
		}
	}
}

func (m *matcher) greedy(si, pi, end int) int {
	n := 0
	for m.single(si+n, pi, end) {
		n++
		m.box.tick()
	}
	for ; n >= 0; n-- {
		if r := m.match(si+n, end+1); r >= 0 {
			return r
		}
	}
	return -1
}

func (m *matcher) open(si, pi, length int) int {
	if m.level >= maxCaptures {
		m.fail("too many captures")
	}
	m.captures[m.level].start, m.captures[m.level].length = si, length
	m.level++
	r := m.match(si, pi)
	if r < 0 {
		m.level--
	}
	return r
}

func (m *matcher) close(si, pi int) int {
	for k := m.level - 1; k >= 0; k-- {
		if m.captures[k].length == unfinished {
			m.captures[k].length = si - m.captures[k].start
			r := m.match(si, pi)
			if r < 0 {
				m.captures[k].length = unfinished
			}
			return r
		}
	}
	m.fail("invalid pattern capture")
	return -1
}

// captured is the index of a capture that %1 … %9 in the pattern stands for.
func (m *matcher) captured(digit byte) int {
	k := int(digit) - '1'
	if k < 0 || k >= m.level || m.captures[k].length == unfinished {
		m.fail("invalid capture index")
	}
	if m.captures[k].length == isPosition {
		m.fail("invalid capture index") // Lua 5.1 would read far beyond the text
	}
	return k
}

func (m *matcher) balance(si, pi int) int {
	if pi+1 >= len(m.p) {
		m.fail("unbalanced pattern")
	}
	if si >= len(m.s) || m.s[si] != m.p[pi] {
		return -1
	}
	open, closing, deep := m.p[pi], m.p[pi+1], 1
	for i := si + 1; i < len(m.s); i++ {
		m.box.tick()
		switch m.s[i] {
		case closing:
			if deep--; deep == 0 {
				return i + 1
			}
		case open:
			deep++
		}
	}
	return -1
}

// classEnd is where the single-character class that starts at pi ends.
func (m *matcher) classEnd(pi int) int {
	c := m.p[pi]
	pi++
	switch c {
	case '%':
		if pi >= len(m.p) {
			m.fail("malformed pattern (ends with '%')")
		}
		return pi + 1
	case '[':
		if pi < len(m.p) && m.p[pi] == '^' {
			pi++
		}
		for { // look for a ], which is no end as the first character
			if pi >= len(m.p) {
				m.fail("malformed pattern (missing ']')")
			}
			c := m.p[pi]
			pi++
			if c == '%' && pi < len(m.p) {
				pi++
			}
			if pi < len(m.p) && m.p[pi] == ']' {
				return pi + 1
			}
		}
	}
	return pi
}

func (m *matcher) single(si, pi, end int) bool {
	if si >= len(m.s) {
		return false
	}
	c := m.s[si]
	switch m.p[pi] {
	case '.':
		return true
	case '%':
		return inClass(c, m.p[pi+1])
	case '[':
		return m.inSet(c, pi, end-1)
	}
	return m.p[pi] == c
}

// inSet looks in the set whose [ is at pi and whose ] is at end.
func (m *matcher) inSet(c byte, pi, end int) bool {
	positive := true
	pi++
	if m.p[pi] == '^' {
		positive = false
		pi++
	}
	for ; pi < end; pi++ {
		switch {
		case m.p[pi] == '%':
			pi++
			if inClass(c, m.p[pi]) {
				return positive
			}
		case m.p[pi+1] == '-' && pi+2 < end:
			if m.p[pi] <= c && c <= m.p[pi+2] {
				return positive
			}
			pi += 2
		case m.p[pi] == c:
			return positive
		}
	}
	return !positive
}

// inClass is for %a, %d and so on; an upper case letter is the opposite.
func inClass(c, class byte) bool {
	upper, lower := c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z'
	digit := c >= '0' && c <= '9'
	var in bool
	switch class | 0x20 {
	case 'a':
		in = upper || lower
	case 'c':
		in = c < 32 || c == 127
	case 'd':
		in = digit
	case 'l':
		in = lower
	case 'p':
		in = c > 32 && c < 127 && !upper && !lower && !digit
	case 's':
		in = isSpace(c)
	case 'u':
		in = upper
	case 'w':
		in = upper || lower || digit
	case 'x':
		in = digit || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
	case 'z':
		in = c == 0
	default:
		return class == c
	}
	if class >= 'A' && class <= 'Z' {
		return !in
	}
	if class < 'a' || class > 'z' { // no letter, but one with that bit set
		return class == c
	}
	return in
}

// capture is one capture of a match, or the whole match where there is none.
func (m *matcher) capture(k, start, end int) lua.LValue {
	if k >= m.level {
		if k != 0 {
			m.fail("invalid capture index")
		}
		return lua.LString(m.s[start:end])
	}
	c := m.captures[k]
	switch c.length {
	case unfinished:
		m.fail("unfinished capture")
	case isPosition:
		return lua.LNumber(c.start + 1)
	}
	return lua.LString(m.s[c.start : c.start+c.length])
}

// pushCaptures pushes all captures; the whole match where there is none, if asked.
func (m *matcher) pushCaptures(start, end int, whole bool) int {
	n := m.level
	if n == 0 && whole {
		n = 1
	}
	for k := range n {
		m.box.lua.Push(m.capture(k, start, end))
	}
	return n
}

// replace appends what gsub puts in place of a match.
func (m *matcher) replace(out []byte, start, end int, repl lua.LValue) []byte {
	l := m.box.lua
	var v lua.LValue
	switch r := repl.(type) {
	case *lua.LTable:
		v = l.GetTable(r, m.capture(0, start, end))
	case *lua.LFunction:
		l.Push(r)
		n := m.pushCaptures(start, end, true)
		l.Call(n, 1)
		v = l.Get(-1)
		l.Pop(1)
	default:
		text, _ := asText(repl)
		for i := 0; i < len(text); i++ {
			if text[i] != '%' {
				out = append(out, text[i])
				continue
			}
			var c byte // what follows a % at the end, as C reads it
			if i++; i < len(text) {
				c = text[i]
			}
			switch {
			case c == '0':
				out = append(out, m.s[start:end]...)
			case c >= '1' && c <= '9':
				s, _ := asText(m.capture(int(c-'1'), start, end))
				out = append(out, s...)
			default:
				out = append(out, c)
			}
			if int64(len(out)) > m.box.limit {
				m.box.charge(int64(len(out)))
			}
		}
		return out
	}
	if lua.LVIsFalse(v) {
		return append(out, m.s[start:end]...)
	}
	s, ok := asText(v)
	if !ok {
		m.box.fail("invalid replacement value (a %s)", v.Type().String())
	}
	return append(out, s...)
}
