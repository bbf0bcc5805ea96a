package scripts_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// transitions are those of the journal, in order.
func (s *testSite) transitions(t *testing.T) (list []string) {
	t.Helper()
	journal, err := s.AlarmJournal(t.Context(), "", 1000)
	require.NoError(t, err)
	for _, ev := range journal {
		list = append(list, string(ev.Transition))
	}
	return list
}

// tick lets time have its effect, and says how often the timers were not done.
func (s *testSite) tick(t *testing.T) {
	t.Helper()
	more, problems, err := s.AlarmTick(t.Context())
	require.NoError(t, err)
	require.Empty(t, problems)
	require.False(t, more)
}

// The quality of a text is judged like that of a number.
func TestAlarmsOfTexts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		for id, op := range map[string]model.Operator{"bad": model.BadQuality, "stale": model.IsStale} {
			require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: id, Model: "pcs1", Point: "serial", Operator: op, OnDelay: 5 * time.Second}))
		}
		w := s.NewWriter(s.lease, s.points)
		write := func(x model.Sample) {
			t.Helper()
			x.Point = "5"
			_, warnings, err := w.Write(t.Context(), []model.Sample{x}, false)
			require.NoError(t, err)
			require.Empty(t, warnings)
			s.now.Add(6000)
			s.tick(t)
		}
		write(model.Sample{Text: "A1"})
		write(model.Sample{Quality: model.Stale})
		require.Equal(t, []string{"raised", "raised"}, s.transitions(t))
		write(model.Sample{Text: "A1"})
		require.Equal(t, []string{"raised", "raised", "cleared", "cleared"}, s.transitions(t))
	})
}

// While the enable point has no usable value, a rule counts or not as before, also
// where its condition was not met before.
func TestAlarmEnablePointGoesBad(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: "low", Model: "pcs1", Point: "active_power", Operator: model.Below, Threshold: 10,
			Enable: &model.AlarmEnable{Point: "running", Operator: model.Equal, Threshold: 1}}))
		w := s.NewWriter(s.lease, s.points)
		for _, x := range []model.Sample{sample("3", 0), sample("1", 50), {Point: "3", Quality: model.Offline}, sample("1", 5)} {
			_, _, err := w.Write(t.Context(), []model.Sample{x}, false)
			require.NoError(t, err)
		}
		require.Empty(t, s.transitions(t), "it did not run when it was heard of last")
		_, _, err := w.Write(t.Context(), []model.Sample{sample("3", 1)}, false)
		require.NoError(t, err)
		require.Equal(t, []string{"raised"}, s.transitions(t))
	})
}

// A clock that ran ahead and was set back holds nothing up for as long as it was
// ahead, and leaves no timer that is due for ever.
func TestAlarmClockIsSetBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: "at_once", Model: "pcs1", Point: "active_power", Operator: model.Above, Threshold: 60}))
		require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: "later", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60, OnDelay: 10 * time.Second}))
		w := s.NewWriter(s.lease, s.points)
		write := func(power, temperature float64) {
			t.Helper()
			_, warnings, err := w.Write(t.Context(), []model.Sample{sample("1", power), sample("2", temperature)}, false)
			require.NoError(t, err)
			require.Empty(t, warnings)
		}
		s.now.Add(3_600_000)
		write(70, 70)
		write(50, 70)
		s.tick(t)
		_, err := s.Acknowledge(t.Context(), "pcs1:active_power:at_once", "anna", "")
		require.NoError(t, err)
		s.now.Add(-3_600_000)
		write(70, 71)
		write(50, 71)
		_, err = s.Acknowledge(t.Context(), "pcs1:active_power:at_once", "anna", "")
		require.NoError(t, err)
		require.Equal(t, []string{"raised", "cleared", "acknowledged", "raised", "cleared", "acknowledged"}, s.transitions(t))
		for range 8 {
			s.now.Add(10_000)
			s.tick(t)
			first, err := client.ZRangeWithScores(t.Context(), s.key("timers"), 0, 0).Result()
			require.NoError(t, err)
			for _, z := range first {
				require.Greater(t, int64(z.Score), s.now.Load(), "what was done is not due again")
			}
		}
		require.NotContains(t, s.hash(t, "alarm:state"), "pcs1:active_power:at_once")
		require.Contains(t, s.hash(t, "alarm:state")["pcs1:temperature:later"], "|active|")
	})
}

// A rule that another program changes is judged by the stored value, whatever it
// is that changed, and without a batch.
func TestForeignAlarmRuleChanges(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		w := s.NewWriter(s.lease, s.points)
		put := func(id, rule string) {
			t.Helper()
			require.NoError(t, client.HSet(ctx, s.key("alarm:rules:pcs1:temperature"), id, rule).Err())
		}
		look := func() {
			t.Helper()
			_, err := s.Reconcile(ctx)
			require.NoError(t, err)
			s.tick(t)
		}
		for _, x := range []model.Sample{sample("2", 70), sample("3", 0)} {
			_, _, err := w.Write(ctx, []model.Sample{x}, false)
			require.NoError(t, err)
		}
		look()
		put("slow", `{"operator":">","threshold":60,"on_delay_ms":600000}`)
		put("gated", `{"operator":">","threshold":60,"enable":{"point_name":"running","operator":"==","threshold":1}}`)
		put("we:ird", `{"operator":">","threshold":60}`)
		look()
		require.Empty(t, s.transitions(t))
		require.Len(t, s.hash(t, "alarm:state"), 2, "the delay runs, and the condition is known")
		put("slow", `{"operator":">","threshold":60,"on_delay_ms":0}`)
		look()
		require.Equal(t, []string{"raised"}, s.transitions(t))
		put("gated", `{"operator":">","threshold":60}`)
		look()
		require.Equal(t, []string{"raised", "raised"}, s.transitions(t))
		put("slow", `{"operator":">","threshold":80}`)
		look()
		require.Equal(t, []string{"raised", "raised", "cleared"}, s.transitions(t))
		require.Zero(t, client.ZCard(ctx, s.key("timers")).Val())
		look()
		require.Zero(t, client.ZCard(ctx, s.key("timers")).Val(), "what did not change is left alone")
	})
}

// Timers that were lost, and rules that changed while nobody looked, are seen to by
// the next engine.
func TestLostAlarmTimers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: "later", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60, OnDelay: 10 * time.Second}))
		_, _, err := s.NewWriter(s.lease, s.points).Write(t.Context(), []model.Sample{sample("2", 70)}, false)
		require.NoError(t, err)
		require.NoError(t, client.Del(t.Context(), s.key("timers")).Err())
		s.now.Add(20_000)
		s.tick(t)
		require.Empty(t, s.transitions(t))
		_, err = s.Reconcile(t.Context())
		require.NoError(t, err)
		s.tick(t)
		require.Equal(t, []string{"raised"}, s.transitions(t))
	})
}

// An alarm that comes again wants to be acknowledged again, also where it is
// latched by the time that somebody looks.
func TestLatchedAlarmComesAgain(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60, Latch: true}))
		w := s.NewWriter(s.lease, s.points)
		write := func(v float64) {
			t.Helper()
			_, _, err := w.Write(ctx, []model.Sample{sample("2", v)}, false)
			require.NoError(t, err)
		}
		write(70)
		write(50)
		a, err := s.Acknowledge(ctx, "pcs1:temperature:hot", "anna", "")
		require.NoError(t, err)
		require.Equal(t, "anna", a.AcknowledgedBy)
		write(71)
		write(51)
		a, err = s.Alarm(ctx, a.ID)
		require.NoError(t, err)
		require.Equal(t, model.AlarmLatched, a.Status)
		require.Zero(t, a.Acknowledged)
		a, err = s.Acknowledge(ctx, a.ID, "bert", "")
		require.NoError(t, err)
		require.Equal(t, "bert", a.AcknowledgedBy)
		require.Equal(t, []string{"raised", "latched", "acknowledged", "reraised", "latched", "acknowledged"}, s.transitions(t))
	})
}

// A call of shelving that comes twice, because its answer was lost, is one; with
// another end or reason it is another one.
func TestShelvingComesTwice(t *testing.T) {
	t.Parallel()
	text, err := scripts.Dump("alarm_desk")
	require.NoError(t, err)
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}))
		for _, c := range []struct {
			code, by, reason string
			until            int64
		}{{"OK", "anna", "fan", start + 60_000}, {"SAME", "anna", "fan", start + 60_000}, {"OK", "anna", "pump", start + 60_000},
			{"OK", "bert", "pump", start + 60_000}, {"OK", "bert", "pump", start + 90_000}, {"SAME", "bert", "pump", start + 90_000}} {
			reply, err := client.Eval(t.Context(), text, []string{s.key("anchor")}, "shelve", start, "", "pcs1:temperature:hot", c.by, c.reason, c.until).StringSlice()
			require.NoError(t, err)
			require.Equal(t, []string{c.code, "normal"}, reply)
		}
		require.Equal(t, []string{"shelved", "shelved", "shelved", "shelved"}, s.transitions(t))
	})
}

// What was held back for the alarm of its channel is told when the channel has none
// any more.
func TestChannelAlarmIsRemovedWhileOffline(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		ctx := t.Context()
		require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "gone", Model: "pcs1", Point: "temperature", Operator: model.BadQuality}))
		require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "down", Model: "channel", Point: "1001", Operator: model.IsOffline}))
		look := func() {
			t.Helper()
			_, err := s.Reconcile(ctx)
			require.NoError(t, err)
			s.tick(t)
		}
		look()
		w := s.NewWriter(s.lease, s.points)
		for _, x := range []model.Sample{sample("2", 20), {Point: "2", Quality: model.Offline}} {
			_, _, err := w.Write(ctx, []model.Sample{x}, false)
			require.NoError(t, err)
		}
		look()
		require.Empty(t, s.transitions(t))
		require.NoError(t, s.DropAlarmRule(ctx, "channel", "1001", "down"))
		look()
		require.Equal(t, []string{"raised"}, s.transitions(t))
	})
}
