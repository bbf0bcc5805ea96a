package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

// A message has what the journal says, and a snapshot what the records say.
func TestAlarmMessages(t *testing.T) {
	t.Parallel()
	h := newHandler(t, alarmSite(), nil)
	p := dial(t, serve(t, h))
	p.strict = true
	m := p.next()
	require.Len(t, m.Alarms, 9)
	by := map[string]model.Alarm{}
	for _, a := range m.Alarms {
		by[a.ID] = a
	}
	assert.Equal(t, model.AlarmLatched, by["4"].Status)
	assert.Equal(t, model.Shelved, by["5"].Suppression)
	assert.False(t, by["5"].ShelvedUntil.IsZero())
	assert.Equal(t, "stale", by["8"].Quality)
	assert.True(t, by["9"].Chattering)
	h.Alarm(model.AlarmEvent{Position: "5-0", Transition: model.TransitionShelved, Time: start, Model: "pv", Point: "temperature", Rule: "hot",
		Severity: model.High, Suppression: model.Shelved, By: "anna", Comment: "being cleaned"})
	event := string(p.next().Event)
	assert.Contains(t, event, `"suppression":"shelved"`)
	assert.NotContains(t, event, `"alarm"`, "no alarm of the rule is open")
	h.Alarm(model.AlarmEvent{Position: "6-0", Transition: model.TransitionLatched, Time: start, DeviceTime: start, Alarm: "4", Model: "pv", Point: "temperature",
		Rule: "r4", Severity: model.Critical, Status: model.AlarmLatched, Value: 60, Threshold: 70})
	assert.Contains(t, string(p.next().Event), `"status":"latched"`)
}

// The routes together with a real data plane.
func TestAlarmsOfAPlane(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		site, write := newPlaneSite(t, client, 3, 0)
		h := newHandler(t, site, nil)
		get := func(target string) map[string]any {
			w := do(h, "GET", target, "")
			require.Equal(t, 200, w.Code, "%s: %s", target, w.Body)
			var answer map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
			return answer
		}
		tell := func(method, target, body, want string) {
			t.Helper()
			w := do(h, method, target, body)
			require.Equal(t, 200, w.Code, "%s %s: %s", method, target, w.Body)
			require.Contains(t, w.Body.String(), want, target)
		}
		count := func(target, list string) int { return len(get(target)[list].([]any)) }
		rule := func(i int) string { return fmt.Sprintf("/alarm-rules/pcs1/value_%03d/high", i) }
		for i, severity := range []string{"critical", "high", "low"} {
			tell("PUT", rule(i), `{"operator":">","threshold":50,"severity":"`+severity+`","latch":`+fmt.Sprint(i == 2)+`}`, severity)
		}
		require.Equal(t, 3, count("/alarm-rules?model=pcs1", "rules"))
		tell("POST", rule(1)+"/shelve", `{"by":"anna","reason":"test","minutes":5}`, `"kind":"shelved"`)
		require.Equal(t, 1, count("/alarms/unannounced", "rules"))
		write(800) // all are over the limit
		require.Equal(t, 3, count("/alarms", "alarms"))
		require.Equal(t, 2, count("/alarms?state=active&suppression=none", "alarms"))
		require.Equal(t, 1, count("/alarms?state=shelved&severity=high", "alarms"))
		require.EqualValues(t, 1, get("/alarms/counts")["unannounced"])
		first := get("/alarms?limit=1")
		require.Equal(t, 2, count("/alarms?limit=5&after="+first["next"].(string), "alarms"))

		tell("POST", "/alarms/ack", `{"all":true,"model":"pcs1","severity":"critical","comment":"seen"}`, `{"acknowledged":1}`)
		require.Equal(t, 1, count("/alarms?state=acknowledged", "alarms"))
		write(0) // all return: the acknowledged one is over, the shelved one too, one is latched
		latched := get("/alarms?state=latched")["alarms"].([]any)
		require.Len(t, latched, 1)
		require.Equal(t, 1, count("/alarms", "alarms"))
		id := latched[0].(map[string]any)["id"].(string)
		tell("POST", "/alarms/"+id+"/out-of-service", `{"reason":"no sensor"}`, `"suppression":"out_of_service"`)
		tell("POST", "/alarms/"+id+"/in-service", "", `"id":"`+id+`"`)
		tell("POST", "/alarms/"+id+"/reset", `{"comment":"done"}`, `"status":"closed"`)
		tell("POST", rule(1)+"/unshelve", "", `{"unannounced":null}`)
		require.Equal(t, 3, count("/alarms?closed=1&state=closed&newest=1", "alarms"))
		require.Equal(t, 404, do(h, "POST", "/alarms/9999999/shelve", `{"reason":"x","minutes":5}`).Code)

		events := get("/alarms/journal?limit=1000")["events"].([]any)
		back := get("/alarms/journal?newest=1&limit=1000&model=pcs1")["events"].([]any)
		require.Equal(t, len(events), len(back))
		require.Equal(t, events[0], back[len(back)-1])
		csv := do(h, "GET", "/alarms/journal/export?model=pcs1", "").Body.String()
		require.Equal(t, len(events)+1, strings.Count(csv, "\r\n"))
		require.Contains(t, csv, ",shelved,")
		require.Contains(t, csv, ",latched,")
		var export struct{ Events []model.AlarmEvent }
		require.NoError(t, json.Unmarshal(do(h, "GET", "/alarms/journal/export?format=json", "").Body.Bytes(), &export))
		require.Len(t, export.Events, len(events))

		tell("DELETE", rule(0), `{"reason":"not needed"}`, "deleted")
		require.Equal(t, 404, do(h, "GET", rule(0), "").Code)
		require.NoError(t, client.HSet(t.Context(), "{"+site.name+"}:alarm:rules:pcs1:value_000", "odd", "{").Err())
		problems := get("/alarm-rules")["problems"].([]any)
		require.Len(t, problems, 1)
		require.Contains(t, problems[0], "odd")
		require.Equal(t, 422, do(h, "GET", "/alarm-rules/pcs1/value_000/odd", "").Code)
	})
}
