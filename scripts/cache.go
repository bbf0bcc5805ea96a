package scripts

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// MaxAnswer is the largest answer that is kept, in bytes; larger ones are built
// each time.
const MaxAnswer = 1 << 20

// MaxCacheTTL is the longest time for which an answer can be kept.
const MaxCacheTTL = time.Hour

// answerLease is how long others build an answer for themselves while one who
// was to keep it does not come back. Longer than building takes.
const answerLease = 5 * time.Second

// Answer names an answer that can be kept. The zero value names none: it is
// built each time. Only what this package names is kept, so that no client can
// fill the store with keys.
type Answer struct {
	name    string // of the key, without "cache:"
	depends string // what it shows beside values
	model   string
}

// What an answer depends on, in the words of lua/cache_manager.lua.
const (
	onDefinitions = "definitions"
	onAlarms      = "alarms" // and definitions
)

// ValuesAnswer is the answer with the current values of a model. It is kept
// until one of them is written.
func ValuesAnswer(id string) Answer {
	return Answer{name: "model:" + id + ":values", depends: onDefinitions, model: id}
}

// ModelsAnswer is the answer with the definitions of all models. It is kept until
// a definition changes.
func ModelsAnswer() Answer {
	return Answer{name: "api:models:all", depends: onDefinitions}
}

// AlarmsAnswer is the answer with the open alarms of one status, or of all with
// "". It is kept until an alarm changes.
func AlarmsAnswer(status model.AlarmStatus) Answer {
	switch status {
	case "":
		return Answer{name: "api:alarms:all", depends: onAlarms}
	case model.AlarmActive, model.AlarmAcknowledged, model.AlarmCleared, model.AlarmLatched:
		return Answer{name: "api:alarms:state=" + string(status), depends: onAlarms}
	}
	return Answer{}
}

// CacheStats counts what happened to answers since the Plane was made.
type CacheStats struct {
	// Hits are answers that were kept and still true.
	Hits int64
	// Misses are answers that were built, as far as they can be kept at all.
	Misses int64
	// Stored are answers that were kept after they were built; the others were
	// out of date already, somebody else was about to keep the same, or they
	// change so often that keeping them does not pay.
	Stored int64
	// Errors are calls that the store did not answer; the answer was built.
	Errors int64
}

// cache is the Plane's part of the cache: who it is, and its counters.
type cache struct {
	holder string // of leases; no two Planes share one
	leases atomic.Int64

	mu    sync.Mutex
	usage map[Answer]usage

	hits, misses, stored, errors atomic.Int64
}

// token names one lease.
func (c *cache) token() string {
	return c.holder + "-" + strconv.FormatInt(c.leases.Add(1), 36)
}

// usage tells whether it pays to keep an answer. Keeping one costs about as much
// as building it, so that it must be read again a few times before it changes.
type usage struct {
	kept bool // after the last miss
	hits int  // since then
	poor int  // how often in a row it was kept and not read again often enough
	skip int  // reads for which it is built as without a cache
}

const (
	worthHits = 4  // as often an answer must be read again for keeping it to pay
	maxPoor   = 2  // one may begin shortly before a change and says nothing alone
	skipped   = 30 // reads before it is tried anew
)

func (c *cache) hit(a Answer) {
	c.hits.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.usage[a]
	u.hits++
	c.usage[a] = u
}

// skip reports whether an answer is not worth looking for.
func (c *cache) skip(a Answer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.usage[a]
	if u.skip == 0 {
		return false
	}
	u.skip--
	c.usage[a] = u
	return true
}

// worth reports whether an answer that was not found should be kept.
func (c *cache) worth(a Answer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.usage[a]
	switch {
	case u.kept && u.hits < worthHits:
		u.poor++
	case u.kept:
		u.poor = 0
	}
	u.kept, u.hits = u.poor < maxPoor, 0
	if !u.kept {
		u = usage{skip: skipped}
	}
	c.usage[a] = u
	return u.kept
}

// CacheStats returns the counters of the cache.
func (p *Plane) CacheStats() CacheStats {
	c := &p.cache
	return CacheStats{Hits: c.hits.Load(), Misses: c.misses.Load(), Stored: c.stored.Load(), Errors: c.errors.Load()}
}

// Cached returns the answer that is kept on the store while it is true, and
// builds it otherwise. What build reads must be read from the store after it is
// called. It never returns an answer older than a write of Voltage that was over
// before the call; what another program writes without the scripts shows after
// CacheTTL at the latest. An answer that changes about as often as it is asked
// for is kept only now and then, to see whether that is still so. Without Options.CacheTTL, and where the cache itself fails, it does what
// build does; the only errors are those of build.
//
// An answer is JSON in one line, of at most [MaxAnswer] bytes; others are
// returned and not kept. The caller may change the returned bytes.
func (p *Plane) Cached(ctx context.Context, a Answer, build func() ([]byte, error)) ([]byte, error) {
	if p.options.CacheTTL <= 0 || !p.keeps(a) {
		return build()
	}
	if p.cache.skip(a) {
		p.cache.misses.Add(1)
		return build()
	}
	body, free, err := p.kept(ctx, a)
	token := ""
	if free && p.cache.worth(a) {
		token, body, err = p.leaseAnswer(ctx, a)
	}
	if body != nil {
		p.cache.hit(a)
		return body, nil
	}
	if err != nil {
		p.cacheError(ctx, "reading", a, err)
	}
	p.cache.misses.Add(1)
	body, err = build()
	if err != nil || token == "" || len(body) == 0 || len(body) > MaxAnswer || bytes.IndexByte(body, '\n') >= 0 {
		return body, err
	}
	ttl := max(min(p.options.CacheTTL, MaxCacheTTL).Milliseconds(), 1)
	if reply, err := p.call(ctx, "cache_manager", "put", a.name, token, ttl, body); err != nil {
		p.cacheError(ctx, "keeping", a, err)
	} else if reply[0] == "OK" {
		p.cache.stored.Add(1)
	}
	return body, nil
}

// kept reads an answer. It does what the script's get does when there is one,
// without the price of a script. free reports that nobody is about to keep one.
func (p *Plane) kept(ctx context.Context, a Answer) (body []byte, free bool, err error) {
	pipe := p.client.Pipeline()
	read := pipe.MGet(ctx, p.keys.cached(a.name), p.keys.mappingVersion(), p.keys.cacheVersion(), p.keys.generation())
	var journal *redis.XMessageSliceCmd
	if a.depends == onAlarms {
		journal = pipe.XRevRangeN(ctx, p.keys.alarmJournal(), "+", "-", 1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, false, storeError("reading a kept answer", err)
	}
	text := func(i int) string { s, _ := read.Val()[i].(string); return s }
	found, state := text(0), "\n"+text(1)+" "+text(2)
	if journal != nil {
		state += " "
		if last := journal.Val(); len(last) > 0 {
			state += last[0].ID
		}
	}
	if text(3) != *p.generation.Load() {
		return nil, true, nil // the script's call has the lost data restored
	}
	if strings.HasPrefix(found, "?") {
		return nil, false, nil
	}
	if body, ok := strings.CutSuffix(found, state); ok && body != "" {
		return []byte(body), false, nil
	}
	return nil, true, nil
}

// leaseAnswer takes the lease to keep an answer; without one the token is empty.
// The answer itself is returned when somebody has just kept it.
func (p *Plane) leaseAnswer(ctx context.Context, a Answer) (token string, body []byte, err error) {
	reply, err := p.call(ctx, "cache_manager", "get", a.name, a.depends, p.cache.token(), answerLease.Milliseconds())
	if err != nil || len(reply) != 2 {
		return "", nil, err
	}
	if reply[0] == "HIT" {
		return "", []byte(reply[1]), nil
	}
	return reply[1], nil, nil
}

// keeps reports whether the answer can be kept: that of a model that nobody has
// heard of would leave a key behind for every name that a client thinks up.
func (p *Plane) keeps(a Answer) bool {
	if a.model == "" {
		return a.name != ""
	}
	pl := p.plan.Load()
	if pl == nil {
		return false
	}
	_, ok := pl.models[a.model]
	return ok
}

// cacheError notes a failure that the caller does not learn of. A caller that
// went away is none.
func (p *Plane) cacheError(ctx context.Context, doing string, a Answer, err error) {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return
	}
	p.cache.errors.Add(1)
	p.log.Debug("an answer was built without the cache", "doing", doing, "answer", a.name, "error", err)
}

// Uncache forgets one kept answer, for programs that write what it shows behind
// Voltage's back.
func (p *Plane) Uncache(ctx context.Context, a Answer) error {
	if a.name == "" {
		return nil
	}
	_, err := p.retry(ctx, "cache_manager", "drop", a.name)
	return err
}

// ClearCache forgets every kept answer of the site. Their keys go when their
// time is over.
func (p *Plane) ClearCache(ctx context.Context) error {
	_, err := p.retry(ctx, "cache_manager", "clear")
	return err
}
