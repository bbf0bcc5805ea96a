package modbus

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

func write(d *driver, id string, value float64) (channel.Outcome, error) {
	w := channel.Write{Point: model.Point{ID: id}, Value: value}
	if i, ok := d.index[id]; ok {
		w.Point = d.setup.Points[i]
	}
	return d.Write(context.Background(), w)
}

func TestWriteFunctions(t *testing.T) {
	t.Parallel()
	for _, multiple := range []bool{false, true} {
		var opts []Option
		if multiple {
			opts = append(opts, MultipleWrites())
		}
		dev := newDevice(t, 1)
		m := dev.units[1]
		scaled := control("scaled", "holding:5:int16")
		scaled.Scale, scaled.Offset = 0.1, 10
		d := connected(t, TCP(dev.address, opts...), setup(
			control("coil", "coil:4"), scaled, control("f", "holding:20:float32:CDAB"), control("bool", "holding:30:bool")))
		for _, c := range []struct {
			id               string
			value            float64
			single, multiple byte
		}{{"coil", 1, 5, 15}, {"scaled", -22.46, 6, 16}, {"f", 1.5, 16, 16}, {"bool", 1, 6, 16}} {
			dev.requests()
			out, err := write(d, c.id, c.value)
			require.NoError(t, err, c.id)
			assert.Equal(t, channel.Outcome{Result: channel.Done}, out, c.id)
			want := c.single
			if multiple {
				want = c.multiple
			}
			sent := dev.requests()
			require.Len(t, sent, 1, c.id)
			assert.Equal(t, want, sent[0].Function, c.id)
		}
		on, _ := m.Bit(server.Coil, 4)
		assert.True(t, on)
		raw, _ := m.Register(server.HoldingRegister, 5)
		assert.Equal(t, int16(-325), int16(raw), "(-22.46 - 10) / 0.1, rounded")
		low, _ := m.Register(server.HoldingRegister, 20)
		high, _ := m.Register(server.HoldingRegister, 21)
		assert.Equal(t, []uint16{0, 0x3FC0}, []uint16{low, high})
		_, err := write(d, "coil", 0)
		require.NoError(t, err)
		on, _ = m.Bit(server.Coil, 4)
		assert.False(t, on)
		assert.Equal(t, good("f", 1.5), read(t, d)["f"], "controls are polled too")
	}
}

func TestWriteOutOfRangeIsNotSent(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	d := connected(t, TCP(dev.address), setup(control("i", "holding:5:int16"), control("c", "coil:1"), point("m", "holding:9")))
	for id, value := range map[string]float64{"i": 32768, "c": 2, "m": 1, "nobody": 1} {
		out, err := write(d, id, value)
		require.ErrorIs(t, err, model.ErrInvalid, id)
		assert.ErrorContains(t, err, "point "+id)
		assert.Equal(t, channel.Outcome{}, out, id)
	}
	assert.Empty(t, dev.requests())
}

func TestWriteOutcomes(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s := setup(control("a", "holding:5"))
	s.Timeout = 250 * time.Millisecond
	d := connected(t, TCP(dev.address), s)
	for name, c := range map[string]struct {
		action server.Action
		want   channel.Result
		text   string
	}{
		"refused":      {server.Action{Exception: server.IllegalValue}, channel.Refused, "exception 3 (illegal data value) to function 6"},
		"acknowledge":  {server.Action{Exception: 5}, channel.Sent, "acknowledge"},
		"gateway":      {server.Action{Exception: server.GatewayTargetFailed}, channel.Sent, "gateway target"},
		"no answer":    {server.Action{Drop: true}, channel.Sent, "no answer in time"},
		"wrong echo":   {server.Action{Rewrite: func(f []byte) []byte { f[11]++; return f }}, channel.Sent, "echo 00 05 00 04 in place of 00 05 00 03"},
		"disconnected": {server.Action{Drop: true, Disconnect: true}, channel.Sent, "not connected"},
	} {
		dev.faults(func(r server.Request) server.Action {
			if r.Function == 6 {
				return c.action
			}
			return server.Action{}
		})
		out, err := write(d, "a", 3)
		require.ErrorContains(t, err, c.text, name)
		assert.Equal(t, channel.Outcome{Result: c.want}, out, name)
		if c.action.Disconnect {
			_, err = d.Read(context.Background())
			require.ErrorIs(t, err, channel.ErrNotConnected, name)
			out, err = write(d, "a", 3)
			require.ErrorIs(t, err, channel.ErrNotConnected, name)
			assert.Equal(t, channel.Outcome{}, out, name)
			require.NoError(t, d.Close(context.Background()))
			require.NoError(t, d.Connect(context.Background()))
		}
	}
}

func TestWriteReadBack(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	p := control("a", "holding:5:int16")
	p.ReadBack, p.Scale = true, 0.5
	s := setup(p)
	s.Timeout = time.Second
	d := connected(t, TCP(dev.address), s)

	out, err := write(d, "a", -3.6)
	require.NoError(t, err)
	require.NotNil(t, out.ReadBack)
	assert.Equal(t, channel.Confirmed, out.Result)
	assert.Equal(t, -3.5, *out.ReadBack)

	// The device adopts the value only after a while.
	var reads atomic.Int32
	dev.faults(func(r server.Request) server.Action {
		if r.Function == 3 && reads.Add(1) < 3 {
			return server.Action{Rewrite: func(f []byte) []byte { f[10] = 0; return f }}
		}
		return server.Action{}
	})
	out, err = write(d, "a", 4)
	require.NoError(t, err)
	assert.Equal(t, channel.Confirmed, out.Result)
	assert.EqualValues(t, 3, reads.Load())

	// The answer to the write is lost, but the value is there.
	dev.faults(func(r server.Request) server.Action { return server.Action{Drop: r.Function == 6} })
	out, err = write(d, "a", 5)
	require.NoError(t, err)
	assert.Equal(t, channel.Confirmed, out.Result)

	// The write is lost, and so the value is another.
	dev.faults(func(r server.Request) server.Action { return server.Action{Ignore: r.Function == 6} })
	out, err = write(d, "a", 6)
	require.ErrorContains(t, err, "read back: 5 in place of 6")
	require.ErrorIs(t, err, ErrTimeout)
	assert.Equal(t, channel.Sent, out.Result)
	assert.Equal(t, 5.0, *out.ReadBack)

	// The device acknowledges, and does something else.
	dev.faults(func(r server.Request) server.Action {
		return server.Action{Rewrite: func(f []byte) []byte {
			if r.Function == 3 {
				f[10] = 0
			}
			return f
		}}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err = d.Write(ctx, channel.Write{Point: p, Value: 7})
	require.ErrorContains(t, err, "read back: 0 in place of 7")
	assert.Equal(t, channel.Done, out.Result)
	assert.Equal(t, 0.0, *out.ReadBack)

	// It cannot be read.
	dev.faults(func(r server.Request) server.Action {
		if r.Function == 3 {
			return server.Action{Exception: server.DeviceFailure}
		}
		return server.Action{}
	})
	out, err = write(d, "a", 7)
	require.ErrorContains(t, err, "read back: exception 4")
	assert.Equal(t, channel.Outcome{Result: channel.Done}, out)

	// A refusal is one, whatever can be read.
	dev.faults(func(r server.Request) server.Action {
		if r.Function == 6 {
			return server.Action{Exception: server.IllegalValue}
		}
		return server.Action{}
	})
	out, err = write(d, "a", 7)
	require.ErrorContains(t, err, "illegal data value")
	assert.Equal(t, channel.Outcome{Result: channel.Refused}, out)
}

// A command that comes while a round is under way is the next request.
func TestWriteGoesAheadOfPolls(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	var points []model.Point
	for n := range 10 {
		points = append(points, point(fmt.Sprint(n), fmt.Sprintf("holding:%d", n*10)))
	}
	points = append(points, control("z", "coil:2"))
	bus := NewBus(dev.address)
	d := connected(t, bus.Unit(1), setup(points...))
	reached, proceed := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	dev.faults(func(r server.Request) server.Action {
		if r.Function == 3 && r.Address == 20 && !once.Swap(true) {
			close(reached)
			<-proceed
		}
		return server.Action{}
	})
	reading := make(chan error, 1)
	go func() {
		_, err := d.Read(context.Background())
		reading <- err
	}()
	<-reached
	writing := make(chan error, 1)
	go func() {
		_, err := write(d, "z", 1)
		writing <- err
	}()
	require.Eventually(t, func() bool {
		bus.line.mu.Lock()
		defer bus.line.mu.Unlock()
		return len(bus.line.commands) == 1
	}, 10*time.Second, time.Millisecond)
	close(proceed)
	require.NoError(t, <-writing)
	require.NoError(t, <-reading)
	var order []byte
	for _, r := range dev.requests() {
		order = append(order, r.Function)
	}
	require.Greater(t, len(order), 5)
	assert.Equal(t, []byte{1, 3, 3, 3, 5}, order[:5])
	// The point was read before the command, and so it is read again after it
	// and only then returned; the rest of the round follows.
	assert.Equal(t, []model.Sample{good("z", 1)}, d.out)
	assert.EqualValues(t, 1, order[len(order)-1])
	assert.Equal(t, good("z", 1), read(t, d)["z"])
	assert.Len(t, append(order, make([]byte, len(dev.requests()))...), 13)
}

// A device that closes idle connections leaves no doubt about a command.
func TestWriteOnAnIdleConnectionThatWasClosed(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	address := script(t, func(c net.Conn) {
		_ = c.Close()
		closed <- struct{}{}
	})
	s := setup(control("a", "holding:5"))
	s.Scan = time.Hour
	d := connected(t, TCP(address), s)
	<-closed
	d.table.Start(time.Now().Add(time.Hour)) // Read waits
	reading := make(chan error, 1)
	go func() {
		_, err := d.Read(context.Background())
		reading <- err
	}()
	// The peer's FIN is on its way over loopback.
	require.Eventually(t, func() bool {
		d.line.mu.Lock()
		defer d.line.mu.Unlock()
		return !alive(d.line.conn.(*conn).Conn)
	}, 10*time.Second, time.Millisecond)
	out, err := write(d, "a", 1)
	require.ErrorIs(t, err, channel.ErrNotConnected)
	assert.Equal(t, channel.Outcome{}, out)
	require.ErrorIs(t, <-reading, channel.ErrNotConnected, "Read hears of it at once")
}

func TestCloseEndsReadAndWrite(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s := setup(control("a", "holding:5"), point("b", "holding:100"))
	s.Timeout = time.Hour
	for range 20 {
		d := connected(t, TCP(dev.address), s)
		came := make(chan struct{}, 1)
		dev.faults(func(server.Request) server.Action {
			select {
			case came <- struct{}{}:
			default:
			}
			return server.Action{Ignore: true}
		})
		done := make(chan error, 2)
		go func() {
			_, err := d.Read(context.Background())
			done <- err
		}()
		go func() {
			_, err := write(d, "a", 1)
			done <- err
		}()
		<-came
		require.NoError(t, d.Close(context.Background()))
		require.NoError(t, d.Close(context.Background()))
		require.ErrorIs(t, <-done, channel.ErrNotConnected)
		require.ErrorIs(t, <-done, channel.ErrNotConnected)
	}
	require.Eventually(t, func() bool { return dev.connections() == 0 }, 10*time.Second, time.Millisecond)
}

// endingContext has ended once the server has the request, and interrupts nothing.
type endingContext struct {
	context.Context
	ended *atomic.Bool
}

func (c endingContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

// A read-back for which there was no time left is said to be missing.
func TestReadBackWithoutTime(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	p := control("w", "holding:9:uint32")
	p.ReadBack = true
	d := connected(t, TCP(dev.address), setup(p))
	var ended atomic.Bool
	dev.faults(func(server.Request) server.Action {
		ended.Store(true)
		return server.Action{}
	})
	out, err := d.write(endingContext{context.Background(), &ended}, channel.Write{Point: p, Value: 5})
	assert.Equal(t, channel.Outcome{Result: channel.Done}, out)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "read back")
}

// A value is read back for as long as its point says.
func TestReadBackTime(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	short, long := control("short", "holding:5"), control("long", "holding:6")
	short.ReadBack, short.ReadBackTime = true, time.Millisecond
	long.ReadBack, long.ReadBackTime = true, time.Minute
	clock := channeltest.NewClock(t)
	s := setup(short, long)
	s.Clock = clock
	d := connected(t, TCP(dev.address), s)
	var reads atomic.Int32
	dev.faults(func(r server.Request) server.Action {
		if r.Function != 3 {
			return server.Action{}
		}
		n := reads.Add(1)
		return server.Action{Rewrite: func(f []byte) []byte {
			if r.Address == 5 || n < 100 {
				f[10] = 0
			}
			return f
		}}
	})
	out, err := write(d, "short", 5)
	require.ErrorContains(t, err, "read back: 0 in place of 5")
	assert.Equal(t, channel.Done, out.Result)
	assert.EqualValues(t, 1, reads.Load())

	done := make(chan channel.Outcome, 1)
	go func() {
		out, _ := write(d, "long", 6)
		done <- out
	}()
	require.Eventually(t, func() bool {
		select {
		case out = <-done:
			return true
		default:
			clock.Advance(50 * time.Millisecond)
			return false
		}
	}, time.Minute, time.Millisecond)
	assert.Equal(t, channel.Confirmed, out.Result)
	assert.GreaterOrEqual(t, reads.Load(), int32(100), "about half a minute")
}
