package scripts

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// The bounds of the histogram.
var statsBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second,
}

// The refusals that are counted. OTHER are the codes that have a meaning and no
// place of their own; a code that nobody knows is an error.
var refusalCodes = [...]string{
	"MAPPING", "FENCED", "DUPLICATE", "INACTIVE", "GENERATION", "NOSCRIPT", "HELD", "NO", "NOTFOUND", "INVALID",
	"LATE", "REJECTED", "OTHER", "BUSY", "UNAVAILABLE",
}

// The counters of a version: these, then the refusals, then the buckets of the
// histogram, which are not cumulative here and end with that of longer calls.
const (
	countErrors = iota
	countLost
	countSlow
	countPoints
	countNanos
	countRefusals
	countBuckets = countRefusals + len(refusalCodes)
	countAll     = countBuckets + len(statsBounds) + 1
)

// counts are the counters at one moment, or what came between two.
type counts [countAll]int64

func (c *counts) calls() (n int64) {
	for _, b := range c[countBuckets:] {
		n += b
	}
	return n
}

func (c *counts) add(other *counts) {
	for i := range c {
		c[i] += other[i]
	}
}

// histogram returns the cumulative form.
func (c *counts) histogram() []StatsBucket {
	list, sum := make([]StatsBucket, len(statsBounds)), int64(0)
	for i, bound := range statsBounds {
		sum += c[countBuckets+i]
		list[i] = StatsBucket{bound, sum}
	}
	return list
}

// Slots of the window over the latest calls.
const (
	windowSlot  = 100 * time.Millisecond
	windowSlots = 20
	slotBits    = 18 // of the calls, and of the errors, in a slot
	slotMask    = 1<<slotBits - 1
)

// versionStats counts the calls of one version of a script.
type versionStats struct {
	version  string
	counters [countAll]atomic.Int64
	peak     atomic.Int64 // ns, the longest call since it was last stored
	longest  atomic.Int64 // ns, the longest call before
	last     atomic.Int64 // when the last call was answered, as statistics.now; 0 none
	// slots hold calls and errors of 100 ms each, with the number of those 100 ms
	// in the upper bits, so that one atomic step counts and starts a slot anew.
	slots [windowSlots]atomic.Uint64

	// Under statistics.flushing: what is stored, and the longest call that is not.
	sent       counts
	unsentPeak time.Duration
}

func (v *versionStats) snapshot() (c counts) {
	for i := range c {
		c[i] = v.counters[i].Load()
	}
	return c
}

// answered counts one call that was answered.
// blamed is a fault for which the version can be gone back from.
func (v *versionStats) answered(now, took time.Duration, fault, blamed bool) {
	i := 0
	for i < len(statsBounds) && took > statsBounds[i] {
		i++
	}
	v.counters[countBuckets+i].Add(1)
	v.counters[countNanos].Add(int64(took))
	v.last.Store(int64(now))
	raise(&v.peak, int64(took))
	var failed uint64
	if blamed {
		failed = 1
	}
	if fault {
		v.counters[countErrors].Add(1)
	}
	tick := uint64(now / windowSlot)
	slot, start := &v.slots[tick%windowSlots], tick<<(2*slotBits)
	for {
		old := slot.Load()
		base := old
		if old&^(1<<(2*slotBits)-1) != start {
			base = start
		}
		if slot.CompareAndSwap(old, base+1<<slotBits+failed) {
			return
		}
	}
}

// window sums up the calls of the last 2 s.
func (v *versionStats) window(now time.Duration) (calls, errors int64) {
	tick := uint64(now / windowSlot)
	for i := range v.slots {
		slot := v.slots[i].Load()
		if age := (tick - slot>>(2*slotBits)) & (1<<(64-2*slotBits) - 1); age < windowSlots {
			calls += int64(slot >> slotBits & slotMask)
			errors += int64(slot & slotMask)
		}
	}
	return calls, errors
}

func raise(a *atomic.Int64, to int64) {
	for {
		old := a.Load()
		if to <= old || a.CompareAndSwap(old, to) {
			return
		}
	}
}

// keptVersions is how many versions of a script a process has statistics of.
const keptVersions = 4

// scriptStats counts the calls of one script, by the digest that was called.
type scriptStats struct {
	name     string
	warned   atomic.Int64 // when a slow call was last told, as statistics.now
	mu       sync.Mutex   // for changes of versions, which is replaced as a whole
	versions atomic.Pointer[[]calledVersion]
}

// calledVersion: several digests, as of a script and its traced text, may be one
// version.
type calledVersion struct {
	sha string
	*versionStats
}

func newScriptStats(name string) *scriptStats {
	st := &scriptStats{name: name}
	st.versions.Store(new([]calledVersion))
	return st
}

// of returns the statistics of a digest, nil where it was not learned.
func (st *scriptStats) of(sha string) *versionStats {
	list := *st.versions.Load()
	for i := range list {
		if list[i].sha == sha {
			return list[i].versionStats
		}
	}
	return nil
}

// learn makes known which version a digest is. Whoever calls another text than
// the active one or this build's tells it here; without, its calls are counted
// under the digest.
func (st *scriptStats) learn(sha, version string) *versionStats {
	st.mu.Lock()
	defer st.mu.Unlock()
	list := *st.versions.Load()
	var v *versionStats
	for _, c := range list {
		if c.sha == sha {
			return c.versionStats
		}
		if c.version == version {
			v = c.versionStats
		}
	}
	if v == nil {
		v = &versionStats{version: version}
	}
	list = append(slices.Clone(list), calledVersion{sha, v})
	st.versions.Store(&list)
	return v
}

// list returns the versions that were called, the last one first.
func (st *scriptStats) list() []*versionStats {
	var list []*versionStats
	for _, c := range *st.versions.Load() {
		if !slices.Contains(list, c.versionStats) {
			list = append(list, c.versionStats)
		}
	}
	slices.SortStableFunc(list, func(a, b *versionStats) int { return cmp.Compare(b.last.Load(), a.last.Load()) })
	return list
}

// window returns the answered calls of a version in the 2 s before now, which is
// statistics.now, and how many of them the script failed. It is cheap enough to
// be asked at every error.
func (st *scriptStats) window(version string, now time.Duration) (calls, errors int64) {
	for _, c := range *st.versions.Load() {
		if c.version == version {
			return c.versionStats.window(now)
		}
	}
	return 0, 0
}

// statistics is what the statistics of all scripts of a Plane share.
type statistics struct {
	origin time.Time     // the zero of now
	slow   time.Duration // of Options.SlowScript; never 0
	log    *slog.Logger
	limit  atomic.Int64 // ns after which the store itself takes a script for one that hangs; 0 unknown

	flushing turn
	// Under flushing: see FlushStats.
	id       string
	number   int64
	doubtful *flush
	asked    bool // for the limit, and answered
}

// slowScript is the zero value's meaning of Options.SlowScript.
const slowScript = 100 * time.Millisecond

// slowEvery is how often one script's slow calls are told.
const slowEvery = time.Minute

func newStatistics(o Options) *statistics {
	s := &statistics{origin: time.Now(), slow: o.SlowScript, log: o.Log, flushing: make(turn, 1), id: rand.Text()}
	if s.slow == 0 {
		s.slow = slowScript
	} else if s.slow < 0 {
		s.slow = math.MaxInt64
	}
	return s
}

// now is the time of the statistics: since the Plane was made, by the clock that
// nobody sets.
func (s *statistics) now() time.Duration { return time.Since(s.origin) }

// process makes one call of a script and counts it. points are the samples that
// it brings, 0 where it brings none.
func (p *Plane) process(ctx context.Context, s *activeScript, args []any, points int) ([]string, error) {
	began := p.stats.now()
	cmd := redis.NewCmd(ctx, args...)
	_ = p.client.Process(ctx, cmd) // the error is cmd's
	reply, err := cmd.StringSlice()
	if err != nil && (cmd.Err() == nil || isNil(err)) {
		err = errReply
	}
	p.measure(s, args, points, began, reply, err)
	return reply, err
}

// measure counts one call of a script, which began at a time of statistics.now.
func (p *Plane) measure(s *activeScript, args []any, points int, began time.Duration, reply []string, err error) {
	now := p.stats.now()
	took := now - began
	v := s.called(args)
	result := wasTaken
	if err != nil || len(reply) == 0 || reply[0] != "OK" {
		result = outcome(reply, err)
	}
	switch {
	case result == wasLost:
		v.counters[countLost].Add(1)
		return
	case result >= 0:
		v.counters[countRefusals+result].Add(1)
	}
	// a key in which another program keeps something else is no fault of the script
	v.answered(now, took, result == wasFault, result == wasFault && (err == nil || !strings.Contains(err.Error(), "WRONGTYPE")))
	// A repeated batch is stored by the call whose answer was lost.
	if points > 0 && (result == wasTaken || result == wasDuplicate) {
		v.counters[countPoints].Add(int64(points))
	}
	if took > p.stats.slow {
		v.counters[countSlow].Add(1)
		p.stats.warn(s.stats, v, args, points, now, took)
	}
}

// called returns the statistics of what args call.
func (s *activeScript) called(args []any) *versionStats {
	digest, _ := args[1].(*string)
	if digest == nil {
		digest = new(string)
	}
	if v := s.stats.of(*digest); v != nil {
		return v
	}
	version := "sha:" + (*digest)[:min(len(*digest), 8)]
	if active := s.active.Load(); active.SHA == *digest {
		version = active.Version
	} else if s.own.SHA == *digest {
		version = s.own.Version
	}
	return s.stats.learn(*digest, version)
}

// What became of a call, where it is no refusal, whose place in refusalCodes it is.
const (
	wasTaken = -1 - iota
	wasFault // of the script
	wasLost
)

var wasDuplicate = slices.Index(refusalCodes[:], "DUPLICATE")

// outcome tells what the answer to a call counts as.
func outcome(reply []string, err error) int {
	refused := func(code string) int { return slices.Index(refusalCodes[:], code) }
	var answer redis.Error
	switch {
	case err == nil && len(reply) > 0:
		if i := refused(reply[0]); i >= 0 {
			return i
		}
		if codeError("", reply) == nil {
			return wasTaken
		}
		if _, known := codeErrors[reply[0]]; known {
			return refused("OTHER")
		}
		return wasFault
	case err == nil, errors.Is(err, errReply):
		return wasFault
	case !errors.As(err, &answer):
		return wasLost
	case redis.HasErrorPrefix(answer, "NOSCRIPT "):
		return refused("NOSCRIPT")
	case redis.HasErrorPrefix(answer, "BUSY "):
		return refused("BUSY")
	case redis.HasErrorPrefix(answer, "NOAUTH "), redis.HasErrorPrefix(answer, "WRONGPASS "), !isAnswer(err):
		return refused("UNAVAILABLE")
	}
	return wasFault
}

// errReply: the answer of a script is no list of strings.
var errReply = errors.New("the reply is not a list of strings")

// warn tells of a slow call, once a minute for each script.
func (s *statistics) warn(st *scriptStats, v *versionStats, args []any, points int, now, took time.Duration) {
	before := st.warned.Load()
	if before != 0 && now-time.Duration(before) < slowEvery || !st.warned.CompareAndSwap(before, int64(now)) {
		return
	}
	about := append(subject(st.name, args), "points", points, "arguments", len(args), "took", took,
		"slow_calls", v.counters[countSlow].Load(),
		"note", "the store serves nobody else while a script runs; the time includes the network and the wait behind others")
	if limit := time.Duration(s.limit.Load()); limit > 0 && took > limit/2 {
		about = append(about, "store_limit", limit,
			"limit_note", "more than half of the time after which the store answers BUSY to everybody (lua-time-limit)")
	}
	s.log.Warn("a script call was slow", append([]any{"script", st.name, "version", v.version}, about...)...)
}

// subject says of a call's arguments what it did, and to what.
func subject(script string, args []any) []any {
	at := 4 // the first argument: after EVALSHA, the digest, "1" and the anchor
	if argumentAt(args, 2) == "0" {
		at = 3
	}
	switch op := argumentAt(args, at); {
	case script == "alarm_tick":
		return []any{"op", "tick", "channel", argumentAt(args, at+2)}
	case script == "rule_engine":
		return []any{"op", "run", "rule", op}
	case op == "batch":
		return []any{"op", op, "channel", argumentAt(args, at+4)}
	case script == "channel_owner":
		return []any{"op", op, "channel", argumentAt(args, at+3)}
	default:
		return []any{"op", op, "argument", argumentAt(args, at+3)}
	}
}

// argumentAt returns the text of an argument, shortened and copied, for the
// texts of a batch share a buffer.
func argumentAt(args []any, i int) string {
	if i >= len(args) {
		return ""
	}
	text := ""
	switch a := args[i].(type) {
	case string:
		text = a
	case *string:
		text = *a
	}
	return string([]byte(text[:min(len(text), 80)]))
}
