package model

import (
	"fmt"
	"time"
)

// ControlPolicy says when a control or adjustment of a model may be operated,
// and what it goes to when nobody stands behind its value any more.
type ControlPolicy struct {
	// Interlocks forbid commands while one of them holds, and while one of them
	// cannot be judged. At most 32. A command for the Safe value is never forbidden
	// by them. They are judged when a command is given and again before it is sent.
	Interlocks []Interlock `json:"interlocks,omitempty" yaml:"interlocks"`
	// Queue has every command executed, in the order in which they were given, as
	// raising and lowering by steps needs. Without it a newer command takes the
	// place of one to the same point that still waits, which ends superseded.
	Queue bool `json:"queue,omitempty" yaml:"queue"`
	// Safe is the value, in the point's unit, that the owner of the channel writes
	// by itself: after Hold, when the store is lost, and after a start before any
	// other command. Nil means that nothing is ever written by itself.
	Safe *float64 `json:"safe,omitempty" yaml:"safe"`
	// SafeOnStop has Safe written when the engine stops cleanly, too.
	SafeOnStop bool `json:"safe_on_stop,omitempty" yaml:"safe_on_stop"`
	// Hold is how long a value stands after the last command for the control, or
	// after the last sign of life of who gave it. Then Safe is written. Zero means
	// for as long as the engine runs. From 100 ms to 24 h.
	Hold time.Duration `json:"hold,omitempty" yaml:"hold"`
}

// Bounds of a ControlPolicy.
const (
	MaxInterlocks = 32
	MinHold       = 100 * time.Millisecond
	MaxHold       = 24 * time.Hour
)

// Interlock is a condition under which a control must not be operated: Point of
// Model, compared by Operator with Threshold. A value that is missing, of a
// quality that is not usable, or of a channel that nobody runs forbids as well.
type Interlock struct {
	// Name is for people, in the detail of a command that was rejected.
	Name      string   `json:"name,omitempty" yaml:"name"`
	Model     string   `json:"model_id" yaml:"model"`
	Point     string   `json:"point_name" yaml:"point"`
	Operator  Operator `json:"operator" yaml:"operator"`
	Threshold float64  `json:"threshold" yaml:"threshold"`
}

// Validate returns an ErrInvalid that names the field. Whether Safe is within
// the limits of the point is not known here.
func (p ControlPolicy) Validate() error {
	if n := len(p.Interlocks); n > MaxInterlocks {
		return fmt.Errorf("%w: interlocks: %d: at most %d", ErrInvalid, n, MaxInterlocks)
	}
	for i, l := range p.Interlocks {
		if !PlainText(l.Name, 64) {
			return fmt.Errorf("%w: interlock %d: name: want plain text of at most 64 bytes", ErrInvalid, i+1)
		}
		c := Condition{Model: l.Model, Point: l.Point, Operator: l.Operator, Threshold: l.Threshold}
		if err := c.validate(); err != nil {
			return fmt.Errorf("interlock %d: %w", i+1, err)
		}
	}
	switch {
	case p.Safe != nil && !Storable(*p.Safe):
		return fmt.Errorf("%w: safe %v: not a number that can be stored", ErrInvalid, *p.Safe)
	case p.Hold != 0 && (p.Hold < MinHold || p.Hold > MaxHold):
		return fmt.Errorf("%w: hold %s: want %s to %s", ErrInvalid, p.Hold, MinHold, MaxHold)
	case p.Hold != 0 && p.Safe == nil:
		return fmt.Errorf("%w: hold %s: there is no safe value to write after it: add safe", ErrInvalid, p.Hold)
	case p.SafeOnStop && p.Safe == nil:
		return fmt.Errorf("%w: safe_on_stop: there is no safe value to write: add safe", ErrInvalid)
	}
	return nil
}
