package notify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// distribute takes messages from the queue and makes work of them, until ctx ends.
func (n *Notifier) distribute(ctx context.Context) {
	reload, failing := true, false // everything is read anew after an error: it may have been done
	var lived time.Time
	for ctx.Err() == nil {
		more, err := n.round(ctx, &lived, &reload)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			reload = true
			if !failing {
				n.log.Warn("notifications wait for the store", "error", err)
			}
		case failing:
			n.log.Info("notifications go on")
		}
		if failing = err != nil; more && !failing {
			continue
		}
		hint := n.hint
		if failing { // a hint is no reason to ask again at once
			hint = nil
		}
		select {
		case <-ctx.Done():
		case <-hint:
		case <-n.clock.After(poll):
		}
	}
}

// round is one step: a sign of life where it is due, and a batch of messages.
func (n *Notifier) round(ctx context.Context, lived *time.Time, reload *bool) (more bool, err error) {
	if now := n.clock.Now(); lived.IsZero() || now.Sub(*lived) >= n.o.Lease/3 || now.Before(*lived) {
		if err := n.store.Alive(ctx); err != nil {
			return false, err
		}
		*lived = now
		adopted, err := n.store.Adopt(ctx)
		if adopted {
			*reload = true
		}
		if err != nil {
			return false, err
		}
	}
	if *reload {
		if err := n.load(ctx); err != nil {
			return false, err
		}
		*reload = false
	}
	taken, err := n.store.Take(ctx, batch)
	if err != nil || len(taken) == 0 {
		return false, err
	}
	d := &distribution{n: n, now: n.clock.Now(), c: change{Taken: taken, Put: map[string]string{}}, fresh: map[*target]int{}, removed: map[*item]bool{}}
	for _, text := range taken {
		d.message(text)
	}
	if err := n.store.Settle(ctx, d.c); err != nil {
		return false, err
	}
	for _, dead := range d.c.Dead {
		n.log.Warn("a notification cannot be delivered", "reason", dead.Reason, "message", cut(string(dead.Message), 200))
	}
	n.place(d.add, d.remove)
	n.mu.Lock()
	n.unrouted += d.unrouted
	for _, t := range d.dropped {
		t.status.Dropped++
	}
	n.mu.Unlock()
	if len(d.dropped) > 0 {
		n.log.Warn("notifications were dropped, as too many wait", "count", len(d.dropped), "target", d.dropped[0].cfg.ID)
	}
	return true, nil
}

// load reads everything that is to be delivered.
func (n *Notifier) load(ctx context.Context) error {
	var add []placed
	var c change
	now := n.clock.Now()
	err := n.store.Work(ctx, func(id, text string) {
		w, m, err := parseWork(text)
		switch t := n.byID[w.Target]; {
		case err != nil:
			c.Done = append(c.Done, id)
			c.Dead = append(c.Dead, deadLetter(now, "", "what was stored to deliver cannot be read: "+err.Error(), 0, "", rawMessage(text)))
		case t == nil:
			c.Done = append(c.Done, id)
			c.Dead = append(c.Dead, deadLetter(now, w.Target, "there is no such target any more", w.Attempts, w.Language, w.Message))
		default:
			add = append(add, placed{t, newItem(id, w, m, now)})
		}
	})
	if err != nil {
		return err
	}
	if len(c.Done) > 0 {
		if err := n.store.Settle(ctx, c); err != nil {
			return err
		}
	}
	n.place(add, nil)
	return nil
}

// distribution is what becomes of a batch of messages.
type distribution struct {
	n           *Notifier
	now         time.Time
	c           change
	add, remove []placed
	removed     map[*item]bool
	fresh       map[*target]int // how many are new for it
	dropped     []*target
	unrouted    int64
}

// message makes work of one message.
func (d *distribution) message(text string) {
	m, err := parseMessage(text)
	raw := rawMessage(text)
	if err == nil && !d.n.cfg.knows(m.Type) {
		err = fmt.Errorf("type %.40q: no route has it", m.Type)
	}
	if err != nil {
		d.c.Dead = append(d.c.Dead, deadLetter(d.now, "", err.Error(), 0, "", raw))
		return
	}
	if m.Alarm != "" && (m.Transition == model.TransitionAcknowledged || m.Status == model.AlarmClosed) {
		d.calm(m.Alarm)
	}
	created := d.now
	routed := map[string]bool{}
	for _, r := range d.n.cfg.Routes {
		if !r.matches(m) {
			continue
		}
		w := work{Language: r.Language, Created: created.UnixMilli(), Due: created.UnixMilli(), Message: raw}
		for _, id := range r.Targets {
			if !routed[id] {
				routed[id] = true
				w.Target = id
				d.put(workID(m, id), w, m)
			}
		}
		if m.Type != TypeAlarm || !m.attention() {
			continue
		}
		for _, step := range r.Escalate {
			at := created
			if !m.Time.IsZero() && m.Time.Before(at) {
				at = m.Time
			}
			e := w
			e.Due, e.Escalation = at.Add(step.After).UnixMilli(), step.After.String()
			for _, id := range step.Targets {
				e.Target = id
				d.put(escalationID(m, id, step.After), e, m)
			}
		}
	}
	if len(routed) == 0 {
		d.unrouted++
	}
}

// calm forgets the escalations of an alarm of which somebody took note. What is
// missed here is found out when they are due.
func (d *distribution) calm(alarm string) {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	for _, t := range d.n.targets {
		for _, i := range t.items {
			if i.escalation && i.alarm == alarm && !i.busy && !d.removed[i] {
				d.drop(t, i)
			}
		}
	}
}

// waiting bounds what waits for a target, by rank: above the first number nothing
// of the lowest severity is added, and so on; above the last the oldest of the
// least urgent goes.
var waiting = [4]int{1000, 1500, 2000, 5000}

// put adds work, unless it is there, or too much waits for the target.
func (d *distribution) put(id string, w work, m Message) {
	t := d.n.byID[w.Target]
	i := newItem(id, w, m, d.now)
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	old := t.items[id]
	if _, twice := d.c.Put[id]; twice || old != nil && !d.removed[old] {
		return
	}
	if total := len(t.items) + d.fresh[t]; total >= waiting[i.rank] {
		d.c.Dropped++
		d.dropped = append(d.dropped, t)
		if i.rank < critical {
			return
		}
		victim := t.oldest(func(v *item) bool { return !v.busy && !d.removed[v] })
		if victim == nil || i.escalation && victim.rank == critical && !victim.escalation {
			return // an escalation may never have to be sent: it takes no other's place
		}
		d.drop(t, victim)
		d.fresh[t]--
	}
	if old != nil { // taken away a moment ago, and here again: it is replaced
		d.c.Done = slices.DeleteFunc(d.c.Done, func(done string) bool { return done == id })
	}
	d.fresh[t]++
	d.c.Put[id] = w.text()
	d.add = append(d.add, placed{t, i})
}

// drop takes work away.
func (d *distribution) drop(t *target, i *item) {
	d.c.Done = append(d.c.Done, i.id)
	d.remove = append(d.remove, placed{t, i})
	d.removed[i] = true
}
