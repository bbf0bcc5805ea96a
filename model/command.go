package model

import (
	"fmt"
	"time"
)

// Command asks for a value to be written to a model's control or adjustment.
type Command struct {
	// ID names the command; the engine makes one when it is empty. The same id
	// again returns the first result.
	ID string `json:"id,omitempty"`
	// Key is the caller's idempotency key: the same key from the same Origin
	// returns the first result. Empty means none.
	Key string `json:"key,omitempty"`
	// Model and Control name what is operated. Required.
	Model   string `json:"model"`
	Control string `json:"control"`
	// Value is in the point's unit. It must be finite.
	Value float64 `json:"value"`
	// Origin says who asks, such as "api", "rule:peak" or "cloud". Defaults to "go".
	Origin string `json:"origin,omitempty"`
	// User is the person or program behind the origin, for the journal.
	User string `json:"user,omitempty"`
	// Timeout is how long the command stays valid; after it nothing is sent
	// any more. Zero means 10 s. The most is one hour.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Bounds of a command's Timeout.
const (
	DefaultCommandTimeout = 10 * time.Second
	MaxCommandTimeout     = time.Hour
)

// CommandState is where a command stands.
type CommandState string

// The states. Queued and Executing are on the way; all others are final.
const (
	CommandQueued     CommandState = "queued"     // recorded, waits for the channel
	CommandExecuting  CommandState = "executing"  // claimed: from here on never sent again
	CommandVerified   CommandState = "verified"   // written, and read back as written
	CommandExecuted   CommandState = "executed"   // written, and the device acknowledged it
	CommandFailed     CommandState = "failed"     // the device refused it, or it could not be sent
	CommandExpired    CommandState = "expired"    // not sent within its time
	CommandRejected   CommandState = "rejected"   // refused before it was queued, or before it was sent, because it may not be given
	CommandCancelled  CommandState = "cancelled"  // taken back before it was sent
	CommandSuperseded CommandState = "superseded" // a later command to the same point took its place
	CommandUnknown    CommandState = "unknown"    // sent, and neither confirmed nor refused
)

// Final reports whether the state is the end of the command.
func (s CommandState) Final() bool { return s != CommandQueued && s != CommandExecuting && s != "" }

// OK reports whether the command certainly reached the device.
func (s CommandState) OK() bool { return s == CommandVerified || s == CommandExecuted }

// CommandResult is a command's record.
type CommandResult struct {
	ID      string       `json:"id"`
	Model   string       `json:"model"`
	Control string       `json:"control"`
	Channel string       `json:"channel,omitempty"`
	Point   string       `json:"point,omitempty"`
	Value   float64      `json:"value"`
	State   CommandState `json:"state"`
	// Reason is a short code for a state that is not verified or executed, such
	// as "limit", "step", "enum", "interlock", "disabled", "no_mapping",
	// "not_connected", "not_selected", "refused", "timeout". Of a safe value that the
	// owner of the channel wrote by itself (Origin "failsafe") it says why:
	// "source_lost", "store_lost", "started" or "stopped".
	Reason string `json:"reason,omitempty"`
	// Detail is for people.
	Detail string `json:"detail,omitempty"`
	Origin string `json:"origin,omitempty"`
	User   string `json:"user,omitempty"`
	// ReadBack is the value that the device reported after the write; nil
	// where it was not read.
	ReadBack *float64  `json:"read_back,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	// Deadline is when the command expires if it was not sent.
	Deadline time.Time `json:"deadline"`
}

// CommandEvent is an entry of the command journal: one transition of one command.
type CommandEvent struct {
	// Position is the entry's place in the journal.
	Position string `json:"position"`
	CommandResult
}

// WithDefaults returns the command with Origin and Timeout filled in.
func (c Command) WithDefaults() Command {
	if c.Origin == "" {
		c.Origin = "go"
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultCommandTimeout
	}
	return c
}

// Validate checks the form of the command; whether the control exists and the
// value is allowed is decided where the command is recorded.
func (c Command) Validate() error {
	if err := CheckID("command: model", c.Model); err != nil {
		return err
	}
	if err := CheckID("command: control", c.Control); err != nil {
		return err
	}
	if c.ID != "" && !ValidID(c.ID) {
		return CheckID("command", c.ID)
	}
	if c.ID == "journal" { // command:journal is the stream of transitions
		return fmt.Errorf("%w: command: the id journal is reserved", ErrInvalid)
	}
	where := c.Model + ":" + c.Control
	switch {
	case !Storable(c.Value):
		return fmt.Errorf("%w: command %s: value %v: not a number that can be stored", ErrInvalid, where, c.Value)
	case c.Timeout < 0 || c.Timeout > MaxCommandTimeout:
		return fmt.Errorf("%w: command %s: timeout %s: want up to %s", ErrInvalid, where, c.Timeout, MaxCommandTimeout)
	case !PlainText(c.Key, 128):
		return fmt.Errorf("%w: command %s: idempotency key %.40q: want plain text of at most 128 bytes", ErrInvalid, where, c.Key)
	case !PlainText(c.Origin, 64) || !PlainText(c.User, 64):
		return fmt.Errorf("%w: command %s: origin and user: want plain text of at most 64 bytes", ErrInvalid, where)
	}
	return nil
}
