package model

import (
	"strconv"
	"time"
)

// AppendValue appends v in the stored form, "%.6f" with no negative zero.
func AppendValue(b []byte, v float64) []byte {
	start := len(b)
	b = strconv.AppendFloat(b, v, 'f', 6, 64)
	if b[start] == '-' {
		for _, c := range b[start+1:] {
			if c != '0' && c != '.' {
				return b
			}
		}
		b = append(b[:start], b[start+1:]...)
	}
	return b
}

// FormatValue returns v in the stored form.
func FormatValue(v float64) string { return string(AppendValue(nil, v)) }

// Value is the current value of a model's or a channel's point.
type Value struct {
	// Value is in Unit; meaningless when Text is set.
	Value float64 `json:"value"`
	// Text is the value of a text point.
	Text string `json:"text,omitempty"`
	// Time is when the value was measured: the device's own time where it gives
	// one, else when it arrived. A value that is not good keeps the time at
	// which it was last good.
	Time time.Time `json:"ts"`
	// Quality is good when zero.
	Quality Quality `json:"quality"`
	// Unit is the unit of measurement, empty for a bare number.
	Unit string `json:"unit,omitempty"`
	// Kind is the class of the point.
	Kind Kind `json:"kind"`
}

// Update says that points of a model changed, in value or in quality. It holds
// the stored values; who needs time and quality reads the model.
type Update struct {
	Model  string
	Points []PointUpdate
}

// PointUpdate is one changed point of an Update.
type PointUpdate struct {
	Name string
	// Value is the stored form: a number with six decimals, or the text of a
	// text point.
	Value string
}
