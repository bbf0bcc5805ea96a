package voltage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/internal/demo"
	"github.com/voltageems/voltage/internal/simsite"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

const patience = 20 * time.Second

// plant is the simulated site with an engine on it.
type plant struct {
	*voltage.Engine
	site   *simsite.Site
	mu     sync.Mutex
	alarms []alarm.Event
}

func (p *plant) transitions(rule string) []alarm.Transition {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []alarm.Transition
	for _, ev := range p.alarms {
		if ev.Rule == rule {
			list = append(list, ev.Transition)
		}
	}
	return list
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, nil))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func startPlant(t *testing.T, store scripts.StoreConfig) *plant {
	t.Helper()
	p := &plant{site: simsite.New(simsite.Config{Speed: 5, Logger: testLog(t)})}
	require.NoError(t, p.site.Start(t.Context()))
	t.Cleanup(func() { p.site.Close(context.Background()) })
	channels := demo.Channels(p.site.Addr)
	for i := range channels {
		channels[i].Scan = 100 * time.Millisecond
	}
	cfg := voltage.Config{Site: storetest.Site(t), Store: store, Channels: channels, Models: demo.Models(), Alarms: demo.Alarms(),
		HTTP: voltage.HTTP{Listen: "127.0.0.1:0"}, Log: testLog(t), Lease: 2 * time.Second}
	var err error
	p.Engine, err = voltage.NewEngine(cfg)
	require.NoError(t, err)
	p.OnAlarm(func(_ context.Context, ev alarm.Event) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.alarms = append(p.alarms, ev)
	})
	require.NoError(t, p.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, p.Stop(context.Background())) })
	return p
}

// eventually polls what only the world outside can make true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 10*time.Millisecond, what)
}

func (p *plant) quality(t *testing.T, modelID, name string) model.Quality {
	t.Helper()
	v, err := p.Values(t.Context(), modelID)
	if err != nil {
		return model.Bad
	}
	value, ok := v[name]
	if !ok {
		return model.Bad
	}
	return value.Quality
}

func (p *plant) allGood(t *testing.T) bool {
	t.Helper()
	n := 0
	for _, device := range simsite.Devices() {
		v, err := p.Values(t.Context(), demo.ModelID(device))
		if err != nil {
			return false
		}
		for _, value := range v {
			if value.Quality != model.Good || value.Time.IsZero() {
				return false
			}
			n++
		}
	}
	return n == len(simsite.Map())
}

// stores runs a test on the embedded store and on a Redis of its own.
func stores(t *testing.T, test func(t *testing.T, store scripts.StoreConfig, server *storetest.Server)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, scripts.StoreConfig{}, nil)
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := storetest.Own(t)
		test(t, scripts.StoreConfig{URL: server.URL}, server)
	})
}

func TestMainJob(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, _ *storetest.Server) {
		p := startPlant(t, store)
		eventually(t, "every point of every device is good", func() bool { return p.allGood(t) })

		var before, after struct {
			Values map[string]struct {
				Value   *float64
				Ts      int64
				Quality string
			}
		}
		get(t, p, "/models/meter1/values", &before)
		require.Equal(t, "good", before.Values["active_power"].Quality)
		eventually(t, "values change", func() bool {
			get(t, p, "/models/meter1/values", &after)
			return *after.Values["active_power"].Value != *before.Values["active_power"].Value && after.Values["active_power"].Ts > before.Values["active_power"].Ts
		})

		status, r := post(t, p, "/models/pcs1/control/power_setpoint", `{"value":40}`)
		require.Equal(t, http.StatusOK, status, r)
		require.Equal(t, "verified", r["state"], r)
		eventually(t, "the converter follows", func() bool { s := p.site.Snapshot(); return s.PCS.Power > 39 })
		eventually(t, "and the model shows it", func() bool {
			v, err := p.Values(t.Context(), "site")
			return err == nil && v["battery_power"].Value > 39
		})
		status, r = post(t, p, "/models/pcs1/control/power_setpoint", `{"value":400}`)
		require.Equal(t, http.StatusUnprocessableEntity, status, r)

		_, err := p.Control(t.Context(), model.Command{Model: "bms1", Control: "inject_over_temperature", Value: 1})
		require.NoError(t, err)
		eventually(t, "the alarm is raised", func() bool { return len(p.transitions("over_temperature")) == 1 })
		open, err := p.Alarms(t.Context())
		require.NoError(t, err)
		require.Len(t, open, 1)
		_, err = p.Acknowledge(t.Context(), open[0].ID, "anna", "")
		require.NoError(t, err)
		_, err = p.Control(t.Context(), model.Command{Model: "bms1", Control: "inject_over_temperature", Value: 0})
		require.NoError(t, err)
		eventually(t, "cooling closes it", func() bool {
			open, err := p.Alarms(t.Context())
			return err == nil && len(open) == 0
		})
		eventually(t, "and the callback has seen all of it", func() bool { return len(p.transitions("over_temperature")) == 3 })
		require.Equal(t, []alarm.Transition{"raised", "acknowledged", "cleared"}, p.transitions("over_temperature"))
	})
}

func TestOutages(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	p := startPlant(t, scripts.StoreConfig{URL: server.URL})
	client := storetest.Client(t, server.URL)
	good := func(why string) {
		t.Helper()
		eventually(t, why, func() bool { return p.allGood(t) })
	}
	good("at first")

	require.NoError(t, p.site.StopDevice(simsite.DevicePCS))
	eventually(t, "the points of a dead device turn bad", func() bool { return p.quality(t, "pcs1", "active_power") == model.Offline })
	require.Equal(t, model.Good, p.quality(t, "meter1", "active_power"))
	r, err := p.Control(t.Context(), model.Command{Model: "pcs1", Control: "power_setpoint", Value: 10})
	require.ErrorIs(t, err, voltage.ErrFailed)
	require.Equal(t, "not_connected", r.Reason)
	require.NoError(t, p.site.StartDevice(simsite.DevicePCS))
	good("after the device is back")

	require.NoError(t, client.FlushAll(t.Context()).Err())
	good("after FLUSHALL")
	require.NoError(t, client.ScriptFlush(t.Context()).Err())
	good("after SCRIPT FLUSH")
	server.Kill()
	server.Restart()
	good("after Redis was killed and restarted without data")
	require.NoError(t, client.FlushAll(t.Context()).Err())
	server.Pause()
	server.Resume()
	r, err = p.Control(t.Context(), model.Command{Model: "pcs1", Control: "power_setpoint", Value: 20, Timeout: 8 * time.Second})
	if err != nil { // given before the channel was acquired again
		require.ErrorIs(t, err, voltage.ErrRejected)
		require.Equal(t, "channel_stopped", r.Reason)
	}
	eventually(t, "commands work again", func() bool {
		r, err := p.Control(t.Context(), model.Command{Model: "pcs1", Control: "power_setpoint", Value: 20})
		return err == nil && r.State == model.CommandVerified
	})
}

func TestStopLeavesNothingBehind(t *testing.T) {
	server := storetest.Own(t)
	before := runtime.NumGoroutine()
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	site := storetest.Site(t)
	for _, store := range []scripts.StoreConfig{{}, {URL: server.URL}} {
		cfg := voltage.Config{Site: site, Store: store, Log: testLog(t), HTTP: voltage.HTTP{Listen: "127.0.0.1:0"},
			Channels: []channel.Config{{ID: "1", Points: []model.Point{{ID: "1"}}}},
			Models:   []model.Instance{{ID: "m", Measurements: map[string]string{"x": "1:1"}}}}
		eng, err := voltage.NewEngine(cfg)
		require.NoError(t, err)
		require.NoError(t, eng.Start(t.Context()))
		require.ErrorIs(t, eng.Start(t.Context()), voltage.ErrRunning)
		require.NoError(t, eng.Push(t.Context(), "1", model.Sample{Point: "1", Value: 5}))
		eventually(t, "the pushed value arrives", func() bool {
			v, err := eng.Values(t.Context(), "m")
			return err == nil && v["x"].Value == 5 && v["x"].Quality == model.Good
		})
		require.NoError(t, eng.Stop(context.Background()))
		require.NoError(t, eng.Stop(context.Background()))
		_, err = eng.Values(t.Context(), "m")
		require.ErrorIs(t, err, voltage.ErrNotRunning)
	}
	// what stays in Redis says that nobody looks after it any more
	quality, err := client.HGetAll(t.Context(), "{"+site+"}:modsrv:m:quality").Result()
	require.NoError(t, err)
	require.Equal(t, map[string]string{"x": "offline"}, quality)
	require.NoError(t, client.Close())
	http.DefaultClient.CloseIdleConnections()
	// require.Eventually asks from a goroutine of its own
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, patience, 10*time.Millisecond,
		"goroutines are left")
}

func TestRegistrationWhileRunning(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, server *storetest.Server) {
		site := storetest.Site(t)
		cfg := voltage.Config{Site: site, Store: store, Log: testLog(t)}
		eng, err := voltage.NewEngine(cfg)
		require.NoError(t, err)
		require.NoError(t, eng.RegisterModel(model.Instance{ID: "m", Measurements: map[string]string{"x": "1:1"}})) // before its channel
		updates := make(chan model.Update, 100)
		eng.OnUpdate(func(_ context.Context, u model.Update) {
			if u.Model != "" {
				updates <- u
			}
		})
		eng.OnUpdate(func(context.Context, model.Update) { panic("a bad subscriber") })
		require.NoError(t, eng.Start(t.Context()))
		defer eng.Stop(context.Background())
		require.NoError(t, eng.RegisterChannel(channel.Config{ID: "1", Points: []model.Point{{ID: "1"}, {ID: "2"}}}))
		push := func(v float64) {
			t.Helper()
			eventually(t, "push", func() bool { return eng.Push(t.Context(), "1", model.Sample{Point: "1", Value: v}) == nil })
		}
		push(1)
		select {
		case u := <-updates:
			require.Equal(t, model.Update{Model: "m", Points: []model.PointUpdate{{Name: "x", Value: "1.000000"}}}, u)
		case <-time.After(patience):
			t.Fatal("no update")
		}
		require.NoError(t, eng.RegisterModel(model.Instance{ID: "second", Measurements: map[string]string{"y": "1:1", "z": "1:7"}}))
		eventually(t, "a model that comes later gets the values that are there", func() bool {
			push(1) // not a change
			v, err := eng.Values(t.Context(), "second")
			return err == nil && v["y"].Value == 1
		})
		eventually(t, "the binding to nothing is reported", func() bool {
			return strings.Contains(strings.Join(eng.Problems(), "\n"), "1:7")
		})
		require.NoError(t, eng.RegisterAlarm(alarm.Rule{ID: "high", Model: "m", Point: "x", Operator: model.Above, Threshold: 10}))
		push(11)
		eventually(t, "the alarm is raised", func() bool {
			open, err := eng.Alarms(t.Context())
			return err == nil && len(open) == 1
		})
		require.NoError(t, eng.RemoveAlarm("m", "x", "high"))
		require.ErrorIs(t, eng.RemoveAlarm("m", "x", "high"), scripts.ErrNotFound)
		require.NoError(t, eng.RemoveModel("second"))
		_, err = eng.Values(t.Context(), "second")
		require.ErrorIs(t, err, scripts.ErrNotFound)
		require.NoError(t, eng.RemoveChannel("1"))
		require.ErrorIs(t, eng.Push(t.Context(), "1", model.Sample{Point: "1"}), scripts.ErrNotFound)
		require.NoError(t, eng.RegisterModel(model.Instance{ID: "third"}))
		require.NoError(t, eng.Stop(context.Background()))

		if server != nil { // the next run has another configuration
			next, err := voltage.NewEngine(voltage.Config{Site: site, Store: store, Log: testLog(t), Models: []model.Instance{{ID: "m"}}})
			require.NoError(t, err)
			require.NoError(t, next.Start(t.Context()))
			defer next.Stop(context.Background())
			models, err := next.Models(t.Context())
			require.NoError(t, err)
			require.Len(t, models, 1)
			require.Equal(t, "m", models[0].ID)
		}
	})
}

func get(t *testing.T, p *plant, path string, into any) {
	t.Helper()
	res, err := http.Get("http://" + p.Addr() + path)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, string(body))
	require.NoError(t, json.Unmarshal(body, into), string(body))
}

func post(t *testing.T, p *plant, path, body string) (int, map[string]any) {
	t.Helper()
	res, err := http.Post("http://"+p.Addr()+path, "application/json", bytes.NewBufferString(body))
	require.NoError(t, err)
	defer res.Body.Close()
	var m map[string]any
	require.NoError(t, json.NewDecoder(res.Body).Decode(&m), fmt.Sprint(res.Status))
	return res.StatusCode, m
}
