package runner

import (
	"context"
	"time"

	"github.com/voltageems/voltage/scripts"
)

// Why a safe value is written, as the journal says it.
const (
	sourceLost = "source_lost" // nobody stands behind the value any more
	storeLost  = "store_lost"  // the store does not answer, and the lease runs out
	started    = "started"     // the channel was just taken, and what was given before does not hold
	stopped    = "stopped"     // the channel is stopped
)

const (
	// safeTries is how often a safe value is written whose effect is not known.
	safeTries = 3
	// safeRetry is the longest time between two tries.
	safeRetry = 5 * time.Second
	// askTime is what the store has to say whether anybody stands behind a value.
	askTime = 500 * time.Millisecond
)

// lead is how long before the session's end a store that does not answer counts
// as lost: what the safe values have to be written.
func (r *Runner) lead() time.Duration { return r.cfg.Lease / 5 }

// standing is a control with a safe value, as the lane knows it.
type standing struct {
	scripts.Failsafe
	at   time.Time // when the last command for it was sent, or its origin was last alive
	safe bool      // the last that was written is the safe value
	lost bool      // it was written, or tried, because the store was lost

	due   string // why the safe value is to be written; empty: it is not
	id    string // of the command that writes it
	token string
	began time.Time // when that was
	tries int
	sent  bool      // a try may have reached the device
	next  time.Time // not before
}

// ask is due for a reason.
func (c *standing) ask(reason string) {
	if c.due == "" {
		*c = standing{Failsafe: c.Failsafe, at: c.at, lost: c.lost, due: reason}
	}
}

// expires is when the hold of the control is over; ok is false where it is not.
func (c *standing) expires() (at time.Time, ok bool) {
	return c.at.Add(c.Policy.Hold), c.Policy.Hold > 0 && !c.safe && c.due == ""
}

// load reads which controls have safe values, where that changed. At the
// beginning of a session it decides what is to be written before anything else.
func (l *lane) load() error {
	s, r := l.s, l.s.r
	if r.writer == nil {
		l.loaded = true
		return nil
	}
	select {
	case <-r.policies:
	default:
		if l.loaded {
			return nil
		}
	}
	type answer struct {
		list    []scripts.Failsafe
		version string
		same    bool
		held    map[string]time.Duration
	}
	start := r.clock.Now()
	a, err := ask(l, func(ctx context.Context) (a answer, err error) {
		known := ""
		if l.loaded {
			known = l.version
		}
		a.list, a.version, a.same, err = r.cfg.Plane.Failsafes(ctx, r.ch.ID, known)
		if err == nil && !a.same && len(a.list) > 0 {
			a.held, err = r.cfg.Plane.Held(ctx, r.ch.ID)
		}
		return a, err
	})
	if err != nil {
		signal(r.policies) // again
		return err
	}
	if a.same {
		return nil
	}
	before := l.standings
	l.standings = nil
	last := false
	for _, f := range a.list {
		if _, ok := r.index[f.Point]; !ok {
			continue // a binding to a point that the channel has not; the engine reports it
		}
		last = last || f.Policy.SafeOnStop
		c := &standing{Failsafe: f, at: start}
		age, operated := a.held[f.Point]
		if operated {
			c.at = start.Add(-age)
		}
		if known := find(before, f.Point); known != nil {
			c = known
			c.Failsafe = f
		} else if at, ok := l.given[f.Point]; ok {
			c.at = at
		} else if !operated || age >= f.Policy.Hold {
			c.ask(started) // also where the definition comes after the channel
		}
		l.standings = append(l.standings, c)
	}
	l.version, l.loaded = a.version, true
	s.last.Store(last)
	return nil
}

func find(list []*standing, point string) *standing {
	for _, c := range list {
		if c.Point == point {
			return c
		}
	}
	return nil
}

// commanded notes that a command for a point is sent.
func (l *lane) commanded(point string, at time.Time) {
	l.given[point] = at
	c := find(l.standings, point)
	switch {
	case c == nil:
	case c.due != "": // the device came back in this moment; the safe value follows
		c.at = at
	default:
		*c = standing{Failsafe: c.Failsafe, at: at}
	}
}

// context is the session's, but ends when a safe value may be due: nothing that
// the store does may hold that up.
func (l *lane) context() (context.Context, context.CancelFunc) {
	left, any := l.left()
	if !any {
		return context.WithCancel(l.s.ctx)
	}
	return l.s.r.timeout(l.s.ctx, max(left, time.Millisecond))
}

// left is how long it is until a safe value may be due, and whether one ever is.
func (l *lane) left() (left time.Duration, any bool) {
	s := l.s
	now := s.r.clock.Now()
	at := func(d time.Duration) {
		if !any || d < left {
			left, any = d, true
		}
	}
	for _, c := range l.standings {
		if c.due != "" && s.connected.Load() {
			at(c.next.Sub(now))
		}
		if end, ok := c.expires(); ok {
			at(end.Sub(now))
		}
		if !c.safe && !c.lost {
			at(s.left() - s.r.lead())
		}
	}
	return left, any
}

// secure writes the safe values that are due. It reports whether commands have
// to wait, for one of them or for the store; while the device is known to be
// away, they need not wait for a value, for they fail.
func (l *lane) secure() (wait bool) {
	s, r := l.s, l.s.r
	l.silent = false
	l.judge(s.ctx)
	due := l.due()
	// While the store counts as lost, a command would be the last that anybody can
	// take back.
	wait = len(l.standings) > 0 && s.left() <= r.lead()
	for _, c := range l.standings {
		switch {
		case c.due == "":
		case !s.connected.Load():
			wait = wait || !s.tried.Load()
		case r.clock.Now().Before(c.next):
			wait = true
		default:
			l.write(c, s.left()/time.Duration(due))
			due = max(due-1, 1)
			wait = wait || c.due != ""
		}
	}
	return wait
}

// due is how many safe values are due.
func (l *lane) due() (n int) {
	for _, c := range l.standings {
		if c.due != "" {
			n++
		}
	}
	return n
}

// attentive returns a context for a write, which may take as long as the device
// takes to adopt the value. It ends early when another safe value is due: what
// was sent is sent, and the rest of its reading back has to wait no longer. Until
// stop returns, the standings are not the lane's.
func (l *lane) attentive() (ctx context.Context, stop func()) {
	s := l.s
	ctx, cancel := context.WithCancel(s.writes)
	if len(l.standings) == 0 || s.ctx.Err() != nil {
		return ctx, cancel
	}
	done := make(chan struct{})
	before := l.due()
	go func() {
		defer close(done)
		for {
			now := s.r.clock.Now()
			wait := max(s.left()-s.r.lead(), s.r.lead()/4)
			for _, c := range l.standings {
				if end, ok := c.expires(); ok {
					wait = min(wait, end.Sub(now))
				}
			}
			if !s.r.pause(ctx, wait) {
				return
			}
			if l.judge(ctx); l.due() > before {
				cancel()
			}
		}
	}()
	return ctx, func() {
		cancel()
		<-done
	}
}

// judge finds out which safe values are due. Where ctx ends it finds nothing.
func (l *lane) judge(ctx context.Context) {
	s, r := l.s, l.s.r
	lost := s.left() <= r.lead()
	asked := false
	for _, c := range l.standings {
		if !lost {
			c.lost = false
		} else if !c.safe && !c.lost {
			c.ask(storeLost)
			c.lost = true
		}
		if end, ok := c.expires(); !ok || r.clock.Now().Before(end) {
			continue
		}
		if !asked && !lost {
			l.refresh(ctx)
			asked = true
		}
		if ctx.Err() != nil {
			return
		}
		if end, _ := c.expires(); !r.clock.Now().Before(end) {
			c.ask(sourceLost)
		}
	}
}

// refresh asks the store who is alive. No answer is none.
func (l *lane) refresh(ctx context.Context) {
	s, r := l.s, l.s.r
	start := r.clock.Now()
	ctx, cancel := context.WithTimeout(ctx, min(askTime, r.lead()))
	defer cancel()
	held, err := await(ctx, func() (map[string]time.Duration, error) { return r.cfg.Plane.Held(ctx, r.ch.ID) })
	if err != nil {
		l.silent = true
		s.log.Warn("the store does not say whether anybody stands behind the value of a control", "error", err)
		return
	}
	for _, c := range l.standings {
		if age, ok := held[c.Point]; ok && start.Add(-age).After(c.at) {
			c.at = start.Add(-age)
		}
	}
}
