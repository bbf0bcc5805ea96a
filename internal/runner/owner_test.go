package runner

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// second returns another client of the store that a test runs on.
func second(t testing.TB, client redis.UniversalClient) redis.UniversalClient {
	o := *client.(*redis.Client).Options()
	c := redis.NewClient(&o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// expire has the lease of the channel run out in the store.
func (s *site) expire() {
	s.t.Helper()
	require.NoError(s.t, s.client.Del(context.Background(), "{"+s.name+"}:comsrv:c1:owner").Err())
}

// A stand-by takes over from an owner that hangs: the owner has stopped by its
// own clock before.
func TestTakeover(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		hung := second(t, client)
		net := intercept(hung)
		clock := channeltest.NewClock(t)
		da, db := newFake(), newFake()
		a := s.run(da, withPlane(s.newPlane(hung)), withClock(clock), withLease(time.Minute))
		da.feed <- []model.Sample{sample("1", 1)}
		s.waitValue("p1", "1")

		later := channeltest.NewClock(t)
		b := s.run(db, withClock(later), withLease(time.Hour))
		b.waitState(model.ChannelStandby)
		require.Equal(t, a.name, b.Status().Owner)
		require.Zero(t, db.connects.Load(), "a stand-by leaves the device alone")

		release := net.block("") // from now on a's calls hang
		defer release()
		turn(t, clock, time.Second, "a stops by its own clock", func() bool { return da.closes.Load() > 0 })
		require.Equal(t, int64(0), da.inside.Load(), "and polls no more")
		s.expire()
		turn(t, later, time.Minute, "b takes over", func() bool { return b.Status().State == model.ChannelOnline })
		db.feed <- []model.Sample{sample("1", 2)}
		s.waitValue("p1", "2")
		require.Equal(t, b.name, s.owner())

		release()
		turn(t, clock, 50*time.Millisecond, "a stands by", func() bool { return a.Status().State == model.ChannelStandby })
		require.Equal(t, b.name, a.Status().Owner)
		require.Equal(t, int64(1), da.connects.Load())
		require.Equal(t, []string{"1", "2"}, s.history("p1"), "a's stop wrote nothing over b's values")
	})
}

// An owner that slept through the end of its lease, clock and all, writes
// nothing any more, neither to the store nor to the device.
func TestFencedOwnerWritesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s := newSite(t, client)
		hung := second(t, client)
		net := intercept(hung)
		da, db := newFake(), newFake()
		a := s.run(da, withPlane(s.newPlane(hung)), withClock(channeltest.NewClock(t)))
		da.feed <- []model.Sample{sample("1", 1)}
		s.waitValue("p1", "1")
		eventually(t, "a's last call is over", func() bool { return s.stored("state") == "online" }) // else it brings the news
		release := net.block("")
		defer release()
		s.expire()
		b := s.run(db, withClock(channeltest.NewClock(t))) // the machine may be slow: it does not lose the channel in between
		b.waitState(model.ChannelOnline)
		db.feed <- []model.Sample{sample("1", 2)}
		s.waitValue("p1", "2")

		da.feed <- []model.Sample{sample("1", 9)} // a still believes
		id := s.submit(a, 5, time.Minute)
		release()
		eventually(t, "a knows that it is fenced", func() bool { return da.closes.Load() > 0 })
		b.Wake()
		require.Equal(t, "verified", s.final(id))
		require.Zero(t, da.writes.Load())
		require.Equal(t, int64(1), db.writes.Load())
		require.Equal(t, "2", s.value("p1"))
		require.Equal(t, []string{"1", "2"}, s.history("p1"))
		a.stop()
		require.Equal(t, b.name, s.owner(), "its end takes nothing from the new owner")
		require.Equal(t, "2", s.value("p1"))
	})
}

// A store that is away for less than the lease costs nothing.
func TestStoreOutageWithinLease(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t, "--appendonly", "yes", "--appendfsync", "always")
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Client(t, server.URL)), newFake()
	r := s.run(d, withClock(clock))
	d.feed <- []model.Sample{sample("1", 1), sample("2", 1)}
	eventually(t, "the store has answered", func() bool { return r.Status().Stored == 2 })
	server.Kill()
	for v := range 50 {
		d.feed <- []model.Sample{sample("1", float64(v+2))}
	}
	server.Restart()
	s.waitValue("p1", "51")
	history := s.history("p1")
	require.Len(t, history, 51, "every change, once each")
	require.Equal(t, "51", history[50])
	require.Equal(t, int64(1), d.connects.Load())
	require.Zero(t, d.closes.Load())
	require.Zero(t, r.Status().Lost)
	require.Equal(t, []model.ChannelState{model.ChannelConnecting, model.ChannelOnline}, r.seen())
}

// A store that is away for longer ends the session; what was read meanwhile is
// dropped and counted, and everything that is read afterwards is stored.
func TestStoreOutageBeyondLease(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t, "--appendonly", "yes", "--appendfsync", "always")
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Client(t, server.URL)), newFake()
	r := s.run(d, withClock(clock))
	d.feed <- []model.Sample{sample("1", 1), sample("2", 1)}
	eventually(t, "the store has answered", func() bool { return r.Status().Stored == 2 })
	server.Kill()
	d.feed <- []model.Sample{sample("1", 2)}
	d.feed <- []model.Sample{sample("1", 3)}
	turn(t, clock, time.Minute, "the session ends", func() bool { return d.closes.Load() > 0 })
	require.Zero(t, d.inside.Load())
	turn(t, clock, time.Second, "the state says so", func() bool { return r.Status().State == model.ChannelStopped })
	clock.Advance(time.Hour)
	server.Restart()
	turn(t, clock, 100*time.Millisecond, "connected again", func() bool { return d.connects.Load() == 2 })
	d.feed <- []model.Sample{sample("1", 3), sample("2", 1)}
	s.waitValue("p1", "3")
	eventually(t, "p2 was sent again", func() bool { return len(s.history("p2")) == 2 })
	require.Equal(t, int64(2), r.Status().Lost)
	require.Equal(t, []string{"1", "3"}, s.history("p1"))
	require.Equal(t, model.ChannelOnline, r.Status().State)
}

// Samples that were pushed are repeated by nobody, so they outlive the session.
func TestPushOutlivesOutage(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	clock := channeltest.NewClock(t)
	s := newSite(t, storetest.Client(t, server.URL))
	r := s.run(nil, withClock(clock))
	r.waitState(model.ChannelOnline)
	require.NoError(t, r.Push(t.Context(), []model.Sample{sample("1", 1), sample("2", 1)}))
	eventually(t, "the store has answered", func() bool { return r.Status().Stored == 2 })
	server.Kill()
	turn(t, clock, time.Minute, "the session ends", func() bool { return r.Status().State == model.ChannelStopped })
	require.NoError(t, r.Push(t.Context(), []model.Sample{sample("1", 2), sample("1", 3)}))
	server.Restart() // and it has lost everything
	turn(t, clock, 100*time.Millisecond, "owned again", func() bool { return r.Status().State == model.ChannelOnline })
	s.waitValue("p1", "3")
	s.waitValue("p2", "1")
	require.Equal(t, []string{"2", "3"}, s.history("p1"))
	require.Zero(t, r.Status().Lost)
}

// Redis loses everything, or its scripts, and nobody has to do anything.
func TestDataLoss(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, lose := range map[string]func(*storetest.Server, redis.UniversalClient){
		"FLUSHALL":     func(_ *storetest.Server, c redis.UniversalClient) { _ = c.FlushAll(ctx).Err() },
		"SCRIPT FLUSH": func(_ *storetest.Server, c redis.UniversalClient) { _ = c.ScriptFlush(ctx).Err() },
		"restart":      func(server *storetest.Server, _ redis.UniversalClient) { server.Kill(); server.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := storetest.Own(t)
			s, d := newSite(t, storetest.Client(t, server.URL)), newFake()
			r := s.run(d)
			d.feed <- []model.Sample{sample("1", 1), sample("2", 7), {Point: "t", Text: "on"}}
			s.waitValue("text", "on")
			lose(server, s.client)
			select { // the reader may be between two connections
			case d.feed <- []model.Sample{sample("1", 2)}:
			case <-time.After(patience):
				t.Fatal("nobody reads")
			}
			s.waitValue("p1", "2")
			s.waitValue("p2", "7")
			s.waitValue("text", "on")
			eventually(t, "owned", func() bool { return s.owner() == r.name })
			require.Equal(t, "verified", s.final(s.submit(r, 3, time.Minute)))
			require.Zero(t, r.Status().Lost)
			r.stop()
			require.Equal(t, "2 offline", s.value("p1"))
		})
	}
}

// The embedded store can lose its data as well: somebody calls FLUSHALL.
func TestDataLossEmbedded(t *testing.T) {
	t.Parallel()
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	s.run(d, withClock(channeltest.NewClock(t))) // stands still: only a refused batch tells
	d.feed <- []model.Sample{sample("1", 1), sample("2", 7)}
	s.waitValue("p2", "7")
	require.NoError(t, s.client.FlushAll(context.Background()).Err())
	d.feed <- []model.Sample{sample("1", 2)}
	s.waitValue("p1", "2")
	s.waitValue("p2", "7")
}

// A channel without samples learns from its renewals that it has another owner.
func TestIdleOwnerIsFenced(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	client := second(t, s.client)
	net := intercept(client)
	r := s.run(d, withPlane(s.newPlane(client)), withClock(clock))
	r.waitState(model.ChannelOnline)
	eventually(t, "the store knows", func() bool { return s.stored("state") == "online" })
	renewed := net.count("renew")
	fence := "{" + s.name + "}:comsrv:c1:"
	require.NoError(t, s.client.HSet(context.Background(), fence+"fence", "epoch", "9999999999999").Err())
	require.NoError(t, s.client.Set(context.Background(), fence+"owner", "other:9999999999999", 0).Err())
	turn(t, clock, time.Minute, "it stands by", func() bool { return r.Status().State == model.ChannelStandby })
	require.Contains(t, r.Status().LastError, scripts.ErrFenced.Error(), "it was told, and did not only wait for the end of the lease")
	require.Greater(t, net.count("renew"), renewed)
	require.Equal(t, int64(1), d.closes.Load())
}

// While the store is held up the queue overflows; afterwards the last values
// are right, and what went is counted.
func TestOverflow(t *testing.T) {
	t.Parallel()
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	slow := second(t, s.client)
	net := intercept(slow)
	r := s.run(d, withPlane(s.newPlane(slow)), withLease(time.Minute))
	d.feed <- []model.Sample{sample("1", 1)}
	s.waitValue("p1", "1")
	release := net.block("batch")
	defer release()
	d.feed <- []model.Sample{sample("2", 42)}
	eventually(t, "a batch hangs", func() bool { return net.count("batch") > 1 })
	for v := range 2 {
		samples := make([]model.Sample, 6000)
		for i := range samples {
			samples[i] = sample("1", float64(v*len(samples)+i))
		}
		d.feed <- samples
	}
	eventually(t, "the queue overflows", func() bool { return r.Status().Lost == 2000 })
	release()
	s.waitValue("p1", "11999")
	require.Equal(t, "42", s.value("p2"))
	eventually(t, "a refresh follows", func() bool { return r.Status().Stored >= 10002+2 })
	require.Len(t, s.history("p1"), 10001)
	require.Equal(t, int64(2000), r.Status().Lost)
}

// A lease that was given back is free at once.
func TestStandbyTakesOverAfterRelease(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s := newSite(t, storetest.Embedded(t))
	a := s.run(newFake(), withLease(time.Hour))
	a.waitState(model.ChannelOnline)
	b := s.run(newFake(), withClock(clock))
	b.waitState(model.ChannelStandby)
	a.stop()
	turn(t, clock, time.Minute, "b takes over", func() bool { return b.Status().State == model.ChannelOnline })
	require.Equal(t, b.name, s.owner())
}
