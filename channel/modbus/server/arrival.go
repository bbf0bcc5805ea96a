package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

const (
	// slowRequest is from when on a request took so long that others may have
	// come in meanwhile.
	slowRequest = 50 * time.Millisecond
	// waited is from when on a Read was not answered with what lay there already.
	waited = 50 * time.Millisecond
	// glance is how long it takes to see that nothing lies there.
	glance = 10 * time.Millisecond
)

// arrivals knows when what was read of a connection or line came in. While a
// request is carried out nothing is read, and what comes then lies in the kernel
// for as long: a write that its client gave up on must not pass for a new one.
type arrivals struct {
	empty time.Time // when nothing was left to be read
	at    time.Time // when what was read last came in, or earlier
}

// stamped is a connection or line with its arrivals.
type stamped struct {
	in io.Reader
	arrivals
}

// Read implements io.Reader.
func (s *stamped) Read(b []byte) (int, error) {
	begun := time.Now()
	n, err := s.in.Read(b)
	now := time.Now()
	if s.empty.IsZero() {
		s.empty = begun
	}
	if now.Sub(begun) > waited {
		s.empty = now
	}
	s.at = s.empty
	if n < len(b) {
		s.empty = now
	}
	return n, err
}

// stampedConn is one to lie under TLS, which reads more than it is asked for.
type stampedConn struct {
	net.Conn
	stamped
}

// Read implements net.Conn.
func (c *stampedConn) Read(b []byte) (int, error) { return c.stamped.Read(b) }

// pending looks, after a request that took long, whether another came meanwhile.
// look reads something. Lines without deadlines are not looked at.
func pending(line any, look func() error) bool {
	timed, ok := line.(interface{ SetReadDeadline(time.Time) error })
	if !ok {
		return false
	}
	defer func() { _ = timed.SetReadDeadline(time.Time{}) }()
	for range 3 {
		begun := time.Now()
		if timed.SetReadDeadline(begun.Add(glance)) != nil {
			return false
		}
		if !errors.Is(look(), os.ErrDeadlineExceeded) {
			return true
		}
		if time.Since(begun) < 2*glance { // else the deadline may have passed before the look
			return false
		}
	}
	return false
}

type arrivalKey struct{}

// Waited returns how long ago the request of a write came in, from the context that
// a handler got. That is more than a moment when the client sent it while one before
// it was carried out; it may have given up on it. 0 for any other context.
func Waited(ctx context.Context) time.Duration {
	if at, ok := ctx.Value(arrivalKey{}).(time.Time); ok {
		return time.Since(at)
	}
	return 0
}
