package runner

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// DefaultLease is how long an engine owns a channel without renewing.
const DefaultLease = 5 * time.Second

// minLease keeps a mistyped lease from flooding the store with renewals.
const minLease = 100 * time.Millisecond

// Config is the surroundings of a Runner.
type Config struct {
	// Plane is the site's data plane. Required.
	Plane *scripts.Plane
	// Engine names this run of the engine. It is a valid id, and no other run
	// has the same one. Required.
	Engine string
	// Lease is how long the channel stays this engine's without a sign of life,
	// and so how long a stand-by waits before it takes over. Zero means 5 s,
	// the least is 100 ms.
	Lease time.Duration
	// Clock is model.SystemClock when nil.
	Clock model.Clock
	// Log is slog.Default() when nil.
	Log *slog.Logger
	// OnStatus is called on every change of the channel's state, in order. It
	// must not block. Nil means that nobody listens.
	OnStatus func(model.ChannelStatus)
}

// Runner runs one channel. Make one with New. Its methods are safe for
// concurrent use.
type Runner struct {
	cfg    Config
	ch     channel.Config
	clock  model.Clock
	log    *slog.Logger
	index  map[string]int // point id → place in ch.Points
	driver channel.Driver // nil: samples come by Push
	writer channel.Writer // nil: the device cannot be operated

	status  *status
	results *results
	wake    chan struct{} // a hint that commands wait
	// a hint that definitions changed
	redefined chan struct{}
	policies  chan struct{} // the same, for the command lane
	reading   chan struct{} // held by the one reader that may use the driver
	writing   chan struct{} // held while the driver's Write runs

	beats int // what the next heartbeat writes; of the one session that runs

	mu      sync.Mutex
	started bool
	standby bool
	queue   *queue    // of this session, or of the next one
	until   time.Time // when the last lease ended
}

// New checks the configuration and makes the driver. It does no I/O. The points
// must not be changed afterwards. Errors
// wrap model.ErrInvalid, or are the driver's own.
func New(cfg Config, ch channel.Config) (*Runner, error) {
	if err := ch.Validate(); err != nil {
		return nil, err
	}
	if cfg.Plane == nil {
		return nil, fmt.Errorf("%w: channel %s: no data plane", model.ErrInvalid, ch.ID)
	}
	if err := model.CheckID("engine", cfg.Engine); err != nil {
		return nil, err
	}
	if cfg.Lease == 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.Lease < minLease {
		return nil, fmt.Errorf("%w: channel %s: lease %s: want at least %s", model.ErrInvalid, ch.ID, cfg.Lease, minLease)
	}
	if cfg.Clock == nil {
		cfg.Clock = model.SystemClock
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	ch = ch.WithDefaults()
	r := &Runner{
		cfg: cfg, ch: ch, clock: cfg.Clock, log: cfg.Log.With("channel", ch.ID),
		index: make(map[string]int, len(ch.Points)),
		wake:  make(chan struct{}, 1), redefined: make(chan struct{}, 1), policies: make(chan struct{}, 1), reading: make(chan struct{}, 1), writing: make(chan struct{}, 1),
		results: newResults(),
	}
	for i := range ch.Points {
		r.index[ch.Points[i].ID] = i
	}
	r.status = newStatus(ch, cfg.Clock, r.log, cfg.OnStatus)
	r.queue = newQueue(ch.Points, r.index)
	r.queue.scans = r.status.scans
	driver, err := ch.NewDriver(cfg.Log, cfg.Clock)
	if err != nil {
		return nil, err
	}
	r.driver = driver
	r.writer, _ = driver.(channel.Writer)
	return r, nil
}

// Run runs the channel until ctx ends; then it stops cleanly, within about
// 1.5 s whatever the driver and the store do. It may be called once; further
// calls return at once.
//
// A call to a store that accepts connections and answers nothing may outlive
// Run by the read time-out of the store's client; it has no effect any more.
func (r *Runner) Run(ctx context.Context) {
	r.mu.Lock()
	again := r.started
	r.started = true
	r.mu.Unlock()
	if again {
		r.log.Error("the channel was started a second time; ignored")
		return
	}
	stored := r.results.start(r)
	short := 0 // sessions in a row that were over at once
	for {
		lease, start, ok := r.acquire(ctx)
		if !ok {
			break
		}
		err := r.session(ctx, lease, start)
		if err == nil {
			break
		}
		r.log.Warn("the channel is not owned any more; acquiring it again", "error", err)
		r.status.lose(err)
		if r.clock.Now().Sub(start) > r.cfg.Lease/3 {
			short = 0
		}
		// The first time at once, for data that was lost is to come back soon.
		if short++; short > 1 && !r.pause(ctx, backoff(short-2, r.cfg.Lease)) {
			break
		}
	}
	r.mu.Lock()
	r.standby = false
	r.queue.finish() // refuses what is pushed from now on
	r.mu.Unlock()
	r.status.set(model.ChannelStopped, "")
	r.results.stop(stored)
}

// swapQueue replaces the queue by its successor and returns the successor.
func (r *Runner) swapQueue() *queue {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = r.queue.successor()
	return r.queue
}

// Wake says that commands may wait in the channel's queue. It never blocks.
func (r *Runner) Wake() { signal(r.wake) }

// Redefined says that definitions may have changed since the last batch, so that
// values which do not change may have new targets. It never blocks.
func (r *Runner) Redefined() {
	signal(r.redefined)
	signal(r.policies)
}

// Status returns how the channel is doing.
func (r *Runner) Status() model.ChannelStatus { return r.status.get() }
