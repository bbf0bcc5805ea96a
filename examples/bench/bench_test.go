package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// TestMain lets this program be the Modbus devices, as main does.
func TestMain(m *testing.M) {
	if os.Getenv(peerVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestRun runs everything for a moment: every way works, and every figure is there.
// Nothing runs beside it, for it counts the allocations of the process.
func TestRun(t *testing.T) {
	if storetest.Raced {
		t.Skip("what is measured here says nothing under the race detector; what is used here has tests of its own")
	}
	storetest.Redis(t) // skips without the binary, fails in CI
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	require.NoError(t, run(ctx, options{seconds: 0.05, rounds: 1, parallel: 3, channels: 4, probes: 5, clients: 20, json: true}, &out, io.Discard))
	var r report
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))

	require.Len(t, r.Throughput, 12)
	for _, row := range r.Throughput {
		require.Positive(t, row.Points.Median, row.Way)
	}
	require.Less(t, r.Throughput.get(wayBatch).Allocations.Median, 1.0, "the batch path allocates per point")
	require.Len(t, r.Ratios, 19)
	require.Positive(t, r.Statistics.Call.Median)
	require.Positive(t, r.Statistics.RedisShare) // how much it is, a busy machine decides
	require.Positive(t, r.Statistics.ClientShare)
	require.Len(t, r.Embedded, 2)
	require.Positive(t, r.Memory.Definitions)
	require.Positive(t, r.Memory.Values)
	require.Positive(t, r.Memory.History)
	require.Positive(t, r.Latency.Loaded.Asked)
	require.Positive(t, r.Latency.Loaded.Alarms.Probes)
	require.Positive(t, r.Latency.Loaded.Commands.Probes)
	require.Empty(t, r.Latency.Loaded.Alarms.Failure+r.Latency.Loaded.Commands.Failure)

	require.Len(t, r.Modbus.Rates, 5)
	for _, row := range r.Modbus.Rates {
		require.Positive(t, row.Points.Median, row.Way)
	}
	require.Len(t, r.Modbus.Loads, 2)
	for _, l := range r.Modbus.Loads {
		require.Positive(t, l.Registers)
		require.Positive(t, l.Update.Probes, "no update brought a time stamp")
		require.Zero(t, l.Lost)
	}
	require.Positive(t, r.Modbus.Redis)
	ws := r.WebSockets
	require.Equal(t, 1, ws.Deaf)
	require.Positive(t, ws.Values.Probes)
	require.Zero(t, ws.Gone)

	u := r.Update
	require.Empty(t, u.Activate.Failure+u.Rollback.Failure+u.Flush.Failure)
	require.Positive(t, u.Activate.Probes)
	require.Positive(t, u.Rollback.Probes)
	require.Positive(t, u.Flush.Probes)
	require.Positive(t, u.Pushed)
	require.True(t, u.Goal.Met, "%+v", u)

	var text bytes.Buffer
	require.NoError(t, r.writeText(&text))
	require.Contains(t, text.String(), "target ≥ 25: measured ")
}

// TestAlarms runs the part of the alarms on a small site.
func TestAlarms(t *testing.T) {
	if storetest.Raced {
		t.Skip("what is measured here says nothing under the race detector; what is used here has tests of its own")
	}
	t.Parallel()
	storetest.Redis(t) // skips without the binary, fails in CI
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), options{seconds: 0.05, rounds: 1, parallel: 1, channels: 1, probes: 5, clients: 1, only: "alarms", json: true}, &out, io.Discard))
	var r report
	require.NoError(t, json.Unmarshal(out.Bytes(), &r))
	for _, f := range []alarmFigures{r.Alarms.Redis, r.Alarms.Embedded} {
		require.Len(t, f.Costs, 6)
		for _, row := range f.Costs {
			require.Positive(t, row.Points.Median, row.Way)
		}
		require.Len(t, f.Ratios, 5)
		for _, l := range []alarmLatency{f.Rules, f.Without} {
			require.Positive(t, l.Latency.Probes)
			require.Empty(t, l.Latency.Failure)
		}
		require.NotEmpty(t, f.Floods)
		for _, x := range f.Floods {
			require.Equal(t, pointsPerChannel, x.Alarms)
			require.Positive(t, x.Seen)
			require.Positive(t, x.Cleared)
		}
	}
	require.Len(t, r.Alarms.Redis.Floods, floods)
	require.Positive(t, r.Alarms.Redis.Floods[floods-1].Journalled)
	var text bytes.Buffer
	require.NoError(t, r.writeText(&text))
	require.Contains(t, text.String(), "500 alarms at once, 3: seen by OnAlarm after ")
}

// TestWritesAreTheSame compares what the ways leave behind.
func TestWritesAreTheSame(t *testing.T) {
	t.Parallel()
	storetest.Redis(t) // skips without the binary, fails in CI
	ctx := t.Context()
	store, url, err := openRedis(ctx, "", nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	d := newDefinitions(2)
	keys := func(pattern string) []string {
		keys, err := store.Client.Keys(ctx, pattern).Result()
		require.NoError(t, err)
		return keys
	}
	hash := func(name string) map[string]string {
		h, err := store.Client.HGetAll(ctx, name).Result()
		require.NoError(t, err)
		require.NotEmpty(t, h, name)
		return h
	}
	for _, all := range []bool{true, false} {
		for _, mode := range []scripts.SyncMode{scripts.SyncLua, scripts.SyncDirect, scripts.SyncShadow} {
			name := fmt.Sprintf("bench-%s-%t", mode, all)
			b := &bench{store: store, url: url, progress: io.Discard, name: name}
			ours, theirs := "{"+name+"}:", "{"+name+"-pipe}:"
			plane, err := b.newPlane(ctx, store.Client, name, historyBytes)
			require.NoError(t, err)
			require.NoError(t, d.put(ctx, plane))
			require.NoError(t, plane.SetInitialSyncModes(ctx, map[string]scripts.SyncMode{"*": mode}))
			batch, err := newBatches(ctx, plane, d)
			require.NoError(t, err)
			require.NoError(t, batch.of(d, all).once(ctx))
			for c := range d.channels {
				parts := partsOf(d.points[c], all)
				p := newPipe(d, name+"-pipe", c, parts[1%len(parts)], pipeline{all: all, history: true})
				for _, args := range p.next() {
					require.NoError(t, store.Client.Do(ctx, args...).Err())
				}
			}
			for _, channel := range d.channels {
				require.Equal(t, hash(ours+"comsrv:"+channel+":m"), hash(theirs+"comsrv:"+channel+":m"))
			}
			for _, m := range d.models {
				require.Equal(t, hash(ours+"modsrv:"+m.ID+":measurement"), hash(theirs+"modsrv:"+m.ID+":measurement"))
				require.Equal(t, slices.Sorted(maps.Keys(hash(ours+"modsrv:"+m.ID+":ts"))), slices.Sorted(maps.Keys(hash(theirs+"modsrv:"+m.ID+":ts"))))
			}
			have, err := store.Client.XRange(ctx, ours+"hissrv:queue", "-", "+").Result()
			require.NoError(t, err)
			want, err := store.Client.XRange(ctx, theirs+"hissrv:queue", "-", "+").Result()
			require.NoError(t, err)
			require.Len(t, have, len(d.channels))
			require.Len(t, want, len(d.channels))
			for i := range have {
				require.Equal(t, lines(want[i].Values["points"]), lines(have[i].Values["points"]))
			}
			require.NotEmpty(t, keys(ours+"*"))
			require.NoError(t, b.clean(ctx))
			require.Empty(t, keys("{"+name+"*"))
		}
	}
}

// TestLedger shows that the check of the history finds what is wrong.
func TestLedger(t *testing.T) {
	t.Parallel()
	d := newDefinitions(1)
	feeds := []*feed{newFeed(d.points[0], nil)}
	entry := func(count int, turns ...int64) map[string]any {
		var b strings.Builder
		for _, turn := range turns {
			m, name := d.nameOf(0, 7)
			fmt.Fprintf(&b, "%s:%s\t%s\n", m, name, model.FormatValue(valueOf(turn, 7)))
		}
		return map[string]any{"channel": "1001", "count": strconv.Itoa(count), "points": b.String()}
	}
	for _, c := range []struct {
		name    string
		entries []map[string]any
		want    ledger
	}{
		{"good", []map[string]any{entry(2, 1, 2), entry(3, 3)}, ledger{Read: 3}},
		{"missing", []map[string]any{entry(2, 1, 3)}, ledger{Read: 2, Missing: 1}},
		{"missing at the end", []map[string]any{entry(1, 1)}, ledger{Read: 1, Missing: 2}},
		{"repeated", []map[string]any{entry(2, 1, 2), entry(4, 2, 3)}, ledger{Read: 4, Repeated: 1}},
		{"late", []map[string]any{entry(3, 1, 3, 2)}, ledger{Read: 3, Missing: 1, Repeated: 1}},
		{"never pushed", []map[string]any{entry(4, -5, 1, 2, 3)}, ledger{Read: 4, Wrong: 1}},
		{"gap", []map[string]any{entry(2, 1, 2), entry(9, 3)}, ledger{Read: 3, Gaps: 1}},
	} {
		l := newLedger(nil, "", d)
		for _, e := range c.entries {
			l.entry(e)
		}
		feeds[0].turn = 3
		for i := range l.turns {
			if i != 7 {
				l.turns[i] = 3
			}
		}
		l.close(feeds)
		have := ledger{Read: l.Read, Missing: l.Missing, Repeated: l.Repeated, Wrong: l.Wrong, Gaps: l.Gaps}
		require.Equal(t, c.want, have, c.name)
	}
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
	good := options{seconds: 1, rounds: 1, parallel: 1, channels: 1, probes: 1, clients: 1}
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
