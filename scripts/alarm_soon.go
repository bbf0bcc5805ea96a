package scripts

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// judging is what is known of the alarm rules that were judged by the stored
// values, and of the store's clock.
type judging struct {
	mu    sync.Mutex
	rules map[string]uint64 // digest of each rule, by "model:point:rule"; nil before the first look
	clock time.Time         // the latest that was seen
}

// clockStep is how far a store's clock has to go back to be one that was set back.
const clockStep = time.Second

var ruleSeed = maphash.MakeSeed()

// alarmDigests tells the stored rules from what they were, by "model:point:rule".
func (s *stored) alarmDigests() map[string]uint64 {
	digests := map[string]uint64{}
	for target, rules := range s.alarmRules {
		for id, text := range rules {
			if name := target + ":" + id; validRule(name) {
				digests[name] = maphash.String(ruleSeed, text)
			}
		}
	}
	return digests
}

func validRule(name string) bool {
	parts := strings.Split(name, ":")
	return len(parts) == 3 && !slices.ContainsFunc(parts, func(id string) bool { return !model.ValidID(id) })
}

// judgeChanged has the next AlarmTick judge the rules that have changed since the
// last time, whoever changed them, by what is stored: a value that stands still
// does not come again. At first these are the ones that are not normal.
func (p *Plane) judgeChanged(ctx context.Context) error {
	pl := p.plan.Load()
	if pl == nil {
		return nil
	}
	p.judging.mu.Lock()
	defer p.judging.mu.Unlock()
	if p.judging.rules == nil {
		if err := p.judgeAll(ctx); err != nil {
			return err
		}
		p.judging.rules = pl.alarmDigests
		return nil
	}
	var changed []string
	for name, digest := range pl.alarmDigests {
		if before, known := p.judging.rules[name]; !known || before != digest {
			changed = append(changed, name)
		}
	}
	for name := range p.judging.rules {
		if _, there := pl.alarmDigests[name]; !there {
			changed = append(changed, name)
		}
	}
	if err := p.judgeSoon(ctx, append(changed, pl.grouped(changed)...)); err != nil {
		return err
	}
	p.judging.rules = pl.alarmDigests
	return nil
}

// grouped returns the rules that hold back while one of these rules, being of their
// channel, tells of it: what they have held back is due when it is gone.
func (pl *plan) grouped(names []string) (held []string) {
	for _, name := range names {
		rest, ofChannel := strings.CutPrefix(name, model.AlarmModelChannel+":")
		if !ofChannel {
			continue
		}
		channel, _, _ := strings.Cut(rest, ":")
		for _, routes := range pl.routes[channel] {
			for _, r := range routes {
				for _, a := range r.alarms {
					if a.Operator == model.IsStale || a.Operator == model.BadQuality {
						held = append(held, model.AlarmRef(a.Model, a.Point, a.ID))
					}
				}
			}
		}
	}
	return held
}

// judgeAll has every rule that is not normal judged, and its timer set anew.
func (p *Plane) judgeAll(ctx context.Context) error {
	names, err := p.client.HKeys(ctx, p.keys.alarmState()).Result()
	if err != nil && !isAnswer(err) { // of another type: the scripts say so
		return storeError("reading which alarm rules are not normal", err)
	}
	return p.judgeSoon(ctx, names)
}

// judgeSoon sets the timers of alarm rules to now.
func (p *Plane) judgeSoon(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return err
	}
	now, err := p.storeTime(ctx, node)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for some := range slices.Chunk(names, alarmsAtOnce) {
		members := make([]redis.Z, len(some))
		for i, name := range some {
			members[i] = redis.Z{Score: float64(now.UnixMilli()), Member: "alarm:" + name}
		}
		if err := p.client.ZAdd(ctx, p.keys.timers(), members...).Err(); err != nil && !isAnswer(err) {
			return storeError("setting the timers of alarm rules", err)
		}
	}
	return nil
}

// clockRan looks at the store's time. Where the clock was set back, all that waits
// for a time is looked at, for it waits for one that is far ahead.
func (p *Plane) clockRan(ctx context.Context, now time.Time) (back bool, err error) {
	p.judging.mu.Lock()
	defer p.judging.mu.Unlock()
	if back = now.Add(clockStep).Before(p.judging.clock); back {
		if err := p.judgeAll(ctx); err != nil {
			return false, err
		}
		p.log.Warn("the clock of the store was set back; the delays of alarms begin anew", "by", p.judging.clock.Sub(now))
	}
	if back || now.After(p.judging.clock) {
		p.judging.clock = now
	}
	return back, nil
}
