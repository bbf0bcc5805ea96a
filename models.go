package voltage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/voltageems/voltage/calc"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// RegisterModel adds a model, or replaces the one of the same id. Its bindings
// may name channels and points that do not exist yet, and its parent and the
// inputs of its calculations models that come later; Problems lists them. The
// limits of its Points narrow those of the points of this engine's channels.
//
// Expressions that cannot be parsed, and a model that with the registered ones
// makes a circle of parents or calculations, are refused.
func (e *Engine) RegisterModel(m model.Instance) error {
	if err := m.Validate(); err != nil {
		return err
	}
	r := e.registry.snapshot()
	if r.models == nil {
		r.models = map[string]model.Instance{}
	}
	r.models[m.ID] = m
	if err := checkModels(slices.Collect(maps.Values(r.models))); err != nil {
		return err
	}
	return e.registerModel(m)
}

// registerModel is RegisterModel for a model that was checked.
func (e *Engine) registerModel(m model.Instance) error {
	m = m.Clone()
	id := model.CalculationChannel(m.ID)
	if len(m.Calculations) > 0 {
		c, err := e.calculationChannel(m)
		if err != nil {
			return err
		}
		m = bindCalculations(m)
		if err := e.registerChannel(c); err != nil && !stored(err) {
			return err
		}
	}
	var before model.Instance
	err := e.change("model:"+m.ID, func() {
		before = e.registry.model(m.ID)
		put(&e.registry, &e.registry.models, m.ID, m)
	}, func(ctx context.Context) error {
		// The limits first, for as soon as the model is there it takes commands.
		if err := e.putNarrowed(ctx, before, m); err != nil {
			return err
		}
		return errors.Join(e.plane.PutModel(ctx, m), e.plane.Remember(ctx, e.cfg.Engine, "model:"+m.ID))
	}, nil)
	if _, ok := e.registry.channel(id); ok && len(m.Calculations) == 0 {
		err = errors.Join(err, e.removeChannel(id))
	}
	return err
}

// stored reports whether an error is the store's: then the definition is kept
// here and stored later.
func stored(err error) bool { return !errors.Is(err, model.ErrInvalid) }

// RemoveModel forgets a model, its bindings, its calculations and its values.
func (e *Engine) RemoveModel(id string) error {
	before := e.registry.model(id)
	err := e.remove("model:"+id, func() bool { return take(&e.registry, &e.registry.models, id) }, nil)
	if errors.Is(err, scripts.ErrNotFound) {
		return err
	}
	if _, ok := e.registry.channel(model.CalculationChannel(id)); ok {
		err = errors.Join(err, e.removeChannel(model.CalculationChannel(id)))
	}
	if ctx, ok := e.running(); ok {
		err = errors.Join(err, e.putNarrowed(ctx, before))
	}
	return err
}

// SetModelEnabled disables a model at run time, or takes that back: it refuses
// commands, and its values, alarms and history go on. What was disabled so stays
// disabled, over restarts of engines and for new definitions of the model, for as
// long as the store keeps its data, until it is enabled again or the model is
// removed. It may be any model of the site.
//
// A model whose definition says Disabled cannot be enabled here:
// scripts.ErrConflict. scripts.ErrNotFound when there is no such model.
func (e *Engine) SetModelEnabled(ctx context.Context, id string, enabled bool) error {
	return e.noted(fmt.Sprintf("enabled %t", enabled), "model:"+id, e.setModelEnabled(ctx, id, enabled))
}

func (e *Engine) setModelEnabled(ctx context.Context, id string, enabled bool) error {
	if err := model.CheckID("model", id); err != nil {
		return err
	}
	if _, ok := e.running(); !ok {
		return ErrNotRunning
	}
	e.defining.Lock()
	defer e.defining.Unlock()
	if err := e.plane.SetModelEnabled(ctx, id, enabled); err != nil {
		return err
	}
	e.log.Info("a model was enabled or disabled", "model", id, "enabled", enabled)
	if err := e.plane.Reload(ctx); err != nil {
		e.log.Warn("changed definitions take effect within seconds", "error", err)
	}
	e.handler.Resync()
	return nil
}

// narrowed returns the points of a channel with the limits that models of this
// engine add.
func (r *registry) narrowed(c channel.Config) []model.Point {
	points := slices.Clone(c.Points)
	if model.IsCalculationChannel(c.ID) {
		return points // nothing of it is written
	}
	var index map[string]int
	for _, id := range slices.Sorted(maps.Keys(r.models)) {
		m := r.models[id]
		for name, info := range m.Points {
			if !info.Kind.Writable() || info.Min == nil && info.Max == nil && info.Step == 0 {
				continue
			}
			ref, err := model.ParseRef(m.Bindings(info.Kind)[name])
			if err != nil || ref.Owner != c.ID {
				continue
			}
			if index == nil {
				index = make(map[string]int, len(points))
				for i, p := range points {
					index[p.ID] = i
				}
			}
			if i, ok := index[ref.Name]; ok {
				points[i], _ = narrow(points[i], info) // Problems tells what does not fit
			}
		}
	}
	return points
}

// putNarrowed stores the points of channels whose limits the models change.
func (e *Engine) putNarrowed(ctx context.Context, models ...model.Instance) error {
	r := e.registry.snapshot()
	ids := map[string]bool{}
	for _, m := range models {
		for name, info := range m.Points {
			if ref, err := model.ParseRef(m.Bindings(info.Kind)[name]); err == nil && info.Kind.Writable() {
				ids[ref.Owner] = true
			}
		}
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if c, ok := r.channels[id]; ok {
			errs = append(errs, e.plane.PutPoints(ctx, id, r.narrowed(c)))
		}
	}
	return errors.Join(errs...)
}

// modelProblems names what is wrong with the models of this engine, among all
// definitions of the site: what is not bound or bound twice, units and limits
// that do not fit, parents and inputs of calculations that are not there.
func (e *Engine) modelProblems(d scripts.Definitions) []string {
	r := e.registry.snapshot()
	models := d.Models()
	var list []string
	for _, id := range slices.Sorted(maps.Keys(r.models)) {
		m := r.models[id]
		say := func(format string, args ...any) { list = append(list, "model "+id+": "+fmt.Sprintf(format, args...)) }
		if _, ok := models[m.Parent]; m.Parent != "" && !ok {
			say("its parent %s does not exist", m.Parent)
		}
		for _, f := range checkBindings(m, func(ref model.Ref) (model.Point, bool) {
			if c, ok := r.channels[ref.Owner]; ok { // as it is before limits are narrowed
				for _, p := range c.Points {
					if p.ID == ref.Name {
						return p, true
					}
				}
			}
			return d.Point(ref)
		}) {
			if len(f.field) == 2 { // the name of a point
				say("%v: %s", f.field[1], f.text)
				continue
			}
			say("%s", f.text)
		}
		for _, name := range slices.Sorted(maps.Keys(m.Points)) {
			info := m.Points[name]
			ref, err := model.ParseRef(m.Bindings(info.Kind)[name])
			if err != nil || !info.Kind.Writable() || info.Min == nil && info.Max == nil && info.Step == 0 {
				continue
			}
			if _, own := r.channels[ref.Owner]; !own {
				if _, known := d.Point(ref); known {
					say("the limits of %s are not enforced: channel %s is another engine's", name, ref.Owner)
				}
			}
		}
		if compiled, err := calc.Compile(m); err == nil && len(m.Calculations) > 0 {
			_, missing := compiled.Bind(m, models)
			list = append(list, missing...)
		}
	}
	if circle := parentCircle(models); len(circle) > 0 {
		list = append(list, "models are parts of each other in a circle: "+joinCircle(circle))
	}
	all := slices.Collect(maps.Values(models))
	if err := calc.Cycle(all); err != nil {
		list = append(list, strings.TrimPrefix(loadText(err), "invalid: "))
	}
	return list
}

func joinCircle(circle []string) string { return strings.Join(circle, " is a part of ") }
