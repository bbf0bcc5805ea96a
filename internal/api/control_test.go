package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

const setpoint = "/models/pcs1/control/active_power_setpoint"

func TestControlOutcomes(t *testing.T) {
	t.Parallel()
	for state, want := range map[model.CommandState][2]int{ // with and without waiting
		model.CommandVerified:   {200, 202},
		model.CommandExecuted:   {200, 202},
		model.CommandRejected:   {422, 422},
		model.CommandFailed:     {502, 202},
		model.CommandUnknown:    {504, 202},
		model.CommandExpired:    {504, 202},
		model.CommandQueued:     {504, 202},
		model.CommandExecuting:  {504, 202},
		model.CommandCancelled:  {409, 202},
		model.CommandSuperseded: {409, 202},
	} {
		for i, query := range []string{"", "?wait=0"} {
			site := newFakeSite()
			site.end = state
			w := do(newHandler(t, site, nil), "POST", setpoint+query, `{"value":50}`)
			assert.Equal(t, want[i], w.Code, "%s%s", state, query)
			if want[i] >= 400 {
				var p problem
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
				require.NotNil(t, p.Command)
				assert.Equal(t, state, p.Command.State)
				assert.Contains(t, p.Detail, "because")
				continue
			}
			var res model.CommandResult
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &res))
			assert.Equal(t, 50.0, res.Value)
			if want[i] == 202 {
				assert.Equal(t, "/commands/"+res.ID, w.Header().Get("Location"))
			}
		}
	}
}

func TestControlCommand(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	w := do(h, "POST", setpoint, `{"value":-12.5,"key":"k1","timeout_ms":1500,"user":"anna"}`)
	require.Equal(t, 200, w.Code)
	assert.Equal(t, model.Command{
		Model: "pcs1", Control: "active_power_setpoint", Value: -12.5, Key: "k1", Origin: "api", User: "anna", Timeout: 1500 * time.Millisecond,
	}, site.last)
	do(h, "POST", setpoint, `{"value":0}`, "Idempotency-Key", `"k2"`)
	assert.Equal(t, model.Command{
		Model: "pcs1", Control: "active_power_setpoint", Key: "k2", Origin: "api", Timeout: model.DefaultCommandTimeout,
	}, site.last)
}

func TestControlRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		target, body string
		header       []string
		status       int
		want         string
	}{
		"no value":        {setpoint, `{}`, nil, 400, `field \"value\" is missing`},
		"null":            {setpoint, `{"value":null}`, nil, 400, `field \"value\" is missing`},
		"text":            {setpoint, `{"value":"50"}`, nil, 400, `string is not a number`},
		"not finite":      {setpoint, `{"value":1e999}`, nil, 400, `not a number that can be stored`},
		"NaN":             {setpoint, `{"value":NaN}`, nil, 400, `not well-formed`},
		"too large":       {setpoint, `{"value":1e16}`, nil, 400, `not a number that can be stored`},
		"unknown field":   {setpoint, `{"value":1,"speed":3}`, nil, 400, `field \"speed\" is unknown: the fields are key, timeout_ms, user, value`},
		"other case":      {setpoint, `{"value":1,"Value":100}`, nil, 400, `field \"Value\" is unknown`},
		"twice":           {setpoint, `{"value":1,"value":100}`, nil, 400, `given twice`},
		"no object":       {setpoint, `50`, nil, 400, `not a JSON object`},
		"broken":          {setpoint, `{"value":1`, nil, 400, `not well-formed`},
		"broken name":     {setpoint, `{value:1}`, nil, 400, `not well-formed`},
		"two objects":     {setpoint, `{"value":1}{"value":2}`, nil, 400, `more than one`},
		"no body":         {setpoint, ``, nil, 415, `application/json`},
		"form":            {setpoint, `value=50`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, `application/json`},
		"long":            {setpoint, `{"user":"` + strings.Repeat("x", maxBody) + `"}`, nil, 413, `65536 bytes`},
		"timeout":         {setpoint, `{"value":1,"timeout_ms":0}`, nil, 400, `want 1 to 3600000`},
		"long timeout":    {setpoint, `{"value":1,"timeout_ms":9223372036854775807}`, nil, 400, `want 1 to 3600000`},
		"broken timeout":  {setpoint, `{"value":1,"timeout_ms":1.5}`, nil, 400, `not a whole number`},
		"long key":        {setpoint, `{"value":1,"key":"` + strings.Repeat("x", 129) + `"}`, nil, 400, `idempotency key`},
		"two keys":        {setpoint, `{"value":1,"key":"a"}`, []string{"Idempotency-Key", "b"}, 400, `differ`},
		"wait":            {setpoint + "?wait=maybe", `{"value":1}`, nil, 400, `want 0 or 1`},
		"model id":        {"/models/a%2Fb/control/x", `{"value":1}`, nil, 400, `command: model`},
		"control id":      {"/models/pcs1/control/x%20y", `{"value":1}`, nil, 400, `command: control`},
		"foreign origin":  {setpoint, `{"value":1}`, []string{"Origin", "http://evil.example"}, 403, `another site`},
		"null origin":     {setpoint, `{"value":1}`, []string{"Origin", "null"}, 403, `another site`},
		"cross-site":      {setpoint, `{"value":1}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, `another site`},
		"same machine":    {setpoint, `{"value":1}`, []string{"Origin", "http://127.0.0.1:9090"}, 403, `another site`},
		"rebound name":    {setpoint, `{"value":1}`, []string{"Host", "evil.example", "Origin", "http://evil.example"}, 403, `allowed hosts`},
		"name of address": {setpoint, `{"value":1}`, []string{"Host", "127.0.0.1.evil.example"}, 403, `allowed hosts`},
		"no host":         {setpoint, `{"value":1}`, []string{"Host", ""}, 403, `allowed hosts`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := newFakeSite()
			w := do(newHandler(t, site, nil), "POST", tt.target, tt.body, tt.header...)
			assert.Equal(t, tt.status, w.Code)
			assert.Contains(t, w.Body.String(), tt.want)
			assert.Zero(t, site.last, "nothing may be commanded")
		})
	}
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), func(c *Config) { c.AllowedHosts = []string{"Gateway.example.com"} })
	for _, host := range []string{
		"127.0.0.1", "192.168.1.9:8080", "[::1]:8080", "[::1]", "localhost", "LOCALHOST:80", "x.localhost",
		"gateway.example.com", "GATEWAY.example.com.:8443",
	} {
		assert.Equal(t, 200, do(h, "GET", "/models", "", "Host", host).Code, host)
		assert.Equal(t, 200, do(h, "POST", setpoint, `{"value":1}`, "Host", host, "Origin", "https://"+host, "Sec-Fetch-Site", "same-origin").Code, host)
	}
	for _, host := range []string{"example.com", "evil.gateway.example.com", "localhost.evil.example", "1.2.3", ""} {
		assert.Equal(t, 403, do(h, "GET", "/models", "", "Host", host).Code, host)
	}
	all := newHandler(t, newFakeSite(), func(c *Config) { c.AllowedHosts = []string{"*"} })
	assert.Equal(t, 200, do(all, "GET", "/models", "", "Host", "anything.example").Code)
	assert.Equal(t, 403, do(all, "POST", setpoint, `{"value":1}`, "Host", "a.example", "Origin", "http://b.example").Code)
}

func TestControlErrors(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"", "?wait=0"} {
		site := newFakeSite()
		site.set(func() { site.errs["Control"], site.errs["Submit"] = scripts.ErrNotFound, scripts.ErrNotFound })
		assert.Equal(t, 404, do(newHandler(t, site, nil), "POST", "/models/none/control/x"+query, `{"value":1}`).Code)
	}
}

func TestCommandRecord(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, nil)
	location := do(h, "POST", setpoint+"?wait=false", `{"value":1}`).Header().Get("Location")
	w := do(h, "GET", location, "")
	require.Equal(t, 200, w.Code)
	assert.Contains(t, w.Body.String(), `"state":"queued"`)
	w = do(h, "POST", location+"/cancel", `{"by":"anna"}`)
	require.Equal(t, 200, w.Code)
	assert.Contains(t, w.Body.String(), `"state":"cancelled"`)
	w = do(h, "POST", location+"/cancel", "")
	require.Equal(t, 409, w.Code)
	assert.Contains(t, w.Body.String(), `"command":{"id":"c1"`)
}

// deadlines is a connection whose time limits are looked at.
type deadlines struct {
	http.ResponseWriter
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error  { d.read = at; return nil }
func (d *deadlines) SetWriteDeadline(at time.Time) error { d.write = at; return nil }

// A command that is waited for takes longer than other requests, and not for ever.
func TestLongRequestsEnd(t *testing.T) {
	t.Parallel()
	d := &deadlines{ResponseWriter: httptest.NewRecorder(), read: time.Now()}
	takesLong(d)
	assert.Zero(t, d.read)
	assert.Greater(t, time.Until(d.write), model.MaxCommandTimeout+settleTime)
}
