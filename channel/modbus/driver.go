package modbus

import (
	"context"
	"errors"
	"fmt"
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
	written []int    // places of the points that were written since the round began
}

// session is the time from a Connect to the Close after it, or to the loss of
// the connection.
type session struct {
	ctx    context.Context
	cancel context.CancelFunc
	// lost tells a Read that waits for its next round that a Write found the
	// connection gone.
	lost chan struct{}
}

// bind returns ctx, cut short by the end of the session.
func (s *session) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
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
	d.samples = make([]model.Sample, len(s.Points))
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
		it := item{address: a, sample: i, factor: p.Factor(), offset: p.Offset}
		if a.checks != nil && a.checks.rate > 0 {
			it.trend = &trend{rate: a.checks.rate, least: s.Scan}
		}
		d.items = append(d.items, it)
		d.index[p.ID] = i
		d.samples[i].Point = p.ID
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
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
	s := &session{lost: make(chan struct{}, 1)}
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
		err = ctx.Err()
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

// Read implements channel.Driver: it waits for the next round and returns a
// sample of every point.
func (d *driver) Read(ctx context.Context) ([]model.Sample, error) {
	s, err := d.current()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	ctx, release := s.bind(ctx)
	defer release()
	if err = d.wait(ctx, s); err == nil {
		err = d.round(ctx)
	}
	switch {
	case err == nil:
		return d.samples, nil
	case s.ctx.Err() != nil:
		err = errClosed
	case errors.Is(err, channel.ErrNotConnected):
		d.end(s)
	}
	return nil, fmt.Errorf("%s: %w", d.name, err)
}

// wait waits for the time of the next round. Rounds keep to the grid that the
// first one sets; those that were missed are left out.
func (d *driver) wait(ctx context.Context, s *session) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	clock := d.setup.Clock
	now := clock.Now()
	if d.next.IsZero() {
		d.next = now
	}
	idle := len(d.items) == 0 || d.member.mute
	if pause := d.next.Sub(now); pause > 0 || idle {
		var due <-chan time.Time // never, when there is nothing to read
		if !idle {
			due = clock.After(min(pause, d.setup.Scan))
		}
		select {
		case <-due:
		case <-s.lost:
			return fmt.Errorf("%w: found by a write", channel.ErrNotConnected)
		case <-ctx.Done():
			return ctx.Err()
		}
		now = clock.Now()
	}
	d.next = d.next.Add(d.setup.Scan)
	if late := now.Sub(d.next); late >= 0 {
		d.next = d.next.Add((late/d.setup.Scan + 1) * d.setup.Scan)
	}
	return nil
}
