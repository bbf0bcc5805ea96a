package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// inbox is a target in memory.
type inbox struct {
	mu     sync.Mutex
	got    []notify.Message
	answer func(m notify.Message) error // nil takes everything
	closed int
}

func (b *inbox) factory(notify.Setup) (notify.Sender, error) { return b, nil }

func (b *inbox) Send(ctx context.Context, m notify.Message) error {
	b.mu.Lock()
	answer := b.answer
	b.mu.Unlock()
	if answer != nil {
		if err := answer(m); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, m)
	return ctx.Err()
}

func (b *inbox) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed++
	return nil
}

func (b *inbox) answers(f func(m notify.Message) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

func (b *inbox) messages() []notify.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

func (b *inbox) ids() []string {
	var ids []string
	for _, m := range b.messages() {
		ids = append(ids, m.ID)
	}
	return ids
}

// clock is turned by hand. What waits for it is woken when its time has come.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	waits []wait
}

type wait struct {
	at time.Time
	ch chan time.Time
}

func newClock() *clock { return &clock{now: time.Now().Truncate(time.Millisecond)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.waits = append(c.waits, wait{c.now.Add(d), ch})
	return ch
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waits = slices.DeleteFunc(c.waits, func(w wait) bool {
		if w.at.After(c.now) {
			return false
		}
		w.ch <- c.now
		return true
	})
}

// bench is a notifier on a store.
type bench struct {
	t      *testing.T
	site   string
	id     string // of the running notifier
	client redis.UniversalClient
	plane  *scripts.Plane
	n      *notify.Notifier
	clock  *clock
	stop   func()
}

func newBench(t *testing.T, client redis.UniversalClient, cfg notify.Config) *bench {
	t.Helper()
	b := &bench{t: t, site: storetest.Site(t), client: client, clock: newClock()}
	var err error
	b.plane, err = scripts.New(client, scripts.Options{Site: b.site})
	require.NoError(t, err)
	b.start("one", cfg)
	return b
}

// start runs a notifier on the site.
func (b *bench) start(id string, cfg notify.Config) {
	b.t.Helper()
	var err error
	b.id = id
	b.n, err = notify.New(cfg, notify.Options{Site: b.site, Engine: "e", Clock: b.clock, Log: slog.New(slog.NewTextHandler(b.t.Output(), nil))})
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	n := b.n
	go func() {
		defer close(done)
		n.Run(ctx, b.plane, id)
	}()
	b.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	b.t.Cleanup(b.stop)
}

func (b *bench) key(name string) string { return "{" + b.site + "}:" + name }

// push puts messages into the queue, as the scripts do.
func (b *bench) push(messages ...string) {
	b.t.Helper()
	for _, m := range messages {
		require.NoError(b.t, b.client.LPush(b.t.Context(), b.key("notification:queue"), m).Err())
	}
	b.n.Wake()
}

func alarmText(id string, fields ...string) string {
	m := map[string]string{"type": "alarm", "id": id, "transition": "raised", "alarm_id": strings.Split(id, "-")[0], "model_id": "pcs1", "point_name": "temperature",
		"rule_id": "hot", "severity": "high", "status": "active", "value": "61.200000", "threshold": "60.000000", "operator": ">", "message": "too hot", "timestamp": fmt.Sprint(time.Now().UnixMilli())}
	for i := 0; i+1 < len(fields); i += 2 {
		m[fields[i]] = fields[i+1]
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, 2*time.Millisecond, what)
}

// later turns the clock by seconds until ok. Once is not enough: a target may have looked
// at the clock just before, and begin to wait just after.
func (b *bench) later(what string, ok func() bool) {
	b.t.Helper()
	eventually(b.t, what, func() bool {
		b.clock.add(time.Second)
		return ok()
	})
}

func (b *bench) status() model.Notifications {
	b.t.Helper()
	s, err := b.n.Status(b.t.Context())
	if err != nil {
		return model.Notifications{}
	}
	return s
}

// idle waits until everything has been distributed and n messages wait for targets.
func (b *bench) idle(pending int) model.Notifications {
	b.t.Helper()
	var s model.Notifications
	eventually(b.t, fmt.Sprintf("%d pending: %+v", pending, b.status()), func() bool {
		s = b.status()
		n := 0
		for _, t := range s.Targets {
			n += t.Pending
		}
		taken, err := b.client.LLen(b.t.Context(), b.key("notification:processing:"+b.id)).Result()
		stored, failed := b.client.HLen(b.t.Context(), b.key("notification:work:"+b.id)).Result()
		return err == nil && failed == nil && taken == 0 && len(s.Targets) > 0 && s.Queue == 0 && n == pending && stored == int64(n)
	})
	return s
}

func (b *bench) dead() []model.DeadNotification {
	b.t.Helper()
	var list []model.DeadNotification
	require.NoError(b.t, b.plane.DeadNotifications(b.t.Context(), func(d model.DeadNotification, _ string) { list = append(list, d) }))
	return list
}

func one(b *inbox) notify.Config {
	return notify.Config{Targets: []notify.Target{{ID: "ops", Sender: b.factory}}, Routes: []notify.Route{{Targets: []string{"ops"}}}}
}

func TestMessagesReachTheirTargets(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		all, urgent, chinese := &inbox{}, &inbox{}, &inbox{}
		b := newBench(t, client, notify.Config{
			Targets: []notify.Target{{ID: "all", Sender: all.factory}, {ID: "urgent", Sender: urgent.factory}, {ID: "zh", Sender: chinese.factory, Language: notify.Chinese}},
			Routes: []notify.Route{
				{Targets: []string{"all"}},
				{Severity: model.High, Models: []string{"pcs*", "bms1"}, Transitions: []model.AlarmTransition{model.TransitionRaised, model.TransitionCleared}, Targets: []string{"urgent", "all"}},
				{Types: []string{"report"}, Targets: []string{"zh"}},
				{Severity: model.Critical, Language: notify.English, Targets: []string{"zh"}},
			}})
		b.push(alarmText("1-1"), alarmText("2-1", "severity", "low"), alarmText("3-1", "model_id", "meter"), alarmText("1-2", "transition", "cleared", "status", "cleared"),
			alarmText("4-1", "model_id", "bms1", "severity", "critical"), alarmText("5-1", "transition", "unshelved"), alarmText("6-1", "transition", "in_service", "status", "cleared"),
			`{"type":"notification","rule_id":"peak","severity":"medium","message":"peak","timestamp":"1767225600000"}`,
			`{"type":"report","id":"r","message":"all well","severity":"info","other":{"a":[1]}}`)
		b.idle(0)
		assert.ElementsMatch(t, []string{"1-1", "2-1", "3-1", "4-1", "5-1", "1-2"}, slices.DeleteFunc(all.ids(), func(id string) bool { return id[0] == 'x' }))
		assert.Len(t, all.ids(), 7)
		assert.ElementsMatch(t, []string{"1-1", "1-2", "4-1"}, urgent.ids())
		assert.ElementsMatch(t, []string{"4-1", "r"}, chinese.ids())
		for _, m := range chinese.messages() {
			if m.ID == "r" {
				assert.Contains(t, m.Subject, "通知: all well")
				assert.Equal(t, notify.Chinese, m.Language)
				assert.False(t, m.Time.IsZero())
			} else {
				assert.Equal(t, "[CRITICAL] "+b.site+": bms1.temperature raised: too hot", m.Subject)
				assert.Contains(t, m.Text, "Limit: > 60.000000\n")
			}
		}
		assert.EqualValues(t, 1, b.status().Unrouted, "6-1")
		assert.Empty(t, b.dead())
	})
}

func TestWhatNobodyUnderstandsIsKept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		in := &inbox{}
		b := newBench(t, client, one(in))
		bad := map[string]string{
			"": "not a JSON object: EOF", "x\xff": "not a JSON object", "null": "not a JSON object: null", "[1]": "not a JSON object",
			`{"type":"alarm"} x`: "there is something after the JSON object", `{}`: "field type: missing", `{"type":"alarm"}`: "field alarm_id: missing",
			`{"type":"notification"}`: "field message: missing", `{"type":"other","message":"x"}`: `type "other": no route has it`,
			`{"type":"alarm","alarm_id":"1","value":"abc"}`: `field value: "abc" is not a number`, `{"type":"alarm","alarm_id":"1","value":{}}`: "field value: want a text or a number",
			`{"type":"alarm","alarm_id":"1","transition":"odd"}`: `field transition: "odd" is unknown`, `{"type":"alarm","alarm_id":"1","timestamp":"yesterday"}`: "field timestamp",
			`{"type":"notification","message":"` + strings.Repeat("x", 5000) + `"}`: "field message: 5000 bytes", strings.Repeat("x", 70000): "70000 bytes: at most 65536",
		}
		for text := range bad {
			b.push(text)
		}
		b.push(alarmText("1-1"))
		b.idle(0)
		require.Equal(t, []string{"1-1"}, in.ids())
		dead := b.dead()
		require.Len(t, dead, len(bad))
		for _, d := range dead {
			require.Empty(t, d.Target)
			var text string
			if json.Unmarshal(d.Message, &text) != nil {
				text = string(d.Message)
			}
			found := ""
			for message, reason := range bad {
				if strings.HasPrefix(d.Reason, reason) && (message == "" || strings.HasPrefix(strings.ToValidUTF8(message, "\uFFFD"), text[:min(len(text), 4)])) {
					found = message
				}
			}
			require.Contains(t, bad, found, "%+v", d)
		}
		n, err := b.n.RetryDead(t.Context())
		require.NoError(t, err)
		require.Equal(t, len(bad), n)
		b.idle(0)
		eventually(t, "they are as bad as before", func() bool { return len(b.dead()) == len(bad) })
	})
}

// A target that is down holds up no other, and gets everything when it is back.
func TestATargetThatIsDown(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		down, up := &inbox{}, &inbox{}
		down.answers(func(notify.Message) error { return errors.New("no route to host") })
		b := newBench(t, client, notify.Config{Targets: []notify.Target{{ID: "down", Sender: down.factory}, {ID: "up", Sender: up.factory}},
			Routes: []notify.Route{{Targets: []string{"down", "up"}}}})
		for i := range 10 {
			b.push(alarmText(fmt.Sprintf("%d-1", i)))
		}
		b.push(alarmText("10-1", "severity", "critical"))
		eventually(t, "the other has all", func() bool { return len(up.ids()) == 11 })
		s := b.idle(11)
		require.Equal(t, "no route to host", s.Targets[0].LastError)
		require.Equal(t, map[model.Severity]int{model.High: 10, model.Critical: 1}, s.Targets[0].PendingBySeverity)
		require.True(t, s.Targets[0].RetryAt.After(b.clock.Now()))
		// a restart forgets nothing
		b.stop()
		require.Equal(t, 1, down.closed)
		down.answers(nil)
		b.start("two", notify.Config{Targets: []notify.Target{{ID: "down", Sender: down.factory}, {ID: "up", Sender: up.factory}}, Routes: []notify.Route{{Targets: []string{"down", "up"}}}})
		b.later("it gets all", func() bool { return len(down.ids()) == 11 })
		require.Len(t, up.ids(), 11, "and nobody gets one again")
		eventually(t, "nothing is left", func() bool { n := b.status(); return n.Targets[0].Pending == 0 })
		keys, err := client.Keys(t.Context(), b.key("notification:*")).Result()
		require.NoError(t, err)
		require.NotContains(t, keys, b.key("notification:work:two"))
	})
}

func TestWhatATargetRefusesIsGivenUp(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		in := &inbox{}
		in.answers(func(m notify.Message) error {
			if m.Alarm == "1" {
				return notify.Permanent(errors.New("400 Bad Request"))
			}
			return nil
		})
		b := newBench(t, client, one(in))
		b.push(alarmText("1-1"), alarmText("2-1"))
		eventually(t, "the other is there", func() bool { return len(in.ids()) == 1 && len(b.dead()) == 1 })
		d := b.dead()[0]
		require.Equal(t, "ops", d.Target)
		require.Equal(t, 1, d.Attempts)
		require.Contains(t, d.Reason, "400 Bad Request")
		s := b.idle(0)
		require.Equal(t, []int64{1, 1, 1}, []int64{s.Targets[0].Dead, int64(s.Targets[0].DeadLetters), s.DeadLetters})
		_, err := b.n.RetryDead(t.Context(), "none")
		require.ErrorIs(t, err, scripts.ErrNotFound)
		in.answers(nil)
		n, err := b.n.RetryDead(t.Context(), d.ID)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		eventually(t, "it goes out now", func() bool { return slices.Contains(in.ids(), "1-1") && len(b.dead()) == 0 })
	})
}

func TestAttemptsAndAgeEnd(t *testing.T) {
	t.Parallel()
	client := storetest.Embedded(t)
	for name, c := range map[string]struct {
		attempts int
		age      time.Duration
		reason   string
	}{"attempts": {3, 0, "3 attempts: no"}, "age": {0, time.Minute, "older than 1m0s: no"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := &inbox{}
			in.answers(func(notify.Message) error { return errors.New("no") })
			cfg := one(in)
			cfg.MaxAttempts, cfg.MaxAge = c.attempts, c.age
			b := newBench(t, client, cfg)
			b.push(alarmText("1-1"))
			b.later("it is given up", func() bool { return len(b.dead()) == 1 })
			require.Equal(t, c.reason, b.dead()[0].Reason)
			b.idle(0)
		})
	}
}

// The pause of a target is what it asks for.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	in := &inbox{}
	in.answers(func(notify.Message) error { return notify.RetryAfter(errors.New("busy"), 10*time.Minute) })
	b := newBench(t, storetest.Embedded(t), one(in))
	b.push(alarmText("1-1"))
	eventually(t, "it failed", func() bool { return b.idle(1).Targets[0].Failed == 1 })
	require.Equal(t, b.clock.Now().Add(10*time.Minute), b.status().Targets[0].RetryAt)
	in.answers(nil)
	b.clock.add(10*time.Minute - time.Second)
	b.push(alarmText("2-1"))
	b.idle(2)
	require.Empty(t, in.ids())
	b.later("now", func() bool { return len(in.ids()) == 2 })
}

// Above its rate a target gets one message for all the others; critical ones come
// through.
func TestRate(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		in := &inbox{}
		cfg := one(in)
		cfg.Targets[0].Rate = 3
		b := newBench(t, client, cfg)
		for i := range 100 {
			b.push(alarmText(fmt.Sprintf("%d-1", i)))
		}
		b.push(alarmText("100-1", "severity", "critical"))
		b.idle(97)
		require.Len(t, in.ids(), 4)
		require.Contains(t, in.ids(), "100-1")
		b.later("the minute is over", func() bool { return len(in.ids()) == 5 })
		b.idle(0)
		got := in.messages()
		require.Len(t, got, 5)
		sum := got[4]
		require.Equal(t, notify.TypeSummary, sum.Type)
		require.Equal(t, 97, sum.Count)
		require.Len(t, sum.Messages, 50)
		require.Contains(t, sum.Text, "and 47 more messages")
		require.Contains(t, sum.Subject, "97 more messages")
		require.EqualValues(t, 101, b.status().Targets[0].Sent)
		// then again one by one
		b.push(alarmText("200-1"))
		b.idle(0)
		require.Equal(t, "200-1", in.ids()[5])
	})
}

// Too many that wait cost the least urgent.
func TestTooManyWait(t *testing.T) {
	t.Parallel()
	in := &inbox{}
	in.answers(func(notify.Message) error { return errors.New("down") })
	b := newBench(t, storetest.Embedded(t), one(in))
	n := 0
	for _, some := range []struct {
		severity string
		hundreds int
	}{{"low", 11}, {"medium", 6}, {"high", 6}, {"critical", 51}} {
		for range some.hundreds {
			var texts []any
			for range 100 {
				n++
				texts = append(texts, alarmText(fmt.Sprintf("%d-1", n), "severity", some.severity))
			}
			require.NoError(t, b.client.LPush(t.Context(), b.key("notification:queue"), texts...).Err())
			b.n.Wake()
		}
	}
	var s model.Notifications
	eventually(t, "all are distributed", func() bool {
		s = b.status()
		return s.Queue == 0 && len(s.Targets) == 1 && s.Targets[0].Dropped == int64(n-5000) && s.Targets[0].Pending == 5000
	})
	require.Equal(t, map[model.Severity]int{model.Critical: 5000}, s.Targets[0].PendingBySeverity)
	require.EqualValues(t, n-5000, b.status().Dropped)
}

func TestEscalation(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		ops, boss := &inbox{}, &inbox{}
		cfg := notify.Config{Targets: []notify.Target{{ID: "ops", Sender: ops.factory}, {ID: "boss", Sender: boss.factory}},
			Routes: []notify.Route{{Targets: []string{"ops"}, Escalate: []notify.Escalation{{After: 10 * time.Minute, Targets: []string{"boss", "ops"}}}}}}
		b := newBench(t, client, cfg)
		record := func(id, status string, more ...string) {
			require.NoError(t, client.HSet(t.Context(), b.key("alarm:"+id), append([]string{"id", id, "model_id", "pcs1", "point_name", "temperature", "status", status}, more...)).Err())
		}
		at := fmt.Sprint(b.clock.Now().UnixMilli())
		for i, status := range []string{"active", "acknowledged", "cleared", "active", "active"} {
			id := fmt.Sprint(i + 1)
			record(id, status)
			b.push(alarmText(id+"-1", "timestamp", at))
		}
		b.push(alarmText("9-1", "timestamp", at)) // its record is gone
		b.idle(12)
		b.push(alarmText("1-2", "transition", "reraised", "timestamp", at))                          // waits once
		b.push(alarmText("5-2", "transition", "acknowledged", "status", "acknowledged", "by", "me")) // forgotten at once
		b.idle(10)
		b.clock.add(10*time.Minute - time.Second)
		b.stop()
		b.start("two", cfg) // survives a restart
		eventually(t, "loaded", func() bool { s := b.status(); return len(s.Targets) == 2 && s.Targets[1].Pending == 5 })
		require.Empty(t, boss.ids())
		require.NoError(t, client.HSet(t.Context(), b.key("alarm:4"), "status", "acknowledged").Err())
		b.later("the escalations are over", func() bool { s := b.status(); return s.Targets[0].Pending == 0 && s.Targets[1].Pending == 0 })
		require.Equal(t, []string{"1-1-escalation-10m0s"}, boss.ids())
		require.Contains(t, boss.messages()[0].Subject, "not acknowledged for 10m0s")
		require.Contains(t, ops.ids(), "1-1-escalation-10m0s")
	})
}

func TestSeveralSendersShare(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		in := &inbox{}
		cfg := one(in)
		cfg.Targets[0].Rate = -1
		b := newBench(t, client, cfg)
		b.start("other", cfg)
		var want []string
		for i := range 300 {
			want = append(want, fmt.Sprintf("%d-1", i))
			b.push(alarmText(want[i]))
		}
		b.later("all are there", func() bool { return len(in.ids()) == 300 })
		require.ElementsMatch(t, want, in.ids(), "each once")
	})
}

func TestTestNotification(t *testing.T) {
	t.Parallel()
	in := &inbox{}
	b := newBench(t, storetest.Embedded(t), one(in))
	require.NoError(t, b.n.Test(t.Context(), "ops"))
	m := in.messages()[0]
	require.Equal(t, notify.TypeTest, m.Type)
	require.Contains(t, m.Text, "This is a test")
	require.ErrorIs(t, b.n.Test(t.Context(), "none"), scripts.ErrNotFound)
	in.answers(func(notify.Message) error { return io.ErrUnexpectedEOF })
	require.ErrorIs(t, b.n.Test(t.Context(), "ops"), io.ErrUnexpectedEOF)
	in.answers(func(notify.Message) error { panic("boom") })
	require.ErrorContains(t, b.n.Test(t.Context(), "ops"), "the sender panicked: boom")
}

// What is left for a target that the configuration has no more is kept as dead.
func TestTargetThatIsGone(t *testing.T) {
	t.Parallel()
	old, in := &inbox{}, &inbox{}
	old.answers(func(notify.Message) error { return errors.New("down") })
	b := newBench(t, storetest.Embedded(t), notify.Config{Targets: []notify.Target{{ID: "old", Sender: old.factory}}, Routes: []notify.Route{{Targets: []string{"old"}}}})
	b.push(alarmText("1-1"))
	b.idle(1)
	b.stop()
	b.start("two", one(in))
	eventually(t, "it is given up", func() bool { return len(b.dead()) == 1 })
	require.Equal(t, "there is no such target any more", b.dead()[0].Reason)
	n, err := b.n.RetryDead(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Len(t, b.dead(), 1)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	in := &inbox{}
	good := func() notify.Config { return one(in) }
	require.NoError(t, good().Validate())
	require.NoError(t, notify.Config{}.Validate())
	for want, change := range map[string]func(*notify.Config){
		"max_age 1s: want":                  func(c *notify.Config) { c.MaxAge = time.Second },
		"max_attempts -1: want":             func(c *notify.Config) { c.MaxAttempts = -1 },
		"target ops is there twice":         func(c *notify.Config) { c.Targets = append(c.Targets, c.Targets[0]) },
		"target ops: sender: nothing":       func(c *notify.Config) { c.Targets[0].Sender = nil },
		`target ops: language "fr"`:         func(c *notify.Config) { c.Targets[0].Language = "fr" },
		"target ops: rate 60000":            func(c *notify.Config) { c.Targets[0].Rate = 60000 },
		"target ops: timeout 1ns":           func(c *notify.Config) { c.Targets[0].Timeout = 1 },
		"targets: 33: at most 32":           func(c *notify.Config) { c.Targets = make([]notify.Target, 33) },
		`route 1: severity "odd"`:           func(c *notify.Config) { c.Routes[0].Severity = "odd" },
		`route 1: language "fr"`:            func(c *notify.Config) { c.Routes[0].Language = "fr" },
		`route 1: types: "a b"`:             func(c *notify.Config) { c.Routes[0].Types = []string{"a b"} },
		`route 1: models: "*a"`:             func(c *notify.Config) { c.Routes[0].Models = []string{"*a"} },
		`route 1: transitions: "odd"`:       func(c *notify.Config) { c.Routes[0].Transitions = []model.AlarmTransition{"odd"} },
		"route 1: targets: missing":         func(c *notify.Config) { c.Routes[0].Targets = nil },
		`route 1: targets: there is no`:     func(c *notify.Config) { c.Routes[0].Targets = []string{"x"} },
		"route 1: escalate: after 0s":       func(c *notify.Config) { c.Routes[0].Escalate = []notify.Escalation{{Targets: []string{"ops"}}} },
		"route 1: escalate: targets: there": func(c *notify.Config) { c.Routes[0].Escalate = []notify.Escalation{{time.Hour, []string{"x"}}} },
		"routes: 201: at most 200":          func(c *notify.Config) { c.Routes = slices.Repeat(c.Routes, 201) },
	} {
		c := good()
		change(&c)
		err := c.Validate()
		require.ErrorIs(t, err, model.ErrInvalid, want)
		require.ErrorContains(t, err, want)
		_, err = notify.New(c, notify.Options{})
		require.ErrorIs(t, err, model.ErrInvalid, want)
	}
	for _, f := range []notify.Factory{func(notify.Setup) (notify.Sender, error) { return nil, nil }, func(notify.Setup) (notify.Sender, error) { panic("x") },
		func(notify.Setup) (notify.Sender, error) { return nil, fmt.Errorf("%w: bad", model.ErrInvalid) }} {
		c := good()
		c.Targets[0].Sender = f
		_, err := notify.New(c, notify.Options{})
		require.ErrorIs(t, err, model.ErrInvalid)
		require.ErrorContains(t, err, "notifications: target ops: ")
	}
}
