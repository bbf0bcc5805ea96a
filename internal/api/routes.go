package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// A route is one line of the API. serve writes the answer, or returns the error
// that becomes one.
type route struct {
	method string
	path   string // as http.ServeMux takes it, without the method
	// id names the operation in openapi.json and in the audit journal.
	id string
	// role is the least that may do it.
	role  model.Role
	serve func(w http.ResponseWriter, r *http.Request) error
	// probe: the configuration may open it to this machine.
	probe bool
}

// anybody is for routes that need no credential: they tell nothing of the site.
const anybody model.Role = ""

// The roles, short, for the table.
const (
	viewer   = model.RoleViewer
	operator = model.RoleOperator
	engineer = model.RoleEngineer
	admin    = model.RoleAdmin
)

// routes is the whole API. The mux, who may do what, the audit journal and the
// test of the OpenAPI description are made from it.
func (h *Handler) routes() []route {
	return slices.Concat(h.siteRoutes(), h.alarmRoutes(), h.notificationRoutes())
}

func (h *Handler) siteRoutes() []route {
	return []route{
		{method: "GET", path: "/healthz", id: "health", role: anybody, serve: h.health},
		{method: "GET", path: "/readyz", id: "ready", role: viewer, serve: h.ready, probe: true},
		{method: "GET", path: "/metrics", id: "metrics", role: viewer, serve: h.metrics, probe: true},
		{method: "GET", path: "/channels", id: "channels", role: viewer, serve: h.channels},
		{method: "GET", path: "/channels/{id}", id: "channel", role: viewer, serve: h.channel},
		{method: "GET", path: "/channels/{id}/values", id: "channelValues", role: viewer, serve: h.channelValues},
		{method: "POST", path: "/channels/{id}/read", id: "demand", role: operator, serve: h.demand},
		{method: "GET", path: "/servers", id: "servers", role: viewer, serve: h.servers},
		{method: "GET", path: "/models", id: "models", role: viewer, serve: h.models},
		{method: "GET", path: "/models/{id}", id: "model", role: viewer, serve: h.model},
		{method: "GET", path: "/models/{id}/values", id: "modelValues", role: viewer, serve: h.modelValues},
		{method: "PUT", path: "/models/{id}/enabled", id: "enableModel", role: engineer, serve: h.enableModel},
		{method: "GET", path: "/values", id: "values", role: viewer, serve: h.values},
		{method: "POST", path: "/control", id: "controlMany", role: operator, serve: h.controlMany},
		{method: "POST", path: "/models/{id}/control/{name}", id: "control", role: operator, serve: h.control},
		{method: "GET", path: "/commands/{id}", id: "command", role: viewer, serve: h.command},
		{method: "POST", path: "/commands/{id}/cancel", id: "cancelCommand", role: operator, serve: h.cancelCommand},
		{method: "GET", path: "/scripts", id: "scripts", role: viewer, serve: h.scripts},
		{method: "GET", path: "/scripts/journal", id: "scriptJournal", role: viewer, serve: h.scriptJournal},
		{method: "GET", path: "/scripts/{name}", id: "script", role: viewer, serve: h.script},
		{method: "GET", path: "/scripts/{name}/source", id: "scriptSource", role: viewer, serve: h.scriptSource},
		{method: "POST", path: "/scripts/{name}/verify", id: "verifyScript", role: admin, serve: h.verifyScript},
		{method: "POST", path: "/scripts/{name}/activate", id: "activateScript", role: admin, serve: h.activateScript},
		{method: "POST", path: "/scripts/{name}/rollback", id: "rollbackScript", role: admin, serve: h.rollbackScript},
		{method: "PUT", path: "/scripts/{name}/canary", id: "canaryScript", role: admin, serve: h.canaryScript},
		{method: "DELETE", path: "/scripts/{name}/canary", id: "endCanary", role: admin, serve: h.endCanary},
		{method: "GET", path: "/sync", id: "syncModes", role: viewer, serve: h.syncModes},
		{method: "PUT", path: "/sync", id: "setSyncMode", role: engineer, serve: h.setSyncMode},
		{method: "GET", path: "/session", id: "session", role: viewer, serve: h.session},
		{method: "GET", path: "/audit", id: "audit", role: admin, serve: h.auditJournal},
		{method: "GET", path: "/ws", id: "webSocket", role: viewer, serve: h.webSocket},
		{method: "GET", path: "/openapi.json", id: "openAPI", role: viewer, serve: h.openAPI},
		{method: "GET", path: "/{$}", id: "page", role: anybody, serve: h.page},
		{method: "GET", path: "/page/{file}", id: "pageFile", role: anybody, serve: h.pageFile},
	}
}

// requestTimeout bounds what a request asks of the site. Only commands that are
// waited for take longer, and say how long, and scripts that are verified.
const requestTimeout = 5 * time.Second

// newMux makes one entry per path that looks at the method itself, so that wrong
// methods and unknown paths are answered with problem details, too.
func (h *Handler) newMux(routes []route) *http.ServeMux {
	mux := http.NewServeMux()
	byPath := map[string]map[string]route{}
	for _, rt := range routes {
		if byPath[rt.path] == nil {
			byPath[rt.path] = map[string]route{}
			mux.HandleFunc(rt.path, func(w http.ResponseWriter, r *http.Request) { h.dispatch(w, r, byPath[rt.path]) })
		}
		byPath[rt.path][rt.method] = rt
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.fail(w, r, problemf(http.StatusNotFound, "there is no such path; /openapi.json describes all"))
	})
	return mux
}

func (h *Handler) dispatch(w http.ResponseWriter, r *http.Request, methods map[string]route) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http leaves the body out
	}
	rt, ok := methods[method]
	if !ok {
		var allow []string
		for m := range methods {
			allow = append(allow, m)
			if m == http.MethodGet {
				allow = append(allow, http.MethodHead)
			}
		}
		slices.Sort(allow)
		w.Header().Set("Allow", strings.Join(allow, ", "))
		h.fail(w, r, problemf(http.StatusMethodNotAllowed, "%.20s is not possible here, only %s", r.Method, strings.Join(allow, ", ")))
		return
	}
	if method != http.MethodGet || rt.path == "/ws" {
		if err := checkOrigin(r); err != nil {
			h.fail(w, r, err)
			return
		}
	}
	r, err := h.admit(w, r, rt)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if method == http.MethodGet {
		if err := rt.serve(w, r); err != nil {
			h.fail(w, r, err)
		}
		return
	}
	answer := &startedWriter{ResponseWriter: w, status: http.StatusInternalServerError} // of a panic
	defer func() { h.audited(accessOf(r), rt, answer.status, err) }()
	if err = rt.serve(answer, r); err != nil {
		h.fail(answer, r, err)
	}
}

// limited returns the request's context with the usual bound on its duration.
func limited(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), requestTimeout)
}
