package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/model"
)

// Bounds of a journal's limit.
const (
	defaultJournal = 100
	maxJournal     = 1000
)

// alarmJournal answers with a page of the journal: the oldest entries first, or, with
// newest, the latest.
func (h *Handler) alarmJournal(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	query := r.URL.Query()
	if err := parameters(query, "after", "limit", "from", "to", "alarm", "model", "point", "rule", "newest"); err != nil {
		return err
	}
	q := model.AlarmJournalQuery{Alarm: query.Get("alarm"), Model: query.Get("model"), Point: query.Get("point"), Rule: query.Get("rule")}
	var err error
	if q.After, q.Limit, err = journalQuery(query); err != nil {
		return err
	}
	if q.From, q.To, err = period(query); err != nil {
		return err
	}
	if q.Newest, err = flag(query, "newest"); err != nil {
		return err
	}
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	events, err := store.AlarmJournalRange(ctx, q)
	if err != nil {
		return err
	}
	next := q.After
	if n := len(events); n > 0 {
		next = events[n-1].Position
	}
	return h.ok(w, map[string]any{"events": list(events), "next": next})
}

// journalQuery reads where to begin in a journal, and how many entries to return.
func journalQuery(query url.Values) (after string, most int, err error) {
	after = query.Get("after")
	if after != "" && !validPosition(after) {
		return "", 0, problemf(http.StatusBadRequest, `after=%.50q: want the "next" of an answer, or the position of an entry`, after)
	}
	most, err = limit(query, defaultJournal, maxJournal)
	return after, most, err
}

// validPosition reports whether s has the form of a position in a journal: a
// number, or two with a hyphen between.
func validPosition(s string) bool {
	first, second, two := strings.Cut(s, "-")
	if _, err := strconv.ParseUint(first, 10, 64); err != nil {
		return false
	}
	if two {
		_, err := strconv.ParseUint(second, 10, 64)
		return err == nil
	}
	return true
}
