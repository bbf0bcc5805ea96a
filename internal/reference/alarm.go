package reference

import (
	"slices"
	"strings"
)

const (
	alarmKept     = "2592000" // seconds that a closed record stays: 30 days
	alarmEntries  = "100000"  // of the journal
	alarmActive   = "active"
	alarmCleared  = "cleared"
	alarmClosed   = "closed"
	alarmAcked    = "acknowledged"
	alarmReraised = "reraised"
)

// alarm is what the journal says of an alarm.
type alarm struct {
	model, point, rule, severity, value, message, status string
	before, count                                        string // of a loaded record
	threshold                                            string // of a new one
	by, comment                                          string
}

func (a *alarm) openField() string { return a.model + ":" + a.point + ":" + a.rule }

// reached is compare of a value that is still a text.
func reached(value string, operator string, threshold float64) bool {
	if _, known := compare(0, operator, 0); !known {
		return false
	}
	met, _ := compare(mustNumber(value), operator, threshold)
	return met
}

// clearing is the threshold that a raised alarm has to come back past.
func clearing(operator string, threshold, hysteresis float64) float64 {
	switch operator {
	case ">", ">=":
		return mustNumber(stored(threshold - hysteresis))
	case "<", "<=":
		return mustNumber(stored(threshold + hysteresis))
	}
	return threshold
}

func (r *run) alarmJournal(now, transition, id string, a *alarm) {
	r.call("XADD", r.key("alarm:journal"), "MAXLEN", "~", alarmEntries, "*",
		"transition", transition, "time", now, "alarm", id, "model_id", a.model, "point_name", a.point,
		"rule_id", a.rule, "severity", a.severity, "status", a.status, "value", a.value,
		"message", a.message, "by", a.by, "comment", a.comment)
	r.call("PUBLISH", r.key("alarm:journal"), id)
}

func (r *run) alarmRaise(now string, a *alarm) {
	id := whole(float64(r.integer("INCR", r.key("alarm:counter"))))
	a.status = alarmActive
	r.call("SADD", r.key("alarm:active"), id)
	if err := protect(func() { r.alarmJournal(now, "raised", id, a) }); err != nil {
		r.call("SREM", r.key("alarm:active"), id)
		panic(failure{err})
	}
	r.call("DEL", r.key("alarm:", id))
	r.call("HSET", r.key("alarm:", id), "id", id, "model_id", a.model, "point_name", a.point,
		"value", a.value, "rule_id", a.rule, "timestamp", now, "status", a.status, "severity", a.severity,
		"message", a.message, "threshold", a.threshold, "count", "1")
	r.call("HSET", r.key("alarm:open"), a.openField(), id+"|active")
	r.notifyAlarm(now, id, a)
	r.call("PUBLISH", r.key("alarm:new"), id)
}

func (r *run) notifyAlarm(now, id string, a *alarm) {
	r.notify(map[string]string{"type": "alarm", "alarm_id": id, "model_id": a.model, "point_name": a.point,
		"severity": a.severity, "value": a.value, "message": a.message, "timestamp": now})
}

// alarmLoad returns an existing record with a new status ("": its own), nil when
// there is none.
func (r *run) alarmLoad(id, status string) *alarm {
	h := r.list("HMGET", r.key("alarm:", id), "model_id", "point_name", "rule_id", "severity", "value", "message", "status", "count")
	model, ok := at(h, 0)
	if !ok {
		return nil
	}
	a := &alarm{model: model, point: or(h, 1, ""), rule: or(h, 2, ""), severity: or(h, 3, "medium"), value: or(h, 4, "0.000000"),
		message: or(h, 5, ""), before: or(h, 6, ""), status: status, count: or(h, 7, "1")}
	if status == "" {
		a.status = a.before
	}
	return a
}

// alarmEnd takes an alarm out of everything that lists open ones.
func (r *run) alarmEnd(id string, a *alarm) {
	_, _ = r.pcall("SREM", r.key("alarm:active"), id)
	open, _ := r.text("HGET", r.key("alarm:open"), a.openField())
	if owner, _, ok := strings.Cut(open, "|"); ok && owner == id && owner != "" && digits(owner) {
		r.call("HDEL", r.key("alarm:open"), a.openField())
	}
	r.call("EXPIRE", r.key("alarm:", id), alarmKept)
}

// alarmTexts are the rule's severity and message.
func (r *run) alarmTexts(model, point, rule, value, operator string, threshold float64) (severity, message string) {
	d := decode(r.text("HGET", r.key("alarm:rules:", model, ":", point), rule))
	message, _ = field(d, "message").(string)
	if message == "" {
		message = model + "." + point + " = " + value + " " + operator + " " + stored(threshold)
	}
	severity, _ = field(d, "severity").(string)
	if severity == "" {
		severity = "medium"
	}
	return severity, message
}

// limit is what one alarm rule compares with.
type limit struct {
	operator              string
	threshold, hysteresis float64
}

// alarmStep is one rule against one value. open is the rule's entry of
// alarm:open, "" where isOpen is false. It returns the transition, "" for none.
func (r *run) alarmStep(now, model, point, rule, value string, l limit, open string, isOpen bool) string {
	met := func(threshold float64) bool { return reached(value, l.operator, threshold) }
	if !isOpen {
		if !met(l.threshold) {
			return ""
		}
		severity, message := r.alarmTexts(model, point, rule, value, l.operator, l.threshold)
		r.alarmRaise(now, &alarm{model: model, point: point, rule: rule, value: value,
			threshold: stored(l.threshold), severity: severity, message: message})
		return "raised"
	}
	name := model + ":" + point + ":" + rule
	id, status, ok := strings.Cut(open, "|")
	if !ok || id == "" || !digits(id) || status == "" || !letters(status) {
		r.call("HDEL", r.key("alarm:open"), name) // an entry that nobody can read: as if there were none
		return r.alarmStep(now, model, point, rule, value, l, "", false)
	}
	var a *alarm
	transition := alarmCleared
	switch {
	case status == alarmCleared && !met(l.threshold):
		return ""
	case status == alarmCleared:
		a, transition = r.alarmLoad(id, alarmActive), alarmReraised
	case met(clearing(l.operator, l.threshold, l.hysteresis)):
		return ""
	case status == alarmAcked:
		a = r.alarmLoad(id, alarmClosed)
	default:
		a = r.alarmLoad(id, alarmCleared)
	}
	if a == nil { // the record is gone: forget it and judge anew
		r.call("HDEL", r.key("alarm:open"), name)
		r.call("SREM", r.key("alarm:active"), id)
		return r.alarmStep(now, model, point, rule, value, l, "", false)
	}
	a.value = value
	r.alarmJournal(now, transition, id, a)
	if transition == alarmReraised {
		n, ok := number(a.count)
		if !ok {
			n = 1
		}
		r.call("HSET", r.key("alarm:", id), "status", alarmActive, "value", value, "count", whole(n+1))
		r.call("HDEL", r.key("alarm:", id), "cleared_at")
		r.call("HSET", r.key("alarm:open"), a.openField(), id+"|active")
		told := *a
		told.model, told.point = model, point
		r.notifyAlarm(now, id, &told)
		return transition
	}
	r.call("HSET", r.key("alarm:", id), "status", a.status, "cleared_at", now)
	if a.status == alarmClosed {
		r.alarmEnd(id, a)
	} else {
		r.call("HSET", r.key("alarm:open"), a.openField(), id+"|cleared")
	}
	return transition
}

// alarmCheck is every rule that is stored for a point, against one value: the
// way of the hand-callable forms.
func (r *run) alarmCheck(now, model, point, value string, report *[]string) {
	rules := r.pairs(r.key("alarm:rules:", model, ":", point))
	slices.SortFunc(rules, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for _, rule := range rules {
		id, d := rule[0], decode(rule[1], true)
		l, ok := readLimit(d)
		if !ok {
			*report = append(*report, "alarm rule "+id+" of "+model+":"+point+" is malformed and was skipped")
			continue
		}
		if field(d, "disabled") == true {
			continue
		}
		open, isOpen := r.text("HGET", r.key("alarm:open"), model+":"+point+":"+id)
		if t := r.alarmStep(now, model, point, id, value, l, open, isOpen); t != "" {
			*report = append(*report, "alarm "+id+" of "+model+":"+point+" "+t)
		}
	}
}

// readLimit reads a stored alarm rule.
func readLimit(d any) (l limit, ok bool) {
	threshold, ok := numberOf(field(d, "threshold"))
	if !ok {
		return l, false
	}
	hysteresis := 0.0
	if h := field(d, "hysteresis"); truthy(h) {
		if hysteresis, ok = numberOf(h); !ok || hysteresis < 0 {
			return l, false
		}
	}
	operator := field(d, "operator")
	if _, known := compare(0, operator, 0); !known {
		return l, false
	}
	return limit{operator.(string), threshold, hysteresis}, true
}
