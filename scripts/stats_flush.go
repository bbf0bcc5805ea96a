package scripts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The fields of lua:stats:<script>. Times are in ms.
const (
	fieldCalls   = "count"
	fieldErrors  = "errors"
	fieldLost    = "lost"
	fieldSlow    = "slow"
	fieldPoints  = "points"
	fieldTotal   = "total_time"
	fieldMax     = "max_time"
	fieldLast    = "last"
	fieldRefused = "refused:" // <code>
	fieldBucket  = "le:"      // <ms>: calls that took at most so long
	// of one version: count:<version>, errors:<version>, last:<version>
	fieldVersionCalls  = fieldCalls + ":"
	fieldVersionErrors = fieldErrors + ":"
	fieldVersionLast   = fieldLast + ":"
)

// storedVersions is how many versions lua:stats:<script> has counters of.
const storedVersions = 16

// flushedKept is how long the number of a Plane's last transaction is kept: a
// store that is away for longer may count what was under way twice.
const flushedKept = 24 * time.Hour

// flushTries is how often a transaction is tried that others get in the way of.
const flushTries = 5

// flush is what one transaction adds to what is stored.
type flush struct {
	number int64
	parts  []flushPart
}

// flushPart is what there is to add for one script.
type flushPart struct {
	name, key string
	versions  []*versionStats
	// of each version
	now   []counts
	last  []time.Duration
	peaks []time.Duration
}

// stored takes note that the transaction was done.
func (f *flush) stored() {
	for _, part := range f.parts {
		for i, v := range part.versions {
			v.sent = part.now[i]
			if v.unsentPeak <= part.peaks[i] {
				v.unsentPeak = 0
			}
		}
	}
}

// FlushStats adds to lua:stats:<script> what came together since the last time,
// in one transaction for all scripts. The engine calls it every few seconds and
// at its end. Any number of engines add to the same statistics.
//
// Nothing is counted twice and nothing is lost: what the store did not take is
// added the next time. Where the answer is lost, the next transaction looks at
// the number that the last one left under lua:flushed:<id>. Only what the
// process counted when it dies is gone.
func (p *Plane) FlushStats(ctx context.Context) error {
	s := p.stats
	if err := s.flushing.take(ctx); err != nil {
		return err
	}
	defer s.flushing.give()
	var err error
	for range flushTries {
		if err = p.flushOnce(ctx); !errors.Is(err, redis.TxFailedErr) {
			break
		}
	}
	if err != nil {
		return storeError("storing the statistics of the scripts", err)
	}
	for _, script := range p.scripts {
		script.stats.forget()
	}
	return p.askLimit(ctx)
}

// gather collects what is not stored yet.
func (p *Plane) gather() *flush {
	f := &flush{}
	for name, script := range p.scripts {
		part := flushPart{name: name, key: p.keys.scriptStats(name)}
		for _, v := range script.stats.list() {
			peak := v.peak.Load()
			raise(&v.longest, peak)
			v.unsentPeak = max(v.unsentPeak, time.Duration(peak))
			v.peak.CompareAndSwap(peak, 0) // else a longer call came, which is the next flush's
			now := v.snapshot()
			if now == v.sent {
				continue
			}
			part.versions, part.now = append(part.versions, v), append(part.now, now)
			part.last = append(part.last, time.Duration(v.last.Load()))
			part.peaks = append(part.peaks, v.unsentPeak)
		}
		if len(part.versions) > 0 {
			f.parts = append(f.parts, part)
		}
	}
	return f
}

func (p *Plane) flushOnce(ctx context.Context) error {
	s, f := p.stats, p.gather()
	if len(f.parts) == 0 {
		return nil
	}
	own := p.keys.flushed(s.id)
	watched := []string{own}
	for _, part := range f.parts {
		watched = append(watched, part.key)
	}
	var foreign error
	err := p.client.Watch(ctx, func(tx *redis.Tx) error {
		read := tx.Pipeline()
		number, clock := read.Get(ctx, own), read.Time(ctx)
		before := make([]*redis.MapStringStringCmd, len(f.parts))
		for i, part := range f.parts {
			before[i] = read.HGetAll(ctx, part.key)
		}
		_, _ = read.Exec(ctx) // each command's own error is looked at
		if err := number.Err(); err != nil && !isNil(err) {
			return err
		}
		if doubtful := s.doubtful; doubtful != nil {
			s.doubtful = nil
			if number.Val() == strconv.FormatInt(doubtful.number, 10) {
				doubtful.stored()
			}
		}
		at := p.localTime()
		if p.options.Now == nil {
			if err := clock.Err(); err != nil {
				return err
			}
			at = clock.Val()
		}
		s.number++
		f.number = s.number
		taken := &flush{number: f.number}
		_, err := tx.TxPipelined(ctx, func(tx redis.Pipeliner) error {
			for i, part := range f.parts {
				if err := before[i].Err(); err != nil {
					if !isAnswer(err) {
						return err
					}
					foreign = err // a key of a foreign type costs that script's statistics alone
					continue
				}
				part.write(ctx, tx, before[i].Val(), at, s.now())
				taken.parts = append(taken.parts, part)
			}
			tx.Set(ctx, own, f.number, flushedKept)
			return nil
		})
		switch {
		case err == nil:
			taken.stored()
		case !errors.Is(err, redis.TxFailedErr):
			s.doubtful = taken
		}
		return err
	}, watched...)
	return errors.Join(err, foreign)
}

// write adds the part to what is stored in its key. at is the time now, which
// the statistics call now.
func (f *flushPart) write(ctx context.Context, tx redis.Pipeliner, stored map[string]string, at time.Time, now time.Duration) {
	add := func(field string, n int64) {
		if n != 0 {
			tx.HIncrBy(ctx, f.key, field, n)
		}
	}
	atLeast := func(field string, ms int64) {
		if before, _ := strconv.ParseInt(stored[field], 10, 64); ms > before {
			tx.HSet(ctx, f.key, field, ms)
		}
	}
	var sum counts
	var micros int64
	for i, v := range f.versions {
		d := f.now[i]
		// rounded down here and there, so that nothing is lost over the years
		micros += f.now[i][countNanos]/1000 - v.sent[countNanos]/1000
		for j := range d {
			d[j] -= v.sent[j]
		}
		sum.add(&d)
		add(fieldVersionCalls+v.version, d.calls())
		add(fieldVersionErrors+v.version, d[countErrors])
		if f.last[i] > 0 {
			last := at.Add(f.last[i] - now).UnixMilli()
			atLeast(fieldVersionLast+v.version, last)
			atLeast(fieldLast, last)
		}
	}
	add(fieldCalls, sum.calls())
	add(fieldErrors, sum[countErrors])
	add(fieldLost, sum[countLost])
	add(fieldSlow, sum[countSlow])
	add(fieldPoints, sum[countPoints])
	for i, code := range refusalCodes {
		add(fieldRefused+code, sum[countRefusals+i])
	}
	for _, b := range sum.histogram() {
		add(bucketField(b.UpTo), b.Calls)
	}
	// Not HINCRBYFLOAT, whose text grows digits that mean nothing; nobody changes
	// the key between the reading and this.
	tx.HSet(ctx, f.key, fieldTotal, formatMillis(parseMillis(stored[fieldTotal])+micros))
	if peak := slices.Max(f.peaks).Microseconds(); peak > parseMillis(stored[fieldMax]) {
		tx.HSet(ctx, f.key, fieldMax, formatMillis(peak))
	}
	if old := outdated(stored, f.versions); len(old) > 0 {
		tx.HDel(ctx, f.key, old...)
	}
}

// outdated returns the fields of the versions that are one too many, those that
// were called longest ago.
func outdated(stored map[string]string, called []*versionStats) (fields []string) {
	type version struct {
		name string
		last int64
	}
	var list []version
	for field, ms := range stored {
		name, ok := strings.CutPrefix(field, fieldVersionLast)
		if !ok || slices.ContainsFunc(called, func(v *versionStats) bool { return v.version == name }) {
			continue
		}
		last, _ := strconv.ParseInt(ms, 10, 64)
		list = append(list, version{name, last})
	}
	slices.SortFunc(list, func(a, b version) int { return cmp.Or(cmp.Compare(b.last, a.last), cmp.Compare(a.name, b.name)) })
	for _, v := range list[min(max(storedVersions-len(called), 0), len(list)):] {
		fields = append(fields, fieldVersionCalls+v.name, fieldVersionErrors+v.name, fieldVersionLast+v.name)
	}
	return fields
}

// forget drops the versions beyond the last four, as far as they are stored.
func (st *scriptStats) forget() {
	list := st.list()
	if len(list) <= keptVersions {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(*st.versions.Load()), func(c calledVersion) bool {
		return slices.Index(list, c.versionStats) >= keptVersions && c.snapshot() == c.sent
	})
	st.versions.Store(&kept)
}

// askLimit learns once after what time the store takes a script for one that
// hangs, for the warning. A store that does not tell is not asked again.
func (p *Plane) askLimit(ctx context.Context) error {
	s := p.stats
	if s.asked {
		return nil
	}
	settings, err := p.client.ConfigGet(ctx, "lua-time-limit").Result()
	if err != nil && !isAnswer(err) {
		return storeError("reading lua-time-limit", err)
	}
	s.asked = true
	if ms, err := strconv.ParseInt(settings["lua-time-limit"], 10, 32); err == nil {
		s.limit.Store(int64(time.Duration(ms) * time.Millisecond))
	}
	return nil
}

// StoredStats returns the statistics of a script on the whole site, as far as
// its engines have stored them: they do so every few seconds. ErrNotFound where
// there is neither such a script in this build nor statistics of it.
func (p *Plane) StoredStats(ctx context.Context, script string) (ScriptStats, error) {
	h, err := p.client.HGetAll(ctx, p.keys.scriptStats(script)).Result()
	if err != nil {
		return ScriptStats{}, storeError("reading the statistics of script "+script, err)
	}
	if _, ours := p.scripts[script]; !ours && len(h) == 0 {
		return ScriptStats{}, fmt.Errorf("statistics of script %.64q: %w", script, ErrNotFound)
	}
	count := func(field string) int64 {
		n, _ := strconv.ParseInt(h[field], 10, 64)
		return n
	}
	span := func(field string) time.Duration { return time.Duration(parseMillis(h[field])) * time.Microsecond }
	s := ScriptStats{Script: script, Calls: count(fieldCalls), Errors: count(fieldErrors), Lost: count(fieldLost), Slow: count(fieldSlow),
		Points: count(fieldPoints), Total: span(fieldTotal), Max: span(fieldMax), Last: millis(h[fieldLast]), Refused: map[string]int64{}}
	for _, bound := range statsBounds {
		s.Histogram = append(s.Histogram, StatsBucket{bound, count(bucketField(bound))})
	}
	for field := range h {
		if code, ok := strings.CutPrefix(field, fieldRefused); ok {
			s.Refused[code] = count(field)
		}
		if version, ok := strings.CutPrefix(field, fieldVersionLast); ok {
			s.Versions = append(s.Versions, ScriptStats{Script: script, Version: version, Calls: count(fieldVersionCalls + version),
				Errors: count(fieldVersionErrors + version), Last: millis(h[field])})
		}
	}
	slices.SortFunc(s.Versions, func(a, b ScriptStats) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Version, b.Version))
	})
	return s, nil
}

func bucketField(bound time.Duration) string {
	return fieldBucket + strconv.FormatFloat(float64(bound)/1e6, 'f', -1, 64)
}

// formatMillis writes microseconds as milliseconds with three decimals.
func formatMillis(micros int64) string { return fmt.Sprintf("%d.%03d", micros/1000, micros%1000) }

// parseMillis reads what formatMillis wrote; anything else is 0.
func parseMillis(text string) (micros int64) {
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil || !(ms >= 0 && ms < 1e12) {
		return 0
	}
	return int64(math.Round(ms * 1000))
}
