package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// TestRun runs everything for a moment: every way works, and every figure is there.
func TestRun(t *testing.T) {
	t.Parallel()
	storetest.Redis(t) // skips without the binary, fails in CI
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	require.NoError(t, run(ctx, options{seconds: 0.05, rounds: 1, parallel: 3, channels: 4, probes: 5, json: true}, &out, io.Discard))
	var r report
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))

	require.Len(t, r.Throughput, 7)
	for _, row := range r.Throughput {
		require.Positive(t, row.Points.Median, row.Way)
	}
	require.Less(t, r.Throughput.get(wayBatch).Allocations.Median, 1.0, "the batch path allocates per point")
	require.Len(t, r.Ratios, 10)
	require.Len(t, r.Embedded, 2)
	require.Positive(t, r.Memory.Definitions)
	require.Positive(t, r.Memory.Values)
	require.Positive(t, r.Memory.History)
	require.Positive(t, r.Latency.Loaded.Asked)
	require.Positive(t, r.Latency.Loaded.Alarms.Probes)
	require.Positive(t, r.Latency.Loaded.Commands.Probes)
	require.Empty(t, r.Latency.Loaded.Alarms.Failure+r.Latency.Loaded.Commands.Failure)

	var text bytes.Buffer
	require.NoError(t, r.writeText(&text))
	require.Contains(t, text.String(), "target ≥ 25: measured ")
}

// TestWritesAreTheSame compares what the ways leave behind.
func TestWritesAreTheSame(t *testing.T) {
	t.Parallel()
	storetest.Redis(t) // skips without the binary, fails in CI
	ctx := t.Context()
	store, url, err := openRedis(ctx, "", nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	b := &bench{store: store, url: url, progress: io.Discard, name: "bench-same"}
	d := newDefinitions(2)
	plane, err := b.newPlane(ctx, store.Client, "bench-same", historyBytes)
	require.NoError(t, err)
	require.NoError(t, d.put(ctx, plane))
	batch, err := newBatches(ctx, plane, d)
	require.NoError(t, err)
	require.NoError(t, batch.once(ctx))
	for c := range d.channels {
		p := newPipe(d, "bench-pipe", c, false, true)
		for _, args := range p.next() {
			require.NoError(t, store.Client.Do(ctx, args...).Err())
		}
	}
	hash := func(name string) map[string]string {
		h, err := store.Client.HGetAll(ctx, name).Result()
		require.NoError(t, err)
		require.NotEmpty(t, h, name)
		return h
	}
	for _, channel := range d.channels {
		require.Equal(t, hash("{bench-same}:comsrv:"+channel+":m"), hash("{bench-pipe}:comsrv:"+channel+":m"))
	}
	for _, m := range d.models {
		require.Equal(t, hash("{bench-same}:modsrv:"+m.ID+":measurement"), hash("{bench-pipe}:modsrv:"+m.ID+":measurement"))
		require.Len(t, hash("{bench-pipe}:modsrv:"+m.ID+":ts"), len(hash("{bench-same}:modsrv:"+m.ID+":ts")))
	}
	ours, err := store.Client.XRange(ctx, "{bench-same}:hissrv:queue", "-", "+").Result()
	require.NoError(t, err)
	theirs, err := store.Client.XRange(ctx, "{bench-pipe}:hissrv:queue", "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, ours, len(d.channels))
	require.Len(t, theirs, len(d.channels))
	for i := range ours {
		require.Equal(t, lines(ours[i].Values["points"]), lines(theirs[i].Values["points"]))
	}

	require.NoError(t, b.clean(ctx))
	left, err := store.Client.Keys(ctx, "{bench-same*").Result()
	require.NoError(t, err)
	require.Empty(t, left)
}

func lines(text any) [][]byte { return bytes.Split([]byte(text.(string)), []byte("\n")) }

func TestFigures(t *testing.T) {
	t.Parallel()
	require.Equal(t, figure{Median: 2, Min: 1, Max: 9}, figureOf([]float64{9, 1, 2}))
	require.Equal(t, figure{Median: 3, Min: 1, Max: 9}, figureOf([]float64{9, 1, 2, 4}))
	require.Equal(t, figure{}, figureOf(nil))

	var s samples
	for i := range 100 {
		s.add(time.Duration(100-i) * time.Millisecond)
	}
	require.Equal(t, distribution{Probes: 100, P50: 50, P99: 99, Max: 100}, s.distribution())

	r := newRatio("r", []float64{10, 30, 50}, []float64{1, 1, 2}).atLeast("target", 25).atMost("aim", 1.5)
	require.Equal(t, figure{Median: 25, Min: 10, Max: 30}, r.figure)
	require.Equal(t, "target ≥ 25: measured 25, met; aim ≤ 1.5: measured 25, NOT met", r.verdicts())
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	good := options{seconds: 1, rounds: 1, parallel: 1, channels: 1, probes: 1}
	require.NoError(t, good.validate())
	bad := good
	bad.rounds = 0
	require.ErrorIs(t, bad.validate(), errUsage)
	bad = good
	bad.only = "speed"
	require.ErrorIs(t, bad.validate(), errUsage)
	good.redis = "redis://127.0.0.1:1"
	require.ErrorIs(t, run(t.Context(), good, io.Discard, io.Discard), scripts.ErrStoreUnavailable)
}
