package modbus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
)

func TestPatience(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	var p patience
	assert.Equal(t, time.Second, p.grace(1, time.Second), "nothing is known yet")
	p.answered(ms)
	assert.Equal(t, 20*ms, p.grace(1, time.Second), "the least")
	assert.Equal(t, 5*ms, p.grace(1, 5*ms), "the timeout is the most")
	p.answered(50 * ms)
	for n, want := range map[int]time.Duration{1: 200, 2: 400, 3: 200, 4: 800, 5: 200, 6: 400, 8: 1000, 64: 1000} {
		assert.Equal(t, want*ms, p.grace(n, time.Second), "attempt %d", n)
	}
	assert.Equal(t, 100*ms, p.grace(1, 100*ms))
	p.answered(2 * ms)
	assert.Equal(t, 47*ms, p.slowest, "a slow answer is forgotten bit by bit")
	for range 200 {
		p.answered(2 * ms)
	}
	assert.Less(t, p.slowest, 3*ms)

	now := time.Now()
	p.cost(0, now)
	p.cost(-time.Second, now)
	assert.Zero(t, p.free)
	p.cost(10*ms, now)
	assert.Equal(t, now.Add(190*ms), p.free, "one of twenty")
	p.cost(10*ms, now.Add(100*ms))
	assert.Equal(t, now.Add(380*ms), p.free, "it adds up")
	p.cost(10*ms, now.Add(time.Second))
	assert.Equal(t, now.Add(1190*ms), p.free, "and is not saved up")
}

func TestHurry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		atOnce      bool
		after, want time.Duration
	}{
		"a poll":                 {false, 10 * ms, 30 * ms},
		"a poll after the grace": {false, time.Second, 0},
		"a command, ids":         {true, 0, 0},
	} {
		x := &try{began: now, grace: 40 * ms}
		assert.Equal(t, c.want, x.hurry(now.Add(c.after), c.atOnce), name)
		assert.Equal(t, now.Add(c.after), x.wanted, name)
		x.hurry(now.Add(time.Hour), true)
		assert.Equal(t, now.Add(c.after), x.wanted, "since the first who waited")
	}
}

func TestSignsOfLife(t *testing.T) {
	t.Parallel()
	assert.EqualValues(t, 7, alsoAlive(0, unhex(t, "07 03 02 00 00")))
	assert.EqualValues(t, 7, alsoAlive(5, unhex(t, "07 83 02")), "it refuses, so it is there")
	assert.EqualValues(t, 5, alsoAlive(5, unhex(t, "07 83 0B")), "a gateway says that it is not")
	assert.EqualValues(t, 0, alsoAlive(0, unhex(t, "07 83 0A")))
}

// dead makes a unit that did not answer: every attempt on it could take an hour.
func dead(t *testing.T, f channel.Factory) *driver {
	t.Helper()
	s := setup(control("x", "holding:1"))
	s.Timeout = time.Hour
	d := open(t, f, s)
	d.dead, d.quiet = true, 1
	return d
}

// attempts tries to connect a dead unit until ctx ends.
func attempts(ctx context.Context, d *driver) (n *atomic.Int32, done <-chan struct{}) {
	n = &atomic.Int32{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if d.Connect(ctx) != nil {
				n.Add(1)
			}
			_ = d.Close(context.Background())
		}
	}()
	return n, ended
}

// Attempts on a dead unit that would last for an hour cost the others moments,
// on TCP as on RTU, and commands go through.
func TestAttemptsGiveWay(t *testing.T) {
	t.Parallel()
	for _, rtu := range []bool{false, true} {
		t.Run(fmt.Sprint("rtu ", rtu), func(t *testing.T) {
			t.Parallel()
			dev := newDeviceOf(t, rtu, 1, 2)
			dev.faults(func(r server.Request) server.Action { return server.Action{Ignore: r.Unit == 2} })
			bus := NewBus(dev.address)
			if rtu {
				bus = NewRTUOverTCPBus(dev.address)
			}
			live := connected(t, bus.Unit(1), setup(control("a", "holding:1")))
			read(t, live)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			gone := dead(t, bus.Unit(2))
			gone.probe = 0
			tried, ended := attempts(ctx, gone)
			for tried.Load() < 3 {
				assert.Equal(t, good("a", 1), read(t, live)["a"])
				_, err := write(live, "a", 1)
				require.NoError(t, err)
			}
			cancel()
			<-ended
			assert.Equal(t, good("a", 1), read(t, live)["a"])
			assert.EqualValues(t, 1, dev.srv.Stats().Accepted, "all on one connection")
		})
	}
}

// A command cuts an attempt short at once where answers have ids.
func TestCommandCutsAnAttempt(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1, 2)
	came := make(chan struct{}, 10)
	dev.faults(func(r server.Request) server.Action {
		if r.Unit == 2 {
			came <- struct{}{}
		}
		return server.Action{Ignore: r.Unit == 2}
	})
	bus := NewBus(dev.address)
	live := connected(t, bus.Unit(1), setup(control("a", "holding:1")))
	gone := dead(t, bus.Unit(2))
	bus.line.late[2] = true // polls would not cut this one short
	connecting := make(chan error, 1)
	go func() { connecting <- gone.Connect(context.Background()) }()
	<-came
	_, err := write(live, "a", 5)
	require.NoError(t, err)
	err = <-connecting
	require.ErrorIs(t, err, ErrTimeout)
	require.ErrorIs(t, err, errCut)
	require.ErrorIs(t, err, channel.ErrNotConnected)
}

// A unit that became slower than the grace is found again, although others want
// the line all the time.
func TestSlowUnitComesBack(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1, 2)
	dev.faults(func(r server.Request) server.Action {
		if r.Unit == 2 {
			return server.Action{Delay: 60 * time.Millisecond}
		}
		return server.Action{}
	})
	bus := NewBus(dev.address)
	s := setup(point("a", "holding:1"))
	live := connected(t, bus.Unit(1), s)
	ctx, cancel := context.WithCancel(context.Background())
	reading := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := live.Read(ctx); err != nil && ctx.Err() == nil {
				reading <- err
				return
			}
		}
		reading <- nil
	}()
	slow := open(t, bus.Unit(2), s)
	slow.dead, slow.quiet = true, 1
	require.Eventually(t, func() bool { return slow.Connect(context.Background()) == nil }, 60*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-reading)
}

// Dead units wait for their time, and who was not tried for longest goes first.
func TestProbesTakeTurns(t *testing.T) {
	t.Parallel()
	l := &line{attached: map[*member]struct{}{}}
	free := newLane(false)
	require.NoError(t, l.acquire(context.Background(), free))
	l.pace.free = time.Now().Add(50 * time.Millisecond)
	order := make(chan int, 3)
	now := time.Now()
	for k := range 3 {
		ln := newLane(false)
		ln.probe, ln.tried = true, now.Add(-time.Duration(k)*time.Second)
		go func() {
			if l.acquire(context.Background(), ln) == nil {
				order <- k
				l.release()
			}
		}()
	}
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.probes) == 3
	}, 10*time.Second, time.Millisecond)
	l.release() // the line is free, and yet they wait
	assert.Equal(t, []int{2, 1, 0}, []int{<-order, <-order, <-order})

	// The end of its context takes one out of the queue.
	l.mu.Lock()
	l.pace.free = time.Now().Add(time.Hour)
	l.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ln := newLane(false)
	ln.probe = true
	require.ErrorIs(t, l.acquire(ctx, ln), context.Canceled)
	waiting := make(chan error, 1)
	ctx, cancel = context.WithCancel(context.Background())
	go func() { waiting <- l.acquire(ctx, ln) }()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.probes) == 1
	}, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-waiting, context.Canceled)
	require.NoError(t, l.acquire(context.Background(), free), "others have the line")
}

// What others waited for is paid back, also what a gateway held up after it.
func TestAttemptsCost(t *testing.T) {
	t.Parallel()
	l := &line{}
	now := time.Now()
	second := func(n int) time.Time { return now.Add(time.Duration(n) * time.Second) }
	silent, answered := []ask{{err: ErrTimeout}}, []ask{{}}
	l.triedLocked(&try{}, silent, nil, now, second(1))
	assert.Zero(t, l.pace.free, "nobody waited")
	l.triedLocked(nil, answered, nil, second(1), second(3))
	assert.Equal(t, second(3).Add(38*time.Second), l.pace.free, "the gateway was held up")
	assert.Zero(t, l.pace.slowest, "which says nothing about the unit")
	l.triedLocked(nil, answered, nil, second(3), second(4))
	assert.Equal(t, time.Second, l.pace.slowest)
	l.triedLocked(nil, silent, nil, second(4), second(40))
	l.triedLocked(nil, answered, errors.New("lost"), second(4), second(40))
	assert.Equal(t, time.Second, l.pace.slowest, "only answers count")
	l.triedLocked(&try{wanted: second(50)}, answered, nil, second(48), second(52))
	assert.Equal(t, second(52).Add(38*time.Second), l.pace.free)
	assert.False(t, l.after)
}

// A unit that falls silent in the middle of polling costs the others its timeout
// once, and then moments.
func TestUnitFallsSilent(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1, 2)
	bus := NewBus(dev.address)
	s := setup(point("a", "holding:1"), point("b", "holding:100"))
	live := connected(t, bus.Unit(1), s)
	s.Timeout = time.Second
	falls := connected(t, bus.Unit(2), s)
	read(t, live)
	read(t, falls)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reading := make(chan error, 1)
	rounds := atomic.Int32{}
	go func() {
		for ctx.Err() == nil {
			if _, err := live.Read(ctx); err != nil && ctx.Err() == nil {
				reading <- err
				return
			}
			rounds.Add(1)
		}
		reading <- nil
	}()
	dev.faults(func(r server.Request) server.Action { return server.Action{Ignore: r.Unit == 2} })
	_, err := falls.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	require.ErrorIs(t, err, ErrTimeout)
	before := rounds.Load()
	require.Eventually(t, func() bool { return rounds.Load() > before+10 }, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-reading)
}

// However much time attempts on silent units took from others, a dead unit is
// tried again within a bound.
func TestRestOfDeadUnitsIsBounded(t *testing.T) {
	t.Parallel()
	var p patience
	now := time.Unix(1000, 0)
	p.cost(100*time.Millisecond, now)
	p.cost(100*time.Millisecond, now)
	assert.Equal(t, 38*100*time.Millisecond, p.free.Sub(now), "rests add up")
	for range 1000 {
		p.cost(100*time.Millisecond, now)
	}
	assert.Equal(t, mostRest, p.free.Sub(now))
	p.cost(time.Second, now)
	assert.Equal(t, 19*time.Second, p.free.Sub(now), "a single one is not cut")
}
