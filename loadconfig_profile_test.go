package voltage

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
)

const loadTestProfile = `profile: 1
name: Converter
manufacturer: Example
model: X1
source: {manual: X1 registers, edition: "1.2", page: 7}
drivers: {seen: {size: 3, name: base, nested: {a: 1, b: 2}}}
scan: 2s
timeout: 300ms
scans: {fast: 100ms, slow: 1m}
points:
  - {id: 1, name: power, address: "constant:1", unit: kW, scan: fast}
  - {id: 2, name: Max temp, address: "constant:2", unit: °C, scan: slow}
  - {id: 3, name: setpoint, kind: control, address: "setpoint:0", unit: kW, min: 0, max: 100, read_back: true}
alarms:
  - {id: hot, point: Max_temp, operator: ">", threshold: 60, hysteresis: 5, severity: high, message: Hot}
  - {id: over, point: power, operator: ">", threshold: 90, message: Too much}
`

// seenSettings are those of a driver that shows what it was opened with.
type seenSettings struct {
	Size   *int   `yaml:"size"`
	Name   string `yaml:"name"`
	Extra  string `yaml:"extra"`
	Nested struct {
		A, B int
	} `yaml:"nested"`
}

func seenKind(seen *[]seenSettings) channel.Kind {
	open := func(decode func(any) error) (channel.Factory, error) {
		var s seenSettings
		if err := decode(&s); err != nil {
			return nil, err
		}
		*seen = append(*seen, s)
		return virtual.New(), nil
	}
	return channel.Kind{Name: "seen", Open: open, Profile: open}
}

func TestProfileOfChannels(t *testing.T) {
	t.Parallel()
	var seen []seenSettings
	cfg, err := loadTest(map[string]string{
		"lib/x1.yaml": loadTestProfile,
		"site.yaml": `
channels:
  - {id: a, driver: seen, profile: lib/x1.yaml}
  - id: b
    driver: seen
    profile: ./lib/x1.yaml
    seen: {name: "${NAME}", extra: own, nested: {b: 5}, size: }
    scan: 5s
    scans: {fast: 200ms, own: 3s}
    points:
      - {id: 3, name: setpoint, kind: control, address: "setpoint:0", max: 50, scan: own}
      - {id: 9, name: more, address: "constant:9"}
models:
  - {id: ma, channel: a}
  - {id: mb, channel: b, measurements: {temperature: "b:2"}}
  - {id: quiet, channel: a, alarms: false}
alarms:
  - {id: over, model: ma, point: power, operator: ">", threshold: 80}
`}, map[string]string{"NAME": "mine"}, seenKind(&seen))
	require.NoError(t, err)

	three, five := 3, 3
	want := []seenSettings{{Size: &three, Name: "base"}, {Size: &five, Name: "mine", Extra: "own"}}
	want[0].Nested.A, want[0].Nested.B = 1, 2
	want[1].Nested.A, want[1].Nested.B = 1, 5
	assert.Equal(t, want, seen)

	a, b := cfg.Channels[0], cfg.Channels[1]
	assert.Equal(t, 2*time.Second, a.Scan)
	assert.Equal(t, 300*time.Millisecond, a.Timeout)
	assert.Equal(t, map[string]time.Duration{"fast": 100 * time.Millisecond, "slow": time.Minute}, a.Scans)
	require.Len(t, a.Points, 3)
	assert.Equal(t, "fast", a.Points[0].Scan)
	assert.Equal(t, 5*time.Second, b.Scan)
	assert.Equal(t, map[string]time.Duration{"fast": 200 * time.Millisecond, "slow": time.Minute, "own": 3 * time.Second}, b.Scans)
	require.Len(t, b.Points, 4)
	assert.Equal(t, model.Point{ID: "3", Name: "setpoint", Kind: model.Control, Address: "setpoint:0", Max: loadFloatOf(50), Scan: "own"}, b.Points[2])
	assert.Equal(t, "9", b.Points[3].ID)

	hot := model.AlarmRule{ID: "hot", Model: "ma", Point: "Max_temp", Operator: model.Above, Threshold: 60, Hysteresis: 5, Severity: model.High, Message: "Hot"}
	renamed := hot
	renamed.Model, renamed.Point = "mb", "temperature"
	assert.Equal(t, []model.AlarmRule{
		hot, renamed,
		{ID: "over", Model: "mb", Point: "power", Operator: model.Above, Threshold: 90, Message: "Too much"},
		{ID: "over", Model: "ma", Point: "power", Operator: model.Above, Threshold: 80},
	}, cfg.Alarms)
}

// Fifty channels read a profile once and report its faults once.
func TestProfileIsReadOnce(t *testing.T) {
	t.Parallel()
	site := "channels:\n"
	for i := range 50 {
		site += fmt.Sprintf("  - {id: %d, driver: virtual, profile: x.yaml}\n", i)
	}
	reads := 0
	profile := "profile: 1\ndrivers: {virtual: {sead: 1}}\npoints:\n  - {id: 1, address: nonsense}\n"
	_, err := loadConfig("site.yaml", []byte(site), Kinds{Channels: all.Kinds()}, func(path string, _ int64) ([]byte, error) {
		reads++
		return []byte(profile), nil
	}, nil)
	require.EqualError(t, err, `x.yaml:2: drivers.virtual.sead: unknown key; did you mean seed?`)
	require.Equal(t, 1, reads)
	profile = strings.Replace(profile, "sead", "seed", 1)
	_, err = loadConfig("site.yaml", []byte(site), Kinds{Channels: all.Kinds()}, func(path string, _ int64) ([]byte, error) { return []byte(profile), nil }, nil)
	require.EqualError(t, err, `x.yaml:4: points[0].address: "nonsense": unknown signal "nonsense": want one of constant, sine, ramp, random_walk, square, toggle, csv, text, setpoint, follow`)
}

func TestProfileFaults(t *testing.T) {
	t.Parallel()
	site := "channels:\n  - {id: a, driver: virtual, profile: x.yaml}\nmodels:\n  - {id: m, channel: a}\n"
	for _, c := range []struct {
		name, site, profile, table string
		want                       []string
	}{
		{name: "missing", want: []string{"site.yaml:2: channels[0].profile: x.yaml: file does not exist"}},
		{name: "empty", profile: "\n", want: []string{"x.yaml:1: the file is empty"}},
		{name: "version", profile: "profile: 2\n", want: []string{"x.yaml:1: profile: 2: this program reads version 1"}},
		{name: "no version", profile: "name: x\n", want: []string{"x.yaml:1: profile: missing: want the version of the format, profile: 1"}},
		{name: "keys", profile: "profile: 1\nx-a: 1\npoint: a\nscan: 0s\ntimeout: 1us\nscans: {once: 1s}\n", want: []string{
			"x.yaml:3: point: unknown key; did you mean points?",
			"x.yaml:4: scan: 0s: want a duration above 0, or nothing for the default",
			"x.yaml:5: timeout: 1µs: want at least 1ms",
			"x.yaml:6: scans.once: every channel has this scan class, and it has no time"}},
		{name: "variables", profile: "profile: 1\ndrivers:\n  virtual:\n    seed: ${SEED}\n", want: []string{
			`x.yaml:4: drivers.virtual: environment variables are not replaced in profiles: such a setting belongs to the channel`}},
		{name: "driver", profile: "profile: 1\ndrivers: {modbus-tcp: , modbus-rtu: }\n", want: []string{
			"site.yaml:2: channels[0].profile: x.yaml is for modbus-rtu, modbus-tcp, and the channel has driver: virtual"}},
		{name: "addresses of another driver", profile: "profile: 1\ndrivers: {modbus-tcp: }\npoints: [{id: 1, name: a, address: holding:1}]\n", want: []string{
			"site.yaml:2: channels[0].profile: x.yaml is for modbus-tcp, and the channel has driver: virtual"}},
		{name: "a list", profile: "- a\n", want: []string{"x.yaml:1: want a section with keys, not a list"}},
		{name: "reserved class", profile: "profile: 1\nscans: {demand: 1s}\npoints: [{id: 1, address: toggle, scan: fats}]\n", want: []string{
			"x.yaml:2: scans.demand: every channel has this scan class, and it has no time",
			"x.yaml:3: points[0].scan: \"fats\" is no scan class of the channel: want once, demand, or nothing for its scan"}},
		{name: "points", profile: "profile: 1\npoints:\n  - {id: 1, name: a b, address: toggle, scan: fats}\n  - {id: 2, name: a_b, address: toggle, kind: x}\nscans: {fast: 1s}\n", want: []string{
			"site.yaml:4: models[0].channel: points 1 and 2 of channel a both get the name a_b: rename one, or bind it under a name of its own",
			"x.yaml:3: points[0].scan: \"fats\" is no scan class of the channel: want fast, once, demand, or nothing for its scan",
			`x.yaml:4: points[1].kind: "x": want measurement, signal, control or adjustment`,
			"x.yaml:4: points[1].name: points 1 and 2 both get the name a_b in models"}},
		{name: "table", profile: "profile: 1\npoints: t.csv\n", table: "id,name,address,scan\n1,a,toggle,\n1,b,toggle,demand\n2,c,toggle,fast\n", want: []string{
			"t.csv:3: id: point 1 is there twice, first on line 2",
			"t.csv:4: scan: \"fast\" is no scan class of the channel: want once, demand, or nothing for its scan"}},
		{name: "alarms", profile: "profile: 1\npoints: [{id: 1, name: power, address: toggle}]\nalarms:\n" +
			"  - {id: a, model: m, point: power, operator: '>', threshold: 1}\n  - {id: a, point: powr, operator: '>', threshold: 1}\n" +
			"  - {id: b, point: power, operator: '=>', threshold: 1, severity: huge}\n  - {point: power}\n", want: []string{
			"x.yaml:4: alarms[0].model: unknown key: want one of id, point, operator, threshold, high, reference, limits, hysteresis, on_delay, off_delay, count, window, latch, enable, severity, message, disabled",
			"x.yaml:5: alarms[1].point: the profile has no point \"powr\"; did you mean power?",
			`x.yaml:6: alarms[2].operator: "=>": want one of > >= < <= == != in_range out_of_range deviation rate change bit_set bit_clear stale bad_quality offline`,
			`x.yaml:6: alarms[2].severity: "huge": want low, medium, high or critical`,
			"x.yaml:7: alarms[3].id: missing", "x.yaml:7: alarms[3].operator: missing", "x.yaml:7: alarms[3].threshold: missing"}},
		{name: "what alarms look at", profile: "profile: 1\npoints: [{id: 1, name: power, address: toggle}, {id: 2, name: other, address: toggle}]\nalarms:\n" +
			"  - {id: a, point: power, operator: deviation, threshold: 1, reference: othr}\n" +
			"  - {id: b, point: power, operator: deviation, threshold: 1, reference: 'm:other'}\n" +
			"  - {id: c, point: power, operator: change, enable: {point: othr, operator: '==', threshold: 1}}\n" +
			"  - {id: d, point: power, operator: change, enable: {model: m, point: other, operator: '==', threshold: 1}}\n" +
			"  - {id: e, point: power, operator: offline}\n  - {id: f, point: power, limits: {lo: 1, hi: 0}}\n", want: []string{
			"x.yaml:4: alarms[0].reference: the profile has no point \"othr\"; did you mean other?",
			"x.yaml:5: alarms[1].reference: the profile has no point \"m:other\"; did you mean other?",
			"x.yaml:6: alarms[2].enable.point: the profile has no point \"othr\"; did you mean other?",
			"x.yaml:7: alarms[3].enable.model: a profile knows no models: want a point of its own alone",
			`x.yaml:8: alarms[4].operator: offline: "offline" is for the model "channel", whose points are the channels, and that has no other`,
			"x.yaml:9: alarms[5].limits.lo: 1: is not below hi 0"}},
		{name: "reference not bound", profile: "profile: 1\npoints: [{id: 1, name: power, address: toggle}, {id: 2, name: on, address: toggle}]\n" +
			"alarms: [{id: a, point: power, operator: change, enable: {point: 'on', operator: '==', threshold: 1}}]\n",
			site: "channels:\n  - {id: a, driver: virtual, profile: x.yaml}\nmodels:\n  - {id: m, channel: a, measurements: {on: 'b:1'}}\n", want: []string{
				"site.yaml:4: models[0].channel: alarm a of the profile watches on, which is not bound here: bind point 2 under another name, or say alarms: false"}},
		{name: "not bound", profile: "profile: 1\npoints: [{id: 1, name: power, address: toggle}]\nalarms: [{id: a, point: power, operator: '>', threshold: 1}]\n",
			site: "channels:\n  - {id: a, driver: virtual, profile: x.yaml}\nmodels:\n  - {id: m, channel: a, measurements: {power: 'b:1'}}\n", want: []string{
				"site.yaml:4: models[0].channel: alarm a of the profile watches power, which is not bound here: bind point 1 under another name, or say alarms: false"}},
		{name: "own point", profile: "profile: 1\npoints: [{id: 1, name: power, address: toggle}]\n",
			site: "channels:\n  - {id: a, driver: virtual, profile: x.yaml, points: [{id: 1, address: nothing}, {id: 2, address: toggle, scan: fast}]}\n", want: []string{
				`site.yaml:2: channels[0].points[1].scan: "fast" is no scan class of the channel: want once, demand, or nothing for its scan`,
				`site.yaml:2: channels[0].points[0].address: "nothing": unknown signal "nothing": want one of constant, sine, ramp, random_walk, square, toggle, csv, text, setpoint, follow`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{"site.yaml": site, "x.yaml": c.profile, "t.csv": c.table}
			if c.site != "" {
				files["site.yaml"] = c.site
			}
			if c.profile == "" {
				delete(files, "x.yaml")
			}
			_, err := loadTest(files, nil, all.Kinds()...)
			require.Error(t, err)
			var got []string
			for line := range strings.Lines(err.Error()) {
				got = append(got, strings.TrimSpace(line))
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// readTest reads files that exist only in memory.
func readTest(files map[string]string) func(string, int64) ([]byte, error) {
	return func(path string, _ int64) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
}

func FuzzLoadProfile(f *testing.F) {
	f.Add(loadTestProfile)
	f.Add("profile: 1\npoints: meter.csv\naccept: [1.unit]\ndrivers: {modbus-rtu: {baud: 300}, modbus-tcp: &a {max_read: 1}, virtual: *a}\n")
	f.Add("profile: &a [*a]\ndrivers: {virtual: {seed: ${}}}\n")
	table := loadSeed(f, "meter.csv")
	f.Fuzz(func(t *testing.T, text string) {
		files := map[string]string{
			"site.yaml": "channels: [{id: a, driver: virtual, profile: x.yaml}, {id: b, driver: modbus-tcp, modbus-tcp: {address: a}, profile: x.yaml}]\nmodels: [{id: m, channel: a}]\n",
			"x.yaml":    text, "meter.csv": table,
		}
		cfg, err := loadTest(files, nil, all.Kinds()...)
		if err == nil {
			require.NoError(t, cfg.Validate())
		}
		for _, finding := range lintProfile("x.yaml", all.Kinds(), readTest(files)) {
			require.Regexp(t, `^(x\.yaml|meter\.csv):[0-9]+: (error|warning): `, finding.String())
		}
	})
}
