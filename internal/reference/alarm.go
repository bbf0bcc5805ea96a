package reference

import (
	"math"
	"slices"
	"strings"
)

// alarmLast is the last value of a point, whatever its quality.
func (r *run) alarmLast(model, point string) (string, bool) {
	for _, kind := range kinds {
		if v, ok := r.text("HGET", r.key("modsrv:", model, ":", kind), point); ok {
			return v, true
		}
	}
	return "", false
}

// alarmOpen does first what may fail.
func (r *run) alarmOpen(now string, a *alarm) {
	r.call("SADD", r.key("alarm:active"), a.id)
	r.alarmTo(now, "raised", a, alarmActive, "", "")
}

// alarmRaise: a condition that is in alarm from now on: a new record, or the open
// one again.
func (r *run) alarmRaise(now string, a *alarm) {
	again := r.alarmLoad(a)
	if again {
		r.alarmAgain(now, a)
	} else {
		r.alarmNew(now, a)
	}
	if a.suppression() == "" {
		r.alarmNotify(now, a.moves[len(a.moves)-1], a, "", !again)
	}
	a.raises = append(trim(a.raises, mustNumber(now), chatterTime), now)
	if !a.chatter && len(a.raises) >= chatterCount {
		a.chatter = true
		r.alarmJournal(now, "chattering", a, "", "")
		r.call("HSET", r.key("alarm:", a.id), "chattering", "1")
	}
}

func (r *run) alarmAgain(now string, a *alarm) {
	if a.r.message == "" {
		a.record.message = alarmText(a.r, a.model, a.point, a.valueOr(a.record.value), a.said)
	}
	r.alarmTo(now, "reraised", a, alarmActive, "", "")
	n, ok := number(a.record.count)
	if !ok {
		n = 1
	}
	r.call("HSET", r.key("alarm:", a.id), "status", alarmActive, "value", a.valueOr(a.record.value),
		"message", a.record.message, "count", whole(n+1))
	r.call("HDEL", r.key("alarm:", a.id), "cleared_at", "acknowledged_at", "acknowledged_by") // of before
}

func (r *run) alarmNew(now string, a *alarm) {
	rule := a.r
	a.id = whole(float64(r.integer("INCR", r.key("alarm:counter"))))
	a.record = &alarmRecord{severity: rule.severity, value: a.valueOr("0.000000"), threshold: stored(rule.threshold), message: rule.message, count: "1"}
	if rule.message == "" {
		a.record.message = alarmText(rule, a.model, a.point, a.record.value, a.said)
	}
	rethrow(func() { r.alarmOpen(now, a) }, func() {
		_, _ = r.pcall("SREM", r.key("alarm:active"), a.id)
		a.id, a.record = "", nil
	})
	key := r.key("alarm:", a.id)
	if r.integer("DEL", key) == 1 { // a counter that was lost with the data starts again
		r.call("ZREM", r.key("alarm:closed"), a.id)
	}
	notified := "0"
	if a.suppression() == "" {
		notified = "1"
	}
	r.call("HSET", key, "id", a.id, "model_id", a.model, "point_name", a.point, "value", a.record.value,
		"rule_id", a.rule, "timestamp", now, "status", alarmActive, "severity", rule.severity, "message", a.record.message,
		"threshold", a.record.threshold, "high", stored(rule.high), "operator", rule.op, "count", "1", "notified", notified)
	if a.device != "" {
		r.call("HSET", key, "device_time", a.device)
	}
	if a.suppression() != "" {
		r.alarmMark(a)
	}
	r.call("PUBLISH", r.key("alarm:new"), a.id)
}

// alarmClear: the condition is over.
func (r *run) alarmClear(now string, a *alarm) {
	if !r.alarmLoad(a) {
		return
	}
	id, transition, status := a.id, alarmCleared, alarmCleared
	if a.r.latch {
		transition, status = alarmLatched, alarmLatched
	} else if a.status == alarmAcked || a.suppression() != "" {
		status = alarmClosed
	}
	r.alarmTo(now, transition, a, status, "", "")
	r.call("HSET", r.key("alarm:", id), "status", a.status, "cleared_at", now)
	if a.chatter {
		a.chatter, a.raises = false, nil
		r.call("HDEL", r.key("alarm:", id), "chattering")
	}
	if a.suppression() == "" {
		r.alarmNotify(now, transition, a, "", false)
	}
	if a.status == alarmClosed {
		r.alarmEnd(now, a)
	}
}

// alarmResume ends a suppression (flag: one of a's shelved, out and design), if
// the journal takes it.
func (r *run) alarmResume(now string, a *alarm, flag *bool, transition, by, comment string) {
	open := r.alarmLoad(a)
	*flag = false
	told := open && a.suppression() == "" && a.inAlarm()
	status := a.status
	if told {
		status = alarmActive
	}
	rethrow(func() { r.alarmTo(now, transition, a, status, by, comment) }, func() { *flag = true })
	if flag != &a.design {
		a.till = ""
		_, _ = r.pcall("HDEL", r.key("alarm:shelved"), a.name)
	}
	if !open {
		return
	}
	r.alarmMark(a)
	if told {
		r.call("HSET", r.key("alarm:", a.id), "status", alarmActive)
		r.call("HDEL", r.key("alarm:", a.id), "acknowledged_at", "acknowledged_by")
		r.alarmNotify(now, transition, a, by, false)
	}
}

// alarmUnshelveLate ends shelving whose time is over.
func (r *run) alarmUnshelveLate(now string, a *alarm) {
	if a.shelved && mustNumber(a.till) <= mustNumber(now) {
		r.alarmResume(now, a, &a.shelved, "unshelved", "system", "the time of shelving is over")
	}
}

// enabling is the value of the point that says whether a rule counts: the last
// usable one.
func (r *run) enabling(e *alarmEnable) (float64, bool) {
	if v, ok, _, _ := r.pointValue(e.model, e.point); ok {
		return v, true
	}
	text, _ := r.alarmLast(e.model, e.point)
	return number(text)
}

// alarmEnabled finds out whether the rule counts at all. While nobody knows, as before.
func (r *run) alarmEnabled(now string, a *alarm) {
	design := a.design
	if e := a.r.enable; e == nil {
		design = false
	} else if v, ok := r.enabling(e); ok {
		met, _ := compare(v, e.operator, e.threshold)
		design = !met
	}
	if design == a.design {
		return
	}
	if !design {
		if a.id != "" {
			r.alarmResume(now, a, &a.design, "unsuppressed", "", "")
		}
		a.design = false
		if a.met && !a.inAlarm() {
			a.since = now // the delay counts from here
		}
		return
	}
	a.design = true
	if a.id != "" {
		rethrow(func() { r.alarmJournal(now, suppressedBy, a, "", "") }, func() { a.design = false })
		r.alarmMark(a)
	}
	a.edges = nil
}

// alarmCondition is what the rule says of the input. known is false for as
// before; usable is whether anything may be decided at all, quality what forbids it.
func (r *run) alarmCondition(now string, a *alarm, x alarmInput) (met, known, usable bool, quality string) {
	rule := a.r
	if aboutQuality(rule.op) {
		q := x.quality
		if x.unknown || q == offline && r.alarmGrouped(a.model, a.point) {
			return false, false, false, q
		}
		if rule.op == opStale {
			return q == "stale" || q == offline, true, true, ""
		}
		return q != "", true, true, ""
	}
	if !x.usable {
		if rule.op == opRate {
			a.memory = "" // what was before a gap says nothing
		}
		return false, false, false, x.quality
	}
	h := 0.0
	if a.met {
		h = rule.hysteresis
	}
	switch rule.op {
	case opDeviation:
		other, ok, quality, marked := r.pointValue(rule.referenceModel, rule.reference)
		if !ok {
			if !marked {
				quality = "bad"
			}
			return false, false, false, quality
		}
		return apart(x.number, other) > moved(rule.threshold, -h), true, true, ""
	case opRate:
		fast, known, anchor, due := alarmRate(rule, x.number, mustNumber(now), a.met, a.memory)
		a.memory = anchor
		if due != 0 {
			a.sooner(due)
		}
		return fast, known, true, ""
	case opChange:
		before := a.memory
		a.memory = x.value
		return before != "" && before != x.value, true, true, ""
	}
	met, known = alarmMeets(rule.op, x.number, rule.threshold, rule.high, h)
	if !known {
		return false, false, false, "invalid"
	}
	return met, true, true, ""
}

// alarmSettle lets the condition and the time that has passed have their effect.
func (r *run) alarmSettle(now string, a *alarm, met, known bool) {
	rule, t := a.r, mustNumber(now)
	if known && met != a.met {
		a.met, a.since = met, now
		if met && rule.count > 1 && !a.design {
			a.edges = append(a.edges, now)
			if float64(len(a.edges)) > rule.count {
				a.edges = a.edges[1:]
			}
		}
	}
	want := a.met
	if rule.count > 1 {
		a.edges = trim(a.edges, t, rule.window)
		want = float64(len(a.edges)) >= rule.count
		if len(a.edges) > 0 {
			a.sooner(mustNumber(a.edges[0]) + rule.window)
		}
	} else {
		a.edges = nil // of what the rule was before
	}
	since, ok := tonumber(a.since)
	if !ok || since > t { // the clock was set back: no delay waits for that
		since, a.since = t, now
	}
	if want && !a.inAlarm() && !a.design {
		if t >= since+rule.onDelay {
			r.alarmRaise(now, a)
		} else {
			a.sooner(since + rule.onDelay)
		}
	} else if !want && a.inAlarm() {
		delay := rule.offDelay
		if a.chatter {
			delay = math.Max(delay, chatterTime)
		}
		if t >= since+delay {
			r.alarmClear(now, a)
		} else {
			a.sooner(since + delay)
		}
	}
}

func (r *run) alarmShow(a *alarm, quality string) {
	if quality == a.quality {
		return
	}
	a.quality = quality
	switch {
	case a.id == "":
	case quality == "":
		r.call("HDEL", r.key("alarm:", a.id), "quality")
	default:
		r.call("HSET", r.key("alarm:", a.id), "quality", quality)
	}
}

func (r *run) alarmDecide(now string, a *alarm, x alarmInput) {
	a.due = ""
	r.alarmUnshelveLate(now, a)
	if a.shelved {
		a.sooner(mustNumber(a.till))
	}
	if a.id == "" {
		a.raises = trim(a.raises, mustNumber(now), chatterTime)
	}
	if a.r == nil || a.r.disabled { // what is open stays until a person ends it
		a.edges, a.memory = nil, ""
		if a.id == "" {
			a.met = false
		}
		return
	}
	r.alarmLoad(a)
	met, known, usable, quality := r.alarmCondition(now, a, x)
	a.value, a.hasValue, a.device = x.value, x.usable, x.device
	if usable && !a.hasValue {
		last, ok := r.alarmLast(a.model, a.point)
		if !ok {
			last = "0.000000"
		}
		a.value, a.hasValue = last, true
	}
	r.alarmShow(a, quality)
	if !usable {
		return
	}
	if known && met || a.met || a.id != "" {
		r.alarmEnabled(now, a)
	}
	if aboutQuality(a.r.op) {
		a.said = x.quality
	}
	r.alarmSettle(now, a, met, known)
	if a.r.op == opChange && known && met {
		r.alarmSettle(now, a, false, true)
	}
}

// alarmJudge is one rule against an input. text is the rule's entry of
// alarm:state, where it is known. fired says that its timer has been taken.
func (r *run) alarmJudge(now, model, point, rule string, x alarmInput, text string, known, fired bool) *alarm {
	a := alarmAt(model, point, rule, text, known)
	if fired {
		a.timed = ""
	}
	definition, given := r.text("HGET", r.key("alarm:rules:", model, ":", point), rule)
	a.r = readAlarmRule(definition, given, model, point, rule)
	if x.isStored {
		x = r.alarmInput(model, point)
	}
	err := protect(func() { r.alarmDecide(now, a, x) })
	if err != nil {
		a.sooner(mustNumber(now) + 1000) // then it is tried again
	}
	r.alarmSave(a)
	if err != nil {
		panic(failure{err})
	}
	return a
}

// qualityOf reads "!" and a quality.
func qualityOf(text string) (quality string, ok bool) {
	quality, ok = strings.CutPrefix(text, "!")
	return quality, ok && quality != "" && letters(quality)
}

// alarmGiven is what an input says that is given as text: a number in any form,
// or "!" and a quality.
func alarmGiven(text string) (x alarmInput, ok bool) {
	if quality, ok := qualityOf(text); ok {
		return alarmInput{quality: quality}, quality != "good" && quality != "uncertain" && quality != "substituted"
	}
	v, ok := number(text)
	return sampled(stored(v), v), ok
}

func alarmError(name string, err *Error) string { return "alarm rule " + name + ": " + err.Text }

// alarmCheck is every rule that is stored for a point, against one input: the way
// of the hand-callable forms. A rule that cannot be read is skipped and named.
func (r *run) alarmCheck(now, model, point string, x alarmInput, report *[]string) {
	rules := r.pairs(r.key("alarm:rules:", model, ":", point))
	slices.SortFunc(rules, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for _, rule := range rules {
		id := rule[0]
		definition := readAlarmRule(rule[1], true, model, point, id)
		if definition == nil {
			*report = append(*report, "alarm rule "+id+" of "+model+":"+point+" is malformed and was skipped")
			continue
		}
		if definition.disabled {
			continue
		}
		name := model + ":" + point + ":" + id
		text, known := r.alarmState(name)
		var a *alarm
		if err := protect(func() { a = r.alarmJudge(now, model, point, id, x, text, known, false) }); err != nil {
			*report = append(*report, alarmError(name, err))
			continue
		}
		for _, move := range a.moves {
			*report = append(*report, "alarm "+id+" of "+model+":"+point+" "+move)
		}
	}
}
