package model

import (
	"fmt"
	"maps"
	"slices"
)

// Instance is a model: a device or a view as people and programs see it, whose
// named points are bound to points of channels.
type Instance struct {
	// ID names the model. Required.
	ID string `json:"id" yaml:"id"`
	// Name is for people and defaults to ID.
	Name string `json:"name,omitempty" yaml:"name"`
	// Disabled refuses every command to the model. Its values, alarms and
	// history go on: a device that must not be operated is still to be watched.
	Disabled bool `json:"disabled,omitempty" yaml:"disabled"`
	// Each map binds names of the model to "channel:point".
	Measurements map[string]string `json:"measurements,omitempty" yaml:"measurements"`
	Signals      map[string]string `json:"signals,omitempty" yaml:"signals"`
	Controls     map[string]string `json:"controls,omitempty" yaml:"controls"`
	Adjustments  map[string]string `json:"adjustments,omitempty" yaml:"adjustments"`
	// Policies are those of controls and adjustments, by their names. Without one a
	// control has no interlock and no safe value.
	Policies map[string]ControlPolicy `json:"policies,omitempty" yaml:"policies"`
	// Template names the template that the instance was made of, and Bases those
	// that it extends, nearest first. Empty without one. They are for people and for
	// references such as children.pv.active_power.
	Template string   `json:"template,omitempty" yaml:"-"`
	Bases    []string `json:"bases,omitempty" yaml:"-"`
	// Parent is the model that this one is a part of: the station of a device, the
	// site of a station. Empty means none.
	Parent string `json:"parent,omitempty" yaml:"parent"`
	// Properties are constants such as the rated power, by name.
	Properties map[string]float64 `json:"properties,omitempty" yaml:"properties"`
	// Points says more about the points, by name. Those that are not optional
	// should be bound; Engine.Problems names those that are not.
	Points map[string]PointInfo `json:"points,omitempty" yaml:"-"`
	// Calculations are points that are computed of others, by name. The engine
	// computes them and binds them to the points of CalculationChannel.
	Calculations map[string]Calculation `json:"calculations,omitempty" yaml:"-"`
}

// Title returns Name, or ID where there is no name.
func (m Instance) Title() string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

// Bindings returns the bindings of one kind, name → "channel:point". The map is
// the instance's own.
func (m Instance) Bindings(k Kind) map[string]string {
	switch k {
	case Signal:
		return m.Signals
	case Control:
		return m.Controls
	case Adjustment:
		return m.Adjustments
	default:
		return m.Measurements
	}
}

// Validate returns an ErrInvalid that names the model and the binding. Names
// are unique over all four kinds, for the values of a model share one list.
func (m Instance) Validate() error {
	if err := CheckID("model", m.ID); err != nil {
		return err
	}
	switch m.ID {
	case "enabled": // model:enabled is the set of enabled models
		return fmt.Errorf("%w: model: the id %s is reserved", ErrInvalid, m.ID)
	case AlarmModelChannel, AlarmModelRule:
		return fmt.Errorf("%w: model: the id %s is reserved: alarms of what is no model have it", ErrInvalid, m.ID)
	}
	seen := map[string]Kind{}
	for _, k := range Kinds() {
		bindings := m.Bindings(k)
		for _, name := range slices.Sorted(maps.Keys(bindings)) {
			if !ValidID(name) {
				return fmt.Errorf("%w: model %s: %s name %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", ErrInvalid, m.ID, k, name, MaxIDLength)
			}
			if other, ok := seen[name]; ok {
				return fmt.Errorf("%w: model %s: name %s is both a %s and a %s", ErrInvalid, m.ID, name, other, k)
			}
			seen[name] = k
			if _, err := ParseRef(bindings[name]); err != nil {
				return fmt.Errorf("model %s: %s %s: %w", m.ID, k, name, err)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Policies)) {
		if k, ok := seen[name]; !ok || !k.Writable() {
			return fmt.Errorf("%w: model %s: policies %.80q: the model has no such control or adjustment", ErrInvalid, m.ID, name)
		}
		if err := m.Policies[name].Validate(); err != nil {
			return fmt.Errorf("model %s: policies %s: %w", m.ID, name, err)
		}
	}
	return m.validateTemplate(seen)
}

// validateTemplate checks what usually comes of a template.
func (m Instance) validateTemplate(bound map[string]Kind) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: model %s: "+format, append([]any{ErrInvalid, m.ID}, args...)...)
	}
	for _, t := range append([]string{m.Template}, m.Bases...) {
		if t != "" && !ValidID(t) {
			return bad("template %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", t, MaxIDLength)
		}
	}
	switch {
	case m.Parent != "" && !ValidID(m.Parent):
		return bad("parent %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", m.Parent, MaxIDLength)
	case m.Parent == m.ID:
		return bad("parent %s: a model is not its own parent", m.Parent)
	case len(m.Calculations) > 0 && len(CalculationChannel(m.ID)) > MaxIDLength:
		return bad("the id of a model with calculations has at most %d bytes", MaxIDLength-len(calculationPrefix))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Properties)) {
		if !ValidID(name) {
			return bad("properties %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", name, MaxIDLength)
		}
		if !Storable(m.Properties[name]) {
			return bad("properties %s: %v: not a number that can be stored", name, m.Properties[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Points)) {
		p := m.Points[name]
		if err := (Point{ID: name, Kind: p.Kind, Text: p.Text, Min: p.Min, Max: p.Max, Step: p.Step}).Validate(); err != nil {
			return fmt.Errorf("model %s: %w", m.ID, err)
		}
		if k, ok := bound[name]; ok && k != p.Kind {
			return bad("%s is bound as a %s, and is a %s", name, k, p.Kind)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Calculations)) {
		k, ok := bound[name]
		own := Ref{Owner: CalculationChannel(m.ID), Name: name}.String()
		switch {
		case len(name) == MaxIDLength:
			return bad("calculations %s: the name of a calculation has at most %d bytes", name, MaxIDLength-1)
		case !ValidID(name):
			return bad("calculations %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", name, MaxIDLength)
		case ok && m.Bindings(k)[name] != own:
			return bad("%s is both a %s and a calculation", name, k)
		case m.Calculations[name].Expression == "":
			return bad("calculation %s: the expression is empty", name)
		}
	}
	return nil
}

// Clone returns a copy that shares nothing with m but the labels and limits of
// Points and Calculations, which nobody changes.
func (m Instance) Clone() Instance {
	m.Measurements = maps.Clone(m.Measurements)
	m.Signals = maps.Clone(m.Signals)
	m.Controls = maps.Clone(m.Controls)
	m.Adjustments = maps.Clone(m.Adjustments)
	m.Policies = maps.Clone(m.Policies)
	for name, p := range m.Policies {
		p.Interlocks = slices.Clone(p.Interlocks)
		if p.Safe != nil {
			p.Safe = new(*p.Safe)
		}
		m.Policies[name] = p
	}
	m.Bases, m.Properties = slices.Clone(m.Bases), maps.Clone(m.Properties)
	m.Points, m.Calculations = maps.Clone(m.Points), maps.Clone(m.Calculations)
	return m
}
