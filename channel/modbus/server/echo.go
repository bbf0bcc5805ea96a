package server

import (
	"bytes"
	"errors"
	"slices"
)

// errEcho ends the serving of a line.
var errEcho = errors.New("the line sends back what is sent on it: want an adapter without local echo")

// echo finds out whether a line sends back what is sent on it, as adapters for two
// wires may. The answers to functions 5, 6 and 22 have the form of their requests: one
// that came back would be carried out, answered, come back again, and so for ever.
type echo struct {
	none bool   // found out: there is no echo
	sent []byte // the last answer, while nothing came after it
}

// answered notes what was sent.
func (e *echo) answered(frame []byte) {
	if !e.none {
		e.sent = append(e.sent[:0], frame...)
	}
}

// check looks at what came after an answer. size bytes are its copy and to be passed
// over; more is true when that cannot be said yet. A request in the form of the answer
// before may be both, and is passed over until it is known that there is no echo: its
// master asks again.
func (e *echo) check(in []byte) (size int, more bool, err error) {
	if len(e.sent) == 0 || len(in) == 0 {
		return 0, false, nil
	}
	sure := !slices.Contains([]byte{writeSingleCoil, writeSingleRegister, maskWriteRegister}, e.sent[1])
	n := min(len(in), len(e.sent))
	switch {
	case !bytes.Equal(in[:n], e.sent[:n]):
		e.none = sure
		e.sent = e.sent[:0]
		return 0, false, nil
	case n < len(e.sent):
		return 0, true, nil
	case sure:
		return 0, false, errEcho
	}
	e.sent = e.sent[:0]
	return n, false, nil
}
