package calc

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// at is a moment, in s.
func at(seconds float64) time.Time {
	return time.UnixMicro(1_800_000_000_000_000 + int64(math.Round(seconds*1e6)))
}

// single is one expression over points a, b, c of its own model.
type single struct {
	*Model
	t *testing.T
}

func newSingle(t *testing.T, text string) single {
	t.Helper()
	m := model.Instance{ID: "m", Measurements: map[string]string{"a": "1:1", "b": "1:2", "c": "1:3"},
		Calculations: map[string]model.Calculation{"r": {Expression: text}}, Properties: map[string]float64{"rated": 100}}
	c, err := Compile(m)
	require.NoError(t, err, text)
	_, problems := c.Bind(m, map[string]model.Instance{"m": m})
	require.Empty(t, problems)
	return single{c, t}
}

// value evaluates with the values of the inputs by name.
func (s single) value(seconds float64, in map[string]Input) Input {
	inputs := make([]Input, len(s.inputs))
	for i, ref := range s.inputs {
		inputs[i] = in[ref.Name]
	}
	return s.Evaluate(at(seconds), inputs)[0]
}

func (s single) of(seconds, a float64) Input {
	return s.value(seconds, map[string]Input{"a": {Value: a}})
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	in := map[string]Input{"a": {Value: 3}, "b": {Value: -4}, "c": {Value: 0.5}}
	for text, want := range map[string]float64{
		"1 + 2 * 3":                      7,
		"(1 + 2) * 3":                    9,
		"8 / 4 / 2":                      1,
		"8 - 4 - 2":                      2,
		"-a + 1":                         -2,
		"- - a":                          3,
		"2 * -a":                         -6,
		"a > b":                          1,
		"a < b":                          0,
		"a >= 3 and b <= -4":             1,
		"a == 3.0000001":                 1,
		"a != 3.001":                     1,
		"not a == 3":                     0,
		"not (a == 3) or c == 0.5":       1,
		"(a > b) == 1":                   1,
		"1 or 0 and 0":                   1,
		"if(a > 2, b, c)":                -4,
		"if(0, b, c)":                    0.5,
		"min(a, b, c)":                   -4,
		"max(a, b, c)":                   3,
		"sum(a, b, c)":                   -0.5,
		"avg(a, b)":                      -0.5,
		"abs(b)":                         4,
		"rated * c":                      50,
		"1e2 + .5":                       100.5,
		"sum(skip_bad(a, b), c)":         -0.5,
		"max(min(a, 10), -10) / m.rated": 0.03,
	} {
		got := newSingle(t, text).value(0, in)
		require.Equal(t, model.Good, got.Quality, text)
		require.InDelta(t, want, got.Value, 1e-12, text)
	}
}

func TestQuality(t *testing.T) {
	t.Parallel()
	in := map[string]Input{"a": {Value: 3, Quality: model.Uncertain}, "b": {Quality: model.Offline}, "c": {Value: 1, Quality: model.Substituted}}
	for text, want := range map[string]model.Quality{
		"a + 1":                  model.Uncertain,
		"c + 1":                  model.Substituted,
		"a + c":                  model.Uncertain,
		"a + b":                  model.Offline,
		"sum(a, b)":              model.Offline,
		"sum(skip_bad(a, b))":    model.Uncertain,
		"sum(skip_bad(c, b))":    model.Uncertain,
		"sum(skip_bad(b))":       model.Bad,
		"max(skip_bad(b), 1)":    model.Uncertain,
		"avg(skip_bad(b, b))":    model.Bad,
		"if(1, c, b)":            model.Substituted,
		"if(b, 1, 1)":            model.Offline,
		"if(0, c, b)":            model.Offline,
		"1 / 0":                  model.Invalid,
		"0 / 0":                  model.Invalid,
		"1e15 * 10":              model.Invalid,
		"1e15 * 10 - 1e15 * 10":  model.Invalid,
		"integral(b, h)":         model.Offline,
		"moving_average(b, 60s)": model.Offline,
		"rate(b)":                model.Offline,
		"not b":                  model.Offline,
		"0 and b":                model.Offline,
		"integral(a, h)":         model.Uncertain,
		"sum(children.nothing)":  model.Good,
		"avg(children.nothing)":  model.Bad,
		"min(children.nothing)":  model.Bad,
	} {
		require.Equal(t, want, newSingle(t, text).value(0, in).Quality, text)
	}
}

// Expressions made at random are computed once by the tree from which their text
// is made, once by parsing the text.
func TestAgainstTree(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	in := map[string]Input{"a": {Value: 3}, "b": {Value: -4.25}, "c": {Value: 0.5}}
	names := []string{"a", "b", "c"}
	var grow func(depth int) (string, float64)
	grow = func(depth int) (string, float64) {
		if depth == 0 || r.IntN(5) == 0 {
			if r.IntN(2) == 0 {
				name := names[r.IntN(3)]
				return name, in[name].Value
			}
			v := float64(r.IntN(100)) / 4
			return fmt.Sprint(v), v
		}
		x, a := grow(depth - 1)
		y, b := grow(depth - 1)
		is := func(ok bool) float64 {
			if ok {
				return 1
			}
			return 0
		}
		equal := math.Abs(a-b) < 0.5e-6
		switch r.IntN(12) {
		case 0:
			return "(" + x + " + " + y + ")", a + b
		case 1:
			return "(" + x + "-" + y + ")", a - b
		case 2:
			return "(" + x + ")*(" + y + ")", a * b
		case 3:
			return "(" + x + ")/(" + y + ")", a / b
		case 4:
			return "(-" + "(" + x + "))", -a
		case 5:
			return "min(" + x + "," + y + ")", math.Min(a, b)
		case 6:
			return "max(" + x + "," + y + ")", math.Max(a, b)
		case 7:
			return "((" + x + ") < (" + y + "))", is(a < b)
		case 8:
			return "((" + x + ") == (" + y + "))", is(equal)
		case 9:
			return "abs(" + x + ")", math.Abs(a)
		case 10:
			z, c := grow(depth - 1)
			if c == 0 || math.Abs(c) < 0.5e-6 {
				a = b
			}
			return "if(" + z + "," + x + "," + y + ")", a
		}
		return "avg(" + x + "," + y + ")", (a + b) / 2
	}
	usable := 0
	for range 5000 {
		text, want := grow(4)
		if len(text) > MaxLength {
			continue
		}
		// A product or quotient in the middle of the text needs its brackets.
		got := newSingle(t, "("+text+")").value(0, in)
		if !got.Quality.Usable() {
			continue // a part of it is no number that can be stored
		}
		usable++
		require.InDelta(t, want, got.Value, 1e-9*math.Max(1, math.Abs(want)), text)
	}
	require.Greater(t, usable, 3000)
}

func TestEvaluateAllocatesNothing(t *testing.T) {
	s := newSingle(t, "if(a > 1, integral(max(a, 0), h) + rate(a), avg(a, b, skip_bad(c)))")
	inputs := make([]Input, len(s.inputs))
	moment := at(0)
	for range 1000 { // until the marks of the window have their space
		moment = moment.Add(100 * time.Millisecond)
		s.Evaluate(moment, inputs)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		moment = moment.Add(100 * time.Millisecond)
		s.Evaluate(moment, inputs)
	}))
}

func BenchmarkEvaluate(b *testing.B) {
	m := model.Instance{ID: "m", Measurements: map[string]string{"a": "1:1", "b": "1:2"},
		Calculations: map[string]model.Calculation{"r": {Expression: "integral(max(a - b, 0), h) * 1.1 + avg(a, b)"}}}
	c, err := Compile(m)
	require.NoError(b, err)
	inputs, _ := c.Bind(m, map[string]model.Instance{"m": m})
	values := make([]Input, len(inputs))
	moment := at(0)
	b.ReportAllocs()
	for b.Loop() {
		moment = moment.Add(time.Millisecond)
		c.Evaluate(moment, values)
	}
}
