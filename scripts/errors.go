package scripts

import (
	"context"
	"errors"
	"fmt"
)

// The errors that a caller can tell apart. All are wrapped with what and where.
var (
	// ErrNotFound: there is no such model, channel, alarm, command, rule or script.
	ErrNotFound = errors.New("not found")
	// ErrFenced: the channel has another owner, or the data with its owner was
	// lost; stop reading and writing it, and acquire it again.
	ErrFenced = errors.New("the channel is not owned any more")
	// ErrHeld: the channel has an owner whose lease has not run out.
	ErrHeld = errors.New("the channel is held by another engine")
	// ErrConflict: not possible in the state that the record is in.
	ErrConflict = errors.New("not possible in this state")
	// ErrVersion: the scripts that are active on the store, or its layout, are
	// of a major version that this program does not know.
	ErrVersion = errors.New("incompatible version on the store")
	// ErrStore: the store could not be reached or answered with an error.
	ErrStore = errors.New("store")
	// ErrLost: the site's data was lost and could not be restored yet.
	ErrLost = errors.New("the site's data was lost and is being restored")
	// ErrScript: a script failed (then it is a *ScriptError), cannot be composed,
	// or answered what its caller does not know.
	ErrScript = errors.New("script")
)

// Every code with which a script may answer, and the error that it becomes; nil
// where it is none. GENERATION, INACTIVE and MAPPING are dealt with before a
// caller sees them. A script declares its codes in its header (@code).
var codeErrors = map[string]error{
	"OK":         nil,
	"DUPLICATE":  nil,
	"SAME":       nil,
	"REJECTED":   nil,
	"HIT":        nil,
	"MISS":       nil,
	"FENCED":     ErrFenced,
	"HELD":       ErrHeld,
	"NO":         ErrConflict,
	"STATE":      ErrConflict,
	"NOTFOUND":   ErrNotFound,
	"GENERATION": ErrLost,
	"INACTIVE":   ErrVersion,
	"MAPPING":    ErrScript,
	"INVALID":    ErrScript,
	"LATE":       context.DeadlineExceeded,
}

// codeError returns nil for a code that is no error.
func codeError(script string, reply []string) error {
	if len(reply) == 0 {
		return fmt.Errorf("%w %s: empty reply", ErrScript, script)
	}
	err, known := codeErrors[reply[0]]
	if known && err == nil {
		return nil
	}
	detail := ""
	if len(reply) > 1 {
		detail = ": " + reply[1]
	}
	if known {
		return fmt.Errorf("%w (%s %s%s)", err, script, reply[0], detail)
	}
	return fmt.Errorf("%w %s: unknown code %.40q%s", ErrScript, script, reply[0], detail)
}
