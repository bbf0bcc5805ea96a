package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(time.Duration) <-chan time.Time { return nil }

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func request(remote string, header ...string) *http.Request {
	r := httptest.NewRequest("GET", "/models", nil)
	r.RemoteAddr = remote
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func (g *Guard) who(r *http.Request) (Identity, error) { return g.Identify(r, g.Client(r)) }

func key(name, secret string, role model.Role) Key {
	return Key{Name: name, Role: role, Digest: sha256.Sum256([]byte(secret))}
}

func TestWithoutCredentials(t *testing.T) {
	t.Parallel()
	g := New(Config{})
	assert.False(t, g.Configured())
	for _, remote := range []string{"127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5", "127.8.9.1:1", "@", "/run/x.sock"} {
		id, err := g.who(request(remote))
		require.NoError(t, err, remote)
		assert.Equal(t, Identity{Role: model.RoleAdmin}, id)
	}
	for _, remote := range []string{"192.0.2.1:5", "[2001:db8::1]:5", "nonsense", "", "0.0.0.0:1"} {
		_, err := g.who(request(remote))
		assert.ErrorIs(t, err, ErrLocal, remote)
	}
	id, err := g.who(request("192.0.2.1:5").WithContext(With(t.Context(), Identity{Name: "anna", Role: model.RoleViewer})))
	require.NoError(t, err)
	assert.Equal(t, "anna", id.Named())
}

func TestKeys(t *testing.T) {
	t.Parallel()
	c := newClock()
	old := key("old", "old-key", model.RoleViewer)
	old.Expires = c.Now().Add(time.Hour)
	near := key("near", "near-key", model.RoleEngineer)
	near.From = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	g := New(Config{Keys: []Key{key("anna", "anna-key", model.RoleOperator), old, near}, Clock: c})
	subprotocol := "voltage, " + Subprotocol + base64.RawURLEncoding.EncodeToString([]byte("anna-key"))
	for _, header := range [][]string{
		{"Authorization", "Bearer anna-key"}, {"Authorization", "bearer  anna-key"}, {"X-API-Key", "anna-key"}, {"Sec-WebSocket-Protocol", subprotocol},
	} {
		id, err := g.who(request("192.0.2.1:1", header...))
		require.NoError(t, err, header)
		assert.Equal(t, Identity{Name: "anna", Role: model.RoleOperator}, id)
	}
	_, err := g.who(request("127.0.0.1:1"))
	require.ErrorIs(t, err, ErrNone, "this machine needs a credential, too")
	for why, header := range map[string][]string{
		"unknown API key":              {"X-API-Key", "anna-kez"},
		"another scheme":               {"Authorization", "Basic YTpi"},
		"more than one":                {"Authorization", "Bearer anna-key", "X-API-Key", "anna-key"},
		"an empty or overlong":         {"X-API-Key", ""},
		"not base64url":                {"Sec-WebSocket-Protocol", Subprotocol + "!"},
		"may not be used from here":    {"X-API-Key", "near-key"},
		"an empty or overlong credent": {"X-API-Key", string(make([]byte, maxCredential+1))},
	} {
		_, err := g.who(request("192.0.2."+fmt.Sprint(len(why))+":1", header...))
		var refusal *Refusal
		require.ErrorAs(t, err, &refusal, why)
		assert.ErrorContains(t, err, why)
		assert.NotContains(t, refusal.Say, "near")
	}
	id, err := g.who(request("10.1.2.3:1", "X-API-Key", "near-key"))
	require.NoError(t, err)
	assert.Equal(t, "near", id.Name)
	// A key may look like a token where tokens are accepted, too.
	both := New(Config{Keys: []Key{key("dots", "a.b.c", model.RoleViewer)}, JWT: &JWT{Secret: secret}, Clock: c})
	id, err = both.who(request("192.0.2.1:1", "X-API-Key", "a.b.c"))
	require.NoError(t, err)
	assert.Equal(t, "dots", id.Name)
	id, err = g.who(request("192.0.2.1:1", "X-API-Key", "old-key"))
	require.NoError(t, err)
	assert.Equal(t, old.Expires, id.Expires)
	c.move(time.Hour)
	_, err = g.who(request("192.0.2.1:1", "X-API-Key", "old-key"))
	assert.ErrorContains(t, err, "has expired")
}

func TestFailedLoginsAreSlowedDown(t *testing.T) {
	t.Parallel()
	c := newClock()
	g := New(Config{Keys: []Key{key("anna", "anna-key", model.RoleViewer)}, Clock: c})
	for range failedLogins {
		_, err := g.who(request("192.0.2.1:1", "X-API-Key", "guess"))
		assert.IsType(t, &Refusal{}, err)
	}
	_, err := g.who(request("192.0.2.1:2", "X-API-Key", "anna-key"))
	var many *TooMany
	require.ErrorAs(t, err, &many, "whoever guesses learns nothing any more")
	assert.True(t, many.Logins)
	assert.InDelta(t, failedRecover, many.Wait, float64(time.Second))
	_, err = g.who(request("192.0.2.2:1", "X-API-Key", "anna-key"))
	require.NoError(t, err, "another address")
	_, err = g.who(request("192.0.2.1:1"))
	require.ErrorIs(t, err, ErrNone, "no credential is no guess")
	c.move(failedRecover)
	_, err = g.who(request("192.0.2.1:2", "X-API-Key", "anna-key"))
	require.NoError(t, err)
	// Who was let in from there before stays in, however many guess at it, and nobody else.
	for range 10 * failedLogins {
		_, _ = g.who(request("192.0.2.1:1", "X-API-Key", "guess"))
		_, err = g.who(request("192.0.2.1:2", "X-API-Key", "anna-key"))
		require.NoError(t, err)
	}
	_, err = g.who(request("192.0.2.1:1", "X-API-Key", "guess"))
	require.ErrorAs(t, err, &many)
	for i := range 2 * maxCounted {
		g.note(accepted{from: fmt.Sprint(i)}, true)
	}
	assert.Len(t, g.good, maxCounted)
	// Of an IPv6 network all addresses are one.
	for i := range failedLogins {
		_, _ = g.who(request(fmt.Sprintf("[2001:db8::%x]:1", i+1), "X-API-Key", "guess"))
	}
	_, err = g.who(request("[2001:db8::ffff]:1", "X-API-Key", "anna-key"))
	assert.ErrorAs(t, err, &many)
}

func TestRate(t *testing.T) {
	t.Parallel()
	c := newClock()
	g := New(Config{Keys: []Key{key("anna", "a", model.RoleViewer)}, Rate: 2, Clock: c})
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range 4 {
		require.NoError(t, g.Allow(Identity{}, a))
	}
	err := g.Allow(Identity{}, a)
	var many *TooMany
	require.ErrorAs(t, err, &many)
	assert.Equal(t, 500*time.Millisecond, many.Wait)
	assert.False(t, many.Logins)
	require.NoError(t, g.Allow(Identity{}, b))
	require.NoError(t, g.Allow(Identity{Name: "anna"}, a), "counted by name, not by address")
	for range 3 {
		require.NoError(t, g.Allow(Identity{Name: "anna"}, b))
	}
	require.Error(t, g.Allow(Identity{Name: "anna"}, b))
	c.move(500 * time.Millisecond)
	require.NoError(t, g.Allow(Identity{}, a))
	require.Error(t, g.Allow(Identity{}, a))
	require.NoError(t, New(Config{}).Allow(Identity{}, a))
}

func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	l := NewLimiter(c, 1, 1)
	for i := range 3 * maxCounted {
		l.Take(fmt.Sprint(i))
		l.Take("busy")
	}
	assert.Len(t, l.counts, maxCounted)
	assert.Equal(t, maxCounted, l.order.Len())
	assert.NotZero(t, l.wait("busy"), "who goes on asking is not forgotten")
	assert.Zero(t, l.wait("0"), "who asked long ago is")
	c.move(-time.Hour)
	assert.NotZero(t, l.Take("busy"), "a clock that was set back gives nothing")
	c.move(time.Second)
	assert.Zero(t, l.Take("busy"), "and holds nobody up")
}

func TestClientBehindProxies(t *testing.T) {
	t.Parallel()
	g := New(Config{Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("127.0.0.1/32")}})
	for _, tt := range []struct {
		remote    string
		forwarded []string
		want      string
	}{
		{"192.0.2.1:1", []string{"203.0.113.5"}, "192.0.2.1"}, // not believed
		{"10.0.0.1:1", nil, "10.0.0.1"},
		{"10.0.0.1:1", []string{"203.0.113.5"}, "203.0.113.5"},
		{"10.0.0.1:1", []string{"1.1.1.1, 203.0.113.5"}, "203.0.113.5"}, // the first anybody may have written
		{"10.0.0.1:1", []string{"1.1.1.1", "203.0.113.5, 10.0.0.2"}, "203.0.113.5"},
		{"10.0.0.1:1", []string{"203.0.113.5, nonsense"}, "10.0.0.1"},
		{"127.0.0.1:1", []string{"::ffff:203.0.113.5"}, "203.0.113.5"},
		{"127.0.0.1:1", []string{"10.0.0.7,10.0.0.8"}, "10.0.0.7"},
	} {
		r := request(tt.remote)
		r.Header["X-Forwarded-For"] = tt.forwarded
		assert.Equal(t, tt.want, g.Client(r).String(), tt)
		assert.Equal(t, len(tt.forwarded) > 0, Forwarded(r))
	}
	assert.False(t, g.Client(request("@")).IsValid())
}

func FuzzCredential(f *testing.F) {
	f.Add("Bearer a", "b", "voltage.bearer.YQ")
	f.Fuzz(func(t *testing.T, authorization, key, protocol string) {
		r := request("192.0.2.1:1")
		r.Header["Authorization"], r.Header["X-Api-Key"], r.Header["Sec-Websocket-Protocol"] = []string{authorization}, []string{key}, []string{protocol}
		text, err := credentialOf(r)
		if err == nil && text != "" {
			require.LessOrEqual(t, len(text), maxCredential)
		}
	})
}
