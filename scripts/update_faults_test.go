package scripts_test

import (
	"context"
	"errors"
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

const afterFence = "  redis.call('HSET', fence, 'batch', number_of_batch)\n"

// A trial of what is active would refuse it when it fails.
func TestTrialOfTheActiveVersion(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		own, err := s.ScriptSource(ctx, "data_sync", "")
		require.NoError(t, err)
		require.ErrorIs(t, s.CanaryScript(ctx, own, []string{"1001"}, byTest), scripts.ErrConflict)
		require.Empty(t, s.state(t, "data_sync").Canary)
		// a channel that there is not would be tried for ever without a call
		v2 := variant(t, "data_sync", "1.9.0", "", "")
		require.ErrorIs(t, s.CanaryScript(ctx, v2, []string{"1001", "10001"}, byTest), scripts.ErrNotFound)
		require.Empty(t, s.state(t, "data_sync").Canary)
	})
}

// What was rolled back is not on trial any more either.
func TestRollbackEndsTheTrial(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		v2 := variant(t, "data_sync", "1.9.0", "", "")
		require.NoError(t, s.CanaryScript(ctx, v2, []string{"1001"}, byTest))
		require.NoError(t, s.ActivateScript(ctx, v2, byTest))
		w := s.NewWriter(s.lease, s.points)
		_, _, err := w.Write(ctx, []model.Sample{sample("1", 1)}, false)
		require.NoError(t, err)
		_, err = s.RollbackScript(ctx, "data_sync", byTest)
		require.NoError(t, err)
		st := s.state(t, "data_sync")
		require.Contains(t, st.Refused, v2.Version)
		require.Empty(t, st.Canary, "a refused version is on trial")
		_, _, err = w.Write(ctx, []model.Sample{sample("1", 2)}, false)
		require.NoError(t, err)
	})
}

// The source of a version on trial outlives the history.
func TestHistoryKeepsTheSourceOfATrial(t *testing.T) {
	if storetest.Raced {
		t.Skip("a dozen self-tests on the embedded store, by one goroutine, take minutes under the race detector")
	}
	t.Parallel()
	s, ctx := newSite(t, storetest.Embedded(t)), t.Context()
	first := variant(t, "data_sync", "1.9.0", "", "")
	require.NoError(t, s.ActivateScript(ctx, first, byTest))
	require.NoError(t, s.ActivateScript(ctx, variant(t, "data_sync", "1.10.0", "", ""), byTest))
	require.NoError(t, s.CanaryScript(ctx, first, []string{"1001"}, byTest))
	for i := 11; i < 24; i++ {
		require.NoError(t, s.ActivateScript(ctx, variant(t, "data_sync", fmt.Sprintf("1.%d.0", i), "", ""), byTest))
	}
	st := s.state(t, "data_sync")
	require.Equal(t, first.Version, st.Canary["1001"])
	require.Len(t, st.History, 10)
	_, err := s.ScriptSource(ctx, "data_sync", first.Version)
	require.NoError(t, err)
	require.NoError(t, s.another(t, scripts.Options{}).FollowScripts(ctx))
	require.NoError(t, s.EndCanary(ctx, "data_sync", byTest))
	require.NoError(t, s.FollowScripts(ctx))
}

// A sample with which a version always fails ends it, however many other calls
// go well: else the sample would be lost.
func TestCertainFailureAmongManyCalls(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		own := s.state(t, "data_sync").Active
		bad := variant(t, "data_sync", "1.9.0", afterFence, afterFence+"  for _, a in ipairs(ARGV) do if a == '31.415926' then local x = nil + 1 end end\n")
		require.NoError(t, s.ActivateScript(ctx, bad, byTest))
		w := s.NewWriter(s.lease, s.points)
		for i := range 400 {
			_, _, err := w.Write(ctx, []model.Sample{sample("1", float64(i))}, false)
			require.NoError(t, err)
		}
		_, _, err := w.Write(ctx, []model.Sample{sample("1", 31.415926)}, false)
		require.NoError(t, err)
		require.Equal(t, own, s.state(t, "data_sync").Active)
		require.Equal(t, "31.415926", s.hash(t, "comsrv:1001:m")["1"])
	})
}

// A store that stands still for a while, while a version is on probation, is
// treated as ever: a command that it takes late is not reported as not given.
func TestStoreStandsStillOnProbation(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	client := storetest.Client(t, server.URL)
	s, ctx := newSite(t, client), t.Context()
	for _, name := range []string{"command", "data_sync", "channel_owner"} {
		require.NoError(t, s.ActivateScript(ctx, variant(t, name, "1.9.0", "", ""), byTest))
	}
	p, h := tap(t, s, scripts.Options{HistoryBytes: 1 << 20})
	paused := make(chan struct{})
	h.set(func(cmd redis.Cmder) error {
		if operation(cmd) == "submit" {
			select {
			case <-paused:
			default:
				close(paused)
				server.Pause()
				time.AfterFunc(2*time.Second, server.Resume)
			}
		}
		return nil
	}, nil)
	r, err := p.Submit(ctx, model.Command{ID: "c1", Model: "pcs1", Control: "power_setpoint", Value: 5, Timeout: time.Minute})
	require.NoError(t, err, "it was recorded")
	require.Equal(t, model.CommandQueued, r.State)
	st := s.state(t, "command")
	require.Empty(t, st.Refused)
	n, err := client.XLen(ctx, s.key("cmd:1001:queue")).Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

// Somebody else's script that runs long is neither killed nor blamed on a version
// on probation.
func TestForeignScriptOnProbation(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t, "--lua-time-limit", "100")
	client := storetest.Client(t, server.URL)
	s, ctx := newSite(t, client), t.Context()
	v2 := variant(t, "data_sync", "1.9.0", "", "")
	require.NoError(t, s.ActivateScript(ctx, v2, byTest))
	w := s.NewWriter(s.lease, s.points)
	_, _, err := w.Write(ctx, []model.Sample{sample("1", 2)}, false) // from here on a batch is one call
	require.NoError(t, err)
	foreign := client.(*redis.Client).WithTimeout(20 * time.Second)
	began := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		close(began)
		done <- foreign.Eval(ctx, "local n = 0 while n < 60000000 do n = n + 1 end for i = 1, 300000000 do n = n + 1 end return n", nil).Err()
	}()
	<-began
	require.Eventually(t, func() bool {
		err := client.Ping(ctx).Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY")
	}, 10*time.Second, 10*time.Millisecond)
	_, _, err = w.Write(ctx, []model.Sample{sample("1", 3)}, false)
	require.NoError(t, err)
	require.NoError(t, <-done, "somebody else's script was killed")
	require.Equal(t, v2.Version, s.state(t, "data_sync").Active)
	require.Empty(t, s.state(t, "data_sync").Refused)
}

// How long a version is active is told by the store's clock, which all hosts have.
func TestProbationByTheClockOfTheStore(t *testing.T) {
	t.Parallel()
	client := storetest.Client(t, storetest.Redis(t)).(*redis.Client)
	for _, off := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		site := storetest.Site(t)
		h := &between{}
		h.set(nil, func(cmd redis.Cmder) error {
			if c, ok := cmd.(*redis.TimeCmd); ok {
				c.SetVal(c.Val().Add(off))
			}
			return nil
		})
		hooked := redis.NewClient(client.Options())
		t.Cleanup(func() { hooked.Close() })
		hooked.AddHook(h)
		p, err := scripts.New(hooked, scripts.Options{Site: site})
		require.NoError(t, err)
		ctx := t.Context()
		require.NoError(t, p.Prepare(ctx))
		bad := variant(t, "rule_engine", "1.9.0", "local report = { 'OK', 'idle' }", "local report = { 'OK', 'idle' }\nif ARGV[1] == 'failing' then local x = nil + 1 end")
		require.NoError(t, p.ActivateScript(ctx, bad, byTest))
		key := "{" + site + "}:lua:since:rule_engine"
		ms, err := client.Get(ctx, key).Int64()
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(off), time.UnixMilli(ms), time.Minute)
		// another engine learns of it, a minute later
		require.NoError(t, client.Set(ctx, key, ms-60_000, 0).Err())
		other, err := scripts.New(hooked, scripts.Options{Site: site})
		require.NoError(t, err)
		require.NoError(t, other.Prepare(ctx))
		for range 2 {
			_, _, err = other.RunRule(ctx, "failing")
			require.ErrorIs(t, err, scripts.ErrScript)
		}
		st, err := p.ScriptState(ctx, "rule_engine")
		require.NoError(t, err)
		require.Contains(t, st.Refused, bad.Version, off)

		require.NoError(t, p.ActivateScript(ctx, bad, byTest))
		ms, err = client.Get(ctx, key).Int64()
		require.NoError(t, err)
		require.NoError(t, client.Set(ctx, key, ms-3_660_000, 0).Err())
		other, err = scripts.New(hooked, scripts.Options{Site: site})
		require.NoError(t, err)
		require.NoError(t, other.Prepare(ctx))
		for range 3 {
			_, _, err = other.RunRule(ctx, "failing")
			require.ErrorIs(t, err, scripts.ErrScript)
		}
		st, err = p.ScriptState(ctx, "rule_engine")
		require.NoError(t, err)
		require.Equal(t, bad.Version, st.Active, "its probation is over")
	}
}

// A rule that the script fails is not run again, which could act twice, but the
// version is gone back from. An answer that is too short ends no program.
func TestRunRuleOnProbation(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		own := s.state(t, "rule_engine").Active
		bad := variant(t, "rule_engine", "1.9.0", "local report = { 'OK', 'idle' }",
			"local report = { 'OK', 'idle' }\nif ARGV[1] == 'short' then return { 'OK' } end\n"+
				"if ARGV[1] == 'failing' then redis.call('INCR', P .. 'acted') error('cannot') end")
		require.NoError(t, s.ActivateScript(ctx, bad, byTest))
		require.NotPanics(t, func() {
			_, _, err := s.RunRule(ctx, "short")
			require.ErrorIs(t, err, scripts.ErrScript)
		})
		_, _, err := s.RunRule(ctx, "failing")
		require.ErrorIs(t, err, scripts.ErrScript)
		require.Equal(t, "1", client.Get(ctx, s.key("acted")).Val(), "it was repeated")
		_, _, err = s.RunRule(ctx, "failing")
		require.ErrorIs(t, err, scripts.ErrScript)
		require.Equal(t, "2", client.Get(ctx, s.key("acted")).Val(), "it was repeated")
		require.Equal(t, own, s.state(t, "rule_engine").Active)
	})
}

// What was rolled back does not come back when the data is lost, whoever
// recovers first.
func TestRolledBackVersionAndLostData(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		own := s.state(t, "alarm_check").Own
		older := variant(t, "alarm_check", "1.0.0", "return report", "return  report")
		require.NoError(t, client.MSet(ctx, s.key("lua:version:alarm_check"), older.Version, s.key("lua:sha:alarm_check"), older.SHA,
			s.key("lua:source:alarm_check:"+older.Version), older.Text).Err())
		planes := []*scripts.Plane{s.Plane, s.another(t, scripts.Options{}), s.another(t, scripts.Options{})}
		_, err := s.RollbackScript(ctx, "alarm_check", byTest)
		require.NoError(t, err)
		for _, p := range planes {
			require.NoError(t, p.FollowScripts(ctx))
		}
		require.Contains(t, s.state(t, "alarm_check").Refused, own)
		require.NoError(t, client.Del(ctx, keysOf(t, client, s.prefix)...).Err())
		for _, p := range planes {
			_, err = p.Reconcile(ctx)
			require.NoError(t, err)
		}
		require.Equal(t, older.Version, s.state(t, "alarm_check").Active)
	})
}

// A trial that ends by itself ends no other one, which began meanwhile.
func TestTrialEndsWhileAnotherBegins(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		bad := variant(t, "data_sync", "1.9.0", afterFence, afterFence+"  for _, a in ipairs(ARGV) do if a == '31.415926' then error('cannot') end end\n")
		next := variant(t, "data_sync", "1.9.1", "", "")
		require.NoError(t, s.CanaryScript(ctx, bad, []string{"1001"}, byTest))
		p, h := tap(t, s, scripts.Options{HistoryBytes: 1 << 20})
		swapped := false
		h.set(nil, func(cmd redis.Cmder) error {
			if cmd.Name() == "hgetall" && argument(cmd.Args()[1]) == s.key("lua:canary:data_sync") && !swapped {
				swapped = true
				return s.CanaryScript(ctx, next, []string{"1001"}, byTest)
			}
			return nil
		})
		w := p.NewWriter(s.lease, s.points)
		_, _, err := w.Write(ctx, []model.Sample{sample("1", 31.415926)}, false)
		require.NoError(t, err)
		require.True(t, swapped)
		require.Equal(t, map[string]string{"1001": next.Version}, s.state(t, "data_sync").Canary)
	})
}

// A self-test needs no right that the site's user has not, and removes what one
// that was killed left behind.
func TestSelfTestWithTheRightsOfOneSite(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	client := storetest.Client(t, server.URL)
	ctx := t.Context()
	site := storetest.Site(t)
	require.NoError(t, client.Do(ctx, "ACL", "SETUSER", "u", "on", ">pw", "~{"+site+"}:*", "&{"+site+"}:*", "+@all", "-@admin", "-@dangerous", "+info").Err())
	limited := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "u", Password: "pw", Protocol: 2, MaxRetries: -1, ContextTimeoutEnabled: true, DisableIdentity: true})
	defer limited.Close()
	p, err := scripts.New(limited, scripts.Options{Site: site})
	require.NoError(t, err)
	require.NoError(t, p.Prepare(ctx))
	before := keysOf(t, client, "")
	require.NoError(t, p.VerifyScript(ctx, variant(t, "data_sync", "1.9.0", "", "")))
	require.ElementsMatch(t, before, keysOf(t, client, ""))

	// killed in the middle
	short, cancel := context.WithCancel(ctx)
	h, calls := &between{}, 0
	torn := redis.NewClient(limited.Options())
	defer torn.Close()
	torn.AddHook(h)
	q, err := scripts.New(torn, scripts.Options{Site: site})
	require.NoError(t, err)
	require.NoError(t, q.Prepare(ctx))
	h.set(func(cmd redis.Cmder) error {
		if calls++; calls > 200 {
			cancel()
			return errTorn
		}
		return nil
	}, nil)
	require.Error(t, q.VerifyScript(short, variant(t, "data_sync", "1.9.0", "", "")))
	left := keysOf(t, client, "")
	require.Greater(t, len(left), len(before))
	// one that may still run is left alone
	require.NoError(t, p.VerifyScript(ctx, variant(t, "data_sync", "1.9.0", "", "")))
	require.ElementsMatch(t, left, keysOf(t, client, ""))
	// later it is not
	for _, key := range left {
		if i := strings.Index(key, "selftest-"); i >= 0 {
			rest := key[i+len("selftest-"):]
			at, tail, _ := strings.Cut(rest, "-")
			n, err := strconv.ParseInt(at, 10, 64)
			require.NoError(t, err, key)
			require.NoError(t, client.Rename(ctx, key, key[:i]+fmt.Sprintf("selftest-%d-%s", n-2*3600_000, tail)).Err())
		}
	}
	require.NoError(t, p.VerifyScript(ctx, variant(t, "data_sync", "1.9.0", "", "")))
	require.ElementsMatch(t, before, keysOf(t, client, ""))
}

// Why a call cannot be repaired is told.
func TestActiveSourceIsMissing(t *testing.T) {
	t.Parallel()
	s, ctx := newSite(t, storetest.Embedded(t)), t.Context()
	require.NoError(t, s.client.Set(ctx, s.key("lua:version:channel_owner"), "1.9.9+deadbeef", 0).Err())
	_, err := s.Acquire(ctx, "1001", "engine", time.Minute)
	require.ErrorIs(t, err, scripts.ErrVersion)
	require.ErrorContains(t, err, "source is not on the store")
}

// A script that hangs is killed also where the store lets nobody do so before the
// client has given up waiting, and whoever called it.
func TestHangingBeyondTheTimeOfTheClient(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t, "--lua-time-limit", "4000")
	client := storetest.Client(t, server.URL)
	s, ctx := newSite(t, client), t.Context()
	own := s.state(t, "data_sync").Active
	bad := variant(t, "data_sync", "1.9.0", "  local now = now_ms(ARGV[2])\n  redis.call('HSET', fence",
		"  for _, a in ipairs(ARGV) do while a == '31.415926' do end end\n  local now = now_ms(ARGV[2])\n  redis.call('HSET', fence")
	require.NoError(t, s.ActivateScript(ctx, bad, byTest))
	w := s.NewWriter(s.lease, s.points)
	short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	_, _, err := w.Write(short, []model.Sample{sample("1", 31.415926)}, false)
	require.Error(t, err)
	_, _, err = w.Write(ctx, []model.Sample{sample("1", 31.415926)}, false)
	require.NoError(t, err)
	require.Equal(t, own, s.state(t, "data_sync").Active)
	require.Contains(t, s.state(t, "data_sync").Refused[bad.Version], "hung")
	require.Equal(t, "31.415926", s.hash(t, "comsrv:1001:m")["1"])
}

// An answer that is no list is the script's fault, not that of the network.
func TestAnswerThatIsNoList(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		for _, answer := range []string{"5", "nil", "redis.status_reply('OK')"} {
			s, ctx := newSite(t, client), t.Context()
			own := s.state(t, "data_sync").Active
			bad := variant(t, "data_sync", "1.9.0", "  local version = redis.call('GET', P .. 'mapping:version')\n",
				"  local version = redis.call('GET', P .. 'mapping:version')\n  for _, a in ipairs(ARGV) do if a == '31.415926' then return "+answer+" end end\n")
			require.NoError(t, s.ActivateScript(ctx, bad, byTest))
			w := s.NewWriter(s.lease, s.points)
			_, _, err := w.Write(ctx, []model.Sample{sample("1", 31.415926)}, false)
			require.NoError(t, err)
			require.Equal(t, own, s.state(t, "data_sync").Active, answer)
			require.Equal(t, "31.415926", s.hash(t, "comsrv:1001:m")["1"])
		}
	})
}

// A program that acts by itself does not bring back what was rolled back while it
// verified.
func TestUpdateOfWhatIsRolledBackMeanwhile(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		own := s.state(t, "alarm_check").Active
		v2 := variant(t, "alarm_check", "1.9.0", "", "")
		p, h := tap(t, s, scripts.Options{})
		once := false
		h.set(func(cmd redis.Cmder) error {
			if cmd.Name() == "evalsha" && strings.Contains(argument(cmd.Args()[3]), "selftest-") && !once {
				once = true
				if err := s.ActivateScript(ctx, v2, byTest); err != nil {
					return err
				}
				_, err := s.RollbackScript(ctx, "alarm_check", byTest)
				return err
			}
			return nil
		}, nil)
		require.ErrorIs(t, p.UpdateScript(ctx, v2, byTest), scripts.ErrConflict)
		require.True(t, once)
		require.Equal(t, own, s.state(t, "alarm_check").Active)
		require.Contains(t, s.state(t, "alarm_check").Refused, v2.Version)
		h.set(nil, nil)
		require.NoError(t, p.ActivateScript(ctx, v2, byTest), "by hand it may come back")
	})
}

// Two operators at once: each change happens once or is refused, and the history
// has no version twice.
func TestManyOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		done := make(chan error, 3)
		for i := range 3 {
			p := s.another(t, scripts.Options{})
			go func() {
				for j := range 3 {
					v := variant(t, "rule_engine", fmt.Sprintf("1.%d.%d", 9+j, i), "", "")
					if err := p.ActivateScript(ctx, v, byTest); err != nil && !errors.Is(err, scripts.ErrConflict) {
						done <- err
						return
					}
					if _, err := p.RollbackScript(ctx, "rule_engine", byTest); err != nil && !errors.Is(err, scripts.ErrConflict) {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range 3 {
			require.NoError(t, <-done)
		}
		st := s.state(t, "rule_engine")
		seen := map[string]bool{st.Active: true}
		for _, v := range st.History {
			require.False(t, seen[v], "%v", st)
			seen[v] = true
		}
		source, err := s.ScriptSource(ctx, "rule_engine", "")
		require.NoError(t, err)
		require.Equal(t, st.SHA, source.SHA)
		require.NotContains(t, st.Refused, st.Active)
		_, _, err = s.RunRule(ctx, "none")
		require.NoError(t, err)
	})
}

// An engine takes over from an older major version, and does not go back to what
// it cannot call.
func TestOlderMajorVersion(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		own := s.state(t, "alarm_check").Own
		older := variant(t, "alarm_check", "0.9.0", "", "")
		require.NoError(t, client.MSet(ctx, s.key("lua:version:alarm_check"), older.Version, s.key("lua:sha:alarm_check"), older.SHA,
			s.key("lua:source:alarm_check:"+older.Version), older.Text).Err())
		s.another(t, scripts.Options{})
		require.Equal(t, own, s.state(t, "alarm_check").Active)
		_, err := s.RollbackScript(ctx, "alarm_check", byTest)
		require.ErrorIs(t, err, scripts.ErrConflict)
		require.Equal(t, own, s.state(t, "alarm_check").Active)
	})
}

// Errors that lie in the data do not add up to a reason to go back.
func TestForeignKeysAreNotBlamed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		bad := variant(t, "data_sync", "1.9.0", afterFence, afterFence+"  if redis.call('GET', P .. 'once') then redis.call('DEL', P .. 'once') error('cannot') end\n")
		require.NoError(t, s.ActivateScript(ctx, bad, byTest))
		require.NoError(t, client.Set(ctx, s.key("comsrv:2001:fence"), "foreign", 0).Err())
		other := s.NewWriter(scripts.Lease{Channel: "2001", Engine: "engine", Epoch: "1"}, s.points)
		for range 5 {
			_, _, err := other.Write(ctx, []model.Sample{sample("1", 1)}, false)
			require.ErrorContains(t, err, "WRONGTYPE")
		}
		require.NoError(t, client.Set(ctx, s.key("once"), "1", 0).Err())
		w := s.NewWriter(s.lease, s.points)
		_, _, err := w.Write(ctx, []model.Sample{sample("1", 7)}, false)
		require.NoError(t, err)
		require.Equal(t, bad.Version, s.state(t, "data_sync").Active, "it failed once")
		require.Equal(t, "7.000000", s.hash(t, "comsrv:1001:m")["1"])
	})
}

// lossy loses the answers of transactions.
type lossy struct {
	between
	lose func(cmds []redis.Cmder) bool
}

func (h *lossy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err == nil && h.lose(cmds) {
			for _, c := range cmds {
				c.SetErr(errTorn)
			}
			return errTorn
		}
		return err
	}
}

// Whoever goes back and gets no answer does not go back twice.
func TestLostAnswerOfARollback(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		v2, v3 := variant(t, "alarm_check", "1.8.0", "", ""), variant(t, "alarm_check", "1.9.0", "", "")
		require.NoError(t, s.ActivateScript(ctx, v2, byTest))
		require.NoError(t, s.ActivateScript(ctx, v3, byTest))
		lost := 0
		hooked := redis.NewClient(client.(*redis.Client).Options())
		t.Cleanup(func() { hooked.Close() })
		hooked.AddHook(&lossy{lose: func(cmds []redis.Cmder) bool {
			for _, c := range cmds {
				if c.Name() == "publish" {
					lost++
					return true
				}
			}
			return false
		}})
		p, err := scripts.New(hooked, scripts.Options{Site: s.Site()})
		require.NoError(t, err)
		require.NoError(t, p.Prepare(ctx))
		version, err := p.RollbackScript(ctx, "alarm_check", byTest)
		require.NoError(t, err)
		require.Equal(t, v2.Version, version)
		require.Equal(t, 1, lost)
	})
}
