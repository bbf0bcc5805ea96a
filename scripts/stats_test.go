package scripts_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// scriptStats returns one script's statistics in this process.
func scriptStats(p *scripts.Plane, name string) scripts.ScriptStats {
	for _, s := range p.Stats() {
		if s.Script == name {
			return s
		}
	}
	return scripts.ScriptStats{Script: name}
}

func storedStats(t *testing.T, p *scripts.Plane, name string) scripts.ScriptStats {
	t.Helper()
	s, err := p.StoredStats(t.Context(), name)
	require.NoError(t, err)
	return s
}

func writeOne(t *testing.T, w *scripts.Writer, value float64) {
	t.Helper()
	_, _, err := w.Write(t.Context(), []model.Sample{sample("1", value), sample("2", value)}, false)
	require.NoError(t, err)
}

func TestStats(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testStats)
}

func testStats(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	p, h := tap(t, s, scripts.Options{})
	own, err := scripts.Scripts()
	require.NoError(t, err)
	version := ""
	for _, script := range own {
		if script.Name == "data_sync" {
			version = script.Version
		}
	}
	require.Empty(t, p.Stats())
	began := time.Now()
	w := p.NewWriter(s.lease, s.points)
	for i := range 10 {
		writeOne(t, w, float64(i))
	}
	got := scriptStats(p, "data_sync")
	require.EqualValues(t, 10, got.Calls)
	require.EqualValues(t, 20, got.Points)
	require.Zero(t, got.Errors+got.Lost)
	require.Empty(t, got.Refused)
	require.Positive(t, got.Total)
	require.LessOrEqual(t, got.Max, got.Total)
	require.GreaterOrEqual(t, got.Max, got.Mean())
	require.Equal(t, got.Total/20, got.PerPoint())
	lastIs := func(last time.Time) { // the site's clock stands still
		require.WithinRange(t, last, time.UnixMilli(start-1).Add(-time.Since(began)), time.UnixMilli(start))
	}
	lastIs(got.Last)
	require.LessOrEqual(t, got.Quantile(0.5), got.Quantile(1))
	require.Len(t, got.Versions, 1)
	require.Equal(t, version, got.Versions[0].Version)
	require.EqualValues(t, 10, got.Versions[0].Calls)

	// a reply that is lost counts apart; the repetition stores nothing again
	var once sync.Once
	h.set(nil, func(cmd redis.Cmder) (err error) {
		if operation(cmd) == "batch" {
			once.Do(func() { err = errTorn })
		}
		return err
	})
	writeOne(t, w, 11)
	got = scriptStats(p, "data_sync")
	require.EqualValues(t, 11, got.Calls)
	require.EqualValues(t, 1, got.Lost)
	require.EqualValues(t, 22, got.Points)
	require.Equal(t, map[string]int64{"DUPLICATE": 1}, got.Refused)
	h.set(nil, nil)

	// other definitions, and scripts that are gone from the cache
	require.NoError(t, s.PutModel(t.Context(), model.Instance{ID: "m2", Measurements: map[string]string{"x": "1001:1"}}))
	writeOne(t, w, 12)
	h.set(func() func(redis.Cmder) error { // the cache is the server's, which other tests use as well
		var once sync.Once
		return func(cmd redis.Cmder) (err error) {
			if operation(cmd) == "batch" {
				once.Do(func() { err = noScript{} })
			}
			return err
		}
	}(), nil)
	writeOne(t, w, 13)
	h.set(nil, nil)
	got = scriptStats(p, "data_sync")
	require.EqualValues(t, 15, got.Calls)
	require.Equal(t, map[string]int64{"DUPLICATE": 1, "MAPPING": 1, "NOSCRIPT": 1}, got.Refused)
	require.Zero(t, got.Errors)
	require.EqualValues(t, 26, got.Points)

	// an error of the script
	require.NoError(t, client.Del(t.Context(), s.key("comsrv:1001:fence")).Err())
	require.NoError(t, client.Set(t.Context(), s.key("comsrv:1001:fence"), "text", 0).Err())
	_, _, err = w.Write(t.Context(), []model.Sample{sample("1", 14)}, false)
	require.Error(t, err)
	got = scriptStats(p, "data_sync")
	require.EqualValues(t, 16, got.Calls)
	require.EqualValues(t, 1, got.Errors)
	require.EqualValues(t, 1, got.Versions[0].Errors)
	require.EqualValues(t, 26, got.Points)

	// all of it on the store
	require.NoError(t, p.FlushStats(t.Context()))
	stored := storedStats(t, p, "data_sync")
	require.InDelta(t, got.Total, stored.Total, float64(time.Microsecond))
	require.InDelta(t, got.Max, stored.Max, float64(time.Microsecond))
	lastIs(stored.Last)
	require.Equal(t, []scripts.ScriptStats{{Script: "data_sync", Version: version, Calls: 16, Errors: 1, Last: stored.Last}}, stored.Versions)
	got.Total, got.Max, got.Last, got.Versions = stored.Total, stored.Max, stored.Last, stored.Versions
	require.Equal(t, got, stored)
	fields := s.hash(t, "lua:stats:data_sync")
	require.Equal(t, "16", fields["count"])
	require.Equal(t, "16", fields["count:"+version])
	require.Regexp(t, `^\d+\.\d{3}$`, fields["total_time"])
	require.Regexp(t, `^\d+\.\d{3}$`, fields["max_time"])
	require.Equal(t, "16", fields["le:5000"])

	// nothing came since
	require.NoError(t, p.FlushStats(t.Context()))
	require.Equal(t, stored, storedStats(t, p, "data_sync"))

	_, err = p.StoredStats(t.Context(), "nothing")
	require.ErrorIs(t, err, scripts.ErrNotFound)
	none, err := p.StoredStats(t.Context(), "rule_engine")
	require.NoError(t, err)
	require.Zero(t, none.Calls)
}

type noScript struct{}

func (noScript) Error() string { return "NOSCRIPT No matching script." }
func (noScript) RedisError()   {}

// Several engines add up, at the same time as well.
func TestStatsOfTwoEngines(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		const rounds, engines = 20, 3
		require.NoError(t, s.FlushStats(t.Context()))
		before := storedStats(t, s.Plane, "channel_owner")
		var group sync.WaitGroup
		planes := make([]*scripts.Plane, engines)
		for i := range planes {
			planes[i], _ = tap(t, s, scripts.Options{})
			group.Go(func() {
				for range rounds {
					_, err := planes[i].Acquire(t.Context(), "1001", "engine", time.Minute)
					if err != nil {
						t.Error(err)
					}
					// others may get in the way more often than it is tried: then it is the next one's
					if err := planes[i].FlushStats(t.Context()); err != nil && !errors.Is(err, redis.TxFailedErr) {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		sum, total, longest := before.Calls, before.Total, before.Max
		for _, p := range planes {
			require.NoError(t, p.FlushStats(t.Context()))
			got := scriptStats(p, "channel_owner")
			require.EqualValues(t, rounds, got.Calls)
			sum, total = sum+got.Calls, total+got.Total.Truncate(time.Microsecond)
			longest = max(longest, got.Max.Truncate(time.Microsecond))
		}
		stored := storedStats(t, s.Plane, "channel_owner")
		require.Equal(t, sum, stored.Calls)
		require.Equal(t, total, stored.Total)
		require.Equal(t, longest, stored.Max)
		require.Equal(t, sum, stored.Versions[0].Calls)
		require.LessOrEqual(t, stored.Histogram[len(stored.Histogram)-1].Calls, sum)
	})
}

// pipelines is called before and after every pipeline of a client.
type pipelines struct {
	between
	before, after func(cmds []redis.Cmder) error
}

func (h *pipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.before != nil {
			if err := h.before(cmds); err != nil {
				return err
			}
		}
		err := next(ctx, cmds)
		if h.after != nil && err == nil {
			err = h.after(cmds)
		}
		return err
	}
}

// What a flush brings is stored exactly once, whether the request or its reply
// was lost.
func TestStatsAreStoredOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		single, ok := client.(*redis.Client)
		require.True(t, ok)
		torn := redis.NewClient(single.Options())
		t.Cleanup(func() { torn.Close() })
		h := &pipelines{}
		torn.AddHook(h)
		p, err := scripts.New(torn, scripts.Options{Site: s.Site()})
		require.NoError(t, err)
		require.NoError(t, p.Prepare(t.Context()))
		call := func(n int) {
			for range n {
				_, err := p.Acquire(t.Context(), "1001", "engine", time.Minute)
				require.NoError(t, err)
			}
		}
		writes := func(cmds []redis.Cmder) error {
			if cmds[0].Name() == "multi" {
				return errTorn
			}
			return nil
		}
		stored := func() int64 { return storedStats(t, s.Plane, "channel_owner").Calls }

		call(3)
		h.before = writes // the request is lost
		require.ErrorIs(t, p.FlushStats(t.Context()), scripts.ErrStore)
		require.EqualValues(t, 0, stored())
		call(1)
		h.before, h.after = nil, writes // only the reply is
		require.ErrorIs(t, p.FlushStats(t.Context()), scripts.ErrStore)
		require.EqualValues(t, 4, stored())
		call(1)
		require.ErrorIs(t, p.FlushStats(t.Context()), scripts.ErrStore)
		require.EqualValues(t, 5, stored())
		h.after = nil
		require.NoError(t, p.FlushStats(t.Context()))
		require.EqualValues(t, 5, stored())
		call(2)
		require.NoError(t, p.FlushStats(t.Context()))
		require.EqualValues(t, 7, stored())
		require.EqualValues(t, 7, scriptStats(p, "channel_owner").Calls)

		// a key that another program uses costs that script's statistics alone
		require.NoError(t, client.Set(t.Context(), s.key("lua:stats:channel_owner"), "text", 0).Err())
		call(1)
		require.Error(t, p.DropRule(t.Context(), ""))
		require.ErrorIs(t, p.FlushStats(t.Context()), scripts.ErrStore)
		require.EqualValues(t, 1, storedStats(t, s.Plane, "site_config").Calls)
		require.NoError(t, client.Del(t.Context(), s.key("lua:stats:channel_owner")).Err())
		require.NoError(t, p.FlushStats(t.Context()))
		require.EqualValues(t, 1, stored()) // who deletes the key begins anew
	})
}

// The store goes and comes back.
func TestStatsWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t, "--appendonly", "yes", "--appendfsync", "always")
	client := storetest.Client(t, server.URL)
	s := newSite(t, client)
	before := scriptStats(s.Plane, "channel_owner").Calls
	require.NoError(t, s.FlushStats(t.Context()))
	server.Kill()
	_, err := s.Acquire(t.Context(), "1001", "engine", time.Minute)
	require.ErrorIs(t, err, scripts.ErrStore)
	require.Error(t, s.FlushStats(t.Context()))
	require.Error(t, s.FlushStats(t.Context()))
	server.Restart()
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, s.FlushStats(t.Context()))
	stored := storedStats(t, s.Plane, "channel_owner")
	require.EqualValues(t, 1, stored.Lost)
	require.Equal(t, before, stored.Calls)
}

func TestSlowScriptIsToldOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		var told bytes.Buffer
		p, _ := tap(t, s, scripts.Options{SlowScript: 1, Log: slog.New(slog.NewTextHandler(&told, nil))})
		w := p.NewWriter(s.lease, s.points)
		writeOne(t, w, 1)
		writeOne(t, w, 2)
		require.EqualValues(t, 2, scriptStats(p, "data_sync").Slow)
		require.Equal(t, 1, bytes.Count(told.Bytes(), []byte("a script call was slow")))
		require.Contains(t, told.String(), "script=data_sync")
		require.Contains(t, told.String(), "op=batch channel=1001 points=2")

		quiet, _ := tap(t, s, scripts.Options{SlowScript: -1})
		_, err := quiet.Acquire(t.Context(), "1001", "engine", time.Minute)
		require.NoError(t, err)
		require.Zero(t, scriptStats(quiet, "channel_owner").Slow)
	})
}
