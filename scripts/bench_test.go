package scripts_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// BenchmarkWrite is one batch of 500 changed points of one channel, bound to 5
// models, every tenth with an alarm rule that does not fire. It is for profiles;
// examples/bench compares the batch with other ways.
//
//	go test ./scripts -run '^$' -bench Write -cpuprofile cpu.out
func BenchmarkWrite(b *testing.B) {
	for _, store := range []struct {
		name string
		open func(b *testing.B) redis.UniversalClient
	}{
		{"managed", managed},
		{"embedded", func(b *testing.B) redis.UniversalClient { return storetest.Embedded(b) }},
	} {
		for _, variant := range []struct {
			name       string
			history    int64
			alarmEvery int
		}{{"full", 8 << 20, 10}, {"no-history", 0, 10}, {"no-alarms", 8 << 20, 0}, {"bare", 0, 0}, {"all-alarms", 0, 1}} {
			b.Run(store.name+"/"+variant.name, func(b *testing.B) {
				benchmarkWrite(b, store.open(b), variant.history, variant.alarmEvery)
			})
		}
	}
}

// managed starts a server as the engine does, with the settings that suit it.
func managed(b *testing.B) redis.UniversalClient {
	if _, ok := scripts.FindManagedBinary(); !ok {
		b.Skip("neither redis-server nor valkey-server is on PATH")
	}
	store, err := scripts.OpenStore(b.Context(), scripts.StoreConfig{Managed: &scripts.Managed{Persistence: scripts.PersistNone}}, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close(context.Background())) })
	return store.Client
}

// BenchmarkDirect is BenchmarkWrite without Lua, and with the comparison of both.
func BenchmarkDirect(b *testing.B) {
	for _, mode := range []scripts.SyncMode{scripts.SyncDirect, scripts.SyncShadow} {
		b.Run("managed/"+string(mode), func(b *testing.B) { benchmarkWrite(b, managed(b), 8<<20, 10, mode) })
		b.Run("embedded/"+string(mode), func(b *testing.B) { benchmarkWrite(b, storetest.Embedded(b), 8<<20, 10, mode) })
	}
}

func benchmarkWrite(b *testing.B, client redis.UniversalClient, history int64, alarmEvery int, mode ...scripts.SyncMode) {
	const models = 5
	ctx := b.Context()
	p, err := scripts.New(client, scripts.Options{Site: storetest.Site(b), HistoryBytes: history})
	require.NoError(b, err)
	require.NoError(b, p.Prepare(ctx))
	points := make([]model.Point, scripts.MaxBatch)
	samples := make([]model.Sample, len(points))
	instances := make([]model.Instance, models)
	for i := range points {
		m := &instances[i*models/len(points)]
		if m.ID == "" {
			m.ID, m.Measurements = fmt.Sprintf("m%d", i), map[string]string{}
		}
		id, name := fmt.Sprint(10001+i), fmt.Sprintf("value_%03d", i)
		points[i], samples[i].Point, m.Measurements[name] = model.Point{ID: id}, id, "1001:"+id
		if alarmEvery > 0 && i%alarmEvery == 0 {
			require.NoError(b, p.PutAlarmRule(ctx, model.AlarmRule{ID: "high", Model: m.ID, Point: name, Operator: model.Above, Threshold: 1e9}))
		}
	}
	require.NoError(b, p.PutPoints(ctx, "1001", points))
	for _, m := range instances {
		require.NoError(b, p.PutModel(ctx, m))
	}
	lease, err := p.Acquire(ctx, "1001", "engine", time.Hour)
	require.NoError(b, err)
	w := p.NewWriter(lease, points)
	for _, m := range mode {
		require.NoError(b, p.SetSyncMode(ctx, m, nil, scripts.Change{}))
	}
	write := func(turn int) {
		for i := range samples {
			samples[i].Value = float64(turn%1000)/8 + float64(i)
		}
		if _, warnings, err := w.Write(ctx, samples, false); err != nil || len(warnings) > 0 {
			b.Fatal(err, warnings)
		}
	}
	write(0)
	b.ReportAllocs()
	before, turn := redisCPU(b, client), 1
	for b.Loop() {
		write(turn)
		turn++
	}
	if used := redisCPU(b, client) - before; used > 0 {
		b.ReportMetric(used*1e6/float64(b.N*len(samples)), "redis-µs/point")
	}
	b.ReportMetric(float64(len(samples))*float64(b.N)/b.Elapsed().Seconds(), "points/s")
}

// redisCPU returns the CPU seconds, user and system, that the server has used;
// 0 on the embedded store, which has no CPU time of its own.
func redisCPU(b *testing.B, client redis.UniversalClient) float64 {
	text, err := client.Info(b.Context(), "cpu").Result()
	if err != nil {
		return 0
	}
	var sum float64
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			sum += n
		}
	}
	return sum
}
