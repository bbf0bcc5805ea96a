package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// withKeys has a key for each role, named and written as the role, and one that has
// expired.
func withKeys(c *Config) {
	old := auth.Key{Name: "old", Role: model.RoleAdmin, Digest: sha256.Sum256([]byte("old")), Expires: start}
	keys := []auth.Key{old}
	for _, role := range model.Roles() {
		keys = append(keys, auth.Key{Name: "the " + string(role), Role: role, Digest: sha256.Sum256([]byte(role))})
	}
	c.Guard = auth.New(auth.Config{Keys: keys, Clock: c.Clock, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}})
}

// from makes requests come from an address of its own each, so that failed logins
// do not add up.
var from = struct {
	sync.Mutex
	n int
}{}

func remote() string {
	from.Lock()
	defer from.Unlock()
	from.n++
	return fmt.Sprintf("192.0.%d.%d:1", from.n/250, from.n%250+1)
}

// reached answers every method of the site with an error of its own, by which a
// request shows that it was let through.
func reached(site *fakeSite) {
	site.err = fmt.Errorf("%w: reached", scripts.ErrStore)
	site.scripts.errs = map[string]error{}
}

// Every route, each role, and no, a wrong, an old and the right credential.
func TestEveryRouteForEveryRole(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	reached(site)
	h := newHandler(t, site, func(c *Config) {
		withKeys(c)
		updates(c)
	})
	for _, rt := range h.routes() {
		target := strings.NewReplacer("{file}", "app.js", "{$}", "", "{id}", "x", "{name}", "x", "{model}", "x", "{point}", "x", "{rule}", "x").Replace(rt.path)
		ask := func(header ...string) int {
			return do(h, rt.method, target, "", append(header, "Remote", remote())...).Code
		}
		stopped := func(status int) bool { return status == 401 || status == 403 || status == 429 }
		if rt.role == anybody {
			assert.Contains(t, []string{"/healthz", "/{$}", "/page/{file}"}, rt.path, "open routes tell nothing of the site")
			assert.Equal(t, "GET", rt.method)
			assert.Equal(t, 200, ask(), rt.path)
			continue
		}
		assert.Equal(t, 401, ask(), rt.id)
		for _, wrong := range []string{"wrong", "old", "", "Viewer", "a.b.c"} {
			assert.Equal(t, 401, ask("X-API-Key", wrong), "%s %q", rt.id, wrong)
			assert.Equal(t, 401, ask("Authorization", "Bearer "+wrong), "%s %q", rt.id, wrong)
		}
		for _, role := range model.Roles() {
			status := ask("X-API-Key", string(role))
			assert.Equal(t, !role.Covers(rt.role), status == 403, "%s as %s: %d", rt.id, role, status)
			if role.Covers(rt.role) {
				assert.False(t, stopped(status), "%s as %s: %d", rt.id, role, status)
			}
		}
	}
}

// The table says what each role is for; this is the same from the other side.
func TestRolesOfRoutes(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), nil)
	for _, rt := range h.routes() {
		switch {
		case rt.method == "GET" && rt.id != "audit":
			assert.Contains(t, []model.Role{anybody, viewer}, rt.role, rt.id)
		case strings.HasPrefix(rt.path, "/scripts/"), rt.id == "audit":
			assert.Equal(t, admin, rt.role, rt.id)
		case rt.method == "PUT", rt.method == "DELETE", strings.HasSuffix(rt.path, "-service"):
			assert.Equal(t, engineer, rt.role, rt.id)
		default:
			assert.Equal(t, operator, rt.role, rt.id)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), withKeys)
	w := do(h, "GET", "/models", "", "Remote", remote())
	assert.Equal(t, `Bearer realm="voltage"`, w.Header().Get("WWW-Authenticate"))
	w = do(h, "GET", "/models", "", "X-API-Key", "wrong", "Remote", remote())
	assert.Equal(t, `Bearer realm="voltage", error="invalid_token"`, w.Header().Get("WWW-Authenticate"))
	assert.Contains(t, w.Body.String(), "the credential is not accepted")
	w = do(h, "POST", setpoint, `{"value":1}`, "X-API-Key", "viewer", "Remote", remote())
	assert.Equal(t, 403, w.Code)
	assert.Contains(t, w.Body.String(), "this needs the role operator; the viewer has the role viewer")
	at := remote()
	for range 10 {
		assert.Equal(t, 401, do(h, "GET", "/models", "", "X-API-Key", "guess", "Remote", at).Code)
	}
	w = do(h, "GET", "/models", "", "X-API-Key", "admin", "Remote", at)
	assert.Equal(t, 429, w.Code)
	assert.NotEmpty(t, w.Header().Get("Retry-After"))
	assert.Equal(t, 200, do(h, "GET", "/healthz", "", "Remote", at).Code)

	// Without credentials only this machine is served.
	h = newHandler(t, newFakeSite(), nil)
	assert.Equal(t, 403, do(h, "GET", "/models", "", "Remote", remote()).Code)
	assert.Equal(t, 200, do(h, "GET", "/healthz", "", "Remote", remote()).Code)
	for _, header := range []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"} { // a proxy on this machine asks for another
		assert.Equal(t, 403, do(h, "POST", setpoint, `{"value":5}`, header, "203.0.113.5").Code, header)
	}
	assert.JSONEq(t, `{"name":"","role":"admin","login":false}`, do(h, "GET", "/session", "").Body.String())
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	clock := newTestClock()
	h := newHandler(t, newFakeSite(), func(c *Config) {
		c.Clock = clock
		c.Guard = auth.New(auth.Config{Clock: clock, Rate: 1})
	})
	assert.Equal(t, 200, do(h, "GET", "/models", "").Code)
	assert.Equal(t, 200, do(h, "GET", "/healthz", "").Code)
	w := do(h, "GET", "/models", "")
	assert.Equal(t, 429, w.Code)
	assert.Equal(t, "1", w.Header().Get("Retry-After"))
	assert.Contains(t, w.Body.String(), "too many requests")
	clock.move(time.Second)
	assert.Equal(t, 200, do(h, "GET", "/models", "").Code)

	// Who shows no credential is counted, too.
	h = newHandler(t, newFakeSite(), func(c *Config) {
		withKeys(c)
		c.Guard = auth.New(auth.Config{Clock: clock, Rate: 1, Keys: []auth.Key{{Name: "a", Role: model.RoleViewer}}})
	})
	codes := map[int]int{}
	for range 10 {
		codes[do(h, "GET", "/models", "", "Remote", "192.0.2.1:5").Code]++
	}
	assert.Equal(t, map[int]int{401: 2, 429: 8}, codes)
}

func TestProbesMayBeOpen(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), func(c *Config) {
		withKeys(c)
		c.OpenProbes = true
	})
	for _, path := range []string{"/metrics", "/readyz"} {
		assert.Equal(t, 200, do(h, "GET", path, "").Code)
		assert.Equal(t, 401, do(h, "GET", path, "", "Remote", remote()).Code)
		assert.Equal(t, 401, do(h, "GET", path, "", "X-Forwarded-For", "127.0.0.1").Code, "a proxy asks for somebody else")
	}
	assert.Equal(t, 401, do(h, "GET", "/models", "").Code)
}

// Who acts is the credential's name, whatever the request says.
func TestUserIsOfTheCredential(t *testing.T) {
	t.Parallel()
	site := newFakeSite()
	h := newHandler(t, site, func(c *Config) {
		withKeys(c)
		updates(c)
	})
	as := func(role, method, target, body string) string {
		t.Helper()
		w := do(h, method, target, body, "Authorization", "Bearer "+role, "Remote", "10.0.0.1:9", "X-Forwarded-For", "203.0.113.9")
		require.Equal(t, 200, w.Code, w.Body.String())
		return w.Body.String()
	}
	assert.Contains(t, as("operator", "POST", setpoint, `{"value":5,"user":"somebody"}`), `"user":"the operator"`)
	assert.Contains(t, as("operator", "POST", "/alarms/2/ack", `{"by":"somebody","comment":"seen"}`), `"acknowledged_by":"the operator"`)
	as("engineer", "PUT", "/sync", `{"mode":"shadow","channels":["1001"],"by":"somebody","reason":"why"}`)
	assert.Equal(t, scripts.Change{By: "the engineer", Reason: "why"}, site.scripts.last)
	as("admin", "POST", "/scripts/data_sync/rollback", `{"by":"somebody"}`)
	assert.Equal(t, "the admin", site.scripts.last.By)
	assert.JSONEq(t, `{"name":"the admin","role":"admin","login":true}`, as("admin", "GET", "/session", ""))

	h.audit.wait()
	var got []string
	for _, e := range site.entries() {
		assert.Equal(t, "203.0.113.9", e.From)
		assert.Equal(t, 200, e.Status)
		got = append(got, strings.Join([]string{e.Who, string(e.Role), e.Action, e.Target, e.Detail, e.Result}, "|"))
	}
	assert.Equal(t, []string{
		"the operator|operator|control|pcs1:active_power_setpoint|value 5.000000; command c1|verified",
		"the operator|operator|acknowledgeAlarm|2|seen|ok",
		"the engineer|engineer|setSyncMode|1001|mode shadow; why|ok",
		"the admin|admin|rollbackScript|data_sync||ok",
	}, got)
	w := do(h, "GET", "/audit?after=1-0&limit=2", "", "X-API-Key", "admin", "Remote", remote())
	assert.Contains(t, w.Body.String(), `{"entries":[{"position":"2-0"`)
	assert.Contains(t, w.Body.String(), `"next":"3-0"`)
	assert.Equal(t, 400, do(h, "GET", "/audit?after=x", "", "X-API-Key", "admin", "Remote", remote()).Code)
}

func (s *fakeSite) entries() []model.AuditEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]model.AuditEntry{}, s.audit...)
}

// What fails and what is denied stands in the journal, too, the denied ones at most
// so often.
func TestAuditOfWhatDidNotWork(t *testing.T) {
	t.Parallel()
	site, clock := newFakeSite(), newTestClock()
	var log lockedBuffer
	h := newHandler(t, site, func(c *Config) {
		c.Clock, c.Log = clock, slog.New(slog.NewTextHandler(&log, nil))
		withKeys(c)
	})
	site.end = model.CommandFailed
	do(h, "POST", setpoint, `{"value":5}`, "X-API-Key", "operator", "Remote", remote())
	do(h, "POST", setpoint, `{"value":"x"}`, "X-API-Key", "operator", "Remote", remote())
	do(h, "POST", setpoint, `{"value":5}`, "X-API-Key", "viewer", "Remote", remote())
	do(h, "GET", "/audit", "", "X-API-Key", "wrong\x01", "Remote", remote())
	site.set(func() { site.boom = true })
	do(h, "GET", "/models", "", "X-API-Key", "viewer", "Remote", remote())
	h.audit.wait()
	var got []string
	for _, e := range site.entries() {
		assert.Equal(t, start, e.Time)
		got = append(got, fmt.Sprintf("%s|%s|%s|%s|%s|%d", e.Who, e.Action, e.Target, e.Detail, e.Result, e.Status))
	}
	assert.Equal(t, []string{
		"the operator|control|pcs1:active_power_setpoint|value 5.000000; command c1; because|failed|502",
		`the operator|control|` + setpoint + `|field "value": string is not a number that can be stored|failed|400`,
		"the viewer|control|" + setpoint + "|this needs the role operator; the viewer has the role viewer|denied|403",
		"|audit|/audit|unknown API key|denied|401",
	}, got)
	assert.Contains(t, log.String(), "action=audit target=/audit")

	// One address, and many.
	at := remote()
	for range 100 {
		do(h, "GET", "/models", "", "Remote", at)
	}
	for range 100 {
		do(h, "GET", "/models", "", "Remote", remote())
	}
	h.audit.wait()
	assert.Len(t, site.entries(), 3+deniedAllBurst, "two were not denied, and the viewer is known")
	clock.move(2 * time.Minute)
	do(h, "GET", "/models", "", "Remote", remote())
	h.audit.wait()
	entries := site.entries()
	assert.Equal(t, "log in with an API key or a token; 56 more before were not written", entries[len(entries)-1].Detail)
	assert.Equal(t, "log in with an API key or a token; 95 more before were not written", entries[4+deniedBurst].Detail)
}

// Whoever knocks for a day, from as many addresses as there are, does not drive out
// what the journal keeps.
func TestKnockingLeavesTheAuditJournal(t *testing.T) {
	t.Parallel()
	site, clock := newFakeSite(), newTestClock()
	h := newHandler(t, site, func(c *Config) {
		c.Clock = clock
		withKeys(c)
	})
	for range 24 * 60 * 2 {
		clock.move(30 * time.Second)
		do(h, "GET", "/audit", "", "Remote", remote())
		do(h, "GET", "/audit", "", "X-API-Key", "wrong", "Remote", "192.0.2.77:5")
	}
	h.audit.wait()
	before := len(site.entries())
	assert.Less(t, before, 1500)

	// Nor does it hide what somebody with a credential tries.
	do(h, "POST", setpoint, `{"value":5}`, "X-API-Key", "viewer", "Remote", "192.0.2.77:5")
	h.audit.wait()
	require.Len(t, site.entries(), before+1)
	assert.Equal(t, "the viewer control denied", fmt.Sprint(site.entries()[before].Who, " ", site.entries()[before].Action, " ", site.entries()[before].Result))
}

type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// A store that does not answer holds nobody up and loses nothing in silence.
func TestAuditWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	site, clock := newFakeSite(), newTestClock()
	h := newHandler(t, site, func(c *Config) { c.Clock = clock })
	site.set(func() { site.errs["Audit"] = scripts.ErrStore })
	const more = 7
	for range maxAudit + more {
		do(h, "POST", "/alarms/99/ack", "")
	}
	site.set(func() { delete(site.errs, "Audit") })
	stop := clock.run()
	defer stop()
	require.Eventually(t, func() bool { return len(site.entries()) == maxAudit+1 }, 20*time.Second, time.Millisecond)
	last := site.entries()[maxAudit]
	assert.Equal(t, "lost", last.Result)
	assert.Contains(t, last.Detail, fmt.Sprint(more, " entries"))

	// At the end one attempt is made, and no more.
	site.set(func() { site.errs["Audit"] = scripts.ErrStore })
	do(h, "POST", "/alarms/99/ack", "")
	require.NoError(t, h.Close(context.Background()))
	h.audit.mu.Lock()
	defer h.audit.mu.Unlock()
	assert.Empty(t, h.audit.queue)
}

func TestAuditText(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a b ?c", plain("a\nb \xffc"))
	long := cut(strings.Repeat("ä", 400))
	assert.LessOrEqual(t, len(long), 500)
	assert.True(t, model.PlainText(long, 500))
	body, err := json.Marshal(model.AuditEntry{})
	require.NoError(t, err)
	assert.Contains(t, string(body), `"who":""`)
	assert.Equal(t, &access{}, accessOf(&http.Request{}))
}
