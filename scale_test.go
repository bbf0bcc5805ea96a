package voltage_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

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

// plantOn is startPlant with a given name of the site.
func plantOn(t *testing.T, url, site string) *plant {
	t.Helper()
	p := &plant{site: simsite.New(simsite.Config{Speed: 5, Logger: testLog(t)})}
	require.NoError(t, p.site.Start(t.Context()))
	t.Cleanup(func() { p.site.Close(context.Background()) })
	channels := demo.Channels(p.site.Addr)
	for i := range channels {
		channels[i].Scan = 100 * time.Millisecond
	}
	var err error
	p.Engine, err = voltage.NewEngine(voltage.Config{Site: site, Store: scripts.StoreConfig{URL: url}, Channels: channels, Models: demo.Models(),
		Alarms: demo.Alarms(), Log: testLog(t), Lease: 2 * time.Second, HistoryQueue: 1 << 20})
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

// fresh reports whether every point is good and values go on since then.
func (p *plant) fresh(t *testing.T, then time.Time) bool {
	t.Helper()
	v, err := p.Values(t.Context(), "meter1")
	return err == nil && v["active_power"].Time.After(then) && p.allGood(t)
}

// overheat has the battery heat, or cool again. Right after a fail-over its
// channel may not be acquired again yet.
func (p *plant) overheat(t *testing.T, on float64) {
	t.Helper()
	eventually(t, "the battery takes the command", func() bool {
		_, err := p.Control(t.Context(), model.Command{Model: "bms1", Control: "inject_over_temperature", Value: on})
		return err == nil
	})
}

// goesOn is what a fail-over with an open alarm leaves to do: values are good
// again by themselves, commands work, and the alarm is the one from before.
func (p *plant) goesOn(t *testing.T, since time.Time) {
	t.Helper()
	eventually(t, "values are good again by themselves", func() bool { return p.fresh(t, since) })
	eventually(t, "commands work again", func() bool {
		r, err := p.Control(t.Context(), model.Command{Model: "pcs1", Control: "power_setpoint", Value: 20})
		return err == nil && r.State == model.CommandVerified
	})
	open, err := p.Alarms(t.Context())
	require.NoError(t, err)
	require.Len(t, open, 1)
	_, err = p.Acknowledge(t.Context(), open[0].ID, "anna", "")
	require.NoError(t, err)
	p.overheat(t, 0)
	eventually(t, "cooling closes the alarm", func() bool {
		open, err := p.Alarms(t.Context())
		return err == nil && len(open) == 0
	})
	eventually(t, "the callback has seen all of it", func() bool { return len(p.transitions("over_temperature")) >= 3 })
	require.Equal(t, []alarm.Transition{"raised", "acknowledged", "cleared"}, p.transitions("over_temperature"))
}

func TestEngineThroughASentinelFailover(t *testing.T) {
	t.Parallel()
	f := storetest.Sentinel(t)
	p := plantOn(t, f.URL, storetest.Site(t))
	eventually(t, "every point is good", func() bool { return p.allGood(t) })
	p.overheat(t, 1)
	eventually(t, "the alarm is raised", func() bool { return len(p.transitions("over_temperature")) == 1 })
	f.CaughtUp()
	f.Kill()
	f.Promoted()
	p.goesOn(t, time.Now())
}

// What a fail-over takes away that the configuration defines comes back without
// anybody's help, and so do values that do not change any more.
func TestEngineAfterAFailoverThatLosesTheLastMoments(t *testing.T) {
	t.Parallel()
	t.Run("values", func(t *testing.T) {
		t.Parallel()
		loseTheLastMoments(t, false)
	})
	t.Run("definitions", func(t *testing.T) {
		t.Parallel()
		loseTheLastMoments(t, true)
	})
}

func loseTheLastMoments(t *testing.T, definitions bool) {
	f := storetest.Sentinel(t)
	eng, err := voltage.NewEngine(voltage.Config{Site: storetest.Site(t), Store: scripts.StoreConfig{URL: f.URL}, Log: testLog(t), Lease: time.Minute,
		Channels: []channel.Config{{ID: "1", Points: []model.Point{{ID: "1"}, {ID: "2"}}}},
		Models:   []model.Instance{{ID: "m", Measurements: map[string]string{"x": "1:1"}}}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
	push := func(point string, v float64, q model.Quality) {
		t.Helper()
		require.NoError(t, eng.Push(t.Context(), "1", model.Sample{Point: point, Value: v, Quality: q}))
	}
	has := func(id, name string, want float64) func() bool {
		return func() bool {
			v, err := eng.Values(t.Context(), id)
			return err == nil && v[name].Value == want && v[name].Quality == model.Good
		}
	}
	push("1", 1, model.Good)
	eventually(t, "the value is there", has("m", "x", 1))
	push("1", 0, model.Offline)
	eventually(t, "its quality is", func() bool {
		v, err := eng.Values(t.Context(), "m")
		return err == nil && v["x"].Quality == model.Offline
	})
	f.CaughtUp()
	f.Cut()
	push("1", 2, model.Good)
	eventually(t, "the changed value is there", has("m", "x", 2))
	if definitions {
		require.NoError(t, eng.RegisterModel(model.Instance{ID: "late", Measurements: map[string]string{"y": "1:2"}}))
		require.NoError(t, eng.RegisterAlarm(alarm.Rule{ID: "high", Model: "late", Point: "y", Operator: model.Above, Threshold: 10}))
		push("2", 11, model.Good)
		eventually(t, "that of the new model too", has("late", "y", 11))
	}
	f.Kill()
	f.Promoted()
	eventually(t, "the changed value is there again, and good", has("m", "x", 2))
	if definitions {
		eventually(t, "the new model is there again, with its value", has("late", "y", 11))
		eventually(t, "and its alarm", func() bool {
			open, err := eng.Alarms(t.Context())
			return err == nil && len(open) == 1 && open[0].Rule == "high"
		})
	}
}

// slowDevice takes commands, each when the test lets it, and counts them.
type slowDevice struct {
	mu      sync.Mutex
	writes  map[float64]int
	proceed chan struct{}
}

func (d *slowDevice) Connect(context.Context) error { return nil }
func (d *slowDevice) Close(context.Context) error   { return nil }
func (d *slowDevice) Read(ctx context.Context) ([]model.Sample, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (d *slowDevice) Write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	d.mu.Lock()
	d.writes[w.Value]++
	d.mu.Unlock()
	select {
	case <-d.proceed:
		return channel.Outcome{Result: channel.Done}, nil
	case <-ctx.Done():
		return channel.Outcome{Result: channel.Sent}, ctx.Err()
	}
}

func (d *slowDevice) written(v float64) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes[v]
}

// A command that was executed, and that a fail-over shows as queued again, is
// not executed a second time, and nobody is told that it was not.
func TestNoCommandTwiceAfterAFailover(t *testing.T) {
	t.Parallel()
	f := storetest.Sentinel(t)
	device := &slowDevice{writes: map[float64]int{}, proceed: make(chan struct{})}
	eng, err := voltage.NewEngine(voltage.Config{Site: storetest.Site(t), Store: scripts.StoreConfig{URL: f.URL}, Log: testLog(t), Lease: time.Minute,
		Channels: []channel.Config{{ID: "1", Driver: func(channel.Setup) (channel.Driver, error) { return device, nil },
			Points: []model.Point{{ID: "sp", Kind: model.Control}}}},
		Models: []model.Instance{{ID: "m", Controls: map[string]string{"sp": "1:sp"}}}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
	submit := func(id string, v float64) {
		t.Helper()
		eventually(t, "the command is queued", func() bool {
			r, err := eng.Submit(t.Context(), model.Command{ID: id, Model: "m", Control: "sp", Value: v, Timeout: time.Minute})
			return err == nil && r.State != model.CommandRejected
		})
	}
	state := func(id string, want model.CommandState) func() bool {
		return func() bool {
			r, err := eng.Command(t.Context(), id)
			return err == nil && r.State == want
		}
	}
	eventually(t, "the channel is owned", func() bool {
		list, err := eng.Channels(t.Context())
		return err == nil && len(list) == 1 && list[0].State == model.ChannelOnline
	})
	submit("first", 1)
	eventually(t, "the device has the first", func() bool { return device.written(1) == 1 })
	submit("second", 2) // waits behind it
	f.CaughtUp()
	f.Cut()
	device.proceed <- struct{}{}
	eventually(t, "the device has the second", func() bool { return device.written(2) == 1 })
	device.proceed <- struct{}{}
	eventually(t, "it is done", state("second", model.CommandExecuted))
	f.Kill()
	f.Promoted()
	eventually(t, "it is not queued for ever", state("second", model.CommandUnknown))
	submit("third", 3)
	eventually(t, "the device has the third", func() bool { return device.written(3) == 1 })
	device.proceed <- struct{}{}
	eventually(t, "it is done", state("third", model.CommandExecuted))
	require.Equal(t, 1, device.written(1))
	require.Equal(t, 1, device.written(2))
}

// Two sites on one cluster, each on a node of its own: one of the nodes dies.
func TestEnginesOnACluster(t *testing.T) {
	t.Parallel()
	n := storetest.StartCluster(t, 1)
	var sites []string
	var plants []*plant
	for i := range 2 {
		sites = append(sites, n.SiteOn(i))
		plants = append(plants, plantOn(t, n.URL(), sites[i]))
	}
	for _, p := range plants {
		eventually(t, "every point is good", func() bool { return p.allGood(t) })
		p.overheat(t, 1)
		eventually(t, "the alarm is raised", func() bool { return len(p.transitions("over_temperature")) == 1 })
	}
	for i, m := range n.Masters {
		c := storetest.Client(t, m.URL)
		keys, err := c.Keys(t.Context(), "*").Result()
		require.NoError(t, err)
		for _, k := range keys {
			require.Less(t, i, 2, "the third node has %s", k)
			require.True(t, strings.HasPrefix(k, "{"+sites[i]+"}:"), "%s is on node %d", k, i)
		}
		if i < 2 {
			for _, k := range []string{"comsrv:%s:m", "comsrv:%s:status", "comsrv:%s:owner", "comsrv:%s:fence", "point:%s"} {
				require.Contains(t, keys, "{"+sites[i]+"}:"+fmt.Sprintf(k, demo.ChannelID(simsite.DeviceMeter)))
			}
			for _, k := range []string{"modsrv:meter1:measurement", "modsrv:meter1:ts", "model:meter1", "model:enabled", "mapping:c2m",
				"mapping:m2c", "mapping:version", "alarm:active", "alarm:state", "alarm:journal", "alarm:counter", "command:journal",
				"hissrv:queue", "site:generation", "site:schema", "lua:version:data_sync", "lua:sha:data_sync"} {
				require.Contains(t, keys, "{"+sites[i]+"}:"+k)
			}
		}
	}
	n.CaughtUp(0)
	n.Masters[0].Kill()
	n.Promoted(0)
	since := time.Now()
	for _, p := range plants {
		p.goesOn(t, since)
	}
}
