package channeltest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

const (
	// label marks the goroutines in which the driver runs, and so all those
	// that it starts.
	label = "channeltest"
	// poll is how often a condition without a signal is looked at.
	poll = time.Millisecond
	// grace is given to a call to get under way before it is interrupted. The
	// checks hold whether or not it did; mostly it did.
	grace = 20 * time.Millisecond
	// never is a timeout that does not come, so that a call ends only by what
	// the check does.
	never = time.Hour
)

// check is one check under way.
type check struct {
	tb   testing.TB
	h    Harness
	peer Peer
	// id is the value of the label.
	id string
}

// run runs one check, and then looks for goroutines that the driver left.
func (h Harness) run(tb testing.TB, s spec) {
	tb.Helper()
	c := &check{tb: tb, h: h, peer: h.Start(tb)}
	c.id = rand.Text()
	if c.peer.Factory == nil {
		tb.Fatalf("channeltest: the peer has no Factory")
	}
	if s.needs != nil {
		if what := s.needs(h, c.peer); what != "" {
			tb.Skipf("needs %s", what)
		}
	}
	s.body(c)
	c.noGoroutines("at the end")
}

// setup returns what the Factory gets.
func (c *check) setup(clock model.Clock, timeout time.Duration, more ...model.Point) channel.Setup {
	var points []model.Point
	seen := map[string]bool{}
	add := func(p model.Point) {
		if !seen[p.ID] {
			seen[p.ID] = true
			points = append(points, p)
		}
	}
	for _, e := range c.h.Points {
		add(e.Point)
	}
	for _, w := range c.h.Writes {
		add(w.Point)
	}
	for _, w := range c.h.Refused {
		add(w.Point)
	}
	for _, p := range more {
		add(p)
	}
	return channel.Setup{
		ID: "channeltest", Points: points, Scan: c.h.Scan, Timeout: timeout,
		Log: slog.New(slog.DiscardHandler), Clock: clock,
	}
}

// a driver with its setup.
type driver struct {
	*check
	channel.Driver
	setup channel.Setup
}

// open makes the driver, which is closed in the end at the latest.
func (c *check) open(setup channel.Setup) *driver {
	c.tb.Helper()
	made := call(c, "Factory", func() result { d, err := c.peer.Factory(setup); return result{driver: d, err: err} })
	if made.err != nil {
		c.tb.Fatalf("Factory: %v", made.err)
	}
	if made.driver == nil {
		c.tb.Fatalf("Factory returned neither a driver nor an error")
	}
	d := &driver{check: c, Driver: made.driver, setup: setup}
	c.tb.Cleanup(func() {
		// A check that failed leaves the driver open. Its peer goes next, so
		// this need not succeed.
		ctx, cancel := context.WithTimeout(context.Background(), c.h.Patience)
		defer cancel()
		done := begin(c, func() error { return d.Driver.Close(ctx) })
		select {
		case <-done:
		case <-ctx.Done():
		}
	})
	return d
}

// connected makes a driver and connects it.
func (c *check) connected(clock model.Clock, timeout time.Duration) *driver {
	c.tb.Helper()
	d := c.open(c.setup(clock, timeout))
	d.connect()
	return d
}

// result is what a call of the driver gave.
type result struct {
	driver  channel.Driver
	samples []model.Sample
	outcome channel.Outcome
	err     error
}

// begin runs f in a labelled goroutine and delivers what it returns.
func begin[T any](c *check, f func() T) <-chan T {
	out := make(chan T, 1)
	go pprof.Do(context.Background(), pprof.Labels(label, c.id), func(context.Context) { out <- f() })
	return out
}

// await returns what arrives on ch, or fails the check when it takes too long.
func await[T any](c *check, what string, ch <-chan T) T {
	c.tb.Helper()
	patience := time.NewTimer(c.h.Patience)
	defer patience.Stop()
	select {
	case v := <-ch:
		return v
	case <-patience.C:
		c.tb.Fatalf("%s did not return within %s; the driver's goroutines:\n%s", what, c.h.Patience, c.goroutines())
	}
	var none T
	return none
}

// call runs f as begin does and awaits it.
func call[T any](c *check, what string, f func() T) T {
	c.tb.Helper()
	return await(c, what, begin(c, f))
}

func (d *driver) connect() {
	d.tb.Helper()
	if err := d.tryConnect(context.Background()); err != nil {
		d.tb.Fatalf("Connect: %v", err)
	}
}

func (d *driver) tryConnect(ctx context.Context) error {
	d.tb.Helper()
	return call(d.check, "Connect", func() error { return d.Driver.Connect(ctx) })
}

// close closes the driver, which must succeed.
func (d *driver) close() {
	d.tb.Helper()
	if err := call(d.check, "Close", func() error { return d.Driver.Close(context.Background()) }); err != nil {
		d.tb.Fatalf("Close: %v", err)
	}
}

// hangUp closes the driver after the peer vanished, where a Close that finds it
// cannot say good-bye may say so.
func (d *driver) hangUp() {
	d.tb.Helper()
	_ = call(d.check, "Close", func() error { return d.Driver.Close(context.Background()) })
}

func (d *driver) beginRead(ctx context.Context) <-chan result {
	return begin(d.check, func() result {
		s, err := d.Driver.Read(ctx)
		return result{samples: s, err: err}
	})
}

// read reads once and checks the form of what came.
func (d *driver) read(ctx context.Context) ([]model.Sample, error) {
	d.tb.Helper()
	r := await(d.check, "Read", d.beginRead(ctx))
	if err := d.form(r); err != nil {
		d.tb.Fatalf("Read: %v", err)
	}
	return r.samples, r.err
}

// form returns what is wrong with a reading, whatever its values.
func (d *driver) form(r result) error {
	if r.err == nil && len(r.samples) == 0 {
		return errors.New("returned neither samples nor an error: it must block until there are samples")
	}
	for _, s := range r.samples {
		at := -1
		for i, p := range d.setup.Points {
			if p.ID == s.Point {
				at = i
			}
		}
		if at < 0 {
			return fmt.Errorf("sample of point %q, which the channel does not have", s.Point)
		}
		if s.Quality.Usable() && !model.Finite(s.Value) {
			return fmt.Errorf("point %s: value %v of quality %s is not finite", s.Point, s.Value, s.Quality)
		}
		if s.Text != "" && !d.setup.Points[at].Text {
			return fmt.Errorf("point %s: text %q of a point that is a number", s.Point, s.Text)
		}
	}
	return nil
}

// readAll reads until every expected point came with the expected value.
func (d *driver) readAll() {
	d.tb.Helper()
	d.readUntil("every point was read", func(latest map[string]model.Sample) bool {
		return d.wrong(latest) == ""
	}, func(latest map[string]model.Sample) string { return d.wrong(latest) })
}

// wrong says which of the expected points is missing or not as expected.
func (d *driver) wrong(latest map[string]model.Sample) string {
	for _, e := range d.h.Points {
		s, ok := latest[e.Point.ID]
		tolerance := e.Tolerance
		if tolerance == 0 {
			tolerance = 1e-6
		}
		switch {
		case !ok:
			return fmt.Sprintf("point %s never came", e.Point.ID)
		case !s.Quality.Usable():
			return fmt.Sprintf("point %s: quality %s", e.Point.ID, s.Quality)
		case e.Point.Text && s.Text != e.Text:
			return fmt.Sprintf("point %s: text %q, want %q", e.Point.ID, s.Text, e.Text)
		case !e.Point.Text && !e.Any && math.Abs(s.Value-e.Value) > tolerance:
			return fmt.Sprintf("point %s: value %v, want %v ± %v", e.Point.ID, s.Value, e.Value, tolerance)
		}
	}
	return ""
}

// readUntil reads until the latest samples satisfy done. Errors fail the check.
func (d *driver) readUntil(what string, done func(map[string]model.Sample) bool, why func(map[string]model.Sample) string) {
	d.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d.h.Patience)
	defer cancel()
	latest := map[string]model.Sample{}
	for !done(latest) {
		samples, err := d.read(ctx)
		if ctx.Err() != nil {
			d.tb.Fatalf("Read went on for %s before %s: %s", d.h.Patience, what, why(latest))
		}
		if err != nil {
			d.tb.Fatalf("Read: %v", err)
		}
		for _, s := range samples {
			latest[s.Point] = s
		}
	}
}

// readUntilGone reads until the driver reports that the connection is gone.
func (d *driver) readUntilGone() {
	d.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d.h.Patience)
	defer cancel()
	for {
		_, err := d.read(ctx)
		if errors.Is(err, channel.ErrNotConnected) {
			return
		}
		if ctx.Err() != nil {
			d.tb.Fatalf("Read did not report ErrNotConnected within %s of the peer's end; last error: %v", d.h.Patience, err)
		}
	}
}

// A pump calls Read again and again, as the runner does.
type pump struct {
	stop context.CancelFunc
	done <-chan error

	mu     sync.Mutex
	reads  int
	rounds map[string]int // samples of each point so far
}

// pump starts reading until its stop is called or Read fails.
func (d *driver) pump() *pump {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pump{stop: cancel, rounds: map[string]int{}}
	d.tb.Cleanup(cancel)
	p.done = begin(d.check, func() error {
		for {
			samples, err := d.Driver.Read(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read: %w", err)
			}
			if err := d.form(result{samples: samples}); err != nil {
				return fmt.Errorf("read: %w", err)
			}
			p.mu.Lock()
			p.reads++
			for _, s := range samples {
				p.rounds[s.Point]++
			}
			p.mu.Unlock()
		}
	})
	return p
}

// seen returns how often the least read of the expected points was read, and
// how many Reads that took.
func (p *pump) seen(want []Expect) (rounds, reads int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rounds = math.MaxInt
	for _, e := range want {
		rounds = min(rounds, p.rounds[e.Point.ID])
	}
	return rounds, p.reads
}

// eventually waits until cond holds. The pump must not fail meanwhile.
func (c *check) eventually(what string, p *pump, cond func() bool) {
	c.tb.Helper()
	deadline := time.NewTimer(c.h.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !cond() {
		select {
		case err := <-p.done:
			c.tb.Fatalf("%v", err)
		case <-deadline.C:
			c.tb.Fatalf("%s: not within %s; the driver's goroutines:\n%s", what, c.h.Patience, c.goroutines())
		case <-tick.C:
		}
	}
}

// finish ends the pump.
func (p *pump) finish(c *check) {
	c.tb.Helper()
	p.stop()
	if err := await(c, "Read after its context ended", p.done); err != nil {
		c.tb.Fatalf("%v", err)
	}
}

// settle gives a call time to get under way; see grace.
func settle() { <-time.After(grace) }
