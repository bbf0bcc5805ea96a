package voltage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/voltageems/voltage/internal/api"
	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Handler returns the HTTP API, the WebSocket and the page, to be served by the
// caller. It asks for the credentials of Config.HTTP; without any, it answers this
// machine alone, unless the caller says with WithUser who asks. Before Start and
// after Stop it answers that the engine does not run.
func (e *Engine) Handler() http.Handler { return e.handler }

// Addr is where the engine's own server listens, "" when it does not.
func (e *Engine) Addr() string {
	if _, ok := e.running(); !ok || e.server == nil {
		return ""
	}
	return e.server.Addr
}

func (e *Engine) listenHTTP() error {
	if e.cfg.HTTP.Listen == "" {
		return nil
	}
	if err := e.guard.Load(); err != nil {
		return fmt.Errorf("http: jwt: %w", err)
	}
	var secure *tls.Config
	if t := e.cfg.HTTP.TLS; t != (HTTPTLS{}) {
		var err error
		secure, err = auth.NewTLS(auth.TLSFiles{Cert: t.CertFile, Key: t.KeyFile, ClientCA: t.ClientCAFile}, e.cfg.Clock, e.log)
		if err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", e.cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	e.server = &http.Server{Handler: e.handler, Addr: l.Addr().String(), ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 30 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)} // failed handshakes, mostly
	proxies, _ := prefixes(e.cfg.HTTP.TrustedProxies) // valid
	l = newBoundedListener(l, proxies, e.cfg.Clock, e.log)
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := e.server
	e.work.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("the HTTP server ended", "error", err)
		}
	})
	return nil
}

// WithUser returns the request as that of somebody whom the caller has identified
// itself: Handler then asks for no credential. The name stands in records of
// commands and alarms and in the audit journal; it must not be empty.
func WithUser(r *http.Request, name string, role model.Role) *http.Request {
	return r.WithContext(auth.With(r.Context(), auth.Identity{Name: name, Role: role}))
}

// site is what the HTTP handler sees of the engine.
type site struct{ *Engine }

func (s site) Name() string { return s.cfg.Site }

func (s site) Ready(ctx context.Context) error {
	if _, ok := s.running(); !ok {
		return ErrNotRunning
	}
	return s.plane.Ping(ctx)
}

// Cached keeps answers on the store, unless the configuration says otherwise.
func (s site) Cached(ctx context.Context, a scripts.Answer, build func() ([]byte, error)) ([]byte, error) {
	if _, ok := s.running(); !ok {
		return nil, ErrNotRunning
	}
	return s.plane.Cached(ctx, a, build)
}

// Control answers every final state without an error: the handler makes the
// status of it.
func (s site) Control(ctx context.Context, c model.Command) (model.CommandResult, error) {
	return s.control(ctx, c)
}

// Await is the second half of Control, for a command that was submitted.
func (s site) Await(ctx context.Context, r model.CommandResult, timeout time.Duration) (model.CommandResult, error) {
	if _, ok := s.running(); !ok {
		return r, ErrNotRunning
	}
	final := s.waiters.add(r.ID)
	defer s.waiters.remove(r.ID, final)
	now, err := s.plane.Command(ctx, r.ID)
	switch {
	case errors.Is(err, scripts.ErrNotFound):
		return r, nil
	case err == nil && now.State.Final():
		return now, nil
	}
	return s.await(ctx, r, timeout, final)
}

// EnableModel is SetModelEnabled, and returns the model as it is then. The handler
// notes who asked for it.
func (s site) EnableModel(ctx context.Context, id string, enabled bool) (model.Instance, error) {
	if err := s.setModelEnabled(ctx, id, enabled); err != nil {
		return model.Instance{}, err
	}
	models, err := s.plane.Models(ctx)
	if err != nil {
		return model.Instance{}, err
	}
	at := slices.IndexFunc(models, func(m model.Instance) bool { return m.ID == id })
	if at < 0 { // removed in this moment
		return model.Instance{}, fmt.Errorf("model %.80q: %w", id, scripts.ErrNotFound)
	}
	return models[at], nil
}

// Points gives the page the limits and labels of a model's points.
func (s site) Points(modelID string) map[string]model.Point {
	if _, ok := s.running(); !ok {
		return nil
	}
	return s.plane.ModelPoints(modelID)
}

func (s site) ValuesOf(ctx context.Context, ids ...string) (map[string]map[string]model.Value, error) {
	if _, ok := s.running(); !ok {
		return nil, ErrNotRunning
	}
	return s.plane.ValuesOf(ctx, ids...)
}

func (s site) CommandJournal(ctx context.Context, after string, limit int) ([]model.CommandEvent, error) {
	if _, ok := s.running(); !ok {
		return nil, ErrNotRunning
	}
	return s.plane.CommandJournal(ctx, after, limit)
}

func (s site) JournalEnds(ctx context.Context) (alarms, commands string, err error) {
	if _, ok := s.running(); !ok {
		return "", "", ErrNotRunning
	}
	if alarms, err = s.desk.End(ctx); err == nil {
		commands, err = s.plane.CommandJournalEnd(ctx)
	}
	return alarms, commands, err
}

func (s site) Audit(ctx context.Context, entries ...model.AuditEntry) error {
	if _, ok := s.running(); !ok {
		return ErrNotRunning
	}
	return s.plane.Audit(ctx, entries...)
}

func (s site) AuditJournal(ctx context.Context, after string, limit int) ([]model.AuditEntry, error) {
	if _, ok := s.running(); !ok {
		return nil, ErrNotRunning
	}
	return s.plane.AuditJournal(ctx, after, limit)
}

// ScriptStore is what the handler shows and changes of the scripts.
func (s site) ScriptStore() (api.ScriptStore, error) {
	if _, ok := s.running(); !ok {
		return nil, ErrNotRunning
	}
	return s.plane, nil
}

func (s site) ScriptStats() []scripts.ScriptStats {
	if _, ok := s.running(); !ok {
		return nil
	}
	return s.plane.Stats()
}
