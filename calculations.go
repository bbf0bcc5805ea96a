package voltage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/voltageems/voltage/calc"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// The calculations of a model are a channel like any other, whose driver computes
// instead of asking a device: so one engine at a time computes, its results are
// fenced and stored once, and alarms, rules and history know them.

// calculationPause is the least time between two evaluations of a model for every
// calculationInputs that it has, so that inputs which change all the time cost a
// bounded effort. The first change after a quiet time is evaluated at once.
const (
	calculationPause  = 20 * time.Millisecond
	calculationInputs = 50
)

// calculationRecheck is how often a model that remembers nothing is evaluated
// while nothing changes: nobody publishes that a channel is run no more.
const calculationRecheck = reconcilePeriod

// calculations are the drivers that compute.
type calculations struct {
	any atomic.Bool // anything is computed

	mu      sync.RWMutex
	running map[*calculator][]model.Ref
	// index says whom a changed point concerns: model → name → drivers.
	index   map[string]map[string][]*calculator
	defined scripts.Definitions
}

// update wakes the drivers that a change concerns. It is called for every change
// of the site and costs next to nothing where nobody waits for it.
func (c *calculations) update(u model.Update) {
	if !c.any.Load() {
		return
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	names, ok := c.index[u.Model]
	if !ok {
		return
	}
	for _, p := range u.Points {
		for _, k := range names[p.Name] {
			k.wakeUp()
		}
	}
}

// wakeAll has everything evaluated: updates may have been missed.
func (c *calculations) wakeAll() {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for k := range c.running {
		k.wakeUp()
	}
}

// redefined tells the drivers of changed definitions.
func (c *calculations) redefined(d scripts.Definitions) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Same(c.defined) {
		return
	}
	c.defined = d
	for k := range c.running {
		k.rebind.Store(true)
		k.wakeUp()
	}
}

// listen makes the changes of the points known to a driver, and no others any more;
// off takes it out.
func (c *calculations) listen(k *calculator, points []model.Ref, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ref := range c.running[k] {
		names := c.index[ref.Owner]
		if names[ref.Name] = slices.DeleteFunc(names[ref.Name], func(other *calculator) bool { return other == k }); len(names[ref.Name]) == 0 {
			delete(names, ref.Name)
		}
		if len(names) == 0 {
			delete(c.index, ref.Owner)
		}
	}
	delete(c.running, k)
	if on {
		if c.running == nil {
			c.running, c.index = map[*calculator][]model.Ref{}, map[string]map[string][]*calculator{}
		}
		c.running[k] = points
		for _, ref := range points {
			if c.index[ref.Owner] == nil {
				c.index[ref.Owner] = map[string][]*calculator{}
			}
			c.index[ref.Owner][ref.Name] = append(c.index[ref.Owner][ref.Name], k)
		}
	}
	c.any.Store(len(c.running) > 0)
}

// calculator computes the calculations of one model. It is the driver of their
// channel, so that it is connected only while this engine owns that.
type calculator struct {
	e      *Engine
	m      model.Instance
	clock  model.Clock
	wake   chan struct{}
	rebind atomic.Bool

	// of a connection
	model   *calc.Model
	inputs  []model.Ref
	values  []calc.Input
	names   []string
	keep    []time.Duration // by name: how often its state is stored; -1 never
	kept    []time.Time
	period  time.Duration
	samples []model.Sample
	last    time.Time
	fresh   bool // nothing was evaluated yet
}

func (k *calculator) wakeUp() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Connect takes up what the last owner stored.
func (k *calculator) Connect(ctx context.Context) error {
	if k.e.plane == nil {
		return fmt.Errorf("%w: %w", channel.ErrNotConnected, ErrNotRunning)
	}
	compiled, err := calc.Compile(k.m)
	if err != nil {
		return fmt.Errorf("%w: %w", channel.ErrNotConnected, err)
	}
	stored, err := k.e.plane.ChannelValues(ctx, model.CalculationChannel(k.m.ID))
	if err != nil {
		return fmt.Errorf("%w: %w", channel.ErrNotConnected, err)
	}
	k.names, k.period, k.fresh = compiled.Names(), calculationRecheck, true
	k.keep, k.kept = make([]time.Duration, len(k.names)), make([]time.Time, len(k.names))
	for i, name := range k.names {
		every, ok := compiled.Remembers(name)
		if k.keep[i] = every; !ok {
			k.keep[i] = -1
			continue
		}
		k.period = calc.Tick
		if text := stored[stateID(name)].Text; text != "" {
			if err := compiled.Load(name, text); err != nil {
				k.e.log.Warn("a calculation forgot what it remembered", "error", err)
			}
		}
	}
	compiled.Continue(k.model) // of the connection before, which the store may have lost
	k.model = compiled
	k.rebind.Store(true)
	k.e.calculations.listen(k, nil, true) // before bind reads the definitions, of whose changes it is told from here on
	return nil
}

// bind resolves the references anew where definitions changed.
func (k *calculator) bind(ctx context.Context) error {
	if !k.rebind.Swap(false) {
		return nil
	}
	d, err := k.e.plane.Definitions(ctx)
	if err != nil {
		k.rebind.Store(true)
		return err
	}
	k.inputs, _ = k.model.Bind(k.m, d.Models()) // Problems names what is missing
	k.values = make([]calc.Input, len(k.inputs))
	k.e.calculations.listen(k, k.inputs, true)
	k.fresh = true
	return nil
}

// Read waits until an input changes, or it is time, and computes.
func (k *calculator) Read(ctx context.Context) ([]model.Sample, error) {
	if err := k.bind(ctx); err != nil {
		return nil, err
	}
	if !k.fresh {
		select {
		case <-k.wake:
		case <-k.clock.After(k.period):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		least := calculationPause * time.Duration(1+len(k.inputs)/calculationInputs)
		if pause := least - k.clock.Now().Sub(k.last); pause > 0 && pause <= least {
			select {
			case <-k.clock.After(pause):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if err := k.bind(ctx); err != nil {
			return nil, err
		}
	}
	select {
	case <-k.wake: // what changed until now is seen now
	default:
	}
	k.last = k.clock.Now()
	values, now, err := k.e.plane.PointValues(ctx, k.inputs)
	if err != nil {
		return nil, err
	}
	k.fresh = false
	for i, v := range values {
		k.values[i] = calc.Input{Value: v.Value, Quality: v.Quality}
	}
	k.samples = k.samples[:0]
	for i, v := range k.model.Evaluate(now, k.values) {
		// What it remembers goes first: a result is never ahead of it.
		if k.keep[i] >= 0 && (k.kept[i].IsZero() || now.Sub(k.kept[i]) >= k.keep[i] || now.Before(k.kept[i])) {
			k.kept[i] = now
			k.samples = append(k.samples, model.Sample{Point: stateID(k.names[i]), Text: k.model.State(k.names[i])})
		}
		k.samples = append(k.samples, model.Sample{Point: k.names[i], Value: v.Value, Quality: v.Quality})
	}
	return k.samples, nil
}

// Close ends the connection.
func (k *calculator) Close(context.Context) error {
	k.e.calculations.listen(k, nil, false)
	return nil
}

// stateID is the point that has what a calculation remembers.
func stateID(name string) string { return "-" + name }

// calculationChannel is the channel that computes a model's calculations.
func (e *Engine) calculationChannel(m model.Instance) (channel.Config, error) {
	compiled, err := calc.Compile(m)
	if err != nil {
		return channel.Config{}, err
	}
	c := channel.Config{ID: model.CalculationChannel(m.ID), Name: "Calculations of " + m.Title(), Stale: -1,
		Driver: func(s channel.Setup) (channel.Driver, error) {
			return &calculator{e: e, m: m, clock: s.Clock, wake: make(chan struct{}, 1)}, nil
		}}
	for _, name := range slices.Sorted(maps.Keys(m.Calculations)) {
		k := m.Calculations[name]
		c.Points = append(c.Points, model.Point{ID: name, Kind: k.Kind(), Unit: k.Unit, Labels: k.Labels})
		if _, ok := compiled.Remembers(name); ok {
			c.Points = append(c.Points, model.Point{ID: stateID(name), Text: true})
		}
	}
	return c, nil
}

// bindCalculations binds the names of the calculations to their channel.
func bindCalculations(m model.Instance) model.Instance {
	for name, c := range m.Calculations {
		to := &m.Measurements
		if c.Signal {
			to = &m.Signals
		}
		*to = loadJoin(*to, map[string]string{name: model.Ref{Owner: model.CalculationChannel(m.ID), Name: name}.String()})
	}
	return m
}

// checkModels refuses models whose calculations cannot be, and models that are
// parts of each other or need each other in a circle.
func checkModels(list []model.Instance) error {
	var errs []error
	models := make(map[string]model.Instance, len(list))
	for _, m := range list {
		models[m.ID] = m
		if len(m.Calculations) == 0 {
			continue
		}
		if _, err := calc.Compile(m); err != nil {
			errs = append(errs, err)
		}
	}
	if circle := parentCircle(models); len(circle) > 0 {
		errs = append(errs, fmt.Errorf("%w: model %s: parent: a circle: %s", model.ErrInvalid, circle[0], joinCircle(circle)))
	}
	if len(errs) == 0 {
		errs = append(errs, calc.Cycle(list))
	}
	return errors.Join(errs...)
}
