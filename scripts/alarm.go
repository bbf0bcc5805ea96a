package scripts

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// OpenAlarms returns every alarm that is not closed, oldest first.
func (p *Plane) OpenAlarms(ctx context.Context) ([]model.Alarm, error) {
	ids, err := p.client.SMembers(ctx, p.keys.alarmActive()).Result()
	if err != nil {
		return nil, storeError("reading the open alarms", err)
	}
	pipe := p.client.Pipeline()
	records := make([]*redis.MapStringStringCmd, len(ids))
	for i, id := range ids {
		records[i] = pipe.HGetAll(ctx, p.keys.alarm(id))
	}
	if len(ids) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, storeError("reading the open alarms", err)
		}
	}
	list := make([]model.Alarm, 0, len(ids))
	for _, r := range records {
		if a, ok := alarmRecord(r.Val()); ok {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b model.Alarm) int {
		return cmp.Or(a.Raised.Compare(b.Raised), cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	})
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

// Acknowledge takes note of an alarm. One that was acknowledged before stays as
// it is and is no error.
func (p *Plane) Acknowledge(ctx context.Context, id, by, comment string) (model.Alarm, error) {
	return p.desk(ctx, "ack", id, by, comment)
}

// CloseAlarm ends an alarm whatever the value is, for alarms whose rule is gone.
// If the condition still holds, the next sample raises a new one.
func (p *Plane) CloseAlarm(ctx context.Context, id, by, comment string) (model.Alarm, error) {
	return p.desk(ctx, "close", id, by, comment)
}

func (p *Plane) desk(ctx context.Context, op, id, by, comment string) (model.Alarm, error) {
	if !number(id) {
		return model.Alarm{}, fmt.Errorf("alarm %.40q: %w", id, ErrNotFound)
	}
	if !model.PlainText(by, 64) || !model.PlainText(comment, 500) {
		return model.Alarm{}, fmt.Errorf("%w: alarm %s: want plain text of at most 64 bytes for a name, 500 for a comment", model.ErrInvalid, id)
	}
	if _, err := p.retry(ctx, "alarm_desk", op, id, by, comment); err != nil {
		return model.Alarm{}, fmt.Errorf("alarm %s: %w", id, err)
	}
	return p.Alarm(ctx, id)
}

// AlarmJournal returns transitions after a position; "" is the oldest kept.
func (p *Plane) AlarmJournal(ctx context.Context, after string, limit int) ([]model.AlarmEvent, error) {
	entries, err := p.read(ctx, p.keys.alarmJournal(), after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]model.AlarmEvent, len(entries))
	for i, e := range entries {
		get := func(name string) string { return text(e.Values, name) }
		list[i] = model.AlarmEvent{
			Position: e.ID, Transition: model.AlarmTransition(get("transition")), Time: millis(get("time")),
			Alarm: get("alarm"), Model: get("model_id"), Point: get("point_name"), Rule: get("rule_id"),
			Severity: model.Severity(get("severity")), Status: model.AlarmStatus(get("status")),
			Message: get("message"), By: get("by"), Comment: get("comment"),
		}
		list[i].Value, _ = strconv.ParseFloat(get("value"), 64)
	}
	return list, nil
}

// AlarmJournalEnd returns the position of the newest entry.
func (p *Plane) AlarmJournalEnd(ctx context.Context) (string, error) {
	return p.end(ctx, p.keys.alarmJournal())
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

func alarmRecord(h map[string]string) (model.Alarm, bool) {
	if h["id"] == "" {
		return model.Alarm{}, false
	}
	a := model.Alarm{
		ID: h["id"], Model: h["model_id"], Point: h["point_name"], Rule: h["rule_id"],
		Severity: model.Severity(h["severity"]), Status: model.AlarmStatus(h["status"]), Message: h["message"],
		Raised: millis(h["timestamp"]), Cleared: millis(h["cleared_at"]), Acknowledged: millis(h["acknowledged_at"]),
		AcknowledgedBy: h["acknowledged_by"], Comment: h["comment"],
	}
	a.Value, _ = strconv.ParseFloat(h["value"], 64)
	a.Threshold, _ = strconv.ParseFloat(h["threshold"], 64)
	a.Count, _ = strconv.ParseInt(h["count"], 10, 64)
	return a, true
}

// number reports whether s is an alarm id, a decimal number.
func number(s string) bool {
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil
}
