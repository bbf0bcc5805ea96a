package api

import (
	"cmp"
	"time"

	"github.com/voltageems/voltage/model"
)

// valueForm is a value as the API shows it.
type valueForm struct {
	// Value is a number, a text, or nil for a point that was never good.
	Value any `json:"value"`
	// TS is in Unix ms; nil when the point was never good.
	TS      *int64        `json:"ts"`
	Quality model.Quality `json:"quality"`
	Unit    string        `json:"unit"`
	Kind    model.Kind    `json:"kind"`
}

func newValueForm(v model.Value) valueForm {
	f := valueForm{Quality: v.Quality, Unit: v.Unit, Kind: v.Kind}
	switch {
	case v.Text != "":
		f.Value = v.Text
	case model.Finite(v.Value):
		f.Value = v.Value
	}
	if v.Time.IsZero() {
		f.Value = nil
		return f
	}
	ms := v.Time.UnixMilli()
	f.TS = &ms
	return f
}

// newChannelValueForm differs for points without a time: a channel keeps times
// only where the device gives them, so a missing one does not mean no value.
func newChannelValueForm(v model.Value) valueForm {
	f := newValueForm(v)
	if f.TS == nil && (v.Quality.Usable() || v.Value != 0 || v.Text != "") {
		timed := v
		timed.Time = time.UnixMilli(0)
		f.Value = newValueForm(timed).Value
	}
	return f
}

// modelForm is a model's definition as the API shows it.
type modelForm struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Enabled      bool              `json:"enabled"`
	Template     string            `json:"template,omitempty"`
	Parent       string            `json:"parent,omitempty"`
	Measurements map[string]string `json:"measurements,omitempty"`
	Signals      map[string]string `json:"signals,omitempty"`
	Controls     map[string]string `json:"controls,omitempty"`
	Adjustments  map[string]string `json:"adjustments,omitempty"`
	// Properties are the model's constants, such as its rated power.
	Properties map[string]float64 `json:"properties,omitempty"`
	// Points has what is known about the points, for labels and limits.
	Points map[string]pointForm `json:"points,omitempty"`
}

type pointForm struct {
	Kind   model.Kind     `json:"kind"`
	Unit   string         `json:"unit,omitempty"`
	Text   bool           `json:"text,omitempty"`
	Min    *float64       `json:"min,omitempty"`
	Max    *float64       `json:"max,omitempty"`
	Step   float64        `json:"step,omitempty"`
	Labels map[int]string `json:"labels,omitempty"`
	// Description is for people. Expression is what the point is computed of.
	Description string `json:"description,omitempty"`
	Expression  string `json:"expression,omitempty"`
	// Unbound points are the template's, and nothing leads to them.
	Unbound bool `json:"unbound,omitempty"`
}

func newModelForm(site Site, m model.Instance) modelForm {
	f := modelForm{
		ID: m.ID, Name: m.Title(), Enabled: !m.Disabled, Template: m.Template, Parent: m.Parent, Properties: m.Properties,
		Measurements: m.Measurements, Signals: m.Signals, Controls: m.Controls, Adjustments: m.Adjustments,
		Points: map[string]pointForm{},
	}
	known := site.Points(m.ID)
	for name, p := range known {
		f.Points[name] = pointForm{Kind: p.Kind, Unit: p.Unit, Text: p.Text, Min: p.Min, Max: p.Max, Step: p.Step, Labels: p.Labels}
	}
	// What the device's point says goes before what the template says.
	for name, info := range m.Points {
		p, ok := f.Points[name]
		if _, bound := m.Bindings(info.Kind)[name]; !ok {
			p = pointForm{Text: info.Text, Min: info.Min, Max: info.Max, Step: info.Step, Unbound: !bound}
		}
		p.Kind, p.Unit, p.Description = info.Kind, cmp.Or(p.Unit, info.Unit), info.Description
		if len(p.Labels) == 0 {
			p.Labels = info.Labels
		}
		if !info.Kind.Writable() { // what to expect, of which the device's point says nothing
			p.Min, p.Max = info.Min, info.Max
		}
		f.Points[name] = p
	}
	for name, c := range m.Calculations {
		p := f.Points[name]
		p.Kind, p.Unit, p.Description, p.Expression = c.Kind(), c.Unit, c.Description, c.Expression
		if p.Labels == nil {
			p.Labels = c.Labels
		}
		f.Points[name] = p
	}
	return f
}

// list returns a list that is [] in JSON also when there is nothing in it.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}
