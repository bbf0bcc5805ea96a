package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
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
	now *state, changes map[string]map[string]json.RawMessage, redefined bool, err error,
) {
	now = &state{values: map[string]map[string]json.RawMessage{}}
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
	changes = map[string]map[string]json.RawMessage{}
	for id := range now.models {
		var before map[string]json.RawMessage
		known := false
		if s != nil {
			before, known = s.values[id]
		}
		if _, isDirty := dirty[id]; known && !isDirty && !full {
			now.values[id] = before
			continue
		}
		values, err := readValues(ctx, site, id)
		if errors.Is(err, scripts.ErrNotFound) {
			redefined = redefined || known
			continue // removed since the models were listed, or not stored yet
		}
		if err != nil {
			return nil, nil, false, err
		}
		now.values[id] = values
		changed, gone := difference(before, values)
		redefined = redefined || gone
		if len(changed) > 0 {
			changes[id] = changed
		}
	}
	return now, changes, redefined, nil
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

func readValues(ctx context.Context, site Site, id string) (map[string]json.RawMessage, error) {
	values, err := site.Values(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading the values of model %s: %w", id, err)
	}
	encoded := make(map[string]json.RawMessage, len(values))
	for name, v := range values {
		if encoded[name], err = json.Marshal(newValueForm(v)); err != nil {
			return nil, fmt.Errorf("value %s of model %s: %w", name, id, err)
		}
	}
	return encoded, nil
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

// snapshotMaker makes the snapshots of one pass; those who follow all models
// share one.
type snapshotMaker struct {
	hub      *hub
	alarms   []model.Alarm
	channels []model.ChannelStatus
	whole    []byte
}

func (m *snapshotMaker) make(only map[string]struct{}) ([]byte, error) {
	if only == nil && m.whole != nil {
		return m.whole, nil
	}
	state := m.hub.cache
	models := map[string]snapshotModel{}
	for id, form := range state.models {
		if _, ok := only[id]; !ok && only != nil {
			continue
		}
		values := state.values[id]
		if values == nil {
			values = map[string]json.RawMessage{}
		}
		models[id] = snapshotModel{modelForm: form, Values: values}
	}
	body, err := json.Marshal(map[string]any{
		"site": m.hub.site.Name(), "now": m.hub.clock.Now().UnixMilli(),
		"models": models, "alarms": list(m.alarms), "channels": list(m.channels),
	})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if only == nil {
		m.whole = body
	}
	return body, nil
}
