package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Pauses after failures, which double from the first to the most, with jitter.
const (
	firstPause = time.Second
	// mostPause is that of one message, mostTargetPause that of a target, so that
	// it is noticed within a minute that it is there again.
	mostPause       = 5 * time.Minute
	mostTargetPause = time.Minute
	// mostRetryAfter is how long a target may ask to be left alone.
	mostRetryAfter = time.Hour
	// summaryList is how many messages a summary has at most, one by one.
	summaryList = 50
)

// target delivers what waits for one target, one message after the other, the
// most urgent first. What is wrong with one holds up no other.
type target struct {
	n      *Notifier
	cfg    Target
	sender Sender
	log    *slog.Logger
	hint   chan struct{}

	// under the lock of n
	items  map[string]*item
	paused time.Time // nothing is sent until then
	status model.NotificationTarget

	// of run alone
	failures int         // in a row
	sent     []time.Time // within the last minute, at most Rate of them
	held     bool        // messages waited for their minute to end
}

func pauseAfter(failures int, most time.Duration) time.Duration {
	d := min(firstPause<<min(max(failures-1, 0), 20), most)
	return d/2 + rand.N(d/2+1)
}

// oldest returns the oldest of the least urgent of those that ok allows, among them
// first what may never have to be sent.
func (t *target) oldest(ok func(*item) bool) *item {
	var found *item
	for _, i := range t.items {
		if ok(i) && (found == nil || cmp.Or(cmp.Compare(i.rank, found.rank), boolCompare(found.escalation, i.escalation), cmp.Compare(i.seq, found.seq)) < 0) {
			found = i
		}
	}
	return found
}

// boolCompare orders false before true.
func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (t *target) run(ctx context.Context) {
	for ctx.Err() == nil {
		list, wait := t.next(t.n.clock.Now())
		if len(list) > 0 {
			t.deliver(ctx, list)
			t.n.mu.Lock()
			for _, i := range list {
				i.busy = false
			}
			t.n.mu.Unlock()
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			due = t.n.clock.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-t.hint:
		case <-due:
		}
	}
}

// next returns what is to be sent now: one message, or all that waited for their
// minute to end. Without any it returns how long to wait, 0 for until a hint.
func (t *target) next(now time.Time) (list []*item, wait time.Duration) {
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	defer func() {
		for _, i := range list {
			i.busy = true
		}
	}()
	var best *item
	for _, i := range t.items {
		if left := i.due.Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(best.rank, i.rank), cmp.Compare(i.seq, best.seq)) < 0 {
			best = i
		}
	}
	if best == nil {
		return nil, wait
	}
	if left := t.paused.Sub(now); left > 0 {
		return nil, left
	}
	if best.rank >= critical || t.cfg.Rate < 0 {
		return []*item{best}, 0
	}
	for len(t.sent) > 0 && now.Sub(t.sent[0]) >= time.Minute {
		t.sent = t.sent[1:]
	}
	if len(t.sent) >= t.cfg.Rate {
		t.held = true
		left := t.sent[0].Add(time.Minute).Sub(now)
		if wait == 0 || left < wait {
			wait = left
		}
		return nil, wait
	}
	if !t.held {
		return []*item{best}, 0
	}
	for _, i := range t.items {
		if !i.due.After(now) && i.rank < critical {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *item) int { return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.seq, b.seq)) })
	return list, 0
}

// deliver sends one message, or several in one, and settles what became of it.
func (t *target) deliver(ctx context.Context, list []*item) {
	ids := make([]string, min(len(list), summaryList))
	for i := range ids {
		ids[i] = list[i].id
	}
	texts, err := t.n.store.WorkOf(ctx, ids...)
	if err != nil {
		t.wait(ctx, poll)
		return
	}
	var works []work
	var messages []Message
	kept := list[:0:0]
	c := change{}
	for i, it := range list {
		if i >= len(texts) {
			kept = append(kept, it)
			continue
		}
		if texts[i] == "" { // somebody else has taken it over, or it was deleted
			t.forget(it)
			continue
		}
		w, m, err := parseWork(texts[i])
		switch {
		case err != nil:
			c.Done = append(c.Done, it.id)
			c.Dead = append(c.Dead, deadLetter(t.n.clock.Now(), "", "what was stored to deliver cannot be read: "+err.Error(), 0, "", rawMessage(texts[i])))
			t.settle(ctx, c, it)
			return
		case it.escalation:
			if still, err := t.escalates(ctx, it); err != nil {
				t.wait(ctx, poll)
				return
			} else if !still {
				t.settle(ctx, change{Done: []string{it.id}}, it)
				return
			}
			m.ID += "-escalation-" + w.Escalation
			m.Escalation = w.Escalation
		}
		m.Language = cmp.Or(w.Language, t.cfg.Language)
		if m.Time.IsZero() {
			m.Time = time.UnixMilli(w.Created)
		}
		works, messages, kept = append(works, w), append(messages, m), append(kept, it)
	}
	if len(messages) == 0 {
		return
	}
	m := messages[0]
	if len(kept) > 1 {
		m = Message{ID: m.ID + "-summary", Type: TypeSummary, Severity: m.Severity, Time: m.Time, Language: t.cfg.Language, Count: len(kept), Messages: messages}
	}
	bound, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	err = t.send(bound, m)
	cancel()
	if ctx.Err() != nil && err != nil {
		return // it is stored, and goes out after the next start
	}
	t.settled(ctx, err, kept, works)
}

// escalates reports whether the alarm of an escalation still wants attention.
func (t *target) escalates(ctx context.Context, i *item) (bool, error) {
	a, err := t.n.plane.Alarm(ctx, i.alarm)
	if errors.Is(err, scripts.ErrNotFound) {
		return false, nil
	}
	return a.Status == model.AlarmActive && a.Suppression == "", err
}

// settled stores what became of messages that were sent. works are those of the
// first of them.
func (t *target) settled(ctx context.Context, err error, list []*item, works []work) {
	now := t.n.clock.Now()
	var c change
	over := list
	if err == nil {
		if t.failures > 0 {
			t.log.Info("the target takes notifications again")
		}
		t.failures = 0
		t.count(list, now)
		for _, i := range list {
			c.Done = append(c.Done, i.id)
		}
		t.n.mu.Lock()
		t.status.Sent += int64(len(list))
		t.status.LastSuccess, t.paused = now, time.Time{}
		t.n.mu.Unlock()
		t.settle(ctx, c, over...)
		return
	}
	permanent := errors.Is(err, ErrPermanent)
	if permanent { // it was asked, and some of its recipients may have the message
		t.count(list, now)
	}
	if t.failures == 0 && !permanent {
		t.log.Warn("a target of notifications fails; they wait", "error", err)
	}
	pause := time.Duration(0)
	if !permanent {
		t.failures++
		pause = pauseAfter(t.failures, mostTargetPause)
		var later *retryAfter
		if errors.As(err, &later) {
			pause = max(pause, min(later.after, mostRetryAfter))
		}
	}
	t.n.mu.Lock()
	t.status.Failed++
	t.status.LastError, t.status.LastErrorAt = cut(err.Error(), 500), now
	t.paused = now.Add(pause)
	t.n.mu.Unlock()
	over, c.Put = nil, map[string]string{}
	for at, i := range list {
		var w work
		switch {
		case at < len(works):
			w = works[at]
		case permanent || now.Sub(i.created) >= t.n.cfg.MaxAge: // far behind in a summary, and not read yet
			w = t.read(ctx, i)
		default:
			continue
		}
		if w.Attempts == 0 && i.escalation { // its time counts from now
			w.Created = now.UnixMilli()
			t.n.mu.Lock()
			i.created = now
			t.n.mu.Unlock()
		}
		w.Attempts++
		w.Error = cut(err.Error(), 200)
		reason := ""
		switch {
		case permanent:
			reason = err.Error()
		case w.Attempts >= t.n.cfg.MaxAttempts && len(list) == 1:
			reason = fmt.Sprintf("%d attempts: %v", w.Attempts, err)
		case now.Sub(i.created) >= t.n.cfg.MaxAge:
			reason = fmt.Sprintf("older than %s: %v", t.n.cfg.MaxAge, err)
		}
		if reason != "" {
			over, c.Done = append(over, i), append(c.Done, i.id)
			c.Dead = append(c.Dead, deadLetter(now, t.cfg.ID, reason, w.Attempts, w.Language, w.Message))
			continue
		}
		if len(list) > 1 { // the summary waits with the target
			continue
		}
		due := now.Add(max(pause, pauseAfter(w.Attempts, mostPause)))
		w.Due = due.UnixMilli()
		t.n.mu.Lock()
		i.due = due
		t.n.mu.Unlock()
		c.Put[i.id] = w.text()
	}
	if len(c.Dead) > 0 {
		t.log.Warn("notifications are given up; they are among the dead ones", "count", len(c.Dead), "reason", c.Dead[0].Reason)
		t.n.mu.Lock()
		t.status.Dead += int64(len(c.Dead))
		t.n.mu.Unlock()
	}
	if len(c.Put) > 0 || len(c.Done) > 0 {
		t.settle(ctx, c, over...)
	}
}

// count enters what the target was told in its rate.
func (t *target) count(list []*item, now time.Time) {
	if list[0].rank >= critical {
		return
	}
	t.held = false // that was all that waited, or the only one
	if t.sent = append(t.sent, now); len(t.sent) > max(t.cfg.Rate, 0) {
		t.sent = t.sent[1:]
	}
}

// read returns stored work, or what can be said without it.
func (t *target) read(ctx context.Context, i *item) work {
	if texts, err := t.n.store.WorkOf(ctx, i.id); err == nil && texts[0] != "" {
		if w, _, err := parseWork(texts[0]); err == nil {
			return w
		}
	}
	return work{Target: t.cfg.ID, Message: rawMessage(i.id)}
}

// settle stores a change, however long that takes, and forgets what is over.
func (t *target) settle(ctx context.Context, c change, over ...*item) {
	for {
		err := t.n.store.Settle(ctx, c)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		t.log.Debug("what became of a notification is not stored yet", "error", err)
		t.wait(ctx, poll)
	}
	for _, i := range over {
		t.forget(i)
	}
}

func (t *target) forget(i *item) {
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	if t.items[i.id] == i {
		delete(t.items, i.id)
	}
}

func (t *target) wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-t.n.clock.After(d):
	}
}

// send renders a message and has it sent once. A panic of the sender is an error.
func (t *target) send(ctx context.Context, m Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			t.log.Error("panic contained", "in", "sender of notifications", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("the sender panicked: %v", p)
		}
	}()
	m.Site = t.n.o.Site
	for i := range m.Messages {
		m.Messages[i].Site, m.Messages[i].Language = m.Site, m.Language
	}
	if m.Subject, m.Text, err = t.cfg.Texts.Render(m); err != nil {
		t.log.Warn("a template of notifications fails, the built-in text is sent", "error", err)
		if m.Subject, m.Text, err = (builtIn{}).Render(m); err != nil {
			return err
		}
	}
	return t.sender.Send(ctx, m)
}
