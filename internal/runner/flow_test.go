package runner

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Embedded(t))
	factory := func(d channel.Driver, err error) channel.Factory {
		return func(channel.Setup) (channel.Driver, error) { return d, err }
	}
	own := errors.New("bad address")
	for name, c := range map[string]struct {
		cfg  Config
		ch   channel.Config
		want error
	}{
		"channel":  {Config{Plane: s.plane, Engine: "e"}, channel.Config{ID: "a b"}, model.ErrInvalid},
		"plane":    {Config{Engine: "e"}, channel.Config{ID: "c1"}, model.ErrInvalid},
		"engine":   {Config{Plane: s.plane, Engine: "a:b"}, channel.Config{ID: "c1"}, model.ErrInvalid},
		"lease":    {Config{Plane: s.plane, Engine: "e", Lease: time.Millisecond}, channel.Config{ID: "c1"}, model.ErrInvalid},
		"no lease": {Config{Plane: s.plane, Engine: "e", Lease: -1}, channel.Config{ID: "c1"}, model.ErrInvalid},
		"driver":   {Config{Plane: s.plane, Engine: "e"}, channel.Config{ID: "c1", Driver: factory(nil, own)}, own},
		"nothing":  {Config{Plane: s.plane, Engine: "e"}, channel.Config{ID: "c1", Driver: factory(nil, nil)}, model.ErrInvalid},
		"panic": {Config{Plane: s.plane, Engine: "e"}, channel.Config{ID: "c1", Driver: func(channel.Setup) (channel.Driver, error) {
			panic("oops")
		}}, model.ErrInvalid},
	} {
		_, err := New(c.cfg, c.ch)
		require.ErrorIs(t, err, c.want, name)
	}
}

func TestValuesFlow(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, d := newSite(t, client), newFake()
		r := s.run(d)
		d.feed <- []model.Sample{sample("1", 1.5), sample("2", 7), {Point: "t", Text: "ready"}}
		s.waitValue("p1", "1.5")
		s.waitValue("text", "ready")
		d.feed <- []model.Sample{sample("1", 2), sample("2", 7), sample("1", 3), sample("nobody", 1), sample("1", 2), {Point: "t", Text: "ready"}}
		d.feed <- []model.Sample{sample("2", math.NaN())}
		s.waitValue("p2", "7 invalid")
		require.Equal(t, "2", s.value("p1"))
		require.Equal(t, []string{"1.5", "2", "3", "2"}, s.history("p1"), "every change, in order")
		require.Equal(t, []string{"7", "7 invalid"}, s.history("p2"), "nothing that did not change")

		st := r.Status()
		require.Equal(t, model.ChannelOnline, st.State)
		require.Equal(t, r.name, st.Owner)
		require.Equal(t, int64(3), st.Reads)
		require.Equal(t, int64(10), st.Samples)
		eventually(t, "all is counted", func() bool { return r.Status().Stored == 7 })
		require.Zero(t, st.Lost)
		require.Contains(t, st.LastError, `"nobody"`)
		require.False(t, st.LastScan.IsZero())
		eventually(t, "the store knows the state", func() bool { return s.stored("state") == "online" })

		r.stop()
		require.Equal(t, "2 offline", s.value("p1"))
		require.Equal(t, "7 offline", s.value("p2"))
		require.Equal(t, "ready offline", s.value("text"))
		require.Equal(t, "0 offline", s.value("set"), "also what was never read")
		require.Empty(t, s.owner())
		require.Equal(t, "stopped", s.stored("state"))
		require.Equal(t, "3", s.stored("reads"))
		require.Equal(t, model.ChannelStopped, r.Status().State)
		require.Equal(t, []model.ChannelState{model.ChannelConnecting, model.ChannelOnline, model.ChannelStopped}, r.seen())
		require.Equal(t, int64(1), d.closes.Load())
	})
}

// Several qualities of one point in one answer: the last one counts.
func TestQualitiesInOneBatch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, d := newSite(t, client), newFake()
		s.run(d)
		d.feed <- []model.Sample{sample("1", 1), {Point: "1", Quality: model.Blocked}, {Point: "2", Quality: model.Blocked}, sample("2", 2),
			{Point: "t", Text: "a"}, {Point: "t", Quality: model.Invalid}, {Point: "t", Text: "b"}, {Point: "t", Quality: model.Bad}}
		s.waitValue("text", "b bad")
		require.Equal(t, "1 blocked", s.value("p1"))
		require.Equal(t, "2", s.value("p2"))
	})
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		ctx := context.Background()
		clock := channeltest.NewClock(t)
		s, d := newSite(t, client), newFake()
		s.run(d, withClock(clock))
		d.feed <- []model.Sample{sample("1", 1), sample("2", 2)}
		s.waitValue("p2", "2")

		// What another program spoiled comes back with the refresh.
		require.NoError(t, client.HSet(ctx, "{"+s.name+"}:modsrv:pcs1:measurement", "p1", "99.000000").Err())
		turn(t, clock, time.Minute, "p1 is written again", func() bool { return s.value("p1") == "1" })
		require.Equal(t, []string{"1"}, s.history("p1"), "a refresh is not history")

		// A new model gets values that did not change, as soon as any does.
		require.NoError(t, s.plane.PutModel(ctx, model.Instance{ID: "meter", Measurements: map[string]string{"x": "c1:2"}}))
		d.feed <- []model.Sample{sample("1", 5)}
		eventually(t, "the new model has the old value", func() bool {
			v, err := s.plane.Values(ctx, "meter")
			return err == nil && v["x"].Value == 2
		})
	})
}

func TestPush(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		r := s.run(nil)
		r.waitState(model.ChannelOnline)
		samples := []model.Sample{sample("1", 1), sample("1", 2), {Point: "t", Text: "x"}}
		require.NoError(t, r.Push(ctx, samples))
		samples[0].Value, samples[1].Value = 77, 78 // they are the caller's again
		s.waitValue("p1", "2")
		require.Equal(t, []string{"1", "2"}, s.history("p1"))

		for _, bad := range []model.Sample{sample("x", 1), sample("2", math.NaN()), sample("2", math.Inf(-1)), sample("2", 2e15), {Point: "2", Quality: 99}} {
			err := r.Push(ctx, []model.Sample{sample("1", 50), bad})
			require.ErrorIs(t, err, model.ErrInvalid)
			require.ErrorContains(t, err, bad.Point)
		}
		require.NoError(t, r.Push(ctx, []model.Sample{{Point: "2", Value: math.NaN(), Quality: model.Bad}}), "the value of a bad sample is ignored")
		require.NoError(t, r.Push(ctx, nil))
		s.waitValue("p2", "0 bad")
		require.Equal(t, "2", s.value("p1"), "all or nothing")

		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, r.Push(cancelled, samples), context.Canceled)

		id := s.submit(r, 5, time.Minute)
		require.Equal(t, "failed not_writable", s.final(id))

		standby := s.run(nil)
		standby.waitState(model.ChannelStandby)
		require.Equal(t, r.name, standby.Status().Owner)
		require.ErrorIs(t, standby.Push(ctx, samples), ErrStandby)

		r.stop()
		require.ErrorIs(t, r.Push(ctx, samples), ErrStopped)
		standby.waitState(model.ChannelOnline)
		require.NoError(t, standby.Push(ctx, []model.Sample{sample("1", 8)}))
		s.waitValue("p1", "8")
	})
}

func TestPushBeforeRunAndWithADriver(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Embedded(t))
	driven, err := New(Config{Plane: s.plane, Engine: "e1"}, channel.Config{ID: "c1", Points: testPoints(),
		Driver: func(channel.Setup) (channel.Driver, error) { return newFake(), nil }})
	require.NoError(t, err)
	require.ErrorIs(t, driven.Push(t.Context(), nil), ErrHasDriver)

	r, err := New(Config{Plane: s.plane, Engine: "e2", Log: quiet()}, channel.Config{ID: "c1", Points: testPoints()})
	require.NoError(t, err)
	require.NoError(t, r.Push(t.Context(), []model.Sample{sample("1", 3)}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	s.waitValue("p1", "3")
	r.Run(ctx) // a second one is refused and returns at once
	cancel()
	<-done
	require.Equal(t, "3 offline", s.value("p1"))
}

// What was pushed before another engine turned out to own the channel is not
// sent later.
func TestPushThatAnotherOwnerOvertook(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Embedded(t))
	lease, err := s.plane.Acquire(t.Context(), "c1", "other", time.Hour)
	require.NoError(t, err)
	clock := channeltest.NewClock(t)
	pushed := make(chan struct{})
	slow := second(t, s.client)
	net := intercept(slow)
	net.after("acquire", func() { <-pushed })
	r := s.run(nil, withPlane(s.newPlane(slow)), withClock(clock))
	require.NoError(t, r.Push(t.Context(), []model.Sample{sample("1", 1)}))
	close(pushed)
	r.waitState(model.ChannelStandby)
	require.Equal(t, int64(1), r.Status().Lost)
	require.NoError(t, s.plane.Release(t.Context(), lease))
	turn(t, clock, time.Minute, "owned", func() bool { return r.Status().State == model.ChannelOnline })
	require.NoError(t, r.Push(t.Context(), []model.Sample{sample("2", 2)}))
	s.waitValue("p2", "2")
	require.Equal(t, "none", s.value("p1"))
	r.stop()

	late := s.run(nil, withClock(clock))
	late.waitState(model.ChannelOnline)
	never := s.run(nil, withClock(clock))
	never.waitState(model.ChannelStandby)
	never.stop()
	require.ErrorIs(t, never.Push(t.Context(), []model.Sample{sample("1", 1)}), ErrStopped)
}

func TestSilentPush(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s := newSite(t, storetest.Embedded(t))
	r := s.run(nil, withClock(clock), withStale(10*time.Second))
	r.waitState(model.ChannelOnline)
	require.NoError(t, r.Push(t.Context(), []model.Sample{sample("1", 3)}))
	turn(t, clock, time.Second, "silence is seen", func() bool { return s.value("p1") == "3 stale" })
	require.Equal(t, model.ChannelOffline, r.Status().State)
	require.NoError(t, r.Push(t.Context(), []model.Sample{sample("1", 3)}))
	s.waitValue("p1", "3")
	require.Equal(t, model.ChannelOnline, r.Status().State)
}
