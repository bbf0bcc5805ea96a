package scripts

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// SchemaVersion is the layout of keys and values that this build reads and
// writes, stored in site:schema. A store with a higher number is refused; a
// lower one would be converted by Prepare. There is only one so far.
const SchemaVersion = "1"

// Options of a Plane.
type Options struct {
	// Site is the name of the site, the hash tag of all its keys. Empty means
	// bare key names, which a Redis Cluster refuses.
	Site string
	// Restore puts every definition back after the store lost the site's data.
	// It runs before any other call goes on. Nil means nothing to restore.
	Restore func(ctx context.Context) error
	// Log is slog.Default() when nil.
	Log *slog.Logger
	// Now gives the scripts their time. Nil, as in production, means that they
	// use the clock of Redis.
	Now func() time.Time
	// HistoryBytes and CloudBytes bound hissrv:queue and cloud:queue. Zero
	// means that batches are not appended to that queue.
	HistoryBytes int64
	CloudBytes   int64
	// CacheTTL is how long an answer of Cached is kept at most, up to MaxCacheTTL.
	// Zero means that none is kept.
	CacheTTL time.Duration
	// SlowScript is how long a script call may take before it is counted as slow
	// and warned about, once a minute for each script. It is the whole round trip:
	// over a slow network, set it above what that takes. Zero means 100 ms;
	// negative means never.
	SlowScript time.Duration
	// Probation is how long a script that became active may be rolled back
	// because its calls fail. Zero means an hour, negative never.
	Probation time.Duration
}

// Plane is the data plane of one site. It is safe for concurrent use.
type Plane struct {
	client  redis.UniversalClient
	keys    keys
	anchor  string // KEYS[1] of every call
	options Options
	log     *slog.Logger
	scripts map[string]*activeScript

	generation atomic.Pointer[string]
	recovering turn
	plan       atomic.Pointer[plan]
	planning   turn
	behind     behind
	judging    judging
	batches    atomic.Int64 // batch numbers, which grow whoever writes
	claims     claims
	cache      cache
	stats      *statistics
	switches   atomic.Pointer[switches]
	shadow     shadow
}

// turn is a lock that is waited for only as long as a context allows.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// New returns the Plane of a site on a client, which it never closes. It does
// no I/O; Prepare does.
func New(client redis.UniversalClient, o Options) (*Plane, error) {
	if o.Site != "" {
		if err := model.CheckID("site", o.Site); err != nil {
			return nil, err
		}
	} else if _, ok := client.(*redis.ClusterClient); ok {
		return nil, fmt.Errorf("%w: a Redis Cluster needs a site name, which keeps the site's keys in one slot", model.ErrInvalid)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	list, err := Scripts()
	if err != nil {
		return nil, err
	}
	p := &Plane{client: client, keys: newKeys(o.Site), anchor: newKeys(o.Site).anchor(), options: o, log: o.Log, scripts: map[string]*activeScript{},
		recovering: make(turn, 1), planning: make(turn, 1), stats: newStatistics(o)}
	for _, s := range list {
		p.scripts[s.Name] = newActiveScript(s)
	}
	p.cache.holder, p.cache.usage = rand.Text(), map[Answer]usage{}
	none := ""
	p.generation.Store(&none)
	p.switches.Store(&switches{})
	return p, nil
}

// Prepare makes the store ready: it checks the layout, activates and loads the
// scripts and adopts the site's generation. It may be repeated at any time.
func (p *Plane) Prepare(ctx context.Context) error {
	generation, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	p.generation.Store(&generation)
	_, err = p.loadPlan(ctx, nil)
	return err
}

func (p *Plane) prepare(ctx context.Context) (generation string, err error) {
	schema, err := p.client.Get(ctx, p.keys.schema()).Result()
	switch {
	case errors.Is(err, redis.Nil):
		schema = SchemaVersion
		err = p.client.Set(ctx, p.keys.schema(), schema, 0).Err()
	}
	if err != nil {
		return "", storeError("reading the layout version", err)
	}
	if schema != SchemaVersion {
		return "", fmt.Errorf("%w: %s is %.20q, this program knows %s", ErrVersion, p.keys.schema(), schema, SchemaVersion)
	}
	for _, s := range p.scripts {
		if err := p.activate(ctx, s); err != nil {
			return "", err
		}
	}
	if err := p.followSwitches(ctx); err != nil {
		p.log.Warn("trials and sync modes are not followed", "site", p.options.Site, "error", err)
	}
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	if err := p.client.SetNX(ctx, p.keys.generation(), hex.EncodeToString(random), 0).Err(); err != nil {
		return "", storeError("setting the site's generation", err)
	}
	generation, err = p.client.Get(ctx, p.keys.generation()).Result()
	if err != nil {
		return "", storeError("reading the site's generation", err)
	}
	return generation, nil
}

// restoring marks the context of Restore: its calls use the new generation and
// do not start another recovery.
type restoring struct{ generation string }

type restoringKey struct{}

// recover adopts a new generation after the data was lost: first the scripts,
// then every definition, and only then does any other call go on.
func (p *Plane) recover(ctx context.Context, lost string) error {
	if _, inside := ctx.Value(restoringKey{}).(restoring); inside {
		return nil // the recovery that waits for Restore is this one
	}
	if err := p.recovering.take(ctx); err != nil {
		return err
	}
	defer p.recovering.give()
	if *p.generation.Load() != lost {
		return nil // somebody else did it meanwhile
	}
	generation, err := p.prepare(ctx)
	if err != nil {
		return err
	}
	p.log.Warn("the store lost the site's data; restoring definitions", "site", p.options.Site)
	inner := context.WithValue(ctx, restoringKey{}, restoring{generation})
	if p.options.Restore != nil {
		if err := p.options.Restore(inner); err != nil {
			return fmt.Errorf("%w: %w", ErrLost, err)
		}
	}
	if _, err := p.loadPlan(inner, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	p.generation.Store(&generation)
	p.behind.pending.Store(false)
	p.log.Info("the site's definitions are restored", "site", p.options.Site)
	return nil
}

// Ping asks the store for a sign of life.
func (p *Plane) Ping(ctx context.Context) error {
	if err := p.client.Ping(ctx).Err(); err != nil {
		return storeError("ping", err)
	}
	return nil
}

// Generation names the site's data: it changes when the data was lost and the
// definitions were restored.
func (p *Plane) Generation() string { return *p.generation.Load() }

// Site returns the name of the site.
func (p *Plane) Site() string { return p.options.Site }

// localTime is the time of this host, or of the test.
func (p *Plane) localTime() time.Time {
	if p.options.Now == nil {
		return time.Now()
	}
	return p.options.Now()
}

// storeTime is the time of the store, which all hosts share, or of the test. c
// leads to the site's node.
func (p *Plane) storeTime(ctx context.Context, c redis.Cmdable) (time.Time, error) {
	if p.options.Now != nil {
		return p.options.Now(), nil
	}
	now, err := c.Time(ctx).Result()
	return now, storeError("reading the time of the store", err)
}

// byLocalClock turns a time in the past by the store's clock into one by the
// clock of this host, which may be another by hours.
func (p *Plane) byLocalClock(ctx context.Context, at time.Time) time.Time {
	if p.options.Now != nil || at.IsZero() {
		return at
	}
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return at
	}
	now, err := p.storeTime(ctx, node)
	if err != nil {
		return at
	}
	return p.localTime().Add(-max(now.Sub(at), 0))
}

func (p *Plane) now() string {
	if p.options.Now == nil {
		return ""
	}
	return fmt.Sprint(p.options.Now().UnixMilli())
}

// storeError wraps an error of the client. Errors of the network and of Redis
// alike become ErrStore; the end of the context stays what it is.
func storeError(doing string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrStore, doing, err)
}

// compareVersions orders "major.minor.patch+digest" by the three numbers.
func compareVersions(a, b string) (int, error) {
	pa, err := parseVersion(a)
	if err != nil {
		return 0, err
	}
	pb, err := parseVersion(b)
	if err != nil {
		return 0, err
	}
	for i := range pa {
		if pa[i] != pb[i] {
			if pa[i] < pb[i] {
				return -1, nil
			}
			return 1, nil
		}
	}
	return 0, nil
}

func parseVersion(v string) (n [3]int, err error) {
	numbers, _, _ := strings.Cut(v, "+")
	if _, err := fmt.Sscanf(numbers, "%d.%d.%d", &n[0], &n[1], &n[2]); err != nil {
		return n, fmt.Errorf("%w: script version %.40q", ErrVersion, v)
	}
	return n, nil
}
