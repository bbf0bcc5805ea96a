package model

import "fmt"

// Rule acts when its conditions become true: once, not for every sample while
// they stay true. A value of bad quality, or none, leaves the rule as it was.
type Rule struct {
	// ID names the rule. Required.
	ID string `json:"id" yaml:"id"`
	// Name is for people and defaults to ID.
	Name string `json:"name,omitempty" yaml:"name"`
	// Disabled rules are not evaluated.
	Disabled bool `json:"disabled,omitempty" yaml:"disabled"`
	// Conditions must all be true. At least one, at most 32.
	Conditions []Condition `json:"conditions" yaml:"conditions"`
	// Actions are done in order. At least one, at most 32.
	Actions []Action `json:"actions" yaml:"actions"`
}

// Condition compares one point of a model with a threshold.
type Condition struct {
	Model     string   `json:"model_id" yaml:"model"`
	Point     string   `json:"point_name" yaml:"point"`
	Operator  Operator `json:"operator" yaml:"operator"`
	Threshold float64  `json:"threshold" yaml:"threshold"`
}

// ActionType says what an action does.
type ActionType string

// The action types.
const (
	ActionControl      ActionType = "control"      // sends a command
	ActionAlarm        ActionType = "alarm"        // raises an alarm that stays until it is closed by hand
	ActionNotification ActionType = "notification" // sends a message
)

// Action is one thing that a rule does.
type Action struct {
	Type ActionType `json:"type" yaml:"type"`
	// Model, Control and Value are for control.
	Model   string  `json:"model_id,omitempty" yaml:"model"`
	Control string  `json:"control_name,omitempty" yaml:"control"`
	Value   float64 `json:"value" yaml:"value"`
	// Severity and Message are for alarm and notification. Severity is Medium
	// when empty.
	Severity Severity `json:"severity,omitempty" yaml:"severity"`
	Message  string   `json:"message,omitempty" yaml:"message"`
}

// Title returns Name, or ID where there is no name.
func (r Rule) Title() string {
	if r.Name != "" {
		return r.Name
	}
	return r.ID
}

// Validate returns an ErrInvalid that names the rule, the entry and the field.
func (r Rule) Validate() error {
	if err := CheckID("rule", r.ID); err != nil {
		return err
	}
	if n := len(r.Conditions); n < 1 || n > 32 {
		return fmt.Errorf("%w: rule %s: %d conditions: want 1 to 32", ErrInvalid, r.ID, n)
	}
	if n := len(r.Actions); n < 1 || n > 32 {
		return fmt.Errorf("%w: rule %s: %d actions: want 1 to 32", ErrInvalid, r.ID, n)
	}
	for i, c := range r.Conditions {
		if err := c.validate(); err != nil {
			return fmt.Errorf("rule %s: condition %d: %w", r.ID, i+1, err)
		}
	}
	for i, a := range r.Actions {
		if err := a.validate(); err != nil {
			return fmt.Errorf("rule %s: action %d: %w", r.ID, i+1, err)
		}
	}
	return nil
}

func (c Condition) validate() error {
	if err := CheckID("model", c.Model); err != nil {
		return err
	}
	if err := CheckID("point", c.Point); err != nil {
		return err
	}
	if !c.Operator.Valid() {
		return fmt.Errorf("%w: operator %.10q: want one of > >= < <= == !=", ErrInvalid, string(c.Operator))
	}
	if !Storable(c.Threshold) {
		return fmt.Errorf("%w: threshold %v: not a number that can be stored", ErrInvalid, c.Threshold)
	}
	return nil
}

func (a Action) validate() error {
	if a.Severity != "" && !a.Severity.Valid() {
		return fmt.Errorf("%w: severity %.20q: want low, medium, high or critical", ErrInvalid, string(a.Severity))
	}
	if len(a.Message) > 500 {
		return fmt.Errorf("%w: message of %d bytes: at most 500", ErrInvalid, len(a.Message))
	}
	switch a.Type {
	case ActionControl:
		if err := CheckID("model", a.Model); err != nil {
			return err
		}
		if err := CheckID("control", a.Control); err != nil {
			return err
		}
		if !Storable(a.Value) {
			return fmt.Errorf("%w: value %v: not a number that can be stored", ErrInvalid, a.Value)
		}
	case ActionAlarm, ActionNotification:
		if a.Message == "" {
			return fmt.Errorf("%w: %s: the message is missing", ErrInvalid, a.Type)
		}
	default:
		return fmt.Errorf("%w: type %.20q: want control, alarm or notification", ErrInvalid, string(a.Type))
	}
	return nil
}
