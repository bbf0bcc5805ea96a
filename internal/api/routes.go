package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A route is one line of the API. serve writes the answer, or returns the error
// that becomes one.
type route struct {
	method string
	path   string // as http.ServeMux takes it, without the method
	serve  func(w http.ResponseWriter, r *http.Request) error
}

// routes is the whole API. Mux and the test of the OpenAPI description are made
// from it.
func (h *Handler) routes() []route {
	return []route{
		{"GET", "/healthz", h.health},
		{"GET", "/readyz", h.ready},
		{"GET", "/metrics", h.metrics},
		{"GET", "/channels", h.channels},
		{"GET", "/channels/{id}", h.channel},
		{"GET", "/channels/{id}/values", h.channelValues},
		{"POST", "/channels/{id}/read", h.demand},
		{"GET", "/servers", h.servers},
		{"GET", "/models", h.models},
		{"GET", "/models/{id}", h.model},
		{"GET", "/models/{id}/values", h.modelValues},
		{"POST", "/models/{id}/control/{name}", h.control},
		{"GET", "/commands/{id}", h.command},
		{"POST", "/commands/{id}/cancel", h.cancelCommand},
		{"GET", "/alarms", h.alarms},
		{"GET", "/alarms/journal", h.alarmJournal},
		{"GET", "/alarms/{id}", h.alarm},
		{"POST", "/alarms/{id}/ack", h.acknowledge},
		{"POST", "/alarms/{id}/close", h.closeAlarm},
		{"GET", "/scripts", h.scripts},
		{"GET", "/scripts/journal", h.scriptJournal},
		{"GET", "/scripts/{name}", h.script},
		{"GET", "/scripts/{name}/source", h.scriptSource},
		{"POST", "/scripts/{name}/verify", h.verifyScript},
		{"POST", "/scripts/{name}/activate", h.activateScript},
		{"POST", "/scripts/{name}/rollback", h.rollbackScript},
		{"PUT", "/scripts/{name}/canary", h.canaryScript},
		{"DELETE", "/scripts/{name}/canary", h.endCanary},
		{"GET", "/sync", h.syncModes},
		{"PUT", "/sync", h.setSyncMode},
		{"GET", "/ws", h.webSocket},
		{"GET", "/openapi.json", h.openAPI},
		{"GET", "/{$}", h.page},
		{"GET", "/page/{file}", h.pageFile},
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
	if err := rt.serve(w, r); err != nil {
		h.fail(w, r, err)
	}
}

// limited returns the request's context with the usual bound on its duration.
func limited(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), requestTimeout)
}
