package modbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	gb "github.com/goburrow/modbus"

	"github.com/voltageems/voltage/channel"
)

const (
	// junkSilence is how long a line must be silent after bytes that nobody
	// asked for. USB adapters and gateways deliver a frame in pieces up to
	// 16 ms apart.
	junkSilence = 20 * time.Millisecond
	// turnaround is the time that units have to carry out a broadcast.
	turnaround = 100 * time.Millisecond
	// answerTime is how long a line is left alone for the answer to a request
	// for which nobody waits any more.
	answerTime = time.Second
)

// errEarlier is an exception that does not tell to which request it is the answer.
var errEarlier = fmt.Errorf("%w: an exception that may be to an earlier request", ErrAnswer)

// errBroadcast is what a request to unit 0 ends with.
var errBroadcast = errors.New("sent to all units, which do not answer")

// pace is what a line with RTU framing remembers from one request to the next,
// also when its connection is made anew.
type pace struct {
	char    time.Duration // that one character takes; 0 where a gateway sees to the timing
	silence time.Duration // between two frames: 3.5 characters
	free    time.Time     // when the next request may begin
	doubts  doubts
}

// rtuConn is a serial line, or a TCP connection to one, with RTU framing. One
// request at a time is under way on it, which its line sees to.
type rtuConn struct {
	stream
	pace *pace
	out  []byte // the request
	in   []byte // what came and is not looked through
	room [2 * maxRTUSize]byte
}

func newRTUConn(c net.Conn, p *pace) *rtuConn { return &rtuConn{stream: stream{Conn: c}, pace: p} }

// exchange is that of conn for RTU, with one request.
func (c *rtuConn) exchange(ctx context.Context, timeout time.Duration, unit byte, asks []ask, _ bool) (exchanged, error) {
	x, err := c.single(ctx, timeout, unit, &asks[0].request)
	if err != nil && (errors.Is(err, channel.ErrNotConnected) || ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)) {
		return x, err
	}
	asks[0].end(x.data, err)
	return x, nil
}

// single serves a request. Where an answer to an earlier request could be taken
// for the answer to this one, it first asks the unit something else. When that
// is not answered, nothing else is sent.
func (c *rtuConn) single(ctx context.Context, timeout time.Duration, unit byte, request *gb.ProtocolDataUnit) (exchanged, error) {
	var heard bool
	if probe, ok := c.pace.doubts.probe(unit, request, time.Now()); ok && unit != 0 {
		x, err := c.transact(ctx, timeout, unit, &probe)
		if errors.Is(err, errEarlier) {
			if probe, ok := c.pace.doubts.another(unit, time.Now()); ok {
				x, err = c.transact(ctx, timeout, unit, &probe)
			}
		}
		if !answered(err) {
			var ex *Exception
			if errors.As(err, &ex) {
				err = fmt.Errorf("%w: %w", ErrTimeout, err)
			}
			return exchanged{heard: x.heard}, fmt.Errorf("after a request without an answer: %w", err)
		}
		heard = x.heard
	}
	x, err := c.transact(ctx, timeout, unit, request)
	x.heard = x.heard || heard
	return x, err
}

// answered reports whether an error, or none, stands for an answer of the unit.
func answered(err error) bool {
	var ex *Exception
	return err == nil || errors.As(err, &ex) && !unanswered(err)
}

// transact sends one request and waits for its answer.
func (c *rtuConn) transact(ctx context.Context, timeout time.Duration, unit byte, request *gb.ProtocolDataUnit) (exchanged, error) {
	var x exchanged
	if err := c.settle(ctx, timeout); err != nil {
		return x, err
	}
	deadline := time.Now().Add(timeout)
	byContext, bounded := ctx.Deadline()
	if bounded = bounded && byContext.Before(deadline); bounded {
		deadline = byContext
	}
	c.guard(ctx, deadline)
	defer c.unguard()
	earlier := c.pace.doubts.open(unit, request.FunctionCode, 0, time.Now())
	c.out = appendRTU(c.out[:0], unit, request)
	n, err := c.Write(c.out)
	x.sent = n > 0
	sent := time.Now().Add(c.pace.char * time.Duration(len(c.out)))
	if unit == 0 {
		c.pace.free = sent.Add(turnaround)
	} else if x.sent {
		// Until an answer comes, it may come at any time, and to send then
		// would destroy both.
		c.pace.free = sent.Add(min(timeout, answerTime))
		c.pace.doubts.add(unit, request, sent)
	}
	if err != nil {
		return x, c.unwritten(ctx, bounded, x.sent, err)
	}
	if unit == 0 {
		return x, errBroadcast
	}
	c.in = c.in[:0]
	var skipped error
	for {
		n, err := c.Read(c.room[:maxRTUSize])
		c.in = append(c.in, c.room[:n]...)
		if n > 0 {
			data, done, err := c.search(unit, request, &x, &skipped)
			if done {
				if ex := exception(err); earlier && ex != nil {
					err = fmt.Errorf("%w: %s", errEarlier, ex)
				}
				c.finish(unit, request, err)
				x.data = data
				return x, err
			}
		}
		switch {
		case err == nil && n == 0:
			return x, c.lost(errors.New("the line is gone"))
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = expired(ctx, bounded, timeout)
			if errors.Is(context.Cause(ctx), errCut) {
				// Others do not wait for an answer that hardly comes. If it does
				// after all, it is told by its unit, or by the doubts.
				c.pace.free = time.Now().Add(c.pace.silence)
			}
			if len(c.in) > 0 {
				err = fmt.Errorf("%w, only the begin of an answer (%s)", err, counted(len(c.in), "byte"))
				if soon := time.Now().Add(max(c.pace.silence, junkSilence)); c.pace.free.Before(soon) {
					c.pace.free = soon
				}
			}
			if skipped != nil {
				err = fmt.Errorf("%w; before that: %w", err, skipped)
			}
			return x, err
		default:
			return x, c.lost(err)
		}
	}
}

// finish notes what an answer means for the next request.
func (c *rtuConn) finish(unit byte, request *gb.ProtocolDataUnit, err error) {
	now := time.Now()
	c.pace.free = now.Add(c.pace.silence)
	if answered(err) {
		c.pace.doubts.clear(unit)
	}
	if len(c.in) > 0 || !answered(err) {
		// More came than one answer, and the rest of it may be under way.
		c.pace.free = now.Add(max(c.pace.silence, junkSilence))
		c.pace.doubts.add(unit, request, now)
	}
}

// search looks for the answer in what came. What cannot be a part of it is
// dropped: whole frames that belong to others or to earlier requests, and bytes
// with which no frame begins. It never looks inside a frame that is whole or
// may become whole.
func (c *rtuConn) search(unit byte, request *gb.ProtocolDataUnit, x *exchanged, skipped *error) (data []byte, done bool, err error) {
	wanted := wantedLength(request)
	b := c.in
	defer func() { c.in = b }()
	for len(b) > 0 {
		n := answerLength(b)
		if n == 0 || n > len(b) {
			return nil, false, nil
		}
		if n < 0 || !validRTU(b[:n]) {
			if n == wanted && b[0] == unit && b[1] == request.FunctionCode {
				x.heard = true
				return nil, true, fmt.Errorf("%w: wrong checksum", ErrAnswer)
			}
			*skipped = fmt.Errorf("%w: garbage", ErrAnswer)
			b = b[1:]
			continue
		}
		frame := b[:n]
		b = b[n:]
		x.heard = true
		if frame[0] != unit {
			x.late = alsoAlive(x.late, frame)
			*skipped = fmt.Errorf("%w: unit %d in place of %d", ErrAnswer, frame[0], unit)
			continue
		}
		data, err = checkAnswer(request, &gb.ProtocolDataUnit{FunctionCode: frame[1], Data: frame[2 : n-2]})
		if !errors.Is(err, ErrAnswer) {
			return data, true, err
		}
		*skipped = err
	}
	return nil, false, nil
}

// settle waits until the line is free and throws away what came in between. It
// gives up when the line is not silent for as long as timeout.
func (c *rtuConn) settle(ctx context.Context, timeout time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.guard(ctx, time.Time{})
	defer c.unguard()
	now := time.Now()
	limit := now.Add(timeout)
	if c.pace.free.After(now) {
		limit = c.pace.free.Add(timeout)
	}
	for {
		n, err := drain(c.Conn, c.room[:])
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return c.lost(err)
		}
		now = time.Now()
		if n > 0 {
			c.pace.free = now.Add(max(c.pace.silence, junkSilence))
		}
		pause := c.pace.free.Sub(now)
		if pause <= 0 {
			return nil
		}
		if now.After(limit) {
			return fmt.Errorf("%w: the line was never silent for %s", ErrTimeout, timeout)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// ended is what reading nothing without an error means.
func ended(n int) error {
	if n == 0 {
		return io.EOF
	}
	return nil
}
