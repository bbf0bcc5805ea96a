package virtual

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// An Option of New.
type Option func(*options)

type options struct {
	seed   uint64
	device *Device
}

// Seed makes random walks different ones. Without it the seed is 0, and they
// are the same in every run.
func Seed(seed uint64) Option {
	return func(o *options) { o.seed = seed }
}

// On connects to a device that the caller keeps a hand on. Without it each
// channel has a device of its own.
func On(d *Device) Option {
	return func(o *options) { o.device = d }
}

// New returns the Factory of a virtual driver. Its errors wrap model.ErrInvalid
// and name every point whose address is not one.
func New(opts ...Option) channel.Factory {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return func(s channel.Setup) (channel.Driver, error) { return newDriver(o, s) }
}

// Kind is "virtual", with one setting: seed, as in Seed.
func Kind() channel.Kind {
	open := func(decode func(any) error) (channel.Factory, error) {
		var settings struct {
			Seed uint64 `yaml:"seed"`
		}
		if err := decode(&settings); err != nil {
			return nil, err
		}
		return New(Seed(settings.Seed)), nil
	}
	return channel.Kind{Name: "virtual", Open: open, Profile: open}
}

// driver is a channel.Driver and channel.Writer.
type driver struct {
	setup  channel.Setup
	device *Device

	// These are Connect's and Read's, which never run at a time.
	signals []signal
	samples []model.Sample
	start   time.Time // of the signals: the first Connect
	next    time.Time // when the next round is due

	mu     sync.Mutex
	closed chan struct{} // closed by Close; nil while not connected
	breaks int           // of the device when the connection was made
}

func newDriver(o options, s channel.Setup) (*driver, error) {
	if s.Scan <= 0 {
		return nil, fmt.Errorf("%w: channel %s: scan %s: want more than 0", model.ErrInvalid, s.ID, s.Scan)
	}
	addresses := make(map[string]address, len(s.Points))
	var errs []error
	wrong := func(p model.Point, err error) {
		errs = append(errs, fmt.Errorf("%w: point %s: address %q: %w", model.ErrInvalid, p.ID, p.Address, err))
	}
	for _, p := range s.Points {
		a, err := parse(p.Address)
		if err == nil {
			err = suits(p, a)
		}
		if err != nil {
			wrong(p, err)
			continue
		}
		addresses[p.ID] = a
	}
	d := &driver{setup: s, device: o.device, samples: make([]model.Sample, len(s.Points))}
	for _, p := range s.Points {
		a, ok := addresses[p.ID]
		if !ok {
			continue
		}
		if target, ok := addresses[a.target]; a.shape == follow && (!ok || target.shape != setpoint) {
			wrong(p, fmt.Errorf("the channel has no setpoint %q", a.target))
		}
		d.signals = append(d.signals, newSignal(p, a, o.seed, s.ID))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if d.device == nil {
		d.device = NewDevice()
	}
	for i := range d.signals {
		if p := &d.signals[i]; p.shape == setpoint {
			d.device.initial(p.point.ID, p.point.Value(p.address.start))
		}
	}
	return d, nil
}

// suits returns what an address lacks for its point.
func suits(p model.Point, a address) error {
	switch {
	case p.Kind.Writable() && a.shape != setpoint:
		return fmt.Errorf("a %s needs setpoint:INITIAL", p.Kind)
	case !p.Kind.Writable() && a.shape == setpoint:
		return fmt.Errorf("setpoint is for controls and adjustments; a %s can follow one", p.Kind)
	case p.Text && a.shape != text:
		return errors.New("a text point needs text:TEXT")
	case !p.Text && a.shape == text:
		return errors.New("text is for points with text set")
	}
	return nil
}

// Connect reads the recordings and connects to the device.
func (d *driver) Connect(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	at := d.device.state()
	if at.offline {
		return fmt.Errorf("channel %s: %w: the virtual device is offline", d.setup.ID, channel.ErrNotConnected)
	}
	if err := d.load(ctx); err != nil {
		return fmt.Errorf("channel %s: %w", d.setup.ID, err)
	}
	now := d.setup.Clock.Now()
	if d.start.IsZero() {
		d.start = now
	}
	d.next = now

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed == nil {
		d.closed = make(chan struct{})
	}
	d.breaks = at.breaks
	return nil
}

// load reads each recording once, whatever the number of its points.
func (d *driver) load(ctx context.Context) error {
	columns := map[string][]string{}
	for i := range d.signals {
		if s := &d.signals[i]; s.shape == replay && !slices.Contains(columns[s.file], s.column) {
			columns[s.file] = append(columns[s.file], s.column)
		}
	}
	tables := make(map[string]*table, len(columns))
	for i := range d.signals {
		s := &d.signals[i]
		if s.shape != replay {
			continue
		}
		if tables[s.file] == nil {
			t, err := readFile(ctx, s.file, columns[s.file])
			if err != nil {
				return fmt.Errorf("point %s: %w", s.point.ID, err)
			}
			tables[s.file] = t
		}
		s.recording = tables[s.file]
		s.cells = s.recording.columns[s.column]
	}
	return nil
}

// Close ends the connection. It never fails.
func (d *driver) Close(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed != nil {
		close(d.closed)
		d.closed = nil
	}
	return nil
}

// connection returns what Close closes, and the number of breaks before the
// connection.
func (d *driver) connection() (closed <-chan struct{}, breaks int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed, d.breaks
}

// notConnected is the error for a connection that is gone.
func (d *driver) notConnected(why string) error {
	return fmt.Errorf("channel %s: %w: %s", d.setup.ID, channel.ErrNotConnected, why)
}

// Read returns all points: at once after Connect, and then once every Scan. A
// round that comes late moves none after it, and those that were missed are
// left out.
func (d *driver) Read(ctx context.Context) ([]model.Sample, error) {
	closed, breaks := d.connection()
	if closed == nil {
		return nil, d.notConnected("closed")
	}
	var due, timeout <-chan time.Time
	for {
		at := d.device.state()
		if at.offline || at.breaks != breaks {
			return nil, d.notConnected("the virtual device went offline")
		}
		now := d.setup.Clock.Now()
		switch wait := d.next.Sub(now); {
		case len(d.signals) == 0: // nothing to wait for but the end
		case wait > 0:
			if due == nil {
				due = d.setup.Clock.After(wait)
			}
		case at.silent:
			if timeout == nil {
				timeout = d.setup.Clock.After(d.setup.Timeout)
			}
		case ctx.Err() == nil:
			d.schedule(now)
			d.device.sample(now.Sub(d.start).Seconds(), d.signals, d.samples)
			return d.samples, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-closed:
			return nil, d.notConnected("closed")
		case <-at.changed:
		case <-due:
			due = nil
		case <-timeout:
			d.schedule(d.setup.Clock.Now())
			return nil, fmt.Errorf("channel %s: the virtual device did not answer within %s", d.setup.ID, d.setup.Timeout)
		}
	}
}

// schedule sets the time of the round after the one at now.
func (d *driver) schedule(now time.Time) {
	d.next = d.next.Add(d.setup.Scan)
	if late := now.Sub(d.next); late >= 0 {
		d.next = d.next.Add((late/d.setup.Scan + 1) * d.setup.Scan)
	}
}

// Write sets a setpoint. With the point's ReadBack it is Confirmed.
func (d *driver) Write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	closed, breaks := d.connection()
	if closed == nil {
		return channel.Outcome{}, d.notConnected("closed")
	}
	if err := ctx.Err(); err != nil {
		return channel.Outcome{}, err
	}
	id := w.Point.ID
	if !model.Storable(w.Value) {
		return channel.Outcome{}, fmt.Errorf("%w: channel %s: point %s: value %v", model.ErrInvalid, d.setup.ID, id, w.Value)
	}
	if _, ok := d.device.Setpoint(id); !ok {
		return channel.Outcome{Result: channel.Refused}, fmt.Errorf("channel %s: point %s: not a setpoint", d.setup.ID, id)
	}
	switch d.device.write(breaks, id, w.Value) {
	case unreachable:
		return channel.Outcome{}, d.notConnected("the virtual device went offline")
	case refused:
		return channel.Outcome{Result: channel.Refused}, fmt.Errorf("channel %s: point %s: the virtual device refused %v", d.setup.ID, id, w.Value)
	case unanswered:
		return channel.Outcome{Result: channel.Sent}, d.unanswered(ctx, closed, breaks)
	}
	if !w.Point.ReadBack {
		return channel.Outcome{Result: channel.Done}, nil
	}
	back := w.Value
	return channel.Outcome{Result: channel.Confirmed, ReadBack: &back}, nil
}

// unanswered waits for an answer that does not come and says what ended that.
func (d *driver) unanswered(ctx context.Context, closed <-chan struct{}, breaks int) error {
	timeout := d.setup.Clock.After(d.setup.Timeout)
	for {
		at := d.device.state()
		if at.offline || at.breaks != breaks {
			return d.notConnected("the virtual device went offline before it answered")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-closed:
			return d.notConnected("closed before the answer")
		case <-at.changed:
		case <-timeout:
			return fmt.Errorf("channel %s: the virtual device did not answer within %s", d.setup.ID, d.setup.Timeout)
		}
	}
}
