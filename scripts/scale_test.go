package scripts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// standby is a store whose master can die, as one site sees it.
type standby struct {
	url      string
	caughtUp func() // the replica has everything
	cut      func() // what the master takes from now on is lost with it
	kill     func()
	promoted func()
	master   func() *storetest.Server
	replica  func() *storetest.Server
}

// onStandbys runs a test through a fail-over by Sentinels and through one of a
// cluster.
func onStandbys(t *testing.T, test func(t *testing.T, s *testSite, st standby)) {
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		f := storetest.Sentinel(t)
		test(t, newSite(t, open(t, f.URL)), standby{url: f.URL, caughtUp: f.CaughtUp, cut: f.Cut, kill: f.Kill, promoted: f.Promoted,
			master: func() *storetest.Server { return f.Master }, replica: func() *storetest.Server { return f.Replica }})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		n := storetest.StartCluster(t, 1)
		s := newSite(t, open(t, n.URL()))
		i := n.Owner(s.key("anchor"))
		master, replica := n.Masters[i], n.Replicas[i]
		test(t, s, standby{url: n.URL(), caughtUp: func() { n.CaughtUp(i) }, cut: func() { storetest.Cut(t, master, replica) }, kill: master.Kill,
			promoted: func() { master, replica = n.Promoted(i), master },
			master:   func() *storetest.Server { return master }, replica: func() *storetest.Server { return replica }})
	})
}

// open opens a store as an engine does.
func open(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	store, err := scripts.OpenStore(t.Context(), scripts.StoreConfig{URL: url}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	return store.Client
}

// numbers writes the numbers from first to before last, one batch each. From 50
// on the temperature is one that the rule hot raises an alarm for.
func numbers(ctx context.Context, w *scripts.Writer, first, last int) error {
	for i := first; i < last; i++ {
		temperature := 20.0
		if i >= 50 {
			temperature = 70
		}
		_, warnings, err := w.Write(ctx, []model.Sample{sample("1", float64(i)), sample("2", temperature)}, false)
		if err != nil || len(warnings) > 0 {
			return errors.Join(err, fmt.Errorf("number %d: warnings %v", i, warnings))
		}
	}
	return nil
}

func (s *testSite) hot(t *testing.T) {
	t.Helper()
	require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}))
}

// history returns the numbers that are in the history stream, and fails where
// the count of points is not exact.
func (s *testSite) history(t *testing.T) (list []int) {
	t.Helper()
	entries, err := s.client.XRange(t.Context(), s.key("hissrv:queue"), "-", "+").Result()
	require.NoError(t, err)
	for i, e := range entries {
		require.Equal(t, strconv.Itoa(2*(i+1)), e.Values["count"])
		for line := range strings.Lines(e.Values["points"].(string)) {
			f := strings.Fields(line)
			if f[0] == "pcs1:active_power" {
				v, err := strconv.ParseFloat(f[1], 64)
				require.NoError(t, err)
				list = append(list, int(v))
			}
		}
	}
	return list
}

// sequence returns the numbers from first to before last.
func sequence(first, last int) (list []int) {
	for i := first; i < last; i++ {
		list = append(list, i)
	}
	return list
}

// raised returns how often the alarm journal says that an alarm was raised.
func (s *testSite) raised(t *testing.T) (n int) {
	t.Helper()
	journal, err := s.AlarmJournal(t.Context(), "", 1000)
	require.NoError(t, err)
	for _, ev := range journal {
		if ev.Transition == "raised" {
			n++
		}
	}
	return n
}

// submit gives a command, again and again while the store is away.
func (s *testSite) submit(ctx context.Context, id string) (model.CommandResult, error) {
	for {
		r, err := s.Submit(ctx, model.Command{ID: id, Model: "pcs1", Control: "power_setpoint", Value: 5})
		if !errors.Is(err, scripts.ErrStore) || ctx.Err() != nil {
			return r, err
		}
	}
}

// claim takes a command from the queue with a new token, as a channel does that
// executes it.
func (s *testSite) claim(t *testing.T, id, token string) (model.CommandResult, error) {
	t.Helper()
	queue, err := s.Queue(t.Context(), "1001", "")
	require.NoError(t, err)
	i := slices.IndexFunc(queue, func(e scripts.QueueEntry) bool { return e.Command == id })
	require.GreaterOrEqual(t, i, 0, "%s is not in the queue %v", id, queue)
	return s.Claim(t.Context(), s.lease, queue[i], token)
}

// loaded reports whether a server has a script in its cache.
func loaded(t *testing.T, n *storetest.Server, sha string) bool {
	t.Helper()
	found, err := storetest.Client(t, n.URL).ScriptExists(t.Context(), sha).Result()
	require.NoError(t, err)
	return found[0]
}

// What the replica had when the master died is there, once, and everything goes
// on by itself with the version that is active, not with the program's own.
func TestFailoverLosesNothingThatWasReplicated(t *testing.T) {
	t.Parallel()
	onStandbys(t, func(t *testing.T, s *testSite, st standby) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.hot(t)
		active := variant(t, "data_sync", "1.999.0", "", "")
		require.NoError(t, s.ActivateScript(ctx, active, byTest))
		w := s.NewWriter(s.lease, s.points)
		require.NoError(t, numbers(ctx, w, 0, 100))
		for _, id := range []string{"done", "going", "queued"} {
			r, err := s.submit(ctx, id)
			require.NoError(t, err)
			require.Equal(t, model.CommandQueued, r.State, r)
		}
		for _, id := range []string{"done", "going"} {
			_, err := s.claim(t, id, "token-"+id)
			require.NoError(t, err)
		}
		_, err := s.Finish(ctx, "done", "token-done", model.CommandVerified, "", "", nil)
		require.NoError(t, err)

		st.caughtUp()
		// Redis before 7.0 replicates SCRIPT LOAD, and a client may have loaded it
		require.NoError(t, storetest.Client(t, st.replica().URL).ScriptFlush(ctx).Err())
		st.kill()
		var going sync.WaitGroup
		var late model.CommandResult
		var written, submitted error
		going.Go(func() { written = numbers(ctx, w, 100, 200) })
		going.Go(func() { late, submitted = s.submit(ctx, "late") })
		st.promoted()
		going.Wait()
		require.NoError(t, written)
		require.NoError(t, submitted)
		require.Equal(t, model.CommandQueued, late.State)

		require.Equal(t, sequence(0, 200), s.history(t))
		require.Equal(t, "199.000000", s.hash(t, "modsrv:pcs1:measurement")["active_power"])
		require.Equal(t, active.Version, s.state(t, "data_sync").Active)
		require.True(t, loaded(t, st.master(), active.SHA))
		own := s.state(t, "data_sync").History
		require.Len(t, own, 1)
		before, err := s.ScriptSource(ctx, "data_sync", own[0])
		require.NoError(t, err)
		require.False(t, loaded(t, st.master(), before.SHA))
		require.Equal(t, 1, s.raised(t))
		open, err := s.OpenAlarms(ctx)
		require.NoError(t, err)
		require.Len(t, open, 1)

		_, err = s.Finish(ctx, "going", "token-going", model.CommandExecuted, "", "", nil)
		require.NoError(t, err)
		for _, id := range []string{"queued", "late"} {
			_, err := s.claim(t, id, "token-"+id)
			require.NoError(t, err)
			_, err = s.claim(t, id, "another-"+id)
			require.ErrorIs(t, err, scripts.ErrConflict)
		}
		for id, state := range map[string]model.CommandState{"done": "verified", "going": "executed", "queued": "executing", "late": "executing"} {
			r, err := s.Command(ctx, id)
			require.NoError(t, err)
			require.Equal(t, state, r.State, id)
		}
	})
}

// Replication is asynchronous: what the replica had not got is gone. Everything
// goes on from what it had, and no command is executed a second time.
func TestFailoverThatLosesTheLastMoments(t *testing.T) {
	t.Parallel()
	onStandbys(t, func(t *testing.T, s *testSite, st standby) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.hot(t)
		w := s.NewWriter(s.lease, s.points)
		require.NoError(t, numbers(ctx, w, 0, 40))
		for _, id := range []string{"claimed", "finished", "going"} {
			_, err := s.submit(ctx, id)
			require.NoError(t, err)
		}
		st.caughtUp()
		st.cut()
		require.NoError(t, numbers(ctx, w, 40, 80))
		require.Equal(t, 1, s.raised(t))
		for _, id := range []string{"claimed", "finished", "going"} {
			_, err := s.claim(t, id, "token-"+id)
			require.NoError(t, err)
		}
		_, err := s.Finish(ctx, "finished", "token-finished", model.CommandVerified, "", "", nil)
		require.NoError(t, err)
		lost, err := s.submit(ctx, "lost")
		require.NoError(t, err)
		require.Equal(t, model.CommandQueued, lost.State)
		_, err = s.claim(t, "lost", "token-lost")
		require.NoError(t, err)

		st.kill()
		var going sync.WaitGroup
		var written error
		going.Go(func() { written = numbers(ctx, w, 80, 120) })
		st.promoted()
		going.Wait()
		require.NoError(t, written)
		require.Equal(t, append(sequence(0, 40), sequence(80, 120)...), s.history(t))
		require.Equal(t, 1, s.raised(t))

		for _, id := range []string{"claimed", "finished"} {
			r, err := s.claim(t, id, "again-"+id)
			require.ErrorIs(t, err, scripts.ErrConflict)
			require.Equal(t, model.CommandUnknown, r.State)
			require.Equal(t, "store_went_back", r.Reason)
		}
		// this one was being executed meanwhile: its result counts
		r, err := s.Finish(ctx, "going", "token-going", model.CommandExecuted, "", "", nil)
		require.NoError(t, err)
		require.Equal(t, model.CommandExecuted, r.State)
		_, err = s.Command(ctx, "lost")
		require.ErrorIs(t, err, scripts.ErrNotFound)
	})
}

// keepWriting writes numbers one by one from first on. stop ends that, and returns
// the number that would have been next.
func keepWriting(ctx context.Context, w *scripts.Writer, first int) (stop func() (next int, err error)) {
	ended, writing := make(chan struct{}), make(chan error, 1)
	next := first
	go func() {
		for {
			select {
			case <-ended:
				writing <- nil
				return
			default:
			}
			if err := numbers(ctx, w, next, next+1); err != nil {
				writing <- err
				return
			}
			next++
		}
	}()
	return func() (int, error) {
		close(ended)
		err := <-writing
		return next, err
	}
}

// A master that dies in the midst of everything may take the last batches with
// it, but nothing in between, and nothing is there twice.
func TestFailoverUnderLoad(t *testing.T) {
	t.Parallel()
	onStandbys(t, func(t *testing.T, s *testSite, st standby) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s.hot(t)
		w := s.NewWriter(s.lease, s.points)
		require.NoError(t, numbers(ctx, w, 0, 100))
		st.caughtUp()
		stop := keepWriting(ctx, w, 100)
		st.kill()
		st.promoted()
		after, err := stop()
		require.NoError(t, err)
		require.NoError(t, numbers(ctx, w, after, after+100))
		got := s.history(t)
		require.Equal(t, sequence(0, 100), got[:100])
		require.Equal(t, sequence(after, after+100), got[len(got)-100:])
		require.True(t, slices.IsSorted(got))
		require.Len(t, slices.Compact(slices.Clone(got)), len(got), "something is there twice: %v", got)
		holes := 0
		for i := range got[1:] {
			if got[i+1] != got[i]+1 {
				holes++
			}
		}
		require.LessOrEqual(t, holes, 1, "%v", got)
		require.Equal(t, 1, s.raised(t))
	})
}

// A node that is gone for good holds up only the sites that live on it.
func TestClusterWithADeadNode(t *testing.T) {
	t.Parallel()
	n := storetest.StartCluster(t, 0, "--cluster-require-full-coverage", "no")
	s := namedSite(t, open(t, n.URL()), n.SiteOn(0))
	n.Masters[1].Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w := s.NewWriter(s.lease, s.points)
	require.NoError(t, numbers(ctx, w, 0, 10))
	require.NoError(t, storetest.Client(t, n.Masters[0].URL).ScriptFlush(ctx).Err())
	require.NoError(t, numbers(ctx, w, 10, 20))
	require.Equal(t, sequence(0, 20), s.history(t))
	require.NoError(t, s.Ping(ctx))
	// and so does an engine that starts meanwhile
	again := namedSite(t, open(t, n.URL()), n.SiteOn(2))
	require.NoError(t, numbers(ctx, again.NewWriter(again.lease, again.points), 0, 10))
}

// A slot that moves to another node under load, key by key: calls wait until it
// has arrived.
func TestResharding(t *testing.T) {
	t.Parallel()
	n := storetest.StartCluster(t, 0)
	s := newSite(t, open(t, n.URL()))
	s.hot(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := s.NewWriter(s.lease, s.points)
	require.NoError(t, numbers(ctx, w, 0, 100))
	_, err := s.submit(ctx, "queued")
	require.NoError(t, err)

	home := n.Owner(s.key("anchor"))
	target := (home + 1) % 3
	namedSite(t, s.client, n.SiteOn(target)) // a site that lives there: the node has the scripts
	version := s.client.Get(ctx, s.key("mapping:version")).Val()
	stop := keepWriting(ctx, w, 100)
	// first what every call looks at before anything else
	first := func(keys []string) {
		slices.SortFunc(keys, func(a, b string) int {
			rank := func(k string) int {
				return strings.Count(k, "site:generation") + strings.Count(k, "lua:version:data_sync")
			}
			return rank(b) - rank(a)
		})
	}
	// every step meets calls: the writer's, which are under way all the time, and
	// one of its own, which may be refused but changes nothing then
	n.Reshard(s.key("anchor"), target, first, func() {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if err := s.Renew(short, s.lease, time.Minute); err != nil {
			require.NotErrorIs(t, err, scripts.ErrFenced)
		}
		_, _ = s.Reconcile(short)
	})
	after, err := stop()
	require.NoError(t, err)
	require.NoError(t, numbers(ctx, w, after, after+100))
	require.Equal(t, sequence(0, after+100), s.history(t))
	require.Equal(t, 1, s.raised(t))
	require.Equal(t, version, s.client.Get(ctx, s.key("mapping:version")).Val(), "a Plane has seen only a part of the definitions")
	_, err = s.claim(t, "queued", "token")
	require.NoError(t, err)
	left, err := storetest.Client(t, n.Masters[home].URL).Keys(ctx, s.prefix+"*").Result()
	require.NoError(t, err)
	require.Empty(t, left)
}

// Every key that scripts and Planes make is in its site's slot, so that sites on
// several nodes keep out of each other's way.
func TestEverySiteLivesInOneSlot(t *testing.T) {
	t.Parallel()
	n := storetest.StartCluster(t, 0)
	client := open(t, n.URL())
	for i, home := range n.Masters {
		s := namedSite(t, client, n.SiteOn(i))
		s.hot(t)
		require.NoError(t, s.PutRule(t.Context(), model.Rule{ID: "stop", Conditions: []model.Condition{
			{Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}},
			Actions: []model.Action{{Type: model.ActionControl, Model: "pcs1", Control: "power_setpoint", Value: 0}}}))
		require.NoError(t, numbers(t.Context(), s.NewWriter(s.lease, s.points), 40, 60))
		keys := 0
		for _, m := range n.Masters {
			all, err := storetest.Client(t, m.URL).Keys(t.Context(), "*").Result()
			require.NoError(t, err)
			for _, k := range all {
				require.Regexp(t, `^\{test[0-9-]+\}:`, k)
				if strings.HasPrefix(k, s.prefix) {
					require.Equal(t, home, m, k)
					keys++
				}
			}
		}
		require.Greater(t, keys, 20)
	}
}
