package runner

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Bounds of a session's end, in real time from its beginning.
const (
	// drainTime is what a Read and a Write under way have to end by themselves.
	drainTime = 250 * time.Millisecond
	// safeTime is drainTime where safe values are to be written.
	safeTime = 600 * time.Millisecond
	// flushTime is what the last samples have to be stored.
	flushTime = 900 * time.Millisecond
	// closeTime bounds the context of a driver's Close.
	closeTime = time.Second
	// stopTime is when a driver that has not ended is abandoned.
	stopTime = 1200 * time.Millisecond
	// releaseTime is what giving the lease back may take after that.
	releaseTime = 200 * time.Millisecond
)

// session is the time of one lease.
type session struct {
	r     *Runner
	lease scripts.Lease
	queue *queue
	log   *slog.Logger

	// ctx is the session's: it ends with the lease, or with Run. end ends it.
	ctx context.Context
	end context.CancelCauseFunc
	// writes is that of a Write to the device, which at a clean stop may go on
	// a moment longer. sever ends it.
	writes context.Context
	sever  context.CancelFunc

	tenure    tenure
	connected atomic.Bool
	tried     atomic.Bool   // a first connection was made, or failed
	last      atomic.Bool   // a safe value is to be written at a clean stop
	linked    chan struct{} // a hint that connected, tried or the lease changed
	turn      chan struct{} // held by what writes to the device
	polled    chan struct{} // closed when nothing is read any more
	secured   chan struct{} // closed when no command is written any more
}

// session runs the channel for one lease. It returns why the lease was lost, or
// nil after a clean stop because ctx ended.
func (r *Runner) session(ctx context.Context, lease scripts.Lease, start time.Time) error {
	s := &session{r: r, lease: lease, log: r.log, linked: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		polled: make(chan struct{}), secured: make(chan struct{})}
	s.ctx, s.end = context.WithCancelCause(ctx)
	s.writes, s.sever = context.WithCancel(context.WithoutCancel(ctx))
	sends, hush := context.WithCancel(context.WithoutCancel(ctx))
	defer s.end(nil)
	defer s.sever()
	defer hush()
	s.extend(start)
	s.open()

	keeping, guarding, watching := s.start(s.keep), s.start(s.guard), s.start(s.watch)
	reading, commanding, beating := s.start(s.read), s.start(s.command), s.start(s.beat)
	sending := s.start(func() { s.send(sends) })
	<-s.ctx.Done()

	cause := context.Cause(s.ctx)
	if errors.Is(cause, scripts.ErrFenced) || errors.Is(cause, errLeaseOver) {
		s.sever()
		hush()
		s.stopDriver(reading, commanding)
		within(drainTime, guarding, watching, keeping, sending, beating) // they end; what hangs in the store is fenced
		r.mu.Lock()
		s.tenure.mu.Lock()
		r.until = s.tenure.until
		s.tenure.mu.Unlock()
		r.mu.Unlock()
		r.swapQueue()
		return cause
	}

	began := time.Now()
	drain := drainTime
	if s.last.Load() {
		drain = safeTime
	}
	within(drain, s.polled, commanding)
	s.sever()
	r.account(s.queue.finish())
	stopped := make(chan bool, 1)
	go func() { stopped <- s.stopDriver(reading, commanding) }()
	flushed := within(flushTime-time.Since(began), sending)
	hush()
	if left := s.queue.left(); left > 0 {
		r.status.lost(left)
		r.log.Error("stopped with samples that could not be stored", "samples", left)
	}
	quiet := within(flushTime-time.Since(began), guarding, watching, keeping, beating)
	// A driver that hangs may still act on the device: then the lease is left
	// to run out instead.
	if <-stopped && flushed && quiet {
		s.release()
	}
	r.swapQueue()
	return nil
}

// open prepares the queue and the status for the session.
func (s *session) open() {
	r := s.r
	now := r.clock.Now()
	r.mu.Lock()
	r.standby = false
	s.queue = r.queue
	// What was read before counts only if nobody else can have owned the
	// channel since, and if it is not old. What was pushed is not repeated by
	// anybody else, so it counts for as long as there was no other owner.
	lost := 0
	if r.driver != nil && !now.Before(r.until) {
		lost = s.queue.forget()
	}
	in := s.queue.begin(now)
	r.mu.Unlock()
	in.lost += lost
	r.account(in)
	if lost > 0 {
		r.log.Warn("changes were dropped because the channel was not owned for a while", "samples", lost)
	}
	if r.driver == nil {
		r.status.set(model.ChannelOnline, r.cfg.Engine)
	} else {
		r.status.set(model.ChannelConnecting, r.cfg.Engine)
	}
}

// start runs f and returns what is closed when it ends.
func (s *session) start(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

// stopDriver waits for the reader, which closes the driver, and for the command
// lane, and closes the driver from outside where they hang. It reports whether
// nothing uses the driver any more.
func (s *session) stopDriver(reading, commanding <-chan struct{}) bool {
	began := time.Now()
	if !within(drainTime, s.polled, commanding) {
		go s.r.closeDriver() // ends what hangs; the reader closes it again
	}
	if !within(stopTime-drainTime-time.Since(began), reading, commanding) {
		s.log.Error("the driver did not end in time; it is left behind")
	}
	select {
	case s.r.writing <- struct{}{}:
		<-s.r.writing
	default:
		return false // a Write is under way
	}
	select {
	case <-s.polled:
		return true
	default:
		return false
	}
}

// release gives the lease back. The channel's last status says stopped.
func (s *session) release() {
	r := s.r
	r.status.set(model.ChannelStopped, "")
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	_, err := await(ctx, func() (struct{}, error) {
		return struct{}{}, r.cfg.Plane.Release(ctx, s.lease, r.status.fields()...)
	})
	if err != nil {
		s.log.Warn("releasing the channel failed; its lease will run out", "error", err)
	}
}

// account counts what became of samples, and says it once.
func (r *Runner) account(in intake) {
	if in.lost > 0 {
		r.status.lost(in.lost)
	}
	if in.spilled {
		r.log.Error("the store does not keep up; the oldest changes are dropped")
	}
	if in.foreign != "" {
		r.log.Warn("samples of an unknown point are left out", "point", in.foreign)
	}
}
