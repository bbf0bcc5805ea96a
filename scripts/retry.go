package scripts

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func isNil(err error) bool { return errors.Is(err, redis.Nil) }

// retry is call, repeated after a broken connection until ctx ends, at most a
// few times. Only for operations that have no second effect.
func (p *Plane) retry(ctx context.Context, name, op string, args ...any) ([]string, error) {
	for attempt := 0; ; attempt++ {
		reply, err := p.call(ctx, name, op, args...)
		if err == nil || !errors.Is(err, ErrStore) || attempt == 3 || isAnswer(err) {
			return reply, err
		}
		if !pause(ctx, backoff(attempt)) {
			return nil, err
		}
	}
}

// isAnswer reports whether the error is the store's own answer, which would be
// the same again, and not a broken connection. While Redis loads its data, or
// is busy, or has no master, the answer will change.
func isAnswer(err error) bool {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	for _, passing := range []string{"LOADING", "BUSY ", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "MOVED", "ASK",
		"NOSCRIPT", "OOM", "MISCONF", "NOREPLICAS", "max number of clients"} {
		// Redis 6 wraps the error of a call within a script: "ERR Error running
		// script (call to f_…): @user_script:12: @user_script: 12: -OOM command …"
		if redis.HasErrorPrefix(answer, passing) || strings.Contains(answer.Error(), ": -"+passing+" ") {
			return false
		}
	}
	// While a slot of a cluster moves, its keys are on two nodes: so says Redis up
	// to 7.0, and then later ones and Valkey.
	return !strings.Contains(answer.Error(), "attempted to access a non local key") &&
		!strings.Contains(answer.Error(), "during rehashing of the slot")
}

// backoff grows from 50 ms to 2 s, with jitter.
func backoff(attempt int) time.Duration {
	d := min(50*time.Millisecond<<min(attempt, 6), 2*time.Second)
	return d/2 + rand.N(d/2)
}

// pause waits for d and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
