package reference

import (
	"strings"
)

// targetOf finds the alarm that is meant: the id of a record, or
// <model>:<point>:<rule>. nil where there is none. closed says that its record
// is, lost that the record alone is left.
func (r *run) targetOf(target string) (a *alarm, closed, lost bool) {
	var model, point, rule, id, status string
	if target != "" && digits(target) {
		h := r.list("HMGET", r.key("alarm:", target), "model_id", "point_name", "rule_id", "status")
		var ok bool
		if model, ok = at(h, 0); !ok {
			return nil, false, false
		}
		point, rule, id, status = or(h, 1, ""), or(h, 2, ""), target, or(h, 3, alarmClosed)
	} else {
		var ok bool
		model, point, rule, ok = ruleOf(target)
		if !ok || model == "" || point == "" || rule == "" || strings.Contains(target, "|") {
			return nil, false, false
		}
	}
	text, known := r.alarmState(model + ":" + point + ":" + rule)
	a = alarmAt(model, point, rule, text, known)
	definition, given := r.text("HGET", r.key("alarm:rules:", model, ":", point), rule)
	if id == "" && !known && !given {
		return nil, false, false
	}
	a.r = readAlarmRule(definition, given, model, point, rule)
	switch {
	case id != "" && a.id != id:
		if closed = status == alarmClosed; !closed { // the state was lost: the record alone is left
			a.id, a.status, lost = id, status, true
		}
	case a.id == "":
		closed = true
	}
	return a, closed, lost
}

// desk is one operation of alarm_desk.
type desk struct {
	*run
	now, by, comment string
	a                *alarm
	closed, lost     bool
}

func (d *desk) save() {
	if !d.lost {
		d.alarmSave(d.a)
	}
}

func (d *desk) stamp() {
	d.call("HSET", d.key("alarm:", d.a.id), "status", d.a.status, "comment", d.comment, "acknowledged_at", d.now, "acknowledged_by", d.by)
}

func (d *desk) acknowledge() bool {
	a := d.a
	if d.closed || !d.alarmLoad(a) || a.status == alarmAcked || a.status == alarmLatched && a.record.acknowledged {
		return false
	}
	status := a.status
	switch status {
	case alarmActive:
		status = alarmAcked
	case alarmCleared:
		status = alarmClosed
	}
	d.alarmTo(d.now, alarmAcked, a, status, d.by, d.comment)
	d.stamp()
	if a.suppression() == "" {
		d.alarmNotify(d.now, alarmAcked, a, d.by, false)
	}
	if status == alarmClosed {
		d.alarmEnd(d.now, a)
	}
	return true
}

// alarmDesk is alarm_desk: what a person does with an alarm.
func (r *run) alarmDesk() []string {
	op, given := r.opt(1)
	if refusal := r.guardOptional(3); refusal != nil {
		return refusal
	}
	now := r.nowArg(2)
	if op == "ack_many" {
		return r.acknowledgeMany(now)
	}
	target, named := r.opt(4)
	d := &desk{run: r, now: now}
	d.by, _ = r.opt(5)
	d.comment, _ = r.opt(6)
	if named {
		d.a, d.closed, d.lost = r.targetOf(target)
	}
	if d.a == nil {
		return []string{"NOTFOUND", target}
	}
	switch op {
	case "ack":
		return d.ack()
	case "close":
		return d.end(alarmClosed)
	case "reset":
		return d.end("reset")
	case "shelve":
		return d.shelve()
	case "out_of_service":
		if d.comment == "" {
			return []string{"INVALID", "out of service needs a reason"}
		}
		if d.a.out {
			return []string{"SAME", d.a.status}
		}
		d.a.out, d.a.shelved, d.a.till = true, false, ""
		return d.suppress(statusOut, "0")
	case "unshelve":
		return d.resume(&d.a.shelved, "unshelved")
	case "in_service":
		return d.resume(&d.a.out, "in_service")
	}
	if !given {
		op = "nil"
	}
	return []string{"INVALID", `unknown operation "` + op + `"`}
}

func (r *run) acknowledgeMany(now string) []string {
	changed := 0
	for i := 6; i <= len(r.argv); i++ {
		d := &desk{run: r, now: now, by: r.argv[3], comment: r.argv[4]}
		if d.a, d.closed, d.lost = r.targetOf(r.argv[i-1]); d.a != nil && d.acknowledge() {
			changed++
			d.save()
		}
	}
	return []string{"OK", whole(float64(changed))}
}

func (d *desk) ack() []string {
	if !d.acknowledge() {
		if d.closed {
			return []string{"SAME", alarmClosed}
		}
		return []string{"SAME", d.a.status}
	}
	d.save()
	if d.a.id == "" {
		return []string{"OK", alarmClosed}
	}
	return []string{"OK", d.a.status}
}

// end is close and reset.
func (d *desk) end(transition string) []string {
	a := d.a
	if d.closed || !d.alarmLoad(a) {
		return []string{"SAME", alarmClosed}
	}
	if transition == "reset" && a.status != alarmLatched {
		return []string{"STATE", a.status}
	}
	first := !a.record.acknowledged
	d.alarmTo(d.now, transition, a, alarmClosed, d.by, d.comment)
	if first {
		d.stamp()
	} else {
		d.call("HSET", d.key("alarm:", a.id), "status", alarmClosed, "comment", d.comment)
	}
	if a.suppression() == "" {
		d.alarmNotify(d.now, transition, a, d.by, false)
	}
	d.alarmEnd(d.now, a)
	a.met, a.since, a.edges, a.raises, a.memory, a.due = false, "", nil, nil, "", ""
	if a.shelved {
		a.due = a.till
	}
	d.save()
	return []string{"OK", alarmClosed}
}

func (d *desk) suppress(kind, till string) []string {
	a := d.a
	d.alarmLoad(a)
	d.call("HLEN", d.key("alarm:shelved")) // fails where it is another program's, before anything is done
	d.alarmJournal(d.now, kind, a, d.by, d.comment)
	text := []byte(`{"kind":"` + kind + `","until":` + till + `,"at":` + d.now + `,"by":`)
	text = append(appendJSONText(text, d.by), `,"reason":`...)
	d.call("HSET", d.key("alarm:shelved"), a.name, string(append(appendJSONText(text, d.comment), '}')))
	d.alarmMark(a)
	d.save()
	return []string{"OK", a.status}
}

func (d *desk) shelve() []string {
	until, _ := d.opt(7)
	till, ok := number(until)
	now := mustNumber(d.now)
	switch {
	case d.comment == "":
		return []string{"INVALID", "shelving needs a reason"}
	case !ok || till <= now || till > now+alarmLongest:
		return []string{"INVALID", "shelving needs an end within 30 days"}
	case d.a.out:
		return []string{"STATE", statusOut}
	}
	if d.a.shelved && d.a.till == rounded(till) { // perhaps a call whose answer was lost
		if e := decode(d.text("HGET", d.key("alarm:shelved"), d.a.name)); e != nil && field(e, "by") == d.by && field(e, "reason") == d.comment {
			return []string{"SAME", d.a.status}
		}
	}
	d.a.shelved, d.a.till = true, rounded(till)
	d.a.sooner(till)
	return d.suppress(statusShelved, d.a.till)
}

// resume is unshelve and in_service.
func (d *desk) resume(flag *bool, transition string) []string {
	if !*flag {
		return []string{"SAME", d.a.status}
	}
	d.alarmResume(d.now, d.a, flag, transition, d.by, d.comment)
	d.save()
	return []string{"OK", d.a.status}
}
