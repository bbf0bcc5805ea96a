package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// Sensor returns the Factory of a driver for the sensor at host:port. The
// address of a point is the sensor's name for it, such as "temperature".
func Sensor(hostport string) channel.Factory {
	return func(s channel.Setup) (channel.Driver, error) {
		for _, p := range s.Points { // check everything now, connect later
			if p.Text || p.Address == "" || strings.ContainsAny(p.Address, " \r\n") {
				return nil, fmt.Errorf("%w: point %s: address %q: want one word, for a number", model.ErrInvalid, p.ID, p.Address)
			}
		}
		return &sensor{hostport: hostport, setup: s, turn: make(chan struct{}, 1)}, nil
	}
}

type sensor struct {
	hostport string
	setup    channel.Setup
	next     time.Time            // when the next round of Read is due
	turn     chan struct{}        // held for one request; who waits longest is next
	link     atomic.Pointer[link] // nil before Connect and after Close
}

// link is one connection.
type link struct {
	net.Conn
	lines *bufio.Reader
	once  sync.Once
	ended chan struct{}
}

func (l *link) end() { l.once.Do(func() { _ = l.Close(); close(l.ended) }) }

func (d *sensor) Connect(ctx context.Context) error {
	dialer := net.Dialer{Timeout: d.setup.Timeout}
	conn, err := dialer.DialContext(ctx, "tcp", d.hostport)
	if err != nil {
		return d.notConnected("connect", err)
	}
	d.next = d.setup.Clock.Now()
	d.link.Store(&link{Conn: conn, lines: bufio.NewReaderSize(conn, 256), ended: make(chan struct{})})
	return nil
}

func (d *sensor) Close(context.Context) error {
	if l := d.link.Swap(nil); l != nil {
		l.end()
	}
	return nil
}

// notConnected wraps ErrNotConnected, by which the runner knows that it has to
// connect again.
func (d *sensor) notConnected(what string, err error) error {
	return fmt.Errorf("channel %s: %s: %w: %w", d.setup.ID, what, channel.ErrNotConnected, err)
}

// ask sends one request and returns the answer. sent says whether the device
// may have got it. A request without an answer ends the connection: the answer
// may still come, and would be taken for that of the next request.
func (d *sensor) ask(ctx context.Context, request string) (answer string, sent bool, err error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
	l := d.link.Load()
	if l == nil {
		return "", false, d.notConnected(request, net.ErrClosed)
	}
	if ctx.Err() != nil { // select picks by chance when both are ready
		return "", false, ctx.Err()
	}
	defer context.AfterFunc(ctx, l.end)() // the context ends a request under way
	_ = l.SetDeadline(time.Now().Add(d.setup.Timeout))
	n, err := l.Write([]byte(request + "\n"))
	var line []byte
	if err == nil {
		line, err = l.lines.ReadSlice('\n') // a line above 256 bytes is an error, too
	}
	if err != nil {
		l.end()
		return "", n > 0, d.notConnected(request, err)
	}
	return strings.TrimSpace(string(line)), true, nil
}

// Read polls every point, at once after Connect and then once per Scan.
func (d *sensor) Read(ctx context.Context) ([]model.Sample, error) {
	l := d.link.Load()
	if l == nil {
		return nil, d.notConnected("read", net.ErrClosed)
	}
	now := d.setup.Clock.Now()
	if wait := d.next.Sub(now); wait > 0 {
		select {
		case <-d.setup.Clock.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.ended:
			return nil, d.notConnected("read", net.ErrClosed)
		}
	} else {
		d.next = now // late: go on from here, without catching up
	}
	d.next = d.next.Add(d.setup.Scan)
	samples := make([]model.Sample, len(d.setup.Points))
	for i, p := range d.setup.Points {
		answer, _, err := d.ask(ctx, "READ "+p.Address)
		if err != nil {
			return nil, err
		}
		raw, err := strconv.ParseFloat(answer, 64)
		samples[i] = model.Sample{Point: p.ID, Value: p.Value(raw)}
		if err != nil || !model.Storable(samples[i].Value) {
			samples[i] = model.Sample{Point: p.ID, Quality: model.Invalid} // the others are fine
		}
	}
	return samples, nil
}

// Write makes the driver a channel.Writer.
func (d *sensor) Write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	raw := strconv.FormatFloat(w.Point.Raw(w.Value), 'f', -1, 64)
	answer, sent, err := d.ask(ctx, "WRITE "+w.Point.Address+" "+raw)
	switch {
	case err != nil && sent: // the device may have acted, and the engine must know
		return channel.Outcome{Result: channel.Sent}, err
	case err != nil:
		return channel.Outcome{Result: channel.NotSent}, err
	case answer != "OK":
		return channel.Outcome{Result: channel.Refused}, fmt.Errorf("point %s: the sensor answers %q", w.Point.ID, answer)
	case !w.Point.ReadBack:
		return channel.Outcome{Result: channel.Done}, nil
	}
	// Done is certain from here on; what can still fail is only the read-back.
	answer, _, err = d.ask(ctx, "READ "+w.Point.Address)
	if err != nil {
		return channel.Outcome{Result: channel.Done}, err
	}
	got, err := strconv.ParseFloat(answer, 64)
	if back := w.Point.Value(got); err == nil && w.Point.Matches(w.Value, back) {
		return channel.Outcome{Result: channel.Confirmed, ReadBack: &back}, nil
	}
	return channel.Outcome{Result: channel.Done}, fmt.Errorf("point %s: wrote %v, read back %q", w.Point.ID, w.Value, answer)
}
