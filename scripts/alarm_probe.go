package scripts

import (
	"context"
	"fmt"
	"time"

	"github.com/voltageems/voltage/model"
)

// AlarmTick lets time have its effect on alarms: delays that are over, shelving
// that ends, rules that were changed, and the rules of operator offline of the
// channels. It does at most some hundred things; more says that others are due.
// problems name what went wrong with single rules and held nobody up.
func (p *Plane) AlarmTick(ctx context.Context, channels ...string) (more bool, problems []string, err error) {
	args := make([]any, len(channels))
	for i, id := range channels {
		args[i] = id
	}
	reply, err := p.call(ctx, "alarm_tick", "", args...)
	if err != nil {
		return false, nil, err
	}
	if len(reply) < 3 {
		return false, nil, fmt.Errorf("%w alarm_tick: no count in the answer", ErrScript)
	}
	return reply[2] == "1", reply[3:], nil
}

// AlarmTimer returns when AlarmTick has something to do next, apart from channels;
// zero for never.
func (p *Plane) AlarmTimer(ctx context.Context) (time.Time, error) {
	list, err := p.client.ZRangeWithScores(ctx, p.keys.key("timers"), 0, 0).Result()
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
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 { // the newest is the first of a list
		list[i], list[j] = list[j], list[i]
	}
	return list, storeError("reading notification:queue", err)
}
