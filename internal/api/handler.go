package api

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
)

// Config says what a Handler shows and how.
type Config struct {
	// Site is what is shown and operated. Required.
	Site Site
	// Log receives failed requests and panics. Nil means no log.
	Log *slog.Logger
	// Clock times the updates of WebSockets. Nil means model.SystemClock.
	Clock model.Clock
	// AllowedHosts are the names, besides IP addresses and localhost, under which
	// browsers and programs may address the handler, such as "gateway.example.com",
	// without port. "*" allows every name and with it DNS rebinding: only for
	// where a proxy in front checks the name. Empty means none.
	AllowedHosts []string
	// Guard decides who asks. Nil means one without credentials: it serves this
	// machine alone, and lets it do everything.
	Guard *auth.Guard
	// OpenProbes lets this machine read /metrics and /readyz without a credential.
	OpenProbes bool
	// ScriptUpdates lets requests change scripts and sync modes. Whoever can do so
	// runs code in the store.
	ScriptUpdates bool
	// MaxClients is how many WebSockets may be open at once. Zero means 256.
	MaxClients int
	// Interval is the least time between two reads of changed values for
	// WebSockets. Zero means 50 ms.
	Interval time.Duration
	// Version is shown in the metrics. Empty means the version of the module as
	// the program was built with it.
	Version string
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = model.SystemClock
	}
	if c.Guard == nil {
		c.Guard = auth.New(auth.Config{Clock: c.Clock})
	}
	if c.MaxClients <= 0 {
		c.MaxClients = 256
	}
	if c.Interval <= 0 {
		c.Interval = 50 * time.Millisecond
	}
	if c.Version == "" {
		c.Version = moduleVersion()
	}
	return c
}

// Handler serves the API, the WebSocket and the page. Make one with New; it is
// safe for use by many goroutines. It starts no goroutine before the first
// WebSocket connects.
type Handler struct {
	site    Site
	log     *slog.Logger
	clock   model.Clock
	guard   *auth.Guard
	audit   *auditor
	version string
	anyHost bool
	hosts   map[string]struct{}
	mux     *http.ServeMux
	hub     *hub
	updates bool // scripts may be changed
	// openProbes: see Config.
	openProbes bool
	purpose    func() purposes // what this build's scripts are for
	verify     chan struct{}   // held while a script is verified: one at a time

	// requests ends with Close, and with it every request that still waits.
	requests context.Context
	cancel   context.CancelFunc
	closing  sync.Once
	closed   chan struct{} // closed when Close is done
}

// New returns a handler for c.Site.
func New(c Config) *Handler {
	c = c.withDefaults()
	h := &Handler{site: c.Site, log: c.Log, clock: c.Clock, guard: c.Guard, openProbes: c.OpenProbes, audit: newAuditor(c),
		version: c.Version, hosts: map[string]struct{}{}, closed: make(chan struct{})}
	for _, name := range c.AllowedHosts {
		if name == "*" {
			h.anyHost = true
		}
		h.hosts[hostName(name)] = struct{}{}
	}
	h.updates, h.purpose, h.verify = c.ScriptUpdates, sync.OnceValue(readPurposes), make(chan struct{}, 1)
	h.requests, h.cancel = context.WithCancel(context.Background())
	h.hub = newHub(c)
	h.mux = h.newMux(h.routes())
	return h
}

// ServeHTTP implements http.Handler. Panics of what it calls are contained.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	started := &startedWriter{ResponseWriter: w}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.requests, cancel)()
	r = r.WithContext(ctx)
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v) // net/http's own way to cut a connection
		}
		h.log.Error("panic in an HTTP request", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
		if !started.started {
			h.fail(started, r, problemf(http.StatusInternalServerError, "internal error, see the log"))
		}
	}()
	if err := h.checkHost(r); err != nil {
		h.fail(started, r, err)
		return
	}
	if h.requests.Err() != nil && r.URL.Path != "/healthz" {
		h.fail(started, r, problemf(http.StatusServiceUnavailable, "the engine is being stopped"))
		return
	}
	h.mux.ServeHTTP(started, r)
}

// startedWriter remembers whether the answer began, for after that a panic can
// no longer be answered.
type startedWriter struct {
	http.ResponseWriter
	started bool
	status  int
}

func (w *startedWriter) WriteHeader(status int) {
	w.started, w.status = true, status
	w.ResponseWriter.WriteHeader(status)
}

func (w *startedWriter) Write(b []byte) (int, error) {
	if !w.started {
		w.started, w.status = true, http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap gives http.ResponseController and the WebSocket their way through.
func (w *startedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Update tells that points of a model changed. Like Alarm, Command, Channel and
// Resync it never blocks on clients or the store, and costs next to nothing
// while no WebSocket is open.
func (h *Handler) Update(u model.Update) { h.hub.update(u.Model) }

// Alarm tells of a transition of an alarm.
func (h *Handler) Alarm(ev model.AlarmEvent) { h.hub.event("alarm", ev.Position, ev) }

// Command tells of a transition of a command.
func (h *Handler) Command(ev model.CommandEvent) { h.hub.event("command", ev.Position, ev) }

// Channel tells of a channel's new status.
func (h *Handler) Channel(s model.ChannelStatus) { h.hub.channel(s) }

// Resync tells that messages may have been lost, or that models were added or
// removed: every WebSocket client gets a fresh snapshot.
func (h *Handler) Resync() { h.hub.resync() }

// closeGrace is how long WebSocket clients have to answer the closing.
const closeGrace = time.Second

// Close ends all WebSockets, waiting requests and goroutines; requests that come
// later are answered with 503. Clients are told and have up to a second to
// answer. It returns when all have ended, or with ctx's error when ctx ends
// before. Further calls wait for the same end.
func (h *Handler) Close(ctx context.Context) error {
	h.closing.Do(func() {
		h.cancel()
		go func() {
			defer close(h.closed)
			h.hub.close(closeGrace)
			h.audit.close()
		}()
	})
	select {
	case <-h.closed:
		return nil
	case <-ctx.Done():
		h.hub.kill()
		return ctx.Err()
	}
}

// moduleVersion finds the version of this module in the program's build
// information; "unknown" when there is none.
func moduleVersion() string {
	const module = "github.com/voltageems/voltage"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module && m.Version != "" {
			return m.Version
		}
	}
	return "unknown"
}
