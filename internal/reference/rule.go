package reference

import "strconv"

var condParts = []string{"key", "field", "model_id", "point_name"}

// ruleValue is the value that a condition looks at; ok is false when there is
// none or its quality is not good enough to decide on.
func (r *run) ruleValue(c any) (v float64, ok bool) {
	for _, part := range condParts {
		if table(field(c, part)) {
			return 0, false
		}
	}
	if key, name := field(c, "key"), field(c, "field"); truthy(key) && truthy(name) {
		return r.numberAt(r.prefix+concat(key), argument(name))
	}
	model, point := field(c, "model_id"), field(c, "point_name")
	if !truthy(model) || !truthy(point) {
		return 0, false
	}
	v, ok, _, _ = r.pointValue(concat(model), argument(point))
	return v, ok
}

func (r *run) numberAt(key, name string) (float64, bool) {
	s, _ := r.text("HGET", key, name)
	return number(s)
}

// ruleConditions reports whether all conditions are met. decided is false where
// a value is missing. One condition that is false decides alone.
func (r *run) ruleConditions(conditions array) (met, decided bool) {
	met, decided = true, true
	for _, c := range conditions {
		if !table(c) {
			return false, false
		}
		v, ok := r.ruleValue(c)
		threshold, given := numberOf(field(c, "threshold"))
		known := false
		if ok && given {
			met, known = compare(v, field(c, "operator"), threshold)
		}
		if known && !met {
			return false, true
		}
		decided = decided && known
	}
	return true, decided
}

// ruleText is a text of an action, or what stands for one that is missing.
func ruleText(a any, name, missing string) string {
	if s, ok := field(a, name).(string); ok && s != "" {
		return s
	}
	return missing
}

func (r *run) ruleAct(now, id string, n int, a any, report *[]string) {
	switch field(a, "type") {
	case "control":
		value := ""
		switch v := field(a, "value").(type) {
		case string:
			value = v
		case float64:
			value = strconv.FormatFloat(v, 'f', 6, 64)
		}
		reply := r.commandSubmit(now, &command{model: ruleText(a, "model_id", ""), control: ruleText(a, "control_name", ""),
			value: value, origin: "rule:" + id}, "", 10000, false)
		*report = append(*report, "rule "+id+" gave command "+reply[2])
	case "alarm":
		name := "action" + strconv.Itoa(n)
		// one open record per rule and action: more of the same would tell nothing new
		text, known := r.alarmState("rule:" + id + ":" + name)
		alarm := alarmAt("rule", id, name, text, known)
		if alarm.id == "" || !r.alarmLoad(alarm) {
			alarm.value, alarm.hasValue = "1.000000", true
			alarm.r = &alarmRule{severity: ruleText(a, "severity", severityUnset), message: ruleText(a, "message", "rule "+id)}
			err := protect(func() { r.alarmRaise(now, alarm) })
			r.alarmSave(alarm) // also where it was raised and only the telling failed
			if err != nil {
				panic(failure{err})
			}
		}
	case "notification":
		severity := ruleText(a, "severity", severityUnset)
		r.notify(severity, map[string]string{"type": "notification", "rule_id": id, "severity": severity,
			"message": ruleText(a, "message", "rule "+id), "timestamp": now})
	default:
		*report = append(*report, "rule "+id+": action "+strconv.Itoa(n)+" has no known type and was skipped")
	}
}

// ruleRun evaluates one rule and reports whether it acted. byHand acts whenever
// the conditions are true; otherwise only when they were not before. report
// takes what was done, problems what could not be.
func (r *run) ruleRun(now, id string, byHand bool, report, problems *[]string) bool {
	h := r.list("HMGET", r.key("rule:", id), "conditions", "actions", "disabled")
	conditions, actions := decode(at(h, 0)), decode(at(h, 1))
	_, hasConditions := at(h, 0)
	_, hasActions := at(h, 1)
	if conditions == nil || actions == nil || len(items(conditions)) == 0 {
		if hasConditions || hasActions || byHand {
			*report = append(*report, "rule "+id+" is missing or malformed and was skipped")
		}
		return false
	}
	if or(h, 2, "") == "1" && !byHand {
		return false
	}
	met, decided := r.ruleConditions(items(conditions))
	if !decided {
		return false
	}
	before, known := r.text("HGET", r.key("rules:state"), id)
	state := "0"
	if met {
		state = "1"
	}
	if !known || before != state {
		r.call("HSET", r.key("rules:state"), id, state)
	}
	if !met || before == "1" && !byHand {
		return false
	}
	_, _ = r.pcall("HINCRBY", r.key("rule:stats:", id), "execution_count", "1") // never the reason not to act
	_, _ = r.pcall("HSET", r.key("rule:stats:", id), "last_execution", now)
	for i, a := range items(actions) { // one that cannot be done does not keep the next from being done
		err := &Error{"is no object"}
		if table(a) {
			err = protect(func() { r.ruleAct(now, id, i+1, a, report) })
		}
		if err != nil {
			*problems = append(*problems, "rule "+id+": action "+strconv.Itoa(i+1)+": "+err.Text)
		}
	}
	return true
}
