package modbus

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

func TestHostPort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.168.1.10:1502": "192.168.1.10:1502", "192.168.1.10": "192.168.1.10:502", "meter.local": "meter.local:502",
		"[fe80::1]:503": "[fe80::1]:503", "[fe80::1]": "[fe80::1]:502", "fe80::1": "[fe80::1]:502",
	} {
		got, err := hostPort(in, DefaultPort)
		require.NoError(t, err, in)
		assert.Equal(t, want, got)
	}
	for _, in := range []string{"", ":502", "host:", "host:0", "host:70000", "host:modbus", "tcp://host:502", "a b", "host:1:2"} {
		_, err := hostPort(in, DefaultPort)
		require.ErrorIs(t, err, model.ErrInvalid, in)
		_, err = TCP(in)(setup())
		require.ErrorIs(t, err, model.ErrInvalid, in)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for text, opts := range map[string][]Option{
		"unit 256": {Unit(256)}, "unit -1": {Unit(-1)}, "max read 0": {MaxRead(0)}, "max read 126": {MaxRead(126)},
		"max gap -1": {MaxGap(-1)}, "connect timeout 0s": {ConnectTimeout(0)}, "delay -1s": {Delay(-time.Second)},
	} {
		_, err := TCP("127.0.0.1", opts...)(setup())
		require.ErrorIs(t, err, model.ErrInvalid, text)
		assert.ErrorContains(t, err, text)
	}
	_, err := NewBus("127.0.0.1").Unit(1, Delay(time.Second))(setup())
	require.ErrorContains(t, err, "belong to the bus")
	_, err = NewBus("127.0.0.1", Delay(time.Second)).Unit(1, MaxRead(10), MaxGap(0), MultipleWrites())(setup())
	require.NoError(t, err)
	_, err = TCP("127.0.0.1", MaxRead(2))(setup(point("a", "holding:1:int64")))
	require.ErrorContains(t, err, "4 registers, and one request may read 2")
}

func TestBusSharesOneConnection(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1, 2, 3)
	var busy atomic.Int32
	dev.faults(func(server.Request) server.Action {
		assert.EqualValues(t, 1, busy.Add(1), "one request at a time")
		busy.Add(-1)
		return server.Action{}
	})
	bus := NewBus(dev.address)
	var drivers []*driver
	for u := range 3 {
		dev.units[byte(u+1)].SetRegisters(server.HoldingRegister, 1, uint16(100+u))
		drivers = append(drivers, connected(t, bus.Unit(u+1), setup(control("a", "holding:1"))))
	}
	var running sync.WaitGroup
	for u, d := range drivers {
		running.Go(func() {
			for range 50 {
				samples, err := d.Read(context.Background())
				if !assert.NoError(t, err) || !assert.Equal(t, float64(100+u), samples[0].Value) {
					return
				}
			}
		})
		running.Go(func() {
			for range 20 {
				out, err := write(d, "a", float64(100+u))
				assert.NoError(t, err)
				assert.Equal(t, channel.Done, out.Result)
			}
		})
	}
	running.Wait()
	assert.Equal(t, 1, dev.connections())
	require.NoError(t, drivers[0].Close(context.Background()))
	require.NoError(t, drivers[1].Close(context.Background()))
	assert.Equal(t, good("a", 102), read(t, drivers[2])["a"])
	require.NoError(t, drivers[2].Close(context.Background()))
	require.Eventually(t, func() bool { return dev.connections() == 0 }, 10*time.Second, time.Millisecond)
}

func TestDeadUnitDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1, 2)
	dev.faults(func(r server.Request) server.Action { return server.Action{Ignore: r.Unit == 2} })
	bus := NewBus(dev.address)
	s := setup(point("a", "holding:1"))
	live := connected(t, bus.Unit(1), s)
	s.Timeout = 500 * time.Millisecond
	dead := connected(t, bus.Unit(2), s)
	_, err := dead.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	for range 3 {
		assert.Equal(t, good("a", 1), read(t, live)["a"])
		require.NoError(t, dead.Close(context.Background()))
		require.ErrorIs(t, dead.Connect(context.Background()), channel.ErrNotConnected)
	}
	assert.EqualValues(t, 1, dev.srv.Stats().Accepted, "all on the first connection")
	dev.faults(nil)
	require.NoError(t, dead.Connect(context.Background()))
	assert.Equal(t, good("a", 1), read(t, dead)["a"])
}

// A connection on which nobody answers any more is replaced even while units
// hold it.
func TestDeadConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	var accepted atomic.Int32
	address := script(t, func(c net.Conn) {
		mute := accepted.Add(1) == 1
		for q := request(c); q != nil; q = request(c) {
			if !mute {
				_, _ = c.Write(answer(q, 5))
			}
		}
	})
	bus := NewBus(address)
	s := setup(point("a", "holding:1"))
	s.Timeout = 500 * time.Millisecond
	one, two := connected(t, bus.Unit(1), s), connected(t, bus.Unit(2), s)
	idle := connected(t, bus.Unit(3), s) // does not read meanwhile
	for _, d := range []*driver{one, two} {
		_, err := d.Read(context.Background())
		require.ErrorIs(t, err, channel.ErrNotConnected)
	}
	require.ErrorIs(t, one.Connect(context.Background()), channel.ErrNotConnected, "unit 3 was not asked yet")
	_, err := idle.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	require.NoError(t, one.Connect(context.Background()))
	assert.Equal(t, good("a", 5), read(t, one)["a"])
	assert.EqualValues(t, 2, accepted.Load())
}

func TestOneDialForAll(t *testing.T) {
	t.Parallel()
	bus := NewBus("127.0.0.1:1")
	var dials atomic.Int32
	inside, proceed := make(chan struct{}), make(chan struct{})
	bus.line.dial = func(ctx context.Context) (net.Conn, error) {
		if dials.Add(1) == 1 {
			close(inside)
		}
		select {
		case <-proceed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	// The first gives up; of the others one dials anew, for all.
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error, 1)
	go func() { first <- open(t, bus.Unit(1), setup()).Connect(ctx) }()
	<-inside
	others := make(chan error, 5)
	for u := range 5 {
		d := open(t, bus.Unit(u), setup())
		go func() { others <- d.Connect(context.Background()) }()
	}
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	require.Eventually(t, func() bool { return dials.Load() >= 2 }, 10*time.Second, time.Millisecond)
	close(proceed)
	for range 5 {
		require.ErrorIs(t, <-others, channel.ErrNotConnected)
	}
}

func TestDelayBetweenRequests(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	const delay = 20 * time.Millisecond
	var mu sync.Mutex
	var times []time.Time
	dev.faults(func(server.Request) server.Action {
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Now())
		return server.Action{}
	})
	d := connected(t, TCP(dev.address, Delay(delay)), setup(point("a", "holding:1"), point("b", "coil:1"), point("c", "input:1")))
	read(t, d)
	read(t, d)
	require.Len(t, times, 6)
	for k := 1; k < len(times); k++ {
		assert.GreaterOrEqual(t, times[k].Sub(times[k-1]), delay)
	}
}

func TestKind(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1, 2)
	require.Len(t, Kinds(), 4)
	kind := Kind()
	assert.Equal(t, "modbus-tcp", kind.Name)
	factory := func(text string) (channel.Factory, error) {
		return kind.Open(func(to any) error { return yaml.Unmarshal([]byte(text), to) })
	}
	one, err := factory("{address: '" + dev.address + "', unit: 1, max_read: 10, max_gap: 0, connect_timeout: 2s, delay: 1ms, multiple_writes: true}")
	require.NoError(t, err)
	two, err := factory("{address: '" + dev.address + "', unit: 2, connect_timeout: 2s, delay: 1ms}")
	require.NoError(t, err)
	alone, err := factory("{address: '" + dev.address + "', unit: 2, connect_timeout: 2s, delay: 1ms, exclusive: true}")
	require.NoError(t, err)
	a, b := connected(t, one, setup(point("a", "holding:1"))), connected(t, two, setup(point("a", "holding:1")))
	assert.Same(t, a.line, b.line)
	assert.Equal(t, 1, a.opts.unit)
	assert.Equal(t, 2, b.opts.unit)
	assert.Equal(t, limits{10, 0}, a.opts.limits)
	assert.Equal(t, limits{125, 8}, b.opts.limits)
	assert.True(t, a.opts.multiple)
	read(t, a)
	read(t, b)
	assert.Equal(t, 1, dev.connections())
	c := connected(t, alone, setup(point("a", "holding:1")))
	read(t, c)
	assert.Equal(t, 2, dev.connections())

	other, err := factory("{address: '" + dev.address + "', unit: 2, connect_timeout: 2s, delay: 1ms, connect_delay: 1ms, retries: 2, pipeline: 3}")
	require.NoError(t, err)
	e := open(t, other, setup(point("a", "holding:1")))
	assert.NotSame(t, a.line, e.line, "another pause after the connect is another connection")
	assert.Equal(t, time.Millisecond, e.line.connectDelay)
	assert.Equal(t, 2, e.opts.retries)
	assert.Equal(t, 3, e.opts.pipeline)

	for _, text := range []string{"{}", "{address: 'x:y'}", "{address: host, unit: 300}", "{address: host, unit: one}"} {
		_, err := factory(text)
		require.Error(t, err, text)
	}
}
