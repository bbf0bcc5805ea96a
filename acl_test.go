package voltage_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/rule"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// A whole engine, with everything it can do, runs on the rights that docs/acl gives it.
func TestEngineRunsUnderItsACL(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/acl/engine.acl")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "users.acl")
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(text), " resetpass ", " resetpass >password ", 1)), 0o600))
	server := storetest.Own(t, "--aclfile", path)
	all := storetest.Client(t, server.URL)
	url := strings.Replace(server.URL, "redis://", "redis://plant-a-engine:password@", 1)
	ctx := t.Context()

	d := virtual.NewDevice()
	cfg := pvPlant()
	cfg.Site, cfg.Store, cfg.Lease = "plant-a", scripts.StoreConfig{URL: url}, time.Second
	cfg.Channels = append(cfg.Channels, channel.Config{ID: "2", Driver: virtual.New(virtual.On(d)), Scan: 50 * time.Millisecond, Points: []model.Point{
		{ID: "sp", Kind: model.Control, Address: "setpoint:7", ReadBack: true, Select: true}, {ID: "p", Address: "constant:5"}, {ID: "t", Address: "constant:1"}}})
	cfg.Models = append(cfg.Models, model.Instance{ID: "m", Controls: map[string]string{"sp": "2:sp"}, Measurements: map[string]string{"p": "2:p"},
		Calculations: formulas("mean", "moving_average(p, 60s)", "slope", "rate(p)"),
		Policies:     map[string]model.ControlPolicy{"sp": {Safe: new(-1.0), Hold: 20 * time.Second, SafeOnStop: true}}})
	cfg.Rules = []rule.Rule{{ID: "copy", Conditions: []rule.Condition{{Model: "m", Point: "p", Operator: model.Above, Threshold: 1}},
		Actions: []rule.Action{{Type: model.ActionControl, Model: "m", Control: "sp", Value: 3}}}}
	run := func(work func(eng *voltage.Engine)) {
		cfg.Log = testLog(t)
		eng, err := voltage.NewEngine(cfg)
		require.NoError(t, err)
		require.NoError(t, eng.Start(ctx))
		work(eng)
		require.NoError(t, eng.Stop(context.Background()))
	}
	run(func(eng *voltage.Engine) {
		eng.OnAlarm(func(context.Context, alarm.Event) {})
		eng.OnCommand(func(context.Context, model.CommandEvent) {})
		eng.OnUpdate(func(context.Context, model.Update) {})
		web := httptest.NewServer(eng.Handler())
		defer web.Close()
		conn, _, err := websocket.Dial(ctx, web.URL+"/ws?after_alarms=0&after_commands=0", nil)
		require.NoError(t, err)
		_, _, err = conn.Read(ctx)
		require.NoError(t, err)

		require.NoError(t, eng.Push(ctx, "1", model.Sample{Point: "1", Value: 40}, model.Sample{Point: "2", Value: 20}))
		valued(t, eng, "plant", "double", is(120, model.Good))
		valued(t, eng, "plant", "energy", func(v model.Value) bool { return v.Value > 0 })
		eventually(t, "the alarm", func() bool {
			open, err := eng.Alarms(ctx)
			return err == nil && len(open) == 1
		})
		open, err := eng.Alarms(ctx)
		require.NoError(t, err)
		_, err = eng.Acknowledge(ctx, open[0].ID, "somebody", "seen")
		require.NoError(t, err)
		eventually(t, "the rule", holds(d, 3))
		require.NoError(t, eng.RemoveRule("copy"))
		control(t, eng, 50)
		require.NoError(t, eng.Alive(ctx, "cloud"))
		res, err := eng.Submit(ctx, model.Command{Model: "m", Control: "sp", Value: 8, Origin: "test"})
		require.NoError(t, err)
		_, _ = eng.Cancel(ctx, res.ID, "somebody") // it may be over already
		require.NoError(t, eng.SetModelEnabled(ctx, "m", false))
		require.NoError(t, eng.SetModelEnabled(ctx, "m", true))
		require.NoError(t, eng.SetSyncMode(ctx, scripts.SyncDirect, []string{"1"}, scripts.Change{By: "test"}))
		require.NoError(t, eng.Push(ctx, "1", model.Sample{Point: "1", Value: 1}))
		require.NoError(t, eng.Demand("2"))
		for _, path := range []string{"/readyz", "/metrics", "/channels", "/models", "/models/m/values", "/values", "/alarms", "/alarms/journal", "/scripts",
			"/scripts/journal", "/sync", "/audit", "/servers", "/channels/2/values"} {
			res, err := http.Get(web.URL + path)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, 200, res.StatusCode, path)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, web.URL+"/models/m/enabled", strings.NewReader(`{"enabled":true}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		put, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, put.Body.Close())
		require.Equal(t, 200, put.StatusCode)
		eventually(t, "the audit journal", func() bool {
			entries, err := eng.Plane().AuditJournal(ctx, "", 10)
			return err == nil && len(entries) > 0
		})
		require.NoError(t, eng.RemoveModel("report"))
		require.NoError(t, eng.RegisterChannel(channel.Config{ID: "3", Points: []model.Point{{ID: "1"}}}))
		require.NoError(t, eng.RemoveChannel("3"))
		require.NoError(t, eng.RemoveAlarm("plant", "double", "high"))
		require.NoError(t, eng.Plane().FlushStats(ctx))
		require.NoError(t, conn.CloseNow())
	})
	run(func(eng *voltage.Engine) { // and once more on what is there
		eventually(t, "the safe value", holds(d, 3))
	})

	log, err := all.Do(ctx, "ACL", "LOG", "100").Slice()
	require.NoError(t, err)
	for _, entry := range log {
		require.Contains(t, fmt.Sprint(entry), "config|get", "docs/store.md says that it is optional")
	}
}
