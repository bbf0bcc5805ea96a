package scripts_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/internal/reference"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Batches as the engine makes them: a Writer on the embedded store, whose calls
// of data_sync are made on the other stores after it.

// recorder is a hook that keeps the calls of scripts that go through a client.
type recorder struct {
	on    bool
	calls []recorded
}

// recorded is a call: its arguments from the digest on, and its reply.
type recorded struct {
	args  []string
	reply []string
	err   error
}

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook { return next }
func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !r.on || !strings.EqualFold(cmd.Name(), "evalsha") {
			return next(ctx, cmd)
		}
		var call recorded
		for _, a := range cmd.Args()[1:] {
			if p, ok := a.(*string); ok {
				a = *p
			}
			call.args = append(call.args, fmt.Sprint(a))
		}
		err := next(ctx, cmd)
		if full, ok := cmd.(*redis.Cmd); ok {
			if call.err = err; err == nil { // the command itself learns of an error only after its hooks
				call.reply, call.err = full.StringSlice()
			}
			r.calls = append(r.calls, call)
		}
		return err
	}
}

// writerPoints are the points of every channel: all kinds.
var writerPoints = []model.Point{{ID: "1"}, {ID: "2"}, {ID: "3", Kind: model.Signal}, {ID: "4", Kind: model.Control},
	{ID: "5", Kind: model.Adjustment}, {ID: "6", Text: true}}

// writers are the Writers of a match, one for each ownership.
type writers struct {
	plane *scripts.Plane
	now   int64
	all   map[scripts.Lease]*scripts.Writer
}

// writer makes a step "writer" <now> <channel> <refresh> [<point> <value> <quality> <time>] …
func (g *generator) writer() step {
	s := step{"writer", g.time(), pick(g.dice, "1001", "1001", "1001", "1002"), pick(g.dice, "", "", "", "refresh")}
	for range 1 + g.n(8) {
		at := ""
		if g.chance(30) {
			at = strconv.FormatInt(g.now+int64(pick(g.dice, 0, -5, 5, -100, 7200000, -1)), 10)
			if g.chance(5) {
				at = "1000"
			}
		}
		s = append(s, g.point(), pick(g.dice, g.value(), g.value(), "-0.0000004", "999999999999999.9", "nan"), strconv.Itoa(pick(g.dice, 0, 0, 0, 0, 0, 1, 2, 3, 4)), at)
	}
	return s
}

// playWriter lets the Writer write on the embedded store, and the others do the same.
func (m *match) playWriter(s step) (difference string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	embedded := m.contenders[1].(*redisContender)
	if m.writers == nil {
		w := &writers{all: map[scripts.Lease]*scripts.Writer{}}
		site := strings.Trim(m.prefix, "{}:")
		var err error
		w.plane, err = scripts.New(embedded.client, scripts.Options{Site: site, Log: slog.New(slog.DiscardHandler),
			Now: func() time.Time { return time.UnixMilli(w.now) }, HistoryBytes: 1 << 24, CloudBytes: 1 << 24})
		if err != nil {
			return err.Error()
		}
		if err := w.plane.Prepare(ctx); err != nil {
			return "" // something foreign is in its way
		}
		for _, c := range m.contenders {
			for name, script := range m.c.scripts {
				if _, err := c.Call("SET", m.prefix+"lua:version:"+name, script.Version); err != nil {
					return err.Error()
				}
			}
		}
		m.writers = w
	}
	m.writers.now, _ = strconv.ParseInt(s[1], 10, 64)
	epoch := m.resolve(embedded, []string{"$epoch:" + s[2]})[0]
	lease := scripts.Lease{Channel: s[2], Engine: "e1", Epoch: epoch}
	w := m.writers.all[lease]
	if w == nil {
		w = m.writers.plane.NewWriter(lease, writerPoints)
		m.writers.all[lease] = w
	}
	var samples []model.Sample
	for f := s[4:]; len(f) > 3; f = f[4:] {
		sample := model.Sample{Point: f[0], Text: f[1]}
		sample.Value, _ = strconv.ParseFloat(f[1], 64)
		quality, _ := strconv.Atoi(f[2])
		sample.Quality = model.Quality(quality)
		if ms, err := strconv.ParseInt(f[3], 10, 64); err == nil {
			sample.Time = time.UnixMilli(ms)
		}
		samples = append(samples, sample)
	}
	recorder := m.c.recorder
	recorder.calls, recorder.on = nil, true
	_, _, _ = w.Write(ctx, samples, s[3] == "refresh") // what it answers is another test's
	recorder.on = false
	if ctx.Err() != nil {
		return fmt.Sprintf("%s did not end", s)
	}
	for _, call := range recorder.calls {
		var name string
		for _, script := range m.c.scripts {
			if script.SHA == call.args[0] {
				name = script.Name
			}
		}
		script := reference.Script{Name: name, Version: m.c.scripts[name].Version}
		want := canonicalOutcome(call.reply, call.err)
		if call.err == nil {
			m.seen["writer "+call.args[3]+" "+call.reply[0]]++
		}
		for i, c := range m.contenders {
			if c == embedded {
				continue
			}
			reply, err := c.run(script, []string{m.prefix + "anchor"}, call.args[3:])
			if got := canonicalOutcome(reply, err); got != want {
				return fmt.Sprintf("reply of %s, made of %s:\n  embedded: %s\n  %s: %s", step(call.args), s, want, m.names[i], got)
			}
		}
	}
	return ""
}

// writable reports whether the Writer finds the definitions in keys of their
// types, else it waits for them, and its own scripts active, else it activates them.
func (m *match) writable() bool {
	for _, call := range [][]string{{"HLEN", "mapping:c2m"}, {"SISMEMBER", "model:enabled", "x"}, {"HLEN", "rules:index"}, {"GET", "mapping:version"}} {
		call[1] = m.prefix + call[1]
		if _, err := m.contenders[0].Call(call...); err != nil {
			return false
		}
	}
	for _, name := range []string{"data_sync", "command"} {
		if active, err := m.contenders[0].Call("GET", m.prefix+"lua:version:"+name); err != nil || active != nil && active != m.c.scripts[name].Version {
			return false
		}
	}
	generation, err := m.contenders[0].Call("GET", m.prefix+"site:generation")
	return err == nil && generation == "g1"
}
