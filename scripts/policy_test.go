package scripts_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// withPolicy gives the control of the site a policy, and the site another control
// that takes labelled values only.
func (s *testSite) withPolicy(t *testing.T, p model.ControlPolicy) {
	t.Helper()
	points := append(s.points[:len(s.points):len(s.points)], model.Point{ID: "6", Kind: model.Control, Enum: true, Labels: map[int]string{0: "off", 1: "on", -3: "test"}})
	require.NoError(t, s.PutPoints(t.Context(), "1001", points))
	require.NoError(t, s.PutModel(t.Context(), model.Instance{ID: "pcs1",
		Measurements: map[string]string{"temperature": "1001:2"},
		Controls:     map[string]string{"power_setpoint": "1001:4", "mode": "1001:6"},
		Policies:     map[string]model.ControlPolicy{"power_setpoint": p}}))
}

func (s *testSite) give(t *testing.T, id, control string, value float64) model.CommandResult {
	t.Helper()
	r, err := s.Submit(t.Context(), model.Command{ID: id, Model: "pcs1", Control: control, Value: value, Timeout: time.Minute})
	require.NoError(t, err)
	return r
}

func TestEnum(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		s.withPolicy(t, model.ControlPolicy{})
		given := 0
		for value, want := range map[float64]string{0: "", 1: "", -3: "", 2: "enum", 0.5: "enum", 1.000001: "enum", -1: "enum", 1e14: "enum"} {
			given++
			require.Equal(t, want, s.give(t, fmt.Sprint("c", given), "mode", value).Reason, "%v", value)
		}
	})
}

func TestInterlock(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		lock := model.Interlock{Name: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}
		s.withPolicy(t, model.ControlPolicy{Interlocks: []model.Interlock{lock}, Safe: new(0.0)})
		given := 0
		give := func(value float64) string {
			given++
			r := s.give(t, fmt.Sprint("c", given), "power_setpoint", value)
			return fmt.Sprint(r.State, " ", r.Reason, " ", r.Detail)
		}
		w := s.NewWriter(s.lease, s.points)
		temperature := func(value float64, quality model.Quality) {
			_, _, err := w.Write(ctx, []model.Sample{{Point: "2", Value: value, Quality: quality}}, false)
			require.NoError(t, err)
		}
		require.Equal(t, "rejected interlock interlock 1 (hot): pcs1:temperature is not known", give(5))
		require.Equal(t, "queued  ", give(0), "nothing forbids the way back")
		temperature(60.5, model.Good)
		require.Equal(t, "rejected interlock interlock 1 (hot): pcs1:temperature is 60.500000, which is > 60.000000", give(5))
		temperature(20, model.Uncertain)
		require.Equal(t, "queued  ", give(5))
		temperature(20, model.Stale)
		require.Equal(t, "rejected interlock interlock 1 (hot): pcs1:temperature is stale", give(5))
		temperature(20, model.Good)

		// between submit and claim
		require.Equal(t, "queued  ", give(6))
		queue, err := s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		require.Len(t, queue, 1, "the ones before are superseded")
		temperature(70, model.Good)
		r, err := s.Claim(ctx, s.lease, queue[0], "t")
		require.ErrorIs(t, err, scripts.ErrConflict)
		require.Equal(t, "rejected interlock", fmt.Sprint(r.State, " ", r.Reason))

		// good values of a channel that nobody runs any more are not current
		require.NoError(t, s.PutPoints(ctx, "1002", []model.Point{{ID: "1"}}))
		require.NoError(t, s.PutModel(ctx, model.Instance{ID: "bms", Measurements: map[string]string{"soc": "1002:1"}}))
		other, err := s.Acquire(ctx, "1002", "engine", time.Minute)
		require.NoError(t, err)
		require.NoError(t, s.Renew(ctx, other, time.Minute, scripts.Field{Name: "state", Value: "online"}))
		_, _, err = s.NewWriter(other, []model.Point{{ID: "1"}}).Write(ctx, []model.Sample{{Point: "1", Value: 50}}, false)
		require.NoError(t, err)
		s.withPolicy(t, model.ControlPolicy{Interlocks: []model.Interlock{{Model: "bms", Point: "soc", Operator: model.Below, Threshold: 10}}})
		require.Equal(t, "queued  ", give(7))
		require.NoError(t, s.Release(ctx, other))
		require.Equal(t, "rejected interlock interlock 1: bms:soc is not current: no engine runs channel 1002", give(8))

		require.NoError(t, client.HSet(ctx, s.key("model:pcs1"), "policy:power_setpoint", `{"interlocks":{"a":1}}`).Err())
		require.Equal(t, "rejected interlock the list of interlocks cannot be read", give(9))
		require.NoError(t, client.HSet(ctx, s.key("model:pcs1"), "policy:power_setpoint", "{").Err())
		require.Contains(t, give(9), "rejected bad_policy ")
		s.withPolicy(t, model.ControlPolicy{})
		require.Equal(t, "queued  ", give(9))
	})
}

func TestSupersede(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		s.withPolicy(t, model.ControlPolicy{})
		state := func(id string) string {
			r, err := s.Command(ctx, id)
			require.NoError(t, err)
			return fmt.Sprint(r.State, " ", r.Detail)
		}
		s.give(t, "a", "power_setpoint", 1)
		queue, err := s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		_, err = s.Claim(ctx, s.lease, queue[0], "t1")
		require.NoError(t, err)
		s.give(t, "b", "power_setpoint", 2)
		s.give(t, "m", "mode", 1)
		require.Equal(t, "executing ", state("a"), "what was claimed goes on")
		s.give(t, "c", "power_setpoint", 3)
		require.Equal(t, "superseded by c", state("b"))
		require.Equal(t, "queued ", state("m"), "another point")
		require.Equal(t, model.CommandSuperseded, s.give(t, "b", "power_setpoint", 2).State, "the same again has no effect")
		require.Equal(t, model.CommandRejected, s.give(t, "d", "power_setpoint", 1000).State)
		require.Equal(t, "queued ", state("c"), "a command that is refused takes nobody's place")
		_, err = s.Cancel(ctx, "b", "ann")
		require.ErrorIs(t, err, scripts.ErrConflict)

		s.withPolicy(t, model.ControlPolicy{Queue: true})
		s.give(t, "e", "power_setpoint", 4)
		require.Equal(t, "queued ", state("c"))
		queue, err = s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		var ids []string
		for _, e := range queue {
			ids = append(ids, e.Command)
		}
		require.Equal(t, []string{"a", "m", "c", "e"}, ids, "a is not finished")
	})
}

// Who stands behind a value, and what the owner does when nobody does.
func TestFailsafeRecords(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := context.Background()
		policy := model.ControlPolicy{Safe: new(-5.0), Hold: time.Minute}
		s.withPolicy(t, policy)
		list, version, same, err := s.Failsafes(ctx, "1001", "")
		require.NoError(t, err)
		require.False(t, same)
		require.Equal(t, []scripts.Failsafe{{Model: "pcs1", Control: "power_setpoint", Point: "4", Policy: policy}}, list)
		_, _, same, err = s.Failsafes(ctx, "1001", version)
		require.NoError(t, err)
		require.True(t, same)

		held := func() map[string]time.Duration {
			h, err := s.Held(ctx, "1001")
			require.NoError(t, err)
			return h
		}
		require.Empty(t, held())
		s.give(t, "a", "power_setpoint", 1)
		require.Empty(t, held(), "nothing was sent")
		queue, err := s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		_, err = s.Claim(ctx, s.lease, queue[0], "t1")
		require.NoError(t, err)
		s.now.Add(10_000)
		require.Equal(t, map[string]time.Duration{"4": 10 * time.Second}, held())
		require.NoError(t, s.Alive(ctx, "cloud"))
		require.Equal(t, map[string]time.Duration{"4": 10 * time.Second}, held(), "another origin")
		require.NoError(t, s.Alive(ctx, "go"))
		s.now.Add(5_000)
		require.Equal(t, map[string]time.Duration{"4": 5 * time.Second}, held())
		require.ErrorIs(t, s.Alive(ctx, ""), model.ErrInvalid)
		// The clock of the store is set back: what lies ahead of it says nothing, else
		// the value would stand until the clock is there again.
		s.now.Add(-500)
		require.Equal(t, map[string]time.Duration{"4": 4500 * time.Millisecond}, held())
		s.now.Add(-7_000)
		require.Equal(t, map[string]time.Duration{"4": 7500 * time.Millisecond}, held(), "the sign of life is ahead, the command is not")
		s.now.Add(-10_000)
		require.Empty(t, held())
		require.NoError(t, s.Alive(ctx, "go"))
		require.Equal(t, map[string]time.Duration{"4": 0}, held())
		s.now.Add(17_500)

		record := scripts.FailsafeRecord{Failsafe: list[0], ID: "f1", Token: "t", State: model.CommandExecuting, Reason: "source_lost"}
		old := s.lease
		s.lease, err = s.Acquire(ctx, "1001", "engine", time.Minute)
		require.NoError(t, err)
		require.ErrorIs(t, s.RecordFailsafe(ctx, old, record), scripts.ErrFenced)
		require.NoError(t, s.RecordFailsafe(ctx, s.lease, record))
		require.NoError(t, s.RecordFailsafe(ctx, s.lease, record), "a lost reply")
		record.State, record.ReadBack = model.CommandVerified, new(-5.0)
		require.NoError(t, s.RecordFailsafe(ctx, old, record), "the device has acted")
		require.NoError(t, s.RecordFailsafe(ctx, old, record))
		r, err := s.Command(ctx, "f1")
		require.NoError(t, err)
		require.Equal(t, "verified source_lost failsafe -5", fmt.Sprint(r.State, " ", r.Reason, " ", r.Origin, " ", r.Value))
		record.State = model.CommandFailed
		require.ErrorIs(t, s.RecordFailsafe(ctx, old, record), scripts.ErrConflict)

		// afterwards, as while the store was away
		record.ID, record.State, record.Ago = "f2", model.CommandExecuted, 3*time.Second
		require.NoError(t, s.RecordFailsafe(ctx, old, record))
		r, err = s.Command(ctx, "f2")
		require.NoError(t, err)
		require.Equal(t, 3*time.Second, r.Updated.Sub(r.Created))

		// one that was under way when it ended comes last
		record.ID, record.State, record.Ago = "f4", model.CommandUnknown, 0
		require.NoError(t, s.RecordFailsafe(ctx, s.lease, record))
		record.State = model.CommandExecuting
		require.ErrorIs(t, s.RecordFailsafe(ctx, s.lease, record), scripts.ErrConflict)
		record.State = model.CommandVerified
		require.NoError(t, s.RecordFailsafe(ctx, s.lease, record), "settled")

		// an owner that ends while it writes leaves nothing that stays executing
		record.ID, record.State = "f3", model.CommandExecuting
		require.NoError(t, s.RecordFailsafe(ctx, s.lease, record))
		queue, err = s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		last := queue[len(queue)-1]
		require.Equal(t, "f3", last.Command)
		_, err = s.Claim(ctx, s.lease, last, "own")
		require.ErrorIs(t, err, scripts.ErrConflict)
		next, err := s.Acquire(ctx, "1001", "engine", time.Minute)
		require.NoError(t, err)
		r, err = s.Claim(ctx, next, last, "x")
		require.ErrorIs(t, err, scripts.ErrConflict)
		require.Equal(t, "unknown owner_lost", fmt.Sprint(r.State, " ", r.Reason))
	})
}

// Where the clock of the store was set back since a command was given, nobody
// knows how old it is: it is not carried out an hour later.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		s.withPolicy(t, model.ControlPolicy{Queue: true})
		require.Equal(t, model.CommandQueued, s.give(t, "a", "power_setpoint", 1).State)
		require.Equal(t, model.CommandQueued, s.give(t, "b", "power_setpoint", 2).State)
		require.Equal(t, model.CommandQueued, s.give(t, "c", "power_setpoint", 3).State)
		queue, err := s.Queue(ctx, "1001", "")
		require.NoError(t, err)
		require.Len(t, queue, 3)
		s.now.Add(-900) // as another server's after a failover
		_, err = s.Claim(ctx, s.lease, queue[0], "t1")
		require.NoError(t, err)
		_, err = s.Expire(ctx, "b")
		require.ErrorIs(t, err, scripts.ErrConflict)
		s.now.Add(-3_600_000)
		r, err := s.Claim(ctx, s.lease, queue[1], "t2")
		require.ErrorIs(t, err, scripts.ErrConflict)
		require.Equal(t, model.CommandExpired, r.State)
		r, err = s.Expire(ctx, "c")
		require.NoError(t, err)
		require.Equal(t, model.CommandExpired, r.State)
	})
}
