package voltage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/internal/api"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

func (h HTTP) validate() error {
	if h.Cache > scripts.MaxCacheTTL {
		return fmt.Errorf("%w: http: cache %s: want at most %s", model.ErrInvalid, h.Cache, scripts.MaxCacheTTL)
	}
	if h.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(h.Listen)
	if err != nil {
		return fmt.Errorf("%w: http: listen %.80q: want host:port", model.ErrInvalid, h.Listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%w: http: listen %.80q: without authentication only loopback addresses are served", model.ErrInvalid, h.Listen)
	}
	return nil
}

// Handler returns the HTTP API, the WebSocket and the page, to be served by the
// caller. It has no authentication yet: serve it on loopback only. Before Start
// and after Stop it answers that the engine does not run.
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
	l, err := net.Listen("tcp", e.cfg.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	e.server = &http.Server{Handler: e.handler, Addr: l.Addr().String(), ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
	server := e.server
	e.work.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("the HTTP server ended", "error", err)
		}
	})
	return nil
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

func (s site) Alarm(ctx context.Context, id string) (alarm.Alarm, error) {
	if _, ok := s.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return s.desk.Get(ctx, id)
}

func (s site) AlarmJournal(ctx context.Context, after string, limit int) ([]alarm.Event, error) {
	if _, ok := s.running(); !ok {
		return nil, ErrNotRunning
	}
	return s.desk.Journal(ctx, after, limit)
}

func (s site) CloseAlarm(ctx context.Context, id, by, comment string) (alarm.Alarm, error) {
	if _, ok := s.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return s.desk.Close(ctx, id, by, comment)
}

// Points gives the page the limits and labels of a model's points.
func (s site) Points(modelID string) map[string]model.Point {
	if _, ok := s.running(); !ok {
		return nil
	}
	return s.plane.ModelPoints(modelID)
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
