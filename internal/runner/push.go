package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/voltageems/voltage/model"
)

// The errors of Push.
var (
	// ErrStandby: another engine owns the channel, and its samples count.
	ErrStandby = errors.New("another engine owns the channel")
	// ErrStopped: the runner has ended.
	ErrStopped = errors.New("the channel is stopped")
	// ErrHasDriver: the channel's samples come from its driver.
	ErrHasDriver = errors.New("the channel has a driver")
)

// Push hands in samples of a channel without a driver. They are checked all
// before any is taken, copied, and sent in order. While the store does not
// answer they wait, up to a bound; what is lost beyond it is counted in the
// channel's status.
//
// The error wraps model.ErrInvalid and names the sample for a point that the
// channel has not or a value that cannot be stored; ErrHasDriver, ErrStandby or
// ErrStopped otherwise.
func (r *Runner) Push(ctx context.Context, samples []model.Sample) error {
	if r.driver != nil {
		return fmt.Errorf("channel %s: %w", r.ch.ID, ErrHasDriver)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("channel %s: %w", r.ch.ID, err)
	}
	for i := range samples {
		if err := r.check(&samples[i]); err != nil {
			return err
		}
	}
	if len(samples) == 0 {
		return nil
	}
	r.mu.Lock()
	if r.standby {
		r.mu.Unlock()
		return fmt.Errorf("channel %s: %w", r.ch.ID, ErrStandby)
	}
	in, ok := r.queue.put(r.clock.Now(), samples)
	r.mu.Unlock()
	if !ok {
		return fmt.Errorf("channel %s: %w", r.ch.ID, ErrStopped)
	}
	r.account(in)
	r.status.scanned(len(samples))
	return nil
}

func (r *Runner) check(s *model.Sample) error {
	i, ok := r.index[s.Point]
	switch {
	case !ok:
		return fmt.Errorf("%w: channel %s: sample of point %.80q: the channel has no such point", model.ErrInvalid, r.ch.ID, s.Point)
	case s.Quality > model.Offline:
		return fmt.Errorf("%w: channel %s: sample of point %s: quality %d is unknown", model.ErrInvalid, r.ch.ID, s.Point, uint8(s.Quality))
	case s.Quality.Usable() && !r.ch.Points[i].Text && !model.Storable(s.Value):
		return fmt.Errorf("%w: channel %s: sample of point %s: value %v cannot be stored", model.ErrInvalid, r.ch.ID, s.Point, s.Value)
	}
	return nil
}
