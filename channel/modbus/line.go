package modbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	gb "github.com/goburrow/modbus"

	"github.com/voltageems/voltage/channel"
)

// line is the connection that the units of a bus share. It is there as long as
// at least one of them is attached, and carries one request at a time.
type line struct {
	name           string // for errors
	dial           func(context.Context) (net.Conn, error)
	frame          func(net.Conn) wire // puts the framing on what dial made
	rtu            bool                // unit 0 is all units, and nobody answers
	connectTimeout time.Duration
	delay          time.Duration // pause after each request

	mu       sync.Mutex
	conn     wire     // nil while there is none
	dialing  *dialing // the attempt under way
	attached map[*member]struct{}
	heard    uint64 // counts requests to which the connection brought anything
	busy     bool   // a request is under way, or the pause after it
	commands []*lane
	polls    []*lane
}

// wire is a connection with a framing: conn of Modbus TCP, rtuConn of RTU. Of
// its errors, those that wrap channel.ErrNotConnected mean that it cannot be
// used any more.
type wire interface {
	exchange(ctx context.Context, timeout time.Duration, unit byte, request *gb.ProtocolDataUnit, command bool) (exchanged, error)
	Close() error
}

// member is a unit's share in a line.
type member struct {
	unit byte
	mute bool // it never answers, being all units at once
	// silentAt is line.heard when the unit was last found silent, plus one.
	silentAt uint64
}

// lane is what one sequence of requests needs: a unit's polls are one, its
// commands another. It serves one request at a time.
type lane struct {
	command bool // goes ahead of polls
	turn    chan struct{}
	request gb.ProtocolDataUnit
	answer  []byte // of the last read
}

func newLane(command bool) *lane { return &lane{command: command, turn: make(chan struct{}, 1)} }

// dialing is an attempt to connect, whose outcome all who wait for it share.
type dialing struct {
	done   chan struct{}
	err    error
	broken bool // off, because the context of who dialled ended
}

// attach makes the connection, unless it is there, and adds m to those who
// hold it.
func (l *line) attach(ctx context.Context, m *member) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		l.mu.Lock()
		if l.conn != nil {
			l.attached[m] = struct{}{}
			l.mu.Unlock()
			return nil
		}
		if l.dialing == nil {
			l.dialing = &dialing{done: make(chan struct{})}
			l.mu.Unlock()
			return l.connect(ctx, m)
		}
		d := l.dialing
		l.mu.Unlock()
		select {
		case <-d.done:
			if d.err != nil && !d.broken {
				return d.err
			}
		case <-ctx.Done():
		}
	}
}

// connect dials for all who wait for l.dialing.
func (l *line) connect(ctx context.Context, m *member) error {
	limited, cancel := context.WithTimeout(ctx, l.connectTimeout)
	defer cancel()
	c, err := l.dial(limited)
	if err == nil && ctx.Err() != nil {
		_ = c.Close()
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", channel.ErrNotConnected, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.conn = l.frame(c)
		l.attached[m] = struct{}{}
	}
	d := l.dialing
	l.dialing = nil
	d.err, d.broken = err, ctx.Err() != nil
	close(d.done)
	return err
}

// detach ends m's hold on the connection, and the connection with the last.
func (l *line) detach(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.attached, m)
	if len(l.attached) == 0 {
		l.dropLocked()
	}
}

// silent notes that m does not answer. When none of those attached was heard
// since, it is the connection that is dead, though it does not say so.
func (l *line) silent(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.silentAt = l.heard + 1
	for other := range l.attached {
		if !other.mute && other.silentAt != l.heard+1 {
			return
		}
	}
	l.dropLocked()
}

func (l *line) dropLocked() {
	if l.conn != nil {
		// The connection is given up; there is nothing to do about an error.
		_ = l.conn.Close()
		l.conn = nil
	}
}

// exchange sends the lane's request to m's unit when its turn comes and leaves
// what a read brought in the lane's answer. It reports whether anything left.
func (l *line) exchange(ctx context.Context, m *member, ln *lane, timeout time.Duration) (sent bool, err error) {
	if err := l.acquire(ctx, ln); err != nil {
		return false, err
	}
	defer l.release()
	return l.exchangeHeld(ctx, m, ln, timeout)
}

// exchangeHeld is exchange for who holds the line.
func (l *line) exchangeHeld(ctx context.Context, m *member, ln *lane, timeout time.Duration) (sent bool, err error) {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c == nil {
		return false, fmt.Errorf("%w: the connection was lost", channel.ErrNotConnected)
	}
	x, err := c.exchange(ctx, timeout, m.unit, &ln.request, ln.command)
	ln.answer = append(ln.answer[:0], x.data...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if x.heard {
		l.heard++
	}
	if errors.Is(err, channel.ErrNotConnected) && l.conn == c {
		l.dropLocked()
	}
	return x.sent, err
}

// acquire waits until the line is free for the lane: commands in the order in
// which they came, then polls in theirs.
func (l *line) acquire(ctx context.Context, ln *lane) error {
	l.mu.Lock()
	if err := ctx.Err(); err != nil {
		l.mu.Unlock()
		return err
	}
	if !l.busy {
		l.busy = true
		l.mu.Unlock()
		return nil
	}
	queue := l.queue(ln)
	*queue = append(*queue, ln)
	l.mu.Unlock()
	select {
	case <-ln.turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(*queue, ln); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
	} else {
		<-ln.turn // it came meanwhile; hand it on
		l.nextLocked()
	}
	return ctx.Err()
}

func (l *line) queue(ln *lane) *[]*lane {
	if ln.command {
		return &l.commands
	}
	return &l.polls
}

// release gives the line to the next, after the pause that devices may need.
func (l *line) release() {
	if l.delay > 0 {
		time.AfterFunc(l.delay, l.next)
		return
	}
	l.next()
}

func (l *line) next() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextLocked()
}

func (l *line) nextLocked() {
	for _, queue := range []*[]*lane{&l.commands, &l.polls} {
		if len(*queue) > 0 {
			ln := (*queue)[0]
			*queue = slices.Delete(*queue, 0, 1)
			ln.turn <- struct{}{} // has room: a lane waits once at a time
			return
		}
	}
	l.busy = false
}
