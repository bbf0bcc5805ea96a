package modbus

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	gb "github.com/goburrow/modbus"
)

// errPeerClosed is the end of a connection that the peer closed.
var errPeerClosed = errors.New("closed by the peer")

// carry has the connection serve requests, for who holds the line. Some devices
// close the connection after each answer, or when it was idle for a moment. A
// request that meets such an end is sent once more, over a new connection, when
// the lost one had served a request and nothing of this one can be carried out
// twice.
//
// A command makes the connection anew where it was lost with other units' requests
// and the Read of its own unit did not find out yet. So does every request to a unit
// that is idle, whose Read would not.
func (l *line) carry(ctx context.Context, m *member, ln *lane, asks []ask, timeout time.Duration) (exchanged, error) {
	if ln.command || m.idle {
		if err := l.attach(ctx, nil); err != nil {
			return exchanged{}, err
		}
	}
	x, err := l.attempt(ctx, m, ln, asks, timeout)
	if !closedByPeer(err) || x.heard || x.sent && !harmless(asks) || !l.hasServed() || l.attach(ctx, nil) != nil {
		return x, err
	}
	return l.attempt(ctx, m, ln, asks, timeout)
}

func (l *line) hasServed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served
}

func closedByPeer(err error) bool {
	for _, end := range []error{errPeerClosed, syscall.ECONNRESET, syscall.EPIPE, io.ErrUnexpectedEOF} { // the last one is TLS's
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// harmless reports whether all requests only read.
func harmless(asks []ask) bool {
	for k := range asks {
		if asks[k].request.FunctionCode > gb.FuncCodeReadInputRegisters {
			return false
		}
	}
	return true
}
