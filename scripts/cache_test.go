package scripts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// cachingPlane is another engine of the site, which keeps answers.
func cachingPlane(t testing.TB, s *testSite) *scripts.Plane {
	t.Helper()
	p, err := scripts.New(s.client, scripts.Options{Site: s.Site(), CacheTTL: time.Minute})
	require.NoError(t, err)
	require.NoError(t, p.Prepare(context.Background()))
	return p
}

// building counts how often an answer is built from the current values.
type building struct {
	p     *scripts.Plane
	count atomic.Int64
}

func (b *building) values(ctx context.Context, id string) ([]byte, error) {
	return b.p.Cached(ctx, scripts.ValuesAnswer(id), func() ([]byte, error) {
		b.count.Add(1)
		values, err := b.p.Values(ctx, id)
		if err != nil {
			return nil, err
		}
		return json.Marshal(values)
	})
}

// value returns one value of the answer.
func (b *building) value(t *testing.T, id, name string) model.Value {
	t.Helper()
	body, err := b.values(context.Background(), id)
	require.NoError(t, err)
	values := map[string]model.Value{}
	require.NoError(t, json.Unmarshal(body, &values))
	return values[name]
}

func TestCachedValues(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		b := &building{p: cachingPlane(t, s)}
		ctx, key := t.Context(), s.key("cache:model:pcs1:values")
		w := s.NewWriter(s.lease, s.points)
		write := func(samples ...model.Sample) {
			t.Helper()
			_, warnings, err := w.Write(ctx, samples, false)
			require.NoError(t, err)
			require.Empty(t, warnings)
		}
		write(sample("1", 1))
		for range 5 {
			require.InDelta(t, 1, b.value(t, "pcs1", "active_power").Value, 0)
		}
		require.Equal(t, int64(1), b.count.Load())
		require.Equal(t, scripts.CacheStats{Hits: 4, Misses: 1, Stored: 1}, b.p.CacheStats())
		line, _, _ := strings.Cut(client.Get(ctx, key).Val(), "\n")
		require.True(t, json.Valid([]byte(line)), line)
		require.Positive(t, client.PTTL(ctx, key).Val())
		require.LessOrEqual(t, client.PTTL(ctx, key).Val(), time.Minute)

		read := func() (v model.Value) { // often enough that it pays to keep the answer
			t.Helper()
			before := b.count.Load()
			for range 5 {
				v = b.value(t, "pcs1", "active_power")
			}
			require.Equal(t, before+1, b.count.Load())
			return v
		}
		write(sample("1", 2)) // a value
		require.Zero(t, client.Exists(ctx, key).Val())
		require.InDelta(t, 2, read().Value, 0)
		write(model.Sample{Point: "1", Quality: model.Offline}) // a quality alone
		require.Equal(t, model.Offline, read().Quality)
		text, err := scripts.Dump("data_sync") // by hand
		require.NoError(t, err)
		require.NoError(t, client.Eval(ctx, text, []string{s.key("anchor")}, "c2m", "1001", "2", "7").Err())
		read()
		require.InDelta(t, 7, b.value(t, "pcs1", "temperature").Value, 0)

		s.points[0].Unit = "W" // a definition
		require.NoError(t, s.PutPoints(ctx, "1001", s.points))
		require.Equal(t, "W", read().Unit)

		require.NoError(t, s.DropModel(ctx, "pcs1"))
		_, err = b.values(ctx, "pcs1")
		require.ErrorIs(t, err, scripts.ErrNotFound)
	})
}

func TestCachedAnswersOfDefinitionsAndAlarms(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		p, ctx := cachingPlane(t, s), t.Context()
		built := 0
		var cached func(a scripts.Answer, want string, anew bool)
		cached = func(a scripts.Answer, want string, anew bool) {
			t.Helper()
			if anew { // and often enough again that it pays to keep it
				defer func() {
					for range 4 {
						if a != (scripts.Answer{}) {
							cached(a, want, false)
						}
					}
				}()
			}
			before := built
			body, err := p.Cached(ctx, a, func() ([]byte, error) {
				built++
				if a == scripts.ModelsAnswer() {
					models, err := p.Models(ctx)
					return fmt.Append(nil, models), err
				}
				alarms, err := p.OpenAlarms(ctx)
				return fmt.Append(nil, alarms), err
			})
			require.NoError(t, err)
			require.Contains(t, string(body), want)
			require.Equal(t, anew, built > before, string(body))
		}
		models, all, active := scripts.ModelsAnswer(), scripts.AlarmsAnswer(""), scripts.AlarmsAnswer(model.AlarmActive)
		cached(models, "pcs1", true)
		cached(models, "pcs1", false)
		require.NoError(t, s.PutModel(ctx, model.Instance{ID: "new"}))
		cached(models, "new", true)
		cached(models, "new", false)

		require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}))
		cached(all, "[]", true)
		cached(all, "[]", false)
		cached(active, "[]", true)
		w := s.NewWriter(s.lease, s.points)
		_, _, err := w.Write(ctx, []model.Sample{sample("2", 61)}, false)
		require.NoError(t, err)
		cached(all, "hot", true)
		cached(active, "hot", true)
		cached(active, "hot", false)
		cached(models, "new", true) // the rule changed the definitions
		cached(models, "new", false)
		alarms, err := s.OpenAlarms(ctx)
		require.NoError(t, err)
		_, err = s.Acknowledge(ctx, alarms[0].ID, "anna", "seen")
		require.NoError(t, err)
		cached(all, "anna", true)
		cached(all, "anna", false)
		_, err = s.CloseAlarm(ctx, alarms[0].ID, "anna", "")
		require.NoError(t, err)
		cached(all, "[]", true)

		require.Equal(t, scripts.Answer{}, scripts.AlarmsAnswer("nonsense"))
		cached(scripts.Answer{}, "[]", true) // what has no name is not kept
		cached(scripts.Answer{}, "[]", true)
		require.NoError(t, p.Uncache(ctx, scripts.Answer{}))

		cached(models, "new", false)
		require.NoError(t, p.Uncache(ctx, models))
		cached(models, "new", true)
		cached(all, "[]", false)
		require.NoError(t, p.ClearCache(ctx))
		cached(models, "new", true)
		cached(all, "[]", true)
		require.NoError(t, client.Del(ctx, s.key("cache:version")).Err())
		require.NoError(t, client.HSet(ctx, s.key("cache:version"), "foreign", "1").Err())
		cached(all, "[]", true)
		cached(all, "[]", false)
		require.NoError(t, p.ClearCache(ctx))
		cached(all, "[]", true)
	})
}

// A value that is written while an answer is built must not be hidden by it.
func TestCacheLease(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		b := &building{p: cachingPlane(t, s)}
		ctx := t.Context()
		w := s.NewWriter(s.lease, s.points)
		body, err := b.p.Cached(ctx, scripts.ValuesAnswer("pcs1"), func() ([]byte, error) {
			require.Equal(t, int64(1), client.Exists(ctx, s.key("cache:model:pcs1:values")).Val())
			_, _, err := w.Write(ctx, []model.Sample{sample("1", 5)}, false)
			return []byte(`"old"`), err
		})
		require.NoError(t, err)
		require.JSONEq(t, `"old"`, string(body)) // it was asked for before the write
		require.InDelta(t, 5, b.value(t, "pcs1", "active_power").Value, 0)

		// A second reader meets the marker of the first: both build, one keeps.
		require.NoError(t, b.p.ClearCache(ctx))
		b = &building{p: cachingPlane(t, s)}
		before := b.p.CacheStats()
		_, err = b.p.Cached(ctx, scripts.ValuesAnswer("pcs1"), func() ([]byte, error) {
			other := b.value(t, "pcs1", "active_power")
			assert.InDelta(t, 5, other.Value, 0)
			assert.Equal(t, before.Stored, b.p.CacheStats().Stored)
			return []byte(`"first"`), nil
		})
		require.NoError(t, err)
		body, err = b.values(ctx, "pcs1")
		require.NoError(t, err)
		require.JSONEq(t, `"first"`, string(body))
		require.Equal(t, scripts.CacheStats{Hits: before.Hits + 1, Misses: before.Misses + 2, Stored: before.Stored + 1}, b.p.CacheStats())

		// Definitions that change while it is built.
		require.NoError(t, b.p.Uncache(ctx, scripts.ValuesAnswer("pcs1")))
		b = &building{p: cachingPlane(t, s)}
		_, err = b.p.Cached(ctx, scripts.ValuesAnswer("pcs1"), func() ([]byte, error) {
			return []byte(`"old"`), s.PutModel(ctx, model.Instance{ID: "new"})
		})
		require.NoError(t, err)
		require.InDelta(t, 5, b.value(t, "pcs1", "active_power").Value, 0)
	})
}

// One writes, eight read: nobody ever sees a value older than the last one that
// was certainly written before they asked.
func TestCacheIsFresh(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		// Two engines read from the same store.
		readers := []*building{{p: cachingPlane(t, s)}, {p: cachingPlane(t, s)}}
		w := s.NewWriter(s.lease, s.points)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var written atomic.Int64
		var all sync.WaitGroup
		read := make(chan struct{})
		for i := range 8 {
			b := readers[i%2]
			all.Go(func() {
				for ctx.Err() == nil {
					least := written.Load()
					body, err := b.values(context.Background(), "pcs1")
					values := map[string]model.Value{}
					if !assert.NoError(t, err) || !assert.NoError(t, json.Unmarshal(body, &values)) {
						cancel()
						return
					}
					if got := int64(values["active_power"].Value); got < least {
						t.Errorf("read %d after %d was written", got, least)
					}
					select {
					case read <- struct{}{}:
					case <-ctx.Done():
					}
				}
			})
		}
		for i := range int64(100) {
			_, _, err := w.Write(ctx, []model.Sample{sample("1", float64(i+1))}, false)
			if !assert.NoError(t, err) {
				break
			}
			written.Store(i + 1)
			for range i % 10 { // so that there are hits between the writes
				select {
				case <-read:
				case <-ctx.Done():
				}
			}
		}
		cancel()
		all.Wait()
		require.InDelta(t, 100, readers[0].value(t, "pcs1", "active_power").Value, 0)
		one, two := readers[0].p.CacheStats(), readers[1].p.CacheStats()
		require.Positive(t, one.Stored+two.Stored)
		require.Zero(t, one.Errors+two.Errors)
	})
}

func TestCacheFailsWithoutHarm(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		b := &building{p: cachingPlane(t, s)}
		ctx := t.Context()
		cached := func(a scripts.Answer, build string) string {
			t.Helper()
			b.p = cachingPlane(t, s) // which has not seen the answer change yet
			body, err := b.p.Cached(ctx, a, func() ([]byte, error) { return []byte(build), nil })
			require.NoError(t, err)
			return string(body)
		}
		keys := func() []string {
			t.Helper()
			list, err := client.Keys(ctx, s.key("cache:*")).Result()
			require.NoError(t, err)
			return list
		}
		// What nobody knows leaves no key.
		require.Equal(t, "1", cached(scripts.ValuesAnswer("unknown"), "1"))
		_, err := b.values(ctx, "no such model")
		require.ErrorIs(t, err, scripts.ErrNotFound)
		require.Empty(t, keys())
		// What is no answer to keep leaves a marker for a few seconds.
		for _, odd := range []string{"", "two\nlines", strings.Repeat("x", scripts.MaxAnswer+1), "?"} {
			require.Equal(t, odd, cached(scripts.ModelsAnswer(), odd))
			require.Equal(t, "2", cached(scripts.ModelsAnswer(), "2"))
			require.LessOrEqual(t, client.PTTL(ctx, s.key("cache:api:models:all")).Val(), 5*time.Second)
			require.NoError(t, b.p.Uncache(ctx, scripts.ModelsAnswer()))
		}
		failed := errors.New("cannot be built")
		_, err = b.p.Cached(ctx, scripts.ModelsAnswer(), func() ([]byte, error) { return nil, failed })
		require.ErrorIs(t, err, failed)
		// The largest that is kept.
		require.NoError(t, b.p.Uncache(ctx, scripts.ModelsAnswer()))
		large := strings.Repeat("x", scripts.MaxAnswer)
		cached(scripts.ModelsAnswer(), large)
		require.Equal(t, large, cached(scripts.ModelsAnswer(), "3"))
		// A key of another program is replaced; without a journal that can be
		// read nothing says whether alarms changed.
		require.NoError(t, client.HSet(ctx, s.key("cache:model:pcs1:values"), "a", "1").Err())
		require.Equal(t, "4", cached(scripts.ValuesAnswer("pcs1"), "4"))
		require.NoError(t, client.HSet(ctx, s.key("alarm:journal"), "a", "1").Err())
		require.Equal(t, "5", cached(scripts.AlarmsAnswer(""), "5"))
		require.Equal(t, "6", cached(scripts.AlarmsAnswer(""), "6"))
		// The site's data is lost: definitions are restored first.
		require.NoError(t, client.Del(ctx, s.key("site:generation"), s.key("cache:model:pcs1:values")).Err())
		require.Equal(t, "7", cached(scripts.ValuesAnswer("pcs1"), "7"))

		require.NoError(t, client.Close())
		body, err := b.p.Cached(ctx, scripts.ValuesAnswer("pcs1"), func() ([]byte, error) { return []byte("8"), nil })
		require.NoError(t, err)
		require.Equal(t, "8", string(body))
		require.Equal(t, int64(1), b.p.CacheStats().Errors)
		require.ErrorIs(t, b.p.ClearCache(cancelled(ctx)), scripts.ErrStore)
	})
}

// What is read once between two changes is not kept, but for a try now and then.
func TestCacheKeepsWhatIsReadAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Embedded(t))
	b := &building{p: cachingPlane(t, s)}
	w := s.NewWriter(s.lease, s.points)
	turn := 0.0
	after := func(reads int) (stored int64) {
		t.Helper()
		before := b.p.CacheStats().Stored
		for range 100 {
			turn++
			_, _, err := w.Write(t.Context(), []model.Sample{sample("1", turn)}, false)
			require.NoError(t, err)
			for range reads {
				require.InDelta(t, turn, b.value(t, "pcs1", "active_power").Value, 0)
			}
		}
		return b.p.CacheStats().Stored - before
	}
	require.Equal(t, int64(7), after(1)) // 2 of 33
	require.Equal(t, int64(100), b.count.Load())
	require.Greater(t, after(5), int64(80))
	require.Less(t, b.count.Load(), int64(300))
}

func cancelled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

func TestWithoutCacheTTLNothingIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Embedded(t))
	for range 2 {
		b := &building{p: s.Plane}
		b.value(t, "pcs1", "active_power")
		require.Equal(t, int64(1), b.count.Load())
	}
	require.Zero(t, s.CacheStats())
}

func TestCacheManagerByHand(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		ctx := t.Context()
		text, err := scripts.Dump("cache_manager")
		require.NoError(t, err)
		call := func(args ...any) []string {
			t.Helper()
			reply, err := client.Eval(ctx, text, []string{s.key("anchor")}, args...).StringSlice()
			require.NoError(t, err)
			return reply
		}
		const name = "api:models:all"
		require.Equal(t, []string{"MISS", "t1"}, call("get", "", "", name, "definitions", "t1", "60000"))
		require.Equal(t, []string{"MISS", "t1"}, call("get", "", "", name, "definitions", "t1", "60000")) // the same call again
		require.Equal(t, []string{"MISS", ""}, call("get", "", "", name, "definitions", "t2", "60000"))
		require.Equal(t, []string{"MISS", ""}, call("put", "", "", name, "t2", "1000", "{}"))
		require.Equal(t, []string{"OK"}, call("put", "", "", name, "t1", "3600000", "{}"))
		require.Equal(t, []string{"MISS", ""}, call("put", "", "", name, "t1", "1000", "{}"))
		require.Equal(t, []string{"HIT", "{}"}, call("get", "", "", name, "definitions", "t3", "1"))
		require.Equal(t, []string{"MISS", "t3"}, call("get", "", "", name, "alarms", "t3", "60000")) // another dependency
		require.Equal(t, []string{"OK"}, call("drop", "", "", name))
		require.Equal(t, []string{"MISS", ""}, call("put", "", "", name, "t3", "1000", "{}"))
		require.Equal(t, []string{"OK"}, call("clear"))
		require.Equal(t, "GENERATION", call("get", "", "other", name, "definitions", "t", "1")[0])
		for _, bad := range [][]any{
			{}, {"nonsense", "", "", name, "t"}, {"get", "", "", "site:generation", "definitions", "t", "1"},
			{"drop", "", "", ":x"}, {"drop", "", ""}, {"drop", "", "", "api:" + strings.Repeat("x", 300) + ":y"},
			{"drop", "", "", "model:a:b:values"}, {"drop", "", "", "api:x:a b"},
			{"get", "", "", name, "nothing", "t", "1"}, {"get", "", "", name, "definitions", "", "1"},
			{"get", "", "", name, "definitions", "a\nb", "1"}, {"get", "", "", name, "definitions", strings.Repeat("t", 65), "1"},
			{"get", "", "", name, "definitions", "t", "0"}, {"get", "", "", name, "definitions", "t", "60001"},
			{"get", "", "", name, "definitions", "t", "1.5"}, {"get", "", "", name, "definitions", "t"},
			{"put", "", "", name, "t", "3600001", "{}"}, {"put", "", "", name, "t", "-1", "{}"}, {"put", "", "", name, "t", "1"},
			{"put", "", "", name, "t", "1", "a\nb"}, {"put", "", "", name, "t", "1", "?t"},
			{"put", "", "", name, "t", "1", strings.Repeat("x", scripts.MaxAnswer+1)},
		} {
			require.Equal(t, "INVALID", call(bad...)[0], fmt.Sprintf("%.100q", bad))
		}
	})
}
