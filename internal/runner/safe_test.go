package runner

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

// wantSelect has the control selected before it is operated.
func wantSelect(_ *Config, ch *channel.Config) { ch.Points[3].Select = true }

// longLease keeps a test that turns the clock from losing the channel when the
// machine is slow.
func longLease(cfg *Config, _ *channel.Config) { cfg.Lease = 1000 * time.Hour }

func TestSelectBeforeOperate(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Plane: newSite(t, storetest.Embedded(t)).plane, Engine: "e"}, channel.Config{ID: "c1",
		Points: []model.Point{{ID: "9", Kind: model.Control, Select: true}}, Driver: func(channel.Setup) (channel.Driver, error) { return newFake(), nil }})
	require.ErrorIs(t, err, model.ErrInvalid, "a driver that cannot select never operates such a point")
	require.ErrorContains(t, err, "channel c1: point 9: select")

	clock := channeltest.NewClock(t)
	for name, c := range map[string]struct {
		out  channel.Outcome
		err  error
		pass time.Duration
		want string
	}{
		"selected": {channel.Outcome{Result: channel.Done}, nil, 0, "verified"},
		"refused":  {channel.Outcome{Result: channel.Refused}, errors.New("busy"), 0, "failed refused"},
		"silent":   {channel.Outcome{Result: channel.Sent}, context.DeadlineExceeded, 0, "failed not_selected"},
		"gone":     {channel.Outcome{}, fmt.Errorf("%w: gone", channel.ErrNotConnected), 0, "failed not_connected"},
		"too late": {channel.Outcome{Result: channel.Done}, nil, 2 * time.Minute, "expired timeout"},
	} {
		s := newSite(t, storetest.Embedded(t))
		d := &selecting{fake: newFake()}
		d.onSelect = func(_ context.Context, w channel.Write) (channel.Outcome, error) {
			require.Equal(t, 5.0, w.Value)
			require.Zero(t, d.writes.Load(), "before it is operated")
			clock.Advance(c.pass)
			return c.out, c.err
		}
		r := s.run(d, withClock(clock), wantSelect)
		r.waitState(model.ChannelOnline)
		id := s.submit(r, 5, time.Minute)
		require.Equal(t, c.want, s.final(id), name)
		require.Equal(t, int64(1), d.selects.Load(), name)
		require.Equal(t, c.want == "verified", d.writes.Load() == 1, name)
		if c.err != nil {
			require.Equal(t, "select: "+c.err.Error(), s.command(id).Detail)
		}
		r.stop()
	}
}

// failsafes returns the safe values in the journal: "started verified 0".
func (s *site) failsafes() (list []string) {
	s.t.Helper()
	journal, err := s.plane.CommandJournal(context.Background(), "", 1000)
	require.NoError(s.t, err)
	for _, e := range journal {
		if e.Origin == "failsafe" {
			list = append(list, fmt.Sprint(e.Reason, " ", e.State, " ", e.Value))
		}
	}
	return list
}

func (s *site) waitFailsafes(want ...string) {
	s.t.Helper()
	var last []string
	require.Eventually(s.t, func() bool { last = s.failsafes(); return len(last) >= len(want) }, patience, 2*time.Millisecond, "%v", want)
	require.Equal(s.t, want, last)
}

// waiting gives a command while nobody runs the channel any more.
func (s *site) waiting(value float64) string {
	s.t.Helper()
	lease, err := s.plane.Acquire(context.Background(), "c1", "before", time.Minute)
	require.NoError(s.t, err)
	id := s.submit(nil, value, time.Hour)
	require.NoError(s.t, s.plane.Release(context.Background(), lease))
	return id
}

// After a start the safe value goes first, once the device is there; commands
// that waited, wait for it.
func TestSafeValueAfterStart(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, d := newSiteWith(t, client, nil, model.ControlPolicy{Safe: new(1.0)}), newFake()
		id := s.waiting(2)
		connect := make(chan struct{})
		d.onConnect = func(ctx context.Context) error {
			select {
			case <-connect:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r := s.run(d)
		eventually(t, "owned", func() bool { return s.owner() != "" })
		require.Equal(t, model.CommandQueued, s.command(id).State)
		close(connect)
		require.Equal(t, "verified", s.final(id))
		require.Equal(t, []float64{1, 2}, d.written())
		s.waitFailsafes("started executing 1", "started verified 1")
		require.Equal(t, int64(2), r.Status().Commands)
		require.Equal(t, "verified", s.final(s.submit(r, 3, time.Minute)))
		require.Equal(t, []float64{1, 2, 3}, d.written(), "once")
	})
}

// A device that is away, refuses, or does not take the value in time.
func TestSafeValueThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s, d := newSiteWith(t, storetest.Embedded(t), nil, model.ControlPolicy{Safe: new(1.0)}), newFake()
	var away atomic.Bool
	away.Store(true)
	d.onConnect = func(context.Context) error {
		if away.Load() {
			return errors.New("no route")
		}
		return nil
	}
	answers := []channel.Outcome{{}, {Result: channel.Sent}, {Result: channel.Refused}, {Result: channel.Confirmed}}
	d.onWrite = func(_ context.Context, w channel.Write) (channel.Outcome, error) {
		out := answers[0]
		answers = answers[1:]
		return out, nil
	}
	r := s.run(d)
	r.waitState(model.ChannelOffline)
	require.Equal(t, "failed not_connected", s.final(s.submit(r, 5, time.Minute)), "promptly")
	away.Store(false)
	r.waitState(model.ChannelOnline)
	require.Equal(t, "verified", s.final(s.submit(r, 6, time.Minute)), "what the device refuses holds nothing up for ever")
	require.Equal(t, []float64{1, 1, 1, 6}, d.written())
	s.waitFailsafes("started executing 1", "refused failed 1")

	// a safe value that the point does not take
	s, d = newSiteWith(t, storetest.Embedded(t), nil, model.ControlPolicy{Safe: new(1000.0)}), newFake()
	r = s.run(d)
	r.waitState(model.ChannelOnline)
	require.Equal(t, "verified", s.final(s.submit(r, 6, time.Minute)))
	require.Equal(t, []float64{6}, d.written())
	s.waitFailsafes("started executing 1000", "limit failed 1000")
}

// A value stands only while somebody stands behind it.
func TestHold(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		clock := channeltest.NewClock(t)
		s, d := newSiteWith(t, client, clock, model.ControlPolicy{Safe: new(0.0), Hold: 5 * time.Minute}), newFake()
		r := s.run(d, withClock(clock), longLease)
		s.waitFailsafes("started executing 0", "started verified 0")
		give := func(value float64) {
			t.Helper()
			require.Equal(t, "verified", s.final(s.submit(r, value, 50*time.Minute)))
		}
		give(50)
		clock.Advance(4 * time.Minute)
		give(50) // the same value
		clock.Advance(4 * time.Minute)
		require.NoError(t, s.plane.Alive(t.Context(), "go"))
		clock.Advance(4 * time.Minute) // asks the store
		give(51)
		require.Equal(t, []float64{0, 50, 50, 51}, d.written())
		turn(t, clock, time.Minute, "the source is lost", func() bool { return d.writes.Load() == 5 })
		s.waitFailsafes("started executing 0", "started verified 0", "source_lost executing 0", "source_lost verified 0")
		for range 10 {
			clock.Advance(time.Minute)
		}
		give(52) // it is back
		require.Equal(t, []float64{0, 50, 50, 51, 0, 52}, d.written(), "once")
	})
}

// What was given holds over a change of the owner, for what is left of its time.
func TestHoldOverTakeover(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSiteWith(t, storetest.Embedded(t), clock, model.ControlPolicy{Safe: new(0.0), Hold: 5 * time.Minute}), newFake()
	r := s.run(d, withClock(clock), longLease)
	s.waitFailsafes("started executing 0", "started verified 0")
	require.Equal(t, "verified", s.final(s.submit(r, 50, time.Minute)))
	r.stop()
	clock.Advance(3 * time.Minute)
	next := newFake()
	r = s.run(next, withClock(clock), longLease)
	r.waitState(model.ChannelOnline)
	require.Equal(t, "verified", s.final(s.submit(r, 51, time.Minute)))
	require.Equal(t, []float64{51}, next.written(), "it held")
	r.stop()
	clock.Advance(5 * time.Minute)
	last := newFake()
	r = s.run(last, withClock(clock), longLease)
	r.waitState(model.ChannelOnline)
	eventually(t, "it does not hold any more", func() bool { return last.writes.Load() == 1 })
	require.Equal(t, []float64{0}, last.written())
}

// While the store does not answer, the safe value is written before the time on
// the channel is over, once, and journalled when the store is back.
func TestSafeValueWhenTheStoreIsLost(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{true, false} {
		t.Run(fmt.Sprint("back in time ", back), func(t *testing.T) {
			t.Parallel()
			clock := channeltest.NewClock(t)
			s, d := newSiteWith(t, storetest.Embedded(t), nil, model.ControlPolicy{Safe: new(0.0)}), newFake()
			slow := second(t, s.client)
			net := intercept(slow)
			r := s.run(d, withPlane(s.newPlane(slow)), withClock(clock), longLease)
			s.waitFailsafes("started executing 0", "started verified 0")
			eventually(t, "renewed", func() bool { return net.count("renew") > 0 })
			require.Equal(t, "verified", s.final(s.submit(r, 50, time.Minute)))
			release := net.block("")
			defer release()
			id := s.submit(nil, 60, 50*time.Minute) // that the runner cannot see
			r.Wake()
			eventually(t, "the lane waits for the store", func() bool { return net.waits("xread") || net.waits("claim") })
			// A request that was under way has brought the command already: then its time is over with the clock's.
			brought := net.waits("claim")
			clock.Advance(599 * time.Hour)
			require.Equal(t, int64(2), d.writes.Load())
			clock.Advance(time.Hour)
			eventually(t, "written", func() bool { return d.writes.Load() == 3 })
			require.Equal(t, []float64{0, 50, 0}, d.written())
			require.Zero(t, d.closes.Load(), "while it is the owner")
			want := []string{"started executing 0", "started verified 0", "store_lost verified 0"}
			if !back {
				turn(t, clock, time.Hour, "the session ends", func() bool { return d.closes.Load() > 0 })
				want = append(want, "started executing 0", "started verified 0")
			}
			release()
			if back {
				turn(t, clock, time.Second, "renewed", func() bool { return s.command(id).State.Final() })
			} else {
				turn(t, clock, time.Second, "owned again", func() bool { return s.command(id).State.Final() })
			}
			written := []float64{0, 50, 0}
			if !back {
				written = append(written, 0)
			}
			if state := s.final(id); state != "expired timeout" || !brought {
				require.Equal(t, "verified", state)
				written = append(written, 60)
			}
			require.Equal(t, written, d.written())
			eventually(t, "journalled", func() bool { return len(s.failsafes()) == len(want) })
			require.ElementsMatch(t, want, s.failsafes())
		})
	}
}

func TestSafeValueAtStop(t *testing.T) {
	t.Parallel()
	for _, onStop := range []bool{true, false} {
		s, d := newSiteWith(t, storetest.Embedded(t), nil, model.ControlPolicy{Safe: new(0.0), SafeOnStop: onStop}), newFake()
		d.onClose = func(context.Context) error {
			require.Len(t, d.written(), map[bool]int{true: 3, false: 2}[onStop], "before the driver is closed")
			return nil
		}
		r := s.run(d)
		s.waitFailsafes("started executing 0", "started verified 0")
		require.Equal(t, "verified", s.final(s.submit(r, 50, time.Minute)))
		r.stop()
		if onStop {
			require.Equal(t, []float64{0, 50, 0}, d.written())
			s.waitFailsafes("started executing 0", "started verified 0", "stopped verified 0")
		} else {
			require.Equal(t, []float64{0, 50}, d.written())
		}
		require.Empty(t, s.owner(), "the channel is given back")
	}
}

// A policy that comes while the channel runs counts from then.
func TestPolicyThatChanges(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSiteWith(t, storetest.Embedded(t), clock, model.ControlPolicy{}), newFake()
	r := s.run(d, withClock(clock), longLease)
	r.waitState(model.ChannelOnline)
	require.Equal(t, "verified", s.final(s.submit(r, 50, time.Minute)))
	put := func(p map[string]model.ControlPolicy) {
		require.NoError(t, s.plane.PutModel(t.Context(), model.Instance{ID: "pcs1", Controls: map[string]string{"set": "c1:9"}, Policies: p}))
		r.Redefined()
	}
	put(map[string]model.ControlPolicy{"set": {Safe: new(-5.0), Hold: 45 * time.Minute}})
	turn(t, clock, time.Minute, "written", func() bool { return d.writes.Load() == 2 })
	require.Equal(t, []float64{50, -5}, d.written())
	require.Equal(t, "verified", s.final(s.submit(r, 60, 50*time.Minute)))
	put(map[string]model.ControlPolicy{"set": {Safe: new(-6.0), Hold: time.Minute}}) // another value and time
	turn(t, clock, 30*time.Second, "written", func() bool { return d.writes.Load() == 4 })
	require.Equal(t, []float64{50, -5, 60, -6}, d.written())
	put(nil)
	require.Equal(t, "verified", s.final(s.submit(r, 61, 50*time.Minute)))
	require.Equal(t, []float64{50, -5, 60, -6, 61}, d.written())
}
