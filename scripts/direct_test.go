package scripts_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// pipes is called around every pipeline of a client: exec is true for a
// transaction. An error of before keeps it from the store, one of after loses
// its answer.
type pipes struct {
	mu     sync.Mutex
	before func(exec bool) error
	after  func(exec bool) error
	reads  int
	execs  int
}

func (h *pipes) set(before, after func(exec bool) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before, h.after, h.reads, h.execs = before, after, 0, 0
}

func (h *pipes) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *pipes) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *pipes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		exec := cmds[0].Name() == "multi"
		h.mu.Lock()
		before, after := h.before, h.after
		if exec {
			h.execs++
		} else {
			h.reads++
		}
		h.mu.Unlock()
		if before != nil {
			if err := before(exec); err != nil {
				return torn(cmds, err)
			}
		}
		err := next(ctx, cmds)
		if after != nil {
			if lost := after(exec); lost != nil {
				return torn(cmds, lost)
			}
		}
		return err
	}
}

func torn(cmds []redis.Cmder, err error) error {
	for _, c := range cmds {
		c.SetErr(err)
	}
	return err
}

// newDirectWorld is a world whose channel goes without Lua, and a hook on its
// own connection; world.client is another one.
func newDirectWorld(t *testing.T, client redis.UniversalClient) (*modeWorld, *pipes) {
	t.Helper()
	w := newWorld(t, client, nil)
	single, ok := client.(*redis.Client)
	require.True(t, ok)
	own := redis.NewClient(single.Options())
	t.Cleanup(func() { _ = own.Close() })
	h := &pipes{}
	own.AddHook(h)
	var err error
	w.Plane, err = scripts.New(own, scripts.Options{Site: strings.Trim(w.prefix, "{}:"), Now: func() time.Time { return time.UnixMilli(w.now) },
		HistoryBytes: 1 << 20, Restore: w.define, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, w.Prepare(t.Context()))
	w.acquire(t)
	require.NoError(t, w.SetSyncMode(t.Context(), scripts.SyncDirect, nil, scripts.Change{By: "test"}))
	return w, h
}

func (w *modeWorld) write(t *testing.T, samples ...model.Sample) {
	t.Helper()
	_, warnings, err := w.writer.Write(t.Context(), samples, false)
	require.NoError(t, err)
	require.Empty(t, warnings)
}

func (w *modeWorld) hash(t *testing.T, name string) map[string]string {
	t.Helper()
	h, err := w.client.HGetAll(t.Context(), w.prefix+name).Result()
	require.NoError(t, err)
	return h
}

// history returns the counts of the history entries: each is the sum so far.
func (w *modeWorld) history(t *testing.T) (counts []string) {
	t.Helper()
	entries, err := w.client.XRange(t.Context(), w.prefix+"hissrv:queue", "-", "+").Result()
	require.NoError(t, err)
	for _, e := range entries {
		counts = append(counts, e.Values["count"].(string))
	}
	return counts
}

// A batch without alarms costs two round trips, and no more while alarms are open.
func TestDirectRoundTrips(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w, h := newDirectWorld(t, client)
		for i := range 3 {
			w.write(t, sample("6", 40), sample("18", 1))
			h.set(nil, nil)
			w.write(t, sample("6", 41+float64(i)), sample("18", 2))
			require.Equal(t, [2]int{1, 1}, [2]int{h.reads, h.execs}, "%d", i)
			w.write(t, sample("7", 51)) // raises, and stays
		}
	})
}

// Whatever a batch is built on may change between the reading and the writing.
func TestDirectConflicts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w, h := newDirectWorld(t, client)
		ctx := t.Context()
		once := func(change func()) {
			h.set(func(exec bool) error {
				if exec && change != nil {
					do := change
					change = nil
					do()
				}
				return nil
			}, nil)
		}
		w.write(t, sample("6", 60))
		state := w.hash(t, "alarm:state")["m1:v6:high"]
		require.Contains(t, state, "|1|active|")

		// somebody acknowledges it: the value that ends it now closes it
		once(func() {
			_, err := client.HSet(ctx, w.prefix+"alarm:state", "m1:v6:high", strings.Replace(state, "active", "acknowledged", 1)).Result()
			require.NoError(t, err)
			require.NoError(t, client.HSet(ctx, w.prefix+"alarm:1", "status", "acknowledged").Err())
		})
		w.write(t, sample("6", 1))
		require.Equal(t, 2, h.execs)
		require.Contains(t, w.hash(t, "alarm:state")["m1:v6:high"], "||normal|", "what is left is when it was raised")
		require.Equal(t, "closed", w.hash(t, "alarm:1")["status"])

		// the definitions change
		once(func() {
			other := w.another(t, client)
			require.NoError(t, other.PutModel(ctx, model.Instance{ID: "m3", Measurements: map[string]string{"x": "1001:6"}}))
		})
		w.write(t, sample("6", 7))
		require.Equal(t, "7.000000", w.hash(t, "modsrv:m3:measurement")["x"])

		// the time of a name that is not in the batch, which is written back
		once(func() {
			require.NoError(t, client.HSet(ctx, w.prefix+"modsrv:m3:ts", "x", "77").Err())
			require.NoError(t, client.HSet(ctx, w.prefix+"modsrv:m1:ts", "v11", "77").Err())
		})
		var most []model.Sample
		for i := range 11 {
			most = append(most, sample(fmt.Sprint(i), 20))
		}
		w.write(t, most...)
		require.Equal(t, "77", w.hash(t, "modsrv:m1:ts")["v11"])

		// the channel's owner: nothing is written any more
		before := w.dump(t)
		once(func() { require.NoError(t, client.HIncrBy(ctx, w.prefix+"comsrv:1001:fence", "epoch", 1).Err()) })
		_, _, err := w.writer.Write(ctx, []model.Sample{sample("6", 99)}, false)
		require.ErrorIs(t, err, scripts.ErrFenced)
		after := w.dump(t)
		delete(before, "comsrv:1001:fence")
		delete(after, "comsrv:1001:fence")
		require.Equal(t, before, after)
	})
}

// another is a second engine's Plane on the same site.
func (w *modeWorld) another(t *testing.T, client redis.UniversalClient) *scripts.Plane {
	t.Helper()
	p, err := scripts.New(client, scripts.Options{Site: w.Site(), Now: func() time.Time { return time.UnixMilli(w.now) },
		HistoryBytes: 1 << 20, Restore: w.define, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, p.Prepare(t.Context()))
	return p
}

// A change at every try is no reason to give up, nor to go round for ever
// without a pause.
func TestDirectEndlessConflicts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w, h := newDirectWorld(t, client)
		changes := 0
		h.set(func(exec bool) error {
			if exec && changes < 60 {
				changes++
				return client.HSet(context.Background(), w.prefix+"alarm:state", "another", fmt.Sprint(changes)).Err()
			}
			return nil
		}, nil)
		w.write(t, sample("6", 60))
		require.Equal(t, 61, h.execs)
		require.Equal(t, []string{"1"}, w.history(t))
	})
}

// A transaction whose answer is lost is repeated and has no second effect; one
// that never reached the store is made.
func TestDirectLostAnswer(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w, h := newDirectWorld(t, client)
		lose := func(before bool) {
			lost := false
			f := func(exec bool) error {
				if exec && !lost {
					lost = true
					return errTorn
				}
				return nil
			}
			if before {
				h.set(f, nil)
			} else {
				h.set(nil, f)
			}
		}
		w.messages(t)
		lose(false)
		w.write(t, sample("6", 60))
		require.Equal(t, 1, h.execs) // the second time it is a duplicate, which writes nothing
		lose(true)
		w.write(t, sample("6", 1))
		require.Equal(t, 2, h.execs)
		require.Equal(t, []string{"1", "2"}, w.history(t))
		require.Equal(t, []string{"modsrv:m1:update v6:60.000000", "alarm:journal 1", "alarm:new 1", "modsrv:m1:update v6:1.000000",
			"alarm:journal 1"}, w.messages(t))
		journal, err := w.AlarmJournal(t.Context(), "", 10)
		require.NoError(t, err)
		require.Len(t, journal, 2) // raised, cleared
		// the connection is fit for others: no key is under WATCH any more
		require.NoError(t, client.Set(t.Context(), w.prefix+"mapping:version", "new", 0).Err())
		for range 5 {
			require.NoError(t, w.PutModel(t.Context(), model.Instance{ID: "m9", Measurements: map[string]string{"x": "1001:6"}}))
		}
	})
}

// All data is lost between the reading and the writing.
func TestDirectLostData(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w, h := newDirectWorld(t, client)
		w.write(t, sample("6", 1))
		generation, flushed := w.Generation(), false
		h.set(func(exec bool) error {
			if exec && !flushed {
				flushed = true
				return client.Del(context.Background(), keysOf(t, client, w.prefix)...).Err()
			}
			return nil
		}, nil)
		_, _, err := w.writer.Write(t.Context(), []model.Sample{sample("6", 2)}, false)
		require.ErrorIs(t, err, scripts.ErrFenced) // with the data went the lease
		require.NotEqual(t, generation, w.Generation())
		require.Empty(t, w.hash(t, "comsrv:1001:m"))
		w.acquire(t)
		w.write(t, sample("6", 3))
		require.Equal(t, "3.000000", w.hash(t, "modsrv:m1:measurement")["v6"])
	})
}

// Two engines whose channels lead to the same model, one with Lua and one
// without, at the same time: every point is counted, every alarm raised once.
func TestDirectBesideLua(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w, _ := newDirectWorld(t, client)
		ctx := t.Context()
		const rounds = 100
		planes := []*scripts.Plane{w.Plane, w.another(t, client), w.another(t, client)}
		var wg sync.WaitGroup
		errs := make(chan error, len(planes)*rounds)
		for i, p := range planes {
			channel := fmt.Sprint("c", i)
			points := []model.Point{{ID: "1"}, {ID: "2"}, {ID: "3"}}
			require.NoError(t, p.PutPoints(ctx, channel, points))
			require.NoError(t, p.PutModel(ctx, model.Instance{ID: "shared" + channel, Measurements: map[string]string{"x": channel + ":1", "y": channel + ":2"}}))
			mode := scripts.SyncDirect
			if i == 2 {
				mode = scripts.SyncLua
			}
			require.NoError(t, w.SetSyncMode(ctx, mode, []string{channel}, scripts.Change{}))
			require.NoError(t, p.PutAlarmRule(ctx, model.AlarmRule{ID: "r", Model: "shared" + channel, Point: "x", Operator: ">", Threshold: 0.5}))
		}
		for i, p := range planes {
			require.NoError(t, p.FollowScripts(ctx))
			channel := fmt.Sprint("c", i)
			lease, err := p.Acquire(ctx, channel, "engine", time.Hour)
			require.NoError(t, err)
			writer := p.NewWriter(lease, []model.Point{{ID: "1"}, {ID: "2"}, {ID: "3"}})
			wg.Go(func() {
				for j := range rounds {
					_, warnings, err := writer.Write(ctx, []model.Sample{sample("1", float64(j%2)), sample("2", float64(j))}, false)
					if err == nil && len(warnings) > 0 {
						err = fmt.Errorf("%v", warnings)
					}
					errs <- err
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
		for i := range planes {
			require.Equal(t, fmt.Sprint(2*rounds), w.hash(t, fmt.Sprintf("comsrv:c%d:fence", i))["points"])
		}
		require.Len(t, w.history(t), len(planes)*rounds)
		// 0, 1, 0, 1, …: raised once, cleared and raised again, and at the fifth time,
		// in no time at all, it is one that chatters
		counter, err := client.Get(ctx, w.prefix+"alarm:counter").Int()
		require.NoError(t, err)
		require.Equal(t, len(planes), counter)
		for id := 1; id <= counter; id++ {
			require.Equal(t, "5", w.hash(t, fmt.Sprint("alarm:", id))["count"])
		}
		journal, err := w.AlarmJournal(ctx, "", 1000)
		require.NoError(t, err)
		require.Len(t, journal, len(planes)*10)
	})
}

func TestDirectOnCluster(t *testing.T) {
	t.Parallel()
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: storetest.Cluster(t), MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	w := newWorld(t, client, nil)
	require.NoError(t, w.SetSyncMode(t.Context(), scripts.SyncDirect, nil, scripts.Change{}))
	w.write(t, sample("0", 70), sample("12", 20), sample("6", 1))
	w.write(t, sample("6", 55))
	require.Equal(t, []string{"3", "4"}, w.history(t))
	require.Len(t, w.hash(t, "alarm:state"), 2)
	queue, err := client.XLen(t.Context(), w.prefix+"cmd:1001:queue").Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, queue, "two rules commanded one point: the newer command took the place of the first")
}
