package voltage

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/internal/follow"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// followTime is how long OnAlarm and OnCommand on a running engine wait for the
// store to say where a journal ends.
const followTime = time.Second

// backlog is how many updates or channel states wait for a slow callback.
const backlog = 1024

// OnUpdate calls fn for changed values of models, in order, on a goroutine of
// its own. A slow fn loses the oldest updates and is told so by an Update
// without a model: it then reads what it needs with Values.
func (e *Engine) OnUpdate(fn func(ctx context.Context, u model.Update)) {
	e.subscribers.addUpdate(e, fn)
}

// OnAlarm calls fn for every transition of every alarm, in order, on a goroutine
// of its own, from the start of the engine (or from now, when it runs). It reads
// the journal: nothing is missed while fn is slow or the store is away.
func (e *Engine) OnAlarm(fn func(ctx context.Context, ev alarm.Event)) {
	e.subscribers.addFollower(e, follower{run: func(ctx context.Context, e *Engine, from string, wake <-chan struct{}) {
		e.desk.Follow(ctx, from, wake, func(ev alarm.Event) {
			defer contain(e.log, "OnAlarm")
			fn(ctx, ev)
		})
	}, alarms: true})
}

// OnAlarmFrom is OnAlarm from a position in the journal on, so that a firmware that
// was restarted misses nothing: fn stores ev.Position when it has done its part,
// where a restart does not reach it, and OnAlarmFrom is given that. A crash between
// the two brings the same transition again: each comes at least once. Empty is the
// oldest that is kept, as is a position that is not kept any more (the last 100,000
// or so are), and one behind the end of the journal, which then is not the one that
// was read: its data was lost. A panic in fn is logged and costs this transition
// alone. The error wraps model.ErrInvalid for a text that is no position.
func (e *Engine) OnAlarmFrom(position string, fn func(ctx context.Context, ev alarm.Event)) error {
	if position != "" && !model.JournalPosition(position) {
		return fmt.Errorf("%w: alarms from position %.50q: want the Position of an event, or an empty one", model.ErrInvalid, position)
	}
	e.subscribers.addFollower(e, follower{run: func(ctx context.Context, e *Engine, from string, wake <-chan struct{}) {
		e.desk.Follow(ctx, from, wake, func(ev alarm.Event) {
			defer contain(e.log, "OnAlarmFrom")
			fn(ctx, ev)
		})
	}, alarms: true, resume: func(ctx context.Context) (string, error) { return e.desk.Resume(ctx, position) }})
	return nil
}

// OnCommand calls fn for every transition of every command, in order, on a
// goroutine of its own, as OnAlarm does for alarms.
func (e *Engine) OnCommand(fn func(ctx context.Context, ev model.CommandEvent)) {
	e.subscribers.addFollower(e, follower{run: func(ctx context.Context, e *Engine, from string, wake <-chan struct{}) {
		followCommands(ctx, e.plane, from, wake, func(ev model.CommandEvent) {
			defer contain(e.log, "OnCommand")
			fn(ctx, ev)
		})
	}})
}

// OnChannel calls fn when a channel of this engine changes its state, in order,
// on a goroutine of its own.
func (e *Engine) OnChannel(fn func(ctx context.Context, s model.ChannelStatus)) {
	e.subscribers.addChannel(e, fn)
}

func followCommands(ctx context.Context, p *scripts.Plane, from string, wake <-chan struct{}, fn func(model.CommandEvent)) {
	follow.Journal[model.CommandEvent]{Read: p.CommandJournal, Position: func(ev model.CommandEvent) string { return ev.Position },
		End: p.CommandJournalEnd, Generation: p.Generation}.Follow(ctx, from, wake, fn)
}

// follower reads a journal for one callback.
type follower struct {
	run    func(ctx context.Context, e *Engine, from string, wake <-chan struct{})
	alarms bool                                  // the alarm journal, else the command journal
	resume func(context.Context) (string, error) // where to begin; nil is at the end
}

// subscribers are the callbacks. Those added before the start begin with it.
type subscribers struct {
	mu        sync.Mutex
	ctx       context.Context // of the run; nil before the start
	followers []follower
	updates   []*inbox[model.Update]
	channels  []*inbox[model.ChannelStatus]
	pending   []func(context.Context) // what starts with the run
	alarms    hints
	commands  hints
}

// start begins to call back. from are the journals' ends before the engine did
// anything.
func (s *subscribers) start(e *Engine, run context.Context, alarms, commands string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx = run
	for _, f := range s.followers {
		from := commands
		if f.alarms {
			from = alarms
		}
		begin := f.resume
		if begin == nil {
			begin = func(context.Context) (string, error) { return from, nil }
		}
		s.startFollower(e, f, begin)
	}
	for _, f := range s.pending {
		e.goRun(run, f)
	}
	s.pending = nil
}

func (s *subscribers) startFollower(e *Engine, f follower, from func(context.Context) (string, error)) {
	wake := s.commands.add
	if f.alarms {
		wake = s.alarms.add
	}
	hint := wake()
	e.goRun(s.ctx, func(ctx context.Context) {
		for {
			position, err := from(ctx)
			if err == nil {
				f.run(ctx, e, position, hint)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
}

// addFollower starts a follower where the journal ends now; a store that does not
// say so within followTime is asked again until it does, and it starts there.
func (s *subscribers) addFollower(e *Engine, f follower) {
	s.mu.Lock()
	run := s.ctx
	if run == nil {
		s.followers = append(s.followers, f)
	}
	s.mu.Unlock()
	if run == nil || run.Err() != nil {
		return
	}
	if f.resume != nil {
		s.startFollower(e, f, f.resume)
		return
	}
	end := e.plane.CommandJournalEnd
	if f.alarms {
		end = e.desk.End
	}
	ctx, cancel := context.WithTimeout(run, followTime)
	defer cancel()
	if now, err := end(ctx); err == nil {
		end = func(context.Context) (string, error) { return now, nil }
	}
	s.startFollower(e, f, end)
}

func (s *subscribers) addUpdate(e *Engine, fn func(context.Context, model.Update)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	box := newInbox(func() model.Update { return model.Update{} })
	s.updates = append(s.updates, box)
	s.begin(e, func(ctx context.Context) {
		box.deliver(ctx, func(u model.Update) {
			defer contain(e.log, "OnUpdate")
			fn(ctx, u)
		})
	})
}

// watch adds an inbox of updates until end is called.
func (s *subscribers) watch() (box *inbox[model.Update], end func()) {
	box = newInbox(func() model.Update { return model.Update{} })
	box.put(model.Update{}) // nothing was read yet
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updates = append(s.updates, box)
	return box, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.updates = slices.DeleteFunc(s.updates, func(b *inbox[model.Update]) bool { return b == box })
	}
}

func (s *subscribers) addChannel(e *Engine, fn func(context.Context, model.ChannelStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	box := newInbox[model.ChannelStatus](nil)
	s.channels = append(s.channels, box)
	s.begin(e, func(ctx context.Context) {
		box.deliver(ctx, func(st model.ChannelStatus) {
			defer contain(e.log, "OnChannel")
			fn(ctx, st)
		})
	})
}

// begin starts a callback now or with the run. s.mu is held.
func (s *subscribers) begin(e *Engine, f func(context.Context)) {
	switch {
	case s.ctx == nil:
		s.pending = append(s.pending, f)
	case s.ctx.Err() == nil:
		e.goRun(s.ctx, f)
	}
}

func (s *subscribers) update(u model.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, box := range s.updates {
		box.put(u)
	}
}

func (s *subscribers) channel(st model.ChannelStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, box := range s.channels {
		box.put(st)
	}
}

// missed tells every OnUpdate that updates may have been lost.
func (s *subscribers) missed() { s.update(model.Update{}) }

func (s *subscribers) wakeAlarms()                  { s.alarms.wake() }
func (s *subscribers) wakeCommands()                { s.commands.wake() }
func (s *subscribers) alarmHint() <-chan struct{}   { return s.alarms.add() }
func (s *subscribers) commandHint() <-chan struct{} { return s.commands.add() }

// hints wakes everybody who reads a journal.
type hints struct {
	mu   sync.Mutex
	list []chan struct{}
}

func (h *hints) add() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan struct{}, 1)
	h.list = append(h.list, c)
	return c
}

func (h *hints) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.list {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// inbox holds what waits for one callback: at most backlog entries, the oldest
// go first, and gap, where given, makes the entry that says so.
type inbox[T any] struct {
	mu    sync.Mutex
	items []T
	lost  bool
	gap   func() T
	ready chan struct{}
}

func newInbox[T any](gap func() T) *inbox[T] {
	return &inbox[T]{gap: gap, ready: make(chan struct{}, 1)}
}

func (b *inbox[T]) put(v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.items) >= backlog {
		b.items = append(b.items[:0], b.items[backlog/2:]...)
		b.lost = true
	}
	b.items = append(b.items, v)
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *inbox[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	if b.lost && b.gap != nil {
		items = append([]T{b.gap()}, items...)
	}
	b.lost = false
	return items
}

func (b *inbox[T]) deliver(ctx context.Context, fn func(T)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.ready:
		}
		for _, v := range b.take() {
			if ctx.Err() != nil {
				return
			}
			fn(v)
		}
	}
}
