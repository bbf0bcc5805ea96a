package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

func (h *Handler) alarms(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	query := r.URL.Query()
	state, severity, modelID := query.Get("state"), query.Get("severity"), query.Get("model")
	open := []string{string(model.AlarmActive), string(model.AlarmAcknowledged), string(model.AlarmCleared)}
	switch {
	case state != "" && !slices.Contains(open, state):
		return problemf(http.StatusBadRequest,
			"state=%.20q: want %s; closed alarms are in /alarms/journal", state, strings.Join(open, ", "))
	case severity != "" && !model.Severity(severity).Valid():
		return problemf(http.StatusBadRequest, "severity=%.20q: want low, medium, high or critical", severity)
	}
	if modelID != "" {
		if err := model.CheckID("model", modelID); err != nil {
			return err
		}
	}
	var answer scripts.Answer // a narrower selection is not kept
	if severity == "" && modelID == "" {
		answer = scripts.AlarmsAnswer(model.AlarmStatus(state))
	}
	return h.cached(ctx, w, r, answer, func() (any, error) {
		all, err := h.site.Alarms(ctx)
		if err != nil {
			return nil, err
		}
		alarms := []model.Alarm{}
		for _, a := range all {
			if (state == "" || string(a.Status) == state) &&
				(severity == "" || string(a.Severity) == severity) &&
				(modelID == "" || a.Model == modelID) {
				alarms = append(alarms, a)
			}
		}
		return map[string]any{"alarms": alarms}, nil
	})
}

func (h *Handler) alarm(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	id, err := pathID(r, "id", "alarm")
	if err != nil {
		return err
	}
	a, err := h.site.Alarm(ctx, id)
	if err != nil {
		return err
	}
	return h.ok(w, a)
}

// Bounds of the journal's limit.
const (
	defaultJournal = 100
	maxJournal     = 1000
)

func (h *Handler) alarmJournal(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	after, limit, err := journalQuery(r.URL.Query())
	if err != nil {
		return err
	}
	events, err := h.site.AlarmJournal(ctx, after, limit)
	if err != nil {
		return err
	}
	next := after
	if n := len(events); n > 0 {
		next = events[n-1].Position
	}
	return h.ok(w, map[string]any{"events": list(events), "next": next})
}

func journalQuery(query url.Values) (after string, limit int, err error) {
	after, limit = query.Get("after"), defaultJournal
	if after != "" && !validPosition(after) {
		return "", 0, problemf(http.StatusBadRequest, `after=%.50q: want the "next" of an answer, or the position of an entry`, after)
	}
	if text := query.Get("limit"); text != "" {
		limit, err = strconv.Atoi(text)
		if err != nil || limit < 1 || limit > maxJournal {
			return "", 0, problemf(http.StatusBadRequest, "limit=%.20q: want 1 to %d", text, maxJournal)
		}
	}
	return after, limit, nil
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

func (h *Handler) acknowledge(w http.ResponseWriter, r *http.Request) error {
	return h.desk(w, r, h.site.Acknowledge)
}

func (h *Handler) closeAlarm(w http.ResponseWriter, r *http.Request) error {
	return h.desk(w, r, h.site.CloseAlarm)
}

// desk does what a person does to an alarm.
func (h *Handler) desk(w http.ResponseWriter, r *http.Request,
	do func(ctx context.Context, id, by, comment string) (model.Alarm, error),
) error {
	ctx, cancel := limited(r)
	defer cancel()
	id, err := pathID(r, "id", "alarm")
	if err != nil {
		return err
	}
	var by, comment string
	if err := readBody(w, r, true, map[string]any{"by": &by, "comment": &comment}); err != nil {
		return err
	}
	if len(by) > 64 || len(comment) > 500 {
		return problemf(http.StatusBadRequest, `field "by" has at most 64 bytes, "comment" at most 500`)
	}
	accessOf(r).target, accessOf(r).detail = id, comment
	a, err := do(ctx, id, accessOf(r).user(by), comment)
	if err != nil {
		return err
	}
	return h.ok(w, a)
}
