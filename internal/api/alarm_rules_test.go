package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func TestAlarmRules(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	site.rules["pv:temperature:odd"] = model.AlarmRule{}
	h := newHandler(t, site, nil)
	body := do(h, "GET", "/alarm-rules", "").Body.String()
	assert.Contains(t, body, `"rules":[{"id":"hot","model_id":"bms1","point_name":"temperature_max","operator":"\u003e","threshold":60,"hysteresis":1`)
	assert.Contains(t, body, `"on_delay_ms":1000`)
	assert.Contains(t, body, `"id":"peak"`)
	assert.Contains(t, body, `"problems":["alarm rule pv:temperature:odd: no operator"]`)
	assert.NotContains(t, do(h, "GET", "/alarm-rules?model=bms1", "").Body.String(), "peak")
	assert.Equal(t, 400, do(h, "GET", "/alarm-rules?modl=bms1", "").Code, "it would be all of them")
	assert.JSONEq(t, `{"rules":[],"problems":[]}`, do(newHandler(t, &fakeSite{}, nil), "GET", "/alarm-rules?model=none", "").Body.String())
	w := do(h, "GET", "/alarm-rules/pv/temperature/odd", "")
	assert.Equal(t, 422, w.Code)
	assert.Contains(t, w.Body.String(), "the stored rule is malformed: invalid: alarm rule odd: no operator")

	// What is read can be changed and put back.
	w = do(h, "GET", hotRule, "")
	require.Equal(t, 200, w.Code)
	put := do(h, "PUT", hotRule, w.Body.String())
	require.Equal(t, 200, put.Code, put.Body.String())
	assert.JSONEq(t, w.Body.String(), put.Body.String())

	full := `{"id":"gap","model_id":"bms1","point_name":"soc","operator":"deviation","threshold":5,"reference":"pv:soc","hysteresis":1,"on_delay_ms":10000,
		"off_delay_ms":500,"latch":true,"enable":{"point_name":"contactor_closed","operator":"==","threshold":1},"severity":"high","message":"They differ"}`
	w = do(h, "PUT", "/alarm-rules/bms1/soc/gap", strings.Replace(full, "{", `{"by":"anna","reason":"commissioning",`, 1))
	require.Equal(t, 200, w.Code, w.Body.String())
	assert.JSONEq(t, full, w.Body.String())
	assert.Equal(t, model.AlarmRule{ID: "gap", Model: "bms1", Point: "soc", Operator: model.Deviation, Threshold: 5, Reference: "pv:soc", Hysteresis: 1,
		OnDelay: 10 * time.Second, OffDelay: 500 * time.Millisecond, Latch: true, Severity: model.High, Message: "They differ",
		Enable: &model.AlarmEnable{Point: "contactor_closed", Operator: model.Equal, Threshold: 1}}, site.rules["bms1:soc:gap"])
	w = do(h, "PUT", "/alarm-rules/channel/1001/down", `{"operator":"offline"}`)
	require.Equal(t, 200, w.Code, w.Body.String())
	assert.JSONEq(t, `{"id":"down","model_id":"channel","point_name":"1001","operator":"offline","threshold":0,"severity":"medium","on_delay_ms":10000}`, w.Body.String())

	assert.JSONEq(t, `{"status":"deleted"}`, do(h, "DELETE", "/alarm-rules/bms1/soc/gap", `{"by":"anna","reason":"not needed"}`).Body.String())
	assert.Equal(t, 404, do(h, "GET", "/alarm-rules/bms1/soc/gap", "").Code)
	assert.Equal(t, 404, do(h, "DELETE", "/alarm-rules/bms1/soc/gap", "").Code)

	h.audit.wait()
	entries := site.entries()
	assert.Equal(t, "putAlarmRule", entries[1].Action)
	assert.Equal(t, "bms1:soc:gap", entries[1].Target)
	assert.Equal(t, "anna", entries[1].Who)
	detail, stored, _ := strings.Cut(entries[1].Detail, "; ")
	assert.Equal(t, "commissioning", detail)
	assert.True(t, json.Valid([]byte(stored)), stored)
	assert.Equal(t, "deleteAlarmRule bms1:soc:gap ok not needed anna", said(entries[3]))
	assert.Equal(t, "failed", entries[4].Result)
}

// A rule that is wrong is refused with the name of the field, and nothing is stored.
func TestAlarmRuleIsChecked(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	for body, want := range map[string]string{
		`{"threshold":5}`:                                                                            `operator \"\": want one of`,
		`{"operator":"~","threshold":5}`:                                                             `operator \"~\": want one of`,
		`{"operator":">"}`:                                                                           `field \"threshold\" is missing`,
		`{"operator":">","threshold":"5"}`:                                                           `field \"threshold\": string is not a number`,
		`{"operator":">","threshold":1e400}`:                                                         `field \"threshold\"`,
		`{"operator":">","threshold":5,"hysteresis":-1}`:                                             "hysteresis -1: want zero or more",
		`{"operator":">","threshold":5,"on_delay_ms":-1}`:                                            `field \"on_delay_ms\": -1: want 0 to 2592000000 milliseconds`,
		`{"operator":">","threshold":5,"off_delay_ms":2592000001}`:                                   `field \"off_delay_ms\"`,
		`{"operator":">","threshold":5,"on_delay_ms":1.5}`:                                           "is not a whole number",
		`{"operator":">","threshold":5,"on_delay":1}`:                                                `field \"on_delay\" is unknown`,
		`{"operator":">","threshold":5,"window_ms":9}`:                                               "window_ms 9ms: is for rate",
		`{"operator":">","threshold":5,"count":3}`:                                                   "window_ms 0s: a count needs a time",
		`{"operator":"change","on_delay_ms":5}`:                                                      "on_delay_ms 5ms: a change is over at once",
		`{"operator":"in_range","threshold":5,"high":4}`:                                             "high 4: want a number",
		`{"operator":"deviation","threshold":5}`:                                                     `reference \"\"`,
		`{"operator":"offline"}`:                                                                     `is for the model \"channel\"`,
		`{"operator":">","threshold":5,"severity":"worst"}`:                                          `severity \"worst\"`,
		`{"operator":">","threshold":5,"latch":1}`:                                                   `field \"latch\": number is not true or false`,
		`{"operator":">","threshold":5,"enable":{"point_name":"a"}}`:                                 `field \"enable\": field \"threshold\" is missing`,
		`{"operator":">","threshold":5,"enable":{"point":"a"}}`:                                      `field \"enable\": field \"point\" is unknown`,
		`{"operator":">","threshold":5,"enable":5}`:                                                  `field \"enable\": the body is not a JSON object`,
		`{"operator":">","threshold":5,"enable":{"point_name":"a","operator":"rate","threshold":1}}`: "enable with operator",
		`{"operator":">","threshold":5,"id":"cold"}`:                                                 `field \"id\": \"cold\" is not the hot of the path`,
		`{"operator":">","threshold":5,"model_id":"pv"}`:                                             `field \"model_id\"`,
		`{"operator":">","threshold":5,"threshold":6}`:                                               "given twice",
		`{"operator":">","threshold":5,"reason":"a\u0000"}`:                                          "plain text",
		`{"operator":">","threshold":5,"message":"a\nb"}`:                                            `field \"message\" is plain text`,
	} {
		w := do(h, "PUT", hotRule, body)
		assert.Equal(t, 400, w.Code, body)
		assert.Contains(t, w.Body.String(), want, body)
	}
	assert.Equal(t, 400, do(h, "PUT", "/alarm-rules/rule/x/y", `{"operator":">","threshold":5}`).Code, "a name that is taken")
	assert.Equal(t, 60.0, site.rules["bms1:temperature_max:hot"].Threshold)
	assert.Len(t, site.rules, 2)
}
