package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// object is a JSON object.
type object = map[string]any

// description is openapi.json, against which every answer of every test is checked.
type description struct {
	root object

	mu   sync.Mutex
	bad  []string                       // answers that are not as described
	seen map[string]map[string]struct{} // statuses by operation
}

var contract = sync.OnceValue(func() *description {
	text, err := pageFiles.ReadFile("openapi.json")
	if err != nil {
		panic(err)
	}
	d := &description{seen: map[string]map[string]struct{}{}}
	if err := json.Unmarshal(text, &d.root); err != nil {
		panic(err)
	}
	return d
})

// resolve follows a $ref.
func (d *description) resolve(node object) object {
	ref, ok := node["$ref"].(string)
	if !ok {
		return node
	}
	at := d.root
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at, _ = at[part].(object)
	}
	return at
}

// operation finds what a request is described by; literal paths go first.
func (d *description) operation(method, target string) (op object, id string) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, ""
	}
	asked := strings.Split(u.EscapedPath(), "/")
	best := -1
	for path, item := range d.root["paths"].(object) {
		parts, literal := strings.Split(path, "/"), 0
		if len(parts) != len(asked) {
			continue
		}
		for i, part := range parts {
			switch {
			case part == asked[i]:
				literal++
			case !strings.HasPrefix(part, "{") || asked[i] == "":
				literal = -1000
			}
		}
		if o, ok := item.(object)[strings.ToLower(method)].(object); ok && literal > best {
			best, op = literal, o
		}
	}
	id, _ = op["operationId"].(string)
	return op, id
}

// observe checks an answer.
func (d *description) observe(method, target string, w *httptest.ResponseRecorder) {
	op, id := d.operation(method, target)
	if op == nil {
		return
	}
	status := strconv.Itoa(w.Code)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[id] == nil {
		d.seen[id] = map[string]struct{}{}
	}
	d.seen[id][status] = struct{}{}
	if err := d.checkAnswer(op, status, w); err != nil {
		d.bad = append(d.bad, fmt.Sprintf("%s %s: %s: %v", method, target, status, err))
	}
}

func (d *description) checkAnswer(op object, status string, w *httptest.ResponseRecorder) error {
	described, ok := op["responses"].(object)[status].(object)
	if !ok {
		return errors.New("the status is not described")
	}
	described = d.resolve(described)
	if headers, ok := described["headers"].(object); ok {
		for name := range headers {
			if w.Header().Get(name) == "" {
				return fmt.Errorf("header %s is missing", name)
			}
		}
	}
	content, ok := described["content"].(object)
	if !ok {
		if w.Body.Len() > 0 {
			return errors.New("a body is not described")
		}
		return nil
	}
	kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	as, ok := content[kind].(object)
	if !ok {
		return fmt.Errorf("content type %q is not described", kind)
	}
	schema, ok := as["schema"].(object)
	if !ok || !strings.HasSuffix(kind, "json") {
		return nil
	}
	var v any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		return err
	}
	return d.check(schema, v, "body")
}

// known are the keywords of JSON Schema that check understands; the description may
// use no others.
var known31 = []string{"$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "items", "pattern", "minimum", "maximum",
	"maxLength", "minItems", "maxItems", "allOf", "oneOf", "format", "description", "default"}

// check validates a value against a schema.
func (d *description) check(schema object, v any, at string) error {
	for keyword := range schema {
		if !slices.Contains(known31, keyword) {
			return fmt.Errorf("%s: the description uses %q, which the test does not know", at, keyword)
		}
	}
	if _, ok := schema["$ref"]; ok {
		target := d.resolve(schema)
		if target == nil {
			return fmt.Errorf("%s: %v leads nowhere", at, schema["$ref"])
		}
		return d.check(target, v, at)
	}
	if types, ok := schema["type"]; ok && !hasType(types, v) {
		return fmt.Errorf("%s: %v is not of type %v", at, v, types)
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Errorf("%s: %v is not one of %v", at, v, enum)
	}
	if want, ok := schema["const"]; ok && v != want {
		return fmt.Errorf("%s: %v is not %v", at, v, want)
	}
	for _, part := range listOf(schema["allOf"]) {
		if err := d.check(part.(object), v, at); err != nil {
			return err
		}
	}
	if err := d.checkOneOf(schema, v, at); err != nil {
		return err
	}
	switch v := v.(type) {
	case object:
		return d.checkObject(schema, v, at)
	case []any:
		return d.checkList(schema, v, at)
	case string:
		return checkText(schema, v, at)
	case float64:
		if least, ok := schema["minimum"].(float64); ok && v < least {
			return fmt.Errorf("%s: %v is below %v", at, v, least)
		}
		if most, ok := schema["maximum"].(float64); ok && v > most {
			return fmt.Errorf("%s: %v is above %v", at, v, most)
		}
	}
	return nil
}

func (d *description) checkOneOf(schema object, v any, at string) error {
	choices := listOf(schema["oneOf"])
	if choices == nil {
		return nil
	}
	var errs []error
	for _, choice := range choices {
		if err := d.check(choice.(object), v, at); err != nil {
			errs = append(errs, err)
		}
	}
	if len(choices)-len(errs) != 1 {
		return fmt.Errorf("%s: fits %d of the choices: %w", at, len(choices)-len(errs), errors.Join(errs...))
	}
	return nil
}

func (d *description) checkObject(schema, v object, at string) error {
	for _, name := range listOf(schema["required"]) {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("%s: %s is missing", at, name)
		}
	}
	properties, _ := schema["properties"].(object)
	for name, child := range v {
		if p, ok := properties[name].(object); ok {
			if err := d.check(p, child, at+"."+name); err != nil {
				return err
			}
			continue
		}
		switch rest := schema["additionalProperties"].(type) {
		case bool:
			if !rest {
				return fmt.Errorf("%s: %s is not described", at, name)
			}
		case object:
			if err := d.check(rest, child, at+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *description) checkList(schema object, v []any, at string) error {
	if most, ok := schema["maxItems"].(float64); ok && float64(len(v)) > most {
		return fmt.Errorf("%s: %d items", at, len(v))
	}
	if least, ok := schema["minItems"].(float64); ok && float64(len(v)) < least {
		return fmt.Errorf("%s: %d items", at, len(v))
	}
	if items, ok := schema["items"].(object); ok {
		for i, child := range v {
			if err := d.check(items, child, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkText(schema object, v, at string) error {
	if most, ok := schema["maxLength"].(float64); ok && float64(utf8.RuneCountInString(v)) > most {
		return fmt.Errorf("%s: too long", at)
	}
	if pattern, ok := schema["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
		return fmt.Errorf("%s: %q does not match %s", at, v, pattern)
	}
	if schema["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

func listOf(v any) []any {
	l, _ := v.([]any)
	return l
}

func hasType(types, v any) bool {
	list, ok := types.([]any)
	if !ok {
		list = []any{types}
	}
	for _, t := range list {
		switch v := v.(type) {
		case nil:
			ok = t == "null"
		case bool:
			ok = t == "boolean"
		case float64:
			ok = t == "number" || t == "integer" && v == float64(int64(v))
		case string:
			ok = t == "string"
		case []any:
			ok = t == "array"
		default:
			ok = t == "object"
		}
		if ok {
			return true
		}
	}
	return false
}

// The document is one of OpenAPI 3.1, as far as it goes here, and says of each route
// what the table of routes says.
func TestDescriptionIsSound(t *testing.T) {
	t.Parallel()
	d := contract()
	assert.Regexp(t, `^3\.1\.\d+$`, d.root["openapi"])
	info := d.root["info"].(object)
	assert.NotEmpty(t, info["title"])
	assert.NotEmpty(t, info["version"])
	components := d.root["components"].(object)
	schemes := components["securitySchemes"].(object)
	for _, s := range schemes {
		assert.Contains(t, []any{"http", "apiKey"}, s.(object)["type"])
	}
	for _, requirement := range listOf(d.root["security"]) {
		for name := range requirement.(object) {
			assert.Contains(t, schemes, name)
		}
	}
	tags := map[any]bool{}
	for _, tag := range listOf(d.root["tags"]) {
		tags[tag.(object)["name"]] = true
	}
	h := newHandler(t, newFakeSite(), nil)
	for _, rt := range h.routes() {
		path := strings.ReplaceAll(rt.path, "{$}", "")
		item := d.root["paths"].(object)[path].(object)
		op, ok := item[strings.ToLower(rt.method)].(object)
		require.True(t, ok, rt.id)
		assert.Equal(t, rt.id, op["operationId"])
		assert.NotEmpty(t, op["summary"], rt.id)
		for _, tag := range listOf(op["tags"]) {
			assert.True(t, tags[tag], "%s: tag %s", rt.id, tag)
		}
		security, own := op["security"].([]any)
		if rt.role == anybody {
			assert.True(t, own && len(security) == 0, "%s is open", rt.id)
			assert.NotContains(t, op, "x-role")
		} else {
			assert.False(t, own, "%s needs a credential", rt.id)
			assert.Equal(t, string(rt.role), op["x-role"], rt.id)
		}
		var inPath []string
		for _, p := range append(listOf(item["parameters"]), listOf(op["parameters"])...) {
			p := d.resolve(p.(object))
			assert.NotEmpty(t, p["schema"], rt.id)
			if p["in"] == "path" {
				assert.Equal(t, true, p["required"], rt.id)
				inPath = append(inPath, "{"+p["name"].(string)+"}")
			} else {
				assert.Contains(t, []any{"query", "header"}, p["in"])
			}
		}
		assert.ElementsMatch(t, regexp.MustCompile(`\{[a-z]+\}`).FindAllString(path, -1), inPath, rt.id)
		for status, answer := range op["responses"].(object) {
			assert.Regexp(t, `^[1-5]\d\d$`, status)
			answer := d.resolve(answer.(object))
			assert.NotEmpty(t, answer["description"], "%s %s", rt.id, status)
			if status >= "400" {
				assert.Contains(t, answer["content"], "application/problem+json", "%s %s", rt.id, status)
			}
		}
		if body, ok := op["requestBody"].(object); ok {
			assert.Contains(t, body["content"], "application/json")
		}
	}
	// Nothing is defined that nothing leads to.
	text, err := pageFiles.ReadFile("openapi.json")
	require.NoError(t, err)
	for _, kind := range []string{"schemas", "responses", "parameters"} {
		for name := range components[kind].(object) {
			if name != "ClientMessage" { // of which no route speaks
				assert.Contains(t, string(text), `"#/components/`+kind+`/`+name+`"`)
			}
		}
	}
}

// provoke is a request that is answered in a certain way.
type provoke struct {
	target, body string
	header       []string
	change       func(*fakeSite)
	config       func(*Config)
}

// describes reports whether a status of a route is described.
func (d *description) describes(rt route, status string) bool {
	op := d.root["paths"].(object)[strings.ReplaceAll(rt.path, "{$}", "")].(object)[strings.ToLower(rt.method)].(object)
	return op["responses"].(object)[status] != nil
}

// hotRule is a rule that the fake site has, with an open alarm.
const hotRule = "/alarm-rules/bms1/temperature_max/hot"

// Every status that is described is one that the route gives, and no other.
func TestEveryDescribedStatus(t *testing.T) {
	t.Parallel()
	own := ownScript()
	source := body(t, "source", own.Text)
	trial := body(t, "source", own.Text, "channels", []string{"1001"})
	broken := body(t, "source", own.Text+"x")
	good := map[string]provoke{ // a request that works
		"controlMany": {body: three}, "control": {target: setpoint, body: `{"value":1}`}, "enableModel": {target: "/models/pv/enabled", body: `{"enabled":true}`},
		"cancelCommand": {target: "/commands/c1/cancel", change: func(s *fakeSite) { s.commands["c1"] = model.CommandResult{ID: "c1", State: model.CommandQueued} }},
		"command":       {target: "/commands/c1", change: func(s *fakeSite) { s.commands["c1"] = model.CommandResult{ID: "c1", State: model.CommandQueued} }},
		"channel":       {target: "/channels/1001"}, "channelValues": {target: "/channels/1001/values"},
		"demand": {target: "/channels/1001/read", body: `{"points":["1"]}`},
		"model":  {target: "/models/pv"}, "modelValues": {target: "/models/pv/values"},
		"alarm": {target: "/alarms/2"}, "acknowledgeAlarm": {target: "/alarms/2/ack"}, "closeAlarm": {target: "/alarms/2/close"},
		"resetAlarm":        {target: "/alarms/2/reset", change: func(s *fakeSite) { s.alarms[0].Status = model.AlarmLatched }},
		"acknowledgeAlarms": {body: `{"ids":["2"]}`}, "shelveAlarm": {target: "/alarms/2/shelve", body: `{"reason":"x","minutes":5}`},
		"unshelveAlarm": {target: "/alarms/2/unshelve"}, "alarmOutOfService": {target: "/alarms/2/out-of-service", body: `{"reason":"x"}`},
		"alarmInService": {target: "/alarms/2/in-service"}, "alarmRule": {target: hotRule}, "deleteAlarmRule": {target: hotRule},
		"putAlarmRule":    {target: hotRule, body: `{"operator":">","threshold":5}`},
		"shelveAlarmRule": {target: hotRule + "/shelve", body: `{"reason":"x","minutes":5}`}, "unshelveAlarmRule": {target: hotRule + "/unshelve"},
		"alarmRuleOutOfService": {target: hotRule + "/out-of-service", body: `{"reason":"x"}`}, "alarmRuleInService": {target: hotRule + "/in-service"},
		"testNotification": {target: "/notifications/ops/test"}, "retryNotifications": {body: `{"ids":["1-a"]}`},
		"script": {target: "/scripts/data_sync"}, "scriptSource": {target: "/scripts/data_sync/source"},
		"verifyScript": {target: "/scripts/data_sync/verify", body: source}, "activateScript": {target: "/scripts/data_sync/activate", body: source},
		"rollbackScript": {target: "/scripts/data_sync/rollback"}, "canaryScript": {target: "/scripts/data_sync/canary", body: trial},
		"endCanary": {target: "/scripts/data_sync/canary"}, "setSyncMode": {body: `{"mode":"lua"}`}, "pageFile": {target: "/page/app.js"},
	}
	ending := func(state model.CommandState) func(*fakeSite) { return func(s *fakeSite) { s.end = state } }
	more := map[string][]provoke{ // what no general way leads to
		"control": {{target: setpoint + "?wait=0", body: `{"value":1}`}, {target: setpoint, body: `{"value":1}`, change: ending(model.CommandCancelled)},
			{target: setpoint, body: `{"value":1}`, change: ending(model.CommandRejected)}, {target: setpoint, body: `{"value":1}`, change: ending(model.CommandFailed)}},
		"controlMany": {{target: "/control?wait=0", body: three}, {target: "/control", body: three, change: ending(model.CommandFailed)}},
		"alarms":      {{target: "/alarms?state=x"}},
		"alarmRules":  {{target: "/alarm-rules?model=%20"}}, "exportAlarmJournal": {{target: "/alarms/journal/export?format=x"}},
		"alarmRule":    {{target: hotRule, change: func(s *fakeSite) { s.rules["bms1:temperature_max:hot"] = model.AlarmRule{} }}},
		"alarmJournal": {{target: "/alarms/journal?after=x"}}, "scriptJournal": {{target: "/scripts/journal?after=x"}}, "audit": {{target: "/audit?limit=0"}},
		"values":           {{target: "/values?models="}},
		"verifyScript":     {{target: "/scripts/data_sync/verify", body: broken}},
		"activateScript":   {{target: "/scripts/data_sync/activate", body: broken}},
		"canaryScript":     {{target: "/scripts/data_sync/canary", body: body(t, "source", own.Text+"x", "channels", []string{"1001"})}},
		"testNotification": {{target: "/notifications/down/test"}}, "retryNotifications": {{target: "/notifications/dead/retry", body: `{"ids":["a b"]}`}},
		"webSocket": {{target: "/ws", header: []string{"Upgrade", "websocket"}}, {target: "/ws?after_alarms=x"}},
	}
	for _, rt := range newHandler(t, newFakeSite(), nil).routes() {
		t.Run(rt.id, func(t *testing.T) {
			t.Parallel()
			g, d := good[rt.id], contract()
			if g.target == "" {
				g.target = strings.NewReplacer("{$}", "").Replace(rt.path)
			}
			list := append(more[rt.id], g)
			with := func(change func(*provoke)) {
				p := g
				change(&p)
				list = append(list, p)
			}
			for _, fault := range []error{scripts.ErrStore, errors.New("x"), context.DeadlineExceeded, scripts.ErrConflict, fmt.Errorf("x: %w", scripts.ErrNotFound),
				fmt.Errorf("x: %w", scripts.ErrRefused)} {
				if errors.Is(fault, scripts.ErrConflict) && !d.describes(rt, "409") || errors.Is(fault, scripts.ErrNotFound) && !d.describes(rt, "404") {
					continue // the site has no such answer to this
				}
				with(func(p *provoke) {
					p.change = func(s *fakeSite) {
						if g.change != nil {
							g.change(s)
						}
						s.err = fault
						s.desks = fault
						if errors.Is(fault, scripts.ErrStore) {
							s.errs["ScriptStore"] = fault
						}
						s.scripts.errs = map[string]error{}
						for _, method := range []string{"ScriptStates", "ScriptState", "ScriptSource", "ScriptJournal", "StoredStats", "VerifyScript", "ActivateScript",
							"RollbackScript", "CanaryScript", "EndCanary", "SyncModes", "SetSyncMode"} {
							s.scripts.errs[method] = fault
						}
					}
				})
			}
			with(func(p *provoke) { p.change = func(s *fakeSite) { s.boom, s.panics = true, true } })
			with(func(p *provoke) { p.header = []string{"X-API-Key", ""} })
			with(func(p *provoke) { p.header = []string{"Host", "evil.example"} })
			with(func(p *provoke) {
				p.config = func(c *Config) { c.Guard = auth.New(auth.Config{Rate: 0.1, Clock: newTestClock()}) }
			})
			if strings.Contains(rt.path, "{") && !strings.Contains(rt.path, "{$}") && !strings.Contains(rt.path, "{file}") {
				with(func(p *provoke) {
					p.target = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(rt.path, "a%20b")
				})
			}
			if strings.Contains(rt.path, "{") {
				with(func(p *provoke) {
					p.target = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(strings.ReplaceAll(rt.path, "{$}", ""), "none")
				})
			}
			if g.body != "" || rt.method != "GET" {
				with(func(p *provoke) { p.body = "{" })
				with(func(p *provoke) { p.body = `{"x":"` + strings.Repeat("x", maxScriptBody) + `"}` })
				with(func(p *provoke) { p.body, p.header = "x", []string{"Content-Type", "text/plain"} })
			}
			for _, p := range list {
				site := newFakeSite()
				if p.change != nil {
					p.change(site)
				}
				h := newHandler(t, site, func(c *Config) {
					withKeys(c)
					updates(c)
					if p.config != nil {
						p.config(c)
					}
				})
				header := append([]string{"X-API-Key", "admin"}, p.header...)
				if p.config != nil {
					header = nil
					do(h, rt.method, p.target, p.body)
					do(h, rt.method, p.target, p.body)
				}
				w := do(h, rt.method, p.target, p.body, header...)
				if tag := w.Header().Get("ETag"); tag != "" {
					do(h, rt.method, p.target, p.body, append(header, "If-None-Match", tag)...)
				}
			}
			h := New(Config{Site: newFakeSite()})
			require.NoError(t, h.Close(context.Background()))
			do(h, rt.method, g.target, g.body) // while the engine is being stopped

			op, id := d.operation(rt.method, g.target)
			require.Equal(t, rt.id, id)
			d.mu.Lock()
			defer d.mu.Unlock()
			seen := slices.Sorted(maps.Keys(d.seen[id]))
			for status := range op["responses"].(object) {
				if status != "101" { // which needs a connection; see the tests of the WebSocket
					assert.Contains(t, seen, status, "described, but never given")
				}
			}
		})
	}
}

// What the test of the description says about itself: it does find faults.
func TestDescriptionFindsFaults(t *testing.T) {
	t.Parallel()
	d := contract()
	for schema, values := range map[string][]any{
		"Session":       {object{}, object{"name": "a", "role": "root", "login": true}, object{"name": 1.0, "role": "admin", "login": true}, object{"name": "", "role": "admin", "login": true, "x": 1.0}, 5.0, nil},
		"Value":         {object{"value": true, "ts": nil, "quality": "good", "unit": "", "kind": "signal"}, object{"value": 1.0, "ts": 1.5, "quality": "good", "unit": "", "kind": "signal"}},
		"AuditEntry":    {object{"position": "1-0", "time": "yesterday", "who": "", "role": "", "from": "", "action": "", "target": "", "detail": "", "result": "", "status": 200.0}},
		"ServerMessage": {object{"type": "values", "seq": 1.0}, object{"type": "other", "seq": 1.0}, object{"type": "heartbeat", "seq": 0.0, "now": 1.0}},
		"ClientMessage": {object{"subscribe": object{"points": []any{"a"}}}, object{}},
	} {
		for _, v := range values {
			assert.Error(t, d.check(object{"$ref": "#/components/schemas/" + schema}, v, schema), "%s %v", schema, v)
		}
	}
	assert.NoError(t, d.check(object{"$ref": "#/components/schemas/ClientMessage"}, object{"id": 7.0, "subscribe": object{"models": nil, "points": []any{"pcs1:a"}}}, ""))
	assert.Error(t, d.check(object{"maxProperties": 1.0}, object{}, ""), "what it does not know is no silent yes")
}
