package scripts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

func TestStatsWindow(t *testing.T) {
	t.Parallel()
	v := &versionStats{}
	check := func(at time.Duration, wantCalls, wantErrors int64) {
		t.Helper()
		calls, errors := v.window(at)
		require.Equal(t, [2]int64{wantCalls, wantErrors}, [2]int64{calls, errors})
	}
	check(0, 0, 0)
	v.answered(50*time.Millisecond, time.Millisecond, false, false)
	v.answered(70*time.Millisecond, time.Millisecond, true, true)
	check(80*time.Millisecond, 2, 1)
	v.answered(time.Second, time.Millisecond, true, true)
	check(time.Second, 3, 2)
	check(1999*time.Millisecond, 3, 2)
	check(2*time.Second, 1, 1) // the first slot is older than 2 s
	v.answered(2*time.Second, time.Millisecond, false, false)
	check(2*time.Second, 2, 1)
	check(3*time.Second, 1, 0)
	check(time.Hour, 0, 0)
	v.answered(time.Hour, time.Millisecond, true, true)
	check(time.Hour, 1, 1)

	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for j := range 1000 {
				v.answered(2*time.Hour+time.Duration(j)*time.Millisecond, time.Millisecond, i == 0, i == 0)
			}
		})
	}
	group.Wait()
	check(2*time.Hour+time.Second, 4000, 1000)
}

func TestStatsHistogram(t *testing.T) {
	t.Parallel()
	v := &versionStats{}
	for _, took := range []time.Duration{0, 50 * time.Microsecond, 50*time.Microsecond + 1, 5 * time.Second, 6 * time.Second} {
		v.answered(time.Second, took, false, false)
	}
	c := v.snapshot()
	s := c.stats("x", "1")
	s.Max = 6 * time.Second
	require.EqualValues(t, 5, s.Calls)
	require.Equal(t, StatsBucket{50 * time.Microsecond, 2}, s.Histogram[0])
	require.Equal(t, StatsBucket{100 * time.Microsecond, 3}, s.Histogram[1])
	require.Equal(t, StatsBucket{5 * time.Second, 4}, s.Histogram[len(s.Histogram)-1])
	require.Equal(t, 50*time.Microsecond, s.Quantile(0))
	require.Equal(t, 50*time.Microsecond, s.Quantile(0.4))
	require.Equal(t, 100*time.Microsecond, s.Quantile(0.5))
	require.Equal(t, 5*time.Second, s.Quantile(0.8))
	require.Equal(t, 6*time.Second, s.Quantile(1))
	require.Zero(t, ScriptStats{}.Quantile(0.5)+ScriptStats{}.Mean()+ScriptStats{}.PerPoint())
	require.Equal(t, "le:0.05 le:5000", bucketField(statsBounds[0])+" "+bucketField(statsBounds[len(statsBounds)-1]))
}

type answerError string

func (e answerError) Error() string { return string(e) }
func (answerError) RedisError()     {}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	name := func(reply []string, err error) string {
		switch i := outcome(reply, err); i {
		case wasTaken:
			return "taken"
		case wasFault:
			return "fault"
		case wasLost:
			return "lost"
		default:
			return refusalCodes[i]
		}
	}
	for _, code := range []string{"OK", "SAME", "HIT", "MISS"} {
		require.Equal(t, "taken", name([]string{code}, nil), code)
	}
	for code, err := range codeErrors { // a code with a meaning is no fault of the script
		require.NotContains(t, []string{"fault", "lost"}, name([]string{code}, nil), code)
		require.False(t, err != nil && name([]string{code}, nil) == "taken", code)
	}
	for want, err := range map[string]error{
		"NOSCRIPT":    answerError("NOSCRIPT No matching script. Please use EVAL."),
		"BUSY":        answerError("BUSY Redis is busy running a script."),
		"UNAVAILABLE": fmt.Errorf("wrapped: %w", answerError("LOADING Redis is loading the dataset in memory")),
		"lost":        context.DeadlineExceeded,
		"fault":       answerError("ERR user_script:12: boom script: f00, on @user_script:12."),
	} {
		require.Equal(t, want, name(nil, err), err)
	}
	require.Equal(t, "lost", name(nil, errors.New("EOF")))
	require.Equal(t, "fault", name(nil, redis.Nil))
	require.Equal(t, "fault", name(nil, errReply))
	require.Equal(t, "fault", name([]string{}, nil))
	require.Equal(t, "fault", name([]string{"HELLO"}, nil))
}

// A script that answers what is no answer; versions, of which four are kept.
func TestStatsOfVersions(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		ctx := t.Context()
		p, err := New(client, Options{Site: storetest.Site(t)})
		require.NoError(t, err)
		require.NoError(t, p.Prepare(ctx))
		s := p.scripts["channel_owner"]
		run := func(version, body string) error {
			text := "-- " + p.options.Site + version + "\n" + body
			sha, err := client.ScriptLoad(ctx, text).Result()
			require.NoError(t, err)
			s.stats.learn(sha, version)
			_, err = p.process(ctx, s, []any{"EVALSHA", &sha, "1", &p.anchor, "acquire"}, 0)
			return err
		}
		const versions = storedVersions + 3
		for i := range versions {
			body, failed := "return {'OK'}", int64(0)
			if i%2 == 1 {
				body, failed = "return 5", 1
			}
			version := fmt.Sprintf("1.0.%d", i)
			err := run(version, body)
			require.Equal(t, failed == 1, err != nil)
			calls, errors := s.stats.window(version, p.stats.now())
			require.Equal(t, [2]int64{1, failed}, [2]int64{calls, errors})
			p.options.Now = func() time.Time { return time.UnixMilli(1_790_000_000_000 + int64(i)*60_000) }
			require.NoError(t, p.FlushStats(ctx))
		}
		own := p.Stats()
		require.Len(t, own, 1)
		require.Len(t, own[0].Versions, keptVersions)
		require.Equal(t, "1.0.18", own[0].Versions[0].Version)
		stored, err := p.StoredStats(ctx, "channel_owner")
		require.NoError(t, err)
		require.EqualValues(t, versions, stored.Calls)
		require.EqualValues(t, versions/2, stored.Errors)
		require.Len(t, stored.Versions, storedVersions)
		require.Equal(t, "1.0.18", stored.Versions[0].Version)
		require.Equal(t, "1.0.3", stored.Versions[storedVersions-1].Version)

		// the traced text of a version counts for the version; a text of which
		// nobody told counts for itself
		sha, err := client.ScriptLoad(ctx, "-- traced\nreturn {'OK'}").Result()
		require.NoError(t, err)
		require.Same(t, s.stats.learn(sha, "1.0.18"), s.stats.of(sha))
		args := []any{"EVALSHA", &sha, "1", &p.anchor, "acquire"}
		_, err = p.process(ctx, s, args, 0)
		require.NoError(t, err)
		require.EqualValues(t, 2, p.Stats()[0].Versions[0].Calls)
		other := "0123456789"
		require.Equal(t, "sha:01234567", s.called([]any{"EVALSHA", &other}).version)
		require.Equal(t, s.own.Version, s.called([]any{"EVALSHA", &s.own.SHA}).version)
	})
}

func TestSlowScriptNamesTheStoresLimit(t *testing.T) {
	t.Parallel()
	client := storetest.Client(t, storetest.Redis(t))
	var told bytes.Buffer
	p, err := New(client, Options{Site: storetest.Site(t), Log: slog.New(slog.NewTextHandler(&told, nil))})
	require.NoError(t, err)
	require.NoError(t, p.FlushStats(t.Context()))
	require.EqualValues(t, 5*time.Second, p.stats.limit.Load())
	s := p.scripts["rule_engine"]
	args := []any{"EVALSHA", &s.own.SHA, "1", &p.anchor, "stop", ""}
	now := p.stats.now()
	p.measure(s, args, 0, now-3*time.Second, []string{"OK", "ran"}, nil)
	require.Contains(t, told.String(), "op=run rule=stop")
	require.Contains(t, told.String(), "store_limit=5s")

	told.Reset() // a minute later again
	s.stats.warned.Add(int64(-slowEvery))
	p.measure(s, args, 0, now-time.Second, []string{"OK", "ran"}, nil)
	require.Contains(t, told.String(), "slow_calls=2")
	require.NotContains(t, told.String(), "store_limit")
}

// BenchmarkStats is what the statistics add to a call, with both readings of the
// clock.
//
//	go test ./scripts -run '^$' -bench Stats
func BenchmarkStats(b *testing.B) {
	p, err := New(redis.NewClient(&redis.Options{}), Options{SlowScript: -1})
	require.NoError(b, err)
	s := p.scripts["data_sync"]
	args := []any{"EVALSHA", &s.active.Load().SHA, "0", "batch"}
	reply := []string{"OK"}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			began := p.stats.now()
			p.measure(s, args, 500, began, reply, nil)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				began := p.stats.now()
				p.measure(s, args, 500, began, reply, nil)
			}
		})
	})
}
