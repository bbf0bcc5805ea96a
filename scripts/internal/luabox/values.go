package luabox

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// number is how Lua 5.1 in Redis writes a number: "%.14g".
func number(n float64) string { return formatG(n, 14) }

func formatG(n float64, precision int) string {
	if s, special := notFinite(n); special {
		return s
	}
	if n == math.Trunc(n) && math.Abs(n) < 1e14 && precision >= 14 && !(n == 0 && math.Signbit(n)) {
		return strconv.FormatInt(int64(n), 10)
	}
	return strconv.FormatFloat(n, 'g', precision, 64)
}

func notFinite(n float64) (string, bool) {
	sign := ""
	if math.Signbit(n) {
		sign = "-"
	}
	switch {
	case math.IsNaN(n):
		return sign + "nan", true
	case math.IsInf(n, 0):
		return sign + "inf", true
	}
	return "", false
}

// asText is a string or a number as text.
func asText(v lua.LValue) (string, bool) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), true
	case lua.LNumber:
		return number(float64(v)), true
	}
	return "", false
}

func tostring(v lua.LValue) string {
	if s, ok := asText(v); ok {
		return s
	}
	return v.String()
}

// where is the place of a level of the call stack, 1 being who called the running
// function: "user_script:12: ", or nothing where that is no line of the script.
func (b *box) where(level int) string {
	if place := b.lua.Where(level); strings.HasPrefix(place, chunk) {
		return place + " "
	}
	return ""
}

// fail raises an error from a function of this package. It does not return.
func (b *box) fail(format string, args ...any) {
	v := lua.LString(b.where(1) + fmt.Sprintf(format, args...))
	b.raised, b.raisedLine = v, b.line()
	b.lua.Error(v, 0)
}

func (b *box) badArgument(n int, function, message string) {
	b.fail("bad argument #%d to '%s' (%s)", n, function, message)
}

func (b *box) wrongType(n int, function, want string) {
	got := "no value"
	if n <= b.lua.GetTop() {
		got = b.lua.Get(n).Type().String()
	}
	b.badArgument(n, function, want+" expected, got "+got)
}

func (b *box) need(n int, function string) {
	if b.lua.GetTop() < n {
		b.badArgument(n, function, "value expected")
	}
}

func (b *box) table(n int, function string) *lua.LTable {
	t, ok := b.lua.Get(n).(*lua.LTable)
	if !ok {
		b.wrongType(n, function, "table")
	}
	return t
}

func (b *box) str(n int, function string) string {
	s, ok := asText(b.lua.Get(n))
	if !ok {
		b.wrongType(n, function, "string")
	}
	return s
}

func (b *box) number(n int, function string) float64 {
	switch v := b.lua.Get(n).(type) {
	case lua.LNumber:
		return float64(v)
	case lua.LString:
		if f, ok := parseNumber(string(v)); ok {
			return f
		}
	}
	b.wrongType(n, function, "number")
	return 0
}

// integer is a number without its fraction, held within ±2^31.
func (b *box) integer(n int, function string) int {
	f := b.number(n, function)
	switch {
	case math.IsNaN(f), f <= math.MinInt32:
		return math.MinInt32
	case f >= math.MaxInt32:
		return math.MaxInt32
	}
	return int(f)
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// parseNumber reads a whole text as Lua 5.1 does, which leaves it to C's strtod:
// with white space around it, hexadecimal, inf and nan.
func parseNumber(s string) (float64, bool) {
	n, used := parsePrefix(s)
	if used == 0 {
		return 0, false
	}
	for used < len(s) && isSpace(s[used]) {
		used++
	}
	return n, used == len(s)
}

// parsePrefix is strtod: the number that a text begins with and how many bytes
// it takes; 0 where there is none.
func parsePrefix(s string) (n float64, used int) {
	i := 0
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	start, sign := i, 1.0
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		if s[i] == '-' {
			sign = -1
		}
		i++
	}
	word := strings.ToLower(s[i:min(i+8, len(s))])
	switch {
	case strings.HasPrefix(word, "infinity"):
		return math.Inf(int(sign)), i + 8
	case strings.HasPrefix(word, "inf"):
		return math.Inf(int(sign)), i + 3
	case strings.HasPrefix(word, "nan"):
		return math.Copysign(math.NaN(), sign), i + 3
	case strings.HasPrefix(word, "0x"):
		if end := hexEnd(s, i+2); end > i+2 {
			return parseFloat(s[start:end], true), end
		}
		return 0 * sign, i + 1
	}
	digits := func() int {
		n := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i, n = i+1, n+1
		}
		return n
	}
	found := digits()
	if i < len(s) && s[i] == '.' {
		i++
		found += digits()
	}
	if found == 0 {
		return 0, 0
	}
	if mantissa := i; i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if digits() == 0 {
			i = mantissa
		}
	}
	return parseFloat(s[start:i], false), i
}

func hexEnd(s string, i int) int {
	isHex := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
	}
	start, dots := i, 0
	for i < len(s) && (isHex(s[i]) || s[i] == '.' && dots == 0) {
		if s[i] == '.' {
			dots++
		}
		i++
	}
	if i == start+dots {
		return start
	}
	if i+1 < len(s) && (s[i] == 'p' || s[i] == 'P') {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if j < len(s) && s[j] >= '0' && s[j] <= '9' {
			for j < len(s) && s[j] >= '0' && s[j] <= '9' {
				j++
			}
			return j
		}
	}
	return i
}

func parseFloat(s string, hex bool) float64 {
	if hex && !strings.ContainsAny(s, "pP") {
		s += "p0"
	}
	n, err := strconv.ParseFloat(s, 64) // what is too large is ±Inf, as in C
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return math.NaN()
	}
	return n
}

// parseBase is tonumber with a base: C's strtoul.
func parseBase(s string, base int) (float64, bool) {
	s = strings.TrimFunc(s, func(r rune) bool { return r < 128 && isSpace(byte(r)) })
	s, negative := strings.CutPrefix(s, "-")
	if !negative {
		s = strings.TrimPrefix(s, "+")
	}
	if base == 16 && len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		s = s[2:]
	}
	if strings.ContainsAny(s, "_+-") {
		return 0, false
	}
	n, err := strconv.ParseUint(s, base, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	if negative {
		n = -n
	}
	return float64(n), true
}

// toLua turns a reply of Redis into a value of Lua.
func (b *box) toLua(reply any) lua.LValue {
	switch r := reply.(type) {
	case int64:
		return lua.LNumber(r)
	case string:
		return lua.LString(r)
	case Status:
		return b.single("ok", string(r))
	case ReplyError:
		return b.single("err", string(r))
	case []any:
		t := b.lua.CreateTable(len(r), 0)
		for i, v := range r {
			t.RawSetInt(i+1, b.toLua(v))
		}
		return t
	}
	return lua.LFalse
}

func (b *box) single(name, text string) *lua.LTable {
	t := b.lua.NewTable()
	t.RawSetString(name, lua.LString(text))
	return t
}

// toReply turns what a script returns into a reply of Redis.
func (b *box) toReply(v lua.LValue, depth int) (any, error) {
	switch v := v.(type) {
	case lua.LBool:
		if v {
			return int64(1), nil
		}
	case lua.LNumber:
		return truncated(float64(v)), nil
	case lua.LString:
		return string(v), nil
	case *lua.LTable:
		return b.tableReply(v, depth)
	}
	return nil, nil
}

// truncated is C's conversion to long long on x86, where what does not fit is
// the smallest number.
func truncated(n float64) int64 {
	if n >= -1<<63 && n < 1<<63 {
		return int64(n)
	}
	return math.MinInt64
}

func (b *box) tableReply(t *lua.LTable, depth int) (any, error) {
	const deepest = 1000
	if depth > deepest {
		return nil, &Error{Message: "reached lua stack limit"}
	}
	if s, ok := t.RawGetString("err").(lua.LString); ok {
		if depth == 0 {
			return nil, &Error{Message: string(s)}
		}
		return ReplyError(s), nil
	}
	if s, ok := t.RawGetString("ok").(lua.LString); ok {
		return Status(strings.NewReplacer("\r", " ", "\n", " ").Replace(string(s))), nil
	}
	list := []any{}
	for i := 1; ; i++ {
		v := t.RawGetInt(i)
		if v == lua.LNil {
			return list, nil
		}
		// what refers to itself many times must not become large
		if b.bytes += 32; b.bytes > b.limit {
			return nil, &Error{Message: fmt.Sprintf("%v: the reply", ErrMemory), causes: []error{ErrMemory}}
		}
		r, err := b.toReply(v, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
}
