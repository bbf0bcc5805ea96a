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
		ids := map[string]bool{}
		for _, r := range rules {
			ids[r.ID] = true
			require.NotEmpty(t, r.Message, "%s: %s", name, r.ID)
		}
		require.Len(t, ids, len(rules), "%s: two alarms of one id", name)
		for id, a := range whole.Alarms {
			if a.Limits == nil {
				require.True(t, ids[id], "%s: %s", name, id)
			}
		}
		require.Equal(t, slices.Sorted(maps.Keys(whole.Calculations)), slices.Sorted(maps.Keys(all.Calculations)))
	}
}

func TestTemplateInstance(t *testing.T) {
	t.Parallel()
	lib, err := LoadTemplates(writeTemplates(t, `
templates:
  my_pcs:
    extends: pcs
    without: [reactive_power_setpoint, over_temperature, overheated, rated_reactive_power]
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
	require.Equal(t, map[string]float64{"rated_power": 50, "temperature_limit": 60, "dc_voltage_low": 0}, m.Properties)
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

// Alarms of a template may look at its other points, and limits are computed.
func TestTemplateAlarms(t *testing.T) {
	t.Parallel()
	lib, err := LoadTemplates(writeTemplates(t, `
templates:
  drive:
    properties:
      rated: {unit: rpm, default: 1500}
    measurements:
      speed: {unit: rpm}
      wanted: {unit: rpm, optional: true}
      voltage: {unit: V}
    signals:
      running: {optional: true}
    alarms:
      speed: {point: speed, limits: {hihi: 1.2 * rated, hi: 1.1 * rated}, hysteresis: 0.02 * rated, on_delay: 2s}
      far: {point: speed, operator: deviation, threshold: 0.1 * rated, reference: wanted, on_delay: 10s, enable: {point: running, operator: "==", threshold: 1}}
      voltage_low: {point: voltage, operator: "<", threshold: 360, enable: {point: running, operator: "==", threshold: rated / 1500}, latch: true}
  slow_drive:
    extends: drive
    without: [running]
    measurements: {load: {unit: "%"}}
    alarms:
      load: {point: load, operator: out_of_range, threshold: 0, high: rated / 10}
`))
	require.NoError(t, err)
	running := &model.AlarmEnable{Point: "running", Operator: model.Equal, Threshold: 1}
	far := model.AlarmRule{ID: "far", Model: "d", Point: "speed", Operator: model.Deviation, Threshold: 150, Reference: "wanted", OnDelay: 10 * time.Second, Enable: running}
	limit := func(id string, threshold float64, s model.Severity) model.AlarmRule {
		return model.AlarmRule{ID: id, Model: "d", Point: "speed", Operator: model.Above, Threshold: threshold, Hysteresis: 30, OnDelay: 2 * time.Second, Severity: s}
	}
	low := model.AlarmRule{ID: "voltage_low", Model: "d", Point: "voltage", Operator: model.Below, Threshold: 360, Enable: running, Latch: true}
	m := model.Instance{ID: "d", Template: "drive", Measurements: map[string]string{"speed": "1:1", "wanted": "1:2", "voltage": "1:3"}, Signals: map[string]string{"running": "1:4"}}
	_, rules, err := lib.Instance(m)
	require.NoError(t, err)
	hihi, hi := limit("speed_hihi", 1800, model.Critical), limit("speed_hi", 1650, model.High)
	hi.Threshold = rules[2].Threshold // 1.1 is not in binary
	require.InDelta(t, 1650, hi.Threshold, 1e-9)
	require.Equal(t, []model.AlarmRule{far, hihi, hi, low}, rules)

	m.Signals = nil
	delete(m.Measurements, "wanted")
	_, rules, err = lib.Instance(m)
	require.NoError(t, err)
	low.Enable = nil
	require.Equal(t, []model.AlarmRule{hihi, hi, low}, rules, "without what to compare with; what cannot be enabled counts always")

	m.Template, m.Measurements["load"] = "slow_drive", "1:5"
	m.Measurements["wanted"] = "1:2"
	_, rules, err = lib.Instance(m)
	require.NoError(t, err)
	far.Enable = nil
	require.Equal(t, []model.AlarmRule{far, {ID: "load", Model: "d", Point: "load", Operator: model.OutOfRange, High: 150}, hihi, hi, low}, rules)

	m.Properties = map[string]float64{"rated": -1500}
	_, _, err = lib.Instance(m)
	require.ErrorIs(t, err, model.ErrInvalid)
	for _, want := range []string{"alarm rule far of d:speed: threshold -150: a deviation has no sign", "alarm rule load of d:load: high -150: want a number that is not below the threshold",
		"alarm rule speed of d:speed: limits: hi -1650.0000000000002: is not below hihi -1800"} {
		require.ErrorContains(t, err, want)
	}
}

// What is low because the device stands still is no alarm.
func TestLibraryAlarmsWhileRunning(t *testing.T) {
	t.Parallel()
	lib, err := LoadTemplates()
	require.NoError(t, err)
	rules := func(template string, properties map[string]float64) map[string]model.AlarmRule {
		whole, _ := lib.Template(template)
		m := fullInstance(whole)
		maps.Copy(m.Properties, properties)
		_, list, err := lib.Instance(m)
		require.NoError(t, err)
		byID := map[string]model.AlarmRule{}
		for _, r := range list {
			byID[r.ID] = r
		}
		return byID
	}
	running := &model.AlarmEnable{Point: "running", Operator: model.Equal, Threshold: 1}
	diesel := rules("diesel", nil)
	for _, id := range []string{"oil_low", "terminal_voltage_hihi", "terminal_voltage_lolo", "terminal_frequency_lo"} {
		require.Equal(t, running, diesel[id].Enable, id)
		require.Equal(t, 10*time.Second, diesel[id].OnDelay, id)
	}
	require.Nil(t, diesel["fuel_low"].Enable)
	require.InDelta(t, 340, diesel["terminal_voltage_lolo"].Threshold, 1e-9)
	require.Equal(t, model.Critical, diesel["terminal_voltage_lolo"].Severity)
	require.Equal(t, model.High, diesel["terminal_voltage_lo"].Severity)

	require.Equal(t, -1e6, rules("pcs", nil)["dc_under_voltage"].Threshold, "not known: it can never be")
	known := rules("pcs", map[string]float64{"dc_voltage_low": 600})["dc_under_voltage"]
	require.Equal(t, 600.0, known.Threshold)
	require.Equal(t, running, known.Enable)
	heats := rules("bms", map[string]float64{"temperature_rise": 6})["heats_up"]
	require.Equal(t, model.AlarmRule{ID: "heats_up", Model: "m", Point: "temperature_max", Operator: model.Rate, Threshold: 0.1, Window: time.Minute,
		Severity: model.Critical, Message: "Battery heats up fast"}, heats)
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
