package modbus

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	gb "github.com/goburrow/modbus"

	"github.com/voltageems/voltage/channel"
)

const (
	headerSize = 7   // transaction, protocol, length, unit
	minLength  = 2   // of the length field: unit and function
	maxLength  = 254 // unit and a PDU of 253 bytes
)

// conn is one TCP connection with the framing of Modbus TCP. One request at a
// time is under way on it, which its line sees to.
type conn struct {
	stream
	r      *bufio.Reader
	framer *gb.TCPClientHandler // its packager only
	issued uint32               // how many transaction ids were used on this connection, at most all of them
}

// stream is a connection whose I/O the end of a context cuts short.
type stream struct {
	net.Conn
	mu    sync.Mutex
	epoch uint64 // counts requests, so that a late interruption hits no later one
}

func newConn(c net.Conn) *conn {
	return &conn{stream: stream{Conn: c}, r: bufio.NewReaderSize(c, 2*(headerSize+maxLength)), framer: gb.NewTCPClientHandler("")}
}

// exchanged is what became of a request.
type exchanged struct {
	data  []byte // of a read; valid until the next request
	sent  bool   // at least one byte left
	heard bool   // the connection brought at least one whole frame
}

// exchange sends a request and waits for its answer, up to timeout and no
// longer than ctx. An error that wraps channel.ErrNotConnected means that the
// connection cannot be used any more; all others leave it in order, and the
// answer, should it still come, is dropped by its transaction id.
func (c *conn) exchange(ctx context.Context, timeout time.Duration, unit byte, request *gb.ProtocolDataUnit, command bool) (exchanged, error) {
	var x exchanged
	if err := ctx.Err(); err != nil {
		return x, err
	}
	deadline := time.Now().Add(timeout)
	byContext, bounded := ctx.Deadline()
	bounded = bounded && byContext.Before(deadline)
	if bounded {
		deadline = byContext
	}
	defer c.guard(ctx, deadline)()

	// A peer that closed the connection while it was idle makes the command
	// fail before it is sent, not leave its fate open.
	if command && !alive(c.Conn) {
		return x, fmt.Errorf("%w: closed by the peer", channel.ErrNotConnected)
	}
	c.framer.SlaveId = unit
	frame, err := c.framer.Encode(request)
	if err != nil {
		return x, err
	}
	c.issued = min(c.issued+1, 1<<16)
	n, err := c.Write(frame)
	x.sent = n > 0
	if err != nil && !x.sent && ctx.Err() != nil {
		return x, ctx.Err()
	}
	if err != nil {
		// What a part of a frame would do to the next one is open.
		return x, c.lost(err)
	}
	for {
		answer, err := c.receive(frame)
		if err == nil {
			x.heard = true
			if answer == nil {
				continue // to an earlier request
			}
			if err := c.framer.Verify(frame, answer); err != nil {
				return x, fmt.Errorf("%w: unit %d in place of %d", ErrAnswer, answer[6], unit)
			}
			pdu, err := c.framer.Decode(answer)
			if err != nil {
				return x, fmt.Errorf("%w: %w", ErrAnswer, err)
			}
			x.data, err = checkAnswer(request, pdu)
			return x, err
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return x, c.lost(err)
		}
		err = expired(ctx, bounded, timeout)
		if c.r.Buffered() > 0 {
			// The rest of a frame that stops half way may never come, and what
			// comes then would be taken for it.
			return x, fmt.Errorf("%w: answer stops after %d bytes: %w", channel.ErrNotConnected, c.r.Buffered(), err)
		}
		return x, err
	}
}

// expired says why a request's time is over: its context ended, the context's
// deadline came before the timeout (bounded), or the timeout itself passed.
func expired(ctx context.Context, bounded bool, timeout time.Duration) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case bounded:
		return context.DeadlineExceeded
	}
	return fmt.Errorf("%w, %s", ErrTimeout, timeout)
}

// guard sets the deadline of a request and lets the end of ctx cut it short.
// The function that it returns ends that.
func (c *stream) guard(ctx context.Context, deadline time.Time) func() {
	c.mu.Lock()
	c.epoch++
	epoch := c.epoch
	// On a closed connection this fails, and so does what follows.
	_ = c.SetDeadline(deadline)
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.epoch == epoch {
			_ = c.SetDeadline(time.Unix(1, 0))
		}
	})
	return func() {
		c.mu.Lock()
		c.epoch++
		c.mu.Unlock()
		stop()
	}
}

// receive returns the next frame if it has the request's transaction id, and
// nil if it is the answer to an earlier request of this connection: late, or
// there twice. The frame is valid until the next call. Nothing is taken from
// the stream until a frame is complete.
func (c *conn) receive(request []byte) ([]byte, error) {
	header, err := c.r.Peek(headerSize)
	if err != nil {
		return nil, err
	}
	if protocol := binary.BigEndian.Uint16(header[2:]); protocol != 0 {
		return nil, fmt.Errorf("garbage: protocol id %d in place of 0", protocol)
	}
	length := int(binary.BigEndian.Uint16(header[4:]))
	if length < minLength || length > maxLength {
		return nil, fmt.Errorf("garbage: length %d, want %d to %d", length, minLength, maxLength)
	}
	got, want := binary.BigEndian.Uint16(header), binary.BigEndian.Uint16(request)
	age := uint32(want - got)
	if age >= c.issued {
		return nil, fmt.Errorf("garbage: transaction id %d was never sent, %d was last", got, want)
	}
	size := headerSize - 1 + length
	frame, err := c.r.Peek(size)
	if err != nil {
		return nil, err
	}
	if _, err := c.r.Discard(size); err != nil {
		return nil, err
	}
	if age != 0 {
		return nil, nil
	}
	return frame, nil
}

// lost makes an error that says that the connection is gone.
func (c *stream) lost(cause error) error {
	if errors.Is(cause, io.EOF) {
		return fmt.Errorf("%w: closed by the peer", channel.ErrNotConnected)
	}
	return fmt.Errorf("%w: %w", channel.ErrNotConnected, cause)
}
