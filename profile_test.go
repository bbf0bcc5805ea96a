package voltage

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

func TestLoadProfile(t *testing.T) {
	t.Parallel()
	p, err := LoadProfile("testdata/loadconfig/profile.yaml", all.Kinds()...)
	require.NoError(t, err)
	assert.Equal(t, "Heat pump", p.Name)
	assert.Equal(t, ProfileSource{Manual: "Registers of the HP-7", Edition: "3", Page: "4-9"}, p.Source)
	assert.Equal(t, []string{"modbus-rtu", "modbus-tcp"}, p.Drivers)

	ch, err := p.Channel("7", "modbus-tcp", map[string]any{"address": "127.0.0.1:1502", "unit": 3})
	require.NoError(t, err)
	require.NoError(t, ch.Validate())
	_, err = ch.NewDriver(loadNoLog, model.SystemClock)
	require.NoError(t, err)
	assert.Equal(t, p.Points, ch.Points)
	assert.Equal(t, model.Instance{
		ID: "hp1", Name: "Heat pump", Measurements: map[string]string{"power": "7:1", "supply_temperature": "7:2"},
		Controls: map[string]string{"setpoint": "7:3"},
	}, p.Instance("hp1", "7"))
	rules := p.Rules("hp1")
	require.Len(t, rules, 1)
	assert.Equal(t, "hp1", rules[0].Model)
	assert.Empty(t, p.Alarms[0].Model, "the profile's own stay as they are")

	for _, c := range []struct {
		driver   string
		settings map[string]any
		want     string
	}{
		{"virtual", nil, `invalid: channel 7: driver "virtual": the profile is for modbus-rtu, modbus-tcp`},
		{"can", nil, `invalid: channel 7: driver "can": LoadProfile was not given this kind: want one of modbus-tcp, modbus-rtu`},
		{"modbus-tcp", map[string]any{}, `channel 7:1: modbus-tcp.address: "": want host:port, such as 192.168.1.10:502`},
		{"modbus-tcp", map[string]any{"adress": "a"}, `channel 7:1: modbus-tcp.adress: unknown key; did you mean address?`},
		{"modbus-tcp", map[string]any{"address": "a", "unit": 300}, `channel 7:1: modbus-tcp.unit: 300: want 0 to 255`},
	} {
		_, err := p.Channel("7", c.driver, c.settings)
		require.ErrorIs(t, err, model.ErrInvalid)
		assert.EqualError(t, err, c.want)
	}
	_, err = Profile{}.Channel("7", "virtual", nil)
	require.ErrorIs(t, err, model.ErrInvalid)
	_, err = LoadProfile("testdata/loadconfig/missing.yaml")
	require.EqualError(t, err, "testdata/loadconfig/missing.yaml: no such file or directory")
}

// Profiles that want different speeds are checked side by side.
func TestProfilesDoNotMeet(t *testing.T) {
	t.Parallel()
	kinds := modbus.Kinds()
	for _, baud := range []string{"9600", "2400"} {
		text := "profile: 1\ndrivers: {modbus-rtu: {baud: " + baud + "}}\npoints: [{id: 1, address: holding:1}]\n"
		pr, err := loadProfileFrom("x.yaml", kinds, readTest(map[string]string{"x.yaml": text}))
		require.NoError(t, err)
		require.NoError(t, pr.err())
		require.NotNil(t, pr.try("modbus-rtu"))
	}
}

func TestLintProfile(t *testing.T) {
	t.Parallel()
	head := "profile: 1\nname: a\nmanufacturer: b\nmodel: c\nsource: {url: d}\n"
	for _, c := range []struct {
		name, text, table string
		want              []string
	}{
		{"clean", head + "drivers: {virtual: }\npoints: [{id: 1, name: power, address: toggle, unit: kW}, {id: 2, name: power_factor, address: toggle}]\n", "", nil},
		{"bare", head + "drivers: {virtual: }\npoints: [{id: 1, name: grid_power, address: toggle}, {id: 2, name: Cos phi L1, address: toggle}]\naccept: [2.name]\n", "", []string{
			"x.yaml:7: warning: points[0].unit: missing"}},
		{"errors", "profile: 1\npoints: [{id: 1, adress: a}]\n", "", []string{
			"x.yaml:1: warning: name: missing", "x.yaml:1: warning: manufacturer: missing", "x.yaml:1: warning: model: missing",
			"x.yaml:1: warning: source: missing: say from which manual the registers are, so that others can check them",
			"x.yaml:1: warning: drivers: missing: name the drivers that the addresses are for, such as modbus-tcp: {}",
			"x.yaml:2: error: points[0].adress: unknown key; did you mean address?"}},
		{"settings", head + "drivers: {modbus-tcp: {max_read: 0}}\npoints: [{id: 1, name: power, address: holding:1, unit: kW}]\n", "", []string{
			"x.yaml:6: error: drivers.modbus-tcp.max_read: 0: want 1 to 125 registers"}},
		{"list", "- a\n", "", []string{"x.yaml:1: error: want a section with keys, not a list"}},
		{"syntax", "profile: [1\n", "", []string{"x.yaml:2: error: did not find expected ',' or ']'"}},
		{"points", head + "drivers: {virtual: }\npoints: t.csv\naccept: [1.name, 5.unit]\n",
			"id,name,kind,address,unit,scale,min,max,step,read_back,text\n1,a b,,toggle,KW,,,,,,\n2,b,,toggle,,1e7,,,,,\n3,c,c,setpoint:0,,,0,,,,\n4,d,c,setpoint:0,,,0,1,2,1,\n5,e,,text:a,V,,,,,,1\n6,f b,s,toggle,,,,,,,\n", []string{
				"t.csv:2: warning: unit: \"KW\" is not one of the usual ones; did you mean kW?",
				"t.csv:3: warning: scale: 1e+07 is unusual", "t.csv:3: warning: unit: missing",
				"t.csv:4: warning: max: min or max is missing: a command of any size passes",
				"t.csv:4: warning: read_back: missing: nobody learns whether the device took a command",
				"t.csv:5: warning: step: 2 is more than from min to max",
				"t.csv:7: warning: name: \"f b\" is f_b in models: use A-Z a-z 0-9 _ . - alone"}},
		{"accept", head + "drivers: {virtual: }\npoints: []\naccept: [1.unit]\nscans: {slow: 1m}\n", "", []string{
			"x.yaml:7: warning: points: there are none", "x.yaml:8: warning: accept[0]: \"1.unit\": there is no such finding",
			"x.yaml:9: warning: scans.slow: no point has this scan class"}},
		{"alarms", head + `drivers: {modbus-tcp: }
scan: 2s
scans: {slow: 1m}
points:
  - {id: 1, name: a, address: "holding:0:int16 range=0..100", unit: V}
  - {id: 2, name: b, address: "holding:1:int16 range=-50..50", unit: A, scan: slow}
  - {id: 3, name: flags, address: "holding:2:uint16 range=0..255", kind: signal, labels: {0: none}}
  - {id: 4, name: scaled, address: "holding:3:uint16", kind: signal, labels: {0: none}, scale: 0.5}
  - {id: 5, name: serial, address: "holding:200:string9", text: true, scan: once}
alarms:
  - {id: a, point: a, operator: in_range, threshold: 101, high: 200, message: m}
  - {id: b, point: a, operator: out_of_range, threshold: 0, high: 100, message: m}
  - {id: c, point: a, operator: in_range, threshold: 50, high: 200, hysteresis: 1, message: m}
  - {id: d, point: a, operator: deviation, threshold: 150, reference: b, message: m}
  - {id: e, point: a, operator: rate, threshold: 10, window: 10s, message: m}
  - {id: f, point: a, operator: rate, threshold: 9, message: m}
  - {id: g, point: flags, operator: bit_set, threshold: 8, message: m}
  - {id: h, point: flags, operator: bit_clear, threshold: 8, message: m}
  - {id: i, point: scaled, operator: bit_set, threshold: 2, hysteresis: 1, message: m}
  - {id: j, point: serial, operator: stale, message: m}
  - {id: k, point: serial, operator: change, message: m}
  - {id: l, point: a, limits: {hihi: 110, hi: 90, lo: 10, lolo: -1}, message: m}
  - {id: m, point: a, operator: change, message: m, enable: {point: b, operator: ">", threshold: 51}}
  - {id: n, point: a, operator: change, message: m, enable: {point: serial, operator: ">", threshold: 5}}
  - {id: o, point: b, operator: ">", threshold: 5, count: 3, window: 3m, message: m}
  - {id: p, point: b, operator: ">", threshold: 5, count: 3, window: 4m, message: m}
  - {id: q, point: a, operator: deviation, threshold: 5, reference: serial, message: m}
`, "", []string{
			"x.yaml:16: warning: alarms[0].threshold: 101 to high, 200, is outside of what the address of a takes for plausible, 0 to 100",
			"x.yaml:17: warning: alarms[1].threshold: 0 to high, 100, has all that the address of a takes for plausible, 0 to 100",
			"x.yaml:19: warning: alarms[3].reference: a is in \"V\" and b in \"A\"",
			"x.yaml:19: warning: alarms[3].threshold: 150: what the addresses of a and b take for plausible differs by 150 at most",
			"x.yaml:20: warning: alarms[4].threshold: 10 a second: within 10s what the address of a takes for plausible, 0 to 100, gives 10 at most",
			"x.yaml:21: warning: alarms[5].window: 1s: a is read every 2s, so that no change is seen within it",
			"x.yaml:22: warning: alarms[6].threshold: bit 8 is 256, which is outside of what the address of flags takes for plausible, up to 255",
			"x.yaml:24: warning: alarms[8].hysteresis: has no meaning with bit_set",
			"x.yaml:24: warning: alarms[8].operator: bit_set: scaled has a scale or an offset, so that its bits are not the device's",
			"x.yaml:26: warning: alarms[10].point: serial is a text, which has no number to compare",
			"x.yaml:27: warning: alarms[11].limits.hihi: 110 is outside of what the address of a takes for plausible, 0 to 100",
			"x.yaml:27: warning: alarms[11].limits.lolo: -1 is outside of what the address of a takes for plausible, 0 to 100",
			"x.yaml:28: warning: alarms[12].enable.threshold: 51 is outside of what the address of b takes for plausible, -50 to 50",
			"x.yaml:29: warning: alarms[13].enable.point: serial is a text, which has no number to compare",
			"x.yaml:30: warning: alarms[14].window: 3m0s: b is read every 1m0s, so that a count of 3 takes 4m0s at least",
			"x.yaml:32: warning: alarms[16].reference: serial is a text, which has no number to compare"}},
		{"modbus", head + `drivers: {modbus-tcp: , modbus-rtu: {baud: 300}, modbus-tpc: }
points:
  - {id: 1, name: a, address: "holding:1:float32", unit: V}
  - {id: 2, name: b, address: "holding:2:int16 range=0..100", unit: V, scan: fast}
  - {id: 3, name: c, address: "holding:9:bit1", kind: signal, scale: 0}
  - {id: 4, name: d, address: "holding:9:bit2", kind: signal}
  - {id: 5, name: state, address: "holding:10", kind: signal}
  - {id: 6, name: e, address: "holding:11", kind: control, min: 0, max: 1, read_back: true}
  - {id: 7, name: f, address: "holding:11", kind: signal}
  - {id: 8, name: g, address: "holding:10:int16", kind: signal}
  - {id: 9, name: h, address: "holding:10", kind: signal, labels: {0: off}}
  - {id: 10, name: i, address: "holding:12:int16 range=0..10", kind: control, min: 0, max: 20, read_back: true}
  - {id: 11, name: serial, address: "holding:200:string9", text: true, scan: once}
scans: {fast: 100ms}
alarms:
  - {id: a, point: b, operator: ">", threshold: 120, message: m}
  - {id: b, point: serial, operator: ">", threshold: 1}
`, "", []string{
			"x.yaml:6: warning: drivers.modbus-tpc: this program does not know the driver, so nothing of it is checked; did you mean modbus-tcp?",
			"x.yaml:6: warning: drivers.modbus-rtu: a round of what is read every 100ms takes 812ms at 300 baud, and with what is read more often the line is busy 812 % of the time: read less, or less often",
			"x.yaml:6: warning: drivers.modbus-rtu: a round of what is read every 1s takes 1.618s at 300 baud, and with what is read more often the line is busy 973 % of the time: read less, or less often",
			"x.yaml:9: warning: points[1].address: overlaps point 1, holding:1:float32, in part",
			"x.yaml:10: warning: points[2].scale: 0 is taken for 1: leave it out",
			"x.yaml:12: warning: points[4].labels: missing: say what its numbers mean",
			"x.yaml:15: warning: points[7].address: is read as another type than by point 5, holding:10",
			"x.yaml:16: warning: points[8].address: is that of point 5 too",
			"x.yaml:16: warning: points[8].address: is read as another type than by point 8, holding:10:int16",
			"x.yaml:17: warning: points[9].max: 20 is outside of the address's range=, so that it could be written and not be read back",
			"x.yaml:21: warning: alarms[0].threshold: 120 is outside of what the address of b takes for plausible, 0 to 100",
			"x.yaml:22: warning: alarms[1].point: serial is a text, which has no number to compare",
			"x.yaml:22: warning: alarms[1]: message: missing: say in words what is wrong"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, f := range lintProfile("x.yaml", all.Kinds(), readTest(map[string]string{"x.yaml": c.text, "t.csv": c.table})) {
				got = append(got, f.String())
			}
			assert.ElementsMatch(t, c.want, got, strings.Join(got, "\n"))
		})
	}
	missing := LintProfile("testdata/loadconfig/missing.yaml")
	require.Len(t, missing, 1)
	assert.Equal(t, "testdata/loadconfig/missing.yaml:1: error: no such file or directory", missing[0].String())
	bad := LintProfile("x.yaml", channel.Kind{})
	require.Len(t, bad, 1)
	assert.True(t, bad[0].Error)
}
