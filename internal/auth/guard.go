package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
)

// Subprotocol begins the WebSocket subprotocol that carries a credential.
const Subprotocol = "voltage.bearer."

// maxCredential is the longest credential that is looked at, in bytes.
const maxCredential = 8 << 10

// Identity is who asks.
type Identity struct {
	// Name is that of the key, or the token's subject. Empty where no credentials
	// are configured: then everybody on this machine may do everything.
	Name string
	Role model.Role
	// Expires is when the credential ends; zero means never.
	Expires time.Time
}

// Key is a static API key.
type Key struct {
	Name    string
	Role    model.Role
	Digest  [sha256.Size]byte // of the key
	Expires time.Time         // zero: never
	From    []netip.Prefix    // who may use it; none means everybody
}

// Config says which credentials are accepted.
type Config struct {
	Keys []Key
	// JWT is nil where tokens are not accepted.
	JWT *JWT
	// Proxies are those whose X-Forwarded-For is believed.
	Proxies []netip.Prefix
	// Rate is how many requests a second each credential, or each address without
	// one, may make on average; twice as many at once. Zero or less: any number.
	Rate  float64
	Clock model.Clock
}

// Why there is no identity.
var (
	// ErrNone: there is no credential.
	ErrNone = errors.New("log in with an API key or a token")
	// ErrLocal: without configured credentials only this machine is served, and not a
	// proxy on it that asks for somebody else.
	ErrLocal = errors.New("no credentials are configured, so that only this machine is served, and no proxy")
)

// Refusal is the error for a credential that is not accepted. Its text is for the
// journal; the client learns Say alone.
type Refusal struct{ Say, Why string }

// Error says why.
func (r *Refusal) Error() string { return r.Why }

// TooMany is the error for who failed to log in too often, or asks too often.
type TooMany struct {
	Wait   time.Duration // until the next attempt
	Logins bool          // failed logins; else requests
}

// Error says when to come again.
func (t *TooMany) Error() string {
	if t.Logins {
		return "too many failed logins from this address"
	}
	return "too many requests"
}

// Failed logins from one address: so many at once, and one more every time.
const (
	failedLogins  = 10
	failedRecover = 10 * time.Second
)

// Guard decides who asks. It is safe for use by many goroutines.
type Guard struct {
	keys    []Key
	tokens  *verifier
	proxies []netip.Prefix
	clock   model.Clock
	failed  *Limiter
	asked   *Limiter // nil: any number

	mu sync.Mutex
	// good are credentials that were accepted, at most maxCounted: who was let in
	// before is not shut out by the guesses of others at the same address.
	good map[accepted]struct{}
}

// accepted is a credential and from where it came.
type accepted struct {
	from   string
	digest [sha256.Size]byte
}

// New does no I/O; Load does.
func New(c Config) *Guard {
	if c.Clock == nil {
		c.Clock = model.SystemClock
	}
	g := &Guard{keys: c.Keys, proxies: c.Proxies, clock: c.Clock, good: map[accepted]struct{}{},
		failed: NewLimiter(c.Clock, 1/failedRecover.Seconds(), failedLogins)}
	if c.JWT != nil {
		g.tokens = newVerifier(*c.JWT, c.Clock)
	}
	if c.Rate > 0 {
		g.asked = NewLimiter(c.Clock, c.Rate, max(2*c.Rate, 1))
	}
	return g
}

// Load reads the keys of tokens, so that a bad file shows at once. Later changes of
// the file are noticed without it.
func (g *Guard) Load() error {
	if g.tokens == nil {
		return nil
	}
	_, err := g.tokens.current()
	return err
}

// Configured reports whether there are credentials at all.
func (g *Guard) Configured() bool { return len(g.keys) > 0 || g.tokens != nil }

type identityKey struct{}

// With returns a context whose request is that of somebody whom the program that
// serves the handler has identified itself.
func With(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// Identify returns who makes a request, or ErrNone, ErrLocal, a *Refusal or a
// *TooMany. client is what Client returned.
func (g *Guard) Identify(r *http.Request, client netip.Addr) (Identity, error) {
	if id, ok := r.Context().Value(identityKey{}).(Identity); ok {
		return id, nil
	}
	if !g.Configured() {
		if !Local(r) || Forwarded(r) {
			return Identity{}, ErrLocal
		}
		return Identity{Role: model.RoleAdmin}, nil
	}
	credential, err := credentialOf(r)
	if err == nil && credential == "" {
		return Identity{}, ErrNone
	}
	from, digest := Group(client), sha256.Sum256([]byte(credential))
	if wait := g.failed.wait(from); wait > 0 && !g.wasGood(accepted{from, digest}) {
		return Identity{}, &TooMany{wait, true}
	}
	var id Identity
	if err == nil {
		id, err = g.verify(credential, digest, client)
	}
	g.note(accepted{from, digest}, err == nil)
	if err != nil {
		g.failed.Take(from)
		return Identity{}, err
	}
	return id, nil
}

func (g *Guard) wasGood(a accepted) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.good[a]
	return ok
}

// note remembers whether a credential was accepted.
func (g *Guard) note(a accepted, good bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !good {
		delete(g.good, a)
		return
	}
	if _, ok := g.good[a]; !ok && len(g.good) >= maxCounted {
		for other := range g.good { // any: it only has to wait then, and only while others guess
			delete(g.good, other)
			break
		}
	}
	g.good[a] = struct{}{}
}

// Allow takes one request from what somebody may make, or says how long to wait.
func (g *Guard) Allow(id Identity, client netip.Addr) error {
	if g.asked == nil {
		return nil
	}
	who := "address " + Group(client)
	if id.Name != "" {
		who = "name " + id.Name
	}
	if wait := g.asked.Take(who); wait > 0 {
		return &TooMany{wait, false}
	}
	return nil
}

const notAccepted = "the credential is not accepted"

func (g *Guard) verify(credential string, digest [sha256.Size]byte, client netip.Addr) (Identity, error) {
	found := -1
	for i := range g.keys { // all of them, so that the time tells nothing
		if subtle.ConstantTimeCompare(digest[:], g.keys[i].Digest[:]) == 1 {
			found = i
		}
	}
	switch {
	case found >= 0:
	case g.tokens != nil && strings.Count(credential, ".") == 2:
		return g.tokens.verify(credential)
	default:
		return Identity{}, &Refusal{notAccepted, "unknown API key"}
	}
	k := g.keys[found]
	if !k.Expires.IsZero() && !g.clock.Now().Before(k.Expires) {
		return Identity{}, &Refusal{"the API key has expired", fmt.Sprintf("API key %s has expired", k.Name)}
	}
	if len(k.From) > 0 && !contains(k.From, client) {
		return Identity{}, &Refusal{notAccepted, fmt.Sprintf("API key %s may not be used from here", k.Name)}
	}
	return Identity{Name: k.Name, Role: k.Role, Expires: k.Expires}, nil
}

// credentialOf returns the one credential of a request, "" for none.
func credentialOf(r *http.Request) (string, error) {
	var found []string
	for _, header := range r.Header.Values("Authorization") {
		scheme, rest, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", &Refusal{"use Authorization: Bearer", "another scheme than Bearer"}
		}
		found = append(found, strings.TrimSpace(rest))
	}
	found = append(found, r.Header.Values("X-API-Key")...)
	for _, list := range r.Header.Values("Sec-WebSocket-Protocol") {
		for one := range strings.SplitSeq(list, ",") {
			text, ok := strings.CutPrefix(strings.TrimSpace(one), Subprotocol)
			if !ok {
				continue
			}
			credential, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil {
				return "", &Refusal{"the credential in the subprotocol is not base64url", "a subprotocol that is not base64url"}
			}
			found = append(found, string(credential))
		}
	}
	switch {
	case len(found) == 0:
		return "", nil
	case len(found) > 1:
		return "", &Refusal{"send one credential", "more than one credential"}
	case found[0] == "" || len(found[0]) > maxCredential:
		return "", &Refusal{notAccepted, "an empty or overlong credential"}
	}
	return found[0], nil
}

// Named returns a name for the journal: that of the identity, or nobody.
func (id Identity) Named() string { return cmp.Or(id.Name, "nobody") }
