package scripts

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// What a person does with alarms. An alarm is named by its id, or as
// model.AlarmRef names a rule's.

// Acknowledge takes note of an alarm: an active one becomes acknowledged, one that
// returned is closed by it, a latched one waits for its reset. One that was
// acknowledged or closed before stays as it is and is no error.
func (p *Plane) Acknowledge(ctx context.Context, alarm, by, comment string) (model.Alarm, error) {
	return p.desk(ctx, "ack", alarm, by, comment)
}

// CloseAlarm ends an alarm whatever the value is, for alarms whose rule is gone.
// If the condition still holds, a new one is raised.
func (p *Plane) CloseAlarm(ctx context.Context, alarm, by, comment string) (model.Alarm, error) {
	return p.desk(ctx, "close", alarm, by, comment)
}

// ResetAlarm ends a latched alarm. ErrConflict for any other that is open.
func (p *Plane) ResetAlarm(ctx context.Context, alarm, by, comment string) (model.Alarm, error) {
	return p.desk(ctx, "reset", alarm, by, comment)
}

// Shelve keeps a rule's alarm from being told for a time, model.MinShelving to
// model.MaxShelving, after which it is told again by itself. The reason is
// required. To shelve it once more is to change reason and time. Where no alarm of
// the rule is open, the answer has no ID.
func (p *Plane) Shelve(ctx context.Context, alarm, by, reason string, d time.Duration) (model.Alarm, error) {
	if d < model.MinShelving || d > model.MaxShelving {
		return model.Alarm{}, fmt.Errorf("%w: alarm %.200s: shelving for %s: want %s to %s", model.ErrInvalid, alarm, d, model.MinShelving, model.MaxShelving)
	}
	if err := checkReason(alarm, reason); err != nil {
		return model.Alarm{}, err
	}
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return model.Alarm{}, err
	}
	now, err := p.storeTime(ctx, node)
	if err != nil {
		return model.Alarm{}, err
	}
	return p.desk(ctx, "shelve", alarm, by, reason, now.Add(d).UnixMilli())
}

// Unshelve ends the shelving.
func (p *Plane) Unshelve(ctx context.Context, alarm, by, comment string) (model.Alarm, error) {
	return p.desk(ctx, "unshelve", alarm, by, comment)
}

// OutOfService keeps a rule's alarm from being told until InService takes that
// back. The reason is required. Where no alarm of the rule is open, the answer has
// no ID.
func (p *Plane) OutOfService(ctx context.Context, alarm, by, reason string) (model.Alarm, error) {
	if err := checkReason(alarm, reason); err != nil {
		return model.Alarm{}, err
	}
	return p.desk(ctx, "out_of_service", alarm, by, reason)
}

// InService takes back OutOfService.
func (p *Plane) InService(ctx context.Context, alarm, by, comment string) (model.Alarm, error) {
	return p.desk(ctx, "in_service", alarm, by, comment)
}

func checkReason(alarm, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return fmt.Errorf("%w: alarm %.200s: reason: say why nobody is to be told of it", model.ErrInvalid, alarm)
	}
	return nil
}

// checkPerson looks at what a person says.
func checkPerson(what, by, comment string) error {
	if !model.PlainText(by, 64) || !model.PlainText(comment, 500) {
		return fmt.Errorf("%w: %s: want plain text of at most 64 bytes for a name, 500 for a comment or reason", model.ErrInvalid, what)
	}
	return nil
}

// desk carries out an operation and returns the alarm as it is then.
func (p *Plane) desk(ctx context.Context, op, alarm, by, comment string, more ...any) (model.Alarm, error) {
	if model.CheckAlarm(alarm) != nil {
		return model.Alarm{}, fmt.Errorf("alarm %.80q: %w", alarm, ErrNotFound)
	}
	what := "alarm " + alarm
	if err := checkPerson(what, by, comment); err != nil {
		return model.Alarm{}, err
	}
	id, err := p.openAlarm(ctx, alarm) // now, for an operation may end it
	if err != nil {
		return model.Alarm{}, err
	}
	reply, err := p.retry(ctx, "alarm_desk", op, append([]any{alarm, by, comment}, more...)...)
	if err != nil && len(reply) > 0 && reply[0] == "INVALID" {
		err = fmt.Errorf("%w (%s)", model.ErrInvalid, strings.Join(reply[1:], ": "))
	}
	if err != nil {
		return model.Alarm{}, fmt.Errorf("%s: %w", what, err)
	}
	return p.afterDesk(ctx, alarm, id)
}

// acknowledgedAtOnce is how many alarms are acknowledged in one call, during which
// the store does nothing else: 5 ms on Redis, 50 on the embedded store.
const acknowledgedAtOnce = 100

// AcknowledgeMany takes note of alarms by their ids, each as Acknowledge does, and
// returns how many changed. Those that do not exist are left out. What was done
// before an error stays done, and is in the count as far as the store answered.
func (p *Plane) AcknowledgeMany(ctx context.Context, ids []string, by, comment string) (changed int, err error) {
	if err := checkPerson(fmt.Sprintf("%d alarms", len(ids)), by, comment); err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := model.CheckAlarm(id); err != nil {
			return 0, err
		}
	}
	for some := range slices.Chunk(ids, acknowledgedAtOnce) {
		args := make([]any, 0, 2+len(some))
		args = append(args, by, comment)
		for _, id := range some {
			args = append(args, id)
		}
		reply, err := p.retry(ctx, "alarm_desk", "ack_many", args...)
		if err != nil {
			return changed, fmt.Errorf("%d alarms, %.200s first: %w", len(some), some[0], err)
		}
		if len(reply) < 2 {
			return changed, fmt.Errorf("%w alarm_desk: no count in the answer", ErrScript)
		}
		n, err := strconv.Atoi(reply[1])
		if err != nil {
			return changed, fmt.Errorf("%w alarm_desk: %.40q is no count", ErrScript, reply[1])
		}
		changed += n
	}
	return changed, nil
}

// AcknowledgeAll takes note of all alarms that a query selects and that nobody took
// note of yet, and returns how many changed. Those that are raised meanwhile are
// left. Limit, After and what asks for closed alarms do not count.
func (p *Plane) AcknowledgeAll(ctx context.Context, q model.AlarmQuery, by, comment string) (changed int, err error) {
	q.Closed, q.Limit, q.After, q.Newest = false, 0, "", false
	if err := q.Validate(); err != nil {
		return 0, err
	}
	if !q.WantsOpen() {
		return 0, nil
	}
	q.States = slices.DeleteFunc(slices.Clone(q.States), func(s model.AlarmStatus) bool { return s == model.AlarmClosed })
	ids, err := p.alarmIDs(ctx, q)
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(ids, alarmsAtOnce) {
		records, err := p.alarmRecords(ctx, nil, some)
		if err != nil {
			return changed, err
		}
		var wanted []string
		for _, a := range records {
			if q.Matches(a) && unacknowledged(a.Status, !a.Acknowledged.IsZero()) {
				wanted = append(wanted, a.ID)
			}
		}
		n, err := p.AcknowledgeMany(ctx, wanted, by, comment)
		if changed += n; err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// suppressed is an entry of alarm:shelved, with numbers as any program may have
// written them.
type suppressed struct {
	Kind   model.Suppression `json:"kind"`
	Until  looseNumber       `json:"until"`
	By     string            `json:"by"`
	Reason string            `json:"reason"`
	At     looseNumber       `json:"at"`
}

// UnannouncedAlarms returns the rules that are shelved or out of service, by model,
// point and rule, whether an alarm of theirs is open or not. An entry that cannot
// be read has no Kind, and a Reason that says so.
func (p *Plane) UnannouncedAlarms(ctx context.Context) ([]model.Unannounced, error) {
	stored, err := p.client.HGetAll(ctx, p.keys.alarmShelved()).Result()
	if err != nil {
		return nil, storeError("reading what is shelved", err)
	}
	list := make([]model.Unannounced, 0, len(stored))
	for _, ref := range slices.Sorted(maps.Keys(stored)) {
		list = append(list, parseUnannounced(ref, stored[ref]))
	}
	return list, nil
}

func parseUnannounced(ref, text string) model.Unannounced {
	var s suppressed
	parts := strings.SplitN(ref+"::", ":", 3)
	u := model.Unannounced{Model: parts[0], Point: parts[1], Rule: strings.TrimSuffix(parts[2], "::")}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		u.Reason = "the entry of alarm:shelved cannot be read: " + err.Error()
		return u
	}
	if s.Kind != model.Shelved && s.Kind != model.OutOfService {
		u.Reason = fmt.Sprintf("the entry of alarm:shelved is of kind %.20q: want shelved or out_of_service", string(s.Kind))
		return u
	}
	u.Kind, u.By, u.Reason = s.Kind, s.By, s.Reason
	if s.At.value > 0 {
		u.Since = time.UnixMilli(int64(s.At.value))
	}
	if s.Until.value > 0 {
		u.Until = time.UnixMilli(int64(s.Until.value))
	}
	return u
}

// afterDesk returns the alarm as an operation left it. id is its record's, empty
// for a rule that has no open alarm.
func (p *Plane) afterDesk(ctx context.Context, alarm, id string) (model.Alarm, error) {
	if id != "" {
		return p.Alarm(ctx, id)
	}
	text, err := p.client.HGet(ctx, p.keys.alarmShelved(), alarm).Result()
	if err != nil && !isNil(err) {
		return model.Alarm{}, storeError("reading what is shelved", err)
	}
	u := parseUnannounced(alarm, cmp.Or(text, "{}"))
	a := model.Alarm{Model: u.Model, Point: u.Point, Rule: u.Rule}
	if text != "" {
		a.Suppression, a.ShelvedUntil, a.Reason, a.SuppressedBy = u.Kind, u.Until, u.Reason, u.By
	}
	return a, nil
}

// openAlarm returns the id of the alarm that is named so, empty for a rule that has
// no open one.
func (p *Plane) openAlarm(ctx context.Context, alarm string) (string, error) {
	if number(alarm) {
		return alarm, nil
	}
	state, err := p.client.HGet(ctx, p.keys.alarmState(), alarm).Result()
	if err != nil && !isNil(err) {
		return "", storeError("reading alarm:state", err)
	}
	// its fields are those of lua/include/alarm_state.lua
	if fields := strings.Split(state, "|"); len(fields) > 3 && number(fields[3]) {
		return fields[3], nil
	}
	return "", nil
}
