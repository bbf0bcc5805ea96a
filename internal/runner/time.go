package runner

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/voltageems/voltage/model"
)

// signal leaves a mark in a channel of size one, if there is none yet.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause waits for d by the runner's clock and reports whether ctx is alive.
func (r *Runner) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-r.clock.After(d):
		return ctx.Err() == nil
	}
}

// timeout is context.WithTimeout by the runner's clock.
func (r *Runner) timeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if r.clock == model.SystemClock {
		return context.WithTimeout(ctx, d)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	due := r.clock.After(d)
	go func() {
		select {
		case <-due:
			cancel(context.DeadlineExceeded)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// within waits for each of the channels to be closed, for at most d of real
// time in all, and reports whether all were.
func within(d time.Duration, done ...<-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for _, c := range done {
		select {
		case <-c:
		case <-t.C:
			select {
			case <-c:
			default:
				return false
			}
			t.Reset(0)
		}
	}
	return true
}

// await returns f's answer, or the end of ctx if that comes first: a client of
// the store looks at deadlines, but not at the end of a context, while it waits
// for an answer. f then goes on until the client gives up.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	c := make(chan answer, 1)
	go func() {
		value, err := f()
		c <- answer{value, err}
	}()
	select {
	case a := <-c:
		return a.value, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-c:
		return a.value, a.err
	default:
		var none T
		return none, ctx.Err()
	}
}

// backoff grows from 100 ms to most, with jitter: the first is 50 to 100 ms.
func backoff(attempt int, most time.Duration) time.Duration {
	d := min(100*time.Millisecond<<min(attempt, 16), most)
	return d/2 + rand.N(d/2+1)
}

// jitter spreads d by a fifth to either side.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}
