package api

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
)

const (
	// maxAudit is how many entries wait for a store that does not take them.
	maxAudit = 1000
	// auditBatch is how many are written at once.
	auditBatch = 100
	// auditTimeout bounds one attempt to write, and the last one when all ends.
	auditTimeout, auditLast = 2 * time.Second, 300 * time.Millisecond
)

// Denied attempts are written for each address and for all together at most so
// often, so that nobody drives the journal's older entries out by knocking: of the
// 10,000 that are kept, these are at most 3,000 in a day.
const (
	deniedRate, deniedBurst       = 1.0 / 60, 5
	deniedAllRate, deniedAllBurst = 1.0 / 60, 50
)

// auditor brings entries to the journal in order, without holding up who made them.
// Its goroutine runs while there is something to write.
type auditor struct {
	site  Site
	log   *slog.Logger
	clock model.Clock
	each  *auth.Limiter
	all   *auth.Limiter

	ctx    context.Context // ends with the handler
	cancel context.CancelFunc

	mu      sync.Mutex
	queue   []model.AuditEntry
	running bool
	ended   chan struct{} // closed when the last goroutine has ended; nil before the first
	lost    int           // entries that found no room
	unsaid  int           // denied attempts that were not written
}

func newAuditor(c Config) *auditor {
	a := &auditor{site: c.Site, log: c.Log, clock: c.Clock, each: auth.NewLimiter(c.Clock, deniedRate, deniedBurst),
		all: auth.NewLimiter(c.Clock, deniedAllRate, deniedAllBurst)}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// Audit puts into the journal what was not done over the API.
func (h *Handler) Audit(e model.AuditEntry) { h.audit.add(slog.LevelInfo, e) }

// add logs an entry and queues it for the journal.
func (a *auditor) add(level slog.Level, e model.AuditEntry) {
	a.log.LogAttrs(context.Background(), level, "audit", slog.String("who", e.Who), slog.String("role", string(e.Role)), slog.String("from", e.From),
		slog.String("action", e.Action), slog.String("target", e.Target), slog.String("detail", e.Detail), slog.String("result", e.Result), slog.Int("status", e.Status))
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) >= maxAudit {
		a.lost++
		return
	}
	a.queue = append(a.queue, e)
	if !a.running {
		a.running, a.ended = true, make(chan struct{})
		go a.run(a.ended)
	}
}

// run writes until nothing is left. A store that does not answer is asked again;
// when all ends, once.
func (a *auditor) run(ended chan struct{}) {
	defer close(ended)
	for {
		batch := a.take()
		if len(batch) == 0 {
			return
		}
		err := a.write(batch)
		switch {
		case err == nil:
			a.mu.Lock()
			a.queue = a.queue[len(batch):]
			a.mu.Unlock()
		case a.ctx.Err() != nil:
			a.mu.Lock()
			a.log.Warn("audit entries are in the log alone", "entries", len(a.queue), "error", err)
			a.queue, a.running = nil, false
			a.mu.Unlock()
			return
		default:
			select {
			case <-a.clock.After(retryInterval):
			case <-a.ctx.Done():
			}
		}
	}
}

// take returns what is to be written next; nothing ends the goroutine.
func (a *auditor) take() []model.AuditEntry {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lost > 0 && len(a.queue) < maxAudit {
		a.queue = append(a.queue, model.AuditEntry{Time: a.clock.Now(), Action: "audit", Result: "lost",
			Detail: fmt.Sprintf("%d entries found no room while the store did not answer; they are in the log", a.lost)})
		a.lost = 0
	}
	a.running = len(a.queue) > 0
	return a.queue[:min(len(a.queue), auditBatch)]
}

func (a *auditor) write(batch []model.AuditEntry) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeout(a.ctx, auditTimeout)
	if a.ctx.Err() != nil {
		ctx, cancel = context.WithTimeout(context.WithoutCancel(a.ctx), auditLast)
	}
	defer cancel()
	return a.site.Audit(ctx, batch...)
}

// close waits for the last attempt to write.
func (a *auditor) close() {
	a.cancel()
	a.wait()
}

// wait returns when what was queued so far is written, or given up.
func (a *auditor) wait() {
	a.mu.Lock()
	ended := a.ended
	a.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// audited writes an entry for a request that changed something, or was to.
func (h *Handler) audited(a *access, rt route, status int, err error) {
	for _, n := range a.parts {
		h.audited(&n.access, rt, n.status, nil)
	}
	if len(a.parts) > 0 {
		return
	}
	e := a.entry(rt)
	e.Time, e.Status = h.clock.Now(), status
	if a.result == "" && status >= http.StatusBadRequest {
		e.Result = "failed"
		if err != nil {
			e.Detail = strings.TrimPrefix(e.Detail+"; "+asDetail(err), "; ")
		}
	}
	e.Detail = cut(e.Detail)
	h.audit.add(slog.LevelInfo, e)
}

func (a *access) entry(rt route) model.AuditEntry {
	return model.AuditEntry{Who: cmp.Or(a.identity.Name, plain(a.claimed)), Role: a.identity.Role, From: a.from(), Action: rt.id,
		Target: plain(a.target), Detail: a.detail, Result: cmp.Or(a.result, "ok")}
}

// denied writes an entry for an attempt that was not let through.
func (h *Handler) denied(a *access, rt route, p *problem, why error) {
	// Who is known is counted apart, so that nobody hides behind the knocking of others.
	who, all := auth.Group(a.client), "unknown"
	if a.identity.Name != "" {
		who, all = "name "+a.identity.Name, "known"
	}
	if h.audit.each.Take(who) > 0 || h.audit.all.Take(all) > 0 {
		h.audit.mu.Lock()
		h.audit.unsaid++
		h.audit.mu.Unlock()
		return
	}
	e := a.entry(rt)
	e.Time, e.Status, e.Result, e.Detail = h.clock.Now(), p.Status, "denied", why.Error()
	h.audit.mu.Lock()
	if h.audit.unsaid > 0 {
		e.Detail += fmt.Sprintf("; %d more before were not written", h.audit.unsaid)
		h.audit.unsaid = 0
	}
	h.audit.mu.Unlock()
	e.Detail = cut(e.Detail)
	h.audit.add(slog.LevelWarn, e)
}

// asDetail is what the client was told.
func asDetail(err error) string {
	p := asProblem(err)
	return p.Detail
}

// cut keeps a text fit for the journal.
func cut(s string) string {
	s = plain(s)
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "")
	}
	return s
}

// plain replaces what is no text for people.
func plain(s string) string {
	if model.PlainText(s, len(s)) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func (h *Handler) auditJournal(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	after, limit, err := journalQuery(r.URL.Query())
	if err != nil {
		return err
	}
	entries, err := h.site.AuditJournal(ctx, after, limit)
	if err != nil {
		return err
	}
	next := after
	if n := len(entries); n > 0 {
		next = entries[n-1].Position
	}
	return h.ok(w, map[string]any{"entries": list(entries), "next": next})
}
