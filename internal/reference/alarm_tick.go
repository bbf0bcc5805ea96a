package reference

import (
	"slices"
	"strconv"
	"strings"
)

// alarmFire is a rule whose timer has been taken.
func (r *run) alarmFire(now, member string, report *[]string) {
	model, point, rule, ok := ruleOf(strings.TrimPrefix(member, "alarm:"))
	if !ok || rule == "" || !strings.HasPrefix(member, "alarm:") {
		*report = append(*report, `timer "`+member+`" is of nobody and was taken away`)
		return
	}
	name := model + ":" + point + ":" + rule
	text, known := r.alarmState(name)
	err := protect(func() { r.alarmJudge(now, model, point, rule, alarmInput{isStored: true}, text, known, true) })
	if err != nil {
		*report = append(*report, alarmError(name, err))
		r.call("ZADD", r.key("timers"), "NX", rounded(mustNumber(now)+1000), member)
	}
}

// alarmDue judges the rules whose time has come, at most so many, and returns how
// many they were, and whether there are more.
func (r *run) alarmDue(now string, most int, report *[]string) (done int, more bool) {
	timers := r.key("timers")
	reply, err := r.pcall("ZRANGEBYSCORE", timers, "-inf", now, "LIMIT", "0", strconv.Itoa(most+1))
	if err != nil {
		*report = append(*report, "timers: "+err.Text)
		return 0, false
	}
	list, _ := reply.([]any)
	if len(list) == 0 {
		return 0, false
	}
	if _, err := r.pcall("HLEN", r.key("alarm:state")); err != nil { // the timers wait for it
		*report = append(*report, "alarm:state: "+err.Text)
		return 0, false
	}
	done = min(len(list), most)
	for _, m := range list[:done] {
		member, _ := m.(string)
		r.call("ZREM", timers, member)
		r.alarmFire(now, member, report)
	}
	return done, len(list) > most
}

// alarmTick is alarm_tick: what alarm rules have to do without a sample.
func (r *run) alarmTick() []string {
	if refusal := r.guardOptional(2); refusal != nil {
		return refusal
	}
	now, report := r.nowArg(1), []string{"OK", "", "0"}
	done, more := r.alarmDue(now, 200, &report)
	report[1] = strconv.Itoa(done)
	if more {
		report[2] = "1"
	}
	for i := 3; i <= len(r.argv); i++ { // a channel that cannot be looked at costs no other one
		channel := r.argv[i-1]
		if err := protect(func() { r.tickChannel(now, channel, &report) }); err != nil {
			report = append(report, alarmError("of channel "+channel, err))
		}
	}
	return report
}

// tickChannel judges the rules of a channel.
func (r *run) tickChannel(now, channel string, report *[]string) {
	var ids []string
	for _, id := range r.list("HKEYS", r.key("alarm:rules:channel:", channel)) {
		s, _ := id.(string)
		ids = append(ids, s)
	}
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	x := r.alarmInput(modelChannel, channel)
	given := x.value
	if given == "" {
		given = "!" + x.quality
	}
	for _, id := range ids {
		name := modelChannel + ":" + channel + ":" + id
		text, known := r.alarmState(name)
		if _, look := r.alarmItem(mustNumber(now), given, opOffline, "0", 0, text, known); !look {
			continue
		}
		if err := protect(func() { r.alarmJudge(now, modelChannel, channel, id, x, text, known, false) }); err != nil {
			*report = append(*report, alarmError(name, err))
		}
	}
}
