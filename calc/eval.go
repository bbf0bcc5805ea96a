package calc

import (
	"math"

	"github.com/voltageems/voltage/model"
)

// Input is a value on its way into an expression or out of it.
type Input struct {
	// Value counts only where Quality is usable.
	Value   float64
	Quality model.Quality
}

// env is what an expression is evaluated with.
type env struct {
	now    int64 // µs since 1970
	values []Input
	slots  [][]int // by reference: places in values
}

// rank orders qualities from best to worst.
func rank(q model.Quality) model.Quality {
	switch q {
	case model.Uncertain:
		return model.Substituted
	case model.Substituted:
		return model.Uncertain
	}
	return q
}

// worst returns the worse of two qualities: substituted is better than
// uncertain, and that is better than all that is not usable.
func worst(a, b model.Quality) model.Quality {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// number makes a result; what cannot be stored is invalid.
func number(v float64, q model.Quality) Input {
	if !q.Usable() {
		return Input{Quality: q}
	}
	if !model.Storable(v) {
		return Input{Quality: model.Invalid}
	}
	return Input{v, q}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// same is equality as the stored form has it.
func same(a, b float64) bool { return math.Abs(a-b) < 0.5e-6 }

// eval evaluates a node. Everything below is evaluated at every time, for what
// remembers must see every moment. It allocates nothing.
func (n *node) eval(e *env) Input {
	switch n.op {
	case opNumber:
		return Input{Value: n.value}
	case opRef:
		slots := e.slots[n.ref]
		if len(slots) != 1 {
			return Input{Quality: model.Bad}
		}
		return number(e.values[slots[0]].Value, e.values[slots[0]].Quality)
	case opMin, opMax, opSum, opAvg:
		f := fold{op: n.op}
		for _, a := range n.args {
			f.take(a, e, false)
		}
		return f.result()
	case opState:
		return n.state.step(e.now, n.args[0].eval(e))
	case opIf:
		condition, a, b := n.args[0].eval(e), n.args[1].eval(e), n.args[2].eval(e)
		if condition.Quality.Usable() && same(condition.Value, 0) {
			a = b
		}
		return number(a.Value, worst(condition.Quality, a.Quality))
	}
	a := n.args[0].eval(e)
	switch n.op {
	case opNegate:
		return number(-a.Value, a.Quality)
	case opNot:
		return number(truth(same(a.Value, 0)), a.Quality)
	case opAbs:
		return number(math.Abs(a.Value), a.Quality)
	}
	b := n.args[1].eval(e)
	return number(binary(n.op, a.Value, b.Value), worst(a.Quality, b.Quality))
}

func binary(o op, a, b float64) float64 {
	switch o {
	case opAdd:
		return a + b
	case opSubtract:
		return a - b
	case opMultiply:
		return a * b
	case opDivide:
		return a / b // by zero it is not a number that can be stored
	case opLess:
		return truth(a < b)
	case opLessOrEqual:
		return truth(a <= b)
	case opGreater:
		return truth(a > b)
	case opGreaterOrEqual:
		return truth(a >= b)
	case opEqual:
		return truth(same(a, b))
	case opNotEqual:
		return truth(!same(a, b))
	case opAnd:
		return truth(!same(a, 0) && !same(b, 0))
	case opOr:
		return truth(!same(a, 0) || !same(b, 0))
	}
	return math.NaN()
}

// fold gathers a list of values.
type fold struct {
	op      op
	n       int
	skipped bool
	value   float64
	quality model.Quality
}

// take adds what a node stands for. skip leaves out what is not usable.
func (f *fold) take(n *node, e *env, skip bool) {
	switch n.op {
	case opSkipBad:
		for _, a := range n.args {
			f.take(a, e, true)
		}
	case opRef:
		for _, slot := range e.slots[n.ref] {
			f.add(number(e.values[slot].Value, e.values[slot].Quality), skip)
		}
	default:
		f.add(n.eval(e), skip)
	}
}

func (f *fold) add(v Input, skip bool) {
	if skip && !v.Quality.Usable() {
		f.skipped = true
		return
	}
	f.quality = worst(f.quality, v.Quality)
	switch {
	case f.op == opSum || f.op == opAvg:
		f.value += v.Value
	case f.n == 0:
		f.value = v.Value
	case f.op == opMin:
		f.value = min(f.value, v.Value)
	case f.op == opMax:
		f.value = max(f.value, v.Value)
	}
	f.n++
}

// result of nothing is 0 for a sum, as of a site without PV, and bad for all
// others, and where there was something that had to be left out.
func (f *fold) result() Input {
	switch {
	case f.n == 0 && (f.skipped || f.op != opSum):
		return Input{Quality: model.Bad}
	case f.skipped:
		f.quality = worst(f.quality, model.Uncertain)
	}
	if f.op == opAvg {
		f.value /= float64(f.n)
	}
	return number(f.value, f.quality)
}
