package runner

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// errLeaseOver: the lease could not be renewed before it runs out.
var errLeaseOver = errors.New("the lease runs out and could not be renewed")

// margin is how long before the end of a lease its session ends: the time that
// a driver has to stop, and that the clocks of store and runner may differ by
// over a lease.
func (r *Runner) margin() time.Duration { return r.cfg.Lease / 5 }

// tenure is until when the channel is certainly owned.
type tenure struct {
	mu    sync.Mutex
	until time.Time
}

// extend notes a lease that was given at start or later.
func (s *session) extend(start time.Time) {
	s.tenure.mu.Lock()
	defer s.tenure.mu.Unlock()
	s.tenure.until = start.Add(s.r.cfg.Lease - s.r.margin())
}

// left is how long the channel is certainly owned yet.
func (s *session) left() time.Duration {
	s.tenure.mu.Lock()
	defer s.tenure.mu.Unlock()
	return s.tenure.until.Sub(s.r.clock.Now())
}

// owns reports whether the session goes on and its lease holds.
func (s *session) owns() bool { return s.ctx.Err() == nil && s.left() > 0 }

// guard ends the session when the lease is about to run out, whatever all
// others are waiting for.
func (s *session) guard() {
	for {
		left := s.left()
		if left <= 0 {
			s.end(errLeaseOver)
			return
		}
		if !s.r.pause(s.ctx, left) {
			return
		}
	}
}

// keep renews the lease and stores the status, every third of the lease and at
// every change of the state.
func (s *session) keep() {
	r := s.r
	for failures := 0; ; {
		select {
		case <-r.status.changed: // this renewal tells it
		default:
		}
		start := r.clock.Now()
		// Not cut short by the end of the session: a renewal that is under way
		// then must not reach the store after the release.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), max(r.cfg.Lease/3, minLease))
		err := r.cfg.Plane.Renew(ctx, s.lease, r.cfg.Lease, r.status.fields()...)
		cancel()
		wait := r.cfg.Lease / 3
		switch {
		case err == nil:
			s.extend(start)
			if failures > 0 {
				r.log.Info("the lease is renewed again")
			}
			signal(s.linked)
			failures = 0
		case errors.Is(err, scripts.ErrFenced):
			s.end(err)
			return
		default:
			if failures == 0 {
				r.log.Warn("renewing the lease failed; repeating", "error", err)
			}
			wait = backoff(failures, r.cfg.Lease/6)
			failures++
			r.status.note(err)
		}
		changed := r.status.changed
		if err != nil {
			changed = nil // no reason to try sooner
		}
		select {
		case <-s.ctx.Done():
			return
		case <-changed:
		case <-r.clock.After(wait):
		}
	}
}

// acquire tries to get the channel until it has it (ok) or ctx ends. start is
// from when the lease runs at the latest.
func (r *Runner) acquire(ctx context.Context) (lease scripts.Lease, start time.Time, ok bool) {
	for attempt := 0; ctx.Err() == nil; {
		start = r.clock.Now()
		lease, err := await(ctx, func() (scripts.Lease, error) {
			return r.cfg.Plane.Acquire(ctx, r.ch.ID, r.cfg.Engine, r.cfg.Lease)
		})
		wait := backoff(attempt, r.cfg.Lease/3)
		switch {
		case err == nil && r.clock.Now().Sub(start) < r.cfg.Lease-r.margin():
			return lease, start, true
		case err == nil: // the call took so long that the lease may be over
		case ctx.Err() != nil:
		case errors.Is(err, scripts.ErrHeld):
			attempt = 0
			wait = jitter(r.cfg.Lease / 3)
			r.yield(ctx)
		default:
			if attempt == 0 {
				r.log.Warn("acquiring the channel failed; repeating", "error", err)
			}
			attempt++
			r.status.fail(err)
			r.status.set(model.ChannelStopped, "")
		}
		if !r.pause(ctx, wait) {
			break
		}
	}
	return scripts.Lease{}, start, false
}

// yield notes that another engine owns the channel: what this one knew is not
// current any more.
func (r *Runner) yield(ctx context.Context) {
	r.mu.Lock()
	first := !r.standby
	r.standby = true
	lost := r.queue.forget()
	r.mu.Unlock()
	r.status.lost(lost)
	owner, err := await(ctx, func() (string, error) {
		_, owner, err := r.cfg.Plane.ChannelStatus(ctx, r.ch.ID)
		return owner, err
	})
	if err != nil {
		owner = ""
	}
	if first {
		r.log.Info("another engine owns the channel; standing by", "owner", owner)
	}
	r.status.set(model.ChannelStandby, owner)
}
