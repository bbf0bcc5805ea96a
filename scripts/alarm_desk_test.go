package scripts_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// desk is a site whose temperature is watched.
type desk struct {
	*testSite
	t     *testing.T
	write func(v float64)
}

func newDesk(t *testing.T, client redis.UniversalClient, rules ...model.AlarmRule) *desk {
	t.Helper()
	d := &desk{testSite: newSite(t, client), t: t}
	for _, r := range rules {
		r.Model, r.Point = "pcs1", "temperature"
		require.NoError(t, d.PutAlarmRule(t.Context(), r))
	}
	w := d.NewWriter(d.lease, d.points)
	d.write = func(v float64) {
		t.Helper()
		d.pass(time.Millisecond)
		_, warnings, err := w.Write(t.Context(), []model.Sample{sample("2", v)}, false)
		require.NoError(t, err)
		require.Empty(t, warnings)
	}
	return d
}

func (d *desk) pass(by time.Duration) { d.now.Add(by.Milliseconds()) }

// tick lets time have its effect.
func (d *desk) tick(channels ...string) {
	d.t.Helper()
	for more := true; more; {
		var problems []string
		var err error
		more, problems, err = d.AlarmTick(d.t.Context(), channels...)
		require.NoError(d.t, err)
		require.Empty(d.t, problems)
	}
}

func (d *desk) open() []model.Alarm {
	d.t.Helper()
	list, err := d.OpenAlarms(d.t.Context())
	require.NoError(d.t, err)
	return list
}

// last is the last transition.
func (d *desk) last() model.AlarmEvent {
	d.t.Helper()
	list, err := d.AlarmJournalRange(d.t.Context(), model.AlarmJournalQuery{Newest: true, Limit: 1})
	require.NoError(d.t, err)
	require.Len(d.t, list, 1)
	return list[0]
}

func TestShelving(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		d, ctx := newDesk(t, client, model.AlarmRule{ID: "hot", Operator: model.Above, Threshold: 60}), t.Context()
		hot := model.AlarmRef("pcs1", "temperature", "hot")

		// before there is an alarm
		a, err := d.Shelve(ctx, hot, "ann", "the sensor is exchanged", time.Hour)
		require.NoError(t, err)
		until := time.UnixMilli(start).Add(time.Hour)
		require.Equal(t, model.Alarm{Model: "pcs1", Point: "temperature", Rule: "hot", Suppression: model.Shelved, ShelvedUntil: until,
			Reason: "the sensor is exchanged", SuppressedBy: "ann"}, a)
		list, err := d.UnannouncedAlarms(ctx)
		require.NoError(t, err)
		require.Equal(t, []model.Unannounced{{Model: "pcs1", Point: "temperature", Rule: "hot", Kind: model.Shelved, Until: until, By: "ann",
			Reason: "the sensor is exchanged", Since: time.UnixMilli(start)}}, list)
		require.Equal(t, model.TransitionShelved, d.last().Transition)
		d.write(61)
		require.Len(t, d.open(), 1)
		require.Equal(t, model.Shelved, d.open()[0].Suppression)
		require.Equal(t, until, d.open()[0].ShelvedUntil)

		// by its id; a longer time takes the place of the first
		id := d.open()[0].ID
		a, err = d.Shelve(ctx, id, "bob", "it takes longer", model.MaxShelving)
		require.NoError(t, err)
		require.Equal(t, id, a.ID)
		require.Equal(t, "bob", a.SuppressedBy)
		d.pass(time.Hour)
		d.tick()
		require.Equal(t, model.Shelved, d.open()[0].Suppression)
		d.pass(model.MaxShelving)
		d.tick()
		require.Empty(t, d.open()[0].Suppression)
		require.Equal(t, model.AlarmActive, d.open()[0].Status)
		require.Equal(t, model.TransitionUnshelved, d.last().Transition)
		require.Equal(t, "system", d.last().By)

		_, err = d.Shelve(ctx, id, "ann", "again", model.MinShelving)
		require.NoError(t, err)
		a, err = d.Unshelve(ctx, hot, "bob", "done")
		require.NoError(t, err)
		require.Equal(t, id, a.ID, "the open alarm of the rule")
		require.Empty(t, a.Suppression)
		before := d.last()
		_, err = d.Unshelve(ctx, hot, "bob", "once more")
		require.NoError(t, err, "what is so already is no error")
		require.Equal(t, before, d.last())
		a, err = d.CloseAlarm(ctx, hot, "bob", "")
		require.NoError(t, err)
		require.Equal(t, id, a.ID)
		require.Equal(t, model.AlarmClosed, a.Status)
		closed, err := d.QueryAlarms(ctx, model.AlarmQuery{States: []model.AlarmStatus{model.AlarmClosed}})
		require.NoError(t, err)
		require.Equal(t, []model.Alarm{a}, closed)
		require.False(t, a.Closed.IsZero())

		for _, unknown := range []string{"999", model.AlarmRef("pcs1", "temperature", "cold")} {
			_, err = d.Shelve(ctx, unknown, "ann", "why not", time.Hour)
			require.ErrorIs(t, err, scripts.ErrNotFound)
			require.ErrorContains(t, err, unknown)
		}
	})
}

func TestOutOfServiceAndReset(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		d, ctx := newDesk(t, client, model.AlarmRule{ID: "hot", Operator: model.Above, Threshold: 60, Latch: true}), t.Context()
		hot := model.AlarmRef("pcs1", "temperature", "hot")
		d.write(61)
		id := d.open()[0].ID
		_, err := d.ResetAlarm(ctx, id, "ann", "")
		require.ErrorIs(t, err, scripts.ErrConflict)
		require.ErrorContains(t, err, "active", "the state in which it is")
		a, err := d.OutOfService(ctx, id, "ann", "maintenance")
		require.NoError(t, err)
		require.Equal(t, model.OutOfService, a.Suppression)
		require.Equal(t, "maintenance", a.Reason)
		_, err = d.Shelve(ctx, id, "ann", "too", time.Hour)
		require.ErrorIs(t, err, scripts.ErrConflict)
		d.write(40)
		require.Equal(t, model.AlarmLatched, d.open()[0].Status)
		a, err = d.InService(ctx, hot, "ann", "")
		require.NoError(t, err)
		require.Empty(t, a.Suppression)
		a, err = d.Acknowledge(ctx, id, "bob", "")
		require.NoError(t, err)
		require.Equal(t, model.AlarmLatched, a.Status)
		require.Equal(t, "bob", a.AcknowledgedBy)
		a, err = d.ResetAlarm(ctx, hot, "cem", "looked at it")
		require.NoError(t, err)
		require.Equal(t, id, a.ID)
		require.Equal(t, model.AlarmClosed, a.Status)
		require.Equal(t, model.TransitionReset, d.last().Transition)
		require.Empty(t, d.open())
	})
}

func TestAcknowledgeManyAndAll(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		const n = 1100 // more than one call takes
		rules := make([]model.AlarmRule, n)
		for i := range rules {
			severity := model.Low
			if i%100 == 0 {
				severity = model.Critical
			}
			rules[i] = model.AlarmRule{ID: fmt.Sprint("r", i), Operator: model.Above, Threshold: 60, Severity: severity}
		}
		d, ctx := newDesk(t, client, rules...), t.Context()
		d.write(61)
		ids := []string{"123456789"} // of no alarm
		for _, a := range d.open() {
			if a.Severity == model.Low && len(ids) < 700 {
				ids = append(ids, a.ID)
			}
		}
		changed, err := d.AcknowledgeMany(ctx, ids, "ann", "seen")
		require.NoError(t, err)
		require.Equal(t, 699, changed)
		changed, err = d.AcknowledgeMany(ctx, ids, "bob", "too")
		require.NoError(t, err)
		require.Zero(t, changed)
		changed, err = d.AcknowledgeAll(ctx, model.AlarmQuery{Severities: []model.Severity{model.Critical}, Limit: 1}, "bob", "")
		require.NoError(t, err)
		require.Equal(t, 11, changed)
		changed, err = d.AcknowledgeAll(ctx, model.AlarmQuery{}, "cem", "")
		require.NoError(t, err)
		require.Equal(t, n-699-11, changed)
		c, err := d.AlarmCounts(ctx)
		require.NoError(t, err)
		require.Equal(t, map[model.AlarmStatus]int{model.AlarmAcknowledged: n}, c.Statuses)
		require.Empty(t, c.Unacknowledged)
		a, err := d.Alarm(ctx, ids[1])
		require.NoError(t, err)
		require.Equal(t, "ann", a.AcknowledgedBy)
	})
}

func TestAlarmTick(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		d, ctx := newDesk(t, client, model.AlarmRule{ID: "hot", Operator: model.Above, Threshold: 60, OnDelay: time.Second}), t.Context()
		require.NoError(t, d.PutAlarmRule(ctx, model.AlarmRule{ID: "gone", Model: model.AlarmModelChannel, Point: "1001", Operator: model.IsOffline, OnDelay: time.Second}))
		require.NoError(t, d.Reload(ctx))
		d.tick(d.OfflineChannels()...)
		d.write(61)
		d.pass(999 * time.Millisecond)
		d.tick()
		require.Empty(t, d.open())
		d.pass(time.Millisecond)
		d.tick()
		require.Len(t, d.open(), 1, "without another sample")

		// nobody runs the channel any more
		require.NoError(t, d.Release(ctx, d.lease))
		require.Equal(t, []string{"1001"}, d.OfflineChannels())
		d.tick("1001")
		d.pass(time.Second)
		d.tick()
		list := d.open()
		require.Len(t, list, 2)
		require.Equal(t, "gone", list[1].Rule)

		// a rule that is malformed holds up nothing
		require.NoError(t, client.HSet(ctx, d.key("alarm:rules:channel:1001"), "odd", `{"operator":`).Err())
		require.NoError(t, client.ZAdd(ctx, d.key("timers"), redis.Z{Score: 1, Member: "nonsense"}).Err())
		more, problems, err := d.AlarmTick(ctx, "1001")
		require.NoError(t, err)
		require.False(t, more)
		require.NotEmpty(t, problems)
		require.Contains(t, fmt.Sprint(problems), "nonsense")
		require.NoError(t, client.Set(ctx, d.key("timers"), "text", 0).Err())
		_, problems, err = d.AlarmTick(ctx)
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(problems), "timers")
	})
}

// Idle ticks do not run the script.
func TestAlarmTickCostsNothingWhileNothingIsDue(t *testing.T) {
	t.Parallel()
	d := newDesk(t, storetest.Embedded(t), model.AlarmRule{ID: "hot", Operator: model.Above, Threshold: 60, OnDelay: time.Hour})
	d.tick()
	d.write(61)
	calls := func() (n int64) {
		for _, s := range d.Stats() {
			if s.Script == "alarm_tick" {
				n = s.Calls
			}
		}
		return n
	}
	before := calls()
	require.NotZero(t, before, "the rule was new")
	for range 10 {
		d.tick()
	}
	require.Equal(t, before, calls())
	d.pass(time.Hour)
	d.tick()
	require.Len(t, d.open(), 1)
	require.Greater(t, calls(), before)
}
