package runner

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

// Whatever hangs, Run ends. That it ends at all is what these tests decide on;
// how long it may take is in the constants.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	sum := stopTime + releaseTime + resultGrace
	require.LessOrEqual(t, sum, 1700*time.Millisecond)
	require.Less(t, flushTime, stopTime)

	t.Run("Close hangs", func(t *testing.T) {
		t.Parallel()
		s, d := newSite(t, storetest.Embedded(t)), newFake()
		hang := make(chan struct{})
		d.onClose = func(context.Context) error { <-hang; return nil }
		defer close(hang)
		r := s.run(d)
		d.feed <- []model.Sample{sample("1", 1)}
		r.stop()
		require.Equal(t, "1 offline", s.value("p1"))
		require.Empty(t, s.owner())
		require.Equal(t, "stopped", s.stored("state"))
	})

	t.Run("Read does not obey until Close", func(t *testing.T) {
		t.Parallel()
		s, d := newSite(t, storetest.Embedded(t)), newFake()
		closed := make(chan struct{})
		d.onRead = func(context.Context) ([]model.Sample, error) { <-closed; return nil, channel.ErrNotConnected }
		d.onClose = func(context.Context) error {
			select {
			case <-closed:
			default:
				close(closed)
			}
			return nil
		}
		r := s.run(d)
		eventually(t, "it reads", func() bool { return d.reads.Load() > 0 })
		r.stop()
		require.Equal(t, "0 offline", s.value("p1"))
		require.Empty(t, s.owner())
	})

	t.Run("Read never returns", func(t *testing.T) {
		t.Parallel()
		s, d := newSite(t, storetest.Embedded(t)), newFake()
		hang := make(chan struct{})
		d.onRead = func(context.Context) ([]model.Sample, error) { <-hang; return nil, channel.ErrNotConnected }
		defer close(hang)
		r := s.run(d)
		eventually(t, "it reads", func() bool { return d.reads.Load() > 0 })
		r.stop()
		require.Equal(t, "0 offline", s.value("p1"))
		require.Equal(t, r.name, s.owner(), "who knows what the driver still does: the lease runs out by itself")
		require.Equal(t, model.ChannelStopped, r.Status().State)
	})

	t.Run("the store is dead", func(t *testing.T) {
		t.Parallel()
		server := storetest.Own(t)
		s, d := newSite(t, storetest.Client(t, server.URL)), newFake()
		r := s.run(d)
		d.feed <- []model.Sample{sample("1", 1)}
		s.waitValue("p1", "1")
		server.Kill()
		r.stop()
		require.Equal(t, int64(1), d.closes.Load())
		require.Positive(t, r.Status().Lost, "the marks could not be stored")
	})

	t.Run("the store hangs", func(t *testing.T) {
		t.Parallel()
		server := storetest.Own(t)
		s, d := newSite(t, storetest.Client(t, server.URL)), newFake()
		r := s.run(d)
		d.feed <- []model.Sample{sample("1", 1)}
		s.waitValue("p1", "1")
		server.Pause()
		d.feed <- []model.Sample{sample("1", 2)}
		r.stop()
		require.Equal(t, int64(1), d.closes.Load())
		server.Resume()
	})

	t.Run("before the channel was ever owned", func(t *testing.T) {
		t.Parallel()
		s, d := newSite(t, storetest.Embedded(t)), newFake()
		owner := s.run(newFake())
		owner.waitState(model.ChannelOnline)
		r := s.run(d)
		r.waitState(model.ChannelStandby)
		r.stop()
		require.Zero(t, d.connects.Load())
		require.Equal(t, owner.name, s.owner())
		require.Equal(t, model.ChannelStopped, r.Status().State)
	})
}

// A Write that is under way at the stop may end, and its result is stored.
func TestStopLetsAWriteEnd(t *testing.T) {
	t.Parallel()
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	begun := d.holdWrite(t)
	r := s.run(d)
	r.waitState(model.ChannelOnline)
	id := s.submit(r, 1, time.Minute)
	<-begun
	second := s.submit(r, 2, time.Minute)
	r.stop()
	require.Equal(t, "unknown not_confirmed", s.final(id))
	require.Equal(t, model.CommandQueued, s.command(second).State, "nothing new is begun")
	require.Empty(t, s.owner())
}

// A driver that hung through the end of a session is not used by the next one
// until it returns.
func TestHungDriverIsNotUsedTwice(t *testing.T) {
	t.Parallel()
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	hang := make(chan struct{})
	d.onRead = func(ctx context.Context) ([]model.Sample, error) {
		if d.reads.Load() == 1 {
			<-hang
			return nil, channel.ErrNotConnected
		}
		return d.readFeed(ctx)
	}
	r := s.run(d)
	eventually(t, "it hangs", func() bool { return d.reads.Load() == 1 })
	require.NoError(t, s.client.FlushAll(context.Background()).Err())
	eventually(t, "the next session says so", func() bool { return r.Status().LastError == errBusy.Error() })
	s.waitValue("p1", "0 offline")
	require.Equal(t, int64(1), d.connects.Load())
	close(hang)
	d.feed <- []model.Sample{sample("1", 1)}
	s.waitValue("p1", "1")
	require.Zero(t, d.overlaps.Load())
}
