package channeltest

import (
	"context"
	"errors"
	"strings"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

func factoryDoesNoIO(c *check) {
	c.tb.Helper()
	if c.peer.Stop != nil {
		c.peer.Stop() // a Factory that dials fails now
	}
	d := c.open(c.setup(model.SystemClock, c.h.Timeout))
	c.noGoroutines("after the Factory, which starts nothing")
	d.close() // Close may be called at any time, so also before Connect
}

func factoryRefusesBadAddresses(c *check) {
	c.tb.Helper()
	for _, p := range c.h.BadAddresses {
		made := call(c, "Factory", func() result {
			d, err := c.peer.Factory(c.setup(model.SystemClock, c.h.Timeout, p))
			return result{driver: d, err: err}
		})
		if made.err == nil {
			c.tb.Fatalf("Factory took point %s with address %q", p.ID, p.Address)
		}
		if !strings.Contains(made.err.Error(), p.ID) {
			c.tb.Fatalf("Factory: the error does not name point %q: %v", p.ID, made.err)
		}
	}
}

func connectAndRead(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, c.h.Timeout)
	d.readAll()
	d.readAll() // and it goes on
	d.close()
	c.noGoroutines("after Close")

	d.connect() // the same driver again, as the runner does
	d.readAll()
	d.close()
}

func connectAfterContext(c *check) {
	c.tb.Helper()
	d := c.open(c.setup(model.SystemClock, never))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.tryConnect(ctx); err == nil {
		c.tb.Fatalf("Connect succeeded although its context had ended")
	}
	c.noGoroutines("after a Connect that failed")
	d.connect()
	d.readAll()
	d.close()
}

func connectWithoutPeer(c *check) {
	c.tb.Helper()
	c.peer.Stop()
	d := c.open(c.setup(model.SystemClock, c.h.Timeout))
	for range 3 {
		if err := d.tryConnect(context.Background()); err == nil {
			c.tb.Fatalf("Connect succeeded without a peer")
		}
		c.noGoroutines("after a Connect that failed")
	}
	d.close() // may follow a failed Connect
	c.peer.Restart()
	d.connect()
	d.readAll()
	d.close()
}

// connectFrozen allows Connect to succeed: with a peer that only listens there
// may be nothing to wait for.
func connectFrozen(c *check) {
	c.tb.Helper()
	c.peer.Freeze()
	d := c.open(c.setup(model.SystemClock, never))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	connecting := begin(c, func() error { return d.Driver.Connect(ctx) })
	settle()
	cancel()
	if err := await(c, "Connect after its context ended", connecting); err != nil {
		c.noGoroutines("after a Connect that failed")
	}
	d.close()
}

func connectAndClose(c *check) {
	c.tb.Helper()
	d := c.open(c.setup(model.SystemClock, c.h.Timeout))
	for range 5 {
		connecting := begin(c, func() error { return d.Driver.Connect(context.Background()) })
		closing := begin(c, func() error { return d.Driver.Close(context.Background()) })
		_ = await(c, "Connect", connecting) // either may come first
		_ = await(c, "Close", closing)
		d.close()
		c.noGoroutines("after Close")
	}
	d.connect()
	d.readAll()
	d.close()
}

func readPaces(c *check) {
	c.tb.Helper()
	clock := NewClock(c.tb)
	d := c.connected(clock, never)
	p := d.pump()
	before, readsBefore := 0, 0
	for range 4 {
		c.eventually("the next round after Setup.Clock advanced by Setup.Scan, and the wait on the clock after it", p, func() bool {
			rounds, reads := p.seen(c.h.Points)
			if most := 100 + 10*len(d.setup.Points); reads-readsBefore > most {
				c.tb.Fatalf("%d Reads returned although the clock stood still: Read must pace itself by Setup.Scan and Setup.Clock", most)
			}
			return rounds > before && clock.dueWithin(c.h.Scan)
		})
		before, readsBefore = p.seen(c.h.Points)
		clock.Advance(c.h.Scan)
	}
	p.finish(c)
	d.close()
}

func readEndsWithContext(c *check) {
	c.tb.Helper()
	clock := NewClock(c.tb)
	d := c.connected(clock, never)
	p := d.pump()
	c.eventually("the first round", p, func() bool {
		rounds, _ := p.seen(c.h.Points)
		// A driver that polls waits now, and nothing but the context ends that.
		return rounds > 0 && (c.h.Spontaneous || clock.dueWithin(c.h.Scan))
	})
	p.finish(c)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	await(c, "Read with a context that had ended", d.beginRead(ctx))
	d.afterBrokenOff(clock)
	d.close()
}

func readFrozenEndsWithContext(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, never)
	d.readAll()
	c.peer.Freeze()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reading := begin(c, func() error {
		for ctx.Err() == nil {
			if _, err := d.Driver.Read(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	settle()
	cancel()
	_ = await(c, "Read from a silent peer after its context ended", reading)
	d.close()
}

// afterBrokenOff reads once after a Read was broken off: the driver goes on, or
// says that it has to connect again. It must not do anything else.
func (d *driver) afterBrokenOff(clock *Clock) {
	d.tb.Helper()
	reading := d.beginRead(context.Background())
	settle()
	clock.Advance(d.h.Scan)
	if d.h.Spontaneous {
		return // the device may have nothing more to say; Close ends this Read
	}
	r := await(d.check, "Read after one that was broken off", reading)
	if r.err != nil && !errors.Is(r.err, channel.ErrNotConnected) {
		d.tb.Fatalf("Read after one that was broken off by its context: %v; want samples or ErrNotConnected", r.err)
	}
}

func readUnreadable(c *check) {
	c.tb.Helper()
	d := c.open(c.setup(model.SystemClock, c.h.Timeout, c.h.Unreadable...))
	d.connect()
	missing := func(latest map[string]model.Sample) string {
		for _, p := range c.h.Unreadable {
			s, ok := latest[p.ID]
			if ok && s.Quality.Usable() {
				return "point " + p.ID + ", which cannot be read, has quality " + s.Quality.String()
			}
			if !ok {
				return "point " + p.ID + ", which cannot be read, never came"
			}
		}
		return d.wrong(latest)
	}
	d.readUntil("every point came, good or bad", func(l map[string]model.Sample) bool { return missing(l) == "" }, missing)
	d.close()
}

func readUnconnected(c *check) {
	c.tb.Helper()
	d := c.open(c.setup(model.SystemClock, c.h.Timeout))
	if _, err := d.read(context.Background()); !errors.Is(err, channel.ErrNotConnected) {
		c.tb.Fatalf("Read before Connect: %v, want ErrNotConnected", err)
	}
	d.connect()
	d.close()
	if _, err := d.read(context.Background()); !errors.Is(err, channel.ErrNotConnected) {
		c.tb.Fatalf("Read after Close: %v, want ErrNotConnected", err)
	}
}

func vanishAndRecover(c *check) {
	c.tb.Helper()
	d := c.connected(model.SystemClock, c.h.Timeout)
	for range 2 {
		d.readAll()
		c.peer.Stop()
		d.readUntilGone()
		if _, err := d.read(context.Background()); !errors.Is(err, channel.ErrNotConnected) {
			c.tb.Fatalf("Read after it had reported ErrNotConnected: %v, want it again", err)
		}
		d.hangUp()
		c.noGoroutines("after Close")
		c.peer.Restart()
		d.connect()
	}
	d.readAll()
	d.close()
}

func closeIsIdempotent(c *check) {
	c.tb.Helper()
	d := c.open(c.setup(model.SystemClock, c.h.Timeout))
	d.close() // before Connect
	d.connect()
	d.readAll()
	d.close()
	d.close()
	c.noGoroutines("after Close")

	// A Close without time left still ends the connection.
	d.connect()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = call(c, "Close with a context that had ended", func() error { return d.Driver.Close(ctx) })
	c.noGoroutines("after a Close with a context that had ended")
	d.close()

	d.connect()
	var closing []<-chan error
	for range 4 {
		closing = append(closing, begin(c, func() error { return d.Driver.Close(context.Background()) }))
	}
	for _, done := range closing {
		if err := await(c, "one of several Closes at a time", done); err != nil {
			c.tb.Fatalf("Close beside another: %v", err)
		}
	}
}

func closeEndsRead(c *check) {
	c.tb.Helper()
	clock := NewClock(c.tb)
	d := c.connected(clock, never)
	p := d.pump()
	c.eventually("the first round", p, func() bool {
		rounds, _ := p.seen(c.h.Points)
		return rounds > 0 && (c.h.Spontaneous || clock.dueWithin(c.h.Scan))
	})
	d.close()
	if err := await(c, "Read after Close", p.done); !errors.Is(err, channel.ErrNotConnected) {
		c.tb.Fatalf("Read that Close ended: %v, want ErrNotConnected", err)
	}
	p.stop()
	c.noGoroutines("after Close")
	d.connect()
	d.close()
}
