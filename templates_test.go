package voltage

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/calc"
	"github.com/voltageems/voltage/model"
)

func writeTemplates(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "own.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// fullInstance binds every point of a template, each to a point of its own.
func fullInstance(t model.Template) model.Instance {
	m := model.Instance{ID: "m", Template: t.Name, Measurements: map[string]string{}, Signals: map[string]string{},
		Controls: map[string]string{}, Adjustments: map[string]string{}, Properties: map[string]float64{}}
	for _, k := range model.Kinds() {
		for name := range t.Points(k) {
			m.Bindings(k)[name] = "1001:" + name
		}
	}
	for name, p := range t.Properties {
		if p.Default == nil {
			m.Properties[name] = 100
		}
	}
	return m
}

// Every template of the library can be used, says what it is about, and its
// instances are valid with all points bound and with the required ones alone.
func TestLibrary(t *testing.T) {
	t.Parallel()
	lib, err := LoadTemplates()
	require.NoError(t, err)
	require.Equal(t, builtinNames(), lib.Names(), "a file has the template of its name and no other")
	for _, want := range []string{"meter", "pcs", "bms", "pv", "diesel", "evse", "environment", "site", "station"} {
		require.Contains(t, lib.Names(), want)
	}
	docs, err := os.ReadFile("docs/models.md")
	require.NoError(t, err)
	for _, name := range lib.Names() {
		whole, ok := lib.Template(name)
		require.True(t, ok)
		require.NoError(t, whole.Validate())
		require.NotEmpty(t, whole.Title, name)
		require.NotEmpty(t, whole.Description, name)
		require.Contains(t, string(docs), "`"+name+"`")
		for p, property := range whole.Properties {
			require.NotEmpty(t, property.Description, "%s: %s", name, p)
			require.NotEmpty(t, property.Unit, "%s: %s", name, p)
		}
		for c, calculation := range whole.Calculations {
			require.NotEmpty(t, calculation.Description, "%s: %s", name, c)
		}
		full := fullInstance(whole)
		bare := full
		bare.Measurements, bare.Signals, bare.Controls, bare.Adjustments = map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}
		for _, k := range model.Kinds() {
			for p, point := range whole.Points(k) {
				require.NotEmpty(t, point.Description, "%s: %s", name, p)
				if !point.Optional {
					bare.Bindings(k)[p] = full.Bindings(k)[p]
				}
			}
		}
		for _, m := range []model.Instance{full, bare} {
			made, rules, err := lib.Instance(m)
			require.NoError(t, err, name)
			compiled, err := calc.Compile(made)
			require.NoError(t, err, name)
			_, problems := compiled.Bind(made, map[string]model.Instance{made.ID: made})
			require.Empty(t, problems, name)
			require.Empty(t, checkBindings(made, func(model.Ref) (model.Point, bool) { return model.Point{}, false }), name)
			for _, r := range rules {
				require.NoError(t, r.Validate(), name)
			}
		}
		all, rules, err := lib.Instance(full)
		require.NoError(t, err)
		require.Len(t, rules, len(whole.Alarms))
		require.Equal(t, slices.Sorted(maps.Keys(whole.Calculations)), slices.Sorted(maps.Keys(all.Calculations)))
	}
}

func TestTemplateInstance(t *testing.T) {
	t.Parallel()
	lib, err := LoadTemplates(writeTemplates(t, `
templates:
  my_pcs:
    extends: pcs
    without: [reactive_power_setpoint, over_temperature, rated_reactive_power]
    properties:
      rated_power: {unit: kW, default: 50}
    measurements:
      humidity: {unit: "%", optional: true}
    signals:
      temperature: {labels: {0: cold, 1: hot}} # a measurement in pcs
    controls:
      power_setpoint: {unit: kW, min: -rated_power, max: rated_power / 2, step: 0.5}
    calculations:
      half: active_power / 2
      needs_humidity: half * humidity
    alarms:
      fault: {point: fault, operator: ">", threshold: rated_power / 100, hysteresis: 0.1}
    policies:
      power_setpoint:
        safe: rated_power / 10
        hold: 1m
        interlocks:
          - {name: fault, point: fault, operator: "==", threshold: 1}
          - {point: derated, operator: ">", threshold: rated_power} # not bound
          - {model: grid, point: frequency, operator: "<", threshold: 49}
`))
	require.NoError(t, err)
	whole, _ := lib.Template("my_pcs")
	require.NotContains(t, whole.Controls, "reactive_power_setpoint")
	require.NotContains(t, whole.Alarms, "over_temperature")
	require.NotContains(t, whole.Measurements, "temperature")
	require.Contains(t, whole.Signals, "temperature")
	require.Equal(t, "Battery converter", whole.Title)

	m, rules, err := lib.Instance(model.Instance{ID: "pcs1", Template: "my_pcs", Properties: map[string]float64{"temperature_limit": 60},
		Measurements: map[string]string{"active_power": "1:1", "charged_energy": "1:2"}, Signals: map[string]string{"fault": "1:3", "temperature": "1:5"},
		Controls: map[string]string{"power_setpoint": "1:4"}})
	require.NoError(t, err)
	require.Equal(t, []string{"pcs"}, m.Bases)
	require.Equal(t, map[string]float64{"rated_power": 50, "temperature_limit": 60}, m.Properties)
	require.Equal(t, -50.0, *m.Points["power_setpoint"].Min)
	require.Equal(t, 25.0, *m.Points["power_setpoint"].Max)
	require.Equal(t, []string{"discharged_energy", "half", "load_factor"}, slices.Sorted(maps.Keys(m.Calculations)),
		"without what is bound and what lacks an optional point")
	safe := 5.0
	require.Equal(t, map[string]model.ControlPolicy{"power_setpoint": {Safe: &safe, Hold: time.Minute, Interlocks: []model.Interlock{
		{Name: "fault", Model: "pcs1", Point: "fault", Operator: "==", Threshold: 1}, {Model: "grid", Point: "frequency", Operator: "<", Threshold: 49}}}}, m.Policies)
	require.Equal(t, []model.AlarmRule{{ID: "fault", Model: "pcs1", Point: "fault", Operator: ">", Threshold: 0.5, Hysteresis: 0.1}}, rules)

	own, _, err := lib.Instance(model.Instance{ID: "pcs2", Template: "pcs", Properties: map[string]float64{"rated_power": 1},
		Controls: map[string]string{"power_setpoint": "1:4"}, Policies: map[string]model.ControlPolicy{"power_setpoint": {}}})
	require.NoError(t, err)
	require.Equal(t, map[string]model.ControlPolicy{"power_setpoint": {}}, own.Policies, "what the instance says itself counts")

	for want, bad := range map[string]model.Instance{
		"there is no template \"pcss\"; did you mean pcs?":                              {ID: "x", Template: "pcss"},
		"properties: rated_power is missing: template pcs has no default for it":        {ID: "x", Template: "pcs"},
		"properties.rated_powr: template pcs has no such property; did you mean rated_": {ID: "x", Template: "pcs", Properties: map[string]float64{"rated_powr": 1}},
		"signals.active_power: the template has it as a measurement": {ID: "x", Template: "pcs", Properties: map[string]float64{"rated_power": 1},
			Signals: map[string]string{"active_power": "1:1"}},
		"template: control power_setpoint: min 5 is above max -5": {ID: "x", Template: "pcs", Properties: map[string]float64{"rated_power": -5}},
	} {
		_, _, err := lib.Instance(bad)
		require.ErrorIs(t, err, model.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
}

func TestNarrow(t *testing.T) {
	t.Parallel()
	f := func(v float64) *float64 { return &v }
	for _, c := range []struct {
		name  string
		point model.Point
		info  model.PointInfo
		want  model.Point
		err   string
	}{
		{"never wider", model.Point{Min: f(-10), Max: f(10)}, model.PointInfo{Min: f(-20), Max: f(20)}, model.Point{Min: f(-10), Max: f(10)}, ""},
		{"narrower", model.Point{Min: f(-10), Max: f(10)}, model.PointInfo{Min: f(-5), Max: f(5)}, model.Point{Min: f(-5), Max: f(5)}, ""},
		{"no limits", model.Point{}, model.PointInfo{Min: f(-5), Max: f(5), Step: 2}, model.Point{Min: f(-5), Max: f(5), Step: 2}, ""},
		{"on the grid", model.Point{Min: f(0), Step: 0.5}, model.PointInfo{Min: f(0.7)}, model.Point{Min: f(1), Step: 0.5}, ""},
		{"on the grid without a min", model.Point{Step: 0.5}, model.PointInfo{Min: f(-0.7)}, model.Point{Min: f(-0.5), Step: 0.5}, ""},
		{"coarser", model.Point{Min: f(1), Step: 0.1}, model.PointInfo{Step: 0.3, Min: f(1.1)}, model.Point{Min: f(1.3), Step: 0.3}, ""},
		{"no multiple", model.Point{Step: 0.5}, model.PointInfo{Step: 0.7}, model.Point{}, "no multiple"},
		{"nothing left", model.Point{Min: f(0), Max: f(10)}, model.PointInfo{Min: f(11)}, model.Point{}, "nothing is left"},
	} {
		got, err := narrow(c.point, c.info)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, c.name)
			continue
		}
		require.NoError(t, err, c.name)
		if c.want.Min != nil {
			require.InDelta(t, *c.want.Min, *got.Min, 1e-9, c.name)
			got.Min = c.want.Min
		}
		require.Equal(t, c.want, got, c.name)
	}
}

// The template that docs/models.md shows can be loaded.
func TestTemplateOfTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/models.md")
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(page), "\n    templates:\n      our_pcs:")
	require.True(t, ok)
	text = "    templates:\n      our_pcs:" + text[:strings.Index(text, "\n\n")]
	lib, err := LoadTemplates(writeTemplates(t, strings.ReplaceAll(text, "\n    ", "\n")[4:]))
	require.NoError(t, err)
	require.Contains(t, lib.Names(), "our_pcs")
}
