package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// problem is an RFC 9457 problem details object. It is an error, so that a route
// returns it like any other.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Command is the record of the command that was refused or failed.
	Command *model.CommandResult `json:"command,omitempty"`
	// cause is the error behind it, for the log; nil where the problem says all.
	cause error
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Title, p.Detail) }

// problemf makes a problem whose title is the status in words.
func problemf(status int, format string, args ...any) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// asProblem finds the status for an error of the site. The texts of errors that
// the client cannot help are for the log alone: they may name hosts and files.
func asProblem(err error) problem {
	var p *problem
	if errors.As(err, &p) {
		return *p
	}
	p = translate(err)
	p.cause = err
	return *p
}

func translate(err error) *problem {
	switch {
	case errors.Is(err, scripts.ErrNotFound):
		return problemf(http.StatusNotFound, "%v", err)
	case errors.Is(err, model.ErrInvalid):
		return problemf(http.StatusBadRequest, "%v", err)
	case errors.Is(err, scripts.ErrConflict):
		return problemf(http.StatusConflict, "%v", err)
	case errors.Is(err, context.DeadlineExceeded):
		return problemf(http.StatusGatewayTimeout, "no answer in time")
	case errors.Is(err, context.Canceled):
		return problemf(http.StatusServiceUnavailable, "the request was given up")
	case errors.Is(err, scripts.ErrLost):
		return problemf(http.StatusServiceUnavailable, "%v", scripts.ErrLost)
	case errors.Is(err, scripts.ErrStore):
		return problemf(http.StatusServiceUnavailable, "the store does not answer")
	default:
		return problemf(http.StatusInternalServerError, "internal error, see the log")
	}
}

// fail answers with the problem that err is.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := asProblem(err)
	p.Instance = r.URL.Path
	// What a client gave up itself is no failure.
	if p.Status >= http.StatusInternalServerError && p.cause != nil && r.Context().Err() == nil {
		h.log.LogAttrs(r.Context(), slog.LevelWarn, "HTTP request failed", slog.String("method", r.Method),
			slog.String("path", r.URL.Path), slog.Int("status", p.Status), slog.Any("error", p.cause))
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	h.write(w, p.Status, "application/problem+json", &p)
}

// ok answers 200 with v as JSON.
func (h *Handler) ok(w http.ResponseWriter, v any) error {
	h.write(w, http.StatusOK, "application/json", v)
	return nil
}

func (h *Handler) write(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		h.log.Error("HTTP answer cannot be written as JSON", "error", err)
		status, contentType = http.StatusInternalServerError, "application/problem+json"
		body = []byte(`{"type":"about:blank","title":"Internal Server Error","status":500}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	// A failed write means that the client is gone: nobody is left to tell.
	_, _ = w.Write(append(body, '\n'))
}
