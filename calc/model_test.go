package calc_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/calc"
	"github.com/voltageems/voltage/model"
)

func calculations(pairs ...string) map[string]model.Calculation {
	m := map[string]model.Calculation{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = model.Calculation{Expression: pairs[i+1]}
	}
	return m
}

func index(list ...model.Instance) map[string]model.Instance {
	m := map[string]model.Instance{}
	for _, one := range list {
		m[one.ID] = one
	}
	return m
}

func TestChildren(t *testing.T) {
	t.Parallel()
	site := model.Instance{ID: "site", Calculations: calculations("all", "sum(children.power)", "pv", "sum(skip_bad(children.pv.power))",
		"rated", "sum(children.pv.rated)", "twice", "2 * all", "gone", "nothing + meter9.power")}
	power := map[string]string{"power": "1:1"}
	models := index(site,
		model.Instance{ID: "pv1", Template: "pv", Parent: "site", Measurements: power, Properties: map[string]float64{"rated": 10}},
		model.Instance{ID: "pv2", Template: "my_pv", Bases: []string{"pv"}, Parent: "site", Measurements: power, Properties: map[string]float64{"rated": 5}},
		model.Instance{ID: "load", Parent: "site", Calculations: calculations("power", "1")},
		model.Instance{ID: "weather", Parent: "site"},
		model.Instance{ID: "other", Measurements: power})
	c, err := calc.Compile(site)
	require.NoError(t, err)
	inputs, problems := c.Bind(site, models)
	require.Equal(t, []string{"model site: calculation gone: there is no nothing", "model site: calculation gone: there is no meter9.power"}, problems)
	values := map[string]calc.Input{"load": {Value: 1}, "pv1": {Value: 10}, "pv2": {Value: 100}}
	results := func() map[string]calc.Input {
		in := make([]calc.Input, len(inputs))
		for i, ref := range inputs {
			require.Equal(t, "power", ref.Name)
			in[i] = values[ref.Owner]
		}
		got := map[string]calc.Input{}
		for i, v := range c.Evaluate(time.Unix(0, 0), in) {
			got[c.Names()[i]] = v
		}
		return got
	}
	require.Equal(t, map[string]calc.Input{"all": {Value: 111}, "pv": {Value: 110}, "rated": {Value: 15}, "twice": {Value: 222},
		"gone": {Quality: model.Bad}}, results())
	values["pv2"] = calc.Input{Quality: model.Offline}
	require.Equal(t, map[string]calc.Input{"all": {Quality: model.Offline}, "pv": {Value: 10, Quality: model.Uncertain}, "rated": {Value: 15},
		"twice": {Quality: model.Offline}, "gone": {Quality: model.Bad}}, results())
	delete(models, "pv2")
	inputs, _ = c.Bind(site, models)
	require.Equal(t, calc.Input{Value: 11}, results()["all"])
}

func TestCompileFaults(t *testing.T) {
	t.Parallel()
	_, err := calc.Compile(model.Instance{ID: "m", Calculations: calculations("a", "1 +", "b", "foo(1)", "c", "1")})
	require.ErrorIs(t, err, model.ErrInvalid)
	require.ErrorContains(t, err, "model m: calculation a: ")
	require.ErrorContains(t, err, "model m: calculation b: ")
}

func TestCycle(t *testing.T) {
	t.Parallel()
	one := model.Instance{ID: "m", Calculations: calculations("a", "b + 1", "b", "c", "c", "m.a")}
	err := calc.Cycle([]model.Instance{one})
	require.ErrorIs(t, err, model.ErrInvalid)
	require.ErrorContains(t, err, "a circle: m:a needs m:b needs m:c needs m:a")
	_, err = calc.Compile(one)
	require.ErrorContains(t, err, "a circle")

	// Over several models, and over the hierarchy.
	site := model.Instance{ID: "site", Calculations: calculations("power", "sum(children.power)")}
	device := model.Instance{ID: "dev", Parent: "site", Calculations: calculations("power", "site.limit"), Measurements: nil}
	require.NoError(t, calc.Cycle([]model.Instance{site, device}))
	site.Calculations["limit"] = model.Calculation{Expression: "power * 2"}
	require.ErrorContains(t, calc.Cycle([]model.Instance{site, device}), "dev:power needs site:limit needs site:power needs dev:power")

	// A result that is bound as a point of another model, or of its own.
	a := model.Instance{ID: "a", Calculations: calculations("x", "b.y + 1")}
	b := model.Instance{ID: "b", Measurements: map[string]string{"y": "calc.a:x"}}
	require.ErrorContains(t, calc.Cycle([]model.Instance{a, b}), "a:x needs a:x")
	a.Calculations, a.Signals = calculations("x", "y + 1"), map[string]string{"y": "calc.a:x"}
	require.ErrorContains(t, calc.Cycle([]model.Instance{a}), "a:x needs a:x")
	b.Measurements["y"] = "calc.gone:x"
	require.NoError(t, calc.Cycle([]model.Instance{b}))

	self := model.Instance{ID: "m", Calculations: calculations("a", "integral(a, h)")}
	require.ErrorContains(t, calc.Cycle([]model.Instance{self}), "m:a needs m:a")
}

func ExampleConstant() {
	fmt.Println(calc.Constant("1.1 * rated_power", map[string]float64{"rated_power": 100}))
	_, err := calc.Constant("1.1 * rate_power", map[string]float64{"rated_power": 100})
	fmt.Println(err)
	// Output:
	// 110.00000000000001 <nil>
	// invalid: expression, column 7: there is no property rate_power
}
