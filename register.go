package voltage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/rule"
	"github.com/voltageems/voltage/scripts"
)

// registry is what was registered with this engine, whether it runs or not.
type registry struct {
	mu       sync.Mutex
	channels map[string]channel.Config
	models   map[string]model.Instance
	alarms   map[string]alarm.Rule // by "model:point:rule"
	rules    map[string]rule.Rule
	servers  map[string]channel.ServerConfig
}

func put[T any](r *registry, m *map[string]T, id string, v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if *m == nil {
		*m = map[string]T{}
	}
	(*m)[id] = v
}

func take[T any](r *registry, m *map[string]T, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := (*m)[id]
	delete(*m, id)
	return ok
}

func (r *registry) channelIDs() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.channels))
}

func (r *registry) channel(id string) (channel.Config, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.channels[id]
	return c, ok
}

// model returns a registered model, the zero value where there is none.
func (r *registry) model(id string) model.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.models[id]
}

// snapshot returns copies of the maps.
func (r *registry) snapshot() registry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return registry{channels: maps.Clone(r.channels), models: maps.Clone(r.models), alarms: maps.Clone(r.alarms), rules: maps.Clone(r.rules)}
}

func alarmKey(r alarm.Rule) string { return r.Model + ":" + r.Point + ":" + r.ID }

// RegisterChannel adds a channel, or replaces the one of the same id. On a
// running engine it starts at once.
func (e *Engine) RegisterChannel(c channel.Config) error {
	if model.IsCalculationChannel(c.ID) {
		return errReservedChannel(c.ID)
	}
	return e.registerChannel(c)
}

// errReservedChannel refuses the id of a channel that the engine makes.
func errReservedChannel(id string) error {
	return fmt.Errorf("%w: channel %s: ids that begin with calc. are those of calculations", model.ErrInvalid, id)
}

func (e *Engine) registerChannel(c channel.Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	c = c.WithDefaults()
	c.Points, c.Scans = slices.Clone(c.Points), maps.Clone(c.Scans)
	if c.Heartbeat != nil {
		c.Heartbeat = new(*c.Heartbeat)
	}
	// The driver is made once to check its settings and addresses.
	if _, err := c.NewDriver(e.log, e.cfg.Clock); err != nil {
		return err
	}
	if n := len(c.Points); n > 1000 {
		e.log.Warn("more than 1,000 points in one channel make large hashes in Redis; split the channel", "channel", c.ID, "points", n)
	}
	return e.change("points:"+c.ID, func() { put(&e.registry, &e.registry.channels, c.ID, c) }, func(ctx context.Context) error {
		e.stopChannel(c.ID)
		r := e.registry.snapshot()
		if err := e.plane.PutPoints(ctx, c.ID, r.narrowed(c)); err != nil {
			return err
		}
		return e.plane.Remember(ctx, e.cfg.Engine, "points:"+c.ID)
	}, func(run context.Context) { e.runChannel(run, c.ID) })
}

// RemoveChannel stops a channel and forgets its points and values.
// scripts.ErrNotFound when there is none.
func (e *Engine) RemoveChannel(id string) error {
	if model.IsCalculationChannel(id) {
		return errReservedChannel(id)
	}
	return e.removeChannel(id)
}

func (e *Engine) removeChannel(id string) error {
	return e.remove("points:"+id, func() bool { return take(&e.registry, &e.registry.channels, id) }, func() { e.stopChannel(id) })
}

// RegisterAlarm adds an alarm rule, or replaces the one of the same id at the
// same point. What it looks at, points or a channel, may come later: Problems
// names what is not there.
func (e *Engine) RegisterAlarm(r alarm.Rule) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.Enable != nil {
		r.Enable = new(*r.Enable)
	}
	return e.change("alarm:"+alarmKey(r), func() { put(&e.registry, &e.registry.alarms, alarmKey(r), r) }, func(ctx context.Context) error {
		return errors.Join(e.plane.PutAlarmRule(ctx, r), e.plane.Remember(ctx, e.cfg.Engine, "alarm:"+alarmKey(r)))
	}, nil)
}

// RemoveAlarm forgets an alarm rule. An alarm that it raised stays until it is
// closed.
func (e *Engine) RemoveAlarm(modelID, point, id string) error {
	key := alarmKey(alarm.Rule{Model: modelID, Point: point, ID: id})
	return e.remove("alarm:"+key, func() bool { return take(&e.registry, &e.registry.alarms, key) }, nil)
}

// RegisterRule adds a rule, or replaces the one of the same id.
func (e *Engine) RegisterRule(r rule.Rule) error {
	if err := r.Validate(); err != nil {
		return err
	}
	r.Conditions, r.Actions = slices.Clone(r.Conditions), slices.Clone(r.Actions)
	return e.change("rule:"+r.ID, func() { put(&e.registry, &e.registry.rules, r.ID, r) }, func(ctx context.Context) error {
		return errors.Join(e.plane.PutRule(ctx, r), e.plane.Remember(ctx, e.cfg.Engine, "rule:"+r.ID))
	}, nil)
}

// RemoveRule forgets a rule.
func (e *Engine) RemoveRule(id string) error {
	return e.remove("rule:"+id, func() bool { return take(&e.registry, &e.registry.rules, id) }, nil)
}

// change records a definition under the name by which Remember knows it and, on
// a running engine, stores it. What the store does not take is reported, and
// stored by the reconciliation.
func (e *Engine) change(name string, record func(), store func(context.Context) error, then func(run context.Context)) error {
	e.defining.Lock()
	defer e.defining.Unlock()
	record()
	return e.noted("register", name, e.settle(name, store, then))
}

// noted puts a change that the program itself made to the running engine into the
// audit journal, and returns what came of it.
func (e *Engine) noted(action, target string, err error) error {
	// What a model's calculations bring along is part of the model.
	if _, ok := e.running(); !ok || strings.HasPrefix(target, "points:calc.") {
		return err
	}
	entry := model.AuditEntry{Time: e.cfg.Clock.Now(), Who: e.cfg.Engine, From: "go", Action: action, Target: target, Result: "ok"}
	if err != nil {
		entry.Result, entry.Detail = "failed", err.Error()
	}
	e.handler.Audit(entry)
	return err
}

// remove is change for a definition that goes; stop ends what runs by it.
func (e *Engine) remove(name string, take func() bool, stop func()) error {
	e.defining.Lock()
	defer e.defining.Unlock()
	if !take() {
		return fmt.Errorf("%s: %w", name, scripts.ErrNotFound)
	}
	return e.noted("remove", name, e.settle(name, func(ctx context.Context) error {
		if stop != nil {
			stop()
		}
		return e.drop(ctx, name)
	}, nil))
}

// settle brings a change to the store. e.defining is held.
func (e *Engine) settle(name string, store func(context.Context) error, then func(run context.Context)) error {
	ctx, ok := e.running()
	if !ok {
		return nil
	}
	err := store(ctx)
	if err != nil {
		if e.unsettled == nil {
			e.unsettled = map[string]struct{}{}
		}
		e.unsettled[name] = struct{}{}
		err = fmt.Errorf("%s is changed here, and will be in the store when it answers: %w", name, err)
	} else {
		delete(e.unsettled, name)
	}
	if then != nil { // also when it is not stored: a channel runs and waits for the store
		then(ctx)
	}
	if err != nil {
		return err
	}
	if err := e.plane.Reload(ctx); err != nil {
		e.log.Warn("changed definitions take effect within seconds", "error", err)
	}
	e.redefined()
	e.handler.Resync()
	return nil
}

// catchUp stores what the store did not take before, and tidies.
func (e *Engine) catchUp(ctx context.Context) error {
	e.defining.Lock()
	defer e.defining.Unlock()
	if len(e.unsettled) > 0 {
		if err := e.define(ctx); err != nil {
			return err
		}
		r := e.registry.snapshot()
		current := r.names()
		for name := range e.unsettled {
			if !slices.Contains(current, name) {
				if err := e.drop(ctx, name); err != nil && !errors.Is(err, scripts.ErrNotFound) {
					return err
				}
			}
			delete(e.unsettled, name)
		}
		if err := e.plane.Reload(ctx); err != nil {
			return err
		}
		e.handler.Resync()
	}
	return e.tidy(ctx)
}

// define stores every definition of this engine. It is also what the plane
// calls to restore them after the data was lost.
func (e *Engine) define(ctx context.Context) error {
	r := e.registry.snapshot()
	for _, id := range slices.Sorted(maps.Keys(r.channels)) {
		if err := e.plane.PutPoints(ctx, id, r.narrowed(r.channels[id])); err != nil {
			return fmt.Errorf("channel %s: %w", id, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.models)) {
		if err := e.plane.PutModel(ctx, r.models[id]); err != nil {
			return fmt.Errorf("model %s: %w", id, err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.alarms)) {
		if err := e.plane.PutAlarmRule(ctx, r.alarms[key]); err != nil {
			return fmt.Errorf("alarm rule %s: %w", key, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.rules)) {
		if err := e.plane.PutRule(ctx, r.rules[id]); err != nil {
			return fmt.Errorf("rule %s: %w", id, err)
		}
	}
	if err := e.plane.SetInitialSyncModes(ctx, e.cfg.Scripts.Sync); err != nil {
		return err
	}
	return e.plane.Remember(ctx, e.cfg.Engine, r.names()...)
}

// names lists what was registered, as Remember keeps it.
func (r *registry) names() []string {
	var list []string
	for id := range r.channels {
		list = append(list, "points:"+id)
	}
	for id := range r.models {
		list = append(list, "model:"+id)
	}
	for key := range r.alarms {
		list = append(list, "alarm:"+key)
	}
	for id := range r.rules {
		list = append(list, "rule:"+id)
	}
	slices.Sort(list)
	return list
}

// presence is how long the name of an engine that died stays taken.
const presence = 3 * reconcilePeriod

// tidy removes what was forgotten, once, as soon as no other engine holds this
// one's name. e.defining is held.
func (e *Engine) tidy(ctx context.Context) error {
	mine, err := e.plane.Present(ctx, e.cfg.Engine, e.id, presence)
	if err == nil && !mine && !e.shared {
		e.shared = true
		e.log.Warn("another engine of this name runs on the site, or died just now: give each a name of its own", "engine", e.cfg.Engine)
	}
	if err != nil || !mine || e.tidied {
		return err
	}
	if err := e.dropForgotten(ctx); err != nil {
		return err // and again at the next reconciliation
	}
	e.tidied = true
	return nil
}

// dropForgotten removes what an engine of this name had defined in an earlier
// run and does not define any more: a rule that was deleted from the
// configuration must not go on raising alarms.
func (e *Engine) dropForgotten(ctx context.Context) error {
	known, err := e.plane.Remembered(ctx, e.cfg.Engine)
	if err != nil {
		return err
	}
	r := e.registry.snapshot()
	current := r.names()
	for _, name := range known {
		if slices.Contains(current, name) {
			continue
		}
		if err := e.drop(ctx, name); err != nil && !errors.Is(err, scripts.ErrNotFound) {
			return fmt.Errorf("removing %s, which is not configured any more: %w", name, err)
		}
		e.log.Info("removed what is not configured any more", "definition", name)
	}
	return nil
}

// drop removes one definition from the store.
func (e *Engine) drop(ctx context.Context, name string) error {
	kind, id, _ := strings.Cut(name, ":")
	var err error
	switch kind {
	case "points":
		err = e.plane.DropPoints(ctx, id)
	case "model":
		err = e.plane.DropModel(ctx, id)
	case "rule":
		err = e.plane.DropRule(ctx, id)
	case "alarm":
		parts := strings.SplitN(id, ":", 3)
		if len(parts) == 3 {
			err = e.plane.DropAlarmRule(ctx, parts[0], parts[1], parts[2])
		}
	}
	if err != nil && !errors.Is(err, scripts.ErrNotFound) {
		return err
	}
	return errors.Join(err, e.plane.Forget(ctx, e.cfg.Engine, name))
}
