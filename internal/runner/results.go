package runner

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

const (
	// resultRetry is the longest time between two tries to store a result.
	resultRetry = time.Second
	// resultGrace is what the last results have to be stored after the last
	// session, in real time.
	resultGrace = 250 * time.Millisecond
)

// result is how a command ended.
type result struct {
	id, token      string
	state          model.CommandState
	reason, detail string
	readBack       *float64
	safe           *ownWrite // nil for a command that somebody gave
}

// ownWrite is what a result of a safe value has beside that of a command.
type ownWrite struct {
	scripts.Failsafe
	lease  scripts.Lease
	reason string
	began  time.Time
}

// store stores a result.
func (r *Runner) store(ctx context.Context, res result) error {
	if res.safe == nil {
		_, err := r.cfg.Plane.Finish(ctx, res.id, res.token, res.state, res.reason, res.detail, res.readBack)
		return err
	}
	own := res.safe
	reason, detail := own.reason, res.detail
	if !res.state.OK() {
		reason, detail = res.reason, own.reason+": "+res.detail
	}
	return r.cfg.Plane.RecordFailsafe(ctx, own.lease, scripts.FailsafeRecord{Failsafe: own.Failsafe, ID: res.id, Token: res.token,
		State: res.state, Reason: reason, Detail: detail, ReadBack: res.readBack, Ago: r.clock.Now().Sub(own.began)})
}

// results are kept until the store has them, over the end of sessions and
// outages of the store: the device has acted, so somebody has to say so.
type results struct {
	ready chan struct{}

	mu      sync.Mutex
	waiting []result
	closing bool

	ctx    context.Context
	cancel context.CancelFunc
}

func newResults() *results { return &results{ready: make(chan struct{}, 1)} }

// add takes a result. It never blocks.
func (rs *results) add(res result) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.waiting = append(rs.waiting, res)
	signal(rs.ready)
}

func (rs *results) first() (res result, ok, closing bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.waiting) == 0 {
		return res, false, rs.closing
	}
	return rs.waiting[0], true, rs.closing
}

func (rs *results) drop() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.waiting = rs.waiting[1:]
}

// start begins to store results and returns what is closed when that ends.
func (rs *results) start(r *Runner) <-chan struct{} {
	rs.ctx, rs.cancel = context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		rs.run(r)
		rs.mu.Lock()
		defer rs.mu.Unlock()
		for _, res := range rs.waiting {
			r.log.Error("the result of a command could not be stored", "command", res.id, "state", res.state, "reason", res.reason)
		}
	}()
	return done
}

// stop has the last results stored, for a moment.
func (rs *results) stop(done <-chan struct{}) {
	rs.mu.Lock()
	rs.closing = true
	rs.mu.Unlock()
	signal(rs.ready)
	within(resultGrace, done)
	rs.cancel()
	<-done
}

func (rs *results) run(r *Runner) {
	for failures := 0; rs.ctx.Err() == nil; {
		res, ok, closing := rs.first()
		if !ok {
			if closing {
				return
			}
			select {
			case <-rs.ready:
			case <-rs.ctx.Done():
			}
			continue
		}
		_, err := await(rs.ctx, func() (struct{}, error) { return struct{}{}, r.store(rs.ctx, res) })
		switch {
		case err == nil:
		case errors.Is(err, scripts.ErrConflict), errors.Is(err, scripts.ErrNotFound):
			r.log.Warn("the result of a command is not wanted", "command", res.id, "state", res.state, "error", err)
		default:
			if failures == 0 {
				r.log.Warn("storing the result of a command failed; repeating", "command", res.id, "error", err)
			}
			failures++
			rs.drop() // behind the others, should it be the only one that fails
			rs.add(res)
			r.pause(rs.ctx, backoff(failures-1, resultRetry))
			continue
		}
		failures = 0
		rs.drop()
	}
}
