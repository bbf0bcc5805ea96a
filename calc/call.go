package calc

import (
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// functions are those whose arguments are values.
var functions = map[string]struct {
	op       op
	min, max int
	lists    bool
}{
	"if": {opIf, 3, 3, false}, "abs": {opAbs, 1, 1, false},
	"min": {opMin, 1, 100, true}, "max": {opMax, 1, 100, true}, "sum": {opSum, 1, 100, true}, "avg": {opAvg, 1, 100, true},
	"skip_bad": {opSkipBad, 1, 100, true},
}

var functionNames = "abs, avg, if, integral, max, min, moving_average, rate, skip_bad, sum"

// call parses the arguments of a function; the token is the bracket.
func (p *parser) call(name token) (*node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	if slices.Contains([]string{"integral", "moving_average", "rate"}, name.text) {
		return p.stateful(name)
	}
	f, ok := functions[name.text]
	if !ok {
		return nil, fault(name.at, "there is no function %.40s: want one of %s", name.text, functionNames)
	}
	n := &node{op: f.op, at: name.at}
	for {
		arg, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		if list := p.expr.firstList(arg); list != nil && (!f.lists || list.op == opSkipBad && f.op == opSkipBad) {
			return nil, fault(list.at, "%s", manyText)
		}
		n.args = append(n.args, arg)
		if !p.is(",") {
			break
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if len(n.args) < f.min || len(n.args) > f.max {
		return nil, fault(name.at, "%s with %d values: want %d", name.text, len(n.args), min(max(len(n.args), f.min), f.max))
	}
	return n, p.expect(")")
}

// stateful parses integral(a, h[, gap]), moving_average(a, window) and
// rate(a[, window]); the token is the one after the bracket.
func (p *parser) stateful(name token) (*node, error) {
	arg, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if list := p.expr.firstList(arg); list != nil {
		return nil, fault(list.at, "%s", manyText)
	}
	s := &state{Kind: name.text}
	switch name.text {
	case "integral":
		s.span = defaultGap
		if err := p.expect(","); err != nil {
			return nil, err
		}
		units := map[string]float64{"s": 1, "min": 60, "h": 3600}
		unit, ok := units[p.token.text]
		if p.token.kind != tokenWord || !ok {
			return nil, p.unexpected("the unit of time of the integral: s, min or h")
		}
		s.unit = unit
		if err := p.advance(); err != nil {
			return nil, err
		}
	case "rate":
		s.span = defaultRate
	}
	if p.is(",") || name.text == "moving_average" {
		if err := p.expect(","); err != nil {
			return nil, err
		}
		if p.token.kind != tokenDuration {
			return nil, p.unexpected("a duration such as 60s or 5m")
		}
		if s.span = p.token.duration; s.span < minSpan || s.span > maxSpan {
			return nil, fault(p.token.at, "%s: want %s to %s", p.token.text, minSpan, maxSpan)
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	p.expr.states = append(p.expr.states, s)
	return &node{op: opState, at: name.at, args: []*node{arg}, state: s}, p.expect(")")
}

// Constant evaluates an expression over constants, such as 1.1 * rated_power.
// Errors wrap model.ErrInvalid.
func Constant(text string, constants map[string]float64) (float64, error) {
	e, err := Parse(text)
	if err != nil {
		return 0, err
	}
	if len(e.states) > 0 {
		return 0, fault(0, "integral, moving_average and rate have no value here: want constants and properties")
	}
	env := env{values: make([]Input, len(e.refs)), slots: make([][]int, len(e.refs))}
	for i, r := range e.refs {
		v, ok := constants[r.Name]
		if !ok || r.Model != "" || r.Children {
			return 0, fault(r.at, "there is no property %.80s", r)
		}
		env.values[i], env.slots[i] = Input{Value: v}, []int{i}
	}
	v := e.root.eval(&env)
	if v.Quality != model.Good {
		return 0, fault(0, "the result is not a number that can be stored")
	}
	return v.Value, nil
}

// Bounds of a window, and those that count where none is given.
const (
	minSpan     = time.Second
	maxSpan     = 7 * 24 * time.Hour
	defaultGap  = time.Minute
	defaultRate = 10 * time.Second
)
