package model

import (
	"fmt"
	"slices"
	"time"
)

// Operator compares a value with a threshold.
type Operator string

// The operators. Equal and NotEqual allow for the six stored decimals.
const (
	Above        Operator = ">"
	AboveOrEqual Operator = ">="
	Below        Operator = "<"
	BelowOrEqual Operator = "<="
	Equal        Operator = "=="
	NotEqual     Operator = "!="
)

// Operators lists every operator.
func Operators() []Operator {
	return []Operator{Above, AboveOrEqual, Below, BelowOrEqual, Equal, NotEqual}
}

// Valid reports whether o is one of the operators.
func (o Operator) Valid() bool { return slices.Contains(Operators(), o) }

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

// AlarmRule says when a point of a model is in alarm. It is stored as JSON.
type AlarmRule struct {
	// ID names the rule within its point. Required.
	ID string `json:"id" yaml:"id"`
	// Model and Point name the value that is watched. Required.
	Model string `json:"model_id" yaml:"model"`
	Point string `json:"point_name" yaml:"point"`
	// Operator and Threshold are the condition: value Operator Threshold.
	Operator  Operator `json:"operator" yaml:"operator"`
	Threshold float64  `json:"threshold" yaml:"threshold"`
	// Hysteresis is how far the value must come back past the threshold before
	// the alarm clears, in the point's unit. It has no meaning for == and !=.
	Hysteresis float64 `json:"hysteresis,omitempty" yaml:"hysteresis"`
	// Severity is Medium when empty.
	Severity Severity `json:"severity,omitempty" yaml:"severity"`
	// Message is for people; a text from the condition when empty.
	Message string `json:"message,omitempty" yaml:"message"`
	// Disabled rules raise nothing; an open alarm of theirs stays until it is
	// closed by hand.
	Disabled bool `json:"disabled,omitempty" yaml:"disabled"`
}

// WithDefaults returns the rule with Severity filled in.
func (r AlarmRule) WithDefaults() AlarmRule {
	if r.Severity == "" {
		r.Severity = Medium
	}
	return r
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
	switch {
	case !r.Operator.Valid():
		return bad("operator", fmt.Sprintf("%.10q", string(r.Operator)), "want one of > >= < <= == !=")
	case !Storable(r.Threshold):
		return bad("threshold", r.Threshold, "not a number that can be stored")
	case !Storable(r.Hysteresis) || r.Hysteresis < 0:
		return bad("hysteresis", r.Hysteresis, "want zero or more")
	case r.Severity != "" && !r.Severity.Valid():
		return bad("severity", fmt.Sprintf("%.20q", string(r.Severity)), "want low, medium, high or critical")
	case len(r.Message) > 500:
		return bad("message", fmt.Sprintf("of %d bytes", len(r.Message)), "at most 500")
	}
	return nil
}

// AlarmStatus is where an alarm stands in its life.
type AlarmStatus string

// The statuses, in the terms of ISA-18.2. Closed is the end; all others are open.
const (
	AlarmActive       AlarmStatus = "active"       // in alarm, not acknowledged
	AlarmAcknowledged AlarmStatus = "acknowledged" // in alarm, acknowledged
	AlarmCleared      AlarmStatus = "cleared"      // returned to normal, not acknowledged
	AlarmClosed       AlarmStatus = "closed"       // returned to normal and acknowledged
)

// Open reports whether the alarm still wants attention.
func (s AlarmStatus) Open() bool { return s != AlarmClosed }

// Alarm is the record of one abnormal condition from its beginning to its end.
type Alarm struct {
	ID       string      `json:"id"`
	Model    string      `json:"model_id"`
	Point    string      `json:"point_name"`
	Rule     string      `json:"rule_id"`
	Severity Severity    `json:"severity"`
	Status   AlarmStatus `json:"status"`
	Message  string      `json:"message,omitempty"`
	// Value is the one that raised the alarm; Threshold the limit it broke.
	Value     float64 `json:"value"`
	Threshold float64 `json:"threshold"`
	// Raised is when the alarm began (the stored field is "timestamp"), Cleared
	// when the value last came back, Acknowledged when a person took note.
	// Zero where it did not happen.
	Raised         time.Time `json:"timestamp"`
	Cleared        time.Time `json:"cleared_at,omitzero"`
	Acknowledged   time.Time `json:"acknowledged_at,omitzero"`
	AcknowledgedBy string    `json:"acknowledged_by,omitempty"`
	Comment        string    `json:"comment,omitempty"`
	// Count is how often the condition came true within this record.
	Count int64 `json:"count"`
}

// AlarmTransition names a step in an alarm's life.
type AlarmTransition string

// The transitions, as the journal has them.
const (
	TransitionRaised       AlarmTransition = "raised"
	TransitionReraised     AlarmTransition = "reraised" // true again before it was acknowledged
	TransitionCleared      AlarmTransition = "cleared"
	TransitionAcknowledged AlarmTransition = "acknowledged"
	TransitionClosed       AlarmTransition = "closed" // by hand, by an operator
)

// AlarmEvent is an entry of the alarm journal: one transition of one alarm.
type AlarmEvent struct {
	// Position is the entry's place in the journal; a reader that remembers it
	// goes on from there.
	Position   string          `json:"position"`
	Transition AlarmTransition `json:"transition"`
	Time       time.Time       `json:"time"`
	Alarm      string          `json:"alarm"`
	Model      string          `json:"model_id"`
	Point      string          `json:"point_name"`
	Rule       string          `json:"rule_id"`
	Severity   Severity        `json:"severity"`
	// Status is the alarm's status after the transition.
	Status  AlarmStatus `json:"status"`
	Value   float64     `json:"value"`
	Message string      `json:"message,omitempty"`
	// By and Comment are the person's, where a person caused the transition.
	By      string `json:"by,omitempty"`
	Comment string `json:"comment,omitempty"`
}
