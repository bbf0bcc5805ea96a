package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// alarmRules answers the rules of all points, or of a model, and says of the whole site
// which ones cannot be understood.
func (h *Handler) alarmRules(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	if err := parameters(r.URL.Query(), "model"); err != nil {
		return err
	}
	modelID := r.URL.Query().Get("model")
	if modelID != "" {
		if err := model.CheckID("model", modelID); err != nil {
			return err
		}
	}
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	rules, problems, err := store.AllAlarmRules(ctx)
	if err != nil {
		return err
	}
	if modelID != "" {
		rules = slices.DeleteFunc(rules, func(rule model.AlarmRule) bool { return rule.Model != modelID })
	}
	return h.ok(w, map[string]any{"rules": list(rules), "problems": list(problems)})
}

// ruleOf returns the ids of the rule that the path names, and notes them for the
// audit journal.
func ruleOf(r *http.Request) (model.AlarmRule, error) {
	var rule model.AlarmRule
	for _, part := range []struct {
		name string
		to   *string
	}{{"model", &rule.Model}, {"point", &rule.Point}, {"rule", &rule.ID}} {
		id, err := pathID(r, part.name, part.name)
		if err != nil {
			return rule, err
		}
		*part.to = id
	}
	accessOf(r).target = model.AlarmRef(rule.Model, rule.Point, rule.ID)
	return rule, nil
}

func (h *Handler) alarmRule(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	named, err := ruleOf(r)
	if err != nil {
		return err
	}
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	rule, err := store.AlarmRule(ctx, named.Model, named.Point, named.ID)
	switch {
	case errors.Is(err, model.ErrInvalid): // another program wrote it
		return problemf(http.StatusUnprocessableEntity, "the stored rule is malformed: %v", err)
	case err != nil:
		return err
	}
	return h.ok(w, rule)
}

func (h *Handler) putAlarmRule(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	named, err := ruleOf(r)
	if err != nil {
		return err
	}
	rule, err := readRule(w, r, named)
	if err != nil {
		return err
	}
	stored, err := json.Marshal(rule)
	if err != nil {
		return err
	}
	accessOf(r).detail = strings.TrimPrefix(accessOf(r).detail+"; "+string(stored), "; ")
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	if err := store.PutAlarmRule(ctx, rule); err != nil {
		return err
	}
	return h.ok(w, rule)
}

func (h *Handler) deleteAlarmRule(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	named, err := ruleOf(r)
	if err != nil {
		return err
	}
	if _, err := readChange(w, r, true, nil); err != nil {
		return err
	}
	store, err := h.site.AlarmStore()
	if err != nil {
		return err
	}
	if err := store.DropAlarmRule(ctx, named.Model, named.Point, named.ID); err != nil {
		return err
	}
	return h.ok(w, map[string]string{"status": "deleted"})
}

// readRule reads the rule that the body has, in the stored form, and checks it. Its
// ids are those of the path; where the body has them too, they are the same.
func readRule(w http.ResponseWriter, r *http.Request, named model.AlarmRule) (model.AlarmRule, error) {
	rule, ids := named, model.AlarmRule{}
	var enable json.RawMessage
	var threshold *float64
	var onDelay, offDelay, window int64
	fields := map[string]any{
		"id": &ids.ID, "model_id": &ids.Model, "point_name": &ids.Point, "operator": &rule.Operator, "threshold": &threshold, "high": &rule.High,
		"reference": &rule.Reference, "hysteresis": &rule.Hysteresis, "count": &rule.Count, "latch": &rule.Latch, "enable": &enable,
		"on_delay_ms": &onDelay, "off_delay_ms": &offDelay, "window_ms": &window,
		"severity": &rule.Severity, "message": &rule.Message, "disabled": &rule.Disabled,
	}
	if _, err := readChange(w, r, false, fields); err != nil {
		return rule, err
	}
	for _, id := range []struct{ field, given, want string }{
		{"id", ids.ID, named.ID}, {"model_id", ids.Model, named.Model}, {"point_name", ids.Point, named.Point},
	} {
		if id.given != "" && id.given != id.want {
			return rule, problemf(http.StatusBadRequest, "field %q: %.64q is not the %s of the path", id.field, id.given, id.want)
		}
	}
	for _, d := range []struct {
		field string
		ms    int64
		to    *time.Duration
	}{{"on_delay_ms", onDelay, &rule.OnDelay}, {"off_delay_ms", offDelay, &rule.OffDelay}, {"window_ms", window, &rule.Window}} {
		if d.ms < 0 || d.ms > model.MaxAlarmDelay.Milliseconds() {
			return rule, problemf(http.StatusBadRequest, "field %q: %d: want 0 to %d milliseconds", d.field, d.ms, model.MaxAlarmDelay.Milliseconds())
		}
		*d.to = time.Duration(d.ms) * time.Millisecond
	}
	switch {
	case threshold != nil:
		rule.Threshold = *threshold
	case rule.Operator.TakesThreshold():
		return rule, problemf(http.StatusBadRequest, `field "threshold" is missing`)
	}
	if err := readEnable(enable, &rule); err != nil {
		return rule, err
	}
	if !model.PlainText(rule.Message, 500) {
		return rule, problemf(http.StatusBadRequest, `field "message" is plain text of at most 500 bytes`)
	}
	rule = rule.WithDefaults()
	return rule, ruleProblem(rule.Validate())
}

// readEnable reads the condition under which the rule counts; none without a text.
func readEnable(text json.RawMessage, rule *model.AlarmRule) error {
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	var e model.AlarmEnable
	var threshold *float64
	fields := map[string]any{"model_id": &e.Model, "point_name": &e.Point, "operator": &e.Operator, "threshold": &threshold}
	if err := decodeObject(text, fields); err != nil {
		p := asProblem(err)
		p.Detail = `field "enable": ` + p.Detail
		return &p
	}
	if threshold == nil {
		return problemf(http.StatusBadRequest, `field "enable": field "threshold" is missing`)
	}
	e.Threshold = *threshold
	rule.Enable = &e
	return nil
}

// inMilliseconds are the fields whose names here say their unit.
var inMilliseconds = strings.NewReplacer(": on_delay ", ": on_delay_ms ", ": off_delay ", ": off_delay_ms ", ": window ", ": window_ms ")

// ruleProblem names fields as the body has them.
func ruleProblem(err error) error {
	if err == nil {
		return nil
	}
	return problemf(http.StatusBadRequest, "%s", inMilliseconds.Replace(err.Error()))
}
