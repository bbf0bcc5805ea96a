package runner

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

// another gives the channel a second control, 8, which is written before 9.
func another(_ *Config, ch *channel.Config) {
	ch.Points = append(ch.Points, model.Point{ID: "8", Kind: model.Control})
}

// tenSeconds is a lease, of which the safe values have two in the end.
func tenSeconds(cfg *Config, _ *channel.Config) { cfg.Lease = 10 * time.Second }

// withAnother is a site whose model has two controls, with these policies.
func withAnother(t *testing.T, clock model.Clock, set, other model.ControlPolicy) *site {
	s := newSiteWith(t, storetest.Embedded(t), clock, set)
	s.defineBoth(set, other)
	return s
}

func (s *site) defineBoth(set, other model.ControlPolicy) {
	require.NoError(s.t, s.plane.PutModel(s.t.Context(), model.Instance{ID: "pcs1",
		Controls: map[string]string{"set": "c1:9", "other": "c1:8"},
		Policies: map[string]model.ControlPolicy{"set": set, "other": other}}))
	require.NoError(s.t, s.plane.PutPoints(s.t.Context(), "c1", append(testPoints(), model.Point{ID: "8", Kind: model.Control})))
}

// record has a fake note what is written as point:value, and waits for the end of
// those that slow says, as a device does that does not adopt a value.
func (f *fake) record(slow func(channel.Write) bool) (written func() []string) {
	f.onWrite = func(ctx context.Context, w channel.Write) (channel.Outcome, error) {
		f.mu.Lock()
		f.points = append(f.points, w.Point.ID+":"+model.FormatValue(w.Value)[:1])
		f.mu.Unlock()
		if slow(w) {
			<-ctx.Done()
			return channel.Outcome{Result: channel.Done}, context.Cause(ctx)
		}
		return channel.Outcome{Result: channel.Confirmed, ReadBack: &w.Value}, nil
	}
	return func() []string {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Clone(f.points)
	}
}

// One control whose value is not adopted takes the time of no other.
func TestSafeValuesShareTheTime(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	policy := model.ControlPolicy{Safe: new(0.0)}
	s, d := withAnother(t, nil, policy, policy), newFake()
	slow := second(t, s.client)
	plane := s.newPlane(slow)
	s.defineBoth(policy, policy) // again, for the other plane has one control
	net := intercept(slow)
	var stuck atomic.Bool
	written := d.record(func(w channel.Write) bool { return stuck.Load() && w.Point.ID == "8" })
	readBack := func(_ *Config, ch *channel.Config) { ch.Points[len(ch.Points)-1].ReadBack = true }
	r := s.run(d, withPlane(plane), withClock(clock), tenSeconds, another, readBack)
	eventually(t, "both are safe", func() bool { return len(s.failsafes()) == 4 })
	require.Equal(t, "verified", s.final(s.submit(r, 5, time.Minute)))
	require.Equal(t, []string{"8:0", "9:0", "9:5"}, written())
	res, err := s.plane.Submit(t.Context(), model.Command{ID: "o", Model: "pcs1", Control: "other", Value: 7})
	require.NoError(t, err)
	r.Wake()
	require.Equal(t, "verified", s.final(res.ID))
	stuck.Store(true)
	release := net.block("")
	defer release()
	turn(t, clock, 20*time.Millisecond, "the other is safe in time", func() bool { return slices.Contains(written()[4:], "9:0") || d.closes.Load() > 0 })
	require.Contains(t, written()[4:], "9:0")
	turn(t, clock, 20*time.Millisecond, "the session ends", func() bool { return d.closes.Load() > 0 })
	stuck.Store(false)
	release()
	turn(t, clock, 20*time.Millisecond, "what became of it is said", func() bool {
		return slices.Contains(s.failsafes(), "not_confirmed unknown 0") && slices.Contains(s.failsafes(), "store_lost verified 0")
	})
}

// A command whose value is not adopted for long holds up no safe value: neither
// where the store is lost nor where another control's source is.
func TestSafeValueWhileACommandIsReadBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose  bool
		hold  time.Duration
		lease option
	}{"store": {true, 0, tenSeconds}, "source": {false, time.Second, longLease}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := channeltest.NewClock(t)
			policy := model.ControlPolicy{Safe: new(0.0), Hold: c.hold}
			s, d := withAnother(t, clock, model.ControlPolicy{}, policy), newFake()
			net := intercept(s.client)
			written := d.record(func(w channel.Write) bool { return w.Point.ID == "9" })
			r := s.run(d, withClock(clock), c.lease, another)
			s.waitFailsafes("started executing 0", "started verified 0")
			_, err := s.plane.Submit(t.Context(), model.Command{ID: "o", Model: "pcs1", Control: "other", Value: 7})
			require.NoError(t, err)
			r.Wake()
			require.Equal(t, "verified", s.final("o"))
			given, id := clock.Now(), s.submit(r, 5, time.Hour)
			eventually(t, "it is written", func() bool { return len(written()) == 3 })
			release := func() {}
			if c.lose {
				release = net.block("")
			}
			defer release()
			turn(t, clock, 50*time.Millisecond, "the other is safe", func() bool { return len(written()) == 4 })
			require.Equal(t, []string{"8:0", "8:7", "9:5", "8:0"}, written())
			require.Less(t, clock.Now().Sub(given), time.Hour, "and not when the command's time is over")
			release()
			require.Equal(t, "unknown not_confirmed", s.final(id), "it was sent, and nobody knows")
		})
	}
}

// Whoever stands behind the other control gave a sign of life: nothing is cut short.
func TestAliveWhileACommandIsReadBack(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	policy := model.ControlPolicy{Safe: new(0.0), Hold: 5 * time.Minute}
	s, d := withAnother(t, clock, model.ControlPolicy{}, policy), newFake()
	net := intercept(s.client)
	adopted := make(chan struct{})
	d.onWrite = func(ctx context.Context, w channel.Write) (channel.Outcome, error) {
		if w.Point.ID == "9" {
			select {
			case <-adopted:
			case <-ctx.Done():
				return channel.Outcome{Result: channel.Done}, context.Cause(ctx)
			}
		}
		return channel.Outcome{Result: channel.Confirmed, ReadBack: &w.Value}, nil
	}
	r := s.run(d, withClock(clock), longLease, another)
	s.waitFailsafes("started executing 0", "started verified 0")
	_, err := s.plane.Submit(t.Context(), model.Command{ID: "o", Model: "pcs1", Control: "other", Value: 7})
	require.NoError(t, err)
	r.Wake()
	require.Equal(t, "verified", s.final("o"))
	id := s.submit(r, 5, time.Hour)
	eventually(t, "it is written", func() bool { return d.writes.Load() == 3 })
	clock.Advance(4 * time.Minute)
	require.NoError(t, s.plane.Alive(t.Context(), "go"))
	asked := net.count("held")
	turn(t, clock, 10*time.Second, "the store is asked", func() bool { return net.count("held") > asked })
	close(adopted)
	require.Equal(t, "verified", s.final(id))
}

// A store that does not answer holds up the safe values once, not one after the other.
func TestSafeValuesAndASilentStore(t *testing.T) {
	t.Parallel()
	policy := model.ControlPolicy{Safe: new(0.0)}
	s, d := withAnother(t, nil, policy, policy), newFake()
	net := intercept(s.client)
	release := net.block("record")
	defer release()
	s.run(d, longLease, another)
	eventually(t, "both are written", func() bool { return d.writes.Load() == 2 })
	require.LessOrEqual(t, net.count("record"), 2, "before the first, and how that ended")
	release()
	eventually(t, "both are journalled", func() bool { return slices.Equal(s.failsafes(), []string{"started verified 0", "started verified 0"}) })
}

// A control that is defined after the channel was taken has a safe value, too.
func TestSafeValueOfALateDefinition(t *testing.T) {
	t.Parallel()
	s, d := withAnother(t, nil, model.ControlPolicy{}, model.ControlPolicy{}), newFake()
	r := s.run(d, another)
	r.waitState(model.ChannelOnline)
	_, err := s.plane.Submit(t.Context(), model.Command{ID: "o", Model: "pcs1", Control: "other", Value: 7})
	require.NoError(t, err)
	require.Equal(t, "verified", s.final("o"), "so the lane knows that there is none")
	s.defineBoth(model.ControlPolicy{Safe: new(1.0)}, model.ControlPolicy{Safe: new(2.0)})
	r.Redefined()
	s.waitFailsafes("started executing 1", "started verified 1")
	require.Equal(t, "verified", s.final(s.submit(r, 3, time.Minute)))
	require.Equal(t, []float64{7, 1, 3}, d.written(), "who was given a value meanwhile, keeps it")
}
