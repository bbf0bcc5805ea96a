package main

// which are the flags that select alarms.
const which = "state severity suppression model point rule from to"

// person are those of whoever does something.
const person = "by comment"

const anAlarm = "\n\nAn ALARM is an id, as list shows it, or MODEL:POINT:RULE."

// alarmCommands are those for alarms.
func alarmCommands() []command {
	const selected = "[-state S,S] [-severity S,S] [-suppression S,S] [-model M] [-point P] [-rule R] [-from T] [-to T]"
	const said = "[-by WHO] [-comment TEXT]"
	const times = "\n\nA time is 2026-11-26, 2026-11-26T08:00, an RFC 3339 time, or how long ago, such as 24h."
	return []command{
		{name: "list", flags: which + " closed newest most", options: selected + " [-closed] [-newest] [-n 100]", store: true, run: runAlarmList,
			brief:  "the alarms that are open, and closed ones",
			detail: "Prints alarms in the order in which they were raised. Without -state those that are\nnot closed. -suppression takes shelved, out_of_service, suppressed and none." + times},
		{name: "counts", store: true, run: runAlarmCounts, brief: "how many alarms there are",
			detail: "Counts the open alarms by status, severity and suppression."},
		{name: "ack", names: []string{"[ALARM…]"}, many: true, flags: person + " all " + which, options: said + " | -all " + selected, store: true, run: runAlarmAck,
			brief:  "takes note of alarms",
			detail: "Acknowledges alarms, or with -all those that the flags select. An alarm that has\nreturned to normal is closed by it." + anAlarm},
		{name: "reset", names: []string{"ALARM"}, flags: person, options: said, store: true, run: desk((*operator).reset),
			brief: "ends a latched alarm", detail: "Ends an alarm that is latched: its condition is over, and somebody has to say so." + anAlarm},
		{name: "close", names: []string{"ALARM"}, flags: person, options: said, store: true, run: desk((*operator).close),
			brief:  "ends an alarm by hand",
			detail: "Ends an alarm whatever the value is, for alarms that nothing else will end. If its\ncondition still holds, a new one is raised." + anAlarm},
		{name: "shelve", names: []string{"ALARM"}, flags: "by reason for", options: "-for 2h -reason WHY [-by WHO]", store: true, run: desk((*operator).shelve),
			brief: "puts an alarm aside for a time", detail: "Nobody is told of the alarm until the time is over, 1m to 168h." + anAlarm},
		{name: "unshelve", names: []string{"ALARM"}, flags: person, options: said, store: true, run: desk((*operator).unshelve),
			brief: "ends that before its time", detail: "Ends shelving before its time." + anAlarm},
		{name: "oos", names: []string{"ALARM"}, flags: "by reason", options: "-reason WHY [-by WHO]", store: true, run: desk((*operator).outOfService),
			brief: "takes an alarm out of service", detail: "Nobody is told of the alarm until it is in service again." + anAlarm},
		{name: "in-service", names: []string{"ALARM"}, flags: person, options: said, store: true, run: desk((*operator).inService),
			brief: "takes that back", detail: "Puts an alarm back in service." + anAlarm},
		{name: "unannounced", store: true, run: runUnannounced, brief: "what is shelved or out of service, by whom and why",
			detail: "Prints the rules that are shelved or out of service, also those without an open alarm."},
		{name: "journal", flags: "alarm model point rule from to csv most", store: true, run: runAlarmJournal,
			options: "[-alarm ID] [-model M] [-point P] [-rule R] [-from T] [-to T] [-n 20] [-csv]",
			brief:   "every transition of every alarm",
			detail:  "Prints the last transitions, the last one at the end. With -csv or -json all that are\nselected, for export, unless -n says otherwise." + times},
		{name: "rules", store: true, run: runAlarmRules, brief: "the alarm rules, and which are malformed",
			detail: "Prints the rules that the site's store has, whoever wrote them. Malformed ones are\nnamed, and nobody goes by them."},
	}
}
