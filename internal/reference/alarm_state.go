package reference

import (
	"slices"
	"strings"
)

const (
	alarmKept     = "2592000" // seconds that a closed record stays: 30 days
	alarmKeep     = 10000     // closed records that stay
	alarmEntries  = "100000"  // of the journal
	chatterCount  = 5         // so many raises …
	chatterTime   = 60000     // … within so many ms
	alarmNormal   = "normal"
	alarmActive   = "active"
	alarmCleared  = "cleared"
	alarmLatched  = "latched"
	alarmClosed   = "closed"
	alarmAcked    = "acknowledged"
	suppressedBy  = "suppressed"
	statusShelved = "shelved"
	statusOut     = "out_of_service"
)

// alarm is where a rule stands.
type alarm struct {
	model, point, rule, name        string
	text                            string // its entry of alarm:state
	known                           bool   // there is one
	met                             bool
	due, quality, id, status, since string
	shelved, out, design, chatter   bool
	till                            string
	edges, raises                   []string
	memory                          string
	timed                           string   // the due time that timers has
	moves                           []string // transitions
	r                               *alarmRule
	record                          *alarmRecord
	value                           string // that caused the transition
	hasValue                        bool   // else it is the record's
	device, said                    string
}

// alarmRecord is what the journal says of the open record.
type alarmRecord struct {
	severity, value, threshold, message, count string
	acknowledged                               bool
}

// splitState splits an entry of alarm:state: nil for one that nobody can read.
func splitState(text string) []string {
	f := strings.Split(text, "|")
	if len(f) != 11 || f[0] != "0" && f[0] != "1" || f[4] == "" {
		return nil
	}
	for i, valid := range []func(string) bool{1: digits, 2: letters, 3: digits, 4: letters, 5: digits, 6: madeOf("sodc"), 7: digits,
		8: madeOf("0123456789,"), 9: madeOf("0123456789,")} {
		if valid != nil && !valid(f[i]) {
			return nil
		}
	}
	return f
}

func madeOf(set string) func(string) bool {
	return func(s string) bool { return strings.Trim(s, set) == "" }
}

// alarmAt is the state of a rule, of its text in alarm:state, where there is one.
func alarmAt(model, point, rule, text string, known bool) *alarm {
	a := &alarm{model: model, point: point, rule: rule, name: model + ":" + point + ":" + rule, text: text, known: known, status: alarmNormal}
	f := splitState(text)
	if f == nil {
		return a
	}
	has := func(flag string) bool { return strings.Contains(f[6], flag) }
	a.met, a.due, a.quality, a.id, a.status, a.since, a.till = f[0] == "1", f[1], f[2], f[3], f[4], f[5], f[7]
	a.shelved, a.out, a.design, a.chatter = has("s") && a.till != "", has("o"), has("d"), has("c")
	a.edges, a.raises, a.memory, a.timed = parts(f[8]), parts(f[9]), f[10], a.due
	if a.id == "" {
		a.status = alarmNormal
	}
	return a
}

func (r *run) alarmState(name string) (string, bool) {
	return r.text("HGET", r.key("alarm:state"), name)
}

func (a *alarm) sooner(due float64) {
	if a.due == "" || due < mustNumber(a.due) {
		a.due = rounded(due)
	}
}

// trim drops times that are not within the last so many ms. Those ahead are of a
// clock that was set back since.
func trim(times []string, now, within float64) []string {
	return slices.DeleteFunc(times, func(at string) bool {
		t, ok := tonumber(at)
		return !ok || t > now || now-t >= within
	})
}

func (a *alarm) entry() string {
	met, flags := "0", ""
	if a.met {
		met = "1"
	}
	for _, f := range []struct {
		on   bool
		flag string
	}{{a.shelved, "s"}, {a.out, "o"}, {a.design, "d"}, {a.chatter, "c"}} {
		if f.on {
			flags += f.flag
		}
	}
	return strings.Join([]string{met, a.due, a.quality, a.id, a.status, a.since, flags, a.till,
		strings.Join(a.edges, ","), strings.Join(a.raises, ","), a.memory}, "|")
}

// alarmSave stores the state and its timer, or forgets a rule that is normal again.
func (r *run) alarmSave(a *alarm) {
	member := "alarm:" + a.name
	if !a.met && a.id == "" && !a.shelved && !a.out && len(a.edges) == 0 && len(a.raises) == 0 && a.memory == "" {
		a.due = ""
		if a.known {
			r.call("HDEL", r.key("alarm:state"), a.name)
		}
	} else {
		if a.id == "" && len(a.raises) > 0 {
			a.sooner(mustNumber(a.raises[len(a.raises)-1]) + chatterTime)
		}
		if text := a.entry(); !a.known || text != a.text {
			r.call("HSET", r.key("alarm:state"), a.name, text)
		}
	}
	switch {
	case a.due == a.timed:
	case a.due == "":
		r.call("ZREM", r.key("timers"), member)
	default:
		r.call("ZADD", r.key("timers"), a.due, member)
	}
}

// suppression is why nobody is told of the alarm, or "".
func (a *alarm) suppression() string {
	switch {
	case a.out:
		return statusOut
	case a.shelved:
		return statusShelved
	case a.design:
		return suppressedBy
	}
	return ""
}

func (a *alarm) inAlarm() bool { return a.status == alarmActive || a.status == alarmAcked }

// alarmLoad reads the open record into a.record, and reports whether there is one.
func (r *run) alarmLoad(a *alarm) bool {
	if a.record != nil {
		return true
	}
	if a.id == "" {
		return false
	}
	h := r.list("HMGET", r.key("alarm:", a.id), "severity", "value", "threshold", "message", "count", "acknowledged_at", "model_id")
	if _, ok := at(h, 6); !ok {
		r.call("SREM", r.key("alarm:active"), a.id)
		a.id, a.status, a.chatter = "", alarmNormal, false
		return false
	}
	a.record = &alarmRecord{severity: or(h, 0, severityUnset), value: or(h, 1, "0.000000"), threshold: or(h, 2, "0.000000"),
		message: or(h, 3, ""), count: or(h, 4, "1")}
	_, a.record.acknowledged = at(h, 5)
	return true
}

// blank is what the journal says where there is no record.
func (a *alarm) blank() *alarmRecord {
	if a.r == nil {
		return &alarmRecord{severity: severityUnset}
	}
	return &alarmRecord{severity: a.r.severity, threshold: stored(a.r.threshold), message: a.r.message}
}

// valueOr is the value that caused a transition, or what stands for it.
func (a *alarm) valueOr(missing string) string {
	if a.hasValue {
		return a.value
	}
	return missing
}

// alarmJournal is one transition.
func (r *run) alarmJournal(now, transition string, a *alarm, by, comment string) {
	c, status := a.record, ""
	if c == nil {
		c = a.blank()
	}
	if a.id != "" {
		status = a.status
	}
	args := []string{"XADD", r.key("alarm:journal"), "MAXLEN", "~", alarmEntries, "*",
		"transition", transition, "time", now, "alarm", a.id, "model_id", a.model, "point_name", a.point,
		"rule_id", a.rule, "severity", c.severity, "status", status, "suppression", a.suppression(),
		"value", a.valueOr(c.value), "threshold", c.threshold, "message", c.message, "by", by, "comment", comment}
	if a.device != "" {
		args = append(args, "device_time", a.device)
	}
	r.call(args...)
	if !r.hinted { // once a call: whoever is told reads on to the end
		r.hinted = true
		r.call("PUBLISH", r.key("alarm:journal"), a.id)
	}
	a.moves = append(a.moves, transition)
}

// rethrow is the Lua's error(err, 0) after undo, where f has failed.
func rethrow(f, undo func()) {
	if err := protect(f); err != nil {
		undo()
		panic(failure{err})
	}
}

// alarmTo is alarmJournal with a new status, which the alarm has only if the
// journal took it.
func (r *run) alarmTo(now, transition string, a *alarm, status, by, comment string) {
	before := a.status
	a.status = status
	rethrow(func() { r.alarmJournal(now, transition, a, by, comment) }, func() { a.status = before })
}

// alarmNotify hands a transition to whoever sends notifications. first says that
// the record is new, and counts this one already.
func (r *run) alarmNotify(now, transition string, a *alarm, by string, first bool) {
	n := int64(1)
	if !first {
		n = r.integer("HINCRBY", r.key("alarm:", a.id), "notified", "1")
	}
	operator := ""
	if a.r != nil {
		operator = a.r.op
	}
	r.notify(a.record.severity, map[string]string{"type": "alarm", "id": a.id + "-" + whole(float64(n)), "transition": transition,
		"alarm_id": a.id, "model_id": a.model, "point_name": a.point, "rule_id": a.rule, "severity": a.record.severity,
		"status": a.status, "value": a.valueOr(a.record.value), "threshold": a.record.threshold, "operator": operator, "message": a.record.message,
		"timestamp": now, "by": by})
}

// alarmMark shows on the record why nobody is told.
func (r *run) alarmMark(a *alarm) {
	if a.id == "" {
		return
	}
	key, why := r.key("alarm:", a.id), a.suppression()
	r.call("HDEL", key, "suppression", "shelved_until", "reason", "suppressed_by")
	if why == "" {
		return
	}
	r.call("HSET", key, "suppression", why)
	if why == suppressedBy {
		return
	}
	d := decode(r.text("HGET", r.key("alarm:shelved"), a.name))
	if d == nil {
		return
	}
	by, _ := field(d, "by").(string)
	reason, _ := field(d, "reason").(string)
	r.call("HSET", key, "reason", reason, "suppressed_by", by)
	if why == statusShelved {
		r.call("HSET", key, "shelved_until", a.till)
	}
}

// alarmEnd takes an alarm out of everything that lists open ones. Of the closed
// ones the oldest go when there are too many.
func (r *run) alarmEnd(now string, a *alarm) {
	id, closed := a.id, r.key("alarm:closed")
	_, _ = r.pcall("SREM", r.key("alarm:active"), id)
	r.call("HSET", r.key("alarm:", id), "closed_at", now)
	r.call("EXPIRE", r.key("alarm:", id), alarmKept)
	over := int64(0)
	if _, err := r.pcall("ZADD", closed, now, id); err == nil { // a list of another program's is no reason to stay open
		over = r.integer("ZCARD", closed) - alarmKeep
	}
	if over > 0 {
		for _, old := range r.list("ZRANGE", closed, "0", whole(float64(min(over, 100)-1))) {
			gone, _ := old.(string)
			r.call("DEL", r.key("alarm:", gone))
			r.call("ZREM", closed, gone)
		}
	}
	a.id, a.status, a.record, a.chatter = "", alarmNormal, nil, false
}
