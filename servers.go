package voltage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Bounds of serving.
const (
	// A server that failed is run again after a pause that doubles from
	// serverFirst to serverMost.
	serverFirst = 100 * time.Millisecond
	serverMost  = 30 * time.Second
	// serverSettled is how long a server must run to count as well.
	serverSettled = time.Second
	// serverEnd is what a server has to end. It is promised to be within a second.
	serverEnd = 1200 * time.Millisecond
)

// RegisterServer adds a server, or replaces the one of the same id. On a running
// engine it serves at once. A server that fails, because its port is taken or
// its line is gone, is run again, later and later; see Servers and Problems.
func (e *Engine) RegisterServer(c channel.ServerConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	// It is made once to check its settings.
	if _, err := c.NewServer(e.log, e.cfg.Clock, nil); err != nil {
		return err
	}
	e.defining.Lock()
	defer e.defining.Unlock()
	put(&e.registry, &e.registry.servers, c.ID, c)
	run, ok := e.running()
	if !ok {
		return nil
	}
	err := e.stopServer(c.ID)
	e.runServer(run, c.ID)
	return e.noted("register", "server:"+c.ID, err)
}

// RemoveServer ends a server and forgets it. scripts.ErrNotFound when there is
// none.
func (e *Engine) RemoveServer(id string) error {
	e.defining.Lock()
	defer e.defining.Unlock()
	if !take(&e.registry, &e.registry.servers, id) {
		return fmt.Errorf("server %.80q: %w", id, scripts.ErrNotFound)
	}
	return e.noted("remove", "server:"+id, e.stopServer(id))
}

// Servers returns the state of this engine's servers, by id.
func (e *Engine) Servers() []model.ServerStatus {
	var list []model.ServerStatus
	for _, c := range e.registry.serverList() {
		s := model.ServerStatus{ID: c.ID}
		if r := e.servers.get(c.ID); r != nil {
			s = r.state()
		}
		s.Name = c.Title()
		list = append(list, s)
	}
	return list
}

// Watch calls fn, on the caller's goroutine, for changed values of models, in
// order, until ctx or the run of the engine ends, and returns the error that
// says which: ctx's, or ErrNotRunning. It is OnUpdate with an end, whose first
// Update comes at once and has no model, as nothing was read yet.
func (e *Engine) Watch(ctx context.Context, fn func(model.Update)) error {
	run, ok := e.running()
	if !ok {
		return ErrNotRunning
	}
	box, end := e.subscribers.watch()
	defer end()
	bound, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(run, cancel)()
	box.deliver(bound, func(u model.Update) {
		defer contain(e.log, "Watch")
		fn(u)
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	return ErrNotRunning
}

// north is what servers see of the engine.
type north struct{ *Engine }

func (n north) Values(ctx context.Context, id string) (map[string]model.Value, error) {
	v, err := n.Engine.Values(ctx, id)
	if errors.Is(err, scripts.ErrNotFound) {
		err = fmt.Errorf("%w: %w", channel.ErrNoModel, err)
	}
	return v, err
}

func (r *registry) serverIDs() []string {
	var ids []string
	for _, c := range r.serverList() {
		ids = append(ids, c.ID)
	}
	return ids
}

func (r *registry) serverList() []channel.ServerConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]channel.ServerConfig, 0, len(r.servers))
	for _, id := range slices.Sorted(maps.Keys(r.servers)) {
		list = append(list, r.servers[id])
	}
	return list
}

// serving is one server that runs.
type serving struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	status model.ServerStatus
	// failed: LastError is why it does not run, or has not run for long.
	failed bool
}

func (s *serving) state() model.ServerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Problems = slices.Clone(st.Problems)
	return st
}

// servers are those that run.
type servers struct {
	mu     sync.Mutex
	list   map[string]*serving
	closed bool // Stop has begun: nothing starts any more

	telling sync.Mutex // held while problems are gathered and told, for their order
}

func (s *servers) get(id string) *serving {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[id]
}

// stop ends every server, all at once, within serverEnd.
func (s *servers) stop(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	list := s.list
	s.list = nil
	s.mu.Unlock()
	for _, r := range list {
		r.cancel()
	}
	bound, cancel := context.WithTimeout(ctx, serverEnd)
	defer cancel()
	var errs []error
	for id, r := range list {
		select {
		case <-r.done:
		case <-bound.Done():
			errs = append(errs, fmt.Errorf("stopping server %s: it does not end", id))
		}
	}
	return errors.Join(errs...)
}

// stopServer ends one server.
func (e *Engine) stopServer(id string) error {
	e.servers.mu.Lock()
	r := e.servers.list[id]
	delete(e.servers.list, id)
	e.servers.mu.Unlock()
	defer e.serverProblems()
	if r == nil {
		return nil
	}
	r.cancel()
	t := time.NewTimer(serverEnd)
	defer t.Stop()
	select {
	case <-r.done:
		return nil
	case <-t.C:
		return fmt.Errorf("stopping server %s: it does not end", id)
	}
}

// runServer begins to run a registered server.
func (e *Engine) runServer(run context.Context, id string) {
	e.registry.mu.Lock()
	c, ok := e.registry.servers[id]
	e.registry.mu.Unlock()
	if !ok || c.Disabled {
		return
	}
	e.servers.mu.Lock()
	defer e.servers.mu.Unlock()
	if e.servers.closed || e.servers.list[id] != nil {
		return
	}
	ctx, cancel := context.WithCancel(run)
	s := &serving{cancel: cancel, done: make(chan struct{}), status: model.ServerStatus{ID: id}}
	if e.servers.list == nil {
		e.servers.list = map[string]*serving{}
	}
	e.servers.list[id] = s
	e.work.Go(func() {
		defer close(s.done)
		e.serve(ctx, c, s)
	})
}

// serve runs a server again and again until ctx ends.
func (e *Engine) serve(ctx context.Context, c channel.ServerConfig, s *serving) {
	log, clock := e.log.With("server", c.ID), e.cfg.Clock
	pause := serverFirst
	for {
		began := clock.Now()
		s.set(func(st *model.ServerStatus) { st.Serving, st.Since = true, began })
		ended := make(chan error, 1)
		go func() { ended <- e.serveOnce(ctx, c, s) }()
		var err error
		select {
		case err = <-ended:
		case <-clock.After(serverSettled):
			s.mu.Lock()
			again := s.failed
			s.failed = false
			s.mu.Unlock()
			pause = serverFirst
			if again {
				log.Info("the server serves again")
				e.serverProblems()
			}
			err = <-ended
		}
		if ctx.Err() != nil {
			s.set(func(st *model.ServerStatus) { st.Serving, st.Since = false, clock.Now() })
			if err != nil && !errors.Is(err, ctx.Err()) {
				log.Warn("the server ended with an error", "error", err)
			}
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		s.mu.Lock()
		s.failed = true
		now := clock.Now()
		s.status.Serving, s.status.Since, s.status.LastErrorAt, s.status.LastError = false, now, now, err.Error()
		s.status.Failures++
		s.mu.Unlock()
		e.serverProblems() // logs it
		select {
		case <-ctx.Done():
			return
		case <-clock.After(pause):
		}
		pause = min(2*pause, serverMost)
	}
}

// serveOnce makes a server and runs it; a panic of either is an error.
func (e *Engine) serveOnce(ctx context.Context, c channel.ServerConfig, s *serving) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panicked: %v", p)
			e.log.Error("panic contained", "in", "server "+c.ID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	server, err := c.NewServer(e.log, e.cfg.Clock, func(problems ...string) {
		s.set(func(st *model.ServerStatus) { st.Problems = slices.Clone(problems) })
		e.serverProblems()
	})
	if err != nil {
		return err
	}
	return server.Serve(ctx, north{e})
}

func (s *serving) set(change func(*model.ServerStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// serverProblems gathers what is wrong with all servers.
func (e *Engine) serverProblems() {
	e.servers.telling.Lock()
	defer e.servers.telling.Unlock()
	e.servers.mu.Lock()
	running := maps.Clone(e.servers.list)
	e.servers.mu.Unlock()
	var list []string
	for _, id := range slices.Sorted(maps.Keys(running)) {
		s := running[id]
		s.mu.Lock()
		if s.failed {
			list = append(list, fmt.Sprintf("server %s: %s", id, s.status.LastError))
		}
		for _, p := range s.status.Problems {
			list = append(list, fmt.Sprintf("server %s: %s", id, p))
		}
		s.mu.Unlock()
	}
	e.problems.set(e.log, problemServers, list)
}
