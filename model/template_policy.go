package model

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// TemplatePolicy is the ControlPolicy that instances of a template have by
// default. Its fields are those of ControlPolicy; Safe is an expression.
type TemplatePolicy struct {
	Interlocks []TemplateInterlock `yaml:"interlocks"`
	Queue      bool                `yaml:"queue"`
	Safe       string              `yaml:"safe"`
	SafeOnStop bool                `yaml:"safe_on_stop"`
	Hold       time.Duration       `yaml:"hold"`
}

// TemplateInterlock is an Interlock of a TemplatePolicy. An empty Model is the
// instance itself; Threshold is an expression.
type TemplateInterlock struct {
	Name      string   `yaml:"name"`
	Model     string   `yaml:"model"`
	Point     string   `yaml:"point"`
	Operator  Operator `yaml:"operator"`
	Threshold string   `yaml:"threshold"`
}

// Policy returns the policy of an instance. value gives what an expression is
// worth; optional reports points of the instance that nothing leads to, whose
// interlocks are left out.
func (p TemplatePolicy) Policy(modelID string, value func(expression string) float64, optional func(point string) bool) ControlPolicy {
	c := ControlPolicy{Queue: p.Queue, SafeOnStop: p.SafeOnStop, Hold: p.Hold}
	if p.Safe != "" {
		c.Safe = new(value(p.Safe))
	}
	for _, l := range p.Interlocks {
		if l.Model == "" && optional(l.Point) {
			continue
		}
		lock := Interlock{Name: l.Name, Model: l.Model, Point: l.Point, Operator: l.Operator, Threshold: value(l.Threshold)}
		if lock.Model == "" {
			lock.Model = modelID
		}
		c.Interlocks = append(c.Interlocks, lock)
	}
	return c
}

// validatePolicies checks the policies of a template; seen has what each of its
// names is.
func (t Template) validatePolicies(seen map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(t.Policies)) {
		if what := seen[name]; what != Control.String() && what != Adjustment.String() {
			return fmt.Errorf("%w: template %s: policies %.80q: there is no such control or adjustment", ErrInvalid, t.Name, name)
		}
		p := t.Policies[name]
		for i, l := range p.Interlocks {
			if what, ok := seen[l.Point]; l.Model == "" && (!ok || what == "property") {
				return fmt.Errorf("%w: template %s: policies %s: interlock %d: point %.80q: there is no such point", ErrInvalid, t.Name, name, i+1, l.Point)
			}
			if l.Threshold == "" {
				return fmt.Errorf("%w: template %s: policies %s: interlock %d: the threshold is missing", ErrInvalid, t.Name, name, i+1)
			}
		}
		policy := p.Policy(t.Name, func(string) float64 { return 0 }, func(string) bool { return false })
		if err := policy.Validate(); err != nil {
			return fmt.Errorf("template %s: policies %s: %w", t.Name, name, err)
		}
	}
	return nil
}
