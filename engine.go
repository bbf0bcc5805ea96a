package voltage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/internal/api"
	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/rule"
	"github.com/voltageems/voltage/scripts"
)

// The errors of an Engine that a caller can tell apart, beside those of
// packages model and scripts. All are wrapped with what and where.
var (
	// ErrNotRunning: the engine is not started, or stopped again.
	ErrNotRunning = errors.New("the engine is not running")
	// ErrRunning: Start on an engine that was started before.
	ErrRunning = errors.New("the engine was started before")
)

// The states of an engine.
const (
	stateNew int32 = iota
	stateRunning
	stateStopped
)

// reconcilePeriod is how soon definitions that other programs wrote to their
// documented keys take effect, and how soon lost data is noticed on a quiet site.
const reconcilePeriod = 5 * time.Second

// Engine runs a site's channels and serves what comes of them. It is safe for
// concurrent use.
type Engine struct {
	cfg Config
	// id is unique for this run: two processes of one name never share a lease.
	id       string
	log      *slog.Logger
	registry registry
	guard    *auth.Guard
	handler  *api.Handler

	// lifecycle is held by Start or Stop; state is what everybody else looks at,
	// so that nobody waits for a Stop that waits for him.
	lifecycle chan struct{}
	state     atomic.Int32

	// asked ends with the first Stop, and with it a Start that still waits.
	asked context.Context
	ask   context.CancelFunc

	// what Start makes; read only while state is running
	store  *scripts.Store
	plane  *scripts.Plane
	desk   *alarm.Desk
	book   *rule.Book
	run    context.Context
	cancel context.CancelFunc
	server *http.Server

	work sync.WaitGroup // everything that ends with the run
	done chan struct{}  // closed when it has ended

	runners runners
	servers servers

	calculations calculations

	// tidied: what an earlier run had defined and this one does not is removed.
	// shared: another engine of this name was seen.
	tidied, shared bool

	// defining serialises changes of definitions on the store. Under it:
	// unsettled are those that the store did not take yet, as Remember names them.
	defining  sync.Mutex
	unsettled map[string]struct{}

	subscribers subscribers
	waiters     waiters
	problems    problems
	scriptHint  chan struct{} // something about the scripts changed
}

// NewEngine validates the configuration and returns an engine that is ready to
// be started. It does no I/O; drivers are made, so their addresses are checked.
func NewEngine(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, id: cfg.Engine + "-" + hex.EncodeToString(random), log: cfg.Log, done: make(chan struct{}),
		lifecycle: make(chan struct{}, 1), scriptHint: make(chan struct{}, 1)}
	e.asked, e.ask = context.WithCancel(context.Background())
	e.guard = cfg.HTTP.guard(cfg.Clock)
	e.handler = api.New(api.Config{Site: site{e}, Log: cfg.Log, Clock: cfg.Clock, AllowedHosts: cfg.HTTP.AllowedHosts,
		Guard: e.guard, OpenProbes: cfg.HTTP.OpenProbes, ScriptUpdates: cfg.Scripts.Updates})
	var errs []error
	for _, ch := range cfg.Channels {
		errs = append(errs, e.RegisterChannel(ch))
	}
	for _, m := range cfg.Models {
		errs = append(errs, e.registerModel(m)) // Validate has looked at them all
	}
	for _, r := range cfg.Alarms {
		errs = append(errs, e.RegisterAlarm(r))
	}
	for _, r := range cfg.Rules {
		errs = append(errs, e.RegisterRule(r))
	}
	for _, s := range cfg.Servers {
		errs = append(errs, e.RegisterServer(s))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return e, nil
}

// Run starts the engine, waits until ctx ends, and stops it.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.Start(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-e.done:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return e.Stop(stop)
}

// Start opens the store, stores the definitions and begins to run the channels.
// It fails fast when the store does not answer or the address is taken; a
// device that does not answer is no failure. ctx bounds the start only. An
// engine is started once.
func (e *Engine) Start(ctx context.Context) (err error) {
	e.lifecycle <- struct{}{}
	defer func() { <-e.lifecycle }()
	switch e.state.Load() {
	case stateRunning:
		return ErrRunning
	case stateStopped:
		return fmt.Errorf("%w: it was stopped, and an engine is started once", ErrNotRunning)
	}
	e.defining.Lock() // registrations wait and are then made on the running engine
	defer e.defining.Unlock()
	ctx, give := context.WithCancel(ctx)
	defer give()
	defer context.AfterFunc(e.asked, give)()
	run, cancel := context.WithCancel(context.Background())
	e.run, e.cancel = run, cancel
	defer func() {
		if err != nil {
			e.state.Store(stateStopped)
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = e.shutdown(stop) // the reason to give up is the error that counts
		}
	}()
	if e.store, err = scripts.OpenStore(ctx, e.cfg.Store, e.log); err != nil {
		return err
	}
	if e.store.Cluster && e.cfg.Site == "" {
		return fmt.Errorf("%w: a Redis Cluster needs a site name, which keeps the site's keys in one slot", model.ErrInvalid)
	}
	e.plane, err = scripts.New(e.store.Client, scripts.Options{Site: e.cfg.Site, Log: e.log, Restore: e.define,
		HistoryBytes: e.cfg.HistoryQueue, CloudBytes: e.cfg.CloudQueue, CacheTTL: e.cfg.HTTP.Cache,
		SlowScript: e.cfg.Scripts.Slow, Probation: e.cfg.Scripts.Probation})
	if err != nil {
		return err
	}
	if err := e.plane.Prepare(ctx); err != nil {
		return err
	}
	e.desk, e.book = alarm.NewDesk(e.plane), rule.NewBook(e.plane)
	if err := e.define(ctx); err != nil {
		return err
	}
	if err := e.tidy(ctx); err != nil {
		return err
	}
	if err := e.follow(ctx, run); err != nil {
		return err
	}
	if err := e.listenHTTP(); err != nil {
		return err
	}
	if e.asked.Err() != nil {
		return fmt.Errorf("%w: it was stopped while it started", ErrNotRunning)
	}
	e.state.Store(stateRunning)
	for _, id := range e.registry.channelIDs() {
		e.runChannel(run, id)
	}
	for _, id := range e.registry.serverIDs() {
		e.runServer(run, id)
	}
	e.log.Info("engine started", "site", e.cfg.Site, "engine", e.id, "store", e.store.Kind)
	return nil
}

// Stop ends everything that the engine started: commands are no longer taken,
// points of its channels turn offline, leases are given back. It is bounded by
// ctx, may be called at any time, also while Start waits, which then gives up,
// and more than once. From within a callback it works too, but as it waits for
// callbacks to return, it takes 5 s and says so with an error.
func (e *Engine) Stop(ctx context.Context) error {
	e.ask()
	select {
	case e.lifecycle <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("stopping the engine, which is still starting or being stopped: %w", ctx.Err())
	}
	defer func() { <-e.lifecycle }()
	switch e.state.Swap(stateStopped) {
	case stateStopped:
		return nil
	case stateNew:
		close(e.done)
		return e.handler.Close(ctx)
	}
	err := e.shutdown(ctx)
	e.log.Info("engine stopped", "site", e.cfg.Site, "engine", e.id)
	return err
}

// Bounds of the last steps of an end, whatever ctx allows.
const (
	// absentTime is what giving back the engine's name, which runs out by itself,
	// and storing the last statistics may take.
	absentTime = 200 * time.Millisecond
	// quietTime is what everything that reads the store has to end by itself.
	quietTime = 100 * time.Millisecond
	// callbackTime is what callbacks have to return.
	callbackTime = 5 * time.Second
)

// shutdown ends a run, also one that began only in part. e.lifecycle
// is held.
func (e *Engine) shutdown(ctx context.Context) error {
	var errs []error
	// Nobody outside is shown what the end does to the values.
	outside := make(chan error, 1)
	go func() { outside <- e.servers.stop(ctx) }()
	// The page begins, for its clients would otherwise see everything go bad, and
	// is not waited for here: one that does not answer must not use up the time
	// that the channels need.
	page := make(chan error, 1)
	go func() { page <- e.handler.Close(ctx) }()
	if e.server != nil {
		// Requests under way get a moment; a connection on which nothing was asked
		// yet must not use up the time of everything else.
		polite, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		if err := e.server.Shutdown(polite); err != nil {
			err = e.server.Close()
			errs = append(errs, err)
		}
		cancel()
	}
	errs = append(errs, <-outside) // bounded
	errs = append(errs, e.runners.stop(ctx), <-page)
	if e.plane != nil {
		polite, cancel := context.WithTimeout(ctx, absentTime)
		if err := e.plane.Absent(polite, e.cfg.Engine, e.id); err != nil {
			e.log.Debug("the engine's name runs out instead of being given back", "error", err)
		}
		if err := e.plane.FlushStats(polite); err != nil {
			e.log.Debug("the last statistics of the scripts are not stored", "error", err)
		}
		cancel()
	}
	e.cancel()
	finished := make(chan struct{})
	go func() {
		e.work.Wait()
		close(finished)
	}()
	ended := func(d time.Duration) bool {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-finished:
			return true
		case <-t.C:
		case <-ctx.Done():
		}
		return false
	}
	// A client does not look at the end of a context while it waits for an
	// answer; closing it ends that.
	quiet := ended(quietTime)
	if e.store != nil {
		errs = append(errs, e.store.Close(ctx))
	}
	if !quiet && !ended(callbackTime) {
		errs = append(errs, errors.New("stopping the engine: a callback, or a call to the store, did not return in time"))
	}
	close(e.done)
	return errors.Join(errs...)
}

// follow starts everything that reads from the store: the journals, the
// subscription and the reconciliation.
func (e *Engine) follow(ctx, run context.Context) error {
	alarms, err := e.desk.End(ctx)
	if err != nil {
		return err
	}
	commands, err := e.plane.CommandJournalEnd(ctx)
	if err != nil {
		return err
	}
	e.subscribers.start(e, run, alarms, commands)
	e.goRun(run, func(ctx context.Context) {
		e.desk.Follow(ctx, alarms, e.subscribers.alarmHint(), e.handler.Alarm)
	})
	e.goRun(run, func(ctx context.Context) {
		followCommands(ctx, e.plane, commands, e.subscribers.commandHint(), func(ev model.CommandEvent) {
			e.waiters.deliver(ev.CommandResult)
			e.handler.Command(ev)
		})
	})
	subscribed := make(chan struct{})
	var again bool // used on the subscription's goroutine alone
	e.goRun(run, func(ctx context.Context) {
		e.plane.Listen(ctx, scripts.Listener{
			Update: func(u model.Update) {
				e.calculations.update(u)
				e.handler.Update(u)
				e.subscribers.update(u)
			},
			Alarms:   e.subscribers.wakeAlarms,
			Commands: e.subscribers.wakeCommands,
			Control:  e.wakeChannel,
			Scripts:  e.scriptsChanged,
			Connected: func() {
				e.subscribers.wakeAlarms()
				e.subscribers.wakeCommands()
				e.scriptsChanged()
				if again { // messages may have been lost in between
					e.calculations.wakeAll()
					e.subscribers.missed()
					e.handler.Resync()
				} else {
					close(subscribed)
				}
				again = true
			},
		})
	})
	// Without this, what is stored right after Start would be missed.
	select {
	case <-subscribed:
	case <-ctx.Done():
		return fmt.Errorf("subscribing to the store: %w", ctx.Err())
	case <-time.After(5 * time.Second):
		return fmt.Errorf("%w: no subscription within 5 s: the user needs SUBSCRIBE, PSUBSCRIBE and the site's channels", scripts.ErrStore)
	}
	e.goRun(run, e.reconcile)
	e.goRun(run, e.followScripts)
	e.goRun(run, e.tickAlarms)
	if e.cfg.Scripts.Folder != "" {
		// Not waited for: a folder never keeps an engine from starting.
		e.goRun(run, e.watchFolder)
	}
	return nil
}

// goRun runs f as part of the engine; a panic of Voltage's own costs f alone.
func (e *Engine) goRun(run context.Context, f func(context.Context)) {
	e.work.Go(func() {
		defer contain(e.log, "engine")
		f(run)
	})
}

// reconcile looks after definitions that others changed and data that was lost,
// and reports what is wrong with the definitions when that changes.
func (e *Engine) reconcile(ctx context.Context) {
	var failing, uncounted bool
	var defined scripts.Definitions // with which models were looked at
	for {
		found, err := e.plane.Reconcile(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			failing = true
			e.log.Error("the store does not answer", "error", err)
		case err == nil:
			if failing {
				e.log.Info("the store answers again")
			}
			failing = false
			if err := e.catchUp(ctx); err != nil && ctx.Err() == nil {
				e.log.Warn("the store does not take changed definitions; repeating", "error", err)
			}
			e.problems.set(e.log, problemDefinitions, found)
			e.redefined()
			if d, err := e.plane.Definitions(ctx); err == nil && !d.Same(defined) {
				defined = d
				e.problems.set(e.log, problemModels, e.modelProblems(d))
			}
			err := e.plane.FlushStats(ctx)
			if err != nil && !uncounted && ctx.Err() == nil {
				e.log.Warn("the statistics of the scripts are not stored; repeating", "error", err)
			}
			uncounted = err != nil
		}
		select {
		case <-ctx.Done():
			return
		case <-e.cfg.Clock.After(reconcilePeriod):
		}
	}
}

// What a problem is about, as the log says it.
const (
	problemDefinitions = iota
	problemModels
	problemScripts
	problemFolder
	problemServers
	problemKinds
)

var problemTexts = [problemKinds]string{"a definition is left out", "a model is not complete", "a script, a trial or a sync mode is left out", "a script of the folder is left out",
	"a server does not run and is tried again, or its settings name what is not there"}

// maxProblemLines is how many new problems are logged at a time: a channel that is
// gone may leave a thousand bindings without a point. Problems returns them all.
const maxProblemLines = 20

// problems are the faults of definitions and scripts, as far as they are known.
type problems struct {
	mu    sync.Mutex
	lists [problemKinds][]string
}

// set replaces the problems of one kind and logs the new ones.
func (p *problems) set(log *slog.Logger, kind int, list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := make(map[string]bool, len(p.lists[kind]))
	for _, text := range p.lists[kind] {
		known[text] = true
	}
	fresh := 0
	for _, text := range list {
		if known[text] {
			continue
		}
		if fresh++; fresh <= maxProblemLines {
			log.Warn(problemTexts[kind], "problem", text)
		}
	}
	if fresh > maxProblemLines {
		log.Warn(problemTexts[kind]+": there are more", "new", fresh, "logged", maxProblemLines)
	}
	p.lists[kind] = list
}

// Problems returns what is wrong with the site's definitions, scripts and
// servers: bindings to points that do not exist, points of models that are not
// bound or bound twice, rules that cannot be read, scripts of the folder that are
// not accepted, servers whose port is taken. They are found within seconds of a change
// and do not hold up anything else.
func (e *Engine) Problems() []string {
	e.problems.mu.Lock()
	defer e.problems.mu.Unlock()
	return slices.Concat(e.problems.lists[:]...)
}
