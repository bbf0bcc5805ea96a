//go:build linux

package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// fastClock is the machine's clock, only faster.
type fastClock struct{ start time.Time }

func (c fastClock) Now() time.Time { return c.start.Add(speed * time.Since(c.start)) }

func (c fastClock) After(d time.Duration) <-chan time.Time { return time.After(d / speed) }

// rig is the drivers of a transport, what they do, and what came of it.
type rig struct {
	t       *testing.T
	name    string        // of the transport
	weather string        // the faults of now
	pause   time.Duration // between two commands of a driver, at most
	dice    *dice
	site    *site
	running sync.WaitGroup
	cancels []context.CancelFunc
	drivers []*polled

	good, rounds, connects, number atomic.Int64
	resting                        atomic.Bool // no commands are given

	mu       sync.Mutex
	said     []said // of the commands since the last recovery but one
	before   int    // how many of them are from before the last
	results  [channel.Confirmed + 1]int
	sentCoil map[place]int // how many coils may have been, and certainly were, written
	doneCoil map[place]int
}

// said is what a driver said of a command.
type said struct {
	order
	result channel.Result
	err    error
}

// polled is a driver that is read.
type polled struct {
	id     byte
	points int
	last   atomic.Value // what was wrong in the last round, a string

	// What a point shows was read after that generation: of the Read that returned
	// it before, or of the last that failed. Only Read's goroutine has it.
	since map[string]uint64
	least uint64

	mu   sync.Mutex
	well map[string]bool // the points that were good since the faults ended
}

// whole reports whether all points were good; begin forgets what was before.
func (p *polled) whole(begin bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if begin {
		clear(p.well)
	}
	return len(p.well) == p.points
}

// run polls a unit and gives it commands until the test ends.
func (r *rig) run(u unit, factory channel.Factory) {
	checks := map[string]check{}
	setup := channel.Setup{
		ID: fmt.Sprint(len(r.drivers)), Scan: speed * 10 * time.Millisecond, Timeout: r.dice.timeout,
		Log: slog.New(slog.DiscardHandler), Clock: fastClock{time.Now()},
	}
	// One driver has its points in several scan classes.
	setup.Scans = map[string]time.Duration{"slow": 4 * setup.Scan}
	var asked []string
	for k, c := range u.checks() {
		if len(r.drivers) == 2 {
			switch {
			case k%3 == 1:
				c.point.Scan = "slow"
			case k%3 == 2 && c.point.Kind != model.Control && len(asked) < 4: // or a serial line would do nothing else
				c.point.Scan = channel.ScanDemand
				asked = append(asked, c.point.ID)
			}
		}
		checks[c.point.ID] = c
		setup.Points = append(setup.Points, c.point)
	}
	d, err := factory(setup)
	require.NoError(r.t, err)
	p := &polled{id: u.id, points: len(setup.Points), well: map[string]bool{}, since: map[string]uint64{}}
	p.last.Store("never read")
	r.drivers = append(r.drivers, p)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancels = append(r.cancels, cancel)
	r.running.Go(func() {
		r.connect(ctx, d)
		for ctx.Err() == nil {
			r.read(ctx, d, p, checks)
		}
		_ = d.Close(context.Background())
	})
	r.running.Go(func() {
		for ctx.Err() == nil && len(asked) > 0 {
			if err := d.(channel.Demander).Demand(asked[r.dice.int(2):]...); err != nil {
				assert.ErrorIs(r.t, err, channel.ErrNotConnected, "%s: demand", r.name)
			}
			select {
			case <-time.After(time.Duration(r.dice.int(int(4 * r.pause)))):
			case <-ctx.Done():
			}
		}
	})
	r.running.Go(func() {
		for ctx.Err() == nil {
			if !r.resting.Load() {
				r.write(ctx, u, d.(channel.Writer), checks)
			}
			select {
			case <-time.After(time.Duration(r.dice.int(int(r.pause)))):
			case <-ctx.Done():
			}
		}
	})
}

func (r *rig) stop() {
	for _, cancel := range r.cancels {
		cancel()
	}
	r.running.Wait()
}

// connect connects anew, as often as it takes.
func (r *rig) connect(ctx context.Context, d channel.Driver) {
	for pause := time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 20*time.Millisecond) {
		_ = d.Close(ctx)
		err := d.Connect(ctx)
		r.connects.Add(1)
		if err == nil {
			return
		}
		assert.True(r.t, errors.Is(err, channel.ErrNotConnected) || ctx.Err() != nil, "%s: connect: %v", r.name, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// hasty returns a context that may end soon, while there are faults.
func (r *rig) hasty(ctx context.Context) (context.Context, context.CancelFunc) {
	r.dice.mu.Lock()
	calm := r.dice.calm
	r.dice.mu.Unlock()
	if !calm && r.dice.int(20) == 0 {
		return context.WithTimeout(ctx, time.Duration(r.dice.int(int(r.dice.timeout))))
	}
	return context.WithCancel(ctx)
}

func (r *rig) read(ctx context.Context, d channel.Driver, p *polled, checks map[string]check) {
	limited, cancel := r.hasty(ctx)
	defer cancel()
	begin := r.site.now()
	samples, err := d.Read(limited)
	end := r.site.now()
	r.rounds.Add(1)
	if err != nil {
		p.least = end
		p.last.Store(err.Error())
		if errors.Is(err, channel.ErrNotConnected) {
			r.connect(ctx, d)
			return
		}
		// A deadline counts before the context itself says so.
		assert.True(r.t, errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled), "%s: read: %v", r.name, err)
		return
	}
	bad := ""
	for _, s := range samples {
		since := max(p.since[s.Point], p.least)
		p.since[s.Point] = end
		if checks[s.Point].point.Kind == model.Control {
			p.since[s.Point] = begin // it is read again after a command, beside the round
		}
		switch {
		case s.Quality != model.Good:
			bad += fmt.Sprintf("%s %s, ", s.Point, s.Quality)
		case !checks[s.Point].right(s.Value, since, end):
			r.t.Errorf("%s: unit %d: point %s: %#x is wrong, generation %#x to %#x", r.name, p.id, s.Point, uint64(s.Value), since, end)
		default:
			r.good.Add(1)
			p.mu.Lock()
			p.well[s.Point] = true
			p.mu.Unlock()
		}
	}
	p.last.Store(bad)
}

func (r *rig) write(ctx context.Context, u unit, d channel.Writer, checks map[string]check) {
	limited, cancel := r.hasty(ctx)
	defer cancel()
	n := uint32(r.number.Add(1))
	id, o := "", order{place{u.id, 0}, n}
	switch r.dice.int(4) {
	case 0:
		r.coil(limited, u, d, checks["coil"].point)
		return
	case 1:
		id, o.address, o.value = "single", single, n%0xFFFF+1
		r.site.forget(o)
	case 2:
		id, o.address = "double", double
	case 3:
		id, o.address = "confirmed", confirmed
	}
	out, err := d.Write(limited, channel.Write{Point: checks[id].point, Value: float64(o.value)})
	s := said{o, out.Result, err}
	if out.Result == channel.Confirmed || out.Result == channel.Done && id != "confirmed" {
		assert.NoError(r.t, err, "%s: %+v", r.name, s)
	} else {
		assert.Error(r.t, err, "%s: %+v", r.name, s)
	}
	r.judge(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, s)
	r.results[out.Result]++
}

// judge holds what a driver said against what the server did.
func (r *rig) judge(s said) {
	n := r.site.executions(s.order)
	switch {
	case n > 1, s.result >= channel.Done && n != 1, s.result <= channel.Refused && n != 0:
		r.t.Errorf("%s: unit %d: %d written to %#x: the driver says %s (%v), and it was executed %d times", r.name, s.unit, s.value, s.address, s.result, s.err, n)
	}
}

// coil writes a coil, whose commands have no number and are counted.
func (r *rig) coil(ctx context.Context, u unit, d channel.Writer, p model.Point) {
	at := place{u.id, coilPlace}
	r.mu.Lock()
	r.sentCoil[at]++
	r.mu.Unlock()
	out, err := d.Write(ctx, channel.Write{Point: p, Value: float64(r.dice.int(2))})
	assert.Equal(r.t, out.Result == channel.Done, err == nil, "%s: %v %v", r.name, out, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[out.Result]++
	switch {
	case out.Result >= channel.Done:
		r.doneCoil[at]++
	case out.Result <= channel.Refused:
		r.sentCoil[at]--
	}
	r.site.mu.Lock()
	defer r.site.mu.Unlock()
	if n := r.site.coils[at]; n < r.doneCoil[at] || n > r.sentCoil[at] {
		r.t.Errorf("%s: unit %d: a coil was written %d times, of %d commands of which %d were done", r.name, u.id, n, r.sentCoil[at], r.doneCoil[at])
	}
}

// recover waits until every driver has read all of its points again, without
// commands, which go ahead of polls and on a slow machine can fill a serial line, and looks
// once more at what was said of the commands.
func (r *rig) recover(after string) {
	r.t.Helper()
	for _, p := range r.drivers {
		p.whole(true)
	}
	r.resting.Store(true)
	defer r.resting.Store(false)
	started := time.Now()
	all := func() bool {
		for _, p := range r.drivers {
			if !p.whole(false) {
				return false
			}
		}
		return true
	}
	if !assert.Eventually(r.t, all, patience, time.Millisecond, "%s: no recovery after: %s", r.name, after) {
		for _, p := range r.drivers {
			p.mu.Lock()
			r.t.Logf("unit %d: good were %d of %d points, %v, now: %s", p.id, len(p.well), p.points, slices.Sorted(maps.Keys(p.well)), p.last.Load())
			p.mu.Unlock()
		}
		r.t.FailNow()
	}
	if took := time.Since(started); took > time.Second {
		r.t.Logf("%s: recovery took %s after: %s", r.name, took.Round(time.Millisecond), after)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.said {
		r.judge(s)
	}
	r.said = append(r.said[:0], r.said[r.before:]...)
	r.before = len(r.said)
}

// outcomes returns how often there was each result.
func (r *rig) outcomes() (text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for result, n := range r.results {
		text += fmt.Sprintf("%s %d, ", channel.Result(result), n)
	}
	return text
}
