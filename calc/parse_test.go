package calc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func TestParseFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                              "column 1: empty",
		"  ":                            "column 1: empty",
		"1 +":                           "column 4: it ends here: want a value",
		"1 2":                           `column 3: unexpected "2": want an operator or the end`,
		"a = 1":                         "column 3: equality is written ==",
		"(a":                            "column 3: it ends here: want )",
		"foo(a)":                        "column 1: there is no function foo: want one of abs, avg, if,",
		"if(a, b)":                      "column 1: if with 2 values: want 3",
		"abs(a, b)":                     "column 1: abs with 2 values: want 1",
		"a < b < c":                     "column 7: comparisons are not chained",
		"1e16":                          "column 1: the number 1e16 is too large",
		"60s":                           "column 1: a duration belongs into",
		"60x":                           `column 1: "60x" is neither a number nor a duration`,
		"integral(a)":                   `column 11: unexpected ")": want ,`,
		"integral(a, d)":                `column 13: unexpected "d": want the unit of time`,
		"integral(a, h, 1ms)":           "column 16: 1ms: want 1s to 168h0m0s",
		"moving_average(a, 5)":          `column 19: unexpected "5": want a duration`,
		"rate(a, 200h)":                 "column 9: 200h: want",
		"children.a":                    "column 1: this is a list of values",
		"1 + children.a":                "column 5: this is a list of values",
		"abs(children.a)":               "column 5: this is a list of values",
		"integral(children.a, h)":       "column 10: this is a list of values",
		"skip_bad(a)":                   "column 1: this is a list of values",
		"sum(skip_bad(skip_bad(a)))":    "column 14: this is a list of values",
		"a.b.c":                         "column 1: a.b.c: want name, model.name,",
		"a.":                            "column 3: it ends here: want a name",
		"'a":                            "column 1: the quote is not closed",
		"'a:b:c'":                       "column 1: 'a:b:c': want 'name' or 'model:name'",
		"not":                           "column 4: it ends here: want a value",
		"a and":                         "column 6: it ends here",
		"and":                           `column 1: unexpected "and": want a value`,
		"a $ b":                         `column 3: unexpected "$": want an operator`,
		strings.Repeat("(", 60) + "1":   "nested too deeply",
		strings.Repeat("-", 900) + "1":  "nested too deeply",
		strings.Repeat("a", 65):         "is too long",
		strings.Repeat("1+", 600) + "1": "column 1001: longer than 1000 characters",
	} {
		_, err := Parse(text)
		require.ErrorIs(t, err, model.ErrInvalid, text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestParseReferences(t *testing.T) {
	t.Parallel()
	e, err := Parse("a + meter1.b + a + 'x-1:y.z' + 'own-name' + sum(children.p, children.pv.p)")
	require.NoError(t, err)
	var texts []string
	for _, r := range e.Refs() {
		texts = append(texts, r.String())
	}
	require.Equal(t, []string{"a", "meter1.b", "x-1.y.z", "own-name", "children.p", "children.pv.p"}, texts)
}

func TestConstant(t *testing.T) {
	t.Parallel()
	v, err := Constant("1.1 * rated_power - 1", map[string]float64{"rated_power": 100})
	require.NoError(t, err)
	require.InDelta(t, 109, v, 1e-9)
	for text, want := range map[string]string{
		"power":             "there is no property power",
		"m.rated_power":     "there is no property m.rated_power",
		"1 / 0":             "not a number that can be stored",
		"rate(rated_power)": "want constants",
	} {
		_, err := Constant(text, map[string]float64{"rated_power": 100})
		require.ErrorIs(t, err, model.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
}

// Whatever the text, parsing and evaluating end, and a result is a number that
// can be stored or says that it is not usable.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"a + b * 2 / (c - 1)", "if(a > 1 and not b, -a, abs(b))", "sum(skip_bad(children.pv.a, 1), 'x:y')",
		"integral(max(a, 0), h, 5m) + moving_average(b, 60s) - rate(c)", "1e3 <= .5", "1h30m", "'",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := model.Instance{ID: "m", Calculations: map[string]model.Calculation{"r": {Expression: text}},
			Measurements: map[string]string{"a": "1:1", "b": "1:2"}, Properties: map[string]float64{"c": 2}}
		c, err := Compile(m)
		if err != nil {
			require.ErrorIs(t, err, model.ErrInvalid)
			return
		}
		inputs, _ := c.Bind(m, map[string]model.Instance{"m": m})
		values := make([]Input, len(inputs))
		for i := range values {
			values[i] = Input{Value: float64(3 * i)}
		}
		for i := range 3 {
			v := c.Evaluate(at(float64(i)), values)[0]
			require.True(t, !v.Quality.Usable() || model.Storable(v.Value), "%v", v)
		}
		if _, ok := c.Remembers("r"); ok {
			require.NoError(t, c.Load("r", c.State("r")))
		}
	})
}

// A stored state is data: whatever it is, it is taken or refused.
func FuzzState(f *testing.F) {
	f.Add(`[{"f":"integral","ok":true,"at":1,"last":2,"sum":3},{"f":"moving_average"},{"f":"rate","marks":[{"t":1,"v":2}]}]`)
	f.Add(`[{},{"f":"x"},null]`)
	f.Fuzz(func(t *testing.T, text string) {
		m := model.Instance{ID: "m", Measurements: map[string]string{"a": "1:1"},
			Calculations: map[string]model.Calculation{"r": {Expression: "integral(a, h) + moving_average(a, 60s) + rate(a)"}}}
		c, err := Compile(m)
		require.NoError(t, err)
		c.Bind(m, map[string]model.Instance{"m": m})
		if err := c.Load("r", text); err != nil {
			require.ErrorIs(t, c.Load("r", "{"), model.ErrInvalid)
		}
		for i := range 3 {
			v := c.Evaluate(at(float64(i)), []Input{{Value: 1}})[0]
			require.True(t, !v.Quality.Usable() || model.Storable(v.Value), "%v", v)
		}
	})
}
