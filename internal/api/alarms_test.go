package api

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// alarmSite has alarms of every kind.
func alarmSite() *fakeSite {
	s := newFakeSite()
	add := func(id string, change func(*model.Alarm)) {
		a := model.Alarm{ID: id, Model: "pv", Point: "temperature", Rule: "r" + id, Severity: model.High, Status: model.AlarmActive, Operator: model.Above,
			Message: "PV inverter is warm", Value: 71, Threshold: 70, Raised: start.Add(-time.Duration(id[0]-'0') * time.Hour), Count: 1}
		change(&a)
		s.alarms = append(s.alarms, a)
		s.rules[model.AlarmRef(a.Model, a.Point, a.Rule)] = model.AlarmRule{ID: a.Rule, Model: a.Model, Point: a.Point, Operator: model.Above, Threshold: 70, Severity: a.Severity}
	}
	add("3", func(a *model.Alarm) { a.Status, a.Cleared = model.AlarmCleared, start })
	add("4", func(a *model.Alarm) { a.Status, a.Severity, a.Cleared = model.AlarmLatched, model.Critical, start })
	add("5", func(a *model.Alarm) {
		s.hush(a, model.Shelved, "berta", "being cleaned", start.Add(25*time.Minute))
	})
	add("6", func(a *model.Alarm) { s.hush(a, model.OutOfService, "carl", "sensor is broken", time.Time{}) })
	add("7", func(a *model.Alarm) {
		a.Suppression, a.Severity, a.Message = model.ByDesign, model.Low, "Undervoltage while the unit is stopped"
	})
	add("8", func(a *model.Alarm) { a.Quality, a.Severity = "stale", model.Medium })
	add("9", func(a *model.Alarm) { a.Chattering, a.Count = true, 17 })
	return s
}

// ids returns the ids of the alarms of an answer, and its next.
func ids(t *testing.T, w *httptest.ResponseRecorder) (list, next string) {
	t.Helper()
	require.Equal(t, 200, w.Code, w.Body.String())
	var answer struct {
		Alarms []model.Alarm
		Next   string
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	for _, a := range answer.Alarms {
		list += a.ID
	}
	return list, answer.Next
}

func TestAlarmSelections(t *testing.T) {
	t.Parallel()
	h := newHandler(t, alarmSite(), nil)
	for query, want := range map[string]string{
		"state=active,cleared":                                        "2356789",
		"state=latched":                                               "4",
		"state=shelved":                                               "5",
		"state=active,shelved,out_of_service":                         "56",
		"state=cleared,shelved":                                       "",
		"suppression=none&severity=high":                              "39",
		"suppression=suppressed,none&severity=low,medium":             "178",
		"suppression=out_of_service":                                  "6",
		"severity=critical,medium":                                    "1248",
		"model=meter":                                                 "1",
		"model=pv&point=temperature&rule=r3":                          "3",
		"model=pv&point=other":                                        "",
		"from=2026-03-01T05:00:00Z&to=2026-03-01T08:00:00Z":           "567",
		fmt.Sprintf("from=%d", start.Add(-4*time.Minute).UnixMilli()): "2",
		"to=2026-03-01T05:30:00%2B02:00":                              "9",
		"closed=1&model=pv&limit=2":                                   "34",
		"closed=0&limit=1000&severity=high":                           "3569",
		"limit=1&after=8":                                             "9",
	} {
		got, _ := ids(t, do(h, "GET", "/alarms?"+query, ""))
		assert.Equal(t, want, got, query)
	}
	seen, after := "", ""
	for range 5 {
		got, next := ids(t, do(h, "GET", "/alarms?limit=3&after="+after, ""))
		seen, after = seen+got, next
		if next == "" {
			break
		}
	}
	assert.Equal(t, "123456789", seen)
	for query, want := range map[string]string{
		"states=active": "states", "severity=high,worst": "worst", "suppression=active": "want out_of_service", "from=yesterday": "RFC 3339",
		"to=-1": "RFC 3339", "closed=yes": "want 0 or 1", "newest=2": "want 0 or 1", "limit=1001": "want 1 to 1000", "after=x": "the id of an alarm",
		"severity=high&severity=low": "2 times", "model=a%20b": "model: id", "from=5&to=5": "a time after from", "state=active,": `state=\"\"`,
	} {
		w := do(h, "GET", "/alarms?"+query, "")
		assert.Equal(t, 400, w.Code, query)
		assert.Contains(t, w.Body.String(), want, query)
	}
}

func TestAlarmCountsAndMetrics(t *testing.T) {
	t.Parallel()
	h := newHandler(t, alarmSite(), nil)
	assert.JSONEq(t, `{"open":9,"statuses":{"active":6,"acknowledged":1,"cleared":1,"latched":1},"severities":{"critical":2,"high":4,"medium":2,"low":1},
		"suppressions":{"shelved":1,"out_of_service":1,"suppressed":1},"unacknowledged":{"critical":1,"high":2,"medium":1},"chattering":1,"unannounced":2,"closed":0}`,
		do(h, "GET", "/alarms/counts", "").Body.String())
	e, err := parseExposition(do(h, "GET", "/metrics", "").Body.String())
	require.NoError(t, err)
	for series, want := range map[string]float64{
		`voltage_alarms_open{severity="critical"}`: 2, `voltage_alarms_open{severity="low"}`: 1, `voltage_alarms_status{status="latched"}`: 1,
		`voltage_alarms_status{status="active"}`: 6, `voltage_alarms_unacknowledged{severity="high"}`: 2, `voltage_alarms_unacknowledged{severity="low"}`: 0,
		`voltage_alarms_suppressed{suppression="shelved"}`: 1, `voltage_alarms_suppressed{suppression="suppressed"}`: 1,
		`voltage_alarms_chattering`: 1, `voltage_alarm_rules_unannounced`: 2,
	} {
		got, ok := e.series[series]
		assert.True(t, ok, series)
		assert.Equal(t, want, got, series)
	}
	assert.NotContains(t, e.series, `voltage_alarms_status{status="closed"}`)
	body := do(h, "GET", "/alarms/unannounced", "").Body.String()
	assert.Contains(t, body, `{"model_id":"pv","point_name":"temperature","rule_id":"r5","kind":"shelved","until":"2026-03-01T12:25:00Z","by":"berta","reason":"being cleaned"`)
	assert.Contains(t, body, `"kind":"out_of_service","by":"carl"`)
	assert.JSONEq(t, `{"rules":[]}`, do(newHandler(t, newFakeSite(), nil), "GET", "/alarms/unannounced", "").Body.String())
}

// What a person does to an alarm, and what the audit journal says of it.
func TestAlarmDesk(t *testing.T) {
	t.Parallel()
	site := alarmSite()
	h := newHandler(t, site, func(c *Config) { c.Clock = newTestClock() })
	for _, tt := range []struct {
		target, body string
		status       int
		want         string
	}{
		{"/alarms/2/shelve", `{"by":"anna","reason":" being cleaned ","minutes":30}`, 200, `"suppression":"shelved","shelved_until":"2026-03-01T12:30:00Z","reason":"being cleaned","suppressed_by":"anna"`},
		{"/alarms/2/shelve", `{"reason":"x","until":"2026-03-01T14:30:00+02:00"}`, 200, `"shelved_until":"2026-03-01T12:30:00Z"`},
		{"/alarms/2/shelve", `{"reason":"x","until":"2026-03-08T12:00:00Z"}`, 200, `"shelved_until":"2026-03-08T12:00:00Z"`},
		{"/alarms/2/unshelve", "", 200, `"status":"active"`},
		{"/alarms/2/shelve", `{"minutes":30}`, 400, `field \"reason\" is missing`},
		{"/alarms/2/shelve", `{"reason":"  ","minutes":30}`, 400, `field \"reason\" is missing`},
		{"/alarms/2/shelve", `{"reason":"x"}`, 400, "either"},
		{"/alarms/2/shelve", `{"reason":"x","minutes":5,"until":"2026-03-01T12:30:00Z"}`, 400, "either"},
		{"/alarms/2/shelve", `{"reason":"x","minutes":0}`, 400, "want 1 to 10080"},
		{"/alarms/2/shelve", `{"reason":"x","minutes":10081}`, 400, "want 1 to 10080"},
		{"/alarms/2/shelve", `{"reason":"x","minutes":"5"}`, 400, `field \"minutes\": string is not a number`},
		{"/alarms/2/shelve", `{"reason":"x","until":"2026-03-01T12:00:30Z"}`, 400, "1m0s to 168h0m0s ahead"},
		{"/alarms/2/shelve", `{"reason":"x","until":"2026-03-08T12:00:01Z"}`, 400, "ahead"},
		{"/alarms/2/shelve", `{"reason":"x","until":"tomorrow"}`, 400, "RFC 3339"},
		{"/alarms/2/shelve", `{"reason":"` + strings.Repeat("x", 501) + `","minutes":5}`, 400, "at most 64 and 500 bytes"},
		{"/alarms/2/shelve", "", 415, "application/json"},
		{"/alarms/2/shelve", `{"comment":"x","minutes":5}`, 400, "is unknown"},
		{"/alarms/99/shelve", `{"reason":"x","minutes":5}`, 404, "not found"},
		{"/alarms/2/out-of-service", `{"reason":"sensor"}`, 200, `"suppression":"out_of_service","reason":"sensor"`},
		{"/alarms/2/out-of-service", `{}`, 400, "reason"},
		{"/alarms/2/in-service", `{"comment":"new sensor"}`, 200, `"status":"active"`},
		{"/alarms/2/reset", "", 409, "not possible in this state"},
		{"/alarms/4/reset", `{"by":"anna","comment":"looked at it"}`, 200, `"status":"closed"`},
		{"/alarms/2/ack", `{"comment":"a\nb"}`, 400, "plain text"},
		{"/alarm-rules/bms1/temperature_max/hot/shelve", `{"reason":"x","minutes":5}`, 200, `{"unannounced":{"model_id":"bms1","point_name":"temperature_max","rule_id":"hot","kind":"shelved"`},
		{"/alarm-rules/bms1/temperature_max/hot/unshelve", "", 200, `{"unannounced":null}`},
		{"/alarm-rules/bms1/temperature_max/hot/out-of-service", `{"reason":"x"}`, 200, `"kind":"out_of_service"`},
		{"/alarm-rules/bms1/temperature_max/hot/in-service", "", 200, `{"unannounced":null}`},
		{"/alarm-rules/bms1/temperature_max/none/unshelve", "", 404, "not found"},
		{"/alarm-rules/bms1/a%20b/hot/unshelve", "", 400, "point: id"},
	} {
		w := do(h, "POST", tt.target, tt.body)
		assert.Equal(t, tt.status, w.Code, "%s %s: %s", tt.target, tt.body, w.Body)
		assert.Contains(t, w.Body.String(), tt.want, "%s %s", tt.target, tt.body)
	}
	h.audit.wait()
	entries := site.entries()
	assert.Equal(t, "shelveAlarm 2 ok for 30m0s; being cleaned anna", said(entries[0]))
	assert.Equal(t, "unshelveAlarm 2 ok  ", said(entries[3]))
	assert.Contains(t, said(entries[4]), `shelveAlarm 2 failed field "reason" is missing`)
	var rules []string
	for _, e := range entries {
		if strings.Contains(e.Action, "Rule") {
			rules = append(rules, e.Action+" "+e.Target)
		}
	}
	assert.Equal(t, "shelveAlarmRule bms1:temperature_max:hot", rules[0])
	assert.Contains(t, rules, "alarmRuleOutOfService bms1:temperature_max:hot")
}

func said(e model.AuditEntry) string {
	return e.Action + " " + e.Target + " " + e.Result + " " + e.Detail + " " + e.Who
}

func TestAcknowledgeMany(t *testing.T) {
	t.Parallel()
	many := `"` + strings.Repeat(`1","`, 1000) + `1"`
	for body, want := range map[string]string{
		`{"ids":["2","3","9"],"comment":"seen"}`:      `{"acknowledged":3}`,
		`{"ids":["2","2"],"by":"anna"}`:               `{"acknowledged":1}`,
		`{"ids":["77"]}`:                              `{"acknowledged":0}`,
		`{"all":true}`:                                `{"acknowledged":8}`,
		`{"all":true,"severity":"high","model":"pv"}`: `{"acknowledged":4}`,
		`{"all":true,"model":"meter"}`:                `{"acknowledged":0}`,
		`{}`:                                          "either", `{"all":false}`: "either", `{"all":true,"ids":["1"]}`: "either", `{"ids":[]}`: "either",
		`{"ids":["1"],"model":"pv"}`: `go with`,
		`{"all":true,"severity":""}`: "want low, medium, high or critical", `{"all":true,"model":""}`: `field \"model\": the id is empty`,
		`{"all":true,"severity":"worst"}`:   "want low, medium, high or critical",
		`{"all":true,"model":"a b"}`:        `field \"model\": id`,
		`{"ids":["a b"]}`:                   "alarm: id",
		`{"ids":[` + many + `]}`:            "at most 1000",
		`{"all":"yes"}`:                     "true or false",
		`{"ids":["2"],"comment":"a\u0000"}`: "plain text",
	} {
		w := do(newHandler(t, alarmSite(), nil), "POST", "/alarms/ack", body)
		assert.Contains(t, w.Body.String(), want, body)
		assert.Equal(t, !strings.HasPrefix(want, "{"), w.Code == 400, "%s: %d", body, w.Code)
	}
	site := alarmSite()
	h := newHandler(t, site, withKeys)
	do(h, "POST", "/alarms/ack", `{"all":true,"severity":"high","model":"pv","comment":"seen","by":"somebody else"}`, "X-API-Key", "operator", "Remote", remote())
	do(h, "POST", "/alarms/ack", `{"ids":["1","2"]}`, "X-API-Key", "operator", "Remote", remote())
	h.audit.wait()
	assert.Equal(t, "acknowledgeAlarms all high pv ok 4 acknowledged; seen the operator", said(site.entries()[0]))
	assert.Equal(t, "acknowledgeAlarms 1 2 ok 1 acknowledged the operator", said(site.entries()[1]))
}

func TestAlarmJournalParts(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	site.events = nil
	for i := range 6 {
		site.events = append(site.events, model.AlarmEvent{Position: fmt.Sprintf("%d-0", start.Add(time.Duration(i)*time.Hour).UnixMilli()),
			Transition: model.TransitionRaised, Time: start.Add(time.Duration(i) * time.Hour), Alarm: fmt.Sprint(i), Model: []string{"pv", "meter"}[i%2],
			Point: "temperature", Rule: "hot", Severity: model.High, Status: model.AlarmActive})
	}
	h := newHandler(t, site, nil)
	read := func(query string) (list, next string) {
		w := do(h, "GET", "/alarms/journal?"+query, "")
		require.Equal(t, 200, w.Code, w.Body.String())
		var answer struct {
			Events []model.AlarmEvent
			Next   string
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		for _, ev := range answer.Events {
			list += ev.Alarm
		}
		return list, answer.Next
	}
	for query, want := range map[string]string{
		"": "012345", "newest=1": "543210", "model=pv": "024", "alarm=3": "3", "point=x": "", "rule=hot&model=meter&newest=1": "531",
		"from=2026-03-01T13:00:00Z&to=2026-03-01T15:00:00Z": "12", fmt.Sprintf("from=%d", start.Add(4*time.Hour).UnixMilli()): "45",
	} {
		got, _ := read(query)
		assert.Equal(t, want, got, query)
	}
	first, next := read("newest=1&limit=4")
	assert.Equal(t, "5432", first)
	second, _ := read("newest=1&limit=4&after=" + next)
	assert.Equal(t, "10", second)
	for query, want := range map[string]string{
		"order=x": "order", "alarm=x": "the id of an alarm", "from=x": "RFC 3339", "newest=x": "want 0 or 1", "model=a%20b": "model: id",
	} {
		w := do(h, "GET", "/alarms/journal?"+query, "")
		assert.Equal(t, 400, w.Code, query)
		assert.Contains(t, w.Body.String(), want)
	}
}
