package api

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
)

// access is who makes a request, and what the audit journal is to say of it.
type access struct {
	client   netip.Addr
	identity auth.Identity
	// claimed is the name that the request itself gives; it counts only where no
	// credential gives one.
	claimed string
	// target, detail and result are filled in by the route; an empty result is made
	// of the status.
	target, detail, result string
	// parts stand in the journal instead, where the request is for several things.
	parts []part
}

type accessKey struct{}

// accessOf returns the request's access, which dispatch made.
func accessOf(r *http.Request) *access {
	if a, ok := r.Context().Value(accessKey{}).(*access); ok {
		return a
	}
	return &access{}
}

// user returns who acts, for the records: the name of the credential, or, where
// there is none, what the request says.
func (a *access) user(given string) string {
	a.claimed = given
	return cmp.Or(a.identity.Name, given)
}

// from is the address for people.
func (a *access) from() string {
	if !a.client.IsValid() {
		return "local"
	}
	return a.client.String()
}

// admit finds out who asks and whether that one may.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, rt route) (*http.Request, error) {
	a := &access{client: h.guard.Client(r)}
	a.target = cut(r.URL.Path) // until the route knows better
	r = r.WithContext(context.WithValue(r.Context(), accessKey{}, a))
	if rt.role == anybody {
		return r, h.allow(w, a)
	}
	if rt.probe && h.openProbes && auth.Local(r) && !auth.Forwarded(r) {
		a.identity = auth.Identity{Role: model.RoleViewer}
		return r, h.allow(w, a)
	}
	id, err := h.guard.Identify(r, a.client)
	if errors.Is(err, auth.ErrNone) { // who tries a credential is counted otherwise
		if err := h.allow(w, a); err != nil {
			return r, err
		}
	}
	if err != nil {
		p := h.refuse(w, err)
		h.denied(a, rt, p, err)
		return r, p
	}
	a.identity = id
	if err := h.allow(w, a); err != nil {
		return r, err
	}
	if !id.Role.Covers(rt.role) {
		p := problemf(http.StatusForbidden, "this needs the role %s; %s has the role %s", rt.role, id.Named(), id.Role)
		h.denied(a, rt, p, errors.New(p.Detail))
		return r, p
	}
	return r, nil
}

// allow refuses who asks too often.
func (h *Handler) allow(w http.ResponseWriter, a *access) error {
	if err := h.guard.Allow(a.identity, a.client); err != nil {
		return h.refuse(w, err)
	}
	return nil
}

// refuse makes the answer for a request whose maker is not known, or asks too often.
func (h *Handler) refuse(w http.ResponseWriter, err error) *problem {
	var refusal *auth.Refusal
	var many *auth.TooMany
	switch {
	case errors.As(err, &many):
		w.Header().Set("Retry-After", strconv.Itoa(seconds(many.Wait)))
		return problemf(http.StatusTooManyRequests, "%v: wait %d s", err, seconds(many.Wait))
	case errors.As(err, &refusal):
		w.Header().Set("WWW-Authenticate", `Bearer realm="voltage", error="invalid_token"`)
		return problemf(http.StatusUnauthorized, "%s", refusal.Say)
	case errors.Is(err, auth.ErrNone):
		w.Header().Set("WWW-Authenticate", `Bearer realm="voltage"`)
		return problemf(http.StatusUnauthorized, "%v", err)
	default: // auth.ErrLocal
		return problemf(http.StatusForbidden, "%v", err)
	}
}

// seconds rounds up, for before that there is nothing to be had.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// session tells a client who it is.
func (h *Handler) session(w http.ResponseWriter, r *http.Request) error {
	id := accessOf(r).identity
	return h.ok(w, sessionForm{Name: id.Name, Role: id.Role, Login: h.guard.Configured(), Expires: known(id.Expires)})
}

type sessionForm struct {
	Name string     `json:"name"`
	Role model.Role `json:"role"`
	// Login tells whether credentials are needed at all.
	Login   bool       `json:"login"`
	Expires *time.Time `json:"expires,omitempty"`
}
