package scripts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds of the shadow mode.
const (
	shadowQueue = 16 // batches that wait to be compared; more are skipped
	shadowTexts = 4  // traced texts that are kept
	shadowKept  = 1000
	shadowEvery = time.Minute // how often a difference is told
)

// shadow compares what the script did with what the Go evaluator would have
// done, behind the writers. Its goroutine lives only while batches wait.
type shadow struct {
	mu     sync.Mutex
	queue  []shadowed
	busy   bool
	texts  []tracedText
	told   time.Duration // as statistics.now
	blamed string        // version that was to be rolled back last
	tried  time.Duration

	compared, skipped, waiting, differences atomic.Int64
}

type tracedText struct {
	of     string // SHA
	traced *Script
}

// shadowed is a batch that was stored, with everything that the script did.
type shadowed struct {
	script  *Script
	channel string
	keys    []string
	args    []string
	calls   []TracedCall
	reply   []string
}

// ShadowStats is what the comparison in shadow mode came to, since the Plane was
// made.
type ShadowStats struct {
	// Compared counts the batches that were compared, Skipped those that were not
	// because too many waited, Waiting those that will be.
	Compared, Skipped, Waiting int64
	// Differences counts what differed, at most ten in a batch.
	Differences int64
}

// Difference is one thing that a version of data_sync did otherwise than the Go
// evaluator.
type Difference struct {
	Position string    `json:"position"`
	Time     time.Time `json:"time"`
	Version  string    `json:"version"`
	Channel  string    `json:"channel"`
	// What is the difference in words; Lua and Go are the two calls or answers,
	// shortened to where they differ. One of them may be empty.
	What string `json:"what"`
	Lua  string `json:"lua,omitempty"`
	Go   string `json:"go,omitempty"`
}

// ShadowStats returns what the comparison came to. It does no I/O.
func (p *Plane) ShadowStats() ShadowStats {
	s := &p.shadow
	return ShadowStats{Compared: s.compared.Load(), Skipped: s.skipped.Load(), Waiting: s.waiting.Load(), Differences: s.differences.Load()}
}

// Differences returns what differed in shadow mode, of all engines, after a
// position; "" is the oldest kept. The last 1,000 are kept.
func (p *Plane) Differences(ctx context.Context, after string, limit int) ([]Difference, error) {
	entries, err := p.read(ctx, p.keys.differences("data_sync"), after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]Difference, len(entries))
	for i, e := range entries {
		get := func(name string) string { return text(e.Values, name) }
		list[i] = Difference{Position: e.ID, Time: millis(get("time")), Version: get("version"), Channel: get("channel"),
			What: get("what"), Lua: get("lua"), Go: get("go")}
	}
	return list, nil
}

// sendShadow is send with the traced form of the script; what it did is compared
// afterwards.
func (w *Writer) sendShadow(ctx context.Context, s *activeScript, script *Script, args []any, points, attempt int, generation string) (reply []string, again bool, err error) {
	p := w.p
	traced := p.shadow.traced(script)
	s.stats.learn(traced.SHA, script.Version)
	args[1] = &traced.SHA
	var calls []TracedCall
	reply, err = p.watched(ctx, s, script, func(ctx context.Context) (reply []string, err error) {
		reply, calls, err = p.processTraced(ctx, s, traced, args, points)
		if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
			if err := p.load(ctx, traced); err != nil {
				return nil, err
			}
			reply, calls, err = p.processTraced(ctx, s, traced, args, points)
		}
		return reply, err
	})
	if err == nil {
		job := shadowed{script: script, channel: w.lease.Channel, calls: calls, reply: slices.Clone(reply)}
		if p.keys != "" {
			job.keys = []string{p.anchor}
		}
		job.args = cloneTexts(args[3+len(job.keys):])
		p.compareLater(context.WithoutCancel(ctx), s, job)
	}
	var fault *ScriptError
	if errors.As(err, &fault) {
		return nil, false, fault
	}
	return p.settle(ctx, s, script, reply, err, attempt, generation, false)
}

// processTraced is process for a traced script.
func (p *Plane) processTraced(ctx context.Context, s *activeScript, traced *Script, args []any, points int) (reply []string, calls []TracedCall, err error) {
	began := p.stats.now()
	answer, err := p.client.Do(ctx, args...).Result()
	if err == nil {
		reply, calls, err = decodeTrace(traced, answer)
		var fault *ScriptError
		switch { // as of a script that fails without a trace
		case errors.As(err, &fault) && !isAnswer(storeAnswer(fault.Message)):
			err = storeAnswer(fault.Message)
		case errors.As(err, &fault):
			fault.cause = storeAnswer(fault.Message)
		case err != nil:
			err = &ScriptError{Script: traced.Name, Version: traced.Version, Message: err.Error(), cause: storeAnswer("ERR " + err.Error())}
		}
	}
	p.measure(s, args, points, began, reply, err)
	return reply, calls, err
}

// cloneTexts copies arguments, whose texts are cut from buffers that the next
// batch uses again.
func cloneTexts(args []any) []string {
	var all strings.Builder
	ends := make([]int, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case *string:
			all.WriteString(*a)
		case string:
			all.WriteString(a)
		default:
			fmt.Fprint(&all, a)
		}
		ends[i] = all.Len()
	}
	list, from := make([]string, len(args)), 0
	for i, to := range ends {
		list[i], from = all.String()[from:to], to
	}
	return list
}

// traced returns the traced form of a version.
func (s *shadow) traced(script *Script) *Script {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.texts {
		if t.of == script.SHA {
			return t.traced
		}
	}
	traced := script.Traced()
	if len(s.texts) == shadowTexts {
		s.texts = slices.Delete(s.texts, 0, 1)
	}
	s.texts = append(s.texts, tracedText{script.SHA, &traced})
	return &traced
}

func (p *Plane) compareLater(ctx context.Context, s *activeScript, job shadowed) {
	h := &p.shadow
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) >= shadowQueue {
		h.skipped.Add(1)
		return
	}
	h.waiting.Add(1)
	h.queue = append(h.queue, job)
	if !h.busy {
		h.busy = true
		go p.compareAll(ctx, s)
	}
}

// compareAll compares until nothing waits any more.
func (p *Plane) compareAll(ctx context.Context, s *activeScript) {
	h := &p.shadow
	for {
		h.mu.Lock()
		if len(h.queue) == 0 {
			h.busy, h.queue = false, nil
			h.mu.Unlock()
			return
		}
		job := h.queue[0]
		h.queue[0] = shadowed{}
		h.queue = h.queue[1:]
		h.mu.Unlock()
		if found := job.compare(); len(found) > 0 {
			p.differ(ctx, s, &job, found)
			h.differences.Add(int64(len(found)))
		}
		h.compared.Add(1)
		h.waiting.Add(-1)
	}
}

// differ records differences and, where the version is on probation, goes back.
func (p *Plane) differ(ctx context.Context, s *activeScript, job *shadowed, found []Difference) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	now := p.localTime().UnixMilli()
	pipe := p.client.Pipeline()
	for _, d := range found {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: p.keys.differences("data_sync"), MaxLen: shadowKept, Approx: true, Values: []any{
			"time", now, "version", job.script.Version, "channel", job.channel, "what", d.What, "lua", d.Lua, "go", d.Go}})
	}
	_, err := pipe.Exec(ctx)
	h, first, at := &p.shadow, found[0], p.stats.now()
	if h.told == 0 || at-h.told > shadowEvery || err != nil {
		h.told = at
		p.log.Warn("data_sync did otherwise than the Go evaluator", "site", p.options.Site, "version", job.script.Version,
			"channel", job.channel, "what", first.What, "lua", first.Lua, "go", first.Go, "more", len(found)-1, "storing_it", err)
	}
	if h.blamed == job.script.Version && at-h.tried < shadowEvery || !p.onProbation(s, job.script) {
		return
	}
	h.blamed, h.tried = job.script.Version, at
	p.goBack(ctx, s, job.script, fmt.Sprintf("in shadow mode it differs from the Go evaluator: %.200s: script: %.200s, Go: %.200s",
		first.What, first.Lua, first.Go))
}
