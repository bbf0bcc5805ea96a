package reference

// alarmDesk is alarm_desk: what a person does with an alarm.
func (r *run) alarmDesk() []string {
	op, _ := r.opt(1)
	if refusal := r.guard(3, 0); refusal != nil {
		return refusal
	}
	now, id := r.nowArg(2), r.arg(4)
	a := r.alarmLoad(id, "")
	if a == nil {
		return []string{"NOTFOUND", id}
	}
	if a.before == alarmClosed || op == "ack" && a.before == alarmAcked {
		return []string{"SAME", a.before}
	}
	by, hasBy := r.opt(5)
	comment, hasComment := r.opt(6)
	a.by, a.comment = by, comment
	key, transition := r.key("alarm:", id), alarmAcked
	switch {
	case op == "close":
		a.status, transition = alarmClosed, alarmClosed
	case a.before == alarmCleared:
		a.status = alarmClosed
	default:
		a.status = alarmAcked
	}
	r.alarmJournal(now, transition, id, a)
	if !hasComment {
		fail("argument 6 is missing")
	}
	r.call("HSET", key, "status", a.status, "comment", a.comment)
	if op == "ack" || r.integer("HEXISTS", key, "acknowledged_at") == 0 {
		if !hasBy {
			fail("argument 5 is missing")
		}
		r.call("HSET", key, "acknowledged_at", now, "acknowledged_by", a.by)
	}
	if a.status == alarmClosed {
		r.alarmEnd(id, a)
	} else {
		r.call("HSET", r.key("alarm:open"), a.openField(), id+"|"+a.status)
	}
	return []string{"OK", a.status}
}
