package voltage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/model"
)

const alarmSite = `
channels:
  - id: 1001
    driver: virtual
    points: [{id: 1, name: power, address: toggle}, {id: 2, name: running, kind: signal, address: toggle}, {id: 3, name: setpoint, address: toggle}]
  - {id: 1002, driver: virtual, points: [{id: 1, address: toggle}]}
  - {id: 1003, driver: virtual, points: [{id: 1, address: toggle}]}
models:
  - {id: pcs1, channel: 1001}
`

func TestLoadConfigAlarms(t *testing.T) {
	t.Parallel()
	cfg, err := loadTest(map[string]string{"site.yaml": alarmSite + `alarms:
  - {id: a, model: pcs1, point: power, operator: out_of_range, threshold: -5, high: 0, hysteresis: 1, on_delay: 10s, off_delay: 1m30s, latch: true}
  - {id: b, model: pcs1, point: power, operator: deviation, threshold: 5, reference: setpoint, enable: {point: running, operator: "==", threshold: 1}}
  - {id: c, model: pcs1, point: power, operator: deviation, threshold: 5, reference: "elsewhere:x", enable: {model: elsewhere, point: y, operator: ">", threshold: -1.5}}
  - {id: d, model: pcs1, point: power, operator: rate, threshold: 50, window: 10s}
  - {id: e, model: pcs1, point: running, operator: change, count: 5, window: 1h, severity: low, message: It starts too often}
  - {id: f, model: pcs1, point: power, operator: bit_set, threshold: 3, disabled: true}
  - {id: g, model: pcs1, point: power, operator: stale}
  - {id: h, model: pcs1, point: power, limits: {hihi: 70, lo: 5}, hysteresis: 2, on_delay: 5s, enable: {point: running, operator: "==", threshold: 1}, message: m}
  - {id: h, model: pcs1, point: setpoint, limits: {hi: 60}, severity: low, latch: true}
`}, nil, all.Kinds()...)
	require.NoError(t, err)
	running := &model.AlarmEnable{Point: "running", Operator: model.Equal, Threshold: 1}
	rule := func(id string, r model.AlarmRule) model.AlarmRule {
		r.ID, r.Model = id, "pcs1"
		if r.Point == "" {
			r.Point = "power"
		}
		return r
	}
	h := model.AlarmRule{Hysteresis: 2, OnDelay: 5 * time.Second, Enable: running, Message: "m"}
	high, low := h, h
	high.Operator, high.Threshold, high.Severity = model.Above, 70, model.Critical
	low.Operator, low.Threshold, low.Severity = model.Below, 5, model.High
	require.Equal(t, []model.AlarmRule{
		rule("a", model.AlarmRule{Operator: model.OutOfRange, Threshold: -5, Hysteresis: 1, OnDelay: 10 * time.Second, OffDelay: 90 * time.Second, Latch: true}),
		rule("b", model.AlarmRule{Operator: model.Deviation, Threshold: 5, Reference: "setpoint", Enable: running}),
		rule("c", model.AlarmRule{Operator: model.Deviation, Threshold: 5, Reference: "elsewhere:x",
			Enable: &model.AlarmEnable{Model: "elsewhere", Point: "y", Operator: model.Above, Threshold: -1.5}}),
		rule("d", model.AlarmRule{Operator: model.Rate, Threshold: 50, Window: 10 * time.Second}),
		rule("e", model.AlarmRule{Point: "running", Operator: model.Change, Count: 5, Window: time.Hour, Severity: model.Low, Message: "It starts too often"}),
		rule("f", model.AlarmRule{Operator: model.BitSet, Threshold: 3, Disabled: true}),
		rule("g", model.AlarmRule{Operator: model.IsStale}),
		rule("h_hihi", high), rule("h_lo", low),
		rule("h_hi", model.AlarmRule{Point: "setpoint", Operator: model.Above, Threshold: 60, Severity: model.Low, Latch: true}),
	}, cfg.Alarms)
	require.NoError(t, cfg.Validate())
}

// A rule for all channels gives way to one that names its channel.
func TestLoadConfigAlarmsOfChannels(t *testing.T) {
	t.Parallel()
	cfg, err := loadTest(map[string]string{"site.yaml": alarmSite + `alarms:
  - {id: offline, model: channel, point: "*", operator: offline, on_delay: 10s}
  - {id: offline, model: channel, point: 1002, operator: offline, disabled: true}
  - {id: calculations, model: channel, point: calc.pcs1, operator: offline, enable: {model: pcs1, point: running, operator: "==", threshold: 1}}
`}, nil, all.Kinds()...)
	require.NoError(t, err)
	require.Equal(t, []model.AlarmRule{
		{ID: "offline", Model: "channel", Point: "1001", Operator: model.IsOffline, OnDelay: 10 * time.Second},
		{ID: "offline", Model: "channel", Point: "1003", Operator: model.IsOffline, OnDelay: 10 * time.Second},
		{ID: "offline", Model: "channel", Point: "1002", Operator: model.IsOffline, Disabled: true},
		{ID: "calculations", Model: "channel", Point: "calc.pcs1", Operator: model.IsOffline,
			Enable: &model.AlarmEnable{Model: "pcs1", Point: "running", Operator: model.Equal, Threshold: 1}},
	}, cfg.Alarms)
}

// The alarms of a profile look at the points of the model under its own names.
func TestLoadConfigAlarmsOfProfiles(t *testing.T) {
	t.Parallel()
	files := map[string]string{"site.yaml": `
channels: [{id: a, driver: virtual, profile: x.yaml}]
models:
  - {id: m, channel: a}
  - {id: n, channel: a, measurements: {p: "a:1"}, signals: {r: "a:2"}}
alarms:
  - {id: temp_hi, model: m, point: power, operator: ">", threshold: 50}
`, "x.yaml": `profile: 1
points: [{id: 1, name: power, address: toggle}, {id: 2, name: running, kind: signal, address: toggle}, {id: 3, name: wanted, address: toggle}]
alarms:
  - {id: far, point: wanted, operator: deviation, threshold: 5, reference: power, on_delay: 2s, enable: {point: running, operator: "==", threshold: 1}}
  - {id: temp, point: power, limits: {hi: 60, hihi: 70}}
`}
	cfg, err := loadTest(files, nil, all.Kinds()...)
	require.NoError(t, err)
	far := func(modelID, reference, running string) model.AlarmRule {
		return model.AlarmRule{ID: "far", Model: modelID, Point: "wanted", Operator: model.Deviation, Threshold: 5, Reference: reference, OnDelay: 2 * time.Second,
			Enable: &model.AlarmEnable{Point: running, Operator: model.Equal, Threshold: 1}}
	}
	limit := func(modelID, point, id string, threshold float64, s model.Severity) model.AlarmRule {
		return model.AlarmRule{ID: id, Model: modelID, Point: point, Operator: model.Above, Threshold: threshold, Severity: s}
	}
	require.Equal(t, []model.AlarmRule{
		far("m", "power", "running"), limit("m", "power", "temp_hihi", 70, model.Critical),
		far("n", "p", "r"), limit("n", "p", "temp_hihi", 70, model.Critical), limit("n", "p", "temp_hi", 60, model.High),
		limit("m", "power", "temp_hi", 50, ""),
	}, cfg.Alarms)
}
