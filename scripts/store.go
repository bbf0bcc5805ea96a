package scripts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/scripts/internal/redisproc"
)

var (
	// ErrStoreConfig is wrapped by errors about a [StoreConfig] that cannot work.
	ErrStoreConfig = errors.New("store configuration")
	// ErrStoreUnavailable is wrapped when the store does not answer, refuses the
	// login or, managed, does not start.
	ErrStoreUnavailable = errors.New("store not available")
	// ErrStoreVersion is wrapped when the server is older than Redis 6.2.
	ErrStoreVersion = errors.New("store too old: Redis 6.2 or later, or Valkey, is needed")
	// ErrStoreLocked is wrapped when another engine uses the managed data folder.
	ErrStoreLocked = errors.New("data folder is in use by another engine")
)

// StoreConfig says where the site's data lives. At most one of URL, Client,
// Managed and Embedded may be set; the zero value means Embedded.
type StoreConfig struct {
	// URL of a Redis or Valkey server, version 6.2 or later. Zero = not by URL.
	//
	//	redis://[user:password@]host[:6379][/db]           rediss:// = with TLS
	//	unix://[user:password@]/path/to/redis.sock[?db=n]
	//	redis-sentinel://[user:password@]host[:26379],host.../master[/db]
	//	redis-cluster://[user:password@]host[:6379],host...
	//
	// rediss-sentinel:// and rediss-cluster:// use TLS. User and password are those
	// of the data nodes; Sentinels that need a login of their own get it by
	// ?sentinel_username=...&sentinel_password=... Special characters in user and
	// password are percent-encoded. go-redis' other options may follow as query
	// parameters (dial_timeout=5s, pool_size=20, ...).
	URL string
	// TLS refines the URLs that use TLS. Zero = the system's certificate
	// authorities and no client certificate.
	TLS StoreTLS
	// Client is the caller's own client. It is never closed by the store. Zero =
	// none. Give it MaxRetries -1 and ContextTimeoutEnabled, as the store's own
	// clients have.
	Client redis.UniversalClient
	// Managed has the engine start a Redis server as its child. Zero = none.
	Managed *Managed
	// Embedded keeps the data inside this process; it is gone when the process
	// ends. Zero = false, but it is what an otherwise empty StoreConfig means.
	Embedded bool
}

// StoreTLS says how to speak TLS to a store given by URL. Files are PEM.
type StoreTLS struct {
	// CAFile holds the certificate authorities to trust instead of the system's.
	// Zero = the system's.
	CAFile string
	// CertFile and KeyFile are the client's certificate and key, both or none.
	// Zero = no client certificate.
	CertFile, KeyFile string
	// ServerName is the name that the server's certificate must bear. Zero = the
	// host that is dialled; with Sentinel and Cluster that is what the servers
	// announce, usually an IP address.
	ServerName string
}

// Persistence says how a managed store keeps its data over a restart.
type Persistence string

// The settings of [Managed].Persistence. What each costs in writes to the flash
// memory per day is measured in docs/store.md.
const (
	// PersistAOF appends every change to a file and flushes it to the disk once a
	// second: a power failure loses the last second or two. It is the default.
	PersistAOF Persistence = "aof"
	// PersistSnapshot writes all data at most every 5 minutes and at a clean stop:
	// a power failure loses up to 5 minutes.
	PersistSnapshot Persistence = "snapshot"
	// PersistNone writes nothing: every restart of the server begins empty.
	PersistNone Persistence = "none"
)

// Managed describes a redis-server or valkey-server that runs as the engine's
// child: on a private unix socket, in a process group of its own, ended together
// with the engine (also when that is killed) and started again if it dies.
// Linux only.
type Managed struct {
	// Folder keeps the data. It is made if it is missing and locked, so that two
	// engines cannot share it. Required, except with PersistNone, where the zero
	// value means a temporary folder.
	Folder string
	// Persistence: aof, snapshot or none. Zero = aof.
	Persistence Persistence
	// Binary is the server's path. Zero = the first of redis-server and
	// valkey-server on PATH.
	Binary string
	// MaxMemory limits the data, in bytes, at least 4 MiB. A full store refuses
	// writes; it never drops data. Zero = no limit.
	MaxMemory int64
}

// StoreKind names one of the ways of [StoreConfig].
type StoreKind string

// The kinds of store.
const (
	StoreURL      StoreKind = "url"
	StoreClient   StoreKind = "client"
	StoreManaged  StoreKind = "managed"
	StoreEmbedded StoreKind = "embedded"
)

const (
	storeOpenTimeout    = 10 * time.Second // when the caller's context has no deadline
	storeManagedTimeout = time.Minute      // the same: a large append-only file is read first
	storeStopTimeout    = 10 * time.Second
	storeRetry          = 100 * time.Millisecond
)

// FindManagedBinary returns the path of the first of redis-server and
// valkey-server on PATH. On systems where a managed store is not supported
// (anything but Linux) it finds none.
func FindManagedBinary() (string, bool) { return redisproc.Find(redisproc.Names()...) }

// RouteClientLog sends what go-redis prints to standard error by itself (failed
// dials, failovers) to log, at debug level. go-redis has one logger for the whole
// process, so this is for a program's main function; the library never calls it.
func RouteClientLog(log *slog.Logger) { redis.SetLogger(storeClientLog{log}) }

type storeClientLog struct{ log *slog.Logger }

// Printf is go-redis' logging interface.
func (l storeClientLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, v...))
}

// Kind says which way c chooses. It is meaningful for a valid configuration.
func (c StoreConfig) Kind() StoreKind {
	switch {
	case c.Client != nil:
		return StoreClient
	case c.URL != "":
		return StoreURL
	case c.Managed != nil:
		return StoreManaged
	}
	return StoreEmbedded
}

// WithDefaults returns c with the meaning of its zero values written out. It
// does no I/O and does not change what c points to.
func (c StoreConfig) WithDefaults() StoreConfig {
	if c.Managed != nil {
		m := *c.Managed
		if m.Persistence == "" {
			m.Persistence = PersistAOF
		}
		c.Managed = &m
	}
	if c.Kind() == StoreEmbedded {
		c.Embedded = true
	}
	return c
}

// Validate checks c without any I/O. Its errors wrap [ErrStoreConfig] and never
// contain a password.
func (c StoreConfig) Validate() error {
	c = c.WithDefaults()
	ways := 0
	for _, set := range []bool{c.URL != "", c.Client != nil, c.Managed != nil, c.Embedded} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		return fmt.Errorf("%w: at most one of URL, Client, Managed and Embedded may be set", ErrStoreConfig)
	}
	if c.TLS != (StoreTLS{}) && c.URL == "" {
		return fmt.Errorf("%w: TLS needs a URL", ErrStoreConfig)
	}
	switch c.Kind() {
	case StoreURL:
		_, err := storeParseURL(c.URL, c.TLS)
		return err
	case StoreManaged:
		return c.Managed.validate()
	}
	return nil
}

func (m *Managed) validate() error {
	switch m.Persistence {
	case PersistAOF, PersistSnapshot:
		if m.Folder == "" {
			return fmt.Errorf("%w: a managed store with persistence %q needs a Folder", ErrStoreConfig, m.Persistence)
		}
	case PersistNone:
	default:
		return fmt.Errorf("%w: persistence %q: want aof, snapshot or none", ErrStoreConfig, m.Persistence)
	}
	if m.MaxMemory != 0 && m.MaxMemory < 4<<20 {
		return fmt.Errorf("%w: MaxMemory is %d bytes: want 0 (no limit) or at least 4 MiB", ErrStoreConfig, m.MaxMemory)
	}
	return nil
}

// Store is an open store. Make one with [OpenStore].
type Store struct {
	// Client speaks to the store. It does not retry by itself (except for a
	// cluster's redirections) and obeys contexts.
	Client redis.UniversalClient
	// Kind is the way that was configured.
	Kind StoreKind
	// Cluster is true when the server runs in cluster mode, where a site must have
	// a name, because all its keys have to be in one slot.
	Cluster bool
	// Address names the store for logs and errors; it holds no secret.
	Address string
	// Version is the server's version, "7.0"; empty when it is not known.
	Version string

	stop  func(context.Context) error // ends what the store started; may be nil
	close sync.Once
	err   error
}

// OpenStore opens the configured store and checks that it answers and is recent
// enough. It waits for a server that is still loading its data, as long as ctx
// allows; without a deadline in ctx it gives up after 10 s, a managed store
// after 60 s. A nil log discards. Errors wrap [ErrStoreConfig],
// [ErrStoreUnavailable], [ErrStoreVersion] or [ErrStoreLocked].
func OpenStore(ctx context.Context, cfg StoreConfig, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	if _, ok := ctx.Deadline(); !ok {
		limit := storeOpenTimeout
		if cfg.Managed != nil {
			limit = storeManagedTimeout
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	var (
		s   *Store
		err error
	)
	switch cfg.Kind() {
	case StoreURL:
		s, err = storeOpenURL(cfg)
	case StoreClient:
		s = &Store{Client: cfg.Client, Kind: StoreClient, Address: "the caller's client"}
	case StoreManaged:
		s, err = storeOpenManaged(ctx, *cfg.Managed, log)
	default:
		return storeOpenEmbedded(log)
	}
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, log); err != nil {
		// ctx may be what failed; a managed server still gets its time to end.
		return nil, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	}
	log.Info("store opened", "kind", s.Kind, "address", s.Address, "version", s.Version, "cluster", s.Cluster)
	return s, nil
}

// Close closes the client, unless it is the caller's own, and ends a managed or
// embedded server: a managed one saves what its persistence says, is waited for
// as long as ctx allows (10 s without a deadline) and then killed, which is
// reported as an error. Closing again returns the first result.
func (s *Store) Close(ctx context.Context) error {
	s.close.Do(func() {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, storeStopTimeout)
			defer cancel()
		}
		var errs []error
		if s.Kind != StoreClient {
			errs = append(errs, s.Client.Close())
		}
		if s.stop != nil {
			errs = append(errs, s.stop(ctx))
		}
		if err := errors.Join(errs...); err != nil {
			s.err = fmt.Errorf("close store %s: %w", s.Address, err)
		}
	})
	return s.err
}
