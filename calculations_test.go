package voltage_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

func formulas(pairs ...string) map[string]model.Calculation {
	m := map[string]model.Calculation{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = model.Calculation{Expression: pairs[i+1], Unit: "kW"}
	}
	return m
}

// two PV inverters of a plant, whose values are pushed.
func pvPlant() voltage.Config {
	return voltage.Config{
		Channels: []channel.Config{{ID: "1", Points: []model.Point{{ID: "1", Unit: "kW"}, {ID: "2", Unit: "kW"}}}},
		Models: []model.Instance{
			{ID: "plant", Calculations: formulas("pv_power", "sum(children.power)", "double", "2 * pv_power", "known", "sum(skip_bad(children.power))",
				"high", "pv_power > 25", "energy", "integral(pv_power, s)")},
			{ID: "pv1", Parent: "plant", Measurements: map[string]string{"power": "1:1"}},
			{ID: "pv2", Parent: "plant", Measurements: map[string]string{"power": "1:2"}},
			{ID: "report", Calculations: formulas("power_MW", "plant.pv_power / 1000")},
		},
		Alarms: []alarm.Rule{{ID: "high", Model: "plant", Point: "double", Operator: model.Above, Threshold: 50}},
	}
}

func startEngine(t *testing.T, cfg voltage.Config) *voltage.Engine {
	t.Helper()
	cfg.Log = testLog(t)
	eng, err := voltage.NewEngine(cfg)
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
	return eng
}

// valued waits for a value of a model.
func valued(t *testing.T, eng *voltage.Engine, id, name string, ok func(model.Value) bool) model.Value {
	t.Helper()
	var last model.Value
	eventually(t, id+":"+name, func() bool {
		values, err := eng.Values(t.Context(), id)
		if err != nil {
			return false
		}
		last = values[name]
		return !last.Time.IsZero() && ok(last)
	})
	return last
}

func is(value float64, q model.Quality) func(model.Value) bool {
	return func(v model.Value) bool { return v.Value == value && v.Quality == q }
}

func TestCalculations(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, _ *storetest.Server) {
		cfg := pvPlant()
		cfg.Site, cfg.Store = storetest.Site(t), store
		eng := startEngine(t, cfg)
		require.NoError(t, eng.Push(t.Context(), "1", model.Sample{Point: "1", Value: 10}, model.Sample{Point: "2", Value: 20}))
		v := valued(t, eng, "plant", "pv_power", is(30, model.Good))
		require.Equal(t, "kW", v.Unit)
		valued(t, eng, "plant", "double", is(60, model.Good))
		valued(t, eng, "plant", "high", is(1, model.Good))
		valued(t, eng, "report", "power_MW", is(0.03, model.Good))
		eventually(t, "the alarm", func() bool {
			open, err := eng.Alarms(t.Context())
			return err == nil && len(open) == 1 && open[0].Point == "double"
		})
		// The energy grows although the power stands still.
		first := valued(t, eng, "plant", "energy", func(v model.Value) bool { return v.Value > 0 })
		valued(t, eng, "plant", "energy", func(v model.Value) bool { return v.Value > first.Value })

		// What is bad makes the sum bad, and what skips it uncertain.
		require.NoError(t, eng.Push(t.Context(), "1", model.Sample{Point: "2", Quality: model.Invalid}))
		valued(t, eng, "plant", "pv_power", func(v model.Value) bool { return v.Quality == model.Invalid })
		valued(t, eng, "plant", "known", is(10, model.Uncertain))
		valued(t, eng, "plant", "energy", func(v model.Value) bool { return v.Quality == model.Invalid })

		// A child that comes later counts, and one that goes does not.
		require.NoError(t, eng.RegisterModel(model.Instance{ID: "pv3", Parent: "plant", Calculations: formulas("power", "5")}))
		require.NoError(t, eng.RemoveModel("pv2"))
		valued(t, eng, "plant", "pv_power", is(15, model.Good))

		// Without calculations, nothing is left of them.
		require.NoError(t, eng.RegisterModel(model.Instance{ID: "pv3", Parent: "plant"}))
		valued(t, eng, "plant", "pv_power", is(10, model.Good))
		channels, err := eng.Channels(t.Context())
		require.NoError(t, err)
		require.Len(t, channels, 3, "%v", channels) // 1, calc.plant, calc.report

		require.ErrorContains(t, eng.RegisterModel(model.Instance{ID: "pv1", Parent: "plant", Calculations: formulas("power", "plant.double")}), "a circle: ")
		require.ErrorContains(t, eng.RegisterModel(model.Instance{ID: "plant", Parent: "pv1"}), "parent: a circle: plant is a part of pv1 is a part of plant")
		require.ErrorIs(t, eng.RegisterModel(model.Instance{ID: "x", Calculations: formulas("power", "1 +")}), model.ErrInvalid)
		require.ErrorIs(t, eng.RegisterChannel(channel.Config{ID: "calc.x"}), model.ErrInvalid)
		require.ErrorIs(t, eng.RemoveChannel("calc.plant"), model.ErrInvalid)
	})
}

// energySite computes 1 kWh a second.
func energySite(t *testing.T, engine string, store scripts.StoreConfig, site string) voltage.Config {
	return voltage.Config{Site: site, Engine: engine, Store: store, Lease: time.Second,
		Channels: []channel.Config{{ID: "1", Driver: virtual.New(), Scan: 50 * time.Millisecond, Points: []model.Point{{ID: "1", Address: "constant:3600"}}}},
		Models: []model.Instance{{ID: "m", Measurements: map[string]string{"power": "1:1"},
			Calculations: map[string]model.Calculation{"energy": {Expression: "integral(power, h)"}, "mean": {Expression: "moving_average(power, 60s)"}}}}}
}

// The energy goes on after a restart where it was, and counts no second twice.
func TestEnergyOverRestart(t *testing.T) {
	t.Parallel()
	server, site := storetest.Own(t), storetest.Site(t)
	store := scripts.StoreConfig{URL: server.URL}
	began := time.Now()
	last := 0.0
	for range 3 {
		cfg := energySite(t, "engine", store, site)
		cfg.Log = testLog(t)
		eng, err := voltage.NewEngine(cfg)
		require.NoError(t, err)
		require.NoError(t, eng.Start(t.Context()))
		v := valued(t, eng, "m", "energy", func(v model.Value) bool { return v.Quality == model.Good && v.Value > last+0.5 })
		require.LessOrEqual(t, v.Value, time.Since(began).Seconds()+0.01)
		last = v.Value
		require.NoError(t, eng.Stop(context.Background()))
	}
}

// Data that is lost is no reason to count from zero.
func TestEnergyOverLostData(t *testing.T) {
	t.Parallel()
	server, site := storetest.Own(t), storetest.Site(t)
	eng := startEngine(t, energySite(t, "engine", scripts.StoreConfig{URL: server.URL}, site))
	first := valued(t, eng, "m", "energy", func(v model.Value) bool { return v.Quality == model.Good && v.Value > 1 })
	options, err := redis.ParseURL(server.URL)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	require.NoError(t, client.FlushAll(t.Context()).Err())
	var lowest float64
	valued(t, eng, "m", "energy", func(v model.Value) bool {
		if v.Quality == model.Good && (lowest == 0 || v.Value < lowest) {
			lowest = v.Value
		}
		return v.Quality == model.Good && v.Value > first.Value+1
	})
	require.GreaterOrEqual(t, lowest, first.Value)
}

// Of two engines with the same models one computes, and when it ends the other
// goes on.
func TestEnergyOfTwoEngines(t *testing.T) {
	t.Parallel()
	server, site := storetest.Own(t), storetest.Site(t)
	store := scripts.StoreConfig{URL: server.URL}
	began := time.Now()
	a := startEngine(t, energySite(t, "a", store, site))
	b := startEngine(t, energySite(t, "b", store, site))
	first := valued(t, b, "m", "energy", func(v model.Value) bool { return v.Quality == model.Good && v.Value > 1 })
	require.LessOrEqual(t, first.Value, time.Since(began).Seconds()+0.01)
	require.NoError(t, a.Stop(context.Background()))
	v := valued(t, b, "m", "energy", func(v model.Value) bool { return v.Quality == model.Good && v.Value > first.Value+1 })
	require.LessOrEqual(t, v.Value, time.Since(began).Seconds()+0.01)
}

// What a dead engine left behind as good is nothing to compute with.
func TestCalculationOfADeadChannel(t *testing.T) {
	t.Parallel()
	server, site := storetest.Own(t), storetest.Site(t)
	store := scripts.StoreConfig{URL: server.URL}
	cfg := energySite(t, "a", store, site)
	plane := func() *scripts.Plane {
		return startEngine(t, voltage.Config{Site: site, Engine: "b", Store: store}).Plane()
	}()
	require.NoError(t, plane.PutPoints(t.Context(), "1", cfg.Channels[0].Points))
	require.NoError(t, plane.PutModel(t.Context(), model.Instance{ID: "m", Measurements: map[string]string{"power": "1:1"}}))
	require.NoError(t, plane.Reload(t.Context()))
	lease, err := plane.Acquire(t.Context(), "1", "dead", time.Minute)
	require.NoError(t, err)
	_, _, err = plane.NewWriter(lease, cfg.Channels[0].Points).Write(t.Context(), []model.Sample{{Point: "1", Value: 5}}, false)
	require.NoError(t, err)
	refs := []model.Ref{{Owner: "m", Name: "power"}, {Owner: "m", Name: "nothing"}, {Owner: "none", Name: "power"}}
	values, now, err := plane.PointValues(t.Context(), refs)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), now, time.Minute)
	require.Equal(t, model.Value{Value: 5}, values[0])
	require.Equal(t, model.Bad, values[1].Quality)
	require.Equal(t, model.Bad, values[2].Quality)
	require.NoError(t, plane.Renew(t.Context(), lease, time.Minute, scripts.Field{Name: "state", Value: "online"}))
	require.NoError(t, plane.Release(t.Context(), lease)) // as when a lease runs out
	values, _, err = plane.PointValues(t.Context(), refs)
	require.NoError(t, err)
	require.Equal(t, model.Offline, values[0].Quality)
}

// How long a change of an input takes to become a change of what is computed.
func BenchmarkCalculationLatency(b *testing.B) {
	server := storetest.Own(b)
	cfg := pvPlant()
	cfg.Site, cfg.Store = storetest.Site(b), scripts.StoreConfig{URL: server.URL}
	eng, err := voltage.NewEngine(cfg)
	require.NoError(b, err)
	changed := make(chan string, 1024)
	eng.OnUpdate(func(_ context.Context, u model.Update) {
		for _, p := range u.Points {
			if u.Model == "plant" && p.Name == "double" {
				changed <- p.Value
			}
		}
	})
	require.NoError(b, eng.Start(b.Context()))
	defer func() { require.NoError(b, eng.Stop(context.Background())) }()
	i := 0
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		<-time.After(25 * time.Millisecond) // a quiet time, as between changes
		b.StartTimer()
		i++
		began := time.Now()
		require.NoError(b, eng.Push(b.Context(), "1", model.Sample{Point: "1", Value: float64(i)}, model.Sample{Point: "2", Value: 0}))
		for want := fmt.Sprintf("%d.000000", 2*i); <-changed != want; {
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/p99")
}
