package api

// alarmRoutes are those of alarms and of their rules.
func (h *Handler) alarmRoutes() []route {
	const rule = "/alarm-rules/{model}/{point}/{rule}"
	return []route{
		{method: "GET", path: "/alarms", id: "alarms", role: viewer, serve: h.alarms},
		{method: "GET", path: "/alarms/counts", id: "alarmCounts", role: viewer, serve: h.alarmCounts},
		{method: "GET", path: "/alarms/unannounced", id: "unannouncedAlarms", role: viewer, serve: h.unannouncedAlarms},
		{method: "GET", path: "/alarms/journal", id: "alarmJournal", role: viewer, serve: h.alarmJournal},
		{method: "GET", path: "/alarms/journal/export", id: "exportAlarmJournal", role: viewer, serve: h.exportAlarmJournal},
		{method: "POST", path: "/alarms/ack", id: "acknowledgeAlarms", role: operator, serve: h.acknowledgeMany},
		{method: "GET", path: "/alarms/{id}", id: "alarm", role: viewer, serve: h.alarm},
		{method: "POST", path: "/alarms/{id}/ack", id: "acknowledgeAlarm", role: operator, serve: h.acknowledge},
		{method: "POST", path: "/alarms/{id}/close", id: "closeAlarm", role: operator, serve: h.closeAlarm},
		{method: "POST", path: "/alarms/{id}/reset", id: "resetAlarm", role: operator, serve: h.resetAlarm},
		{method: "POST", path: "/alarms/{id}/shelve", id: "shelveAlarm", role: operator, serve: h.shelveAlarm},
		{method: "POST", path: "/alarms/{id}/unshelve", id: "unshelveAlarm", role: operator, serve: h.unshelveAlarm},
		{method: "POST", path: "/alarms/{id}/out-of-service", id: "alarmOutOfService", role: engineer, serve: h.outOfService},
		{method: "POST", path: "/alarms/{id}/in-service", id: "alarmInService", role: engineer, serve: h.inService},
		{method: "GET", path: "/alarm-rules", id: "alarmRules", role: viewer, serve: h.alarmRules},
		{method: "GET", path: rule, id: "alarmRule", role: viewer, serve: h.alarmRule},
		{method: "PUT", path: rule, id: "putAlarmRule", role: engineer, serve: h.putAlarmRule},
		{method: "DELETE", path: rule, id: "deleteAlarmRule", role: engineer, serve: h.deleteAlarmRule},
		{method: "POST", path: rule + "/shelve", id: "shelveAlarmRule", role: operator, serve: h.shelveAlarm},
		{method: "POST", path: rule + "/unshelve", id: "unshelveAlarmRule", role: operator, serve: h.unshelveAlarm},
		{method: "POST", path: rule + "/out-of-service", id: "alarmRuleOutOfService", role: engineer, serve: h.outOfService},
		{method: "POST", path: rule + "/in-service", id: "alarmRuleInService", role: engineer, serve: h.inService},
	}
}
