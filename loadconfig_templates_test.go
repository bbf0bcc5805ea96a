package voltage

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/model"
)

const templatePoints = `
channels:
  - id: 1
    points:
      - {id: 1, name: active_power, unit: kW}
      - {id: 2, name: power_setpoint, kind: control, unit: kW, min: -100, max: 100, step: 0.5}
      - {id: 3, name: fault}
      - {id: 4, name: humidity, unit: "%"}
`

func TestLoadConfigTemplates(t *testing.T) {
	t.Parallel()
	cfg, err := loadTest(map[string]string{
		"site.yaml": templatePoints + `
templates: [lib/own.yaml]
bindings: bindings.csv
models:
  - {id: plant, template: site, calculations: {double: {expression: 2 * battery_power, unit: kW}}}
  - {id: pcs1, template: my_pcs, parent: plant, channel: 1}
  - {id: pcs2, template: my_pcs, parent: plant, properties: {rated_power: 10}, alarms: false}
  - {id: plain, parent: pcs1}
alarms:
  - {id: fault, model: pcs1, point: fault, operator: ">", threshold: 5}
  - {id: high, model: plant, point: double, operator: ">", threshold: 5}
`,
		"lib/own.yaml": "templates: {my_pcs: {extends: pcs, properties: {rated_power: {default: 60, unit: kW}}, alarms: {hot: {point: temperature, operator: '>', threshold: 1}}}}\n",
		"bindings.csv": "model;name;channel;point\npcs2;active_power;1;1\npcs2;power_setpoint;1;2\n# a comment\npcs2;extra;9;7\n",
	}, nil, all.Kinds()...)
	require.NoError(t, err)
	plant, pcs1, pcs2 := cfg.Models[0], cfg.Models[1], cfg.Models[2]
	require.Equal(t, "site", plant.Template)
	require.Equal(t, []string{"station"}, plant.Bases)
	require.Contains(t, plant.Calculations, "double")
	require.Contains(t, plant.Calculations, "load_power")
	require.Equal(t, map[string]string{"active_power": "1:1", "humidity": "1:4"}, pcs1.Measurements)
	require.Equal(t, map[string]string{"fault": "1:3"}, pcs1.Signals, "the template knows that it is a signal")
	require.Equal(t, map[string]string{"power_setpoint": "1:2"}, pcs1.Controls)
	require.Equal(t, "plant", pcs1.Parent)
	require.Equal(t, 60.0, pcs1.Properties["rated_power"])
	require.Equal(t, 60.0, *pcs1.Points["power_setpoint"].Max)
	require.Equal(t, map[string]string{"active_power": "1:1", "extra": "9:7"}, pcs2.Measurements)
	require.Equal(t, 10.0, pcs2.Properties["rated_power"])
	var rules []string
	for _, r := range cfg.Alarms {
		rules = append(rules, model.Ref{Owner: r.Model, Name: r.ID}.String())
	}
	slices.Sort(rules)
	require.Equal(t, []string{"pcs1:fault", "plant:high", "plant:over_power"}, rules, "the file's own go before those of the template")
}

func TestLoadConfigTemplateFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, site string
		files      map[string]string
		want       []string
	}{
		{name: "unknown template", site: "models:\n  - {id: a, template: pcss}\n", want: []string{`site.yaml:11: models[0].template: there is no template "pcss"; did you mean pcs?`}},
		{name: "unbound", site: "models:\n  - id: a\n    template: pcs\n    properties: {rated_power: 1}\n", want: []string{
			"site.yaml:12: models[0].template: measurement active_power of template pcs is not bound",
			"site.yaml:12: models[0].template: control power_setpoint of template pcs is not bound"}},
		{name: "missing and bound twice", site: `models:
  - id: a
    template: pcs
    properties: {rated_power: 1}
    measurements: {active_power: "1:9", ac_voltage: "1:4", ac_current: "1:4", frequency: "1:1"}
    controls:
      power_setpoint: "1:2"
`, want: []string{
			"site.yaml:14: models[0].measurements.active_power: channel 1 has no point 9",
			"site.yaml:14: models[0].measurements.ac_voltage: 1:4 is bound twice: as ac_current and as ac_voltage",
			"site.yaml:14: models[0].measurements.ac_current: it is in A, and point 1:4 in %: scale the point to A and say so with its unit",
			"site.yaml:14: models[0].measurements.ac_voltage: it is in V, and point 1:4 in %: scale the point to V and say so with its unit",
			"site.yaml:14: models[0].measurements.frequency: it is in Hz, and point 1:1 in kW"}},
		{name: "limits", site: `models:
  - id: a
    template: pcs
    channel: 1
    properties: {rated_power: -5, nominal: 2}
`, want: []string{"models[0].template: control power_setpoint: min 5 is above max -5", "site.yaml:14: models[0].properties.nominal: template pcs has no such property"}},
		{name: "nothing left of the limits", site: "templates: [own.yaml]\nmodels:\n  - {id: a, template: x, channel: 1}\n",
			files: map[string]string{"own.yaml": "templates:\n  x:\n    controls: {power_setpoint: {min: 200}}\n"},
			want:  []string{"models[0].controls.power_setpoint: 1:2: nothing is left between the limits 200 and 100 of template and point"}},
		{name: "safe value", site: "templates: [own.yaml]\nmodels:\n  - {id: a, template: x, channel: 1}\n",
			files: map[string]string{"own.yaml": "templates:\n  x:\n    controls: {power_setpoint: {max: 50}}\n    policies: {power_setpoint: {safe: 60}}\n"},
			want:  []string{"models[0].template: policies power_setpoint: safe 60 is outside of the limits of the template"}},
		{name: "parents", site: "models:\n  - {id: a, parent: b}\n  - {id: b, parent: c}\n  - {id: c, parent: a}\n  - {id: d, parent: bb}\n  - {id: e, parent: e}\n", want: []string{
			"site.yaml:11: models[0].parent: a circle: a is a part of b is a part of c is a part of a",
			`site.yaml:14: models[3].parent: the file has no model "bb"`,
			"site.yaml:15: models[4].parent: e: a model is not its own parent"}},
		{name: "calculations", site: `models:
  - id: a
    measurements: {power: "1:1"}
    calculations:
      power: 1
      x: y + 1
      y: x
      bad: 1 +
      none: powr * 2
      other: b.nothing
      list: [1]
      empty: {unit: kW}
      fine: a.power + z.unknown_model
  - {id: b}
`, want: []string{
			"site.yaml:14: models[0].calculations.power: the name is both a measurement and a calculation",
			"models[0].calculations: model a: calculation x: a circle: a:x needs a:y needs a:x",
			"site.yaml:17: models[0].calculations.bad: expression, column 4: it ends here",
			`site.yaml:18: models[0].calculations.none: model a has no "powr"; did you mean power?`,
			`site.yaml:19: models[0].calculations.other: model b has no "nothing"`,
			"site.yaml:20: models[0].calculations.list: want a section with keys, not a list",
			"site.yaml:21: models[0].calculations.empty: the expression is missing"}},
		{name: "templates", site: "templates: [own.yaml, own.yaml, none.yaml]\n", files: map[string]string{"own.yaml": `templates:
  a: {extends: b}
  b: {extends: a}
  c: {extends: pcz}
  d: {without: [x]}
  e:
    extends: pv
    without: [nothing]
    measurements: {p: {mn: 1}}
  f:
    properties: {rated: {default: 5}}
    measurements: {p: {max: ratd * 2}, rated: {}}
  g:
    properties: {rated: {default: 5}}
    measurements: {p: {max: ratd * 2}}
    calculations: {q: p2 + 1, r: s, s: r, t: "("}
    alarms: {hot: {point: nowhere, operator: ">", threshold: 1}}
  h:
    measurements: {p: {max: ratd * 2}}
    calculations: {q: p2 + 1, r: s, s: r, t: "("}
    alarms: {hot: {point: p, operator: ">", threshold: rate}}
  l:
    measurements: {p: {}, q: {}}
    alarms:
      a: {point: p, operator: out_of_range, threshold: x, high: y, hysteresis: z, enable: {point: q, operator: ">", threshold: w}}
      b: {point: p, limits: {hihi: a, hi: b, lo: c, lolo: d}}
  m:
    measurements: {p: {}}
    alarms: {a: {point: p, operator: deviation, threshold: 1, reference: q}}
  "b d": {}
  i:
    controls: {c: {max: 1}}
    policies: {c: {safe: x, hold: 1h}, d: {}}
  j:
    controls: {c: {max: 1}}
    policies: {c: {safe: x, hold: 1h, interlocks: [{point: c, operator: ">", threshold: y}]}}
  k:
    controls: {c: {max: 1}}
    policies: {c: {hold: 1h}}
`}, want: []string{
			"site.yaml:10: templates[1]: own.yaml is there twice", "site.yaml:10: templates[2]: none.yaml: file does not exist",
			"own.yaml:3: templates.b.extends: templates extend each other in a circle: b extends a extends b",
			`own.yaml:4: templates.c.extends: there is no template "pcz"; did you mean pcs?`,
			"own.yaml:5: templates.d.without: belongs to extends",
			`own.yaml:9: templates.e.measurements.p.mn: unknown key: want one of unit,`,
			`own.yaml:8: templates.e.without: template pv has no "nothing"`,
			"own.yaml:10: templates.f: rated is both a measurement and a property",
			`own.yaml:13: templates.g: alarm hot: point "nowhere": there is no such point`,
			"own.yaml:19: templates.h.measurements.p.max: expression, column 1: there is no property ratd",
			`own.yaml:20: templates.h.calculations.q: the template has no "p2"`,
			"own.yaml:20: templates.h.calculations.t: expression, column 2: it ends here",
			"own.yaml:20: templates.h.calculations: model h: calculation r: a circle: h:r needs h:s needs h:r",
			"own.yaml:21: templates.h.alarms.hot.threshold: expression, column 1: there is no property rate",
			"own.yaml:25: templates.l.alarms.a.threshold: expression, column 1: there is no property x",
			"own.yaml:25: templates.l.alarms.a.high: expression, column 1: there is no property y",
			"own.yaml:25: templates.l.alarms.a.hysteresis: expression, column 1: there is no property z",
			"own.yaml:25: templates.l.alarms.a.enable.threshold: expression, column 1: there is no property w",
			"own.yaml:26: templates.l.alarms.b.limits.hihi: expression, column 1: there is no property a",
			"own.yaml:26: templates.l.alarms.b.limits.hi: expression, column 1: there is no property b",
			"own.yaml:26: templates.l.alarms.b.limits.lo: expression, column 1: there is no property c",
			"own.yaml:26: templates.l.alarms.b.limits.lolo: expression, column 1: there is no property d",
			`own.yaml:27: templates.m: alarm a: reference "q": there is no such point`,
			`own.yaml:30: templates."b d": the name may have 1 to 64`,
			`own.yaml:31: templates.i: policies "d": there is no such control or adjustment`,
			"own.yaml:36: templates.j.policies.c.safe: expression, column 1: there is no property x",
			"own.yaml:36: templates.j.policies.c.interlocks[0].threshold: expression, column 1: there is no property y",
			"own.yaml:37: templates.k: policies c: hold 1h0m0s: there is no safe value",
		}},
		{name: "no templates", site: "templates: [own.yaml]\n", files: map[string]string{"own.yaml": "template: {}\n"},
			want: []string{"own.yaml:1: template: unknown key; did you mean templates?", "own.yaml:1: templates: missing"}},
		{name: "bindings", site: "bindings: b.csv\nmodels:\n  - {id: a, measurements: {x: \"1:1\"}}\n", files: map[string]string{
			"b.csv": "model,name,channel,point,kind\na,x,1,1,\na,y,1,9,\na,y,1,1,\na,z,1,1,control\nb,x,1,1,\na,o k,1,1,\na,w,1,1,foo\na,v,,1,\na,u\n"}, want: []string{
			"b.csv:2: x of model a is bound twice: the model's measurements bind it, too",
			"b.csv:3: y of model a: there is no point 1:9",
			"b.csv:4: y of model a is bound twice, first on line 3",
			"b.csv:5: z of model a: point 1:1 is a measurement and cannot be written",
			`b.csv:6: model: the file has no model "b"`,
			`b.csv:7: name: "o k": use 1 to 64`,
			`b.csv:8: kind: kind "foo": want measurement,`,
			`b.csv:9: channel: ":1": want the ids`,
			"b.csv:10: 2 cells, and the header has 5"}},
		{name: "bindings without a header", site: "bindings: b.csv\n", files: map[string]string{"b.csv": "model,nam,channel\n"},
			want: []string{`b.csv:1: unknown column "nam"; did you mean name?`, "b.csv:1: name: the column is missing"}},
		{name: "empty bindings", site: "bindings: b.csv\n", files: map[string]string{"b.csv": "\n"}, want: []string{"b.csv:1: empty: want a header line"}},
		{name: "broken bindings", site: "bindings: b.csv\n", files: map[string]string{"b.csv": "model,name,channel,point\n\"a\n"}, want: []string{"b.csv:"}},
		{name: "no bindings", site: "bindings: none.csv\n", want: []string{"site.yaml:10: bindings: none.csv: file does not exist"}},
		{name: "reserved", site: "models: [{id: " + strings.Repeat("a", 60) + ", calculations: {x: 1}}]\n", want: []string{"the id of a model with calculations has at most 59 bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := maps.Clone(c.files)
			if files == nil {
				files = map[string]string{}
			}
			files["site.yaml"] = templatePoints + "\n" + c.site
			_, err := loadTest(files, nil, all.Kinds()...)
			require.ErrorContains(t, err, "")
			faults := loadSplit(err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.Len(t, faults, len(c.want), "%v", err)
		})
	}
}

func FuzzLoadTemplates(f *testing.F) {
	f.Add("templates: {x: {extends: pcs, without: [fault], measurements: {a: {min: -rated_power}}, calculations: {b: a + 1, c: {expression: integral(a, h)}}}}\n",
		"model,name,channel,point,kind\nm,a,1,1,\n")
	f.Add("templates: {x: &a {extends: x, alarms: {b: {<<: *a}}}}\n", "\ufeffmodel;name;channel;point\n\"")
	f.Add("templates: {x: {controls: {power_setpoint: {min: 1e300}}, properties: {p: {default: nan}}}}", "a")
	f.Fuzz(func(t *testing.T, templates, table string) {
		files := map[string]string{"site.yaml": templatePoints + "templates: [own.yaml]\nbindings: b.csv\nmodels: [{id: m, template: x, channel: 1}]\n",
			"own.yaml": templates, "b.csv": table}
		cfg, err := loadTest(files, nil, all.Kinds()...)
		if err == nil {
			require.NoError(t, cfg.Validate())
			return
		}
		for i, fault := range loadSplit(err) {
			if i < loadMaxReport {
				require.Regexp(t, `^(site\.yaml|own\.yaml|b\.csv|built-in templates/[a-z_]+\.yaml):[0-9]+: `, fault.Error())
			}
		}
	})
}
