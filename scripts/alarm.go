package scripts

import (
	"cmp"
	"context"
	"fmt"
	"slices"

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
