package voltage_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// safeSite is an engine that operates one setpoint with a safe value.
func safeSite(t *testing.T, store scripts.StoreConfig, site string, d *virtual.Device, p model.ControlPolicy) *voltage.Engine {
	t.Helper()
	eng, err := voltage.NewEngine(voltage.Config{Site: site, Store: store, Log: testLog(t), Lease: 2 * time.Second,
		Channels: []channel.Config{{ID: "1", Driver: virtual.New(virtual.On(d)), Scan: 50 * time.Millisecond,
			Points: []model.Point{{ID: "sp", Kind: model.Control, Address: "setpoint:7", ReadBack: true, Select: true}}}},
		Models: []model.Instance{{ID: "m", Controls: map[string]string{"sp": "1:sp"}, Policies: map[string]model.ControlPolicy{"sp": p}}}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
	return eng
}

func holds(d *virtual.Device, value float64) func() bool {
	return func() bool {
		v, ok := d.Setpoint("sp")
		return ok && v == value
	}
}

func control(t *testing.T, eng *voltage.Engine, value float64) {
	t.Helper()
	r, err := eng.Control(t.Context(), model.Command{Model: "m", Control: "sp", Value: value, Timeout: time.Minute, Origin: "cloud"})
	require.NoError(t, err, "%+v", r)
}

// A value goes when nobody stands behind it; saying so keeps it.
func TestSafeValueOfALostSource(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, _ *storetest.Server) {
		d := virtual.NewDevice()
		eng := safeSite(t, store, storetest.Site(t), d, model.ControlPolicy{Safe: new(-1.0), Hold: 20 * time.Second})
		eventually(t, "after the start", holds(d, -1))
		events := make(chan model.CommandEvent, 100)
		eng.OnCommand(func(_ context.Context, ev model.CommandEvent) { events <- ev })
		control(t, eng, 50)
		require.NoError(t, eng.Alive(t.Context(), "cloud"))
		require.True(t, holds(d, 50)())
		// the policy is changed while the engine runs: the time is over already, or soon
		require.NoError(t, eng.RegisterModel(model.Instance{ID: "m", Controls: map[string]string{"sp": "1:sp"},
			Policies: map[string]model.ControlPolicy{"sp": {Safe: new(-2.0), Hold: 100 * time.Millisecond}}}))
		eventually(t, "the safe value", holds(d, -2))
		for {
			select {
			case ev := <-events:
				if ev.Origin != "failsafe" || !ev.State.Final() || ev.Reason == "started" {
					continue
				}
				require.Equal(t, "verified source_lost -2 m:sp", fmt.Sprint(ev.State, " ", ev.Reason, " ", ev.Value, " ", ev.Model, ":", ev.Control))
				return
			case <-time.After(patience):
				t.Fatal("it is not in the journal")
			}
		}
	})
}

// A Redis that stands still costs the value that was given, before the engine's
// time on the channel is over; and a stop, where that is asked for.
func TestSafeValueWhenRedisStandsStill(t *testing.T) {
	t.Parallel()
	server, d := storetest.Own(t), virtual.NewDevice()
	eng := safeSite(t, scripts.StoreConfig{URL: server.URL}, storetest.Site(t), d, model.ControlPolicy{Safe: new(-1.0), SafeOnStop: true})
	eventually(t, "after the start", holds(d, -1))
	control(t, eng, 50)
	server.Pause()
	eventually(t, "the safe value", holds(d, -1))
	server.Resume()
	eventually(t, "operated again", func() bool {
		_, err := eng.Control(t.Context(), model.Command{Model: "m", Control: "sp", Value: 60, Timeout: 2 * time.Second})
		return err == nil
	})
	require.NoError(t, eng.Stop(context.Background()))
	require.True(t, holds(d, -1)())
}
