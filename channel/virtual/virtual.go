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

// driver is a channel.Driver, channel.Writer, channel.Selector and
// channel.Demander.
type driver struct {
	setup  channel.Setup
	device *Device

	// These are Connect's and Read's, which never run at a time.
	signals []signal        // class by class
	classes []channel.Class // their Points are not used
	ends    []int           // by class: where its signals end
	samples []model.Sample
	demand  []int     // the signals that are read on demand now
	start   time.Time // of the signals: the first Connect
	table   *channel.Timetable

	mu     sync.Mutex
	closed chan struct{} // closed by Close; nil while not connected
	breaks int           // of the device when the connection was made
	asked  map[string]struct{}
	wake   chan struct{} // something was asked for
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
	d := &driver{setup: s, device: o.device, samples: make([]model.Sample, len(s.Points)), wake: make(chan struct{}, 1)}
	d.classes = s.Classes()
	d.table = channel.NewTimetable("", d.classes) // no device to be spared
	for _, c := range d.classes {
		for _, i := range c.Points {
			p := s.Points[i]
			a, ok := addresses[p.ID]
			if !ok {
				continue
			}
			if target, ok := addresses[a.target]; a.shape == follow && (!ok || target.shape != setpoint) {
				wrong(p, fmt.Errorf("the channel has no setpoint %q", a.target))
			}
			d.signals = append(d.signals, newSignal(p, a, o.seed, s.ID))
		}
		d.ends = append(d.ends, len(d.signals))
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
	var once []int
	for k, c := range d.classes {
		if c.Name == channel.ScanOnce {
			once = append(once, k)
		}
	}
	d.table.Start(now, once...)
	d.demand = d.demand[:0]

	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = nil
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

// Read returns the points of the next scan class that is due: all at once after
// Connect, and then each class by its period. A round that comes late moves none
// after it, and those that were missed are left out.
func (d *driver) Read(ctx context.Context) ([]model.Sample, error) {
	closed, breaks := d.connection()
	if closed == nil {
		return nil, d.notConnected("closed")
	}
	var due, timeout <-chan time.Time
	var until time.Time
	for {
		at := d.device.state()
		if at.offline || at.breaks != breaks {
			return nil, d.notConnected("the virtual device went offline")
		}
		now := d.setup.Clock.Now()
		d.follow(now)
		switch wait, ok := d.table.Wait(now); {
		case !ok: // nothing to wait for but the end, or a demand
		case wait > 0:
			if due == nil || now.Add(wait).Before(until) {
				until = now.Add(wait)
				due = d.setup.Clock.After(wait)
			}
		case at.silent:
			if timeout == nil {
				timeout = d.setup.Clock.After(d.setup.Timeout)
			}
		case ctx.Err() == nil:
			if samples := d.round(now); len(samples) > 0 {
				return samples, nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-closed:
			return nil, d.notConnected("closed")
		case <-at.changed:
		case <-d.wake:
		case <-due:
			due = nil
		case <-timeout:
			d.round(d.setup.Clock.Now()) // lost
			return nil, fmt.Errorf("channel %s: the virtual device did not answer within %s", d.setup.ID, d.setup.Timeout)
		}
	}
}

// round reads the next class that is due.
func (d *driver) round(now time.Time) []model.Sample {
	k, ok := d.table.Pick(now)
	if !ok {
		return nil
	}
	d.table.End(k)
	t := now.Sub(d.start).Seconds()
	if d.classes[k].Name == channel.ScanDemand {
		for n, i := range d.demand {
			d.device.sample(t, d.signals[i:i+1], d.samples[n:])
		}
		samples := d.samples[:len(d.demand)]
		d.demand = d.demand[:0]
		return samples
	}
	signals := d.signals[d.ends[k-1]:d.ends[k]] // the first class is that of demands
	d.device.sample(t, signals, d.samples)
	return d.samples[:len(signals)]
}
