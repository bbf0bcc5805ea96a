package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Times of a Notifier.
const (
	// lease is how long after its last sign of life a sender counts as gone, and
	// others take over what it has left.
	lease = 15 * time.Second
	// poll is how soon messages are seen of which nobody hints.
	poll = time.Second
	// batch is how many messages are distributed in one step.
	batch = 64
)

// Options are the surroundings of a Notifier.
type Options struct {
	// Site and Engine name them; Engine is that of the configuration.
	Site, Engine string
	// Log is slog.Default() when nil, Clock model.SystemClock.
	Log   *slog.Logger
	Clock model.Clock
	// Lease is how long after a crash others take over. Zero means 15 s.
	Lease time.Duration
}

// Notifier delivers a site's notifications. It is safe for concurrent use.
type Notifier struct {
	cfg     Config
	o       Options
	log     *slog.Logger
	clock   model.Clock
	targets []*target
	byID    map[string]*target
	hint    chan struct{}

	mu       sync.Mutex // what follows, and the items of the targets
	plane    *scripts.Plane
	store    *scripts.NotificationSender
	seq      int64
	unrouted int64
}

// New makes the notifier and its senders. It does no I/O. Errors name the target.
func New(cfg Config, o Options) (*Notifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = model.SystemClock
	}
	if o.Lease == 0 {
		o.Lease = lease
	}
	n := &Notifier{cfg: cfg.WithDefaults(), o: o, log: o.Log, clock: o.Clock, byID: map[string]*target{}, hint: make(chan struct{}, 1)}
	var errs []error
	for _, c := range n.cfg.Targets {
		t, err := n.newTarget(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("notifications: target %s: %w", c.ID, err))
			continue
		}
		n.targets = append(n.targets, t)
		n.byID[c.ID] = t
	}
	return n, errors.Join(errs...)
}

func (n *Notifier) newTarget(c Target) (t *target, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: making its sender panicked: %v", model.ErrInvalid, p)
		}
	}()
	s, err := c.Sender(Setup{ID: c.ID, Site: n.o.Site, Engine: n.o.Engine, Log: n.log.With("target", c.ID), Clock: n.clock})
	if err == nil && s == nil {
		err = fmt.Errorf("%w: the factory made no sender", model.ErrInvalid)
	}
	return &target{n: n, cfg: c, sender: s, log: n.log.With("target", c.ID), items: map[string]*item{}, hint: make(chan struct{}, 1)}, err
}

// Wake hints that the queue has something new.
func (n *Notifier) Wake() { wake(n.hint) }

func wake(hint chan struct{}) {
	select {
	case hint <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends, whatever becomes of the store meanwhile. id is
// that of the running engine, which no other has.
func (n *Notifier) Run(ctx context.Context, plane *scripts.Plane, id string) {
	n.mu.Lock()
	n.plane, n.store = plane, plane.NotificationSender(id, n.o.Lease)
	n.mu.Unlock()
	for _, t := range n.targets {
		if !n.cfg.leads(t.cfg.ID) {
			t.log.Warn("no route leads to this target of notifications: it gets tests alone")
		}
	}
	var work sync.WaitGroup
	for _, t := range n.targets {
		work.Go(func() { t.run(ctx) })
	}
	n.distribute(ctx)
	work.Wait()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
	defer cancel()
	if err := n.store.Leave(end); err != nil {
		n.log.Debug("what is left of the notifications is taken over later", "error", err)
	}
	for _, t := range n.targets {
		if c, ok := t.sender.(io.Closer); ok {
			if err := c.Close(); err != nil {
				t.log.Debug("closing the sender of notifications", "error", err)
			}
		}
	}
}

// running returns the store, and fails before Run.
func (n *Notifier) running() (*scripts.Plane, *scripts.NotificationSender, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.store == nil {
		return nil, nil, fmt.Errorf("%w: the notifications do not run", scripts.ErrConflict)
	}
	return n.plane, n.store, nil
}

// Test sends a message through a target, once and at once, that says that it is a
// test, and returns what became of it: an error that wraps ErrNotDelivered and the
// reason where the target did not take it. scripts.ErrNotFound where there is no such
// target.
func (n *Notifier) Test(ctx context.Context, target string) error {
	t := n.byID[target]
	if t == nil {
		return fmt.Errorf("target %.80q: %w", target, scripts.ErrNotFound)
	}
	now := n.clock.Now()
	m := Message{ID: fmt.Sprintf("test-%s-%d", target, now.UnixMilli()), Type: TypeTest, Severity: model.Low, Message: texts[t.cfg.Language].testText,
		Time: now, Language: t.cfg.Language}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout) // a test that has longer than messages have says nothing
	defer cancel()
	if err := t.send(ctx, m); err != nil {
		return fmt.Errorf("target %s: %w: %w", target, ErrNotDelivered, err)
	}
	return nil
}

// Status returns how the notifications are doing.
func (n *Notifier) Status(ctx context.Context) (model.Notifications, error) {
	plane, _, err := n.running()
	if err != nil {
		return model.Notifications{}, err
	}
	var s model.Notifications
	if s.Queue, s.DeadLetters, s.Dropped, err = plane.NotificationCounts(ctx); err != nil {
		return s, err
	}
	dead := map[string]int{}
	if s.DeadLetters > 0 {
		if err := plane.DeadNotifications(ctx, func(d model.DeadNotification, _ string) { dead[d.Target]++ }); err != nil {
			return s, err
		}
	}
	now := n.clock.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Unrouted = n.unrouted
	for _, t := range n.targets {
		st := t.status
		st.ID, st.Pending, st.DeadLetters = t.cfg.ID, len(t.items), dead[t.cfg.ID]
		for _, i := range t.items {
			if st.PendingBySeverity == nil {
				st.PendingBySeverity = map[model.Severity]int{}
			}
			st.PendingBySeverity[model.Severities()[i.rank]]++
		}
		if t.paused.After(now) {
			st.RetryAt = t.paused
		}
		s.Targets = append(s.Targets, st)
	}
	return s, nil
}

// RetryDead has dead letters sent again, those of the ids or all without any, and
// returns how many. Those of targets that there are no more stay.
// scripts.ErrNotFound where an id is not among them.
func (n *Notifier) RetryDead(ctx context.Context, ids ...string) (int, error) {
	plane, store, err := n.running()
	if err != nil {
		return 0, err
	}
	wanted := map[string]bool{}
	for _, id := range ids {
		wanted[id] = true
	}
	now := n.clock.Now()
	c := change{Put: map[string]string{}}
	var add []placed
	err = plane.DeadNotifications(ctx, func(d model.DeadNotification, stored string) {
		if len(ids) > 0 && !wanted[d.ID] {
			return
		}
		delete(wanted, d.ID)
		if d.Target == "" {
			c.Queue, c.Revive = append(c.Queue, queueText(d.Message)), append(c.Revive, stored)
			return
		}
		t := n.byID[d.Target]
		m, err := parseMessage(string(d.Message))
		if t == nil || err != nil {
			return
		}
		w := work{Target: d.Target, Language: Language(d.Language), Created: now.UnixMilli(), Due: now.UnixMilli(), Message: d.Message}
		id := workID(m, d.Target)
		c.Put[id], c.Revive = w.text(), append(c.Revive, stored)
		add = append(add, placed{t, newItem(id, w, m, now)})
	})
	if err != nil {
		return 0, err
	}
	for id := range wanted {
		return 0, fmt.Errorf("dead notification %.80q: %w", id, scripts.ErrNotFound)
	}
	if len(c.Revive) == 0 {
		return 0, nil
	}
	if err := store.Settle(ctx, c); err != nil {
		return 0, err
	}
	n.place(add, nil)
	n.Wake()
	return len(c.Revive), nil
}

// placed is an item and whose it is.
type placed struct {
	t *target
	i *item
}

// place enters new items, and removes others, in what the targets remember.
func (n *Notifier) place(add, remove []placed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range remove {
		delete(p.t.items, p.i.id)
	}
	for _, p := range add {
		if p.t.items[p.i.id] == nil {
			n.seq++
			p.i.seq = n.seq
			p.t.items[p.i.id] = p.i
			wake(p.t.hint)
		}
	}
}
