package scripts

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// What tests of alarm rules ask of a site beside what an engine does.

// AlarmTimer returns when AlarmTick has something to do next, apart from channels;
// zero for never.
func (p *Plane) AlarmTimer(ctx context.Context) (time.Time, error) {
	list, err := p.client.ZRangeWithScores(ctx, p.keys.timers(), 0, 0).Result()
	if err != nil || len(list) == 0 {
		return time.Time{}, storeError("reading the timers", err)
	}
	return time.UnixMilli(int64(list[0].Score)), nil
}

// PutAlarmRuleText stores the text of a rule as another program may have written
// it, whatever it is. Reconcile takes note of it.
func (p *Plane) PutAlarmRuleText(ctx context.Context, modelID, point, id, text string) error {
	return storeError("storing an alarm rule", p.client.HSet(ctx, p.keys.alarmRules(modelID, point), id, text).Err())
}

// WaitingNotifications returns what waits in notification:queue as it stands
// there, the oldest first and at most so many, and leaves it there.
func (p *Plane) WaitingNotifications(ctx context.Context, limit int) ([]string, error) {
	if limit < 1 {
		return nil, fmt.Errorf("%w: limit %d: want at least 1", model.ErrInvalid, limit)
	}
	list, err := p.client.LRange(ctx, p.keys.key("notification", "queue"), int64(-limit), -1).Result()
	slices.Reverse(list) // the newest is the first of a list
	return list, storeError("reading notification:queue", err)
}
