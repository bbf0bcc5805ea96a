package northbound

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Of one message, quietLines are logged in quietTime; the next one says how many were
// left out. A client that is refused again and again must not fill the disk.
const (
	quietLines = 10
	quietTime  = time.Minute
)

// quiet returns a logger that repeats itself less.
func quiet(log *slog.Logger) *slog.Logger {
	return slog.New(quietHandler{log.Handler(), &quietState{said: map[string]*saying{}}})
}

type quietHandler struct {
	slog.Handler
	*quietState
}

type quietState struct {
	mu   sync.Mutex
	said map[string]*saying // by message, of which programs have few
}

type saying struct {
	since   time.Time
	n, left int
}

// Handle implements slog.Handler.
func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	if left, ok := h.say(r); !ok {
		return nil
	} else if left > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", left))
	}
	return h.Handler.Handle(ctx, r)
}

// say reports whether a record is to be logged, and how many were not before it.
func (h quietHandler) say(r slog.Record) (left int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.said[r.Message]
	if s == nil || r.Time.Sub(s.since) >= quietTime || r.Time.Before(s.since) {
		if s != nil {
			left = s.left
		}
		s = &saying{since: r.Time}
		h.said[r.Message] = s
	}
	if s.n++; s.n > quietLines {
		s.left++
		return 0, false
	}
	return left, true
}

// WithAttrs implements slog.Handler.
func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs), h.quietState}
}

// WithGroup implements slog.Handler.
func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name), h.quietState}
}
