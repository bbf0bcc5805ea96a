package embedded

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// ErrSlowReader ends a connection whose reader let too much pile up: more than
// slowBytes waiting while it read nothing for slowAfter, or more than hardBytes.
// The reader sees io.EOF after this and has to connect and subscribe again.
var ErrSlowReader = errors.New("embedded store: reader too slow, connection dropped")

const (
	slowBytes = 1 << 20
	slowAfter = 2 * time.Second
	hardBytes = 64 << 20
)

// conn is one end of an in-process connection. Unlike net.Pipe its writes never
// wait for the other end.
type conn struct {
	in, out     *queue
	beforeWrite func() // may be nil
}

// newPair returns the client's and the server's end of a connection. Only what
// the server sends is limited: what a client sends is taken by a server that
// always reads, and the client already holds it in memory.
func newPair(now func() time.Time) (client, server *conn) {
	toServer := newQueue(now, 0)
	toClient := newQueue(now, hardBytes)
	return &conn{in: toClient, out: toServer}, &conn{in: toServer, out: toClient}
}

func (c *conn) Read(p []byte) (int, error) { return c.in.read(p) }

func (c *conn) Write(p []byte) (int, error) {
	if c.beforeWrite != nil {
		c.beforeWrite()
	}
	n, err := c.out.write(p)
	if errors.Is(err, ErrSlowReader) {
		// End the other direction too, so that the server forgets the client and
		// its subscriptions even if the client never looks at the connection again.
		c.in.close(true)
	}
	return n, err
}

// Close ends both directions. What is still waiting for the other end is
// delivered to it before it sees io.EOF.
func (c *conn) Close() error {
	c.in.close(true)
	c.out.close(false)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return addr{} }
func (c *conn) RemoteAddr() net.Addr { return addr{} }

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return nil
}

// SetWriteDeadline does nothing: writes do not wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

type addr struct{}

func (addr) Network() string { return "embedded" }
func (addr) String() string  { return "embedded" }

// queue is one direction: a byte buffer with one reader and any writers.
type queue struct {
	now   func() time.Time
	limit int // bytes; 0 = none

	mu       sync.Mutex
	wake     sync.Cond
	buf      []byte
	off      int // buf[:off] is read
	closed   bool
	lastRead time.Time
	deadline time.Time
	timer    *time.Timer // wakes the reader at its deadline; nil until needed
}

func newQueue(now func() time.Time, limit int) *queue {
	q := &queue{now: now, limit: limit, lastRead: now()}
	q.wake.L = &q.mu
	return q
}

func (q *queue) read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if n := copy(p, q.buf[q.off:]); n > 0 {
			q.off += n
			q.lastRead = q.now()
			if q.off == len(q.buf) {
				q.off = 0
				if cap(q.buf) > slowBytes {
					q.buf = nil // a burst must not stay allocated for ever
				} else {
					q.buf = q.buf[:0]
				}
			}
			return n, nil
		}
		switch {
		case q.closed:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		// Deadlines are absolute wall-clock times set by callers with time.Now.
		if !q.deadline.IsZero() {
			left := time.Until(q.deadline)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			q.armLocked(left)
		}
		q.wake.Wait()
	}
}

// armLocked has the waiting reader woken after d. The timer is made only by a
// reader that really waits, because go-redis sets a deadline for every command
// and most replies are there at once.
func (q *queue) armLocked(d time.Duration) {
	if q.timer == nil {
		q.timer = time.AfterFunc(d, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.wake.Broadcast()
		})
		return
	}
	q.timer.Reset(d)
}

func (q *queue) write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, io.ErrClosedPipe
	}
	if q.limit > 0 {
		waiting := len(q.buf) - q.off
		if waiting == 0 {
			q.lastRead = q.now() // a reader that took everything is not slow
		} else if waiting+len(p) > q.limit ||
			waiting > slowBytes && q.now().Sub(q.lastRead) > slowAfter {
			q.closeLocked(true)
			return 0, ErrSlowReader
		}
	}
	if q.off > 0 && len(q.buf)+len(p) > cap(q.buf) {
		q.buf = q.buf[:copy(q.buf, q.buf[q.off:])]
		q.off = 0
	}
	q.buf = append(q.buf, p...)
	q.wake.Signal()
	return len(p), nil
}

func (q *queue) setDeadline(t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deadline = t
	q.wake.Broadcast()
}

func (q *queue) close(discard bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closeLocked(discard)
}

func (q *queue) closeLocked(discard bool) {
	q.closed = true
	if discard {
		q.buf, q.off = nil, 0
	}
	if q.timer != nil {
		q.timer.Stop()
	}
	q.wake.Broadcast()
}
