package scripts_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// BenchmarkAlarmFlood raises an alarm with each point of a batch.
func BenchmarkAlarmFlood(b *testing.B) {
	b.Run("managed", func(b *testing.B) { benchmarkFlood(b, managed(b)) })
	b.Run("embedded", func(b *testing.B) { benchmarkFlood(b, storetest.Embedded(b)) })
}

func benchmarkFlood(b *testing.B, client redis.UniversalClient) {
	ctx := b.Context()
	now := time.UnixMilli(start)
	p, err := scripts.New(client, scripts.Options{Site: storetest.Site(b), Now: func() time.Time { return now }})
	require.NoError(b, err)
	require.NoError(b, p.Prepare(ctx))
	points := make([]model.Point, scripts.MaxBatch)
	samples := make([]model.Sample, len(points))
	m := model.Instance{ID: "m1", Measurements: map[string]string{}}
	for i := range points {
		id, name := fmt.Sprint(10001+i), fmt.Sprintf("value_%03d", i)
		points[i], samples[i].Point, m.Measurements[name] = model.Point{ID: id}, id, "1001:"+id
		require.NoError(b, p.PutAlarmRule(ctx, model.AlarmRule{ID: "high", Model: m.ID, Point: name, Operator: model.Above, Threshold: 100}))
	}
	require.NoError(b, p.PutPoints(ctx, "1001", points))
	require.NoError(b, p.PutModel(ctx, m))
	lease, err := p.Acquire(ctx, "1001", "engine", time.Hour)
	require.NoError(b, err)
	w := p.NewWriter(lease, points)
	write := func(value float64) {
		for i := range samples {
			samples[i].Value = value
		}
		if _, warnings, err := w.Write(ctx, samples, false); err != nil || len(warnings) > 0 {
			b.Fatal(err, warnings)
		}
	}
	rest := func() {
		for more := true; more; {
			more, _, err = p.AlarmTick(ctx)
			require.NoError(b, err)
		}
	}
	write(0)
	rest()
	for b.Loop() {
		write(200)
		b.StopTimer()
		_, err := p.AcknowledgeAll(ctx, model.AlarmQuery{}, "bench", "")
		require.NoError(b, err)
		now = now.Add(2 * time.Minute) // no chattering
		write(0)
		rest()
		require.NoError(b, client.Del(ctx, "{"+p.Site()+"}:notification:queue").Err())
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(samples)), "µs/alarm")
}
