package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/voltageems/voltage/channel"
)

const (
	// leastGrace is what an attempt on a silent unit has at least when others
	// wait for the line.
	leastGrace = 20 * time.Millisecond
	// graceFactor times the slowest recent answer is what it has otherwise.
	graceFactor = 4
	// silentShare is which part of the time that others want the line attempts on
	// silent units may take: 1 of 20, 5 %.
	silentShare = 20
	// mostRest is how far the rests of several attempts add up.
	mostRest = 10 * time.Second
)

// errCut is why the context of an attempt ends when it gives way.
var errCut = errors.New("cut short, as others wait for the line")

// silents is what a line knows of units that do not answer, and how attempts on
// them give way to everybody else. The line's lock guards it.
//
// An attempt is a request to a unit, or for something, that was not answered the
// last time. It may keep the line for as long as nobody else waits. Otherwise it
// has a grace and then gives way; to a command at once where a late answer is
// told by its transaction id. So that a unit which became slower is found again,
// every second attempt has twice the grace, every fourth four times and so on;
// and one that answered after it had given way has all its time the next time.
// The time for which others had to wait is paid back: attempts on dead units
// rest for 19 times as long.
type silents struct {
	pace   patience
	try    *try      // the attempt that has the line; nil for none
	after  bool      // the last request was an attempt without an answer
	late   [256]bool // units that answered an attempt which had given way
	probes []*lane
	nobody []*lane // always empty
	armed  bool    // a timer runs for them
}

// patience says how long silent units may take. It is told the time.
type patience struct {
	slowest time.Duration // recent answer of a live unit
	free    time.Time     // when attempts on dead units may go on
}

// answered notes how long a live unit took. A slow answer counts at once and is
// forgotten bit by bit.
func (p *patience) answered(took time.Duration) {
	p.slowest = max(took, p.slowest-(p.slowest-took)/16)
}

// grace returns how long the n-th attempt in turn, from 1 on, keeps the line from
// others: all its time where it is not known how long live units take.
func (p *patience) grace(n int, timeout time.Duration) time.Duration {
	if p.slowest == 0 {
		return timeout
	}
	grace := max(graceFactor*p.slowest, leastGrace)
	for ; n&1 == 0 && grace < timeout; n >>= 1 {
		grace *= 2
	}
	return min(grace, timeout)
}

// cost notes that others waited for an attempt until now.
func (p *patience) cost(waited time.Duration, now time.Time) {
	if waited <= 0 {
		return
	}
	from := now
	if p.free.After(from) {
		from = p.free
	}
	// What attempts on live units cost, which do not wait for this, is not to keep
	// dead ones away for ever.
	rest := (silentShare - 1) * waited
	p.free = from.Add(rest)
	if most := now.Add(max(rest, mostRest)); p.free.After(most) {
		p.free = most
	}
}

// try is an attempt under way.
type try struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	began  time.Time
	wanted time.Time // since when others wait; zero while nobody does
	grace  time.Duration
}

// hurry says in how long a try gives way to who begins to wait now: at once to a
// command on a line where late answers do no harm.
func (t *try) hurry(now time.Time, atOnce bool) time.Duration {
	if t.wanted.IsZero() {
		t.wanted = now
	}
	if atOnce {
		return 0
	}
	return max(t.began.Add(t.grace).Sub(now), 0)
}

// ended ends the try and returns its error. One that gave way is a request
// without an answer.
func (t *try) ended(ctx context.Context, asks []ask, err error) error {
	cut := errors.Is(context.Cause(t.ctx), errCut)
	t.cancel(nil)
	if err == nil && ctx.Err() != nil { // the try may not have known yet
		return ctx.Err()
	}
	if err == nil || !cut || ctx.Err() != nil || errors.Is(err, channel.ErrNotConnected) {
		return err
	}
	for k := range asks {
		if !asks[k].done {
			asks[k].end(nil, fmt.Errorf("%w: %w", ErrTimeout, errCut))
		}
	}
	return nil
}

// tryLocked makes a try of a request where it is one, and returns the context
// that it has.
func (l *line) tryLocked(ctx context.Context, m *member, ln *lane, now time.Time, timeout time.Duration) (context.Context, *try) {
	if ln.quiet == 0 || ln.command {
		return ctx, nil
	}
	t := &try{began: now, grace: l.pace.grace(ln.quiet, timeout)}
	if l.late[m.unit] {
		l.late[m.unit], t.grace = false, timeout
	}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	l.try = t
	ln.tried = now
	if len(l.polls) > 0 {
		l.hurryLocked(false)
	}
	if len(l.commands) > 0 {
		l.hurryLocked(true)
	}
	return t.ctx, t
}

// hurryLocked has the try give way.
func (l *line) hurryLocked(command bool) {
	t := l.try
	if in := t.hurry(time.Now(), command && !l.rtu); in > 0 {
		time.AfterFunc(in, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.try == t {
				l.cutLocked()
			}
		})
		return
	}
	l.cutLocked()
}

// cutLocked cuts short the try.
func (l *line) cutLocked() {
	l.try.cancel(errCut)
	if l.conn != nil {
		l.conn.interrupt()
	}
}

// waitingLocked notes that a lane waits.
func (l *line) waitingLocked(ln *lane) {
	switch {
	case ln.probe && !l.busy:
		l.armLocked()
	case !ln.probe && l.try != nil:
		l.hurryLocked(ln.command)
	}
}

// triedLocked notes what a request took: an attempt the time of others, and also
// what the next request had to wait behind it in a gateway.
func (l *line) triedLocked(t *try, asks []ask, err error, began, now time.Time) {
	live := err == nil && slices.ContainsFunc(asks, func(a ask) bool { return !unanswered(a.err) })
	took := now.Sub(began)
	switch {
	case t != nil:
		l.try = nil
		if !t.wanted.IsZero() {
			l.pace.cost(now.Sub(t.wanted), now)
		}
		l.after = !live
	case live && l.after:
		l.pace.cost(took-l.pace.slowest, now)
		l.after = false
	case live:
		l.pace.answered(took)
	}
}

// openLocked reports whether a dead unit may be tried now that the line is free.
func (l *line) openLocked() bool {
	return len(l.probes) == 0 && !time.Now().Before(l.pace.free)
}

// dueLocked returns the queue of the dead units, the one that was not tried for
// longest first, or an empty one when they have to wait.
func (l *line) dueLocked(now time.Time) *[]*lane {
	if len(l.probes) == 0 || now.Before(l.pace.free) {
		return &l.nobody
	}
	slices.SortStableFunc(l.probes, func(a, b *lane) int { return a.tried.Compare(b.tried) })
	return &l.probes
}

// armLocked has the dead units served when it is time, on a line that is free.
func (l *line) armLocked() {
	if l.armed || len(l.probes) == 0 {
		return
	}
	l.armed = true
	time.AfterFunc(time.Until(l.pace.free), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.armed = false
		if !l.busy {
			l.nextLocked()
		}
	})
}
