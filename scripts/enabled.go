package scripts

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/voltageems/voltage/model"
)

// SetModelEnabled disables a model at run time, or takes that back: it refuses
// commands, and goes on with its values. What was disabled so stays disabled,
// over restarts and new definitions, until it is enabled here again or the model
// is dropped. A model whose definition says Disabled stays disabled in any case:
// then enabling fails with ErrConflict. ErrNotFound when there is no such model.
func (p *Plane) SetModelEnabled(ctx context.Context, id string, enabled bool) error {
	text, err := p.client.HGet(ctx, p.keys.key("model", id), "json").Result()
	if isNil(err) {
		return fmt.Errorf("model %.80q: %w", id, ErrNotFound)
	}
	if err != nil {
		return storeError("reading model "+id, err)
	}
	var m model.Instance
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return fmt.Errorf("%w: model %s: its definition: %w", model.ErrInvalid, id, err)
	}
	switch {
	case enabled && m.Disabled:
		return fmt.Errorf("model %s: its definition says that it is disabled: %w", id, ErrConflict)
	case enabled:
		err = p.client.SRem(ctx, p.keys.disabled(), id).Err()
	default:
		err = p.client.SAdd(ctx, p.keys.disabled(), id).Err()
	}
	if err != nil {
		return storeError("enabling or disabling model "+id, err)
	}
	return p.PutModel(ctx, m)
}

// isDisabled reports whether a model was disabled at run time.
func (p *Plane) isDisabled(ctx context.Context, id string) (bool, error) {
	disabled, err := p.client.SIsMember(ctx, p.keys.disabled(), id).Result()
	return disabled, storeError("reading which models are disabled", err)
}
