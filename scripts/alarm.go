package scripts

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/voltageems/voltage/model"
)

// OpenAlarms returns every alarm that is not closed, oldest first. There may be as
// many as there are alarm rules; QueryAlarms reads them in pages.
func (p *Plane) OpenAlarms(ctx context.Context) ([]model.Alarm, error) {
	ids, err := p.client.SMembers(ctx, p.keys.alarmActive()).Result()
	if err != nil {
		return nil, storeError("reading the open alarms", err)
	}
	list := make([]model.Alarm, 0, len(ids))
	for some := range slices.Chunk(ids, alarmsAtOnce) {
		if list, err = p.alarmRecords(ctx, list, some); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b model.Alarm) int { return cmp.Or(a.Raised.Compare(b.Raised), compareAlarmIDs(a.ID, b.ID)) })
	return list, nil
}

// Alarm returns one alarm's record, also of a closed one while it is kept.
func (p *Plane) Alarm(ctx context.Context, id string) (model.Alarm, error) {
	if !number(id) {
		return model.Alarm{}, fmt.Errorf("alarm %.40q: %w", id, ErrNotFound)
	}
	h, err := p.client.HGetAll(ctx, p.keys.alarm(id)).Result()
	if err != nil {
		return model.Alarm{}, storeError("reading alarm "+id, err)
	}
	a, ok := alarmRecord(h)
	if !ok {
		return model.Alarm{}, fmt.Errorf("alarm %s: %w", id, ErrNotFound)
	}
	return a, nil
}

// AlarmRules returns the rules stored for a point, by id. Malformed ones are
// left out; Reconcile reports them.
func (p *Plane) AlarmRules(ctx context.Context, modelID, point string) ([]model.AlarmRule, error) {
	h, err := p.client.HGetAll(ctx, p.keys.alarmRules(modelID, point)).Result()
	if err != nil {
		return nil, storeError("reading alarm rules", err)
	}
	var list []model.AlarmRule
	for id, text := range h {
		if r, err := parseAlarmRule(modelID, point, id, text); err == nil {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b model.AlarmRule) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// parseAlarmRule reads a stored rule as any program may have written it: ids
// come from the key, and the numbers may be texts.
func parseAlarmRule(modelID, point, id, text string) (model.AlarmRule, error) {
	var stored struct {
		Operator   model.Operator `json:"operator"`
		Threshold  looseNumber    `json:"threshold"`
		Hysteresis looseNumber    `json:"hysteresis"`
		Severity   model.Severity `json:"severity"`
		Message    string         `json:"message"`
		Disabled   bool           `json:"disabled"`
	}
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return model.AlarmRule{}, fmt.Errorf("%w: alarm rule %.64q of %s:%s: %w", model.ErrInvalid, id, modelID, point, err)
	}
	if !stored.Threshold.given {
		return model.AlarmRule{}, fmt.Errorf("%w: alarm rule %.64q of %s:%s: no threshold", model.ErrInvalid, id, modelID, point)
	}
	r := model.AlarmRule{
		ID: id, Model: modelID, Point: point, Operator: stored.Operator, Threshold: stored.Threshold.value,
		Hysteresis: stored.Hysteresis.value, Severity: stored.Severity, Message: stored.Message, Disabled: stored.Disabled,
	}.WithDefaults()
	return r, r.Validate()
}

// looseNumber is a JSON number, or a text with a number in it.
type looseNumber struct {
	value float64
	given bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *looseNumber) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	s := string(b)
	if s[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("%.40q is not a number", s)
	}
	n.value, n.given = v, true
	return nil
}
