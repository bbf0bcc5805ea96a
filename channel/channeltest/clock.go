package channeltest

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// blockPatience is how long BlockUntil waits, in real time, before it takes the
// test for hung. It is far above what a loaded machine needs.
const blockPatience = 30 * time.Second

// Clock is a model.Clock that stands still until Advance turns it. It starts on
// 2026-01-01 00:00 UTC, so that what tests print is the same every time. It is
// safe for concurrent use.
//
// A test that drives code which waits goes in steps of two: BlockUntil makes
// sure that the code waits, then Advance lets it go on.
type Clock struct {
	tb testing.TB

	mu      sync.Mutex
	now     time.Time
	waiters []waiter      // in the order in which they fall due
	joined  chan struct{} // closed, and replaced, when a waiter joins
}

type waiter struct {
	due time.Time
	c   chan time.Time
}

// NewClock returns a clock for the test tb, which fails when BlockUntil waits
// in vain.
func NewClock(tb testing.TB) *Clock {
	return &Clock{
		tb:     tb,
		now:    time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC),
		joined: make(chan struct{}),
	}
}

// Now returns the time to which the clock was turned.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// After returns a channel that delivers the time once the clock was turned by
// d; at once if d is not positive.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := waiter{due: c.now.Add(d), c: make(chan time.Time, 1)}
	if d <= 0 {
		w.c <- c.now
		return w.c
	}
	// Behind those that are due at the same time: first come, first served.
	at, _ := slices.BinarySearchFunc(c.waiters, w.due, func(o waiter, due time.Time) int {
		if o.due.After(due) {
			return 1
		}
		return -1
	})
	c.waiters = slices.Insert(c.waiters, at, w)
	close(c.joined)
	c.joined = make(chan struct{})
	return w.c
}

// Advance turns the clock by d and wakes, in the order of their times, those
// whose time has come. It does not wait for what they do then. Negative d turns
// the clock back and wakes nobody.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	due := 0
	for due < len(c.waiters) && !c.waiters[due].due.After(c.now) {
		c.waiters[due].c <- c.now
		due++
	}
	c.waiters = slices.Delete(c.waiters, 0, due)
}

// Waiters returns how many channels of After are still to fire. A channel that
// nobody receives from any more counts until its time has come, for After has
// no way to take it back.
func (c *Clock) Waiters() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiters)
}

// BlockUntil waits until at least n channels of After are still to fire, and
// fails the test when that does not come about within half a minute of real
// time. Call it from the test's own goroutine.
func (c *Clock) BlockUntil(n int) {
	c.tb.Helper()
	patience := time.NewTimer(blockPatience)
	defer patience.Stop()
	for {
		c.mu.Lock()
		have, joined := len(c.waiters), c.joined
		c.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-joined:
		case <-patience.C:
			c.tb.Fatalf("%d wait on the clock, not %d, after %s", have, n, blockPatience)
		}
	}
}

// dueWithin reports whether somebody waits for no longer than d.
func (c *Clock) dueWithin(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiters) > 0 && !c.waiters[0].due.After(c.now.Add(d))
}
