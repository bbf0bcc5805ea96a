package northbound

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

const patience = 20 * time.Second

// handClock is turned by hand; After never fires.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *handClock) After(time.Duration) <-chan time.Time { return nil }

// fakeSite is a site in memory.
type fakeSite struct {
	mu      sync.Mutex
	models  map[string]map[string]model.Value
	chans   map[string]map[string]model.Value
	err     error
	result  model.CommandResult
	later   *model.CommandResult // of all commands but the first
	problem error
	given   []model.Command
	hold    chan struct{} // commands wait for it
	asked   func()        // called when values are asked for
}

func (f *fakeSite) Values(_ context.Context, id string) (map[string]model.Value, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked != nil {
		f.asked()
	}
	if f.err != nil {
		return nil, f.err
	}
	v, ok := f.models[id]
	if !ok {
		return nil, channel.ErrNoModel
	}
	return v, nil
}

func (f *fakeSite) ChannelValues(_ context.Context, id string) (map[string]model.Value, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chans[id], f.err
}

func (f *fakeSite) Models(context.Context) ([]model.Instance, error) {
	return nil, errors.New("not asked here")
}

func (f *fakeSite) Watch(ctx context.Context, fn func(model.Update)) error {
	fn(model.Update{})
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeSite) Control(ctx context.Context, c model.Command) (model.CommandResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given = append(f.given, c)
	hold := f.hold
	if hold != nil {
		f.mu.Unlock()
		<-hold
		f.mu.Lock()
	}
	if f.later != nil && len(f.given) > 1 {
		return *f.later, f.problem
	}
	return f.result, f.problem
}

// bench is a server without a network: one unit's handler and what is behind it.
type bench struct {
	unit
	site  *fakeSite
	clock *handClock
}

func newBench(tb testing.TB, m Map, opts ...Option) *bench {
	tb.Helper()
	o := newOptions(opts)
	l, err := m.compile(255)
	if err != nil {
		tb.Fatal(err)
	}
	clock := &handClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	b := &bench{site: &fakeSite{result: model.CommandResult{State: model.CommandExecuted}}, clock: clock}
	s := &serving{id: "scada", opts: o, log: slog.New(slog.DiscardHandler), quiet: slog.New(slog.DiscardHandler), clock: clock, north: b.site}
	s.image = newImage(l, o, clock.Now)
	s.refresher = newRefresher(s.image, b.site, channel.ServerSetup{Clock: clock, Log: s.log, Report: func(...string) {}})
	b.unit = unit{s, l.units[1]}
	return b
}

// show sets the values of model m and has them read.
func (b *bench) show(values map[string]model.Value) {
	b.site.mu.Lock()
	b.site.models = map[string]map[string]model.Value{"m": values}
	b.site.mu.Unlock()
	b.reread()
}

func (b *bench) reread() {
	for _, s := range b.image.sources {
		b.refresher.read(context.Background(), s)
	}
}

func (b *bench) holding(address uint16, n int) ([]uint16, error) {
	dst := make([]uint16, n)
	return dst, b.ReadRegisters(context.Background(), server.HoldingRegister, address, dst)
}

func (b *bench) good(v float64) model.Value { return model.Value{Value: v, Time: b.clock.Now()} }
