package scripts

import (
	"cmp"
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// alarmsAtOnce is how many records are read in one round trip.
const alarmsAtOnce = 500

// alarmRecords appends the alarms of these ids to a list. Ids without a record, or
// whose key another program made something else of, are left out.
func (p *Plane) alarmRecords(ctx context.Context, list []model.Alarm, ids []string) ([]model.Alarm, error) {
	if len(ids) == 0 {
		return list, nil
	}
	pipe := p.client.Pipeline()
	records := make([]*redis.MapStringStringCmd, len(ids))
	for i, id := range ids {
		records[i] = pipe.HGetAll(ctx, p.keys.alarm(id))
	}
	_, _ = pipe.Exec(ctx) // each command's own error is looked at
	for _, r := range records {
		h, err := r.Result()
		if err != nil && !isAnswer(err) {
			return nil, storeError("reading alarms", err)
		}
		if a, ok := alarmRecord(h); ok {
			list = append(list, a)
		}
	}
	return list, nil
}

// alarmRecord reads a record; false where it is none.
func alarmRecord(h map[string]string) (model.Alarm, bool) {
	if h["id"] == "" {
		return model.Alarm{}, false
	}
	a := model.Alarm{
		ID: h["id"], Model: h["model_id"], Point: h["point_name"], Rule: h["rule_id"],
		Severity: model.Severity(h["severity"]), Status: model.AlarmStatus(h["status"]), Message: h["message"],
		Operator: model.Operator(h["operator"]), Quality: h["quality"],
		Suppression: model.Suppression(h["suppression"]), ShelvedUntil: until(h["shelved_until"]),
		Reason: h["reason"], SuppressedBy: h["suppressed_by"], Chattering: h["chattering"] == "1",
		DeviceTime: millis(h["device_time"]), Raised: millis(h["timestamp"]), Cleared: millis(h["cleared_at"]),
		Acknowledged: millis(h["acknowledged_at"]), Closed: millis(h["closed_at"]),
		AcknowledgedBy: h["acknowledged_by"], Comment: h["comment"],
	}
	a.Value, a.Threshold, a.High = float(h["value"]), float(h["threshold"]), float(h["high"])
	a.Count, _ = strconv.ParseInt(h["count"], 10, 64)
	return a, true
}

// until is millis with a zero for "not".
func until(s string) time.Time {
	if s == "0" {
		return time.Time{}
	}
	return millis(s)
}

// float is a stored number; zero where another program wrote what is none, or
// what JSON cannot say.
func float(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !model.Finite(v) {
		return 0
	}
	return v
}

// compareAlarmIDs orders ids as the numbers that they are, which grow.
func compareAlarmIDs(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// number reports whether s is an alarm id, a decimal number.
func number(s string) bool {
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil
}
