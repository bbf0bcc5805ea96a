package scripts

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// PutModel stores a model and binds its points. Bindings that the stored
// definition had and the new one has not are taken back. Nothing changes when
// the definition is the stored one.
func (p *Plane) PutModel(ctx context.Context, m model.Instance) error {
	if err := m.Validate(); err != nil {
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	enabled := "1"
	if disabled, err := p.isDisabled(ctx, m.ID); err != nil {
		return err
	} else if disabled || m.Disabled {
		enabled = "0"
	}
	args := []any{m.ID, string(text), enabled}
	for _, k := range model.Kinds() {
		bindings := m.Bindings(k)
		for _, name := range slices.Sorted(maps.Keys(bindings)) {
			args = append(args, k.String(), name, bindings[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Policies)) {
		text, err := json.Marshal(m.Policies[name])
		if err != nil {
			return err
		}
		args = append(args, "policy", name, string(text))
	}
	return p.define(ctx, "model", args...)
}

// DropModel removes a model, its bindings and its values.
func (p *Plane) DropModel(ctx context.Context, id string) error {
	if err := p.client.SRem(ctx, p.keys.disabled(), id).Err(); err != nil {
		return storeError("removing model "+id, err)
	}
	return p.define(ctx, "drop_model", id)
}

// PutPoints stores the definitions of all points of a channel; points that are
// not among them are forgotten.
func (p *Plane) PutPoints(ctx context.Context, channel string, points []model.Point) error {
	args := make([]any, 0, 1+2*len(points))
	args = append(args, channel)
	for _, pt := range points {
		text, err := json.Marshal(pt)
		if err != nil {
			return fmt.Errorf("channel %s: point %s: %w", channel, pt.ID, err)
		}
		args = append(args, pt.ID, string(text))
	}
	return p.define(ctx, "points", args...)
}

// DropPoints removes a channel's points, values and status.
func (p *Plane) DropPoints(ctx context.Context, channel string) error {
	return p.define(ctx, "drop_points", channel)
}

// PutAlarmRule stores a rule under its point.
func (p *Plane) PutAlarmRule(ctx context.Context, r model.AlarmRule) error {
	if err := r.Validate(); err != nil {
		return err
	}
	text, err := json.Marshal(r.WithDefaults())
	if err != nil {
		return err
	}
	return p.define(ctx, "alarm_rule", r.Model, r.Point, r.ID, string(text))
}

// DropAlarmRule removes a rule. An alarm that it raised stays until it is closed.
func (p *Plane) DropAlarmRule(ctx context.Context, modelID, point, id string) error {
	return p.define(ctx, "drop_alarm_rule", modelID, point, id)
}

// PutRule stores a rule.
func (p *Plane) PutRule(ctx context.Context, r model.Rule) error {
	if err := r.Validate(); err != nil {
		return err
	}
	conditions, err := json.Marshal(r.Conditions)
	if err != nil {
		return err
	}
	actions, err := json.Marshal(r.Actions)
	if err != nil {
		return err
	}
	disabled := "0"
	if r.Disabled {
		disabled = "1"
	}
	args := []any{r.ID, r.Title(), disabled, string(conditions), string(actions)}
	for _, source := range ruleSources(r) {
		args = append(args, source)
	}
	return p.define(ctx, "rule", args...)
}

// ruleSources lists the points that a rule looks at, each once.
func ruleSources(r model.Rule) []string {
	var list []string
	for _, c := range r.Conditions {
		source := model.Ref{Owner: c.Model, Name: c.Point}.String()
		if !slices.Contains(list, source) {
			list = append(list, source)
		}
	}
	return list
}

// DropRule removes a rule and its statistics.
func (p *Plane) DropRule(ctx context.Context, id string) error {
	return p.define(ctx, "drop_rule", id)
}

// touch tells every engine that definitions changed behind Voltage's back, and
// stores which rules look at which point anew.
func (p *Plane) touch(ctx context.Context, index map[string]string) error {
	args := make([]any, 0, 2*len(index))
	for source, rules := range index {
		args = append(args, source, rules)
	}
	return p.define(ctx, "touch", args...)
}

// define repeats a definition once after a broken connection, for it has no
// second effect.
func (p *Plane) define(ctx context.Context, op string, args ...any) error {
	_, err := p.retry(ctx, "site_config", op, args...)
	return err
}

// Remember notes that an engine of this name defined something, so that a later
// run can tell what it does not define any more.
func (p *Plane) Remember(ctx context.Context, engine string, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	members := make([]any, len(names))
	for i, name := range names {
		members[i] = name
	}
	return storeError("noting definitions", p.client.SAdd(ctx, p.keys.defined(engine), members...).Err())
}

// Forget takes back Remember.
func (p *Plane) Forget(ctx context.Context, engine, name string) error {
	return storeError("forgetting a definition", p.client.SRem(ctx, p.keys.defined(engine), name).Err())
}

// Remembered returns what engines of this name defined.
func (p *Plane) Remembered(ctx context.Context, engine string) ([]string, error) {
	names, err := p.client.SMembers(ctx, p.keys.defined(engine)).Result()
	return names, storeError("reading the definitions of engine "+engine, err)
}

// Present holds the name of an engine for ttl and reports whether id has it: two
// engines of one name would take each other's definitions for forgotten ones.
func (p *Plane) Present(ctx context.Context, engine, id string, ttl time.Duration) (bool, error) {
	key := p.keys.engine(engine)
	if ok, err := p.client.SetNX(ctx, key, id, ttl).Result(); err != nil || ok {
		return ok, storeError("holding the name of engine "+engine, err)
	}
	holder, err := p.client.Get(ctx, key).Result()
	if err != nil || holder != id {
		if isNil(err) {
			err = nil // it ended in between; the next time will do
		}
		return false, storeError("holding the name of engine "+engine, err)
	}
	return true, storeError("holding the name of engine "+engine, p.client.PExpire(ctx, key, ttl).Err())
}

// Absent gives the name back.
func (p *Plane) Absent(ctx context.Context, engine, id string) error {
	key := p.keys.engine(engine)
	holder, err := p.client.Get(ctx, key).Result()
	if err != nil || holder != id {
		if isNil(err) {
			err = nil
		}
		return storeError("giving back the name of engine "+engine, err)
	}
	return storeError("giving back the name of engine "+engine, p.client.Del(ctx, key).Err())
}
