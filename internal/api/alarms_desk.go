package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// note is what a person says to what they do.
type note struct{ by, comment, reason string }

// read reads a body with "by", what else a person says (comment or reason), and
// fields. It notes for the audit journal who it is and what they say.
func (n *note) read(w http.ResponseWriter, r *http.Request, what string, fields map[string]any) error {
	said := &n.comment
	if what == "reason" {
		said = &n.reason
	}
	all := map[string]any{"by": &n.by, what: said}
	for name, target := range fields {
		all[name] = target
	}
	if err := readBody(w, r, what == "comment" && fields == nil, all); err != nil {
		return err
	}
	if !model.PlainText(n.by, 64) || !model.PlainText(*said, 500) {
		return problemf(http.StatusBadRequest, `fields "by" and %q are plain text of at most 64 and 500 bytes`, what)
	}
	if *said = strings.TrimSpace(*said); what == "reason" && *said == "" {
		return problemf(http.StatusBadRequest, `field "reason" is missing: why nobody is to be told`)
	}
	accessOf(r).detail = *said
	n.by = accessOf(r).user(n.by)
	return nil
}

// deed is what a person does to an alarm, which is named by the id of its record or
// by its rule.
type deed func(ctx context.Context, store AlarmStore, alarm string, n note) (model.Alarm, error)

// commented is a deed that needs no more than who does it, and a comment.
func commented(do func(s AlarmStore, ctx context.Context, alarm, by, comment string) (model.Alarm, error)) deed {
	return func(ctx context.Context, s AlarmStore, alarm string, n note) (model.Alarm, error) {
		return do(s, ctx, alarm, n.by, n.comment)
	}
}

func (h *Handler) acknowledge(w http.ResponseWriter, r *http.Request) error {
	return h.desk(w, r, commented(AlarmStore.Acknowledge))
}

func (h *Handler) closeAlarm(w http.ResponseWriter, r *http.Request) error {
	return h.desk(w, r, commented(AlarmStore.CloseAlarm))
}

func (h *Handler) resetAlarm(w http.ResponseWriter, r *http.Request) error {
	return h.desk(w, r, commented(AlarmStore.ResetAlarm))
}

func (h *Handler) unshelveAlarm(w http.ResponseWriter, r *http.Request) error {
	return h.desk(w, r, commented(AlarmStore.Unshelve))
}

func (h *Handler) inService(w http.ResponseWriter, r *http.Request) error {
	return h.desk(w, r, commented(AlarmStore.InService))
}

// desk does what needs no reason.
func (h *Handler) desk(w http.ResponseWriter, r *http.Request, do deed) error {
	alarm, err := alarmOf(r)
	if err != nil {
		return err
	}
	var n note
	if err := n.read(w, r, "comment", nil); err != nil {
		return err
	}
	return h.act(w, r, alarm, n, do)
}

func (h *Handler) outOfService(w http.ResponseWriter, r *http.Request) error {
	alarm, err := alarmOf(r)
	if err != nil {
		return err
	}
	var n note
	if err := n.read(w, r, "reason", nil); err != nil {
		return err
	}
	return h.act(w, r, alarm, n, func(ctx context.Context, s AlarmStore, alarm string, n note) (model.Alarm, error) {
		return s.OutOfService(ctx, alarm, n.by, n.reason)
	})
}

func (h *Handler) shelveAlarm(w http.ResponseWriter, r *http.Request) error {
	alarm, err := alarmOf(r)
	if err != nil {
		return err
	}
	var n note
	var minutes *float64
	var until string
	if err := n.read(w, r, "reason", map[string]any{"minutes": &minutes, "until": &until}); err != nil {
		return err
	}
	d, err := shelving(h.clock.Now(), minutes, until)
	if err != nil {
		return err
	}
	accessOf(r).detail = "for " + d.Round(time.Second).String() + "; " + n.reason
	return h.act(w, r, alarm, n, func(ctx context.Context, s AlarmStore, alarm string, n note) (model.Alarm, error) {
		return s.Shelve(ctx, alarm, n.by, n.reason, d)
	})
}

// shelving returns for how long an alarm is to be shelved.
func shelving(now time.Time, minutes *float64, until string) (time.Duration, error) {
	switch {
	case (minutes == nil) == (until == ""):
		return 0, problemf(http.StatusBadRequest, `give either "minutes" or "until": shelving ends by itself`)
	case minutes != nil:
		if *minutes < model.MinShelving.Minutes() || *minutes > model.MaxShelving.Minutes() {
			return 0, problemf(http.StatusBadRequest, `field "minutes": want %.0f to %.0f`, model.MinShelving.Minutes(), model.MaxShelving.Minutes())
		}
		return time.Duration(*minutes * float64(time.Minute)), nil
	}
	end, err := time.Parse(time.RFC3339Nano, until)
	if d := end.Sub(now); err == nil && d >= model.MinShelving && d <= model.MaxShelving {
		return d, nil
	}
	return 0, problemf(http.StatusBadRequest, `field "until": %.40q: want RFC 3339, %s to %s ahead`, until, model.MinShelving, model.MaxShelving)
}

// alarmOf returns the alarm that the path names: the id of a record, or
// model:point:rule.
func alarmOf(r *http.Request) (string, error) {
	if r.PathValue("rule") == "" {
		id, err := pathID(r, "id", "alarm")
		if err == nil {
			accessOf(r).target = id
		}
		return id, err
	}
	rule, err := ruleOf(r)
	return model.AlarmRef(rule.Model, rule.Point, rule.ID), err
}

// act does it, and answers with the alarm as it is then; with what keeps the rule
// from being told, where the path named a rule.
func (h *Handler) act(w http.ResponseWriter, r *http.Request, alarm string, n note, do deed) error {
	ctx, cancel := limited(r)
	defer cancel()
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	a, err := do(ctx, store, alarm, n)
	if err != nil {
		return err
	}
	if r.PathValue("rule") == "" {
		return h.ok(w, a)
	}
	rules, err := store.UnannouncedAlarms(ctx)
	if err != nil {
		return err
	}
	answer := map[string]any{"unannounced": nil}
	if at := slices.IndexFunc(rules, func(u model.Unannounced) bool { return model.AlarmRef(u.Model, u.Point, u.Rule) == alarm }); at >= 0 {
		answer["unannounced"] = rules[at]
	}
	return h.ok(w, answer)
}

// maxAcknowledged is how many ids one request may name.
const maxAcknowledged = model.MaxAlarmLimit

// acknowledgeMany takes note of the alarms that the body lists, or of all of a
// selection.
func (h *Handler) acknowledgeMany(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	var n note
	var ids []string
	var all bool
	var severity, modelID *string // an empty one is a mistake, for it would be all of them
	fields := map[string]any{"ids": &ids, "all": &all, "severity": &severity, "model": &modelID}
	if err := n.read(w, r, "comment", fields); err != nil {
		return err
	}
	switch {
	case all == (len(ids) > 0):
		return problemf(http.StatusBadRequest, `give either "ids", or "all": true`)
	case !all && (severity != nil || modelID != nil):
		return problemf(http.StatusBadRequest, `fields "severity" and "model" go with "all"`)
	case len(ids) > maxAcknowledged:
		return problemf(http.StatusBadRequest, `field "ids" has %d ids: want at most %d`, len(ids), maxAcknowledged)
	}
	query := model.AlarmQuery{}
	selected := "all"
	if severity != nil {
		query.Severities = []model.Severity{model.Severity(*severity)}
		if !query.Severities[0].Valid() {
			return problemf(http.StatusBadRequest, `field "severity": %.20q: want low, medium, high or critical`, *severity)
		}
		selected += " " + *severity
	}
	if modelID != nil {
		if err := model.CheckID(`field "model"`, *modelID); err != nil {
			return err
		}
		query.Model = *modelID
		selected += " " + *modelID
	}
	for _, id := range ids {
		if err := model.CheckID("alarm", id); err != nil {
			return err
		}
	}
	a := accessOf(r)
	a.target = cut(strings.Join(ids, " "))
	if all {
		a.target = selected
	}
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	var done int
	if all {
		done, err = store.AcknowledgeAll(ctx, query, n.by, n.comment)
	} else {
		done, err = store.AcknowledgeMany(ctx, ids, n.by, n.comment)
	}
	a.detail = strings.TrimSuffix(fmt.Sprintf("%d acknowledged; %s", done, n.comment), "; ")
	if err != nil {
		return err
	}
	return h.ok(w, map[string]int{"acknowledged": done})
}
