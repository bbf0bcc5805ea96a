package voltage_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// alarmSite is an engine with a channel of its own sensors and one alarm.
func alarmSite(t *testing.T, site string, store scripts.StoreConfig) *voltage.Engine {
	t.Helper()
	eng, err := voltage.NewEngine(voltage.Config{Site: site, Store: store, Log: testLog(t),
		Channels: []channel.Config{{ID: "own", Points: []model.Point{{ID: "1"}}}},
		Models:   []model.Instance{{ID: "bms1", Measurements: map[string]string{"temperature": "own:1"}}},
		Alarms:   []alarm.Rule{{ID: "hot", Model: "bms1", Point: "temperature", Operator: model.Above, Threshold: 60}}})
	require.NoError(t, err)
	return eng
}

func push(t *testing.T, eng *voltage.Engine, v float64) {
	t.Helper()
	eventually(t, "push", func() bool { return eng.Push(t.Context(), "own", model.Sample{Point: "1", Value: v}) == nil })
}

// heard collects what a callback is told.
type heard struct {
	mu     sync.Mutex
	events []alarm.Event
	panics bool // at every event
}

func (h *heard) tell(_ context.Context, ev alarm.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, ev)
	if h.panics {
		panic("a fault of the program's own")
	}
}

func (h *heard) transitions() []alarm.Transition {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []alarm.Transition
	for _, ev := range h.events {
		list = append(list, ev.Transition)
	}
	return list
}

func (h *heard) wait(t *testing.T, n int) []alarm.Event {
	t.Helper()
	eventually(t, "transitions", func() bool { return len(h.transitions()) >= n })
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events
}

// A program that was restarted hears of everything since the position that it has
// stored, also of what happened while it was away.
func TestOnAlarmFrom(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, _ *storetest.Server) {
		ctx, site := t.Context(), storetest.Site(t)
		first := alarmSite(t, site, store)
		all := &heard{panics: true}
		require.NoError(t, first.OnAlarmFrom("", all.tell))
		require.NoError(t, first.Start(ctx))
		t.Cleanup(func() { require.NoError(t, first.Stop(context.Background())) })
		push(t, first, 61)
		all.wait(t, 1)
		push(t, first, 20)
		push(t, first, 62)
		stored := all.wait(t, 3)[0].Position // a panic costs nothing but itself
		require.Equal(t, []alarm.Transition{"raised", "cleared", "reraised"}, all.transitions())

		// at the running engine
		late := &heard{}
		require.NoError(t, first.OnAlarmFrom(stored, late.tell))
		late.wait(t, 2)
		require.Equal(t, []alarm.Transition{"cleared", "reraised"}, late.transitions())
		old := &heard{}
		require.NoError(t, first.OnAlarmFrom("1-0", old.tell))
		old.wait(t, 3)
		lost := &heard{}
		require.NoError(t, first.OnAlarmFrom("99999999999999-0", lost.tell), "the journal of other data")
		lost.wait(t, 3)
		require.Equal(t, all.transitions(), lost.transitions())
		now := &heard{}
		require.NoError(t, first.OnAlarmFrom(all.wait(t, 3)[2].Position, now.tell))
		open, err := first.Alarms(ctx)
		require.NoError(t, err)
		require.Len(t, open, 1)
		_, err = first.CloseAlarm(ctx, open[0].ID, "ann", "")
		require.NoError(t, err)
		now.wait(t, 1)
		require.Equal(t, []alarm.Transition{"closed"}, now.transitions())

		if store.URL == "" {
			return // it keeps nothing over a restart
		}
		require.NoError(t, first.Stop(ctx))
		second, again := alarmSite(t, site, store), &heard{}
		require.NoError(t, second.OnAlarmFrom(stored, again.tell))
		require.NoError(t, second.Start(ctx))
		t.Cleanup(func() { require.NoError(t, second.Stop(context.Background())) })
		again.wait(t, 3)
		require.Equal(t, []alarm.Transition{"cleared", "reraised", "closed"}, again.transitions())
	})
}

func TestOnAlarmFromRefusesWhatIsNoPosition(t *testing.T) {
	t.Parallel()
	eng, err := voltage.NewEngine(voltage.Config{})
	require.NoError(t, err)
	err = eng.OnAlarmFrom("\x00\x01", func(context.Context, alarm.Event) {})
	require.ErrorIs(t, err, model.ErrInvalid)
	require.ErrorContains(t, err, `"\x00\x01"`)
}

func TestAlarmsOfAnEngineThatDoesNotRun(t *testing.T) {
	t.Parallel()
	eng, err := voltage.NewEngine(voltage.Config{})
	require.NoError(t, err)
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"query":         func() error { _, err := eng.QueryAlarms(ctx, alarm.Query{}); return err },
		"counts":        func() error { _, err := eng.AlarmCounts(ctx); return err },
		"alarm":         func() error { _, err := eng.Alarm(ctx, "1"); return err },
		"journal":       func() error { _, err := eng.AlarmJournal(ctx, "", 1); return err },
		"journal range": func() error { _, err := eng.AlarmJournalRange(ctx, alarm.JournalQuery{}); return err },
		"acknowledge":   func() error { _, err := eng.Acknowledge(ctx, "1", "", ""); return err },
		"many":          func() error { _, err := eng.AcknowledgeMany(ctx, nil, "", ""); return err },
		"all":           func() error { _, err := eng.AcknowledgeAll(ctx, alarm.Query{}, "", ""); return err },
		"close":         func() error { _, err := eng.CloseAlarm(ctx, "1", "", ""); return err },
		"reset":         func() error { _, err := eng.ResetAlarm(ctx, "1", "", ""); return err },
		"shelve":        func() error { _, err := eng.ShelveAlarm(ctx, "1", "", "", 0); return err },
		"unshelve":      func() error { _, err := eng.UnshelveAlarm(ctx, "1", "", ""); return err },
		"out":           func() error { _, err := eng.AlarmOutOfService(ctx, "1", "", ""); return err },
		"in":            func() error { _, err := eng.AlarmInService(ctx, "1", "", ""); return err },
		"unannounced":   func() error { _, err := eng.UnannouncedAlarms(ctx); return err },
		"rules":         func() error { _, _, err := eng.AlarmRules(ctx); return err },
		"rule":          func() error { _, err := eng.AlarmRule(ctx, "a", "b", "c"); return err },
		"put":           func() error { return eng.PutAlarmRule(ctx, alarm.Rule{}) },
		"drop":          func() error { return eng.DropAlarmRule(ctx, "a", "b", "c") },
	} {
		require.ErrorIs(t, call(), voltage.ErrNotRunning, what)
	}
}

// Rules that come at run time are judged like any other.
func TestAlarmRulesAtRunTime(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, _ *storetest.Server) {
		ctx := t.Context()
		eng := alarmSite(t, storetest.Site(t), store)
		require.NoError(t, eng.Start(ctx))
		t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
		cold := alarm.Rule{ID: "cold", Model: "bms1", Point: "temperature", Operator: model.Below, Threshold: 5, Severity: model.Low}
		require.ErrorIs(t, eng.PutAlarmRule(ctx, alarm.Rule{ID: "cold"}), model.ErrInvalid)
		require.NoError(t, eng.PutAlarmRule(ctx, cold))
		got, err := eng.AlarmRule(ctx, "bms1", "temperature", "cold")
		require.NoError(t, err)
		require.Equal(t, cold, got)
		rules, problems, err := eng.AlarmRules(ctx)
		require.NoError(t, err)
		require.Empty(t, problems)
		require.Len(t, rules, 2)

		push(t, eng, 1)
		eventually(t, "the alarm", func() bool {
			list, err := eng.QueryAlarms(ctx, alarm.Query{Rule: "cold"})
			return err == nil && len(list) == 1
		})
		require.NoError(t, eng.DropAlarmRule(ctx, "bms1", "temperature", "cold"))
		require.ErrorIs(t, eng.DropAlarmRule(ctx, "bms1", "temperature", "cold"), scripts.ErrNotFound)
		n, err := eng.AcknowledgeAll(ctx, alarm.Query{Severities: []model.Severity{model.High}}, "ann", "")
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// Delays end and dead channels are noticed though no sample comes any more.
func TestAlarmsInTime(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, _ *storetest.Server) {
		ctx := t.Context()
		eng := alarmSite(t, storetest.Site(t), store)
		require.NoError(t, eng.RegisterAlarm(alarm.Rule{ID: "later", Model: "bms1", Point: "temperature", Operator: model.Above, Threshold: 60, OnDelay: 300 * time.Millisecond}))
		require.NoError(t, eng.RegisterAlarm(alarm.Rule{ID: "gone", Model: model.AlarmModelChannel, Point: "away", Operator: model.IsOffline, OnDelay: 100 * time.Millisecond}))
		require.NoError(t, eng.RegisterChannel(channel.Config{ID: "away", Points: []model.Point{{ID: "1"}}, Disabled: true}))
		require.NoError(t, eng.Start(ctx))
		t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
		push(t, eng, 61)
		raised := func(rule string) func() bool {
			return func() bool {
				list, err := eng.QueryAlarms(ctx, alarm.Query{Rule: rule, States: []alarm.Status{model.AlarmActive}})
				return err == nil && len(list) == 1
			}
		}
		eventually(t, "the delay ends", raised("later"))
		eventually(t, "nobody runs the channel", raised("gone"))
		c, err := eng.AlarmCounts(ctx)
		require.NoError(t, err)
		require.Equal(t, 3, c.Open)
		n, err := eng.AcknowledgeAll(ctx, alarm.Query{Model: "bms1"}, "ann", "")
		require.NoError(t, err)
		require.Equal(t, 2, n)

		a, err := eng.ShelveAlarm(ctx, alarm.Ref("bms1", "temperature", "later"), "ann", "works", time.Hour)
		require.NoError(t, err)
		require.Equal(t, model.Shelved, a.Suppression)
		list, err := eng.UnannouncedAlarms(ctx)
		require.NoError(t, err)
		require.Len(t, list, 1)
	})
}

// waiting counts the pauses of a clock by their length.
type waiting struct {
	model.Clock
	mu     sync.Mutex
	pauses map[time.Duration]int
}

func (w *waiting) After(d time.Duration) <-chan time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pauses[d]++
	return w.Clock.After(d)
}

func (w *waiting) count(d time.Duration) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pauses[d]
}

// A store that is away is told of once, and asked less often.
func TestAlarmsWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	server, clock := storetest.Own(t), &waiting{Clock: model.SystemClock, pauses: map[time.Duration]int{}}
	var mu sync.Mutex
	var log bytes.Buffer
	said := func(text string) int {
		mu.Lock()
		defer mu.Unlock()
		return strings.Count(log.String(), text)
	}
	eng, err := voltage.NewEngine(voltage.Config{Site: storetest.Site(t), Store: scripts.StoreConfig{URL: server.URL}, Clock: clock,
		Log: slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
	eventually(t, "ticks", func() bool { return clock.count(100*time.Millisecond) > 5 })
	require.Zero(t, clock.count(500*time.Millisecond))
	server.Stop()
	eventually(t, "it is tried again and again", func() bool { return clock.count(500*time.Millisecond) >= 3 })
	require.Equal(t, 1, said("wait for the store"))
	server.Restart()
	eventually(t, "it goes on", func() bool { return said("of alarms go on") == 1 })
	require.Equal(t, 1, said("wait for the store"))
}

// locked is a writer that several goroutines use.
type locked struct {
	mu *sync.Mutex
	to io.Writer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}
