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

// conn is one TCP connection with the framing of Modbus TCP. One batch of
// requests at a time is under way on it, which its line sees to.
type conn struct {
	stream
	r      *bufio.Reader
	out    []byte
	last   uint16    // transaction id
	issued uint32    // how many of them were used on this connection, at most all of them
	owed   time.Time // when a request of it was last left without its answer, which may come yet
	kept   []byte    // an answer while more is waited for
}

// stream is a connection whose I/O can be cut short.
type stream struct {
	net.Conn
	mu     sync.Mutex
	active bool // a request is under way
	cut    bool // and it was cut short
}

func newConn(c net.Conn) *conn {
	return &conn{stream: stream{Conn: c}, r: bufio.NewReaderSize(c, 2*(headerSize+maxLength))}
}

// exchanged is what became of requests.
type exchanged struct {
	data  []byte // of a read with RTU framing; valid until the next request
	sent  bool   // at least one byte left
	heard bool   // the connection brought at least one whole frame
	late  byte   // the unit of one that answers no request under way; 0 for none
}

// appendTCP appends the frame of a request.
func appendTCP(b []byte, id uint16, unit byte, pdu *gb.ProtocolDataUnit) []byte {
	b = binary.BigEndian.AppendUint16(b, id)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(pdu.Data)))
	return append(append(b, unit, pdu.FunctionCode), pdu.Data...)
}

// exchange sends the requests in one piece and waits for their answers, which
// may come in any order: up to timeout for the first and then, as devices work
// off one after the other, up to timeout for each next one, and no longer than
// ctx. An error that wraps channel.ErrNotConnected means that the connection
// cannot be used any more; all others leave it in order, and what is still
// answered is dropped by its transaction id.
func (c *conn) exchange(ctx context.Context, timeout time.Duration, unit byte, asks []ask, command bool) (exchanged, error) {
	var x exchanged
	until := func() (deadline time.Time, bounded bool) {
		deadline = time.Now().Add(timeout)
		if byContext, ok := ctx.Deadline(); ok && byContext.Before(deadline) {
			return byContext, true
		}
		return deadline, false
	}
	deadline, bounded := until()
	c.guard(ctx, deadline)
	defer c.unguard()

	// A peer that closed the connection while it was idle makes the command
	// fail before it is sent, not leave its fate open.
	if command && !alive(c.Conn) {
		return x, fmt.Errorf("%w: %w", channel.ErrNotConnected, errPeerClosed)
	}
	if err := ctx.Err(); err != nil {
		return x, err
	}
	c.out = c.out[:0]
	for k := range asks {
		c.last++
		asks[k].id = c.last
		c.out = appendTCP(c.out, c.last, unit, &asks[k].request)
	}
	c.issued = min(c.issued+uint32(len(asks)), 1<<16)
	n, err := c.Write(c.out)
	x.sent = n > 0
	if err != nil {
		// What a part of a frame would do to the next one is open.
		return x, c.unwritten(ctx, bounded, x.sent, err)
	}
	whole := false // a frame that had begun when the request was cut short is waited for
	left := len(asks)
	defer func() {
		if left > 0 {
			c.owed = time.Now()
		}
	}()
	for left > 0 {
		answer, pieces, err := c.receive()
		switch {
		case err == nil:
			x.heard = true
			a := waiting(asks, binary.BigEndian.Uint16(answer))
			if a != nil && pieces && time.Since(c.owed) < doubtTime {
				answer = c.linger(answer, deadline)
			}
			if a != nil && !c.follows() {
				return x, fmt.Errorf("%w: garbage: an answer that another one completed", channel.ErrNotConnected)
			}
			if a == nil { // to an earlier request, or there twice
				x.late = alsoAlive(x.late, answer[headerSize-1:])
				if whole { // that was the frame
					whole = false
					c.extend(past, true)
				}
				continue
			}
			a.take(unit, answer)
			if left--; left > 0 {
				deadline, bounded = until()
				c.extend(deadline, false)
			}
			continue
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return x, c.lost(err)
		case c.r.Buffered() > 0 && !whole && errors.Is(context.Cause(ctx), errCut):
			whole = true
			c.extend(deadline, true)
			continue
		}
		err = expired(ctx, bounded, timeout)
		if c.r.Buffered() > 0 {
			// The rest of a frame that stops half way may never come, and what
			// comes then would be taken for it.
			return x, fmt.Errorf("%w: answer stops after %d bytes: %w", channel.ErrNotConnected, c.r.Buffered(), err)
		}
		if !errors.Is(err, ErrTimeout) {
			return x, err
		}
		for k := range asks {
			if !asks[k].done {
				asks[k].end(nil, err)
			}
		}
		return x, nil
	}
	return x, nil
}

// alsoAlive returns the unit of an answer that nobody waits for, or the one before
// it where it is a gateway that answers for a unit which does not.
func alsoAlive(before byte, answer []byte) byte {
	if answer[1]&0x80 != 0 && len(answer) > 2 && unanswered(&Exception{Code: answer[2]}) {
		return before
	}
	return answer[0]
}

// waiting returns the request with a transaction id, if it waits for its answer.
func waiting(asks []ask, id uint16) *ask {
	for k := range asks {
		if asks[k].id == id && !asks[k].done {
			return &asks[k]
		}
	}
	return nil
}

// take ends a request with the frame that has its transaction id.
func (a *ask) take(unit byte, frame []byte) {
	if frame[headerSize-1] != unit {
		a.end(nil, fmt.Errorf("%w: unit %d in place of %d", ErrAnswer, frame[headerSize-1], unit))
		return
	}
	a.end(checkAnswer(&a.request, &gb.ProtocolDataUnit{FunctionCode: frame[headerSize], Data: frame[headerSize+1:]}))
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

// guard sets the deadline of a request, which interrupt cuts short from now on
// until unguard is called. Where ctx has ended already it is cut short at once.
func (c *stream) guard(ctx context.Context, deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active, c.cut = true, ctx.Err() != nil
	if c.cut {
		deadline = past
	}
	// On a closed connection this fails, and so does what follows.
	_ = c.SetDeadline(deadline)
}

func (c *stream) unguard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active = false
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// interrupt cuts short the request under way, after its context has ended.
func (c *stream) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.active {
		return
	}
	c.cut = true
	if _, secured := c.Conn.(*tlsConn); secured {
		_ = c.SetReadDeadline(past) // TLS does not get over a write that was cut short
	} else {
		_ = c.SetDeadline(past)
	}
}

// extend moves the deadline of the request under way; force also where it was
// cut short.
func (c *stream) extend(deadline time.Time, force bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if force || !c.cut {
		_ = c.SetDeadline(deadline)
	}
}

// receive returns the next frame, which answers a request of this connection, if
// maybe an earlier one, and whether it came in pieces. It is valid until the next
// call. Nothing is taken from the stream until a frame is complete.
func (c *conn) receive() (frame []byte, pieces bool, err error) {
	header, err := c.r.Peek(headerSize)
	if err != nil {
		return nil, false, err
	}
	if err := c.checkHeader(header); err != nil {
		return nil, false, err
	}
	size := headerSize - 1 + int(binary.BigEndian.Uint16(header[4:]))
	pieces = c.r.Buffered() < size
	if frame, err = c.r.Peek(size); err != nil {
		return nil, false, err
	}
	if _, err := c.r.Discard(size); err != nil {
		return nil, false, err
	}
	return frame, pieces, nil
}

// checkHeader says what is wrong with a header, as far as it is there.
func (c *conn) checkHeader(header []byte) error {
	if n := len(header); n >= 2 {
		if got := binary.BigEndian.Uint16(header); uint32(c.last-got) >= c.issued {
			return fmt.Errorf("garbage: transaction id %d was never sent, %d was last", got, c.last)
		}
	}
	if len(header) >= 4 {
		if protocol := binary.BigEndian.Uint16(header[2:]); protocol != 0 {
			return fmt.Errorf("garbage: protocol id %d in place of 0", protocol)
		}
	}
	if len(header) >= 6 {
		if length := int(binary.BigEndian.Uint16(header[4:])); length < minLength || length > maxLength {
			return fmt.Errorf("garbage: length %d, want %d to %d", length, minLength, maxLength)
		}
	}
	return nil
}

// linger waits for what may come right after an answer that came in pieces, and
// returns the answer, kept apart. The request's deadline holds again afterwards.
func (c *conn) linger(answer []byte, deadline time.Time) []byte {
	c.kept = append(c.kept[:0], answer...)
	c.extend(time.Now().Add(junkSilence), false)
	_, _ = c.r.Peek(c.r.Buffered() + 1) // nothing more is as good
	c.extend(deadline, false)
	return c.kept
}

// follows reports whether what came after a frame can be the begin of another. A
// device that sends less than the length it announces would otherwise have its
// answer completed by the next one, with a header in place of values.
func (c *conn) follows() bool {
	n := c.r.Buffered()
	if n == 0 {
		return true
	}
	b, _ := c.r.Peek(min(n, headerSize+2)) // it is there
	if c.checkHeader(b) != nil {
		return false
	}
	if n <= headerSize {
		return true
	}
	length, function := int(binary.BigEndian.Uint16(b[4:])), b[headerSize]
	switch {
	case function&0x80 != 0:
		return length == 3
	case function == gb.FuncCodeMaskWriteRegister:
		return length == 8
	case function <= gb.FuncCodeReadInputRegisters || function == gb.FuncCodeReadWriteMultipleRegisters:
		return function > 0 && (n <= headerSize+1 || length == 3+int(b[headerSize+1]))
	}
	return length == 6
}

// unwritten is the error of a request that could not be sent. Where its time was
// over before its first byte left, the connection stays in order; not with TLS,
// which writes nothing any more once a write has failed.
func (c *stream) unwritten(ctx context.Context, bounded, sent bool, err error) error {
	_, secured := c.Conn.(*tlsConn)
	switch {
	case sent || secured:
	case ctx.Err() != nil:
		return ctx.Err()
	case bounded && errors.Is(err, os.ErrDeadlineExceeded): // the context is about to notice
		return context.DeadlineExceeded
	}
	return c.lost(err)
}

// lost makes an error that says that the connection is gone.
func (c *stream) lost(cause error) error {
	if errors.Is(cause, io.EOF) {
		return fmt.Errorf("%w: %w", channel.ErrNotConnected, errPeerClosed)
	}
	return fmt.Errorf("%w: %w", channel.ErrNotConnected, cause)
}
