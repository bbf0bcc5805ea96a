package calc

import (
	"fmt"
	"strconv"
	"time"

	"github.com/voltageems/voltage/model"
)

// tokenKind is what a token is.
type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenNumber
	tokenDuration
	tokenWord   // a name, a function or a word operator
	tokenQuoted // 'name' or 'model:name'
	tokenSign   // an operator, a bracket, a comma or a dot
)

type token struct {
	kind     tokenKind
	text     string
	at       int // byte in the expression, from 0
	number   float64
	duration time.Duration
}

// fault is an error at a place of the expression.
func fault(at int, format string, args ...any) error {
	return fmt.Errorf("%w: expression, column %d: %s", model.ErrInvalid, at+1, fmt.Sprintf(format, args...))
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// next returns the token at p.at and moves behind it.
func (p *parser) next() (token, error) {
	s := p.text
	for p.at < len(s) && (s[p.at] == ' ' || s[p.at] == '\t' || s[p.at] == '\n' || s[p.at] == '\r') {
		p.at++
	}
	start := p.at
	if start == len(s) {
		return token{kind: tokenEnd, at: start}, nil
	}
	switch c := s[start]; {
	case letter(c):
		for p.at < len(s) && (letter(s[p.at]) || digit(s[p.at])) {
			p.at++
		}
		return token{kind: tokenWord, text: s[start:p.at], at: start}, nil
	case digit(c), c == '.' && start+1 < len(s) && digit(s[start+1]):
		return p.number(start)
	case c == '\'':
		for p.at++; p.at < len(s) && s[p.at] != '\''; p.at++ {
		}
		if p.at == len(s) {
			return token{}, fault(start, "the quote is not closed")
		}
		p.at++
		return token{kind: tokenQuoted, text: s[start+1 : p.at-1], at: start}, nil
	case start+1 < len(s) && s[start+1] == '=' && (c == '<' || c == '>' || c == '=' || c == '!'):
		p.at += 2
	case c == '=':
		return token{}, fault(start, "equality is written ==")
	default:
		p.at++
	}
	return token{kind: tokenSign, text: s[start:p.at], at: start}, nil
}

func (p *parser) number(start int) (token, error) {
	s := p.text
	digits := func() {
		for p.at < len(s) && digit(s[p.at]) {
			p.at++
		}
	}
	digits()
	if p.at < len(s) && s[p.at] == '.' {
		p.at++
		digits()
	}
	if p.at+1 < len(s) && (s[p.at] == 'e' || s[p.at] == 'E') {
		mark := p.at
		if p.at++; s[p.at] == '+' || s[p.at] == '-' {
			p.at++
		}
		if p.at == len(s) || !digit(s[p.at]) {
			p.at = mark
		}
		digits()
	}
	if p.at < len(s) && letter(s[p.at]) { // a duration, perhaps of several parts such as 1h30m
		for p.at < len(s) && (letter(s[p.at]) || digit(s[p.at]) || s[p.at] == '.') {
			p.at++
		}
		d, err := time.ParseDuration(s[start:p.at])
		if err != nil {
			return token{}, fault(start, "%.40q is neither a number nor a duration such as 60s or 5m", s[start:p.at])
		}
		return token{kind: tokenDuration, text: s[start:p.at], at: start, duration: d}, nil
	}
	v, err := strconv.ParseFloat(s[start:p.at], 64)
	if err != nil || !model.Storable(v) {
		return token{}, fault(start, "the number %.40s is too large", s[start:p.at])
	}
	return token{kind: tokenNumber, text: s[start:p.at], at: start, number: v}, nil
}
