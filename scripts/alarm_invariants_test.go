package scripts_test

import (
	"fmt"
	"slices"
	"strings"
)

// What must hold after every step, whatever has made it. The ledger replays the
// journal, and knows nothing of how the scripts go about it.

// alarmLedger is what the journal has said so far.
type alarmLedger struct {
	status map[string]string // of each alarm; "closed" too
	rule   map[string]string // of each alarm
	told   map[string]bool   // ids of notifications
	soon   map[string]bool   // rules that were changed and not looked at since
	seen   map[string]int    // transitions
}

func newAlarmLedger() *alarmLedger {
	return &alarmLedger{status: map[string]string{}, rule: map[string]string{}, told: map[string]bool{}, soon: map[string]bool{}, seen: map[string]int{}}
}

// alarmTransitions are all that there are.
var alarmTransitions = []string{"raised", "reraised", "cleared", "latched", "acknowledged", "closed", "reset", "shelved", "unshelved", "suppressed",
	"unsuppressed", "out_of_service", "in_service", "chattering"}

// legalMoves are the statuses before and after a transition; "" is no alarm.
var legalMoves = func() map[string]bool {
	moves := map[string]bool{}
	for _, m := range strings.Fields(`raised::active reraised:cleared:active reraised:latched:active
		cleared:active:cleared cleared:active:closed cleared:acknowledged:closed latched:active:latched latched:acknowledged:latched
		acknowledged:active:acknowledged acknowledged:cleared:closed acknowledged:latched:latched
		closed:active:closed closed:acknowledged:closed closed:cleared:closed closed:latched:closed reset:latched:closed chattering:active:active
		unshelved:acknowledged:active in_service:acknowledged:active unsuppressed:acknowledged:active`) {
		moves[m] = true
	}
	for _, status := range []string{"", "active", "acknowledged", "cleared", "latched"} {
		for _, m := range []string{"shelved", "unshelved", "suppressed", "unsuppressed", "out_of_service", "in_service"} {
			moves[m+":"+status+":"+status] = true
		}
	}
	return moves
}()

// announced are the transitions that people are told of.
var announced = map[string]bool{"raised": true, "reraised": true, "cleared": true, "latched": true, "acknowledged": true, "closed": true, "reset": true}

// resumed are told where the alarm stands again.
var resumed = map[string]bool{"unshelved": true, "in_service": true, "unsuppressed": true}

// check takes in a step and returns what does not hold.
func (l *alarmLedger) check(d alarmStep, look alarmLook) string {
	for _, check := range []func(alarmStep, alarmLook) string{l.checkJournal, l.checkNotifications, l.checkRecords, l.checkStates} {
		if wrong := check(d, look); wrong != "" {
			return wrong
		}
	}
	return ""
}

func (l *alarmLedger) checkJournal(d alarmStep, look alarmLook) string {
	for _, e := range look.Journal {
		id, move, status := e["alarm"], e["transition"], e["status"]
		l.seen[move]++
		before := l.status[id]
		if id == "" && status != "" || !legalMoves[move+":"+before+":"+status] {
			return fmt.Sprintf("alarm %q was %q and is %q after %s", id, before, status, move)
		}
		if move == "cleared" && status == "closed" && before == "active" && e["suppression"] == "" {
			return "alarm " + id + " was closed without anybody having taken note"
		}
		if resumed[move] && before != status && e["suppression"] != "" {
			return "alarm " + id + " is unacknowledged again while it is suppressed"
		}
		if id != "" {
			if l.rule[id] == "" {
				l.rule[id] = ruleName(e)
			}
			if l.rule[id] != ruleName(e) {
				return "alarm " + id + " has changed its rule"
			}
			l.status[id] = status
		}
		if wrong := judgedBlindly(d, e); wrong != "" {
			return wrong
		}
	}
	return ""
}

// judgedBlindly: a value that is not usable raises and clears nothing.
func judgedBlindly(d alarmStep, e map[string]string) string {
	move := e["transition"]
	if move != "raised" && move != "reraised" && move != "cleared" && move != "latched" || e["model_id"] != "m" {
		return ""
	}
	switch d.operators[ruleName(e)] {
	case "stale", "bad_quality":
		return ""
	}
	if d.step[0] == "alarm_check" {
		if strings.HasPrefix(d.step[3], "!") {
			return move + " on " + d.step[3]
		}
		return ""
	}
	usable := func(q string) bool { return q == "" || q == "uncertain" || q == "substituted" }
	if !usable(d.before[e["point_name"]]) && !usable(d.after[e["point_name"]]) {
		return ruleName(e) + " " + move + " on quality " + d.after[e["point_name"]]
	}
	return ""
}

// checkNotifications: of every transition that people are to be told of, once, and
// of nothing else.
func (l *alarmLedger) checkNotifications(_ alarmStep, look alarmLook) string {
	var want, got []string
	for _, e := range look.Journal {
		move := e["transition"]
		if e["alarm"] != "" && e["suppression"] == "" && (announced[move] || resumed[move] && e["status"] == "active") {
			want = append(want, e["alarm"]+" "+move+" "+e["status"])
		}
	}
	for _, n := range look.Queue {
		if n["type"] != "alarm" {
			continue
		}
		got = append(got, n["alarm_id"]+" "+n["transition"]+" "+n["status"])
		if l.told[n["id"]] || !strings.HasPrefix(n["id"], n["alarm_id"]+"-") {
			return "notification " + n["id"] + " is not one of its own"
		}
		l.told[n["id"]] = true
	}
	if !slices.Equal(want, got) {
		return fmt.Sprintf("people were told %q and should have been %q", got, want)
	}
	return ""
}

func (l *alarmLedger) checkRecords(_ alarmStep, look alarmLook) string {
	open, closed, rules := 0, 0, map[string]string{}
	for id, status := range l.status {
		if status == "closed" {
			closed++
			if _, ok := look.Closed[id]; !ok {
				return "alarm " + id + " is closed and not among the closed ones"
			}
			continue
		}
		open++
		if !slices.Contains(look.Active, id) {
			return "alarm " + id + " is open and not among the active ones"
		}
		if other := rules[l.rule[id]]; other != "" {
			return "alarms " + other + " and " + id + " are both open and of one rule"
		}
		rules[l.rule[id]] = id
		if look.Records[id]["status"] != status {
			return "alarm " + id + " is " + status + " after the journal, and its record " + look.Records[id]["status"]
		}
		f := strings.Split(look.State[l.rule[id]], "|")
		if len(f) != 11 || f[3] != id || f[4] != status {
			return "alarm " + id + " is open and the state of its rule is " + look.State[l.rule[id]]
		}
		if why := suppressionOf(f[6]); look.Records[id]["suppression"] != why {
			return "alarm " + id + " is " + why + " and shows " + look.Records[id]["suppression"]
		}
		if look.Records[id]["quality"] != f[2] {
			return "alarm " + id + " has quality " + f[2] + " and shows " + look.Records[id]["quality"]
		}
	}
	if len(look.Active) != open || len(look.Closed) != closed {
		return fmt.Sprintf("%d alarms are open and %d closed, not %d and %d", open, closed, len(look.Active), len(look.Closed))
	}
	return ""
}

// suppressionOf is what the flags of a state come to.
func suppressionOf(flags string) string {
	for _, f := range [][2]string{{"o", "out_of_service"}, {"s", "shelved"}, {"d", "suppressed"}} {
		if strings.Contains(flags, f[0]) {
			return f[1]
		}
	}
	return ""
}

func (l *alarmLedger) checkStates(d alarmStep, look alarmLook) string {
	switch {
	case d.step[0] == "data_sync" || d.step[0] == "alarm_tick":
		clear(l.soon) // timers that are due come first
	case d.step[0] == "site_config" && strings.HasSuffix(d.step[1], "alarm_rule"):
		l.soon[strings.Join(d.step[4:7], ":")] = true
	}
	for name, state := range look.State {
		f := strings.Split(state, "|")
		due, timed := look.Timers["alarm:"+name]
		if !l.soon[name] && (timed != (f[1] != "") || timed && fmt.Sprintf("%.0f", due) != f[1]) {
			return fmt.Sprintf("%s is due at %s and its timer is set for %.0f", name, f[1], due)
		}
		if _, listed := look.Shelved[name]; listed != strings.ContainsAny(f[6], "so") {
			return name + " has flags " + f[6] + " and is not listed so"
		}
		if f[3] != "" && l.rule[f[3]] != name {
			return name + " has the alarm of another rule"
		}
	}
	for member := range look.Timers {
		name := strings.TrimPrefix(member, "alarm:")
		if _, known := look.State[name]; !known && !l.soon[name] {
			return "the timer of " + name + " is nobody's"
		}
	}
	for name := range look.Shelved {
		if _, known := look.State[name]; !known {
			return name + " is listed as shelved and is not"
		}
	}
	return ""
}
