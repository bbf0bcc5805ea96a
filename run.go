package voltage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/voltageems/voltage/internal/runner"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// running is one channel's runner.
type running struct {
	*runner.Runner
	cancel context.CancelFunc
	done   chan struct{}
}

func (e *Engine) runnerConfig(p *scripts.Plane) runner.Config {
	return runner.Config{Plane: p, Engine: e.id, Lease: e.cfg.Lease, Clock: e.cfg.Clock, Log: e.log, OnStatus: func(s model.ChannelStatus) {
		e.handler.Channel(s)
		e.subscribers.channel(s)
	}}
}

// runners are the channels that run.
type runners struct {
	mu     sync.Mutex
	list   map[string]*running
	closed bool // Stop has begun: nothing starts any more
}

func (rs *runners) get(id string) *running {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.list[id]
}

// stop stops every channel, all at once.
func (rs *runners) stop(ctx context.Context) error {
	rs.mu.Lock()
	rs.closed = true
	list := rs.list
	rs.list = nil
	rs.mu.Unlock()
	for _, r := range list {
		r.cancel()
	}
	var errs []error
	for id, r := range list {
		select {
		case <-r.done:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("stopping channel %s: %w", id, ctx.Err()))
		}
	}
	return errors.Join(errs...)
}

// runChannel starts a registered channel, unless it runs.
func (e *Engine) runChannel(run context.Context, id string) {
	c, ok := e.registry.channel(id)
	if !ok || c.Disabled {
		return
	}
	r, err := runner.New(e.runnerConfig(e.plane), c)
	if err != nil { // it was made before, at registration
		e.log.Error("channel does not start", "channel", id, "error", err)
		return
	}
	e.runners.mu.Lock()
	defer e.runners.mu.Unlock()
	if e.runners.closed || e.runners.list[id] != nil {
		return
	}
	ctx, cancel := context.WithCancel(run)
	started := &running{Runner: r, cancel: cancel, done: make(chan struct{})}
	if e.runners.list == nil {
		e.runners.list = map[string]*running{}
	}
	e.runners.list[id] = started
	e.work.Go(func() {
		defer close(started.done)
		defer contain(e.log, "channel "+id)
		r.Run(ctx)
	})
}

// stopChannel stops a channel and waits until it has; a Runner's stop is bounded.
func (e *Engine) stopChannel(id string) {
	e.runners.mu.Lock()
	r := e.runners.list[id]
	delete(e.runners.list, id)
	e.runners.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// wakeChannel passes on the hint that commands wait.
func (e *Engine) wakeChannel(id string) {
	if r := e.runners.get(id); r != nil {
		r.Wake()
	}
}

// redefined tells every channel that definitions changed: values that do not
// change may have to go to new places.
func (e *Engine) redefined() {
	if e.calculations.any.Load() {
		if d, err := e.plane.Definitions(e.run); err == nil { // else at the next reconciliation
			e.calculations.redefined(d)
		}
	}
	e.runners.mu.Lock()
	defer e.runners.mu.Unlock()
	for _, r := range e.runners.list {
		r.Redefined()
	}
}

// running returns the context of the run, and whether there is one.
func (e *Engine) running() (context.Context, bool) {
	if e.state.Load() != stateRunning {
		return nil, false
	}
	return e.run, true
}

// Push stores samples of a channel without a driver: the maker's own sensors.
// All samples are checked first; a point that the channel does not have, or a
// value that cannot be stored, refuses them all and names it. Push returns when
// the samples are queued for the store, in order.
func (e *Engine) Push(ctx context.Context, channel string, samples ...model.Sample) error {
	if _, ok := e.running(); !ok {
		return ErrNotRunning
	}
	r := e.runners.get(channel)
	if r == nil {
		return fmt.Errorf("channel %.80q: %w", channel, scripts.ErrNotFound)
	}
	return r.Push(ctx, samples)
}

// Demand has points of a channel be read now, whatever their scan class, and all
// of them when none are named. It does not wait: the values come as always, soon
// after. The error wraps scripts.ErrNotFound for an unknown channel and
// model.ErrInvalid for an unknown point; scripts.ErrConflict where it cannot be
// done: the driver does not read on demand, the device is not connected, or
// another engine owns the channel.
func (e *Engine) Demand(channelID string, points ...string) error {
	if _, ok := e.running(); !ok {
		return ErrNotRunning
	}
	r := e.runners.get(channelID)
	if r == nil {
		return fmt.Errorf("channel %.80q: %w", channelID, scripts.ErrNotFound)
	}
	return r.Demand(points)
}

// contain turns a panic into a log entry: one bad callback, rule or channel
// never takes down another.
func contain(log *slog.Logger, what string) {
	if v := recover(); v != nil {
		log.Error("panic contained", "in", what, "panic", v, "stack", string(debug.Stack()))
	}
}
