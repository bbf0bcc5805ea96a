package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
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

func TestOutcomes(t *testing.T) {
	t.Parallel()
	plain, asked := &model.Point{ID: "9", Kind: model.Control}, &model.Point{ID: "9", Kind: model.Control, ReadBack: true}
	gone := fmt.Errorf("write: %w", channel.ErrNotConnected)
	for _, c := range []struct {
		point  *model.Point
		result channel.Result
		err    error
		late   bool
		want   string
	}{
		{plain, channel.Confirmed, nil, false, "verified "},
		{asked, channel.Confirmed, nil, true, "verified "},
		{plain, channel.Done, nil, false, "executed "},
		{asked, channel.Done, nil, false, "unknown not_confirmed"},
		{asked, channel.Done, errors.New("read back: 3"), true, "unknown not_confirmed"},
		{plain, channel.Refused, errors.New("exception 2"), false, "failed refused"},
		{plain, channel.NotSent, errors.New("queue full"), false, "failed not_sent"},
		{plain, channel.NotSent, nil, false, "failed not_sent"},
		{plain, channel.NotSent, gone, true, "failed not_connected"},
		{plain, channel.NotSent, context.DeadlineExceeded, true, "expired timeout"},
		{plain, channel.Sent, context.DeadlineExceeded, false, "unknown timeout"},
		{plain, channel.Sent, os.ErrDeadlineExceeded, false, "unknown timeout"},
		{plain, channel.Sent, nil, true, "unknown timeout"},
		{plain, channel.Sent, gone, false, "unknown not_confirmed"},
		{plain, channel.Result(99), nil, false, "unknown not_confirmed"},
	} {
		var res result
		res.outcome(c.point, channel.Outcome{Result: c.result}, c.err, c.late)
		require.Equal(t, c.want, string(res.state)+" "+res.reason, "%s %v", c.result, c.err)
		if c.err != nil && res.state != model.CommandVerified {
			require.Equal(t, c.err.Error(), res.detail)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	low, high := 10.0, 20.0
	point := &model.Point{ID: "9", Kind: model.Adjustment, Min: &low, Max: &high, Step: 0.5}
	for v, want := range map[float64]string{9.9: "limit", 20.1: "limit", 10.25: "step", 10: "", 20: "", 12.5: ""} {
		reason, _ := refusal(point, v)
		require.Equal(t, want, reason, "%v", v)
	}
	switched := &model.Point{ID: "9", Kind: model.Control, Enum: true, Labels: map[int]string{0: "off", 1: "on"}}
	for v, want := range map[float64]string{0: "", 1: "", 2: "enum", 0.5: "enum"} {
		reason, _ := refusal(switched, v)
		require.Equal(t, want, reason, "%v", v)
	}
	reason, _ := refusal(&model.Point{ID: "9", Kind: model.Signal}, 1)
	require.Equal(t, "not_writable", reason)
}

func TestCommands(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, d := newSite(t, client), newFake()
		var next atomic.Value
		next.Store(channel.Outcome{Result: channel.Refused})
		d.onWrite = func(_ context.Context, w channel.Write) (channel.Outcome, error) {
			out := next.Load().(channel.Outcome)
			if out.Result == channel.Refused {
				return out, errors.New("exception 4")
			}
			out.ReadBack = &w.Value
			return out, nil
		}
		r := s.run(d)
		r.waitState(model.ChannelOnline)
		id := s.submit(r, 5, time.Minute)
		require.Equal(t, "failed refused", s.final(id))
		require.Equal(t, "exception 4", s.command(id).Detail)
		next.Store(channel.Outcome{Result: channel.Confirmed})
		id = s.submit(r, 6, time.Minute)
		require.Equal(t, "verified", s.final(id), "and the reader hung in Read all the time")
		require.Equal(t, 6.0, *s.command(id).ReadBack)
		next.Store(channel.Outcome{Result: channel.Done})
		id = s.submit(nil, 7, time.Minute) // without a Wake
		require.Equal(t, "unknown not_confirmed", s.final(id))
		require.Equal(t, []float64{5, 6, 7}, d.written())
		require.Equal(t, int64(3), r.Status().Commands)
		require.Equal(t, int64(1), d.reads.Load())

		many := make([]string, 150) // more than one page of the queue
		for i := range many {
			many[i] = s.submit(nil, float64(i%100), time.Minute)
		}
		r.Wake()
		require.Equal(t, "unknown not_confirmed", s.final(many[149]))
		written := d.written()
		require.Len(t, written, 153)
		for i, v := range written[3:] {
			require.InDelta(t, float64(i%100), v, 1e-9, "oldest first")
		}
	})
}

func TestCommandsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	r := s.run(readOnly{d})
	r.waitState(model.ChannelOnline)
	require.Equal(t, "failed not_writable", s.final(s.submit(r, 5, time.Minute)))
	r.stop()

	var dead atomic.Bool
	dead.Store(true)
	d = newFake()
	d.onConnect = func(context.Context) error {
		if dead.Load() {
			return errors.New("no route")
		}
		return nil
	}
	r = s.run(d)
	r.waitState(model.ChannelOffline)
	require.Equal(t, "failed not_connected", s.final(s.submit(r, 5, time.Minute)), "promptly")
	dead.Store(false)
	r.waitState(model.ChannelOnline)

	// The store's limits were changed behind the driver's back.
	wide := testPoints()
	wide[3].Max = nil
	require.NoError(t, s.plane.PutPoints(context.Background(), "c1", wide))
	require.Equal(t, "failed limit", s.final(s.submit(r, 500, time.Minute)))
	require.Zero(t, d.writes.Load())
	require.Equal(t, "verified", s.final(s.submit(r, 50, time.Minute)))
}

// However often replies get lost, the device sees every command once and every
// value is stored once.
func TestLostReplies(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, d := newSite(t, client), newFake()
		bad := second(t, client)
		net := intercept(bad)
		net.lose("acquire", 1)
		r := s.run(d, withPlane(s.newPlane(bad)), withLease(30*time.Second))
		d.feed <- []model.Sample{sample("1", 1)}
		s.waitValue("p1", "1")

		net.lose("batch", 2)
		d.feed <- []model.Sample{sample("1", 2)}
		d.feed <- []model.Sample{sample("1", 3)}
		s.waitValue("p1", "3")
		require.Equal(t, []string{"1", "2", "3"}, s.history("p1"))

		net.lose("claim", 6) // more than the plane itself repeats
		net.lose("finish", 6)
		net.lose("renew", 2)
		net.lose("xread", 1)
		first, last := s.submit(nil, 1, time.Minute), s.submit(r, 2, time.Minute)
		require.Equal(t, "verified", s.final(first))
		require.Equal(t, "verified", s.final(last))
		require.Equal(t, []float64{1, 2}, d.written())
		require.GreaterOrEqual(t, net.count("claim"), 8)
		require.Equal(t, int64(1), d.connects.Load())
	})
}

// What an owner before claimed and did not finish is unknown, and not executed.
func TestCommandsOfAnOwnerBefore(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		ctx := context.Background()
		s, d := newSite(t, client), newFake()
		lease, err := s.plane.Acquire(ctx, "c1", "before", time.Minute)
		require.NoError(t, err)
		claimed, waiting := s.submit(nil, 1, time.Minute), s.submit(nil, 2, time.Minute)
		entries, err := s.plane.Queue(ctx, "c1", "")
		require.NoError(t, err)
		_, err = s.plane.Claim(ctx, lease, entries[0], "token")
		require.NoError(t, err)
		require.NoError(t, s.plane.Release(ctx, lease))
		d.onConnect = func(context.Context) error { return nil }
		s.run(d)
		require.Equal(t, "unknown owner_lost", s.final(claimed))
		s.final(waiting) // verified, or failed when the device was not connected yet
		require.NotContains(t, d.written(), 1.0)
	})
}

// Between the claim and the first byte, time may pass.
func TestLateClaim(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pass, timeout time.Duration
		want          string
	}{
		"the deadline is over": {10 * time.Minute, 5 * time.Minute, "expired timeout"},
		"the lease is over":    {50 * time.Minute, time.Hour, "failed not_sent"},
		"all is well":          {time.Minute, 5 * time.Minute, "verified"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := channeltest.NewClock(t)
			s, d := newSite(t, storetest.Embedded(t)), newFake()
			slow := second(t, s.client)
			net := intercept(slow)
			r := s.run(d, withPlane(s.newPlane(slow)), withClock(clock))
			r.waitState(model.ChannelOnline)
			eventually(t, "renewed", func() bool { return net.count("renew") > 0 })
			defer net.block("renew")()
			net.after("claim", func() { clock.Advance(c.pass) })
			require.Equal(t, c.want, s.final(s.submit(r, 5, c.timeout)))
			require.Equal(t, c.want == "verified", d.writes.Load() == 1)
		})
	}
}

// A Write ends with the command's deadline. One that goes on regardless is left
// alone, and settles the command when it returns.
func TestWriteBeyondDeadline(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	hang, begun := make(chan struct{}), make(chan struct{}, 10)
	d.onWrite = func(ctx context.Context, w channel.Write) (channel.Outcome, error) {
		begun <- struct{}{}
		switch w.Value {
		case 1:
			<-ctx.Done()
			return channel.Outcome{Result: channel.Sent}, context.Cause(ctx)
		case 2:
			<-hang
		}
		return channel.Outcome{Result: channel.Confirmed}, nil
	}
	r := s.run(d, withClock(clock))
	r.waitState(model.ChannelOnline)
	id := s.submit(r, 1, time.Minute)
	<-begun
	clock.Advance(time.Minute)
	require.Equal(t, "unknown timeout", s.final(id))

	id = s.submit(r, 2, time.Minute)
	<-begun
	clock.Advance(time.Minute)
	require.Equal(t, "unknown timeout", s.final(id))
	require.Equal(t, "failed not_sent", s.final(s.submit(r, 3, time.Minute)), "one Write at a time")
	close(hang)
	eventually(t, "it is settled", func() bool { return s.command(id).State == model.CommandVerified })
	require.Equal(t, "verified", s.final(s.submit(r, 4, time.Minute)))
	require.Equal(t, []float64{1, 2, 4}, d.written())
}

// The device acted while the store went away: the result is kept, also over the
// end of the session.
func TestResultSurvivesOutage(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t, "--appendonly", "yes", "--appendfsync", "always")
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Client(t, server.URL)), newFake()
	d.onWrite = func(_ context.Context, w channel.Write) (channel.Outcome, error) {
		server.Kill()
		return channel.Outcome{Result: channel.Confirmed, ReadBack: &w.Value}, nil
	}
	r := s.run(d, withClock(clock))
	r.waitState(model.ChannelOnline)
	id := s.submit(r, 5, time.Hour)
	turn(t, clock, time.Minute, "the session ends", func() bool { return d.closes.Load() > 0 })
	server.Restart()
	turn(t, clock, 100*time.Millisecond, "the result is stored", func() bool { return s.command(id).State == model.CommandVerified })
	require.Equal(t, int64(1), d.writes.Load())
	turn(t, clock, 100*time.Millisecond, "owned again", func() bool { return r.Status().State == model.ChannelOnline })
}

// A lease that ends during a Write ends the Write, and the command is unknown.
func TestLeaseEndsDuringWrite(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s, d := newSite(t, storetest.Embedded(t)), newFake()
	slow := second(t, s.client)
	net := intercept(slow)
	begun := d.holdWrite(t)
	r := s.run(d, withPlane(s.newPlane(slow)), withClock(clock))
	r.waitState(model.ChannelOnline)
	id := s.submit(r, 5, 59*time.Minute)
	<-begun
	release := net.block("renew")
	defer release()
	clock.Advance(48 * time.Minute) // the lease without its margin
	eventually(t, "the session ends", func() bool { return d.closes.Load() > 0 })
	eventually(t, "the command is settled", func() bool { return s.command(id).State == model.CommandUnknown })
	require.Equal(t, int64(1), d.writes.Load())
}
