package reference

import (
	"math"
	"strconv"
	"strings"
)

// What Lua 5.1 in Redis makes of numbers and texts.

// number is the Lua's number(): a finite decimal number without an exponent and
// within ±1e15.
func number(s string) (float64, bool) {
	if len(s) > 40 || !decimal(s) {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < -1e15 || n > 1e15 {
		return 0, false
	}
	return n, true
}

// decimal reports whether s matches ^[+-]?%d+%.?%d*$ or ^[+-]?%.%d+$.
func decimal(s string) bool {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	before, after, _ := strings.Cut(s, ".")
	return (before != "" || after != "") && digits(before) && digits(after)
}

// digits reports whether s has nothing but digits in it.
func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// letters reports whether s has nothing but letters in it.
func letters(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// numberOf is number() of a field of decoded JSON.
func numberOf(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return number(strconv.FormatFloat(v, 'f', 6, 64))
	case string:
		return number(v)
	}
	return 0, false
}

// stored is the stored form of a number: six decimals and no negative zero.
func stored(n float64) string {
	s := strconv.FormatFloat(n, 'f', 6, 64)
	if s == "-0.000000" {
		return "0.000000"
	}
	return s
}

// tonumber is Lua's: what C's strtod takes, with spaces around it.
func tonumber(s string) (float64, bool) {
	s = strings.Trim(s, " \t\n\v\f\r")
	n, length := strtod(s)
	return n, length > 0 && length == len(s)
}

// mustNumber is tonumber where Lua would go on to calculate with the result.
func mustNumber(s string) float64 {
	n, ok := tonumber(s)
	if !ok {
		fail("%.40q is no number", s)
	}
	return n
}

// count is tonumber of an argument that counts other arguments.
func count(s string) int {
	n := mustNumber(s)
	if n != math.Trunc(n) || n < 0 || n > 1<<30 {
		fail("%.40q is no count", s)
	}
	return int(n)
}

// strtod reads the number that s begins with and says how long it is, as C does.
func strtod(s string) (n float64, length int) {
	i := 0
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	rest := strings.ToLower(s[i:])
	for _, word := range []string{"infinity", "inf", "nan"} {
		if strings.HasPrefix(rest, word) {
			n, _ = strconv.ParseFloat(word, 64)
			if s[0] == '-' {
				n = -n
			}
			return n, i + len(word)
		}
	}
	isDigit, exponent, hex := func(c byte) bool { return c >= '0' && c <= '9' }, byte('e'), false
	if strings.HasPrefix(rest, "0x") && len(rest) > 2 && (hexDigit(rest[2]) || rest[2] == '.' && len(rest) > 3 && hexDigit(rest[3])) {
		isDigit, exponent, hex = hexDigit, 'p', true
		i += 2
	}
	start, seen := i, 0
	for ; i < len(s) && isDigit(s[i]); i++ {
		seen++
	}
	if i < len(s) && s[i] == '.' {
		j := i + 1
		for ; j < len(s) && isDigit(s[j]); j++ {
			seen++
		}
		if seen > 0 {
			i = j
		}
	}
	if seen == 0 || i == start {
		return 0, 0
	}
	power := false
	if i < len(s) && s[i]|0x20 == exponent {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if j < len(s) && s[j] >= '0' && s[j] <= '9' {
			for ; j < len(s) && s[j] >= '0' && s[j] <= '9'; j++ {
			}
			i, power = j, true
		}
	}
	text := s[:i]
	if hex && !power {
		text += "p0"
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(n, 0) && n != 0 {
		return 0, 0
	}
	return n, i
}

func hexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// whole is string.format('%d', n).
func whole(n float64) string { return strconv.FormatInt(int64(n), 10) }

// rounded is string.format('%.0f', n).
func rounded(n float64) string { return strconv.FormatFloat(n, 'f', 0, 64) }

// concat is what a value of decoded JSON becomes in a concatenation.
func concat(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', 14, 64)
	}
	fail("attempt to concatenate a value that is no text")
	return ""
}

// argument is what a value of decoded JSON becomes as an argument of redis.call.
func argument(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', 17, 64)
	}
	fail("Lua redis lib command arguments must be strings or integers")
	return ""
}

// truthy is what an if of Lua makes of a value: nil and false are not.
func truthy(v any) bool { return v != nil && v != false }

// pair reads "<a>:<b>", as the pattern ^([^:]+):([^:]+)$ does.
func pair(s string) (a, b string, ok bool) {
	a, b, ok = strings.Cut(s, ":")
	return a, b, ok && a != "" && b != "" && !strings.Contains(b, ":")
}

// parts are the parts of a list with commas, without empty ones.
func parts(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}
