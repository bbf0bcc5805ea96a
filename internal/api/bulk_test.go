package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

const three = `{"commands":[{"model":"pcs1","control":"active_power_setpoint","value":5,"key":"k"},` +
	`{"model":"pv","control":"power_limit","value":30},{"model":"pv","control":"run","value":1,"timeout_ms":500}]}`

func TestControlMany(t *testing.T) {
	t.Parallel()
	type answer struct{ Results []outcome }
	ask := func(site *fakeSite, query, body string, status int) (a answer, entries []string) {
		t.Helper()
		h := newHandler(t, site, withKeys)
		w := do(h, "POST", "/control"+query, body, "X-API-Key", "operator", "Remote", remote())
		require.Equal(t, status, w.Code, w.Body.String())
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
		h.audit.wait()
		for _, e := range site.entries() {
			entries = append(entries, fmt.Sprintf("%s %s %s %d", e.Who, e.Target, e.Result, e.Status))
		}
		return a, entries
	}
	site := newFakeSite()
	a, entries := ask(site, "", three, 200)
	require.Len(t, a.Results, 3)
	for i, control := range []string{"active_power_setpoint", "power_limit", "run"} {
		assert.Equal(t, 200, a.Results[i].Status)
		assert.Equal(t, control, a.Results[i].Command.Control)
		assert.Equal(t, model.CommandVerified, a.Results[i].Command.State)
		assert.Equal(t, "the operator", a.Results[i].Command.User)
	}
	assert.Equal(t, []string{"pcs1:active_power_setpoint", "pv:power_limit", "pv:run"}, site.order, "in the order of the list, each once")
	assert.Equal(t, []string{"the operator pcs1:active_power_setpoint verified 200", "the operator pv:power_limit verified 200", "the operator pv:run verified 200"}, entries)

	site = newFakeSite()
	site.reject = "power_limit"
	a, entries = ask(site, "", three, 207)
	assert.Equal(t, []int{200, 422, 200}, []int{a.Results[0].Status, a.Results[1].Status, a.Results[2].Status})
	assert.Equal(t, model.CommandRejected, a.Results[1].Problem.Command.State)
	assert.Equal(t, "/control", a.Results[1].Problem.Instance)
	assert.Nil(t, a.Results[1].Command)
	assert.Contains(t, entries, "the operator pv:power_limit rejected 422")

	site = newFakeSite()
	site.end = model.CommandUnknown
	a, _ = ask(site, "", three, 207)
	assert.Equal(t, 504, a.Results[2].Status)
	a, entries = ask(newFakeSite(), "?wait=0", three, 202)
	assert.Equal(t, model.CommandQueued, a.Results[0].Command.State)
	assert.Equal(t, 202, a.Results[0].Status)
	assert.Contains(t, entries, "the operator pv:run queued 202")

	site = newFakeSite()
	site.set(func() { site.errs["Submit"] = scripts.ErrStore })
	a, entries = ask(site, "", three, 207)
	assert.Equal(t, 503, a.Results[0].Status)
	assert.Equal(t, "the store does not answer", a.Results[0].Problem.Detail)
	assert.Contains(t, entries, "the operator pv:run failed 503")
	site = newFakeSite()
	site.set(func() { site.errs["Control"] = scripts.ErrStore })
	a, _ = ask(site, "", three, 207)
	assert.Equal(t, 503, a.Results[2].Status)
}

// What is malformed anywhere keeps all from being given.
func TestControlManyIsCheckedFirst(t *testing.T) {
	t.Parallel()
	good := `{"model":"pv","control":"run","value":1}`
	for body, want := range map[string]string{
		`{}`:               "want 1 to 100",
		`{"commands":[]}`:  "want 1 to 100",
		`{"commands":{}}`:  "is not a list",
		`{"commands":[5]}`: "commands[0]: the body is not a JSON object",
		`{"commands":[` + good + `,{"model":"pv","control":"run"}]}`:                            `commands[1]: field "value" is missing`,
		`{"commands":[` + good + `,{"model":"p v","control":"run","value":1}]}`:                 "commands[1]: invalid: command: model: id",
		`{"commands":[` + good + `,{"control":"run","value":1}]}`:                               "the id is empty",
		`{"commands":[` + good + `,{"model":"pv","control":"run","value":1,"x":2}]}`:            `field "x" is unknown`,
		`{"commands":[` + good + `,{"model":"pv","control":"run","value":1,"timeout_ms":0}]}`:   `field "timeout_ms" is 0`,
		`{"commands":[` + strings.TrimSuffix(strings.Repeat(good+",", maxBulk+1), ",") + `]}`:   "has 101 commands",
		`{"commands":[` + good + `,{"model":"pv","control":"run","value":1e300}]}`:              "none was given",
		`{"commands":[` + good + `,{"model":"pv","model":"pv","control":"run","value":1e300}]}`: "given twice",
	} {
		site := newFakeSite()
		w := do(newHandler(t, site, nil), "POST", "/control", body)
		assert.Equal(t, 400, w.Code, body)
		var p problem
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
		assert.Contains(t, p.Detail, want)
		assert.Empty(t, site.order)
	}
	assert.Equal(t, 400, do(newHandler(t, newFakeSite(), nil), "POST", "/control?wait=x", three).Code)
}

func TestValuesOfSeveralModels(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	w := do(h, "GET", "/values?models=pv,none,meter,pv", "")
	require.Equal(t, 200, w.Code, w.Body.String())
	var a struct {
		Values  map[string]map[string]valueForm
		Missing []string
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
	assert.Len(t, a.Values, 2)
	assert.Equal(t, 61.25, a.Values["pv"]["active_power"].Value)
	assert.Equal(t, []string{"none"}, a.Missing)
	tag := w.Header().Get("ETag")
	assert.Equal(t, 304, do(h, "GET", "/values?models=meter,none,pv", "", "If-None-Match", tag).Code)
	site.setValue("pv", "active_power", func(v *model.Value) { v.Value = 1 })
	assert.Equal(t, 200, do(h, "GET", "/values?models=meter,none,pv", "", "If-None-Match", tag).Code)
	require.NoError(t, json.Unmarshal(do(h, "GET", "/values", "").Body.Bytes(), &a))
	assert.Len(t, a.Values, 5)
	assert.Contains(t, do(h, "GET", "/values?models=", "").Body.String(), "the id is empty")
	assert.Equal(t, 400, do(h, "GET", "/values?models="+strings.Repeat("a,", maxSubscribed)+"a", "").Code)
	site.set(func() { site.errs["Values"] = scripts.ErrStore })
	assert.Equal(t, 503, do(h, "GET", "/values?models=pv", "").Code)
	site.set(func() { site.errs["Models"] = scripts.ErrStore })
	assert.Equal(t, 503, do(h, "GET", "/values", "").Code)
}

func TestEnableModel(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, withKeys)
	put := func(id, body string) (int, string) {
		w := do(h, "PUT", "/models/"+id+"/enabled", body, "X-API-Key", "engineer", "Remote", remote())
		return w.Code, w.Body.String()
	}
	status, text := put("pv", `{"enabled":false,"reason":"cleaning","by":"somebody"}`)
	assert.Equal(t, 200, status)
	assert.Contains(t, text, `"id":"pv","name":"PV inverter","enabled":false`)
	status, text = put("pv", `{"enabled":true}`)
	assert.Equal(t, 200, status)
	assert.Contains(t, text, `"enabled":true`)
	for body, want := range map[string]string{`{}`: "is missing", `{"enabled":null}`: "is missing", `{"enabled":1}`: "not true or false", `{"enabled":true,"by":"\u0001"}`: "plain text"} {
		status, text = put("pv", body)
		assert.Equal(t, 400, status)
		assert.Contains(t, text, want)
	}
	status, _ = put("none", `{"enabled":true}`)
	assert.Equal(t, 404, status)
	status, _ = put("a%20b", `{"enabled":true}`)
	assert.Equal(t, 400, status)
	h.audit.wait()
	first := site.entries()[0]
	assert.Equal(t, "the engineer", first.Who)
	assert.Equal(t, "enabled false; cleaning", first.Detail)
	assert.Equal(t, "pv", first.Target)
}
