package modbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// driver reads and writes the points of one channel: one unit on a line.
type driver struct {
	line   *line
	member member
	setup  channel.Setup
	opts   options
	name   string         // for errors
	items  []item         // in the order of setup.Points
	index  map[string]int // point id → its place there

	poll    *lane // of Read
	command *lane // of Write
	poller        // the state of Read

	mu      sync.Mutex
	session *session // the last Connect's; nil before the first
	written []int    // places of the points that were written since Read looked
	asked   []int    // places of the points that Demand asked for since
}

// session is the time from a Connect to the Close after it, or to the loss of
// the connection.
type session struct {
	ctx    context.Context
	cancel context.CancelFunc
	// lost tells a Read that waits for its next round that a Write found the
	// connection gone.
	lost chan struct{}
	// wake tells it that there may be something to read before that.
	wake chan struct{}

	// of Read: its context, bound, which is mostly the same one
	outer   <-chan struct{}
	inner   context.Context
	release func()
}

// bind returns ctx, cut short by the end of the session.
func (s *session) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// within is bind for the contexts of Read.
func (s *session) within(ctx context.Context) context.Context {
	if s.inner == nil || s.outer != ctx.Done() {
		if s.release != nil {
			s.release()
		}
		s.outer = ctx.Done()
		s.inner, s.release = s.bind(ctx)
	}
	return s.inner
}

var errClosed = fmt.Errorf("%w: closed", channel.ErrNotConnected)

// newDriver checks the points. The error names every one that is wrong.
func newDriver(l *line, o options, s channel.Setup) (*driver, error) {
	d := &driver{
		line: l, member: member{unit: byte(o.unit), mute: l.rtu && o.unit == 0}, setup: s, opts: o,
		name:  fmt.Sprintf("modbus %s unit %d", l.name, o.unit),
		index: make(map[string]int, len(s.Points)),
		poll:  newLane(false), command: newLane(true),
	}
	d.poll.asks = make([]ask, max(o.pipeline, 1))
	var errs []error
	for i, p := range s.Points {
		a, err := checkPoint(p, o.parts)
		if err == nil && !a.space.bits() && a.width() > o.limits.maxRead {
			err = fmt.Errorf("address %s: %d registers, and one request may read %d", a, a.width(), o.limits.maxRead)
		}
		if err == nil && d.member.mute && (!p.Kind.Writable() || p.ReadBack) {
			err = errors.New("unit 0 is all units of the line, which can be written and not be read")
		}
		if err == nil && d.member.mute && a.typ.partial() && o.parts == PartsRewrite {
			err = fmt.Errorf("address %s: unit 0 is all units of the line, and part writes by rewrite would have to read it", a)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: channel %s: point %s: %w", model.ErrInvalid, s.ID, p.ID, err))
			continue
		}
		it := item{address: a, factor: p.Factor(), offset: p.Offset}
		if a.checks != nil && a.checks.rate > 0 {
			it.trend = &trend{rate: a.checks.rate, least: s.Period(p)}
		}
		d.items = append(d.items, it)
		d.index[p.ID] = i
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	d.sort()
	d.member.idle = !slices.ContainsFunc(d.classes, func(c *class) bool { return c.Period > 0 })
	return d, nil
}

// checkPoint returns the point's address, or what is wrong with it. parts is the
// option PartWrites.
func checkPoint(p model.Point, parts string) (address, error) {
	a, err := parseAddress(p.Address)
	switch {
	case err != nil:
		return a, err
	case p.Text && a.typ != typeString:
		return a, fmt.Errorf("address %s: %s is a number, and the point is text: want a type such as string16", a, a.typeName())
	case !p.Text && a.typ == typeString:
		return a, fmt.Errorf("address %s: %s is text, and the point is a number: want text: true", a, a.typeName())
	case !p.Kind.Writable():
		return a, nil
	case a.space != coil && a.space != holding:
		return a, fmt.Errorf("address %s: %s points are written, and the space %s is read-only", a, p.Kind, spaceNames[a.space])
	case a.space == holding && a.typ.partial() && parts == "":
		return a, fmt.Errorf("address %s: %s points are written, and %s is a part of a register: say how with the option part_writes (PartWrites), mask or rewrite", a, p.Kind, a.typeName())
	case a.checks != nil && a.checks.rate > 0:
		return a, fmt.Errorf("address %s: %s points are written, and a command may change them at any rate", a, p.Kind)
	}
	return a, nil
}

// Connect implements channel.Driver. A unit that did not answer the last time
// is asked for something first, so that it counts as connected only when it is
// back.
func (d *driver) Connect(ctx context.Context) error {
	s := &session{lost: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	d.mu.Lock()
	if d.session != nil {
		d.session.cancel()
	}
	d.session = s
	d.mu.Unlock()

	ctx, release := s.bind(ctx)
	defer release()
	err := d.line.attach(ctx, &d.member)
	if err == nil {
		err = d.begin(ctx)
	}
	if err == nil {
		err = cmp.Or(ctx.Err(), s.ctx.Err()) // that ctx ends with the session takes a moment
	}
	if err != nil {
		if s.ctx.Err() != nil {
			err = errClosed
		}
		d.end(s)
		return fmt.Errorf("%s: connect: %w", d.name, err)
	}
	return nil
}

// Close implements channel.Driver. The connection of a bus stays for the other
// units.
func (d *driver) Close(context.Context) error {
	d.mu.Lock()
	s := d.session
	d.mu.Unlock()
	if s != nil {
		d.end(s)
	}
	return nil
}

// end ends a session, unless a later one has begun.
func (d *driver) end(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.cancel()
	if d.session == s {
		d.line.detach(&d.member)
	}
}

// current returns the session, or ErrNotConnected when there is none.
func (d *driver) current() (*session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == nil || d.session.ctx.Err() != nil {
		return nil, channel.ErrNotConnected
	}
	return d.session, nil
}

// Read implements channel.Driver: it serves the scan classes that are due, and
// returns with the samples of the first whose round has ended.
func (d *driver) Read(ctx context.Context) ([]model.Sample, error) {
	s, err := d.current()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	ctx = s.within(ctx)
	for {
		var c *class
		if c, err = d.pick(ctx, s); err != nil {
			break
		}
		var ended bool
		if ended, err = d.step(ctx, c); err != nil {
			break
		}
		if !ended {
			continue
		}
		if samples := d.finish(c); len(samples) > 0 {
			return samples, nil
		}
	}
	switch {
	case s.ctx.Err() != nil:
		err = errClosed
	case errors.Is(err, channel.ErrNotConnected):
		d.end(s)
	default:
		// What was read of the rounds under way is old by the time of the next Read.
		for _, c := range d.classes {
			if c.begun {
				d.rewind(c, d.setup.Clock.Now())
			}
		}
	}
	return nil, fmt.Errorf("%s: %w", d.name, err)
}

// pick waits until a class has something to be asked for.
func (d *driver) pick(ctx context.Context, s *session) (*class, error) {
	clock := d.setup.Clock
	var due <-chan time.Time
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d.follow()
		now := clock.Now()
		if k, ok := d.table.Pick(now); ok {
			c := d.classes[k]
			if !c.begun {
				d.prepare(c, now)
			}
			return c, nil
		}
		// A channel of After is not made anew when something else ends the wait
		// before its time, save for one that comes sooner.
		if wait, ok := d.table.Wait(now); ok && (due == nil || now.Add(wait).Before(d.waits)) {
			d.waits = now.Add(wait)
			due = clock.After(wait)
		}
		select {
		case <-due:
			due = nil
		case <-s.wake:
		case <-s.lost:
			return nil, fmt.Errorf("%w: found by a write", channel.ErrNotConnected)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
