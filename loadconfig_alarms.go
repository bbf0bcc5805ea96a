package voltage

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// loadAlarm is an alarm rule of a file without its model, or a set of limits that
// stands for several.
type loadAlarm struct {
	ID         string             `yaml:"id"`
	Point      string             `yaml:"point"`
	Operator   model.Operator     `yaml:"operator"`
	Threshold  float64            `yaml:"threshold"`
	High       float64            `yaml:"high"`
	Reference  string             `yaml:"reference"`
	Limits     *model.AlarmLimits `yaml:"limits"`
	Hysteresis float64            `yaml:"hysteresis"`
	OnDelay    time.Duration      `yaml:"on_delay"`
	OffDelay   time.Duration      `yaml:"off_delay"`
	Count      int                `yaml:"count"`
	Window     time.Duration      `yaml:"window"`
	Latch      bool               `yaml:"latch"`
	Enable     *model.AlarmEnable `yaml:"enable"`
	Severity   model.Severity     `yaml:"severity"`
	Message    string             `yaml:"message"`
	Disabled   bool               `yaml:"disabled"`
}

// loadSiteAlarm is an entry of alarms in the configuration file.
type loadSiteAlarm struct {
	Model     string `yaml:"model"`
	loadAlarm `yaml:",inline"`
}

// everyChannel is the point of a rule of model "channel" that is for all channels
// of the file.
const everyChannel = "*"

// rules returns the rule of a model and point, or those of the limits.
func (a loadAlarm) rules(modelID, point string) []model.AlarmRule {
	r := model.AlarmRule{
		ID: a.ID, Model: modelID, Point: point, Operator: a.Operator, Threshold: a.Threshold, High: a.High, Reference: a.Reference, Hysteresis: a.Hysteresis,
		OnDelay: a.OnDelay, OffDelay: a.OffDelay, Count: a.Count, Window: a.Window, Latch: a.Latch, Severity: a.Severity, Message: a.Message, Disabled: a.Disabled,
	}
	if a.Enable != nil {
		r.Enable = new(*a.Enable)
	}
	if a.Limits != nil {
		return a.Limits.Rules(r)
	}
	return []model.AlarmRule{r}
}

// validate checks the rule; of limits, what they have in common.
func (a loadAlarm) validate(modelID string) error {
	if a.Limits != nil {
		a.Operator, a.Limits = model.Above, nil
		a.ID += "_hihi"                             // the longest
		a.Threshold, a.High, a.Reference = 0, 0, "" // it is reported that they do not go together
	}
	return a.rules(modelID, a.Point)[0].Validate()
}

// loadAlarmFollows are the fields of which nothing can be said while those behind
// them are wrong.
var loadAlarmFollows = map[string][]string{
	"high": {"operator", "threshold"}, "reference": {"operator"}, "threshold": {"operator"}, "hysteresis": {"operator", "threshold", "high"},
	"window": {"operator", "count"}, "count": {"window"},
}

// checkAlarm reports what is wrong with an alarm of a file, field by field. T is
// what the file has, of which part returns what is checked; its model is modelID.
func checkAlarm[T any](l *loader, p loadPath, whole T, modelID string, part func(*T) *loadAlarm, required ...string) {
	a := *part(&whole)
	limits := p.with("limits")
	if a.Limits != nil || l.isBroken(limits) {
		l.checkLimits(p, a.Limits)
	} else {
		required = append(required, "operator")
		if a.Operator.TakesThreshold() {
			required = append(required, "threshold")
		}
		switch a.Operator {
		case model.InRange, model.OutOfRange:
			required = append(required, "high")
		case model.Deviation:
			required = append(required, "reference")
		}
	}
	skip := l.unfit(p, reflect.TypeFor[T](), required...)
	if slices.Contains(skip, "limits") {
		skip = append(skip, "operator") // it has none
	}
	enable := p.with("enable")
	if a.Enable != nil && !l.isBroken(enable) {
		if len(l.unfit(enable, reflect.TypeFor[model.AlarmEnable](), "point", "operator", "threshold")) > 0 {
			skip = append(skip, "enable")
		}
	}
	good := whole
	*part(&good) = loadAlarm{ID: "rule", Point: "point", Operator: model.Above, Threshold: 1}
	switch a.Operator {
	case model.InRange, model.OutOfRange:
		part(&good).High = 1e15
	case model.Deviation:
		part(&good).Reference = "model:other"
	}
	wrong := slices.Clone(skip)
	loadCheck(l, whole, good, skip, func(whole T) error { return part(&whole).validate(modelID) }, func(field, text string) {
		follows := slices.Clone(loadAlarmFollows[field])
		if field == "hysteresis" && a.Hysteresis < 0 {
			follows = nil // that is wrong with any limit
		}
		if !slices.ContainsFunc(append(follows, field), func(before string) bool { return slices.Contains(wrong, before) }) {
			l.fail(p.field(field), "%s", text)
		}
		wrong = append(wrong, field)
	})
}

// checkLimits reports what is wrong with a set of limits, nil where it could not
// be read.
func (l *loader) checkLimits(p loadPath, limits *model.AlarmLimits) {
	for _, key := range []string{"operator", "threshold", "high", "reference"} {
		if l.has(p.with(key)) {
			l.fail(p.with(key), "does not go with limits, which say it themselves")
		}
	}
	at := p.with("limits")
	if limits == nil || l.brokenUnder(at) {
		return
	}
	if err := limits.Validate(); err != nil {
		field, text := loadLocate(loadText(err), l.fieldsOf(reflect.TypeFor[model.AlarmLimits]()).names)
		if field == "" {
			_, text = loadLocate(text, []string{"limits"})
		}
		l.fail(at.field(field), "%s", text)
	}
}

func (l *loader) buildAlarms(list []loadSiteAlarm) []model.AlarmRule {
	own := map[model.Ref]bool{} // channels and rules that have an entry of their own
	for _, a := range list {
		if a.Model == model.AlarmModelChannel {
			own[model.Ref{Owner: a.Point, Name: a.ID}] = true
		}
	}
	var rules []model.AlarmRule
	for i, a := range list {
		p := loadPath{"alarms", i}
		every := a.Model == model.AlarmModelChannel && a.Point == everyChannel
		l.checkSiteAlarm(p, a, every)
		if a.ID == "" || a.Model == "" || a.Point == "" {
			continue
		}
		for _, r := range a.rules(a.Model, a.Point) {
			l.once(p, "alarm rule", fmt.Sprintf("%s of %s:%s", r.ID, r.Model, r.Point))
			if !every {
				rules = append(rules, r)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(l.channels)) {
			if every && !own[model.Ref{Owner: id, Name: a.ID}] {
				rules = append(rules, a.rules(a.Model, id)...)
			}
		}
	}
	return append(l.ofProfiles(rules), rules...)
}

// checkSiteAlarm checks an entry of alarms and all that it looks at; every is that
// its point stands for all channels.
func (l *loader) checkSiteAlarm(p loadPath, a loadSiteAlarm, every bool) {
	whole := a
	if every {
		a.Point = "point"
	}
	if l.isBroken(p.with("model")) || a.Model == "" {
		// which may be any, but for the operator offline
		if a.Model = "model"; a.Operator == model.IsOffline {
			a.Model = model.AlarmModelChannel
		}
	}
	if !model.ValidID(a.Model) {
		l.fail(p.with("model"), "id %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", a.Model, model.MaxIDLength)
		a.Model = "model"
	}
	checkAlarm(l, p, a, a.Model, func(a *loadSiteAlarm) *loadAlarm { return &a.loadAlarm }, "id", "model", "point")
	at := p.with("point")
	switch {
	case every && len(l.channels) == 0:
		l.fail(at, "the file has no channels")
	case every:
	case whole.Model == model.AlarmModelChannel && a.Point != "" && !model.IsCalculationChannel(a.Point) && !l.isBroken(at):
		if _, ok := l.channels[a.Point]; !ok {
			l.fail(at, "the file has no channel %.64q%s", a.Point, loadNearest(a.Point, l.channels))
		}
	default:
		l.checkName(at, whole.Model, a.Point, loadAnyKind, "point")
	}
	if delay := p.with("on_delay"); a.Operator == model.IsOffline && l.zero(delay, a.OnDelay) {
		l.fail(delay, "0s: want a duration above 0, or nothing for %s", model.DefaultOfflineDelay)
	}
	if a.Reference != "" {
		ref := model.AlarmRule{Model: whole.Model, Reference: a.Reference}.ReferencePoint()
		l.checkName(p.with("reference"), ref.Owner, ref.Name, loadAnyKind, "point")
	}
	if e := a.Enable; e != nil {
		l.checkName(p.with("enable", "point"), cmp.Or(e.Model, whole.Model), e.Point, loadAnyKind, "point")
	}
}

// ofProfiles returns the alarms that models get from profiles, without those
// that the file has itself.
func (l *loader) ofProfiles(own []model.AlarmRule) []model.AlarmRule {
	key := func(r model.AlarmRule) [3]string { return [3]string{r.Model, r.Point, r.ID} }
	seen := map[[3]string]bool{}
	for _, r := range own {
		seen[key(r)] = true
	}
	var list []model.AlarmRule
	for _, r := range l.alarms {
		if !seen[key(r)] {
			seen[key(r)] = true
			list = append(list, r)
		}
	}
	return list
}
