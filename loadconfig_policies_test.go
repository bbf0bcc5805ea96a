package voltage

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
)

const policySite = `channels:
  - {id: "1", driver: virtual, points: [{id: "1", name: soc, address: "constant:50"}, {id: "9", name: power, kind: control, address: "setpoint:0"}]}
models:
  - id: pcs1
    channel: "1"
    policies:
      power:
        interlocks: [{name: empty, model: pcs1, point: soc, operator: "<", threshold: 5}]
        safe: 0
        hold: 10s
        safe_on_stop: true
`

func TestLoadConfigPolicies(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "site.yaml")
	require.NoError(t, os.WriteFile(file, []byte(policySite), 0o600))
	cfg, err := LoadConfig(file, virtual.Kind())
	require.NoError(t, err)
	require.Equal(t, map[string]model.ControlPolicy{"power": {
		Interlocks: []model.Interlock{{Name: "empty", Model: "pcs1", Point: "soc", Operator: model.Below, Threshold: 5}},
		Safe:       new(0.0), Hold: 10 * time.Second, SafeOnStop: true}}, cfg.Models[0].Policies)
	_, err = NewEngine(cfg)
	require.NoError(t, err)
}

func TestLoadConfigFaultsOfPolicies(t *testing.T) {
	t.Parallel()
	const head = "channels:\n  - {id: a, driver: virtual, points: [{id: x, address: constant:1}, {id: c, kind: control, address: setpoint:0}]}\nmodels:\n  - id: m\n    channel: a\n    policies:\n"
	runLoadFaults(t, []loadFaultCase{
		{name: "names", yaml: head + "      d: {safe: 0}\n      x: {safe: 0}\n", want: []string{
			"site.yaml:7: models[0].policies.d: the model has no such control or adjustment",
			"site.yaml:8: models[0].policies.x: x is a measurement: policies are for controls and adjustments"}},
		{name: "hold", yaml: head + "      c: {hold: 10s}\n", want: []string{
			"site.yaml:7: models[0].policies.c: hold 10s: there is no safe value to write after it: add safe"}},
		{name: "interlock", yaml: head + "      c:\n        interlocks:\n          - {model: m, point: y, operator: \">\", threshold: 1}\n          - {model: other, point: y, operator: \"=\", threshold: 1}\n", want: []string{
			"site.yaml:7: models[0].policies.c: interlock 2: operator \"=\": want one of > >= < <= == !=",
			"site.yaml:9: models[0].policies.c.interlocks[0].point: model m has no point \"y\""}},
		{name: "unknown key", yaml: head + "      c: {safer: 0}\n", want: []string{"site.yaml:7: models[0].policies.c.safer: unknown key; did you mean safe?"}},
	})
}

func TestLoadConfigHeartbeat(t *testing.T) {
	t.Parallel()
	const head = "channels:\n  - id: a\n    driver: virtual\n    points: [{id: x, address: constant:1}, {id: c, kind: control, address: setpoint:0}]\n    heartbeat: "
	file := filepath.Join(t.TempDir(), "site.yaml")
	require.NoError(t, os.WriteFile(file, []byte(head+"{point: c, every: 2s, max: 255}\n"), 0o600))
	cfg, err := LoadConfig(file, virtual.Kind())
	require.NoError(t, err)
	require.Equal(t, &channel.Heartbeat{Point: "c", Every: 2 * time.Second, Max: 255}, cfg.Channels[0].Heartbeat)
	runLoadFaults(t, []loadFaultCase{
		{name: "point", yaml: head + "{point: x, every: 2s}\n", want: []string{"site.yaml:5: channels[0].heartbeat: point x: a measurement is not written: want a control or adjustment"}},
		{name: "every", yaml: head + "{point: c}\n", want: []string{"site.yaml:5: channels[0].heartbeat: every 0s: want 10ms to 1h"}},
		{name: "key", yaml: head + "{point: c, each: 2s}\n", want: []string{`site.yaml:5: channels[0].heartbeat.each: unknown key: want one of point, every, max`}},
	})
}
