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
	// model:enabled is the set of enabled models; alarms that rules raise belong
	// to "rule".
	if m.ID == "enabled" || m.ID == "rule" {
		return fmt.Errorf("%w: model: the id %s is reserved", ErrInvalid, m.ID)
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
	return nil
}

// Clone returns a copy that shares nothing with m.
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
	return m
}
