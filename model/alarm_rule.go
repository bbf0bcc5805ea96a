package model

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Operator compares a value with a threshold.
type Operator string

// The comparisons. Equal and NotEqual allow for the six stored decimals.
const (
	Above        Operator = ">"
	AboveOrEqual Operator = ">="
	Below        Operator = "<"
	BelowOrEqual Operator = "<="
	Equal        Operator = "=="
	NotEqual     Operator = "!="
)

// What only alarm rules know beside the comparisons.
const (
	InRange    Operator = "in_range"     // Threshold ≤ value ≤ High
	OutOfRange Operator = "out_of_range" // value < Threshold or value > High
	Deviation  Operator = "deviation"    // the value is more than Threshold away from Reference
	Rate       Operator = "rate"         // it changes by more than Threshold a second
	Change     Operator = "change"       // it differs from the one before; true for that moment
	BitSet     Operator = "bit_set"      // bit number Threshold is 1
	BitClear   Operator = "bit_clear"    // bit number Threshold is 0
	IsStale    Operator = "stale"        // the quality is stale or offline
	BadQuality Operator = "bad_quality"  // the quality is not usable
	IsOffline  Operator = "offline"      // a channel is not online, or no engine owns it
)

// Operators lists the comparisons.
func Operators() []Operator {
	return []Operator{Above, AboveOrEqual, Below, BelowOrEqual, Equal, NotEqual}
}

// AlarmOperators lists what alarm rules may say: the comparisons and more.
func AlarmOperators() []Operator {
	return append(Operators(), InRange, OutOfRange, Deviation, Rate, Change, BitSet, BitClear, IsStale, BadQuality, IsOffline)
}

// Valid reports whether o is one of the comparisons.
func (o Operator) Valid() bool { return slices.Contains(Operators(), o) }

// TakesThreshold reports whether an alarm rule with this operator has a threshold.
func (o Operator) TakesThreshold() bool {
	return !slices.Contains([]Operator{Change, IsStale, BadQuality, IsOffline}, o)
}

// ranged reports whether the condition has two limits.
func (o Operator) ranged() bool { return o == InRange || o == OutOfRange }

// TakesHysteresis reports whether an alarm rule with this operator has a limit to come back past.
func (o Operator) TakesHysteresis() bool {
	return slices.Contains([]Operator{Above, AboveOrEqual, Below, BelowOrEqual, InRange, OutOfRange, Deviation, Rate}, o)
}

// Severity ranks alarms.
type Severity string

// The severities, from least to most urgent. The default is Medium.
const (
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Severities lists every severity from least to most urgent.
func Severities() []Severity { return []Severity{Low, Medium, High, Critical} }

// Valid reports whether s is one of the severities.
func (s Severity) Valid() bool { return slices.Contains(Severities(), s) }

// Model ids that alarms use for what is no model.
const (
	AlarmModelChannel = "channel" // rules of operator IsOffline; the point is the channel's id
	AlarmModelRule    = "rule"    // alarms that rules raise; the point is the rule's id
)

// Bounds of an alarm rule.
const (
	MaxAlarmDelay = 30 * 24 * time.Hour // of OnDelay, OffDelay and Window
	MaxAlarmCount = 50
)

// DefaultRateWindow is what Window is for Rate where it is zero.
const DefaultRateWindow = time.Second

// AlarmRule says when a point of a model is in alarm. It is stored as JSON, with
// the durations in whole milliseconds (on_delay_ms, off_delay_ms, window_ms).
type AlarmRule struct {
	// ID names the rule within its point. Required.
	ID string `json:"id" yaml:"id"`
	// Model and Point name the value that is watched. Required. For IsOffline the
	// model is "channel" and the point the channel's id.
	Model string `json:"model_id" yaml:"model"`
	Point string `json:"point_name" yaml:"point"`
	// Operator and Threshold are the condition: value Operator Threshold. For
	// Rate the threshold is in units a second; for BitSet and BitClear it is the
	// number of the bit, 0 to 52; Change and the qualities have none.
	Operator  Operator `json:"operator" yaml:"operator"`
	Threshold float64  `json:"threshold" yaml:"threshold"`
	// High is the upper limit of InRange and OutOfRange, whose lower one is
	// Threshold.
	High float64 `json:"high,omitempty" yaml:"high"`
	// Reference is the point that Deviation compares with: "model:point", or a
	// point of the same model.
	Reference string `json:"reference,omitempty" yaml:"reference"`
	// Hysteresis is how far the value must come back past the limit before the
	// alarm clears, in the threshold's unit. It has no meaning where there is no
	// limit to come back past: for == and !=, bits, changes and qualities.
	Hysteresis float64 `json:"hysteresis,omitempty" yaml:"hysteresis"`
	// OnDelay is how long the condition must hold before the alarm is raised,
	// OffDelay how long it must be over before the alarm clears.
	OnDelay  time.Duration `json:"-" yaml:"on_delay"`
	OffDelay time.Duration `json:"-" yaml:"off_delay"`
	// Count asks for the condition to come true so often within Window, 2 to
	// MaxAlarmCount; 0 and 1 are every time.
	Count int `json:"count,omitempty" yaml:"count"`
	// Window is the time that Count looks back, and that Rate measures over
	// (DefaultRateWindow when zero).
	Window time.Duration `json:"-" yaml:"window"`
	// Latch keeps the alarm after the condition is over until somebody resets it.
	Latch bool `json:"latch,omitempty" yaml:"latch"`
	// Enable is when the rule counts at all: the alarm is suppressed by design
	// while it does not hold. Nil is always.
	Enable *AlarmEnable `json:"enable,omitempty" yaml:"enable"`
	// Severity is Medium when empty.
	Severity Severity `json:"severity,omitempty" yaml:"severity"`
	// Message is for people; a text from the condition when empty.
	Message string `json:"message,omitempty" yaml:"message"`
	// Disabled rules raise nothing; an open alarm of theirs stays until it is
	// closed by hand.
	Disabled bool `json:"disabled,omitempty" yaml:"disabled"`
}

// AlarmEnable is the condition under which an alarm rule counts, such as "while
// the unit runs". While its point has no usable value it stays what it was.
type AlarmEnable struct {
	// Model is the rule's own when empty.
	Model string `json:"model_id,omitempty" yaml:"model"`
	// Point, Operator (one of the comparisons) and Threshold are required.
	Point     string   `json:"point_name" yaml:"point"`
	Operator  Operator `json:"operator" yaml:"operator"`
	Threshold float64  `json:"threshold" yaml:"threshold"`
}

// alarmRule has AlarmRule's fields without its methods.
type alarmRule AlarmRule

// alarmRuleJSON is the stored form.
type alarmRuleJSON struct {
	alarmRule
	High     *float64 `json:"high,omitempty"` // a range to zero says so
	OnDelay  int64    `json:"on_delay_ms,omitempty"`
	OffDelay int64    `json:"off_delay_ms,omitempty"`
	Window   int64    `json:"window_ms,omitempty"`
}

// MarshalJSON writes the stored form.
func (r AlarmRule) MarshalJSON() ([]byte, error) {
	s := alarmRuleJSON{alarmRule: alarmRule(r), OnDelay: r.OnDelay.Milliseconds(), OffDelay: r.OffDelay.Milliseconds(), Window: r.Window.Milliseconds()}
	if r.Operator.ranged() || r.High != 0 {
		s.High = &r.High
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads the stored form.
func (r *AlarmRule) UnmarshalJSON(b []byte) error {
	var s alarmRuleJSON
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	for _, d := range []struct {
		field string
		to    *time.Duration
		ms    int64
	}{{"on_delay_ms", &s.alarmRule.OnDelay, s.OnDelay}, {"off_delay_ms", &s.alarmRule.OffDelay, s.OffDelay}, {"window_ms", &s.alarmRule.Window, s.Window}} {
		if d.ms < 0 || d.ms > MaxAlarmDelay.Milliseconds() {
			return fmt.Errorf("%w: alarm rule %.64q: %s %d: want 0 to %d", ErrInvalid, s.ID, d.field, d.ms, MaxAlarmDelay.Milliseconds())
		}
		*d.to = time.Duration(d.ms) * time.Millisecond
	}
	*r = AlarmRule(s.alarmRule)
	if s.High != nil {
		r.High = *s.High
	}
	return nil
}

// WithDefaults returns the rule with Severity and the window of Rate filled in.
func (r AlarmRule) WithDefaults() AlarmRule {
	if r.Severity == "" {
		r.Severity = Medium
	}
	if r.Operator == Rate && r.Window == 0 {
		r.Window = DefaultRateWindow
	}
	return r
}

// ReferencePoint returns the model and point that Deviation compares with.
func (r AlarmRule) ReferencePoint() Ref {
	if owner, name, ok := strings.Cut(r.Reference, ":"); ok {
		return Ref{Owner: owner, Name: name}
	}
	return Ref{Owner: r.Model, Name: r.Reference}
}

// EnablePoint returns the model and point of Enable, which must not be nil.
func (r AlarmRule) EnablePoint() Ref {
	return Ref{Owner: cmp.Or(r.Enable.Model, r.Model), Name: r.Enable.Point}
}

// Validate returns an ErrInvalid that names the rule and the field.
func (r AlarmRule) Validate() error {
	if err := CheckID("alarm rule", r.ID); err != nil {
		return err
	}
	if err := CheckID("alarm rule "+r.ID+": model", r.Model); err != nil {
		return err
	}
	if err := CheckID("alarm rule "+r.ID+": point", r.Point); err != nil {
		return err
	}
	bad := func(field string, value any, why string) error {
		return fmt.Errorf("%w: alarm rule %s of %s:%s: %s %v: %s", ErrInvalid, r.ID, r.Model, r.Point, field, value, why)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"on_delay", r.OnDelay}, {"off_delay", r.OffDelay}, {"window", r.Window}} {
		if d.value < 0 || d.value > MaxAlarmDelay || d.value%time.Millisecond != 0 {
			return bad(d.field, d.value, "want 0 to 720h, in whole milliseconds")
		}
	}
	switch {
	case !slices.Contains(AlarmOperators(), r.Operator):
		return bad("operator", fmt.Sprintf("%.20q", string(r.Operator)), "want one of "+alarmOperatorList())
	case !Storable(r.Threshold):
		return bad("threshold", r.Threshold, "not a number that can be stored")
	case !Storable(r.Hysteresis) || r.Hysteresis < 0:
		return bad("hysteresis", r.Hysteresis, "want zero or more")
	case r.Severity != "" && !r.Severity.Valid():
		return bad("severity", fmt.Sprintf("%.20q", string(r.Severity)), "want low, medium, high or critical")
	case len(r.Message) > 500:
		return bad("message", fmt.Sprintf("of %d bytes", len(r.Message)), "at most 500")
	case (r.Operator == IsOffline) != (r.Model == AlarmModelChannel):
		return bad("operator", r.Operator, `"offline" is for the model "channel", whose points are the channels, and that has no other`)
	case r.Model == AlarmModelRule:
		return bad("model", r.Model, "is for the alarms that rules raise")
	}
	if err := r.validateCondition(bad); err != nil {
		return err
	}
	return r.validateTiming(bad)
}

// validateCondition checks what single operators ask for.
func (r AlarmRule) validateCondition(bad func(field string, value any, why string) error) error {
	const half = 5e-7 // of the last decimal that is stored
	ranged := r.Operator.ranged()
	switch {
	case ranged && (!Storable(r.High) || r.High < r.Threshold):
		return bad("high", r.High, "want a number that is not below the threshold")
	case !ranged && r.High != 0:
		return bad("high", r.High, "is for in_range and out_of_range")
	case r.Operator == Deviation && r.Threshold < 0:
		return bad("threshold", r.Threshold, "a deviation has no sign")
	case r.Operator == Rate && r.Threshold < half:
		return bad("threshold", r.Threshold, "want more than zero units a second")
	case (r.Operator == BitSet || r.Operator == BitClear) && (r.Threshold < 0 || r.Threshold > 52 || r.Threshold != float64(int(r.Threshold))):
		return bad("threshold", r.Threshold, "want the number of a bit, 0 to 52")
	case r.Operator == OutOfRange && 2*r.Hysteresis > r.High-r.Threshold+half: // 0.3 - 0.2 is not 0.1 in binary
		return bad("hysteresis", r.Hysteresis, "leaves nothing of the range to come back to")
	case (r.Operator == Deviation || r.Operator == Rate) && r.Hysteresis > r.Threshold:
		return bad("hysteresis", r.Hysteresis, "is more than the threshold: the alarm could never clear")
	case r.Operator != Deviation && r.Reference != "":
		return bad("reference", fmt.Sprintf("%.64q", r.Reference), "is for deviation")
	}
	if r.Operator == Deviation {
		ref := r.ReferencePoint()
		if !hasPoints(ref.Owner) || !ValidID(ref.Name) {
			return bad("reference", fmt.Sprintf("%.64q", r.Reference), "want a point of the same model, or model:point")
		}
		if ref == (Ref{Owner: r.Model, Name: r.Point}) {
			return bad("reference", r.Reference, "is the point itself")
		}
	}
	if e := r.Enable; e != nil {
		at := r.EnablePoint()
		switch {
		case !ValidID(at.Owner) || !ValidID(at.Name):
			return bad("enable", fmt.Sprintf("%.32q of %.32q", e.Point, e.Model), "want a point, and its model where that is another one")
		case !hasPoints(at.Owner):
			return bad("enable", at.Name+" of "+at.Owner, "want a point of a model")
		case !e.Operator.Valid():
			return bad("enable", fmt.Sprintf("with operator %.20q", string(e.Operator)), "want one of > >= < <= == !=")
		case !Storable(e.Threshold):
			return bad("enable", fmt.Sprintf("with threshold %v", e.Threshold), "not a number that can be stored")
		}
	}
	return nil
}

// hasPoints reports whether id may be that of a model, which has points.
func hasPoints(id string) bool {
	return ValidID(id) && id != AlarmModelChannel && id != AlarmModelRule
}

// validateTiming checks Count, Window and what they cannot go with.
func (r AlarmRule) validateTiming(bad func(field string, value any, why string) error) error {
	switch {
	case r.Count < 0 || r.Count > MaxAlarmCount:
		return bad("count", r.Count, fmt.Sprintf("want 2 to %d", MaxAlarmCount))
	case r.Count > 1 && r.Window == 0:
		return bad("window", r.Window, "a count needs a time to look back")
	case r.Count > 1 && (r.OnDelay > 0 || r.OffDelay > 0 || r.Operator == Rate):
		return bad("count", r.Count, "does not go with delays or rate")
	case r.Count < 2 && r.Operator != Rate && r.Window > 0:
		return bad("window", r.Window, "is for rate, and with a count")
	case r.Operator == Change && r.OnDelay > 0:
		return bad("on_delay", r.OnDelay, "a change is over at once")
	}
	return nil
}

func alarmOperatorList() string {
	list := make([]string, 0, len(AlarmOperators()))
	for _, o := range AlarmOperators() {
		list = append(list, string(o))
	}
	return strings.Join(list, " ")
}
