package model

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxIDLength is the longest id that ValidID accepts, in bytes.
const MaxIDLength = 64

// ErrInvalid marks a definition (an id, a point, a rule, a command, …) that
// cannot be accepted as it is. The text says which one and why.
var ErrInvalid = errors.New("invalid")

// ValidID reports whether id may name a site, channel, point, model, rule or
// command: 1 to 64 of the characters A-Z a-z 0-9 _ . -, as they are safe in
// Redis keys, URLs and file names alike.
func ValidID(id string) bool {
	if id == "" || len(id) > MaxIDLength {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// CheckID returns nil for a valid id, else an ErrInvalid that names what the id
// is for, such as "channel" or "point".
func CheckID(what, id string) error {
	if ValidID(id) {
		return nil
	}
	if id == "" {
		return fmt.Errorf("%w: %s: the id is empty", ErrInvalid, what)
	}
	return fmt.Errorf("%w: %s: id %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", ErrInvalid, what, id, MaxIDLength)
}

// Ref names a point from outside of what owns it: Owner is a channel or model
// id, Name the point's id or name in it. Its text is "owner:name".
type Ref struct {
	Owner string
	Name  string
}

// ParseRef reads "owner:name".
func ParseRef(s string) (Ref, error) {
	owner, name, ok := strings.Cut(s, ":")
	if !ok || !ValidID(owner) || !ValidID(name) {
		return Ref{}, fmt.Errorf("%w: reference %.140q: want owner:name, such as 1001:1 or pcs1:active_power", ErrInvalid, s)
	}
	return Ref{Owner: owner, Name: name}, nil
}

// String returns "owner:name".
func (r Ref) String() string { return r.Owner + ":" + r.Name }

// PlainText reports whether s is text for people of at most limit bytes: valid
// UTF-8 without control characters, fit for journals, terminals and pages.
func PlainText(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
