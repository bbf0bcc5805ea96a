package runner

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	for range 1000 {
		first := backoff(0, maxBackoff)
		require.GreaterOrEqual(t, first, 50*time.Millisecond)
		require.LessOrEqual(t, first, 100*time.Millisecond)
		require.LessOrEqual(t, backoff(60, maxBackoff), maxBackoff)
		require.GreaterOrEqual(t, backoff(60, maxBackoff), maxBackoff/2)
	}
	require.NotEqual(t, [3]time.Duration{backoff(9, maxBackoff), backoff(9, maxBackoff), backoff(9, maxBackoff)},
		[3]time.Duration{backoff(9, maxBackoff), backoff(9, maxBackoff), backoff(9, maxBackoff)}, "with jitter")
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	var dead atomic.Bool
	var last atomic.Int64 // clock at the last Connect
	d.onConnect = func(context.Context) error {
		last.Store(clock.Now().UnixNano())
		if dead.Load() {
			return fmt.Errorf("%w: no route", channel.ErrNotConnected)
		}
		return nil
	}
	r := s.run(d, withClock(clock))
	d.feed <- []model.Sample{sample("1", 1)}
	s.waitValue("p1", "1")

	// The device dies: the first failed try to reconnect tells.
	dead.Store(true)
	lost := clock.Now()
	d.down <- struct{}{}
	r.waitState(model.ChannelOffline)
	turn(t, clock, 10*time.Millisecond, "the values are not known", func() bool { return s.value("p1") == "1 offline" })
	require.LessOrEqual(t, time.Duration(last.Load()-lost.UnixNano()), 200*time.Millisecond, "the first retry comes soon")
	require.Contains(t, r.Status().LastError, "no route")

	// It stays dead for an hour: the tries get rare.
	before, from := d.connects.Load(), clock.Now()
	turn(t, clock, 2*time.Second, "ten more tries", func() bool { return d.connects.Load() > before+10 })
	require.Greater(t, clock.Now().Sub(from), time.Minute)
	require.Equal(t, []string{"1", "1 offline"}, s.history("p1"), "said once")

	// It lives again.
	dead.Store(false)
	turn(t, clock, time.Second, "connected again", func() bool { return r.Status().State == model.ChannelOnline })
	require.Equal(t, "1 offline", s.value("p1"), "a connection alone is no value")
	d.feed <- []model.Sample{sample("1", 1)}
	s.waitValue("p1", "1")
	require.Equal(t, int64(1), r.Status().Reconnects)
	require.Zero(t, d.overlaps.Load())

	// After a success the backoff begins anew.
	connects, at := d.connects.Load(), clock.Now()
	d.down <- struct{}{}
	turn(t, clock, 10*time.Millisecond, "connected a third time", func() bool { return d.connects.Load() > connects })
	require.LessOrEqual(t, time.Duration(last.Load()-at.UnixNano()), 200*time.Millisecond)
	require.Equal(t, d.connects.Load()-1, d.closes.Load(), "closed before every new connection")
}

func TestSilenceTurnsStale(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	r := s.run(d, withClock(clock), withStale(0)) // the default: three scans of a second
	d.feed <- []model.Sample{sample("1", 1), sample("2", 5)}
	s.waitValue("p1", "1")
	clock.Advance(2 * time.Second)
	d.feed <- []model.Sample{sample("1", 2)}
	s.waitValue("p1", "2")
	clock.Advance(2 * time.Second) // two since the last
	d.feed <- []model.Sample{sample("1", 3)}
	s.waitValue("p1", "3")
	require.Equal(t, []string{"1", "2", "3"}, s.history("p1"))
	from := clock.Now()
	turn(t, clock, 100*time.Millisecond, "silence is seen", func() bool { return r.Status().State == model.ChannelOffline })
	require.GreaterOrEqual(t, clock.Now().Sub(from), 3*time.Second)
	s.waitValue("p1", "3 stale")
	s.waitValue("p2", "5 stale")
	clock.Advance(time.Minute)
	d.feed <- []model.Sample{sample("1", 3), {Point: "2", Value: 6, Quality: model.Substituted}}
	s.waitValue("p1", "3")
	s.waitValue("p2", "6 substituted")
	require.Equal(t, []string{"1", "2", "3", "3 stale", "3"}, s.history("p1"), "once each")
	r.waitState(model.ChannelOnline)
	require.Equal(t, int64(1), d.connects.Load(), "silence is no reason to reconnect")
}

// A device that hangs in Connect is as dead as one that is silent.
func TestHangingConnect(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	d.onConnect = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	r := s.run(d, withClock(clock), withStale(0))
	from := clock.Now()
	turn(t, clock, 100*time.Millisecond, "marked", func() bool { return s.value("p1") == "0 offline" })
	require.GreaterOrEqual(t, clock.Now().Sub(from), 3*time.Second)
	turn(t, clock, 500*time.Millisecond, "it is given up and tried again", func() bool { return d.connects.Load() > 1 })
	require.GreaterOrEqual(t, clock.Now().Sub(from), r.connectTimeout())
	require.Contains(t, r.Status().LastError, "deadline")
}

func TestReadErrorsDoNotSpin(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	var mode atomic.Int64
	d.onRead = func(ctx context.Context) ([]model.Sample, error) {
		switch mode.Load() {
		case 0:
			return nil, errors.New("checksum")
		case 1:
			return nil, nil
		}
		return d.readFeed(ctx)
	}
	r := s.run(d, withClock(clock))
	for m := range int64(2) {
		mode.Store(m)
		reads, from := d.reads.Load(), clock.Now()
		turn(t, clock, 50*time.Millisecond, "more reads", func() bool { return d.reads.Load() >= reads+4 })
		require.GreaterOrEqual(t, clock.Now().Sub(from), 3*250*time.Millisecond, "a pause before each")
	}
	require.Contains(t, r.Status().LastError, "checksum")
	require.Positive(t, r.Status().Errors)
	mode.Store(2)
	reads := d.reads.Load()
	turn(t, clock, 50*time.Millisecond, "one more", func() bool { return d.reads.Load() > reads })
	d.feed <- []model.Sample{sample("1", 4)}
	s.waitValue("p1", "4")
	require.Equal(t, int64(1), d.connects.Load(), "only ErrNotConnected makes a new connection")
}

func TestPanicsAreContained(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	var step atomic.Int64
	d.onConnect = func(context.Context) error {
		if step.Add(1) == 1 {
			panic("in Connect")
		}
		return nil
	}
	d.onRead = func(ctx context.Context) ([]model.Sample, error) {
		if step.Load() == 2 {
			panic("in Read")
		}
		return d.readFeed(ctx)
	}
	d.onWrite = func(context.Context, channel.Write) (channel.Outcome, error) { panic("in Write") }
	d.onClose = func(context.Context) error { panic("in Close") }
	r := s.run(d, withClock(clock))
	turn(t, clock, 50*time.Millisecond, "three connections", func() bool { return d.connects.Load() == 3 })
	d.feed <- []model.Sample{sample("1", 4)}
	s.waitValue("p1", "4")
	require.Contains(t, r.Status().LastError, "in Read")
	require.Equal(t, "unknown not_confirmed", s.final(s.submit(r, 1, time.Minute)))
	d.feed <- []model.Sample{sample("1", 5)}
	s.waitValue("p1", "5")
	r.stop()
	require.Equal(t, "5 offline", s.value("p1"))
}
