package runner

import (
	"context"
	"errors"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// writeAttempts is how often a batch is tried that the store answers with an
// error, before it is given up: what follows is worth more.
const writeAttempts = 3

// send stores what the queue holds until the session ends, or the queue is
// closing and empty. ctx ends the store calls.
func (s *session) send(ctx context.Context) {
	r := s.r
	w := r.cfg.Plane.NewWriter(s.lease, r.ch.Points)
	batch := make([]model.Sample, 0, min(scripts.MaxBatch, max(len(r.ch.Points), 16)))
	due := r.clock.After(r.ch.Refresh)
	warned := ""
	for ctx.Err() == nil {
		select {
		case <-due:
			due = r.clock.After(r.ch.Refresh)
			s.queue.refresh()
		default:
		}
		var refresh, over bool
		batch, refresh, over = s.queue.take(batch[:0])
		if over {
			return
		}
		if len(batch) == 0 {
			select {
			case <-s.queue.ready:
			case <-r.redefined:
				if w.Stale() {
					s.queue.refresh()
				}
			case <-due:
				due = r.clock.After(r.ch.Refresh)
				s.queue.refresh()
			case <-ctx.Done():
			}
			continue
		}
		warnings, err := s.write(ctx, w, batch, refresh)
		switch {
		case errors.Is(err, scripts.ErrFenced):
			s.end(err)
			return
		case err != nil && ctx.Err() != nil:
			return
		case err != nil:
			s.queue.done()
			if !refresh {
				r.status.lost(len(batch))
				s.queue.refresh()
			}
			s.log.Error("the store refuses a batch; it is left out", "samples", len(batch), "error", err)
		default:
			s.queue.done()
			r.status.stored(len(batch))
		}
		if len(warnings) == 0 {
			warned = ""
		} else if warnings[0] != warned { // the same again and again is said once
			warned = warnings[0]
			s.log.Warn("the store left something out", "warnings", warnings)
		}
	}
}

// write stores one batch. Broken connections are dealt with by the Writer; an
// error that the store answers is tried again a few times.
func (s *session) write(ctx context.Context, w *scripts.Writer, batch []model.Sample, refresh bool) (warnings []string, err error) {
	for attempt := 1; ; attempt++ {
		var stale bool
		stale, warnings, err = w.Write(ctx, batch, refresh)
		if stale {
			s.queue.refresh()
		}
		if err == nil || ctx.Err() != nil || errors.Is(err, scripts.ErrFenced) || errors.Is(err, model.ErrInvalid) {
			return warnings, err
		}
		s.r.status.fail(err)
		if attempt == writeAttempts || !s.r.pause(ctx, min(time.Second, s.r.cfg.Lease/3)) {
			return warnings, err
		}
	}
}
