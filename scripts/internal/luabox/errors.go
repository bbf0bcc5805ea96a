package luabox

import (
	"errors"
	"fmt"
)

var (
	// ErrSyntax is a text that does not compile, or that Redis would not compile.
	ErrSyntax = errors.New("luabox: the script does not compile")
	// ErrTime is a script that was still running when its time was over.
	ErrTime = errors.New("luabox: the script's time is over")
	// ErrMemory is a script that makes too much text or keeps too much data.
	ErrMemory = errors.New("luabox: the script takes too much memory")
	// ErrCommand is a call that luabox cannot judge: a command of which it does
	// not know the keys, or that the scratch store does not have, or one too many.
	ErrCommand = errors.New("luabox: command not possible here")
	// ErrStore is a scratch store or a source that failed, or a key of the source
	// that cannot be copied.
	ErrStore = errors.New("luabox: store")
)

// Error is an error with its place in the script's text.
type Error struct {
	// Line counts from 1 in the text that was run; 0 where it is not known.
	Line int
	// Message is without the place.
	Message string

	causes []error
}

// Error begins with "user_script:<line>:", the words of Redis.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s:%d: %s", chunk, e.Line, e.Message)
}

// Unwrap returns the sentinel and what caused it, if any.
func (e *Error) Unwrap() []error { return e.causes }
