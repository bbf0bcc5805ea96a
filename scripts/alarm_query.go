package scripts

import (
	"cmp"
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// idsAtOnce is how many ids of closed alarms are read in one round trip.
const idsAtOnce = 1000

// QueryAlarms returns the selected alarms, by id: in the order in which they were
// raised, or the other way round. The next page begins after the last id of this
// one; a page that is not full is the last. It holds the ids of all open and closed
// alarms at most, and the records of some hundreds.
func (p *Plane) QueryAlarms(ctx context.Context, q model.AlarmQuery) ([]model.Alarm, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	ids, err := p.alarmIDs(ctx, q)
	if err != nil {
		return nil, err
	}
	limit := cmp.Or(q.Limit, model.DefaultAlarmLimit)
	list := []model.Alarm{}
	for some := range slices.Chunk(ids, min(limit, alarmsAtOnce)) {
		read, err := p.alarmRecords(ctx, nil, some)
		if err != nil {
			return nil, err
		}
		for _, a := range read {
			if !q.Matches(a) {
				continue
			}
			if list = append(list, a); len(list) == limit {
				return list, nil
			}
		}
	}
	return list, nil
}

// alarmIDs returns the ids that may be selected, in order, behind q.After.
func (p *Plane) alarmIDs(ctx context.Context, q model.AlarmQuery) (ids []string, err error) {
	// The open ones first: one that is closed meanwhile is then in both.
	if q.WantsOpen() {
		if ids, err = p.client.SMembers(ctx, p.keys.alarmActive()).Result(); err != nil {
			return nil, storeError("reading the open alarms", err)
		}
	}
	// From the newest on: those that come meanwhile move the others to a later
	// page, so that none is left out.
	for from := int64(0); q.WantsClosed(); from += idsAtOnce {
		page, err := p.client.ZRevRange(ctx, p.keys.alarmClosed(), from, from+idsAtOnce-1).Result()
		if err != nil {
			return nil, storeError("reading the closed alarms", err)
		}
		if ids = append(ids, page...); len(page) < idsAtOnce {
			break
		}
	}
	ids = slices.DeleteFunc(ids, func(id string) bool {
		if !number(id) || q.After == "" {
			return !number(id)
		}
		if q.Newest {
			return compareAlarmIDs(id, q.After) >= 0
		}
		return compareAlarmIDs(id, q.After) <= 0
	})
	slices.SortFunc(ids, compareAlarmIDs)
	ids = slices.Compact(ids)
	if q.Newest {
		slices.Reverse(ids)
	}
	return ids, nil
}

// AlarmCounts counts the alarms. It reads five fields of each open one.
func (p *Plane) AlarmCounts(ctx context.Context) (model.AlarmCounts, error) {
	c := model.AlarmCounts{Statuses: map[model.AlarmStatus]int{}, Severities: map[model.Severity]int{},
		Suppressions: map[model.Suppression]int{}, Unacknowledged: map[model.Severity]int{}}
	pipe := p.client.Pipeline()
	active, closed, shelved := pipe.SMembers(ctx, p.keys.alarmActive()), pipe.ZCard(ctx, p.keys.alarmClosed()), pipe.HLen(ctx, p.keys.alarmShelved())
	if _, err := pipe.Exec(ctx); err != nil {
		return c, storeError("counting the alarms", err)
	}
	c.Closed, c.Unannounced = int(closed.Val()), int(shelved.Val())
	for some := range slices.Chunk(active.Val(), alarmsAtOnce) {
		pipe := p.client.Pipeline()
		records := make([]*redis.SliceCmd, len(some))
		for i, id := range some {
			records[i] = pipe.HMGet(ctx, p.keys.alarm(id), "status", "severity", "suppression", "chattering", "acknowledged_at")
		}
		_, _ = pipe.Exec(ctx) // each command's own error is looked at
		for _, r := range records {
			fields, err := r.Result()
			if err != nil && !isAnswer(err) {
				return c, storeError("counting the alarms", err)
			}
			countAlarm(&c, fields)
		}
	}
	return c, nil
}

// countAlarm counts a record of which these fields were read.
func countAlarm(c *model.AlarmCounts, fields []any) {
	var text [5]string
	for i := range min(len(fields), len(text)) {
		text[i], _ = fields[i].(string)
	}
	status, severity, suppression := model.AlarmStatus(text[0]), model.Severity(text[1]), model.Suppression(text[2])
	if status == "" || status == model.AlarmClosed {
		return // no record, or it was closed in this moment
	}
	c.Open++
	c.Statuses[status]++
	c.Severities[severity]++
	if suppression != "" {
		c.Suppressions[suppression]++
	} else if unacknowledged(status, text[4] != "") {
		c.Unacknowledged[severity]++
	}
	if text[3] == "1" {
		c.Chattering++
	}
}

// unacknowledged reports whether nobody took note of an alarm yet. A latched one
// keeps its status when somebody does; noted tells.
func unacknowledged(s model.AlarmStatus, noted bool) bool {
	return s == model.AlarmActive || s == model.AlarmCleared || s == model.AlarmLatched && !noted
}
