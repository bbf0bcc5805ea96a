package runner

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

// withHeartbeat gives the channel a point for it.
func withHeartbeat(limit int) option {
	return func(_ *Config, ch *channel.Config) {
		ch.Points = append(ch.Points, model.Point{ID: "h", Kind: model.Control})
		ch.Heartbeat = &channel.Heartbeat{Point: "h", Every: time.Minute, Max: limit}
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int][]float64{0: {0, 1, 0, 1, 0}, 3: {0, 1, 2, 3, 0}} {
		clock := channeltest.NewClock(t)
		s, d := newSite(t, storetest.Embedded(t)), newFake()
		r := s.run(d, withClock(clock), longLease, withHeartbeat(limit))
		turn(t, clock, time.Minute, "beats", func() bool { return r.Status().Beats >= 5 })
		require.Equal(t, want, d.written()[:5])
		require.Zero(t, r.Status().Commands)
		journal, err := s.plane.CommandJournal(t.Context(), "", 10)
		require.NoError(t, err)
		require.Empty(t, journal)
		r.stop()
	}
}

// It stops with everything that the engine is there for: samples, the
// connection, the store.
func TestHeartbeatStops(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	slow := second(t, s.client)
	net := intercept(slow)
	var dead atomic.Bool
	d.onConnect = func(context.Context) error {
		if dead.Load() {
			return errors.New("no route")
		}
		return nil
	}
	r := s.run(d, withPlane(s.newPlane(slow)), withClock(clock), longLease, withHeartbeat(0), withStale(10*time.Minute))
	r.waitState(model.ChannelOnline)
	beats := func() int64 { return r.Status().Beats }
	quiet := func(why string) {
		t.Helper()
		before := beats()
		for range 5 { // each time the clock was turned the beat had its turn
			clock.BlockUntil(3)
			clock.Advance(time.Minute)
		}
		require.LessOrEqual(t, beats(), before+1, why) // one may have been under way
	}
	quiet("no sample came yet")
	require.Zero(t, beats())
	d.feed <- []model.Sample{sample("1", 1)}
	turn(t, clock, time.Minute, "it beats", func() bool { return beats() >= 2 })
	for range 12 {
		clock.Advance(time.Minute)
	}
	quiet("the device is silent")
	d.feed <- []model.Sample{sample("1", 2)}
	before := beats()
	turn(t, clock, 10*time.Second, "it beats again", func() bool { return beats() > before })
	dead.Store(true)
	d.down <- struct{}{}
	r.waitState(model.ChannelOffline)
	quiet("the device is not connected")
	dead.Store(false)
	turn(t, clock, 10*time.Second, "connected", func() bool { return r.Status().State == model.ChannelOnline })
	d.feed <- []model.Sample{sample("1", 3)}
	before = beats()
	turn(t, clock, 10*time.Second, "it beats again", func() bool { return beats() > before })
	defer net.block("")()
	clock.Advance(601 * time.Hour)
	d.feed <- []model.Sample{sample("1", 4)}
	quiet("the store does not answer")
}

// A beat under way does not make a command fail.
func TestHeartbeatAndCommands(t *testing.T) {
	t.Parallel()
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	begun, goOn := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	d.onWrite = func(_ context.Context, w channel.Write) (channel.Outcome, error) {
		if w.Point.ID == "h" && first.CompareAndSwap(false, true) {
			close(begun)
			<-goOn
		}
		return channel.Outcome{Result: channel.Confirmed, ReadBack: &w.Value}, nil
	}
	r := s.run(d, withHeartbeat(0))
	<-begun
	id := s.submit(r, 5, time.Minute)
	eventually(t, "claimed", func() bool { return s.command(id).State == model.CommandExecuting })
	close(goOn)
	require.Equal(t, "verified", s.final(id))
	require.Equal(t, []float64{0, 5}, d.written())
}
