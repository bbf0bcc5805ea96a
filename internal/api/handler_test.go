package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// TestMain fails when an answer was not as openapi.json describes it, and when
// goroutines of the package are left after all tests.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, text := range contract().bad {
		fmt.Fprintln(os.Stderr, "not as openapi.json describes it:", text)
		code = 1
	}
	for deadline := time.Now().Add(5 * time.Second); code == 0; runtime.Gosched() {
		stacks := make([]byte, 1<<20)
		text := string(stacks[:runtime.Stack(stacks, true)])
		left := strings.Count(text, "internal/api.(*") // methods, and TestMain is none
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "goroutines are left:\n"+text)
			code = 1
		}
	}
	os.Exit(code)
}

func newHandler(t *testing.T, site Site, change func(*Config)) *Handler {
	t.Helper()
	c := Config{Site: site, Interval: time.Millisecond}
	if change != nil {
		change(&c)
	}
	h := New(c)
	t.Cleanup(func() { assert.NoError(t, h.Close(context.Background())) })
	return h
}

// do makes a request, whose answer has to be as openapi.json describes it.
func do(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	w := ask(h, method, target, body, header...)
	contract().observe(method, target, w)
	return w
}

// ask is do for answers that a site does not give in earnest.
func ask(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	r.Host, r.RemoteAddr = "127.0.0.1:8080", "127.0.0.1:50000"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		switch header[i] {
		case "Host":
			r.Host = header[i+1]
		case "Remote":
			r.RemoteAddr = header[i+1]
		default:
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, target, body string
		status               int
		want                 []string // parts of the body
	}{
		{"GET", "/healthz", "", 200, []string{`"ok"`}},
		{"GET", "/readyz", "", 200, []string{`"ready"`}},
		{"HEAD", "/healthz", "", 200, nil},
		{"GET", "/channels", "", 200, []string{`{"channels":[{"id":"1001"`, `"state":"offline"`, "refused"}},
		{"GET", "/channels/1001", "", 200, []string{`{"id":"1001"`, `"reads":3600`}},
		{"GET", "/channels/none", "", 404, []string{"there is no channel none"}},
		{"GET", "/channels/a%2Fb", "", 400, []string{"channel: id"}},
		{"GET", "/channels/1001/values", "", 200, []string{
			`"channel":"1001"`, `"1":{"value":0,"ts":null,"quality":"good","unit":"kW","kind":"measurement"}`,
			`"2":{"value":7,"ts":null,"quality":"offline"`, `"3":{"value":null`, `"4":{"value":"x","ts":1772366400000`,
		}},
		{"GET", "/channels/none/values", "", 404, []string{"there is no channel none"}},
		{"POST", "/channels/1001/read", "", 202, []string{`{"status":"asked"}`}},
		{"POST", "/channels/1001/read", `{"points":["1","2"]}`, 202, []string{`{"status":"asked"}`}},
		{"POST", "/channels/1001/read", `{"points":"1"}`, 400, []string{`field \"points\": string is not a list`}},
		{"POST", "/channels/1001/read", `{"point":["1"]}`, 400, []string{"the only field is points"}},
		{"POST", "/channels/a%2Fb/read", "", 400, []string{"channel: id"}},
		{"GET", "/channels/1001/read", "", 405, nil},
		{"GET", "/servers", "", 200, []string{`{"servers":[{"id":"`, `"serving":`, `"failures":`}},
		{"GET", "/models", "", 200, []string{`{"models":[{"id":"meter","name":"Grid meter","enabled":true,`, `"id":"weather","name":"weather","enabled":false`}},
		{"GET", "/models/pv", "", 200, []string{`"id":"pv"`, `"labels":{"0":"Off"`, `"power_limit":{"kind":"control","unit":"%","min":0,"max":100}`}},
		{"GET", "/models/none", "", 404, []string{"there is no model none"}},
		{"GET", "/models/%20", "", 400, []string{"model: id"}},
		{"GET", "/models/meter/values", "", 200, []string{
			`{"model":"meter","values":{`, `"active_power":{"value":23.456,"ts":1772366400000,"quality":"good","unit":"kW","kind":"measurement"}`,
		}},
		{"GET", "/models/weather/values", "", 200, []string{`"forecast_power":{"value":null,"ts":null,"quality":"offline"`}},
		{"GET", "/models/bms1/values", "", 200, []string{`"serial_number":{"value":"BAT-2026-00017"`}},
		{"GET", "/models/none/values", "", 404, []string{"not found"}},
		{"GET", "/alarms", "", 200, []string{`{"alarms":[{"id":"2"`, `"id":"1"`}},
		{"GET", "/alarms?state=active&severity=critical&model=bms1", "", 200, []string{`[{"id":"2"`}},
		{"GET", "/alarms?state=cleared", "", 200, []string{`{"alarms":[]}`}},
		{"GET", "/alarms?model=meter&severity=critical", "", 200, []string{`{"alarms":[]}`}},
		{"GET", "/alarms?state=nonsense", "", 400, []string{"want active, acknowledged, cleared, latched, closed, out_of_service, shelved, suppressed, none"}},
		{"GET", "/alarms?severity=worst", "", 400, []string{"want low, medium, high, critical"}},
		{"GET", "/alarms?model=%24", "", 400, []string{"model: id"}},
		{"GET", "/alarms/2", "", 200, []string{`"point_name":"temperature_max"`}},
		{"GET", "/alarms/99", "", 404, []string{"alarm 99: not found"}},
		{"GET", "/alarms/x!", "", 400, []string{"alarm: id"}},
		{"GET", "/alarms/journal", "", 200, []string{`"position":"1-0"`, `"next":"2-0"`}},
		{"GET", "/alarms/journal?after=1-0&limit=5", "", 200, []string{`{"events":[{"position":"2-0"`}},
		{"GET", "/alarms/journal?after=2-0", "", 200, []string{`{"events":[],"next":"2-0"}`}},
		{"GET", "/alarms/journal?after=x", "", 400, []string{"after="}},
		{"GET", "/alarms/journal?after=1-x", "", 400, []string{"after="}},
		{"GET", "/alarms/journal?limit=0", "", 400, []string{"want 1 to 1000"}},
		{"GET", "/alarms/journal?limit=9999999999999999999", "", 400, []string{"want 1 to 1000"}},
		{"POST", "/alarms/2/ack", "", 200, []string{`"status":"acknowledged"`}},
		{"POST", "/alarms/2/ack", `{"by":"anna","comment":"seen"}`, 200, []string{`"acknowledged_by":"anna","comment":"seen"`}},
		{"POST", "/alarms/2/ack", `{"by":5}`, 400, []string{`field \"by\": number is not a string`}},
		{"POST", "/alarms/2/ack", `{"by":"` + strings.Repeat("x", 65) + `"}`, 400, []string{"at most 64"}},
		{"POST", "/alarms/99/ack", "", 404, []string{"not found"}},
		{"POST", "/alarms/x!/close", "", 400, []string{"alarm: id"}},
		{"POST", "/alarms/2/close", `{"by":"anna"}`, 200, []string{`"status":"closed"`}},
		{"GET", "/commands/none", "", 404, []string{"not found"}},
		{"GET", "/commands/a%20b", "", 400, []string{"command: id"}},
		{"POST", "/commands/none/cancel", "", 404, []string{"not found"}},
		{"POST", "/commands/a%20b/cancel", "", 400, []string{"command: id"}},
		{"POST", "/commands/c1/cancel", `{"who":"anna"}`, 400, []string{"the only field is by"}},
		{"POST", "/commands/c1/cancel", `{"by":"` + strings.Repeat("x", 65) + `"}`, 400, []string{"64 bytes"}},
		{"GET", "/ws", "", 426, []string{"WebSocket"}},
		{"GET", "/nothing", "", 404, []string{"/openapi.json"}},
		{"DELETE", "/models", "", 405, []string{"only GET, HEAD"}},
		{"GET", "/alarms/2/ack", "", 405, []string{"only POST"}},
		{"GET", "/", "", 200, []string{"<!DOCTYPE html>", "page/app.js"}},
		{"GET", "/page/app.js", "", 200, []string{"connect("}},
		{"GET", "/page/none.js", "", 404, []string{"no such file"}},
		{"GET", "/page/..%2fopenapi.json", "", 404, nil},
		{"GET", "/openapi.json", "", 200, []string{`"openapi": "3.1.0"`}},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			t.Parallel()
			h := newHandler(t, newFakeSite(), nil)
			w := do(h, tt.method, tt.target, tt.body)
			body := w.Body.String()
			require.Equal(t, tt.status, w.Code, body)
			for _, part := range tt.want {
				assert.Contains(t, body, part)
			}
			assert.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			assert.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
			if tt.status >= 400 {
				assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
				var p problem
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
				assert.Equal(t, tt.status, p.Status)
				assert.Equal(t, "about:blank", p.Type)
				assert.Equal(t, http.StatusText(tt.status), p.Title)
				assert.NotEmpty(t, p.Instance)
			}
			if tt.status == 405 {
				assert.NotEmpty(t, w.Header().Get("Allow"))
			}
		})
	}
}

func TestEmptySite(t *testing.T) {
	t.Parallel()
	h := newHandler(t, &fakeSite{}, nil)
	for path, want := range map[string]string{
		"/models": `{"models":[]}`, "/channels": `{"channels":[]}`, "/alarms": `{"alarms":[]}`, "/alarms/journal": `{"events":[],"next":""}`,
	} {
		assert.JSONEq(t, want, do(h, "GET", path, "").Body.String())
	}
}

func TestSiteErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		detail string
	}{
		{fmt.Errorf("x: %w", scripts.ErrNotFound), 404, "x: not found"},
		{fmt.Errorf("%w: bad", model.ErrInvalid), 400, "invalid: bad"},
		{fmt.Errorf("x: %w", scripts.ErrConflict), 409, "not possible in this state"},
		{fmt.Errorf("dial 10.0.0.1: %w", scripts.ErrStore), 503, "the store does not answer"},
		{scripts.ErrLost, 503, "being restored"},
		{context.DeadlineExceeded, 504, "no answer in time"},
		{context.Canceled, 503, "given up"},
		{errors.New("secret"), 500, "internal error, see the log"},
	} {
		for method, path := range map[string]string{
			"Channels": "/channels", "ChannelValues": "/channels/1001/values", "Models": "/models", "Values": "/models/pv/values",
			"Alarms": "/alarms", "AlarmJournalRange": "/alarms/journal",
		} {
			site := newFakeSite()
			site.set(func() { site.errs[method] = tt.err })
			w := ask(newHandler(t, site, nil), "GET", path, "")
			assert.Equal(t, tt.status, w.Code, path)
			assert.Contains(t, w.Body.String(), tt.detail)
			assert.NotContains(t, w.Body.String(), "10.0.0.1")
			assert.NotContains(t, w.Body.String(), "secret")
			assert.Equal(t, tt.status == 503, w.Header().Get("Retry-After") != "")
		}
	}
}

func TestReadyAndHealth(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	site.err = fmt.Errorf("%w: connection refused", scripts.ErrStore)
	h := newHandler(t, site, nil)
	w := do(h, "GET", "/readyz", "")
	assert.Equal(t, 503, w.Code)
	assert.Contains(t, w.Body.String(), "connection refused")
	assert.Equal(t, 200, do(h, "GET", "/healthz", "").Code, "liveness asks nobody")
}

func TestPanicIsContained(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	site.boom = true
	w := do(newHandler(t, site, nil), "GET", "/models", "")
	assert.Equal(t, 500, w.Code)
	assert.NotContains(t, w.Body.String(), "boom")
}

func TestPageIsRevalidated(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), nil)
	w := do(h, "GET", "/page/style.css", "")
	assert.Equal(t, "text/css; charset=utf-8", w.Header().Get("Content-Type"))
	tag := w.Header().Get("ETag")
	require.NotEmpty(t, tag)
	assert.Equal(t, 304, do(h, "GET", "/page/style.css", "", "If-None-Match", tag).Code)
	policy := do(h, "GET", "/", "").Header().Get("Content-Security-Policy")
	assert.Contains(t, policy, "script-src 'self'")
	assert.NotContains(t, policy, "unsafe")
}

func TestPageHasNoExternalResources(t *testing.T) {
	t.Parallel()
	files, err := pageFiles.ReadDir("page")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		text, err := pageFiles.ReadFile("page/" + f.Name())
		require.NoError(t, err)
		clean := strings.ReplaceAll(string(text), `xmlns="http://www.w3.org/2000/svg"`, "")
		assert.NotRegexp(t, `https?://`, clean, f.Name())
		assert.NotContains(t, clean, "innerHTML", f.Name())
		assert.NotContains(t, contentType(f.Name()), "octet-stream", f.Name())
	}
}

func TestCloseEndsWaitingRequests(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	site.end = "wait"
	h := newHandler(t, site, nil)
	answer := make(chan *httptest.ResponseRecorder)
	go func() { answer <- do(h, "POST", "/models/pcs1/control/start", `{"value":1}`) }()
	// Whether the request waits already or comes after the closing: it is refused.
	require.NoError(t, h.Close(context.Background()))
	assert.Equal(t, 503, (<-answer).Code)
	require.NoError(t, h.Close(context.Background()))
	assert.Equal(t, 503, do(h, "GET", "/models", "").Code)
	assert.Equal(t, 200, do(h, "GET", "/healthz", "").Code)
	// What the engine still tells goes nowhere.
	h.Update(model.Update{Model: "pv"})
	h.Alarm(model.AlarmEvent{})
	h.Command(model.CommandEvent{})
	h.Channel(model.ChannelStatus{})
	h.Resync()
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	site.channels[0].ID = "a\"b\\c\nd\xff" // no valid id; another program may write what it likes
	h := newHandler(t, site, func(c *Config) { c.Version = "v1.2.3" })
	w := do(h, "GET", "/metrics", "")
	require.Equal(t, 200, w.Code)
	assert.Equal(t, "text/plain; version=0.0.4; charset=utf-8", w.Header().Get("Content-Type"))
	text := w.Body.String()
	for _, line := range []string{
		`voltage_build_info{version="v1.2.3",goversion="` + runtime.Version() + `"} 1`,
		`voltage_up 1`,
		`voltage_websocket_clients 0`,
		`voltage_channel_state{channel="1005",state="offline"} 1`,
		`voltage_channel_state{channel="1005",state="online"} 0`,
		`voltage_channel_reads_total{channel="a\"b\\c\nd` + "\uFFFD" + `"} 3600`,
		`voltage_channel_errors_total{channel="1005"} 17`,
		`voltage_channel_last_scan_timestamp_seconds{channel="1002"} 1.7723664e+09`,
		`voltage_alarms_open{severity="critical"} 1`,
		`voltage_alarms_open{severity="low"} 0`,
	} {
		assert.Contains(t, text, line+"\n")
	}
	assert.Regexp(t, `^(# (HELP|TYPE) [a-z_]+ .+\n|[a-z_]+(\{[a-z]+=".*"(,[a-z]+=".*")*\})? [-+.0-9e]+\n)+$`, text)

	site.set(func() { site.err = scripts.ErrStore })
	text = do(h, "GET", "/metrics", "").Body.String()
	assert.Contains(t, text, "voltage_up 0\n")
	assert.NotContains(t, text, "voltage_alarms_open")
}

func TestDemand(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	do(h, "POST", "/channels/1001/read", `{"points":["1","2"]}`)
	do(h, "POST", "/channels/1002/read", "")
	site.set(func() { assert.Equal(t, []string{"1001 1,2", "1002 "}, site.demanded) })
	site.set(func() { site.errs["Demand"] = fmt.Errorf("channel 1001: %w: not connected", scripts.ErrConflict) })
	w := do(h, "POST", "/channels/1001/read", "")
	assert.Equal(t, http.StatusConflict, w.Code)
	assert.Contains(t, w.Body.String(), "channel 1001: ")
}

// TestOpenAPI compares the description with the routes, both ways.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), nil)
	text := do(h, "GET", "/openapi.json", "").Body.Bytes()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(text, &doc))
	var described, served []string
	for path, item := range doc.Paths {
		for method, operation := range item {
			if method == "parameters" {
				continue
			}
			described = append(described, strings.ToUpper(method)+" "+path)
			all := string(operation) + string(item["parameters"])
			for _, name := range strings.Split(path, "{")[1:] {
				name = strings.Split(name, "}")[0]
				assert.True(t, strings.Contains(all, "parameters/"+name) || strings.Contains(all, `"name": "`+name+`"`), "%s: %s", path, name)
			}
		}
	}
	for _, rt := range h.routes() {
		served = append(served, rt.method+" "+strings.ReplaceAll(rt.path, "{$}", ""))
	}
	assert.ElementsMatch(t, served, described)

	var whole any
	require.NoError(t, json.Unmarshal(text, &whole))
	checkRefs(t, whole, whole)
}

// checkRefs follows every $ref.
func checkRefs(t *testing.T, root, node any) {
	t.Helper()
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			checkRefs(t, root, child)
		}
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			at := root
			for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
				parent, _ := at.(map[string]any)
				at = parent[part]
			}
			assert.NotNil(t, at, ref)
		}
		for _, child := range node {
			checkRefs(t, root, child)
		}
	}
}
