package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/voltageems/voltage/model"
)

// state is what the clients were last told: the models and their values, each
// value in its JSON form, so that it is encoded once for all clients and compared
// by its bytes.
type state struct {
	models map[string]modelForm
	values map[string]map[string]json.RawMessage
}

// read returns the state as it is now and, by model, the values that differ from
// those of s; s stays as it is. It reads the dirty models, or all with full, and
// asks which models there are with list, or when a dirty one is new. redefined tells that models came, went
// or changed in their definition, or that a value is gone: what a list of changes
// cannot say.
func (s *state) read(ctx context.Context, site Site, dirty map[string]struct{}, list, full bool) (
	now *state, changes map[string]*change, redefined bool, err error,
) {
	now, changes = &state{values: map[string]map[string]json.RawMessage{}}, map[string]*change{}
	if s != nil {
		now.models = s.models
	}
	for id := range dirty {
		if _, ok := now.models[id]; !ok {
			list = true
		}
	}
	if s == nil || list {
		if now.models, err = readModels(ctx, site); err != nil {
			return nil, nil, false, err
		}
	}
	redefined = s == nil || !reflect.DeepEqual(now.models, s.models)
	var due []string
	for id := range now.models {
		if s != nil {
			before, known := s.values[id]
			if _, isDirty := dirty[id]; known && !isDirty && !full {
				now.values[id] = before
				continue
			}
		}
		due = append(due, id)
	}
	read, err := site.ValuesOf(ctx, due...)
	if err != nil {
		return nil, nil, false, fmt.Errorf("reading the values of the models: %w", err)
	}
	for _, id := range due {
		var before map[string]json.RawMessage
		known := false
		if s != nil {
			before, known = s.values[id]
		}
		values, ok := read[id]
		if !ok { // removed since the models were listed, or not stored yet
			redefined = redefined || known
			continue
		}
		encoded := make(map[string]json.RawMessage, len(values))
		for name, v := range values {
			if encoded[name], err = json.Marshal(newValueForm(v)); err != nil {
				return nil, nil, false, fmt.Errorf("value %s of model %s: %w", name, id, err)
			}
		}
		now.values[id] = encoded
		changed, gone := difference(before, encoded)
		redefined = redefined || gone
		if len(changed) > 0 {
			if changes[id], err = newChange(id, changed); err != nil {
				return nil, nil, false, err
			}
		}
	}
	return now, changes, redefined, nil
}

// change is what changed in a model. It is made once for all clients, which must not
// change it.
type change struct {
	model  string
	values map[string]json.RawMessage
	text   []byte // as a member of a JSON object: the id, and the values
}

func newChange(id string, values map[string]json.RawMessage) (*change, error) {
	name, err := json.Marshal(id)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", id, err)
	}
	body, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("values of model %s: %w", id, err)
	}
	return &change{id, values, slices.Concat(name, []byte{':'}, body)}, nil
}

func readModels(ctx context.Context, site Site) (map[string]modelForm, error) {
	models, err := site.Models(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the models: %w", err)
	}
	forms := make(map[string]modelForm, len(models))
	for _, m := range models {
		forms[m.ID] = newModelForm(site, m.Clone())
	}
	return forms, nil
}

// difference returns what of after is new or differs, and whether anything of
// before is gone.
func difference(before, after map[string]json.RawMessage) (changed map[string]json.RawMessage, gone bool) {
	changed = map[string]json.RawMessage{}
	for name, v := range after {
		if !bytes.Equal(v, before[name]) {
			changed[name] = v
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			return changed, true
		}
	}
	return changed, false
}

// snapshotModel is a model in a snapshot.
type snapshotModel struct {
	modelForm
	Values map[string]json.RawMessage `json:"values"`
}

// snapshotMaker makes the snapshots of one pass; those who follow everything share
// one.
type snapshotMaker struct {
	hub      *hub
	alarms   []model.Alarm
	channels []model.ChannelStatus
	ends     map[string]string // of the journals, before alarms were read
	whole    []byte
}

func (m *snapshotMaker) make(sub *subscription) ([]byte, error) {
	if sub.whole() && m.whole != nil {
		return m.whole, nil
	}
	state := m.hub.cache
	models := map[string]snapshotModel{}
	for id, form := range state.models {
		names, ok := sub.follows(id)
		if !ok {
			continue
		}
		values := state.values[id]
		if values == nil {
			values = map[string]json.RawMessage{}
		}
		models[id] = snapshotModel{modelForm: form, Values: only(values, names)}
	}
	alarms, channels := list(m.alarms), list(m.channels)
	if !sub.alarms {
		alarms = []model.Alarm{}
	}
	if !sub.channels {
		channels = []model.ChannelStatus{}
	}
	body, err := json.Marshal(map[string]any{
		"site": m.hub.site.Name(), "now": m.hub.clock.Now().UnixMilli(), "models": models, "alarms": alarms, "channels": channels,
		"positions": m.ends,
	})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if sub.whole() {
		m.whole = body
	}
	return body, nil
}
