package api

import (
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
	Measurements map[string]string `json:"measurements,omitempty"`
	Signals      map[string]string `json:"signals,omitempty"`
	Controls     map[string]string `json:"controls,omitempty"`
	Adjustments  map[string]string `json:"adjustments,omitempty"`
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
}

func newModelForm(site Site, m model.Instance) modelForm {
	f := modelForm{
		ID: m.ID, Name: m.Title(), Enabled: !m.Disabled,
		Measurements: m.Measurements, Signals: m.Signals, Controls: m.Controls, Adjustments: m.Adjustments,
		Points: map[string]pointForm{},
	}
	for name, p := range site.Points(m.ID) {
		f.Points[name] = pointForm{Kind: p.Kind, Unit: p.Unit, Text: p.Text, Min: p.Min, Max: p.Max, Step: p.Step, Labels: p.Labels}
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
