package model

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// TemplateAlarm is an alarm rule that instances of a template have by default.
// Its fields are those of AlarmRule; Threshold, High and Hysteresis are
// expressions.
type TemplateAlarm struct {
	// Point is the name of the point that is watched. Required.
	Point string `yaml:"point"`
	// Operator, and what it needs of Threshold, High and Reference, are required
	// unless there are Limits.
	Operator  Operator `yaml:"operator"`
	Threshold string   `yaml:"threshold"`
	High      string   `yaml:"high"`
	// Reference is a point of the template, or "model:point". Without the point the
	// instance has not the rule.
	Reference string `yaml:"reference"`
	// Limits stand for up to four rules with the other fields, see AlarmLimits.
	Limits     *TemplateLimits `yaml:"limits"`
	Hysteresis string          `yaml:"hysteresis"`
	OnDelay    time.Duration   `yaml:"on_delay"`
	OffDelay   time.Duration   `yaml:"off_delay"`
	Count      int             `yaml:"count"`
	Window     time.Duration   `yaml:"window"`
	Latch      bool            `yaml:"latch"`
	Enable     *TemplateEnable `yaml:"enable"`
	Severity   Severity        `yaml:"severity"`
	Message    string          `yaml:"message"`
	// Disabled rules raise nothing.
	Disabled bool `yaml:"disabled"`
}

// TemplateLimits are the AlarmLimits of a template, as expressions. Empty is none.
type TemplateLimits struct {
	HiHi string `yaml:"hihi"`
	Hi   string `yaml:"hi"`
	Lo   string `yaml:"lo"`
	LoLo string `yaml:"lolo"`
}

// TemplateEnable is the AlarmEnable of a TemplateAlarm. An empty Model is the
// instance itself; Threshold is an expression. An instance to whose optional
// Point nothing leads has the alarm without the condition: it always counts.
type TemplateEnable struct {
	Model     string   `yaml:"model"`
	Point     string   `yaml:"point"`
	Operator  Operator `yaml:"operator"`
	Threshold string   `yaml:"threshold"`
}

// Rules returns the rules of an instance; none where it lacks a point that the
// alarm needs. value gives what the expression in a field is worth; lacks reports
// points of the instance that nothing leads to. The error is an ErrInvalid about
// what the expressions come to.
func (a TemplateAlarm) Rules(id, modelID string, value func(field, expression string) float64, lacks func(point string) bool) ([]AlarmRule, error) {
	if lacks(a.Point) || a.Reference != "" && !strings.Contains(a.Reference, ":") && lacks(a.Reference) {
		return nil, nil
	}
	r := AlarmRule{
		ID: id, Model: modelID, Point: a.Point, Operator: a.Operator, Threshold: value("threshold", a.Threshold), High: value("high", a.High),
		Reference: a.Reference, Hysteresis: value("hysteresis", a.Hysteresis), OnDelay: a.OnDelay, OffDelay: a.OffDelay,
		Count: a.Count, Window: a.Window, Latch: a.Latch, Severity: a.Severity, Message: a.Message, Disabled: a.Disabled,
	}
	if e := a.Enable; e != nil && (e.Model != "" || !lacks(e.Point)) {
		r.Enable = &AlarmEnable{Model: e.Model, Point: e.Point, Operator: e.Operator, Threshold: value("enable.threshold", e.Threshold)}
	}
	rules := []AlarmRule{r}
	if a.Limits != nil {
		limit := func(field, expression string) *float64 {
			if expression == "" {
				return nil
			}
			return new(value("limits."+field, expression))
		}
		limits := AlarmLimits{HiHi: limit("hihi", a.Limits.HiHi), Hi: limit("hi", a.Limits.Hi), Lo: limit("lo", a.Limits.Lo), LoLo: limit("lolo", a.Limits.LoLo)}
		if err := limits.Validate(); err != nil {
			return nil, fmt.Errorf("alarm rule %s of %s:%s: %w", id, modelID, a.Point, err)
		}
		rules = limits.Rules(r)
	}
	for _, r := range rules {
		if err := r.Validate(); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// validateAlarm checks one alarm of a template; seen has what each of its names is.
func (t Template) validateAlarm(id string, seen map[string]string) error {
	a := t.Alarms[id]
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: template %s: alarm %s: "+format, append([]any{ErrInvalid, t.Name, id}, args...)...)
	}
	exists := func(name string) bool {
		what, ok := seen[name]
		return ok && what != "property"
	}
	switch {
	case !exists(a.Point):
		return bad("point %.80q: there is no such point", a.Point)
	case a.Reference != "" && !strings.Contains(a.Reference, ":") && !exists(a.Reference):
		return bad("reference %.80q: there is no such point", a.Reference)
	case a.Enable != nil && a.Enable.Model == "" && !exists(a.Enable.Point):
		return bad("enable %.80q: there is no such point", a.Enable.Point)
	case a.Limits != nil && (a.Operator != "" || a.Threshold != "" || a.High != "" || a.Reference != ""):
		return bad("limits do not go with operator, threshold, high and reference")
	case slices.Contains(AlarmOperators(), a.Operator) && a.Operator.TakesThreshold() && a.Threshold == "":
		return bad("the threshold is missing")
	case a.Operator.ranged() && a.High == "":
		return bad("the upper limit, high, is missing")
	case a.Enable != nil && a.Enable.Threshold == "":
		return bad("the threshold of enable is missing")
	}
	// Some value of each expression, in an order that suits limits and ranges.
	values := map[string]float64{"threshold": 1, "high": 2, "enable.threshold": 1, "limits.hihi": 4, "limits.hi": 3, "limits.lo": 2, "limits.lolo": 1}
	_, err := a.Rules(id, t.Name, func(field, expression string) float64 {
		if expression == "" {
			return 0
		}
		return values[field]
	}, func(string) bool { return false })
	if err != nil {
		return fmt.Errorf("template %s: %w", t.Name, err)
	}
	return nil
}
