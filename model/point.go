package model

import (
	"fmt"
	"math"
	"time"
)

// Kind is the class of a point, the four classes of telecontrol.
type Kind uint8

// The kinds. The zero value is Measurement.
const (
	Measurement Kind = iota // an analogue value read from the device, stored under m
	Signal                  // a state read from the device, 0 or 1 or a small enumeration, stored under s
	Control                 // a switching command or setpoint written to the device, stored under c
	Adjustment              // a parameter of the device that is written seldom, stored under a
)

var kindNames = [...]string{"measurement", "signal", "control", "adjustment"}

// Kinds lists every kind in stored order.
func Kinds() []Kind { return []Kind{Measurement, Signal, Control, Adjustment} }

// String returns "measurement", "signal", "control" or "adjustment", the last
// part of a model's key.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Letter returns "m", "s", "c" or "a", the last part of a channel's key.
func (k Kind) Letter() string { return k.String()[:1] }

// Writable reports whether commands may go to points of this kind.
func (k Kind) Writable() bool { return k == Control || k == Adjustment }

// ParseKind reads a kind's name or letter; the empty string is Measurement.
func ParseKind(s string) (Kind, error) {
	if s == "" {
		return Measurement, nil
	}
	for i, name := range kindNames {
		if s == name || s == name[:1] {
			return Kind(i), nil
		}
	}
	return 0, fmt.Errorf("%w: kind %.40q: want measurement, signal, control or adjustment", ErrInvalid, s)
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(b []byte) error {
	v, err := ParseKind(string(b))
	*k = v
	return err
}

// Point is one value of a channel: what it means and where the device keeps it.
type Point struct {
	// ID names the point within its channel, often a number. Required.
	ID string `json:"id" yaml:"id"`
	// Name is for people and defaults to ID.
	Name string `json:"name,omitempty" yaml:"name"`
	// Kind is measurement when empty.
	Kind Kind `json:"kind" yaml:"kind"`
	// Address says where the device keeps it, in the driver's own notation,
	// such as "holding:100:float32". Points of a channel without a driver have none.
	Address string `json:"address,omitempty" yaml:"address"`
	// Scan names the scan class with which a polling driver reads the point: one
	// of the channel's Scans, "once" for once after each connect, or "demand" for
	// only when it is asked for. Empty means with the channel's Scan.
	Scan string `json:"scan,omitempty" yaml:"scan"`
	// Scale and Offset turn the device's number into the unit:
	// value = raw·Scale + Offset. A zero Scale means 1.
	Scale  float64 `json:"scale,omitempty" yaml:"scale"`
	Offset float64 `json:"offset,omitempty" yaml:"offset"`
	// Unit is the unit of measurement, such as "kW". Empty means a bare number.
	Unit string `json:"unit,omitempty" yaml:"unit"`
	// Text marks a point whose samples carry text instead of a number.
	Text bool `json:"text,omitempty" yaml:"text"`
	// Min and Max bound the value of a command, in Unit; nil means no bound.
	Min *float64 `json:"min,omitempty" yaml:"min"`
	Max *float64 `json:"max,omitempty" yaml:"max"`
	// Step is the grid of a command's values, counted from Min (from 0 without
	// a Min). Zero means that every value is allowed.
	Step float64 `json:"step,omitempty" yaml:"step"`
	// ReadBack asks for a command to be confirmed by reading the value back;
	// without it a command ends executed, not verified.
	ReadBack bool `json:"read_back,omitempty" yaml:"read_back"`
	// Tolerance is how far the value read back may differ, in Unit. Zero means
	// the rounding that Scale brings (half a Scale).
	Tolerance float64 `json:"tolerance,omitempty" yaml:"tolerance"`
	// ReadBackTime is how long the value read back may take to become the one
	// written, for devices take a moment to adopt it. Zero means 2 s, the most is a
	// minute. The command's deadline bounds it in any case.
	ReadBackTime time.Duration `json:"read_back_time,omitempty" yaml:"read_back_time"`
	// Select has a command selected at the device before it is executed
	// (select-before-operate, IEC 60870-5-101 clause 6.8). The driver must be able
	// to; see channel.Selector.
	Select bool `json:"select,omitempty" yaml:"select"`
	// Labels gives texts for the values of an enumeration.
	Labels map[int]string `json:"labels,omitempty" yaml:"labels"`
	// Enum lets commands have the values that Labels names, and no others.
	Enum bool `json:"enum,omitempty" yaml:"enum"`
}

// Title returns Name, or ID where there is no name.
func (p Point) Title() string {
	if p.Name != "" {
		return p.Name
	}
	return p.ID
}

// Factor returns Scale, with 1 in place of zero.
func (p Point) Factor() float64 {
	if p.Scale == 0 {
		return 1
	}
	return p.Scale
}

// Value turns the device's number into the point's unit.
func (p Point) Value(raw float64) float64 { return raw*p.Factor() + p.Offset }

// Raw turns a value in the point's unit into the device's number.
func (p Point) Raw(value float64) float64 { return (value - p.Offset) / p.Factor() }

// The time that a value read back has to become the one written.
const (
	DefaultReadBackTime = 2 * time.Second
	MaxReadBackTime     = time.Minute
)

// ReadBackWithin returns ReadBackTime, with 2 s in place of zero.
func (p Point) ReadBackWithin() time.Duration {
	if p.ReadBackTime == 0 {
		return DefaultReadBackTime
	}
	return p.ReadBackTime
}

// Matches reports whether a value read back is the value written, within
// Tolerance.
func (p Point) Matches(written, read float64) bool {
	tolerance := p.Tolerance
	if tolerance == 0 {
		tolerance = math.Abs(p.Factor())/2 + 1e-6
	}
	return math.Abs(written-read) <= tolerance
}

// Validate returns an ErrInvalid that names the point and the field.
func (p Point) Validate() error {
	if err := CheckID("point", p.ID); err != nil {
		return err
	}
	bad := func(field string, value any, why string) error {
		return fmt.Errorf("%w: point %s: %s %v: %s", ErrInvalid, p.ID, field, value, why)
	}
	if int(p.Kind) >= len(kindNames) {
		return bad("kind", p.Kind, "unknown")
	}
	for _, f := range []struct {
		name  string
		value float64
	}{{"scale", p.Scale}, {"offset", p.Offset}, {"step", p.Step}, {"tolerance", p.Tolerance}} {
		if !Finite(f.value) {
			return bad(f.name, f.value, "not a finite number")
		}
	}
	for _, f := range []struct {
		name  string
		value *float64
	}{{"min", p.Min}, {"max", p.Max}} {
		if f.value != nil && !Finite(*f.value) {
			return bad(f.name, *f.value, "not a finite number")
		}
	}
	switch {
	case p.Step < 0:
		return bad("step", p.Step, "negative")
	case p.Tolerance < 0:
		return bad("tolerance", p.Tolerance, "negative")
	case p.Min != nil && p.Max != nil && *p.Min > *p.Max:
		return bad("min", *p.Min, fmt.Sprintf("above max %v", *p.Max))
	case p.ReadBackTime < 0 || p.ReadBackTime > MaxReadBackTime:
		return bad("read_back_time", p.ReadBackTime, fmt.Sprintf("want up to %s", MaxReadBackTime))
	case p.Enum && len(p.Labels) == 0:
		return bad("enum", p.Enum, "there are no labels that name the values")
	case p.Select && !p.Kind.Writable():
		return bad("select", p.Select, "only controls and adjustments are operated")
	case p.Text && p.Kind.Writable():
		return bad("text", p.Text, "commands carry numbers, so text is for measurements and signals")
	}
	return nil
}

// Sample is one reading of one point.
type Sample struct {
	// Point is the id of a point of the channel.
	Point string
	// Value is in the point's unit. It is ignored, and the value before stays,
	// when Quality is not usable. It must be finite otherwise.
	Value float64
	// Text is the value of a text point.
	Text string
	// Quality is Good when zero.
	Quality Quality
	// Time is the device's own time of the value; zero when the device gives
	// none, and then the time of arrival counts.
	Time time.Time
}

// Finite reports whether f is a number that can be stored: neither infinite
// nor NaN.
func Finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// MaxValue bounds the size of a stored value. Above it six decimal places mean
// nothing for a float64, and the text grows without bound.
const MaxValue = 1e15

// Storable reports whether f can be stored: finite and within ±MaxValue.
func Storable(f float64) bool { return f >= -MaxValue && f <= MaxValue }
