package channeltest

import (
	"context"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// writer returns the driver's Writer, which a Harness with Writes promises.
func (d *driver) writer() channel.Writer {
	d.tb.Helper()
	w, ok := d.Driver.(channel.Writer)
	if !ok {
		d.tb.Fatalf("the harness has writes, and %T is no channel.Writer", d.Driver)
	}
	return w
}

func (d *driver) beginWrite(ctx context.Context, w channel.Write) <-chan result {
	d.tb.Helper()
	to := d.writer()
	return begin(d.check, func() result {
		out, err := to.Write(ctx, w)
		return result{outcome: out, err: err}
	})
}

// write writes and checks that outcome and error fit each other.
func (d *driver) write(ctx context.Context, w channel.Write) result {
	d.tb.Helper()
	r := await(d.check, "Write", d.beginWrite(ctx, w))
	d.outcome(w, r)
	return r
}

// outcome checks what holds for every outcome.
func (d *driver) outcome(w channel.Write, r result) {
	d.tb.Helper()
	out := r.outcome
	switch out.Result {
	case channel.NotSent, channel.Refused, channel.Sent:
		if r.err == nil {
			d.tb.Fatalf("Write of %v to %s: %s without an error that tells why", w.Value, w.Point.ID, out.Result)
		}
	case channel.Done:
		if w.Point.ReadBack && out.ReadBack == nil && r.err == nil {
			d.tb.Fatalf("Write of %v to %s: done, without the read-back that the point asks for or an error that tells why", w.Value, w.Point.ID)
		}
	case channel.Confirmed:
		if r.err != nil {
			d.tb.Fatalf("Write of %v to %s: confirmed, and an error: %v", w.Value, w.Point.ID, r.err)
		}
		if out.ReadBack == nil {
			d.tb.Fatalf("Write of %v to %s: confirmed without the value read back", w.Value, w.Point.ID)
		}
		if !w.Point.Matches(w.Value, *out.ReadBack) {
			d.tb.Fatalf("Write of %v to %s: confirmed, but %v was read back", w.Value, w.Point.ID, *out.ReadBack)
		}
	default:
		d.tb.Fatalf("Write of %v to %s: unknown result %s", w.Value, w.Point.ID, out.Result)
	}
}

// mustWrite writes what the device accepts.
func (d *driver) mustWrite(w channel.Write) {
	d.tb.Helper()
	d.accepted(w, d.write(context.Background(), w))
}

// accepted checks that a write arrived in the device.
func (d *driver) accepted(w channel.Write, r result) {
	d.tb.Helper()
	if r.outcome.Result < channel.Done {
		d.tb.Fatalf("Write of %v to %s: %s: %v; want done or confirmed", w.Value, w.Point.ID, r.outcome.Result, r.err)
	}
	if r.outcome.Result == channel.Done && r.err != nil {
		d.tb.Fatalf("Write of %v to %s: done, and an error: %v", w.Value, w.Point.ID, r.err)
	}
	if held, ok := d.held(w); d.peer.Held != nil && (!ok || !w.Point.Matches(w.Value, held)) {
		d.tb.Fatalf("Write of %v to %s: %s, but the device holds %v (%t)", w.Value, w.Point.ID, r.outcome.Result, held, ok)
	}
}

// held returns what the device holds, where the peer tells it.
func (d *driver) held(w channel.Write) (float64, bool) {
	if d.peer.Held == nil {
		return 0, false
	}
	return d.peer.Held(w.Point.ID)
}

// mustNotWrite writes to a driver that has no connection.
func (d *driver) mustNotWrite(w channel.Write, when string) {
	d.tb.Helper()
	before, had := d.held(w)
	r := await(d.check, "Write", d.beginWrite(context.Background(), w))
	if r.outcome.Result != channel.NotSent {
		d.tb.Fatalf("Write %s: %s (%v), want not sent", when, r.outcome.Result, r.err)
	}
	d.outcome(w, r)
	if after, has := d.held(w); had != has || before != after {
		d.tb.Fatalf("Write %s: not sent, but the device holds %v instead of %v", when, after, before)
	}
}

func writeAll(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, c.h.Timeout)
	for _, w := range c.h.Writes {
		d.mustWrite(w)
		d.readAll()
	}
	d.close()
}

// writeWhileReadWaits turns no clock, so that Read waits for its next round all
// the time: a Write must not have to wait for it.
func writeWhileReadWaits(c *check) {
	c.tb.Helper()
	clock := NewClock(c.tb)
	d := c.connected(clock, never)
	p := d.pump()
	c.eventually("the first round", p, func() bool {
		rounds, _ := p.seen(c.h.Points)
		return rounds > 0 && (c.h.Spontaneous || clock.dueWithin(c.h.Scan))
	})
	for _, w := range c.h.Writes {
		d.mustWrite(w)
	}
	p.finish(c)
	d.close()
}

func writeBesideRead(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, c.h.Timeout)
	p := d.pump()
	for range 10 {
		for _, w := range c.h.Writes {
			d.mustWrite(w)
		}
	}
	c.eventually("a round of reading beside the writes", p, func() bool {
		rounds, _ := p.seen(c.h.Points)
		return rounds > 0
	})
	p.finish(c)
	d.close()
}

func writeUnconnected(c *check) {
	c.tb.Helper()
	d := c.open(c.setup(model.SystemClock, c.h.Timeout))
	d.mustNotWrite(c.h.Writes[0], "before Connect")
	d.connect()
	d.close()
	d.mustNotWrite(c.h.Writes[0], "after Close")
	d.connect()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// Whether a byte left is the driver's to say; outcome checks the rest.
	d.write(ctx, c.h.Writes[0])
	d.close()
}

func writeVanished(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, c.h.Timeout)
	d.readAll()
	c.peer.Stop()
	d.readUntilGone()
	d.mustNotWrite(c.h.Writes[0], "after Read had reported ErrNotConnected")
	d.hangUp()
	c.peer.Restart()
	d.connect()
	d.mustWrite(c.h.Writes[0])
	d.close()
}

func writeFrozen(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, c.h.Timeout)
	d.readAll()
	c.peer.Freeze()
	r := d.write(context.Background(), c.h.Writes[0])
	if r.outcome.Result != channel.Sent {
		c.tb.Fatalf("Write to a peer that takes requests and answers nothing: %s (%v), want sent", r.outcome.Result, r.err)
	}
	d.close()
}

func writeEndsWithContext(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, never)
	d.readAll()
	c.peer.Freeze()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	writing := d.beginWrite(ctx, c.h.Writes[0])
	settle()
	cancel()
	d.brokenOff(c.h.Writes[0], await(c, "Write after its context ended", writing))
	d.close()
}

func closeEndsWrite(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, never)
	d.readAll()
	c.peer.Freeze()
	writing := d.beginWrite(context.Background(), c.h.Writes[0])
	settle()
	d.close()
	d.brokenOff(c.h.Writes[0], await(c, "Write after Close", writing))
	c.noGoroutines("after Close")
}

// brokenOff checks the outcome of a write to which no answer came.
func (d *driver) brokenOff(w channel.Write, r result) {
	d.tb.Helper()
	d.outcome(w, r)
	if r.outcome.Result != channel.Sent && r.outcome.Result != channel.NotSent {
		d.tb.Fatalf("Write that was broken off without an answer: %s (%v), want sent or not sent", r.outcome.Result, r.err)
	}
}

func writeRefused(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, c.h.Timeout)
	for _, w := range c.h.Refused {
		before, had := d.held(w)
		r := d.write(context.Background(), w)
		if r.outcome.Result != channel.Refused {
			c.tb.Fatalf("Write of %v to %s, which the device refuses: %s (%v), want refused", w.Value, w.Point.ID, r.outcome.Result, r.err)
		}
		if after, has := d.held(w); had != has || before != after {
			c.tb.Fatalf("Write of %v to %s: refused, but the device holds %v instead of %v", w.Value, w.Point.ID, after, before)
		}
	}
	d.readAll() // the connection lives on
	d.close()
}
