package main

import (
	"context"
	"fmt"

	"github.com/voltageems/voltage/scripts"
)

// traced is a trace with what is known about it.
type traced struct {
	scripts.Trace
	manifest scripts.Manifest
	changes  []scripts.KeyChange
	prefix   string // of the site's keys
	way      way
}

// way is where a traced call ran.
type way int

const (
	onScratch way = iota // in this process, on a store of its own
	dry                  // in this process, on copies of the site's keys
	forReal              // on the site's store
)

func runTrace(ctx context.Context, c *call) error {
	name := c.names[0]
	if c.redis == "" {
		if c.dryRun {
			return usageError("-dry-run needs the store that the keys are copied from: -redis. Without one nothing real is written anyway")
		}
		return c.withScratch(ctx, func(p *scripts.Plane) error { return c.traceInProcess(ctx, p, name, onScratch) })
	}
	if c.given("demo") {
		return usageError("-demo is for a scratch store: leave -redis away")
	}
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		if c.dryRun {
			return c.traceInProcess(ctx, p, name, dry)
		}
		if c.folder+c.file+c.version != "" {
			return usageError("only the active version runs for real: try another one with -dry-run")
		}
		s, err := mustBeActive(ctx, c, p, name)
		if err != nil {
			return err
		}
		m, err := s.Manifest()
		if err != nil {
			return err
		}
		t, err := p.Trace(ctx, name, c.rest...)
		if err != nil {
			return err
		}
		return c.printTrace(traced{Trace: t, manifest: m, prefix: c.prefix(), way: forReal})
	})
}

// traceInProcess runs a script on a scratch store or on copies.
func (c *call) traceInProcess(ctx context.Context, p *scripts.Plane, name string, w way) error {
	of := p
	if w == onScratch {
		of = nil
	}
	s, err := c.chosenOr(ctx, of, name)
	if err != nil {
		return err
	}
	m, err := s.Manifest()
	if err != nil {
		return err
	}
	d, err := p.DryRun(ctx, s, c.rest...)
	if err != nil {
		return err
	}
	return c.printTrace(traced{Trace: d.Trace, manifest: m, changes: d.Changes, prefix: c.prefix(), way: w})
}

func (c *call) printTrace(t traced) error {
	if c.json {
		if err := c.printJSON(t.view()); err != nil {
			return err
		}
	} else {
		fmt.Fprint(c.out, t.page())
	}
	return t.Err // said on the page too, but the exit code comes of it
}

// traceView is a trace as JSON.
type traceView struct {
	Script  string              `json:"script"`
	Version string              `json:"version"`
	Args    []string            `json:"args"`
	Where   string              `json:"where"`
	Calls   []callView          `json:"calls"`
	Reply   []string            `json:"reply"`
	Error   string              `json:"error,omitempty"`
	Micros  int64               `json:"micros"`
	Changes []scripts.KeyChange `json:"changes,omitempty"`
}

type callView struct {
	File   string   `json:"file,omitempty"`
	Line   int      `json:"line,omitempty"`
	Access string   `json:"access"`
	Args   []string `json:"args"`
	Reply  any      `json:"reply"`
	Error  string   `json:"error,omitempty"`
	// Micros is null where the store has no clock for it.
	Micros *int64   `json:"micros"`
	Why    []string `json:"why,omitempty"`
}

func (t traced) view() traceView {
	v := traceView{Script: t.Script, Version: t.Version, Args: t.Args, Where: []string{"scratch", "dry", "real"}[t.way],
		Calls: []callView{}, Reply: t.Reply, Micros: t.Elapsed.Microseconds(), Changes: t.changes}
	if t.Err != nil {
		v.Error = t.Err.Error()
	}
	for _, c := range t.Calls {
		cv := callView{File: c.File, Line: c.Line, Access: access(c), Args: c.Args, Reply: c.Reply, Error: c.Err, Why: t.why(c)}
		if c.Micros >= 0 {
			cv.Micros = &c.Micros
		}
		v.Calls = append(v.Calls, cv)
	}
	return v
}
