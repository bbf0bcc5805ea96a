package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Template is a type of device as people and programs see it, whoever made it: a
// grid meter, a battery converter. Instances are made of templates.
//
// Where a field is an expression, it is one of constants and the template's
// properties, such as "1.1 * rated_power", and empty means none.
type Template struct {
	// Name is a valid id. Required.
	Name string
	// Title and Description are for people. Title defaults to Name.
	Title, Description string
	// Extends names the template that this one begins with; empty means none.
	Extends string
	// Without are points, calculations, alarms and properties of the template that
	// Extends names, which this one has not.
	Without []string
	// Properties are what an instance may set, by name.
	Properties map[string]Property
	// The points, by name; a name is unique over all kinds, calculations and
	// properties.
	Measurements, Signals, Controls, Adjustments map[string]TemplatePoint
	// Calculations are the points that are computed of others, by name.
	Calculations map[string]Calculation
	// Alarms are the rules that an instance has by default, by id.
	Alarms map[string]TemplateAlarm
	// Policies say when controls and adjustments may be operated and what they go to
	// when nobody stands behind their value, by name.
	Policies map[string]TemplatePolicy
}

// Property is a constant of an instance, such as its rated power.
type Property struct {
	// Unit is the unit of measurement; empty means a bare number.
	Unit string `yaml:"unit"`
	// Default is the value where the instance sets none. Nil means that every
	// instance has to set one.
	Default     *float64 `yaml:"default"`
	Description string   `yaml:"description"`
}

// TemplatePoint is a point that instances of a template have.
type TemplatePoint struct {
	// Unit is the unit of measurement; empty means a bare number.
	Unit        string `yaml:"unit"`
	Description string `yaml:"description"`
	// Optional points need no binding.
	Optional bool `yaml:"optional"`
	// Text marks a point that carries text instead of a number.
	Text bool `yaml:"text"`
	// Min, Max and Step are expressions. Those of controls and adjustments bound
	// commands, together with the limits of the channel's point; those of
	// measurements say what to expect, and nothing enforces them.
	Min  string `yaml:"min"`
	Max  string `yaml:"max"`
	Step string `yaml:"step"`
	// Labels gives texts for the values of an enumeration.
	Labels map[int]string `yaml:"labels"`
}

// Calculation is a point of a model that is computed of others.
type Calculation struct {
	// Expression is what package calc describes. Required.
	Expression string `json:"expression" yaml:"expression"`
	// Unit is the unit of the result; empty means a bare number.
	Unit        string `json:"unit,omitempty" yaml:"unit"`
	Description string `json:"description,omitempty" yaml:"description"`
	// Signal makes the result a signal, as suits a comparison; it is a measurement
	// otherwise.
	Signal bool `json:"signal,omitempty" yaml:"signal"`
	// Labels gives texts for the values of the result.
	Labels map[int]string `json:"labels,omitempty" yaml:"labels"`
}

// Kind returns the class of the result.
func (c Calculation) Kind() Kind {
	if c.Signal {
		return Signal
	}
	return Measurement
}

// CalculationChannel returns the channel by which the results of a model's
// calculations come. Its points are the calculations, under their names, and what
// they remember, with a - in front.
func CalculationChannel(modelID string) string { return calculationPrefix + modelID }

// IsCalculationChannel reports whether an id is one of those, which nobody else
// may use.
func IsCalculationChannel(id string) bool { return strings.HasPrefix(id, calculationPrefix) }

// CalculationModel returns the model whose results a channel has, false for a
// channel that is none of CalculationChannel.
func CalculationModel(channelID string) (modelID string, ok bool) {
	return strings.CutPrefix(channelID, calculationPrefix)
}

const calculationPrefix = "calc."

// PointInfo is what a model says about one of its points, beside where it comes
// from.
type PointInfo struct {
	// Kind, Unit, Text and Labels are as those of Point.
	Kind        Kind           `json:"kind"`
	Unit        string         `json:"unit,omitempty"`
	Text        bool           `json:"text,omitempty"`
	Labels      map[int]string `json:"labels,omitempty"`
	Description string         `json:"description,omitempty"`
	// Min, Max and Step narrow the limits that the channel's point has for
	// commands. Nil and zero leave them as they are.
	Min  *float64 `json:"min,omitempty"`
	Max  *float64 `json:"max,omitempty"`
	Step float64  `json:"step,omitempty"`
	// Optional points need no binding.
	Optional bool `json:"optional,omitempty"`
}

// Points returns the points of one kind; the map is the template's own.
func (t Template) Points(k Kind) map[string]TemplatePoint {
	switch k {
	case Signal:
		return t.Signals
	case Control:
		return t.Controls
	case Adjustment:
		return t.Adjustments
	default:
		return t.Measurements
	}
}

// Validate returns an ErrInvalid that names the template and the part. It does
// not look at expressions.
func (t Template) Validate() error {
	if err := CheckID("template", t.Name); err != nil {
		return err
	}
	seen := map[string]string{}
	claim := func(name, what string) error {
		if !ValidID(name) {
			return fmt.Errorf("%w: template %s: %s %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", ErrInvalid, t.Name, what, name, MaxIDLength)
		}
		if other, ok := seen[name]; ok {
			return fmt.Errorf("%w: template %s: %s is both a %s and a %s", ErrInvalid, t.Name, name, other, what)
		}
		seen[name] = what
		return nil
	}
	for _, k := range Kinds() {
		points := t.Points(k)
		for _, name := range slices.Sorted(maps.Keys(points)) {
			if err := claim(name, k.String()); err != nil {
				return err
			}
			if points[name].Text && k.Writable() {
				return fmt.Errorf("%w: template %s: %s %s: text is for measurements and signals", ErrInvalid, t.Name, k, name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Calculations)) {
		if err := claim(name, "calculation"); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Properties)) {
		if err := claim(name, "property"); err != nil {
			return err
		}
		if d := t.Properties[name].Default; d != nil && !Storable(*d) {
			return fmt.Errorf("%w: template %s: property %s: default %v: not a number that can be stored", ErrInvalid, t.Name, name, *d)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.Alarms)) {
		if err := t.validateAlarm(id, seen); err != nil {
			return err
		}
	}
	return t.validatePolicies(seen)
}
