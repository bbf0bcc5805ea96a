package api

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/voltageems/voltage/scripts"
)

// verifyTimeout bounds a request that verifies a script, which runs it many
// times, also one that never ends.
const verifyTimeout = 30 * time.Second

// purposes says what scripts are for, by name.
type purposes map[string]string

func readPurposes() purposes {
	p := purposes{}
	list, err := scripts.Scripts()
	if err != nil { // then no engine starts either
		return p
	}
	for _, s := range list {
		if m, err := s.Manifest(); err == nil {
			p[s.Name] = m.Purpose
		}
	}
	return p
}

func (h *Handler) scripts(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, err := h.site.ScriptStore()
	if err != nil {
		return err
	}
	states, err := store.ScriptStates(ctx)
	if err != nil {
		return err
	}
	forms := make([]scriptForm, len(states))
	for i, st := range states {
		stats, err := store.StoredStats(ctx, st.Name)
		if err != nil {
			return err
		}
		forms[i] = scriptForm{ScriptState: st, Purpose: h.purpose()[st.Name], Stats: newStatsForm(stats)}
	}
	return h.ok(w, map[string]any{"scripts": forms})
}

func (h *Handler) script(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, name, err := h.scriptOf(r)
	if err != nil {
		return err
	}
	st, err := store.ScriptState(ctx, name)
	if err != nil {
		return err
	}
	f := scriptForm{ScriptState: st, Purpose: h.purpose()[name]}
	source, err := store.ScriptSource(ctx, name, "")
	switch {
	case errors.Is(err, scripts.ErrNotFound): // another program activated it and keeps its text elsewhere
	case err != nil:
		return err
	default:
		if m, err := source.Manifest(); err == nil { // an older build's text may have none
			f.Purpose, f.Manifest = m.Purpose, newManifestForm(m)
		}
	}
	stats, err := store.StoredStats(ctx, name)
	if err != nil {
		return err
	}
	f.Stats = newStatsForm(stats)
	f.Stats.detail(stats)
	return h.ok(w, f)
}

// scriptVersion is a version as the store has it.
var scriptVersion = regexp.MustCompile(`^[0-9.]{1,40}\+[0-9a-f]{1,40}$`)

func checkVersion(version string) error {
	if !scriptVersion.MatchString(version) {
		return problemf(http.StatusBadRequest, "version %.40q: want a whole version such as 1.0.0+0123abcd, with a + written as %%2B in an address", version)
	}
	return nil
}

func (h *Handler) scriptSource(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, name, err := h.scriptOf(r)
	if err != nil {
		return err
	}
	version := r.URL.Query().Get("version")
	if version != "" {
		if err := checkVersion(version); err != nil {
			return err
		}
	}
	s, err := store.ScriptSource(ctx, name, version)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write([]byte(s.Text)) // a failed write means that the client is gone
	return nil
}

func (h *Handler) scriptJournal(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, err := h.site.ScriptStore()
	if err != nil {
		return err
	}
	after, limit, err := journalQuery(r.URL.Query())
	if err != nil {
		return err
	}
	events, err := store.ScriptJournal(ctx, after, limit)
	if err != nil {
		return err
	}
	next := after
	if n := len(events); n > 0 {
		next = events[n-1].Position
	}
	return h.ok(w, map[string]any{"events": list(events), "next": next})
}

func (h *Handler) verifyScript(w http.ResponseWriter, r *http.Request) error {
	store, name, err := h.changing(r)
	if err != nil {
		return err
	}
	var source string
	if err := readBodyUpTo(maxScriptBody, w, r, false, map[string]any{"source": &source}); err != nil {
		return err
	}
	ctx, done, err := h.verifying(r)
	if err != nil {
		return err
	}
	defer done()
	s, err := parseSource(name, source)
	if err == nil {
		err = store.VerifyScript(ctx, s)
	}
	if err != nil {
		return scriptProblem(err)
	}
	return h.ok(w, map[string]string{"name": s.Name, "version": s.Version, "sha": s.SHA, "status": "verified"})
}

func (h *Handler) activateScript(w http.ResponseWriter, r *http.Request) error {
	store, name, err := h.changing(r)
	if err != nil {
		return err
	}
	var c candidate
	if err := c.read(w, r, nil); err != nil {
		return err
	}
	ctx, done, err := h.verifying(r)
	if err != nil {
		return err
	}
	defer done()
	s, err := c.script(ctx, store, name)
	accessOf(r).detail = strings.TrimSuffix("version "+s.Version+"; "+accessOf(r).detail, "; ")
	if err == nil {
		err = store.ActivateScript(ctx, s, c.change)
	}
	if err != nil {
		return scriptProblem(err)
	}
	return h.state(ctx, w, store, name)
}

func (h *Handler) rollbackScript(w http.ResponseWriter, r *http.Request) error {
	return h.change(w, r, func(ctx context.Context, store ScriptStore, name string, c scripts.Change) error {
		_, err := store.RollbackScript(ctx, name, c)
		return err
	})
}

func (h *Handler) canaryScript(w http.ResponseWriter, r *http.Request) error {
	store, name, err := h.changing(r)
	if err != nil {
		return err
	}
	var c candidate
	var which selection
	if err := c.read(w, r, &which); err != nil {
		return err
	}
	if !which.given() {
		return problemf(http.StatusBadRequest, `name the channels of the trial: "channels" or "percent"`)
	}
	ctx, done, err := h.verifying(r)
	if err != nil {
		return err
	}
	defer done()
	channels, err := which.resolve(ctx, store)
	if err != nil {
		return err
	}
	s, err := c.script(ctx, store, name)
	accessOf(r).detail = strings.TrimSuffix("version "+s.Version+" for "+strings.Join(channels, " ")+"; "+accessOf(r).detail, "; ")
	if err == nil {
		err = store.CanaryScript(ctx, s, channels, c.change)
	}
	if err != nil {
		return scriptProblem(err)
	}
	return h.state(ctx, w, store, name)
}

func (h *Handler) endCanary(w http.ResponseWriter, r *http.Request) error {
	return h.change(w, r, func(ctx context.Context, store ScriptStore, name string, c scripts.Change) error {
		return store.EndCanary(ctx, name, c)
	})
}

// change does to a script what needs nothing but a name and a reason, and answers
// its state.
func (h *Handler) change(w http.ResponseWriter, r *http.Request,
	do func(ctx context.Context, store ScriptStore, name string, c scripts.Change) error,
) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, name, err := h.changing(r)
	if err != nil {
		return err
	}
	c, err := readChange(w, r, true, nil)
	if err != nil {
		return err
	}
	if err := do(ctx, store, name, c); err != nil {
		return scriptProblem(err)
	}
	return h.state(ctx, w, store, name)
}

func (h *Handler) syncModes(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, err := h.site.ScriptStore()
	if err != nil {
		return err
	}
	return h.modes(ctx, w, store)
}

func (h *Handler) modes(ctx context.Context, w http.ResponseWriter, store ScriptStore) error {
	modes, err := store.SyncModes(ctx)
	if err != nil {
		return err
	}
	return h.ok(w, map[string]any{"modes": modes})
}

func (h *Handler) setSyncMode(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	if err := h.mayChange(); err != nil {
		return err
	}
	store, err := h.site.ScriptStore()
	if err != nil {
		return err
	}
	var mode string
	var which selection
	c, err := readChange(w, r, false, map[string]any{"mode": &mode, "channels": &which.channels, "percent": &which.percent})
	if err != nil {
		return err
	}
	if mode == "" {
		return problemf(http.StatusBadRequest, `field "mode" is missing: want lua, direct or shadow`)
	}
	m, err := scripts.ParseSyncMode(mode)
	if err != nil {
		return err
	}
	channels, err := which.resolve(ctx, store)
	if err != nil {
		return err
	}
	a := accessOf(r)
	a.target, a.detail = strings.Join(channels, " "), strings.TrimSuffix("mode "+mode+"; "+a.detail, "; ")
	if err := store.SetSyncMode(ctx, m, channels, c); err != nil {
		return scriptProblem(err)
	}
	return h.modes(ctx, w, store)
}

// scriptOf returns the store and the script that the path names.
func (h *Handler) scriptOf(r *http.Request) (ScriptStore, string, error) {
	name, err := pathID(r, "name", "script")
	if err != nil {
		return nil, "", err
	}
	accessOf(r).target = name
	store, err := h.site.ScriptStore()
	return store, name, err
}

// changing is scriptOf for a request that runs code or changes which code runs.
func (h *Handler) changing(r *http.Request) (ScriptStore, string, error) {
	if err := h.mayChange(); err != nil {
		return nil, "", err
	}
	return h.scriptOf(r)
}

func (h *Handler) mayChange() error {
	if h.updates {
		return nil
	}
	return problemf(http.StatusForbidden,
		"scripts are not changed over HTTP, for that runs code in the store: set scripts.updates in the configuration to allow it")
}

// verifying waits until no other script is verified, which takes the processor
// away from the channels, and returns a context with the time for it.
func (h *Handler) verifying(r *http.Request) (ctx context.Context, done func(), err error) {
	ctx, cancel := context.WithTimeout(r.Context(), verifyTimeout)
	select {
	case h.verify <- struct{}{}:
		return ctx, func() {
			<-h.verify
			cancel()
		}, nil
	case <-ctx.Done():
		cancel()
		return nil, nil, ctx.Err()
	}
}

// state answers with what a script's state is now.
func (h *Handler) state(ctx context.Context, w http.ResponseWriter, store ScriptStore, name string) error {
	st, err := store.ScriptState(ctx, name)
	if err != nil {
		return err
	}
	return h.ok(w, st)
}

// scriptProblem is for errors about a script that the client gave: what is wrong
// with it is the client's to know, down to file and line.
func scriptProblem(err error) error {
	switch {
	case errors.Is(err, scripts.ErrRefused), errors.Is(err, scripts.ErrScript):
		p := problemf(http.StatusUnprocessableEntity, "%s", strings.ToValidUTF8(err.Error(), "?"))
		p.cause = err
		return p
	case errors.Is(err, scripts.ErrVersion):
		return problemf(http.StatusConflict, "%v", err)
	}
	return err
}
