package scripts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/voltageems/voltage/scripts/internal/redisproc"
)

const (
	storeSocket       = "redis.sock"
	storeLockFile     = "voltage.lock"
	storeLockWait     = 3 * time.Second
	storeMaxPath      = 100 // unix socket addresses hold 107 bytes on Linux
	storeBackoffFirst = 100 * time.Millisecond
	storeBackoffLast  = 10 * time.Second
	storeStable       = time.Minute // a child that ran this long starts the backoff anew
)

// storeChild is a running managed server and what belongs to it.
type storeChild struct {
	cfg     Managed
	version redisproc.Version
	folder  string   // absolute
	temp    bool     // folder is temporary
	lock    *os.File // inherited by the child, which so keeps the folder to itself
	dir     *os.File // folder, open because its path is too long for a socket; or nil
	socket  string   // path for the client
	log     *slog.Logger

	quiet   atomic.Bool // the child's warnings are expected: it starts or stops
	closing chan struct{}
	once    sync.Once
	stopCtx context.Context // set before closing is closed
	done    chan struct{}   // the supervisor has ended
	err     error           // of the stop; valid after done
}

func storeOpenManaged(ctx context.Context, cfg Managed, log *slog.Logger) (*Store, error) {
	c := &storeChild{cfg: cfg, log: log, closing: make(chan struct{}), done: make(chan struct{})}
	if c.cfg.Binary == "" {
		path, ok := FindManagedBinary()
		if !ok {
			return nil, fmt.Errorf("%w: neither redis-server nor valkey-server is on PATH", ErrStoreUnavailable)
		}
		c.cfg.Binary = path
	}
	var err error
	if c.version, err = redisproc.BinaryVersion(ctx, c.cfg.Binary); err != nil {
		return nil, fmt.Errorf("%w: managed: %w", ErrStoreUnavailable, err)
	}
	if !c.version.AtLeast(6, 2) {
		return nil, fmt.Errorf("%w: %s is version %s", ErrStoreVersion, c.cfg.Binary, c.version)
	}
	proc, err := c.open(ctx)
	if err != nil {
		return nil, errors.Join(err, c.release())
	}
	go c.supervise(proc)
	return &Store{
		Client:  c.client(),
		Kind:    StoreManaged,
		Address: "unix://" + filepath.Join(c.folder, storeSocket),
		stop:    c.stop,
	}, nil
}

// open prepares the folder and starts the child for the first time.
func (c *storeChild) open(ctx context.Context) (*redisproc.Process, error) {
	if err := c.prepare(ctx); err != nil {
		return nil, err
	}
	if err := c.convert(ctx); err != nil {
		return nil, fmt.Errorf("%w: managed, in %s: bring data to persistence %q: %w", ErrStoreUnavailable, c.folder, c.cfg.Persistence, err)
	}
	proc, err := c.start(ctx, c.cfg.Persistence)
	if err != nil {
		return nil, fmt.Errorf("%w: managed, in %s: %w", ErrStoreUnavailable, c.folder, err)
	}
	return proc, nil
}

// prepare makes and locks the folder and decides on the path of the socket.
func (c *storeChild) prepare(ctx context.Context) error {
	var err error
	if c.cfg.Folder == "" {
		c.temp = true
		c.folder, err = os.MkdirTemp("", "voltage-store-")
	} else if c.folder, err = filepath.Abs(c.cfg.Folder); err == nil {
		err = os.MkdirAll(c.folder, 0o700)
	}
	if err != nil {
		return fmt.Errorf("%w: managed: data folder: %w", ErrStoreConfig, err)
	}
	if c.lock, err = os.OpenFile(filepath.Join(c.folder, storeLockFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("%w: managed: data folder: %w", ErrStoreConfig, err)
	}
	if err := c.acquire(ctx); err != nil {
		return err
	}
	c.socket = filepath.Join(c.folder, storeSocket)
	if len(c.socket) > storeMaxPath {
		// The address of a unix socket is short, but its path may go by way of an
		// open folder: no second, temporary folder that a crash would leave behind.
		if c.dir, err = os.Open(c.folder); err != nil {
			return fmt.Errorf("%w: managed: data folder: %w", ErrStoreConfig, err)
		}
		c.socket = fmt.Sprintf("/proc/self/fd/%d/%s", c.dir.Fd(), storeSocket)
	}
	return nil
}

// acquire locks the folder. It waits a little, because the server of an engine
// that was killed a moment ago may still be saving, and holds the lock so long.
func (c *storeChild) acquire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeLockWait)
	defer cancel()
	for {
		ok, err := redisproc.Lock(c.lock.Fd())
		if err != nil {
			return fmt.Errorf("%w: managed: lock %s: %w", ErrStoreConfig, c.lock.Name(), err)
		}
		if ok {
			return nil
		}
		if !storeWait(ctx, storeRetry) {
			return fmt.Errorf("%w: %s", ErrStoreLocked, c.folder)
		}
	}
}

// start starts the child and waits until it answers.
func (c *storeChild) start(ctx context.Context, how Persistence) (*redisproc.Process, error) {
	c.quiet.Store(true)
	proc, err := redisproc.Start(redisproc.Options{
		Binary:  c.cfg.Binary,
		Config:  storeServerConfig(c.cfg, c.version, c.folder, how),
		Inherit: []*os.File{c.lock},
		Log: func(line string, warning bool) {
			level := slog.LevelDebug
			if warning && !c.quiet.Load() {
				level = slog.LevelWarn
			}
			c.log.Log(context.Background(), level, "managed store: "+line)
		},
	})
	if err != nil {
		return nil, err
	}
	if err := c.ready(ctx, proc); err != nil {
		kill, cancel := context.WithCancel(ctx)
		cancel() // it does not answer: nothing to wait for
		_ = proc.Stop(kill)
		return nil, err
	}
	c.quiet.Store(false)
	return proc, nil
}

// ready waits until the child answers PING, which it refuses while it loads. A
// connection of its own is used, because a client's pool delays its dials after
// failures.
func (c *storeChild) ready(ctx context.Context, proc *redisproc.Process) error {
	for {
		if storeAnswers(ctx, c.socket) {
			return nil
		}
		wait := time.NewTimer(10 * time.Millisecond)
		select {
		case <-proc.Done():
			wait.Stop()
			return fmt.Errorf("%s %w", c.cfg.Binary, proc.Ended())
		case <-c.closing:
			wait.Stop()
			return context.Canceled
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%s does not answer: %w; its last words: %s", c.cfg.Binary, ctx.Err(), proc.LastLines())
		case <-wait.C:
		}
	}
}

// supervise restarts the child whenever it ends by itself, until stop.
func (c *storeChild) supervise(proc *redisproc.Process) {
	defer close(c.done)
	backoff := storeBackoffFirst
	for {
		started := time.Now()
		select {
		case <-c.closing:
			c.quiet.Store(true)
			c.err = proc.Stop(c.stopCtx)
			return
		case <-proc.Done():
		}
		c.log.Error("the managed store's server died and is started again", "folder", c.folder, "error", proc.Ended())
		if time.Since(started) > storeStable {
			backoff = storeBackoffFirst
		}
		for {
			select {
			case <-c.closing:
				return
			case <-time.After(backoff):
			}
			backoff = min(2*backoff, storeBackoffLast)
			ctx, cancel := context.WithTimeout(context.Background(), storeManagedTimeout)
			next, err := c.start(ctx, c.cfg.Persistence)
			cancel()
			if err == nil {
				proc = next
				break
			}
			c.log.Error("the managed store's server cannot be started", "folder", c.folder, "error", err, "again_in", backoff)
		}
		c.log.Info("the managed store's server runs again", "folder", c.folder)
	}
}

// stop ends the child and gives everything back. It is called once.
func (c *storeChild) stop(ctx context.Context) error {
	c.once.Do(func() {
		c.stopCtx = ctx
		close(c.closing)
	})
	<-c.done // bounded: the supervisor kills the child when ctx ends
	return errors.Join(c.err, c.release())
}

// release removes what the child leaves and unlocks the folder.
func (c *storeChild) release() error {
	var errs []error
	if c.socket != "" {
		// A server that was killed leaves its socket.
		if err := os.Remove(filepath.Join(c.folder, storeSocket)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if c.dir != nil {
		errs = append(errs, c.dir.Close())
	}
	if c.temp && c.folder != "" {
		errs = append(errs, os.RemoveAll(c.folder))
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
	}
	return errors.Join(errs...)
}

func (c *storeChild) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Network:                  "unix",
		Addr:                     c.socket,
		Protocol:                 2,
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              storeDialTimeout,
		ReadTimeout:              storeReadTimeout,
		WriteTimeout:             storeReadTimeout,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		PipelinePoolSize:         -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}
