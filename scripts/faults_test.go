package scripts_test

import (
	"context"
	"errors"
	"fmt"
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

// between is called before and after every command of a client; an error of
// before keeps the command from the store, one of after loses its reply.
type between struct {
	mu     sync.Mutex
	before func(cmd redis.Cmder) error
	after  func(cmd redis.Cmder) error
}

func (h *between) set(before, after func(redis.Cmder) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before, h.after = before, after
}

func (h *between) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (h *between) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.mu.Lock()
		before, after := h.before, h.after
		h.mu.Unlock()
		if before != nil {
			if err := before(cmd); err != nil {
				cmd.SetErr(err)
				return err
			}
		}
		err := next(ctx, cmd)
		if after != nil && err == nil {
			if err = after(cmd); err != nil {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// operation is the first argument of a script call, "" for any other command.
func operation(cmd redis.Cmder) string {
	args := cmd.Args()
	if cmd.Name() != "evalsha" || len(args) < 5 {
		return ""
	}
	return argument(args[4])
}

func argument(a any) string {
	if p, ok := a.(*string); ok {
		return *p
	}
	return fmt.Sprint(a)
}

var errTorn = errors.New("connection reset by the test")

// tap gives a site a second connection whose commands a test can interfere with.
func tap(t *testing.T, s *testSite, o scripts.Options) (*scripts.Plane, *between) {
	t.Helper()
	single, ok := s.client.(*redis.Client)
	require.True(t, ok)
	client := redis.NewClient(single.Options())
	t.Cleanup(func() { client.Close() })
	h := &between{}
	client.AddHook(h)
	o.Site = strings.Trim(s.prefix, "{}:")
	if o.Now == nil {
		o.Now = func() time.Time { return time.UnixMilli(s.now.Load()) }
	}
	p, err := scripts.New(client, o)
	require.NoError(t, err)
	require.NoError(t, p.Prepare(t.Context()))
	return p, h
}

// A request that a broken connection delivers late must not put back old values.
func TestLateRepeatOfAnOlderBatch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		p, h := tap(t, s, scripts.Options{HistoryBytes: 1 << 20})
		var first []any
		h.set(func(cmd redis.Cmder) error {
			if operation(cmd) == "batch" && first == nil {
				for _, a := range cmd.Args() {
					first = append(first, strings.Clone(argument(a)))
				}
			}
			return nil
		}, nil)
		w := p.NewWriter(s.lease, s.points)
		for i := range 3 {
			_, _, err := w.Write(t.Context(), []model.Sample{sample("1", float64(i))}, false)
			require.NoError(t, err)
		}
		reply, err := client.Do(t.Context(), first...).StringSlice()
		require.NoError(t, err)
		require.Equal(t, []string{"DUPLICATE"}, reply)
		require.Equal(t, "2.000000", s.hash(t, "comsrv:1001:m")["1"])
		// another writer of the same lease goes on where this one was
		w = p.NewWriter(s.lease, s.points)
		_, _, err = w.Write(t.Context(), []model.Sample{sample("1", 9)}, false)
		require.NoError(t, err)
		require.Equal(t, "9.000000", s.hash(t, "comsrv:1001:m")["1"])
	})
}

// The count of an entry grows by exactly its points, in every queue.
func TestQueueCountsAreExact(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		require.NoError(t, s.PutModel(t.Context(), model.Instance{ID: "site", Measurements: map[string]string{"battery": "1001:1"}}))
		points := append(s.points, model.Point{ID: "6"}) // bound nowhere
		p, _ := tap(t, s, scripts.Options{HistoryBytes: 1 << 20, CloudBytes: 1 << 20})
		w := p.NewWriter(s.lease, points)
		for range 3 {
			_, _, err := w.Write(t.Context(), []model.Sample{sample("1", 1), sample("2", 2), sample("6", 3)}, false)
			require.NoError(t, err)
			_, _, err = w.Write(t.Context(), []model.Sample{sample("6", 3)}, false)
			require.NoError(t, err)
		}
		for _, queue := range []string{"hissrv:queue", "cloud:queue"} {
			entries, err := client.XRange(t.Context(), s.key(queue), "-", "+").Result()
			require.NoError(t, err)
			require.Len(t, entries, 3)
			for i, e := range entries {
				require.Equal(t, 3, strings.Count(e.Values["points"].(string), "\n"))
				require.Equal(t, fmt.Sprint(3*(i+1)), e.Values["count"], "%s %d", queue, i)
			}
		}
	})
}

// Definitions that change all the time use up nothing of what repairs lost
// scripts.
func TestScriptsLostWhileDefinitionsChange(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		p, h := tap(t, s, scripts.Options{})
		w := p.NewWriter(s.lease, s.points)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		calls := 0
		h.set(func(cmd redis.Cmder) error {
			if operation(cmd) != "batch" {
				return nil
			}
			switch calls++; {
			case calls <= 8:
				return client.Incr(ctx, s.key("mapping:version")).Err()
			case calls == 9:
				return client.ScriptFlush(ctx).Err()
			}
			return nil
		}, nil)
		_, _, err := w.Write(ctx, []model.Sample{sample("1", 5)}, false)
		require.NoError(t, err)
		require.Equal(t, "5.000000", s.hash(t, "comsrv:1001:m")["1"])
	})
}

// What Restore calls must not wait for the recovery that waits for Restore.
func TestRestoreMayUseThePlane(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		var p *scripts.Plane
		inside, release := make(chan struct{}), make(chan struct{})
		p, _ = tap(t, s, scripts.Options{Restore: func(ctx context.Context) error {
			close(inside)
			<-release
			_, err := p.Reconcile(ctx)
			return errors.Join(err, s.define(ctx))
		}})
		require.NoError(t, client.Del(t.Context(), keysOf(t, client, s.prefix)...).Err())
		done := make(chan error, 1)
		go func() {
			_, err := p.Reconcile(t.Context())
			done <- err
		}()
		<-inside
		// whoever comes meanwhile waits for as long as its context allows
		ended, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := p.Acquire(ended, "1001", "engine", time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(release)
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(20 * time.Second):
			t.Fatal("the recovery waits for itself")
		}
		require.Equal(t, "pcs1:active_power", s.hash(t, "mapping:c2m")["1001:1"])
	})
}

// A name that is bound elsewhere, or as another kind, must not go on with the
// value that it had: rules would decide on it.
func TestValuesOfChangedBindingsAreForgotten(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		w := s.NewWriter(s.lease, s.points)
		_, _, err := w.Write(ctx, []model.Sample{sample("1", 1), sample("2", 80), sample("3", 1), {Point: "5", Text: "A"}}, false)
		require.NoError(t, err)
		require.NoError(t, client.HSet(ctx, s.key("modsrv:pcs1:measurement"), "foreign", "7").Err())
		require.NoError(t, s.PutModel(ctx, model.Instance{ID: "pcs1",
			Measurements: map[string]string{"active_power": "1001:1", "serial": "1001:5"},
			Signals:      map[string]string{"temperature": "1001:2", "running": "1001:1"}}))
		values, err := s.Values(ctx, "pcs1")
		require.NoError(t, err)
		require.Len(t, values, 3, values)
		require.Equal(t, 1.0, values["active_power"].Value)
		require.Equal(t, "A", values["serial"].Text)
		require.Contains(t, values, "foreign") // never bound by the model: another program's
		require.Equal(t, start, values["active_power"].Time.UnixMilli())
		require.Equal(t, start, values["serial"].Time.UnixMilli())
		require.Zero(t, values["foreign"].Time, "nobody knows")
		require.Equal(t, map[string]string{"*": fmt.Sprint(start)}, s.hash(t, "modsrv:pcs1:ts"))

		points := []model.Point{{ID: "1", Kind: model.Signal}, {ID: "2"}, {ID: "5"}}
		require.NoError(t, s.PutPoints(ctx, "1001", points))
		require.Equal(t, map[string]string{"2": "80.000000"}, s.hash(t, "comsrv:1001:m"))
		require.Empty(t, s.hash(t, "comsrv:1001:s"))
		require.Empty(t, s.hash(t, "comsrv:1001:text"))
		require.Empty(t, s.hash(t, "modsrv:pcs1:text"), "the point has a number now")
	})
}

func TestIdempotencyKeysOfTwoOriginsDoNotMeet(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		for i, c := range []struct{ origin, key string }{{"api", "x:1"}, {"api:x", "1"}, {"api%3Ax", "1"}} {
			id := fmt.Sprintf("c%d", i)
			r, err := s.Submit(t.Context(), model.Command{ID: id, Key: c.key, Origin: c.origin, Model: "pcs1", Control: "power_setpoint", Value: 1})
			require.NoError(t, err)
			require.Equal(t, id, r.ID)
		}
	})
}

// The order of samples within a batch decides, whatever mix they are.
func TestMixedBatch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		w := s.NewWriter(s.lease, s.points)
		at := func(v float64, ms int64) model.Sample {
			return model.Sample{Point: "1", Value: v, Time: time.UnixMilli(start + ms)}
		}
		offline := model.Sample{Point: "1", Quality: model.Offline}
		write := func(w *scripts.Writer, samples ...model.Sample) {
			t.Helper()
			_, _, err := w.Write(ctx, samples, false)
			require.NoError(t, err)
		}
		write(w, sample("1", 1), offline)
		require.Equal(t, map[string]string{"1": "offline"}, s.hash(t, "comsrv:1001:quality"))
		require.Equal(t, map[string]string{"active_power": "offline"}, s.hash(t, "modsrv:pcs1:quality"))
		write(w, offline, sample("1", 2))
		require.Empty(t, s.hash(t, "comsrv:1001:quality"))
		write(w, at(200, 200), at(100, 100)) // the second one is history alone
		require.Equal(t, "200.000000", s.hash(t, "comsrv:1001:m")["1"])
		write(w, offline)
		last, err := client.XRevRangeN(ctx, s.key("hissrv:queue"), "+", "-", 1).Result()
		require.NoError(t, err)
		require.Equal(t, "pcs1:active_power\t200.000000\t\toffline\n", last[0].Values["points"])

		// a batch whose reply was lost for good
		p, h := tap(t, s, scripts.Options{})
		short, cancel := context.WithCancel(ctx)
		h.set(nil, func(cmd redis.Cmder) error {
			if operation(cmd) != "batch" {
				return nil
			}
			cancel()
			return errTorn
		})
		lease, err := p.Acquire(ctx, "1001", "engine", time.Minute)
		require.NoError(t, err)
		w = p.NewWriter(lease, s.points)
		_, _, err = w.Write(short, []model.Sample{at(500, 500)}, false)
		require.Error(t, err)
		require.Equal(t, "500.000000", s.hash(t, "comsrv:1001:m")["1"])
		h.set(nil, nil)
		write(w, at(400, 400))
		require.Equal(t, "500.000000", s.hash(t, "comsrv:1001:m")["1"])
	})
}

// Between submit and claim the grounds of a command may go.
func TestClaimLooksAgain(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		ctx := t.Context()
		for name, c := range map[string]struct {
			change func(s *testSite) error
			reason string
		}{
			"disabled": {func(s *testSite) error {
				return s.PutModel(ctx, model.Instance{ID: "pcs1", Disabled: true, Controls: map[string]string{"power_setpoint": "1001:4"}})
			}, "disabled"},
			"removed": {func(s *testSite) error { return s.DropModel(ctx, "pcs1") }, "no_mapping"},
			"rebound": {func(s *testSite) error {
				return s.PutModel(ctx, model.Instance{ID: "pcs1", Controls: map[string]string{"power_setpoint": "1001:9"}})
			}, "no_mapping"},
			"narrowed": {func(s *testSite) error {
				return s.PutPoints(ctx, "1001", []model.Point{{ID: "4", Kind: model.Control, Max: new(10.0)}})
			}, "limit"},
		} {
			s := newSite(t, client)
			_, err := s.Submit(ctx, model.Command{ID: "c", Model: "pcs1", Control: "power_setpoint", Value: 50})
			require.NoError(t, err)
			queue, err := s.Queue(ctx, "1001", "")
			require.NoError(t, err)
			require.NoError(t, c.change(s), name)
			r, err := s.Claim(ctx, s.lease, queue[0], "t")
			require.ErrorIs(t, err, scripts.ErrConflict, name)
			require.Equal(t, model.CommandRejected, r.State, name)
			require.Equal(t, c.reason, r.Reason, name)
			queue, err = s.Queue(ctx, "1001", "")
			require.NoError(t, err)
			require.Empty(t, queue, name)
		}
	})
}

// A store that comes back with older data shows a command as queued that was
// executed: it must not be executed twice.
func TestClaimAfterTheStoreWentBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		_, err := s.Submit(ctx, model.Command{ID: "c", Model: "pcs1", Control: "power_setpoint", Value: 50, Timeout: time.Hour})
		require.NoError(t, err)
		record := s.hash(t, "command:c")
		queue, err := s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		_, err = s.Claim(ctx, s.lease, queue[0], "t1")
		require.NoError(t, err)
		_, err = s.Finish(ctx, "c", "t1", model.CommandVerified, "", "", nil)
		require.NoError(t, err)

		require.NoError(t, client.HSet(ctx, s.key("command:c"), record).Err())
		again, err := client.XAdd(ctx, &redis.XAddArgs{Stream: s.key("cmd:1001:queue"), Values: []string{"id", "c"}}).Result()
		require.NoError(t, err)
		lease, err := s.Acquire(ctx, "1001", "engine", time.Minute)
		require.NoError(t, err)
		r, err := s.Claim(ctx, lease, scripts.QueueEntry{Position: again, Command: "c"}, "t2")
		require.ErrorIs(t, err, scripts.ErrConflict)
		require.Equal(t, model.CommandUnknown, r.State)
	})
}

// A submit that arrives late, because it is repeated or the store stood still,
// gets what is left of its time, and nothing when nothing is left.
func TestSubmitThatArrivesLate(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		p, h := tap(t, s, scripts.Options{})
		tries := 0
		h.set(func(cmd redis.Cmder) error {
			if operation(cmd) == "submit" {
				s.now.Add(4000)
				if tries++; tries%2 == 1 { // the first try of each
					return errTorn
				}
			}
			return nil
		}, nil)
		c := model.Command{ID: "c", Model: "pcs1", Control: "power_setpoint", Value: 1, Timeout: 10 * time.Second}
		r, err := p.Submit(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, 2, tries)
		require.Equal(t, start+10_000, r.Deadline.UnixMilli())

		c.ID, c.Timeout = "late", 3*time.Second
		_, err = p.Submit(t.Context(), c)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Command(t.Context(), "late")
		require.ErrorIs(t, err, scripts.ErrNotFound)
		queue, err := s.Queue(t.Context(), "1001", "")
		require.NoError(t, err)
		require.Len(t, queue, 1)
	})
}

// A submit that fails leaves nothing that looks like a command.
func TestFailedSubmitLeavesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		c := model.Command{ID: "c", Model: "pcs1", Control: "power_setpoint", Value: 1}
		require.NoError(t, client.Set(ctx, s.key("cmd:1001:queue"), "foreign", 0).Err())
		_, err := s.Submit(ctx, c)
		require.Error(t, err)
		_, err = s.Command(ctx, "c")
		require.ErrorIs(t, err, scripts.ErrNotFound)
		require.NoError(t, client.Del(ctx, s.key("cmd:1001:queue")).Err())
		require.NoError(t, client.Set(ctx, s.key("cmd:1001:control"), "foreign", 0).Err())
		r, err := s.Submit(ctx, c)
		require.NoError(t, err, "that hash is for others to read")
		require.Equal(t, model.CommandQueued, r.State)
	})
}

// Commands to a channel that nobody runs end, and do not pile up.
func TestCommandsThatNobodyTakes(t *testing.T) {
	t.Parallel()
	text, err := scripts.Dump("data_sync")
	require.NoError(t, err)
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		ctx := t.Context()
		s := newSite(t, client)
		require.NoError(t, client.HSet(ctx, s.key("mapping:m2c"), "foreign:x", "7:1").Err())
		require.NoError(t, client.SAdd(ctx, s.key("model:enabled"), "foreign").Err())
		var first string
		for i := range 20 {
			now := start + int64(i)*11_000
			reply, err := client.Eval(ctx, text, []string{s.key("anchor")}, "m2c", "foreign", "x", "1", now).StringSlice()
			require.NoError(t, err)
			require.Equal(t, "OK", reply[0], reply)
			if i == 0 {
				first = reply[2]
			}
		}
		n, err := client.XLen(ctx, s.key("cmd:7:queue")).Result()
		require.NoError(t, err)
		require.LessOrEqual(t, n, int64(2))
		r, err := s.Command(ctx, first)
		require.NoError(t, err)
		require.Equal(t, model.CommandExpired, r.State)
	})
}
