package modbus

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gb "github.com/goburrow/modbus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// sealed gives a frame that was changed the right checksum.
func sealed(f []byte) []byte {
	return appendRTU(nil, f[0], &gb.ProtocolDataUnit{FunctionCode: f[1], Data: f[2 : len(f)-2]})
}

// Each fault hits one request. Values are right or absent, the connection
// stays, and at once or after a request more all is as before.
func TestRTUFaults(t *testing.T) {
	t.Parallel()
	tail := func(f []byte, b ...byte) []byte { return append(append([]byte{}, f...), b...) }
	rewrite := func(f func([]byte) []byte) server.Action { return server.Action{Rewrite: f} }
	for name, c := range map[string]struct {
		action server.Action
		good   bool // the request still brings its values
	}{
		"late":             {server.Action{Delay: 1500 * time.Millisecond}, false},
		"lost":             {server.Action{Drop: true}, false},
		"not taken":        {server.Action{Ignore: true}, false},
		"duplicate":        {server.Action{Duplicate: true}, true},
		"truncated":        {server.Action{Truncate: 1}, false},
		"only a begin":     {rewrite(func(f []byte) []byte { return f[:2] }), false},
		"wrong checksum":   {rewrite(func(f []byte) []byte { f[4]++; return f }), false},
		"wrong unit":       {rewrite(func(f []byte) []byte { f[0] = 9; return sealed(f) }), false},
		"wrong function":   {rewrite(func(f []byte) []byte { f[1] = 4; return sealed(f) }), false},
		"wrong byte count": {rewrite(func(f []byte) []byte { f[2]--; return sealed(f) }), false},
		"longer":           {rewrite(func(f []byte) []byte { f[2] += 2; return sealed(tail(f, 0, 0)) }), false},
		"shorter":          {rewrite(func(f []byte) []byte { f[2] -= 2; return sealed(f[:len(f)-2]) }), false},
		"garbage":          {rewrite(func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }), false},
		"garbage before":   {rewrite(func(f []byte) []byte { return tail([]byte{0, 0xFF, 0, 0x35, 0x03, 0x02}, f...) }), true},
		"garbage after":    {rewrite(func(f []byte) []byte { return tail(f, 0, 0xFF, 1, 3) }), true},
		"foreign before": {rewrite(func(f []byte) []byte {
			other := tail(f)
			other[0] = 9
			return tail(sealed(other), f...)
		}), true},
		"answer inside a foreign frame": {rewrite(func(f []byte) []byte {
			inner := sealed(tail(f[:3], 0xBA, 0xDB, 0xAD, 0xBA, 0, 0))
			outer := &gb.ProtocolDataUnit{FunctionCode: 3, Data: tail([]byte{byte(len(inner))}, inner...)}
			return appendRTU(nil, 9, outer)
		}), false},
		"exception": {server.Action{Exception: server.DeviceFailure}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := newDeviceOf(t, true, 1)
			// All requests but the last are of one form.
			s := setup(point("a", "holding:1:int32"), point("b", "holding:50:int32"), point("c", "holding:100:int32"), point("e", "input:7"))
			s.Timeout = time.Second
			d := connected(t, RTUOverTCP(dev.address), s)
			want := read(t, d)
			require.Equal(t, good("b", 50<<16|51), want["b"])
			var hit atomic.Bool
			dev.faults(func(r server.Request) server.Action {
				if r.Address == 50 && !hit.Swap(true) {
					return c.action
				}
				return server.Action{}
			})
			for round := range 4 {
				got := read(t, d)
				if round == 0 && !c.good {
					assert.Equal(t, bad("b", model.Bad), got["b"])
					delete(got, "b")
				}
				for id := range got {
					if got[id].Quality == model.Good || round > 1 || c.good {
						assert.Equal(t, want[id], got[id], "round %d", round)
					}
				}
			}
			assert.True(t, hit.Load())
			assert.EqualValues(t, 1, dev.srv.Stats().Accepted)
		})
	}
}

// An answer that comes during the next request, which asks for as much of
// another address, is not taken for its answer; nor is one to an earlier write.
func TestRTULateAnswer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var asked [][]byte
	address := script(t, func(c net.Conn) {
		var held []byte
		for {
			q := make([]byte, 8)
			if n, err := c.Read(q); err != nil || n != 8 {
				return
			}
			asked = append(asked, q)
			a := q // an echo
			if q[1] == 3 {
				a = []byte{q[0], 3, q[5] * 2}
				for k := range q[5] {
					a = append(a, 0, q[3]+k)
				}
				a = appendRTU(nil, q[0], &gb.ProtocolDataUnit{FunctionCode: 3, Data: a[2:]})
			}
			if len(asked) == 1 || len(asked) == 4 { // too late: with the answer to the next request
				held = a
				release <- struct{}{}
				continue
			}
			_, _ = c.Write(append(held, a...))
			held = nil
		}
	})
	s := setup(control("a", "holding:10"), control("b", "holding:20"))
	s.Timeout = 700 * time.Millisecond
	d := connected(t, RTUOverTCP(address, MaxGap(0)), s)
	go func() { <-release; <-release }()
	got := read(t, d)
	assert.Equal(t, bad("a", model.Bad), got["a"])
	assert.Equal(t, good("b", 20), got["b"])
	out, err := write(d, "a", 5)
	require.ErrorIs(t, err, ErrTimeout)
	assert.Equal(t, channel.Sent, out.Result)
	out, err = write(d, "b", 5)
	require.NoError(t, err)
	assert.Equal(t, channel.Done, out.Result)
	require.Len(t, asked, 6)
	for k, want := range []string{
		"01 03 00 0A 00 01", "01 03 00 14 00 02", "01 03 00 14 00 01",
		"01 06 00 0A 00 05", "01 03 00 14 00 01", "01 06 00 14 00 05",
	} {
		assert.Equal(t, unhex(t, want), asked[k][:6], "request %d", k)
	}
}

func TestRTUByteByByte(t *testing.T) {
	t.Parallel()
	address := script(t, func(c net.Conn) {
		q := make([]byte, 8)
		for n, err := c.Read(q); n == 8 && err == nil; n, err = c.Read(q) {
			for _, b := range appendRTU(nil, 1, &gb.ProtocolDataUnit{FunctionCode: 3, Data: []byte{2, 0x12, 0x34}}) {
				_, _ = c.Write([]byte{b})
			}
		}
	})
	d := connected(t, RTUOverTCP(address), setup(point("a", "holding:1")))
	for range 20 {
		assert.Equal(t, good("a", 0x1234), read(t, d)["a"])
	}
}

func TestRTUBroadcast(t *testing.T) {
	t.Parallel()
	dev := newDeviceOf(t, true, 1, 2)
	bus := NewRTUOverTCPBus(dev.address)
	all := connected(t, bus.Unit(0), setup(control("w", "holding:9")))
	one := connected(t, bus.Unit(1), setup(point("w", "holding:9")))
	out, err := write(all, "w", 77)
	require.ErrorIs(t, err, errBroadcast)
	assert.Equal(t, channel.Sent, out.Result)
	assert.Equal(t, good("w", 77), read(t, one)["w"])
	raw, _ := dev.units[2].Register(server.HoldingRegister, 9)
	assert.EqualValues(t, 77, raw)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err = all.Read(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "it is never read")

	readBack := control("r", "holding:9")
	readBack.ReadBack = true
	for _, p := range []model.Point{point("m", "holding:9"), readBack} {
		_, err := bus.Unit(0)(setup(p))
		require.ErrorContains(t, err, "unit 0 is all units")
	}
}

func TestRTUClosedWhileIdleIsNotSent(t *testing.T) {
	t.Parallel()
	dev := newDeviceOf(t, true, 1)
	d := connected(t, RTUOverTCP(dev.address), setup(control("w", "holding:9")))
	dev.stop()
	// The peer's FIN is on its way over loopback.
	require.Eventually(t, func() bool {
		d.line.mu.Lock()
		defer d.line.mu.Unlock()
		return !alive(d.line.conn.(*rtuConn).Conn)
	}, 10*time.Second, time.Millisecond)
	out, err := write(d, "w", 1)
	require.ErrorIs(t, err, channel.ErrNotConnected)
	assert.Equal(t, channel.NotSent, out.Result)
}

func TestRTUOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for text, opts := range map[string][]Option{
		"unit 248": {Unit(248)}, "baud 9601": {Baud(9601)}, "baud 0": {Baud(0)}, "parity mark": {Parity("mark")}, "stop bits 3": {StopBits(3)},
	} {
		_, err := RTU("/dev/ttyS0", opts...)(setup())
		require.ErrorIs(t, err, model.ErrInvalid, text)
		assert.ErrorContains(t, err, text)
	}
	_, err := RTU("COM1")(setup())
	require.ErrorContains(t, err, "want a path")
	_, err = RTUOverTCP("host", Baud(9600))(setup())
	require.ErrorContains(t, err, "belong to serial lines")
	_, err = TCP("host", Baud(9600))(setup())
	require.ErrorContains(t, err, "belong to serial lines")
	_, err = NewRTUBus("/dev/ttyS0").Unit(1, Baud(9600))(setup())
	require.ErrorContains(t, err, "belong to the bus")
	d := open(t, RTU(t.TempDir()+"/none"), setup())
	require.ErrorIs(t, d.Connect(context.Background()), channel.ErrNotConnected)
}

func TestRTUKinds(t *testing.T) {
	t.Parallel()
	serial, tcp := RTUKind(), RTUOverTCPKind()
	assert.Equal(t, []string{"modbus-rtu", "modbus-rtu-tcp"}, []string{serial.Name, tcp.Name})
	factory := func(k channel.Kind, text string) (channel.Factory, error) {
		return k.Open(func(to any) error { return yaml.Unmarshal([]byte(text), to) })
	}
	made := func(k channel.Kind, text string) *driver {
		f, err := factory(k, text)
		require.NoError(t, err)
		return open(t, f, setup())
	}
	one := made(serial, "{device: /dev/ttyUSB0, baud: 9600, parity: none, stop_bits: 2, unit: 4}")
	two := made(serial, "{device: /dev/ttyUSB0, baud: 9600, parity: none, stop_bits: 2, unit: 5}")
	assert.Same(t, one.line, two.line)
	assert.Equal(t, serialOptions{9600, "none", 2}, one.opts.line.serial)
	assert.True(t, one.line.rtu)
	_, err := factory(serial, "{device: /dev/ttyUSB0, unit: 6}")
	require.ErrorContains(t, err, "a different baud")
	assert.Same(t, made(tcp, "{address: host}").line, made(tcp, "{address: 'host:502', unit: 2}").line)
	assert.NotSame(t, made(tcp, "{address: host}").line, made(tcp, "{address: host, exclusive: true}").line)
	for _, text := range []string{"{}", "{device: ttyUSB0}", "{device: /dev/x, parity: odds}", "{device: /dev/x, unit: 250}"} {
		_, err := factory(serial, text)
		require.Error(t, err, text)
	}
}

// Two units on a line are polled and operated while a third of the requests
// meets a fault. No good sample is ever wrong, and in the end all is well.
func TestRTURandomFaults(t *testing.T) {
	t.Parallel()
	rounds := 60
	if os.Getenv("VOLTAGE_LONG") == "1" {
		rounds = 20000
	}
	dev := newDeviceOf(t, true, 1, 2)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(7, 8))
	dev.faults(func(server.Request) server.Action {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(3) > 0 {
			return server.Action{}
		}
		at, value := r.IntN(1<<16), byte(1+r.IntN(255))
		return []server.Action{
			{Drop: true}, {Ignore: true}, {Duplicate: true}, {Truncate: 1 + r.IntN(8)}, {Disconnect: true},
			{Drop: true, Disconnect: true}, {Exception: server.Exception(1 + r.IntN(11))},
			{Delay: time.Duration(r.IntN(60)) * time.Millisecond},
			{Rewrite: func(f []byte) []byte { f[at%len(f)] ^= value; return f }},
			{Rewrite: func(f []byte) []byte { return append(f, value, value) }},
			{Rewrite: func(f []byte) []byte { return append([]byte{value, byte(at)}, f...) }},
		}[r.IntN(11)]
	})
	bus := NewRTUOverTCPBus(dev.address)
	var running sync.WaitGroup
	var goods atomic.Int64
	for u := 1; u <= 2; u++ {
		// All are read with requests of one form.
		s := setup(point("a", "holding:1"), point("b", "holding:50"), point("c", "holding:100"), control("w", "holding:150"))
		s.Timeout = 25 * time.Millisecond
		want := map[string]float64{"a": 1, "b": 50, "c": 100, "w": 150}
		d := open(t, bus.Unit(u), s)
		running.Go(func() {
			for range rounds {
				samples, err := d.Read(context.Background())
				if err != nil {
					if !assert.ErrorIs(t, err, channel.ErrNotConnected) {
						return
					}
					_ = d.Close(context.Background())
					_ = d.Connect(context.Background())
					continue
				}
				for _, got := range samples {
					if got.Quality == model.Good {
						goods.Add(1)
						assert.Equal(t, want[got.Point], got.Value, got.Point)
					}
				}
			}
		})
		running.Go(func() {
			for range rounds / 5 {
				out, err := write(d, "w", 150)
				assert.Equal(t, out.Result == channel.Done, err == nil, "%v, %v", out, err)
			}
		})
		t.Cleanup(func() {
			dev.faults(nil)
			require.Eventually(t, func() bool {
				_ = d.Close(context.Background())
				if d.Connect(context.Background()) != nil {
					return false
				}
				samples, err := d.Read(context.Background())
				return err == nil && fmt.Sprint(samples) == fmt.Sprint([]model.Sample{good("a", 1), good("b", 50), good("c", 100), good("w", 150)})
			}, 10*time.Second, time.Millisecond)
			_ = d.Close(context.Background())
		})
	}
	running.Wait()
	assert.Positive(t, goods.Load())
}

// An exception that comes too late is not the answer to another request, whose
// own answer would then be taken for that to a third.
func TestRTULateException(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	address := script(t, func(c net.Conn) {
		var held []byte
		for {
			q := make([]byte, 8)
			if _, err := io.ReadFull(c, q); err != nil {
				return
			}
			data := []byte{q[5] * 2}
			for k := range q[5] {
				data = append(data, 0, q[3]+k)
			}
			a := appendRTU(nil, 1, &gb.ProtocolDataUnit{FunctionCode: q[1], Data: data})
			switch asked.Add(1) {
			case 2: // busy for so long that it says so during the next request
				continue
			case 3:
				held, a = a, appendRTU(nil, 1, &gb.ProtocolDataUnit{FunctionCode: 0x83, Data: []byte{6}})
			default:
				a, held = append(held, a...), nil
			}
			_, _ = c.Write(a)
		}
	})
	s := setup(point("i", "input:0"), point("a", "holding:0"), point("b", "holding:20:int32"), point("c", "holding:40:int32"), point("e", "holding:60:int32"))
	s.Timeout = time.Second
	d := connected(t, RTUOverTCP(address, MaxGap(0)), s)
	got := read(t, d)
	assert.Equal(t, bad("a", model.Bad), got["a"])
	for id, want := range map[string]float64{"b": 20<<16 | 21, "c": 40<<16 | 41, "e": 60<<16 | 61} {
		if got[id].Quality == model.Good {
			assert.Equal(t, good(id, want), got[id])
		}
	}
	assert.Equal(t, good("e", 60<<16|61), got["e"])
	assert.Equal(t, good("b", 20<<16|21), read(t, d)["b"])
}

// Where a device answers everything with exceptions, a probe with another function
// tells them apart.
func TestRTUExceptionsAfterALostAnswer(t *testing.T) {
	t.Parallel()
	dev := newDeviceOf(t, true, 1)
	s := setup(point("a", "holding:0"), point("b", "holding:50"), control("w", "holding:100"))
	s.Timeout = time.Second
	d := connected(t, RTUOverTCP(dev.address), s)
	var first atomic.Bool
	dev.faults(func(r server.Request) server.Action {
		if !first.Swap(true) {
			return server.Action{Drop: true}
		}
		return server.Action{Exception: server.DeviceFailure}
	})
	read(t, d)
	dev.requests()
	for id, sample := range read(t, d) {
		assert.Equal(t, bad(id, model.Bad), sample)
	}
	assert.Len(t, dev.requests(), 3, "all is clear")
	assert.Empty(t, d.line.conn.(*rtuConn).pace.doubts)
	out, err := write(d, "w", 1)
	require.Error(t, err)
	assert.Equal(t, channel.Refused, out.Result)
}
