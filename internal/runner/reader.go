package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// maxBackoff is the longest time between two tries to connect.
const maxBackoff = 30 * time.Second

// errBusy: an earlier call of the driver has not returned.
var errBusy = errors.New("the driver hangs in an earlier call")

// read connects the driver and reads until the session ends, and closes it.
func (s *session) read() {
	if s.r.driver == nil {
		close(s.polled)
		<-s.ctx.Done()
		return
	}
	// One reader at a time: that of an earlier session may hang in the driver.
	r := s.r
	select {
	case r.reading <- struct{}{}:
	default:
		s.unreachable(errBusy)
		select {
		case r.reading <- struct{}{}:
		case <-s.ctx.Done():
			close(s.polled)
			return
		}
	}
	defer func() { <-r.reading }()
	s.connections()
	close(s.polled)
	select { // the last safe values
	case <-s.secured:
	case <-s.writes.Done():
	}
	s.letWriteEnd()
	r.closeDriver()
}

// connections makes one connection after the other.
func (s *session) connections() {
	r := s.r
	for failures := 0; s.ctx.Err() == nil; failures++ {
		if failures > 0 && !r.pause(s.ctx, backoff(failures-1, maxBackoff)) {
			return
		}
		if err := r.connectDriver(s.ctx); err != nil {
			if s.ctx.Err() != nil {
				return
			}
			if failures == 0 {
				s.log.Warn("connecting failed; repeating", "error", err)
			}
			s.unreachable(err)
			r.closeDriver()
			continue
		}
		s.connected.Store(true)
		s.tried.Store(true)
		signal(s.linked)
		r.status.connected()
		err := s.poll(&failures)
		if s.ctx.Err() != nil {
			return // the last safe values may still be written
		}
		s.connected.Store(false)
		s.log.Warn("the connection is lost; connecting again", "error", err)
		r.status.fail(err)
		r.status.offline()
		r.closeDriver()
	}
}

// unreachable notes that the device cannot be reached: its values are not known
// any more.
func (s *session) unreachable(err error) {
	if s.tried.CompareAndSwap(false, true) {
		signal(s.linked)
	}
	s.r.status.fail(err)
	s.r.status.offline()
	s.r.account(s.queue.mark(model.Offline))
}

// poll reads until the connection is gone or the session ends.
func (s *session) poll(failures *int) error {
	r := s.r
	for failed := false; ; {
		samples, err := r.readDriver(s.ctx)
		switch {
		case s.ctx.Err() != nil && err != nil:
			return s.ctx.Err()
		case errors.Is(err, channel.ErrNotConnected):
			return err
		case err != nil:
			r.status.fail(err)
			if !failed {
				s.log.Warn("reading failed; repeating", "error", err)
			}
			failed = true
		case len(samples) > 0:
			*failures, failed = 0, false
			in, ok := s.queue.put(r.clock.Now(), samples)
			if !ok {
				return s.ctx.Err() // the session is over
			}
			r.account(in)
			if in.foreign != "" {
				r.status.fail(fmt.Errorf("sample of point %.80q, which the channel has not", in.foreign))
			}
			r.status.scanned(len(samples))
			if s.ctx.Err() == nil {
				continue
			}
		}
		// A driver that fails, or has nothing, at once must not spin.
		if !r.pause(s.ctx, min(max(r.ch.Scan/4, 10*time.Millisecond), 250*time.Millisecond)) {
			return s.ctx.Err()
		}
	}
}

// letWriteEnd waits for a Write that is under way, before Close ends it. When
// the session's writes are severed, it has a moment to say so.
func (s *session) letWriteEnd() {
	ended := func(ctx context.Context) bool {
		select {
		case s.r.writing <- struct{}{}:
			<-s.r.writing
			return true
		case <-ctx.Done():
			return false
		}
	}
	if ended(s.writes) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	ended(ctx)
}

// watch marks the points when no samples come.
func (s *session) watch() {
	r := s.r
	if r.ch.Stale < 0 {
		return
	}
	for wait := r.ch.Stale; r.pause(s.ctx, wait); {
		quality := model.Stale
		if r.driver != nil && !s.connected.Load() {
			quality = model.Offline
		}
		left, marked, in := s.queue.silent(r.clock.Now(), r.ch.Stale, quality)
		r.account(in)
		if marked {
			r.status.offline()
		}
		wait = left
	}
}
