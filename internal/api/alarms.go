package api

import (
	"net/http"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// alarms answers all open alarms, or those of a selection. None of it is kept: that a
// point loses its usable value changes its alarm's record and not the journal, which is
// what tells of changes. Clients are spared the body of what they have (ETag).
func (h *Handler) alarms(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	if status, ok := plainQuery(r.URL.Query()); ok {
		return h.cached(ctx, w, r, scripts.Answer{}, func() (any, error) {
			all, err := h.site.Alarms(ctx)
			if err != nil {
				return nil, err
			}
			alarms := []model.Alarm{}
			for _, a := range all {
				if status == "" || a.Status == status {
					alarms = append(alarms, a)
				}
			}
			return map[string]any{"alarms": alarms}, nil
		})
	}
	query, err := alarmQuery(r.URL.Query())
	if err != nil {
		return err
	}
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	return h.cached(ctx, w, r, scripts.Answer{}, func() (any, error) {
		alarms, err := store.QueryAlarms(ctx, query)
		if err != nil {
			return nil, err
		}
		answer := map[string]any{"alarms": list(alarms)}
		if len(alarms) == query.Limit { // there may be more
			answer["next"] = alarms[len(alarms)-1].ID
		}
		return answer, nil
	})
}

func (h *Handler) alarm(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	id, err := pathID(r, "id", "alarm")
	if err != nil {
		return err
	}
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	a, err := store.Alarm(ctx, id)
	if err != nil {
		return err
	}
	return h.ok(w, a)
}

func (h *Handler) alarmCounts(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	counts, err := store.AlarmCounts(ctx)
	if err != nil {
		return err
	}
	return h.ok(w, counts)
}

// unannouncedAlarms answers which rules nobody is told of, whether they have an open
// alarm or not.
func (h *Handler) unannouncedAlarms(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	rules, err := store.UnannouncedAlarms(ctx)
	if err != nil {
		return err
	}
	return h.ok(w, map[string]any{"rules": list(rules)})
}
