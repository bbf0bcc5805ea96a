package modbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	gb "github.com/goburrow/modbus"

	"github.com/voltageems/voltage/channel"
)

// line is the connection that the units of a bus share. It is there as long as
// at least one of them is attached, and carries one request at a time, or one
// batch of them.
type line struct {
	name           string // for errors
	dial           func(context.Context) (net.Conn, error)
	frame          func(net.Conn) wire // puts the framing on what dial made
	rtu            bool                // unit 0 is all units, and nobody answers
	connectTimeout time.Duration
	delay          time.Duration // pause after each request
	connectDelay   time.Duration // pause after each connect
	char, silence  time.Duration // that a character takes, and between frames, on a serial line; else 0

	mu       sync.Mutex
	conn     wire      // nil while there is none
	rest     time.Time // until when nothing is sent, after a connect
	dialing  *dialing  // the attempt under way
	attached map[*member]struct{}
	heard    uint64 // counts requests to which the connection brought anything
	served   bool   // this connection did, or the one that was lost last
	busy     bool   // a request is under way, or the pause after it
	holder   *lane  // whose request is under way; nil for none
	turns           // who waits for it
	silents         // units that do not answer, and how they give way
}

// wire is a connection with a framing: conn of Modbus TCP, rtuConn of RTU. Its
// exchange serves all of the requests and leaves in each what became of it; the
// error is one of them all. Those that wrap channel.ErrNotConnected mean that
// the connection cannot be used any more.
type wire interface {
	exchange(ctx context.Context, timeout time.Duration, unit byte, asks []ask, command bool) (exchanged, error)
	// interrupt cuts short the exchange under way. It is called after its context
	// has ended.
	interrupt()
	Close() error
}

// ask is one request and what became of it.
type ask struct {
	request gb.ProtocolDataUnit
	data    []byte // what a read brought
	err     error  // *Exception, ErrTimeout or ErrAnswer
	id      uint16 // of the transaction
	done    bool
}

// read makes it the request of a span.
func (a *ask) read(s *span) {
	a.request.FunctionCode = s.space.readFunction()
	a.request.Data = appendRead(a.request.Data[:0], s.start, s.count)
}

// end says what became of the request.
func (a *ask) end(data []byte, err error) {
	a.data, a.err, a.done = append(a.data[:0], data...), err, true
}

// member is a unit's share in a line.
type member struct {
	unit byte
	mute bool // it never answers, being all units at once
	idle bool // it is not asked for anything again and again
	// silentAt is line.heard when the unit was last found silent, plus one.
	silentAt uint64
}

// lane is what one sequence of requests needs: a unit's polls are one, its
// commands another. It serves one request, or one batch, at a time.
type lane struct {
	command bool // goes ahead of polls
	turn    chan struct{}
	request gb.ProtocolDataUnit // of exchange
	answer  []byte              // of the last read of exchange
	asks    []ask               // of ask; room for as many as may go together

	quiet int       // how often in turn there was no answer to what is asked now
	probe bool      // the unit is dead: it is tried when there is time for that
	tried time.Time // when it was, the last time

	watched <-chan struct{} // of the context whose end cuts short what is under way
	unwatch func() bool
}

func newLane(command bool) *lane {
	return &lane{command: command, turn: make(chan struct{}, 1), asks: make([]ask, 1)}
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
	asks := ln.asks[:1]
	asks[0].request = ln.request
	x, err := l.carry(ctx, m, ln, asks, timeout)
	if err != nil {
		return x.sent, err
	}
	ln.answer = append(ln.answer[:0], asks[0].data...)
	return x.sent, asks[0].err
}

// ask sends the first n of the lane's asks when its turn comes.
func (l *line) ask(ctx context.Context, m *member, ln *lane, n int, timeout time.Duration) error {
	asks := ln.asks[:n]
	reset(asks)
	if err := l.acquire(ctx, ln); err != nil {
		return err
	}
	defer l.release()
	_, err := l.carry(ctx, m, ln, asks, timeout)
	return err
}

// reset forgets what became of earlier requests.
func reset(asks []ask) {
	for k := range asks {
		asks[k].data, asks[k].err, asks[k].done = asks[k].data[:0], nil, false
	}
}

// attempt has the connection serve requests once.
func (l *line) attempt(ctx context.Context, m *member, ln *lane, asks []ask, timeout time.Duration) (exchanged, error) {
	reset(asks)
	if err := l.settled(ctx); err != nil {
		return exchanged{}, err
	}
	l.mu.Lock()
	c := l.conn
	if c == nil {
		l.mu.Unlock()
		return exchanged{}, fmt.Errorf("%w: the connection was lost", channel.ErrNotConnected)
	}
	l.watch(ctx, ln)
	l.holder = ln
	began := time.Now()
	bound, try := l.tryLocked(ctx, m, ln, began, timeout)
	l.mu.Unlock()
	x, err := c.exchange(bound, timeout, m.unit, asks, ln.command)
	if try != nil {
		err = try.ended(ctx, asks, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holder = nil
	if ln.command { // the next one has another context
		ln.forget()
	}
	l.triedLocked(try, asks, err, began, time.Now())
	if x.heard {
		l.heard++
		l.served = true
	}
	if x.late != 0 {
		l.late[x.late] = true
	}
	if errors.Is(err, channel.ErrNotConnected) && l.conn == c {
		l.dropLocked()
	}
	return x, err
}

// watch has the end of ctx cut short what is under way for the lane. The requests
// of a lane mostly have one context, so it goes on when a request has ended.
func (l *line) watch(ctx context.Context, ln *lane) {
	if ln.watched == ctx.Done() {
		return
	}
	ln.forget()
	done := ctx.Done()
	ln.watched = done
	ln.unwatch = context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.holder == ln && ln.watched == done && l.conn != nil {
			l.conn.interrupt()
		}
	})
}

// forget ends the watch.
func (ln *lane) forget() {
	if ln.unwatch != nil {
		ln.unwatch()
	}
	ln.watched, ln.unwatch = nil, nil
}

// settled waits for the end of the pause after the connect. Whoever has the
// line waits for all.
func (l *line) settled(ctx context.Context) error {
	l.mu.Lock()
	pause := time.Until(l.rest)
	l.mu.Unlock()
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rests reports whether nothing is sent yet after the connect.
func (l *line) rests() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.rest) > 0
}
