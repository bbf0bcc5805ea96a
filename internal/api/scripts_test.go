package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

func updates(c *Config) { c.ScriptUpdates = true }

// body makes a JSON object of keys and values.
func body(t *testing.T, pairs ...any) string {
	t.Helper()
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return string(b)
}

func TestScriptRoutes(t *testing.T) {
	t.Parallel()
	own := ownScript()
	source := body(t, "source", own.Text, "by", "anna", "reason", "faster")
	trial := body(t, "source", own.Text, "channels", []string{"1001"})
	for _, tt := range []struct {
		method, target, body string
		status               int
		want                 []string // parts of the answer
	}{
		{"GET", "/scripts", "", 200, []string{`{"scripts":[{"name":"data_sync"`, `"active":"` + own.Version, `"purpose":"`, `"calls":100,"errors":2`, `"mean_ms":2`, `"p99_ms":10`}},
		{"GET", "/scripts/data_sync", "", 200, []string{`"manifest":{"includes":["`, `"usage":"c2m `, `"histogram":[{"up_to_ms":1,"calls":90}`, `"refused":{"FENCED":3}`, `"per_point_ms":0.2`}},
		{"GET", "/scripts/none", "", 404, []string{"not found"}},
		{"GET", "/scripts/a%20b", "", 400, []string{"script: id"}},
		{"GET", "/scripts/data_sync/source", "", 200, []string{"local SCRIPT, VERSION = 'data_sync', '" + own.Version}},
		{"GET", "/scripts/data_sync/source?version=1.0.0%2B00000001", "", 200, []string{"return 1\n"}},
		{"GET", "/scripts/data_sync/source?version=1.0.0%2B00000002", "", 404, []string{"not found"}},
		{"GET", "/scripts/data_sync/source?version=1.0.0+00000001", "", 400, []string{"%2B"}},
		{"GET", "/scripts/none/source", "", 404, []string{"not found"}},
		{"GET", "/scripts/journal", "", 200, []string{`"event":"activated"`, `"next":"2-0"`}},
		{"GET", "/scripts/journal?after=2-0", "", 200, []string{`{"events":[],"next":"2-0"}`}},
		{"GET", "/scripts/journal?limit=x", "", 400, []string{"want 1 to 1000"}},

		{"POST", "/scripts/data_sync/verify", body(t, "source", own.Text), 200, []string{`"status":"verified"`, own.SHA, own.Version}},
		{"POST", "/scripts/alarm_check/verify", body(t, "source", own.Text), 400, []string{"the source is that of script data_sync, not of alarm_check"}},
		{"POST", "/scripts/data_sync/verify", body(t, "source", own.Text+"x"), 422, []string{"changed after it was composed"}},
		{"POST", "/scripts/data_sync/verify", body(t, "source", ""), 422, []string{"line 1 is not"}},
		{"POST", "/scripts/data_sync/verify", body(t, "source", strings.Repeat("x", 310<<10)), 413, []string{"more than 307200 bytes"}},
		{"POST", "/scripts/data_sync/verify", "{", 400, nil},
		{"POST", "/scripts/data_sync/activate", source, 200, []string{`"active":"` + own.Version}},
		{"POST", "/scripts/data_sync/activate", body(t, "version", "1.0.0+00000001"), 200, []string{`"active":"1.0.0+00000001"`}},
		{"POST", "/scripts/data_sync/activate", body(t, "version", "1.0.0+00000002"), 404, []string{"not found"}},
		{"POST", "/scripts/data_sync/activate", body(t, "version", "1"), 400, []string{"want a whole version"}},
		{"POST", "/scripts/data_sync/activate", body(t, "version", "1.0.0+00000001", "source", own.Text), 400, []string{"either"}},
		{"POST", "/scripts/data_sync/activate", `{}`, 400, []string{"either"}},
		{"POST", "/scripts/data_sync/activate", body(t, "source", own.Text, "by", "a\nb"), 400, []string{"plain text"}},
		{"POST", "/scripts/data_sync/activate", body(t, "source", own.Text, "channels", []string{"1"}), 400, []string{`field \"channels\" is unknown`}},
		{"POST", "/scripts/data_sync/rollback", "", 200, []string{`"active":"1.0.0+00000001"`}},
		{"POST", "/scripts/data_sync/rollback", `{"reason":"` + strings.Repeat("x", 501) + `"}`, 400, []string{"500 bytes"}},
		{"POST", "/scripts/none/rollback", "", 404, []string{"not found"}},
		{"PUT", "/scripts/data_sync/canary", trial, 200, []string{`"canary":{"1001":"` + own.Version}},
		{"PUT", "/scripts/data_sync/canary", body(t, "version", "1.0.0+00000001", "percent", 25), 200, []string{`"canary":{"1001":"1.0.0+00000001","1003":"`}},
		{"PUT", "/scripts/data_sync/canary", body(t, "source", own.Text), 400, []string{`\"channels\" or \"percent\"`}},
		{"PUT", "/scripts/data_sync/canary", body(t, "source", own.Text, "percent", 25, "channels", []string{"1"}), 400, []string{"not both"}},
		{"PUT", "/scripts/data_sync/canary", body(t, "source", own.Text, "channels", []string{}), 400, []string{"is empty"}},
		{"PUT", "/scripts/data_sync/canary", body(t, "source", own.Text, "channels", []string{"a b"}), 400, []string{"channel: id"}},
		{"PUT", "/scripts/data_sync/canary", body(t, "source", own.Text, "percent", 1), 409, []string{"no channels"}},
		{"PUT", "/scripts/data_sync/canary", body(t, "source", own.Text, "percent", 2.5), 400, []string{"whole number"}},
		{"DELETE", "/scripts/data_sync/canary", "", 200, []string{`"active":"` + own.Version}},
		{"DELETE", "/scripts/data_sync/canary", `{"who":"x"}`, 400, []string{"the fields are by, reason"}},

		{"GET", "/sync", "", 200, []string{`{"modes":{"*":"lua"}}`}},
		{"PUT", "/sync", `{"mode":"direct"}`, 200, []string{`{"modes":{"*":"direct"}}`}},
		{"PUT", "/sync", `{"mode":"shadow","channels":["1001"],"by":"anna"}`, 200, []string{`{"modes":{"*":"lua","1001":"shadow"}}`}},
		{"PUT", "/sync", `{"mode":"shadow","percent":50}`, 200, []string{`{"modes":{"*":"lua","1001":"shadow","1003":"shadow"}}`}},
		{"PUT", "/sync", `{"mode":"shadow","channels":[]}`, 400, []string{"is empty"}},
		{"PUT", "/sync", `{"mode":"shadow","channels":null}`, 400, []string{"is empty"}},
		{"PUT", "/sync", `{"mode":"shadow","channels":["*"]}`, 400, []string{"channel: id"}},
		{"PUT", "/sync", `{"mode":"shadow","channels":5}`, 400, []string{"is not a list"}},
		{"PUT", "/sync", `{"mode":"quick"}`, 400, []string{"want lua, direct or shadow"}},
		{"PUT", "/sync", `{"channels":["1001"]}`, 400, []string{"is missing"}},
		{"PUT", "/sync", ``, 415, nil},
	} {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			t.Parallel()
			site := newFakeSite()
			w := do(newHandler(t, site, updates), tt.method, tt.target, tt.body)
			require.Equal(t, tt.status, w.Code, w.Body.String())
			for _, part := range tt.want {
				assert.Contains(t, w.Body.String(), part)
			}
			if tt.status >= 400 {
				assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			}
			if tt.method == "GET" {
				return
			}
			// Without leave nothing is changed, and nothing of the body is looked at.
			site = newFakeSite()
			w = do(newHandler(t, site, nil), tt.method, tt.target, tt.body)
			require.Equal(t, 403, w.Code, w.Body.String())
			assert.Contains(t, w.Body.String(), "set scripts.updates")
			assert.Equal(t, scripts.Change{}, site.scripts.last)
		})
	}
}

// Who changes what, and why, goes on as it was given.
func TestScriptChange(t *testing.T) {
	t.Parallel()
	own := ownScript()
	site := newFakeSite()
	h := newHandler(t, site, updates)
	for _, tt := range []struct{ method, target, with string }{
		{"POST", "/scripts/data_sync/activate", "source"}, {"POST", "/scripts/data_sync/rollback", ""},
		{"PUT", "/scripts/data_sync/canary", "channels"}, {"DELETE", "/scripts/data_sync/canary", ""}, {"PUT", "/sync", "mode"},
	} {
		for _, by := range []string{"anna", ""} {
			site.scripts.last = scripts.Change{}
			pairs := []any{"reason", tt.target}
			if by != "" {
				pairs = append(pairs, "by", by)
			}
			switch tt.with {
			case "channels":
				pairs = append(pairs, "channels", []string{"1001"}, "source", own.Text)
			case "source":
				pairs = append(pairs, "source", own.Text)
			case "mode":
				pairs = append(pairs, "mode", "lua")
			}
			w := do(h, tt.method, tt.target, body(t, pairs...))
			require.Equal(t, 200, w.Code, w.Body.String())
			want := scripts.Change{By: "http", Reason: tt.target}
			if by != "" {
				want.By = by
			}
			assert.Equal(t, want, site.scripts.last, tt.target)
		}
	}
	// A foreign page may not.
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		target := map[string]string{"PUT": "/sync", "POST": "/scripts/data_sync/rollback", "DELETE": "/scripts/data_sync/canary"}[method]
		assert.Equal(t, 403, do(h, method, target, `{"mode":"lua"}`, "Origin", "http://evil.example").Code)
	}
}

func TestScriptErrors(t *testing.T) {
	t.Parallel()
	own := ownScript()
	fault := fmt.Errorf("%w: %w", scripts.ErrScript, &scripts.ScriptError{Script: "data_sync", Version: "1.2.0+1", File: "include/alarm.lua", Line: 45, Message: "boom"})
	for _, tt := range []struct {
		err    error
		status int
		detail string
	}{
		{fault, 422, "include/alarm.lua:45: boom"},
		{fmt.Errorf("%w: %w", scripts.ErrRefused, context.DeadlineExceeded), 422, "is refused"},
		{fmt.Errorf("%w: raise @version", scripts.ErrConflict), 409, "raise @version"},
		{fmt.Errorf("%w: script data_sync is version 2.0.0", scripts.ErrVersion), 409, "version 2.0.0"},
		{fmt.Errorf("%w: a trial needs a channel", model.ErrInvalid), 400, "a trial needs a channel"},
		{fmt.Errorf("dial 10.0.0.1: %w", scripts.ErrStore), 503, "the store does not answer"},
		{context.DeadlineExceeded, 504, "no answer in time"},
	} {
		site := newFakeSite()
		site.scripts.errs = map[string]error{"VerifyScript": tt.err, "ActivateScript": tt.err, "CanaryScript": tt.err, "RollbackScript": tt.err, "EndCanary": tt.err, "SetSyncMode": tt.err}
		h := newHandler(t, site, updates)
		source := body(t, "source", own.Text)
		for _, w := range []*httptest.ResponseRecorder{
			do(h, "POST", "/scripts/data_sync/verify", source),
			do(h, "POST", "/scripts/data_sync/activate", source),
			do(h, "PUT", "/scripts/data_sync/canary", body(t, "source", own.Text, "channels", []string{"1001"})),
			do(h, "POST", "/scripts/data_sync/rollback", ""),
			do(h, "DELETE", "/scripts/data_sync/canary", ""),
			do(h, "PUT", "/sync", `{"mode":"lua"}`),
		} {
			assert.Equal(t, tt.status, w.Code, w.Body.String())
			assert.Contains(t, w.Body.String(), tt.detail)
			assert.NotContains(t, w.Body.String(), "10.0.0.1")
		}
	}

	// Where nobody gave a script, a script that fails is no fault of the request.
	for method, target := range map[string]string{"ScriptStates": "/scripts", "ScriptState": "/scripts/data_sync",
		"ScriptSource": "/scripts/data_sync/source", "StoredStats": "/scripts", "ScriptJournal": "/scripts/journal", "SyncModes": "/sync"} {
		site := newFakeSite()
		site.scripts.errs = map[string]error{method: fault}
		assert.Equal(t, 500, do(newHandler(t, site, nil), "GET", target, "").Code, target)
	}
	site := newFakeSite()
	site.set(func() { site.errs["ScriptStore"] = fmt.Errorf("x: %w", scripts.ErrStore) })
	for _, target := range []string{"/scripts", "/scripts/journal", "/scripts/data_sync", "/sync"} {
		assert.Equal(t, 503, do(newHandler(t, site, nil), "GET", target, "").Code, target)
	}
}

// One script is verified at a time, and nobody waits longer than the engine runs.
func TestScriptsAreVerifiedOneByOne(t *testing.T) {
	t.Parallel()
	own := ownScript()
	site := newFakeSite()
	_, _ = site.ScriptStore()
	site.scripts.wait, site.scripts.busy = true, make(chan struct{}, 2)
	h := newHandler(t, site, updates)
	answers := make(chan *httptest.ResponseRecorder, 2)
	verify := func() { answers <- do(h, "POST", "/scripts/data_sync/verify", body(t, "source", own.Text)) }
	go verify()
	<-site.scripts.busy
	go verify()
	require.NoError(t, h.Close(context.Background()))
	for range 2 {
		assert.Equal(t, 503, (<-answers).Code)
	}
	assert.Equal(t, 1, site.scripts.most)
}
