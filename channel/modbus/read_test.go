package modbus

import (
	"context"
	"fmt"
	"io"
	"math"
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

func TestReadAllSpacesAndTypes(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 7)
	m := dev.units[7]
	bits := math.Float32bits(1.5)
	m.SetRegisters(server.HoldingRegister, 10, uint16(bits>>16), uint16(bits), uint16(bits), uint16(bits>>16))
	m.SetRegisters(server.InputRegister, 3, 0xFFFF)
	d := connected(t, TCP(dev.address, Unit(7)), setup(
		point("f", "holding:10:float32"),
		point("g", "holding:12:float32:CDAB"),
		model.Point{ID: "scaled", Address: "input:3:int16", Scale: 0.5, Offset: 100},
		point("u", "input:3"),
		point("bit", "holding:5:bit2"),
		point("c0", "coil:0"), point("c9", "coil:9"),
		point("d1", "discrete:1"), point("d150", "discrete:150"),
	))
	for range 3 {
		assert.Equal(t, map[string]model.Sample{
			"f": good("f", 1.5), "g": good("g", 1.5), "scaled": good("scaled", 99.5), "u": good("u", 65535), "bit": good("bit", 1),
			"c0": good("c0", 0), "c9": good("c9", 1), "d1": good("d1", 1), "d150": good("d150", 0),
		}, read(t, d))
	}
	assert.Len(t, dev.requests(), 3*5, "coils, discretes 1 and 150, input, holding")
}

func TestReadKeepsToTheGrid(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	clock := channeltest.NewClock(t)
	s := setup(point("a", "holding:1"))
	s.Scan, s.Clock = time.Second, clock
	d := connected(t, TCP(dev.address), s)
	read(t, d) // at once
	shift, _ := d.table.Wait(clock.Now())
	clock.Advance(shift)
	read(t, d) // the grid begins: at 0 s

	next := func() <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := d.Read(context.Background())
			done <- err
		}()
		return done
	}
	done := next()
	clock.BlockUntil(1)
	clock.Advance(1300 * time.Millisecond) // late by 0.3 s
	require.NoError(t, <-done)

	done = next()
	clock.BlockUntil(1)
	clock.Advance(700 * time.Millisecond) // 2 s: not 2.3 s
	require.NoError(t, <-done)

	clock.Advance(3500 * time.Millisecond) // 5.5 s: a stall
	dev.requests()
	require.NoError(t, <-next()) // what was due at 3 s, late
	assert.Len(t, dev.requests(), 1)
	done = next()
	clock.BlockUntil(1) // and no burst for 4 s and 5 s
	clock.Advance(500 * time.Millisecond)
	require.NoError(t, <-done)
	assert.Len(t, dev.requests(), 1)
}

func TestIllegalAddressesAreSplitOffAndTriedAgain(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1) // has 0 to 199
	clock := channeltest.NewClock(t)
	var points []model.Point
	for n := 190; n < 210; n++ {
		points = append(points, point(fmt.Sprint(n), fmt.Sprintf("holding:%d", n)))
	}
	s := setup(points...)
	s.Scan, s.Clock = time.Second, clock
	d := connected(t, TCP(dev.address), s)
	check := func(last int) {
		t.Helper()
		got := read(t, d)
		for n := 190; n < 210; n++ {
			want := good(fmt.Sprint(n), float64(n))
			if n > last {
				want = bad(fmt.Sprint(n), model.Invalid)
			}
			assert.Equal(t, want, got[fmt.Sprint(n)])
		}
	}
	check(199)
	first := len(dev.requests())
	assert.Less(t, first, 45)
	clock.Advance(time.Second)
	check(199)
	assert.Less(t, len(dev.requests()), 10, "what is missing is not asked for again")

	dev.units[1].SetRegisters(server.HoldingRegister, 200, 200, 201, 202, 203, 204, 205, 206, 207, 208, 209)
	clock.Advance(time.Second)
	check(199)
	dev.requests()
	clock.Advance(retryFirst)
	check(209)
	assert.Len(t, dev.requests(), 1, "one request again")
}

func TestOnlyIllegalAddresses(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	clock := channeltest.NewClock(t)
	s := setup(point("a", "holding:500"), point("b", "holding:501:bit1"), point("c", "holding:501:bit2"))
	s.Scan, s.Clock = time.Second, clock
	d := connected(t, TCP(dev.address), s)
	for range 3 {
		got := read(t, d)
		for _, id := range []string{"a", "b", "c"} {
			assert.Equal(t, bad(id, model.Invalid), got[id])
		}
		clock.Advance(time.Second)
	}
	assert.Len(t, dev.requests(), 3, "the span and its two halves")
	dev.stop()
	clock.Advance(retryFirst)
	_, err := d.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected, "and yet a lost device is noticed")
}

func TestOtherExceptionsAreBadForTheRound(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	d := connected(t, TCP(dev.address), setup(point("a", "holding:1"), point("b", "holding:100")))
	dev.faults(func(r server.Request) server.Action {
		if r.Address == 100 {
			return server.Action{Exception: server.DeviceFailure}
		}
		return server.Action{}
	})
	got := read(t, d)
	assert.Equal(t, good("a", 1), got["a"])
	assert.Equal(t, bad("b", model.Bad), got["b"])
	dev.faults(nil)
	assert.Equal(t, good("b", 100), read(t, d)["b"])
}

func TestOneSilentRequestAmongOthers(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s := setup(point("a", "holding:1"), point("b", "holding:50"), point("c", "holding:100"), point("d", "holding:150"))
	s.Timeout = time.Second
	// The first two of them get no answer: others still do.
	dev.faults(func(r server.Request) server.Action { return server.Action{Ignore: r.Address <= 50} })
	d := open(t, TCP(dev.address), s)
	require.Eventually(t, func() bool { // the first round finds nobody
		if d.Connect(context.Background()) != nil {
			return false
		}
		_, err := d.Read(context.Background())
		return err == nil
	}, time.Minute, time.Millisecond)
	got := read(t, d)
	assert.Equal(t, bad("a", model.Bad), got["a"])
	assert.Equal(t, bad("b", model.Bad), got["b"])
	assert.Equal(t, good("c", 100), got["c"])
	assert.Equal(t, good("d", 150), got["d"])
	dev.faults(nil)
	assert.Equal(t, good("a", 1), read(t, d)["a"])
}

func TestDeadUnitIsNotConnected(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s := setup(point("a", "holding:1"), point("b", "holding:50"), point("c", "holding:100"))
	s.Timeout = 700 * time.Millisecond
	d := connected(t, TCP(dev.address), s)
	read(t, d)
	dev.faults(func(server.Request) server.Action { return server.Action{Ignore: true} })
	dev.requests()
	_, err := d.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	require.ErrorIs(t, err, ErrTimeout)
	assert.Len(t, dev.requests(), maxSilent)
	require.NoError(t, d.Close(context.Background()))

	err = d.Connect(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected, "the connection stands, but nobody answers")
	dev.faults(nil)
	require.NoError(t, d.Connect(context.Background()))
	assert.Equal(t, good("a", 1), read(t, d)["a"])
}

// Each fault hits the first request; the values that come are right or absent,
// and after at most one reconnect everything is as before.
func TestFaults(t *testing.T) {
	t.Parallel()
	tail := func(f []byte, b ...byte) []byte { return append(append([]byte{}, f...), b...) }
	for name, c := range map[string]struct {
		action server.Action
		lost   bool // the connection
	}{
		"late":              {server.Action{Delay: 1500 * time.Millisecond}, false},
		"lost":              {server.Action{Drop: true}, false},
		"duplicate":         {server.Action{Duplicate: true}, false},
		"truncated":         {server.Action{Truncate: 1}, true},
		"only a header":     {server.Action{Rewrite: func(f []byte) []byte { return f[:6] }}, true},
		"wrong transaction": {server.Action{WrongTransaction: true}, true},
		"disconnect":        {server.Action{Drop: true, Disconnect: true}, false}, // asked once more, over a new connection
		"wrong unit":        {server.Action{Rewrite: func(f []byte) []byte { f[6] = 9; return f }}, false},
		"wrong function":    {server.Action{Rewrite: func(f []byte) []byte { f[7] = 4; return f }}, false},
		"wrong byte count":  {server.Action{Rewrite: func(f []byte) []byte { f[8]--; return f }}, false},
		"short answer": {server.Action{Rewrite: func(f []byte) []byte {
			f[5], f[8] = f[5]-2, f[8]-2
			return f[:len(f)-2]
		}}, false},
		"long answer": {server.Action{Rewrite: func(f []byte) []byte {
			f[5], f[8] = f[5]+2, f[8]+2
			return tail(f, 0, 1)
		}}, false},
		"wrong protocol": {server.Action{Rewrite: func(f []byte) []byte { f[3] = 1; return f }}, true},
		"garbage":        {server.Action{Rewrite: func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }}, true},
		"garbage after":  {server.Action{Rewrite: func(f []byte) []byte { return tail(f, []byte("garbage!")...) }}, true},
		"exception":      {server.Action{Exception: server.DeviceFailure}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := newDevice(t, 1)
			s := setup(point("a", "holding:1"), point("b", "holding:50:int32"), point("c", "holding:100"), point("e", "input:7"))
			s.Timeout = time.Second
			d := connected(t, TCP(dev.address), s)
			want := read(t, d)
			require.Equal(t, good("b", 50<<16|51), want["b"])
			var hit atomic.Bool
			dev.faults(func(r server.Request) server.Action {
				if r.Address == 50 && !hit.Swap(true) {
					return c.action
				}
				return server.Action{}
			})
			lost := false
			for round := 0; round < 4; round++ {
				samples, err := d.Read(context.Background())
				if err != nil {
					require.ErrorIs(t, err, channel.ErrNotConnected)
					require.True(t, c.lost, "round %d: %v", round, err)
					require.False(t, lost, "twice")
					lost = true
					require.NoError(t, d.Close(context.Background()))
					require.NoError(t, d.Connect(context.Background()))
					continue
				}
				for _, got := range samples {
					if got.Quality == model.Good {
						require.Equal(t, want[got.Point], got, "round %d", round)
					}
				}
			}
			assert.Equal(t, c.lost, lost)
			assert.Equal(t, want, read(t, d), "all as before")
		})
	}
}

// An answer that comes after its timeout must not be taken for the next one,
// also when the two fit each other.
func TestLateAnswerIsDropped(t *testing.T) {
	t.Parallel()
	value := uint16(0)
	address := script(t, func(c net.Conn) {
		for held := []byte(nil); ; {
			q := request(c)
			if q == nil {
				return
			}
			value++
			if value == 1 { // this answer waits for the next request
				held = answer(q, value)
				continue
			}
			// A held answer goes first, then the right one, then it again.
			_, _ = c.Write(append(append(append([]byte{}, held...), answer(q, value)...), answer(q, value)...))
			held = nil
		}
	})
	s := setup(point("a", "holding:1"), point("b", "holding:100"))
	s.Timeout = time.Second
	d := connected(t, TCP(address), s)
	got := read(t, d)
	assert.Equal(t, bad("a", model.Bad), got["a"])
	assert.Equal(t, good("b", 2), got["b"])
	got = read(t, d)
	assert.Equal(t, good("b", 3), got["b"], "the round begins with what was answered")
	assert.Equal(t, good("a", 4), got["a"])
}

func TestSlowPeerSendsByteByByte(t *testing.T) {
	t.Parallel()
	address := script(t, func(c net.Conn) {
		for {
			q := request(c)
			if q == nil {
				return
			}
			for _, b := range answer(q, 0x1234) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
			}
		}
	})
	d := connected(t, TCP(address), setup(point("a", "holding:1")))
	for range 5 {
		assert.Equal(t, good("a", 0x1234), read(t, d)["a"])
	}
}

func TestHalfClosedPeer(t *testing.T) {
	t.Parallel()
	address := script(t, func(c net.Conn) {
		q := request(c)
		_, _ = c.Write(answer(q, 5))
		_ = c.(*net.TCPConn).CloseWrite() // goes on reading
		_, _ = io.Copy(io.Discard, c)
	})
	s := setup(point("a", "holding:1"), control("b", "holding:1"))
	s.Timeout = time.Hour // not what ends it
	d := connected(t, TCP(address), s)
	assert.Equal(t, good("a", 5), read(t, d)["a"])
	assert.Equal(t, good("a", 5), read(t, d)["a"], "over a new connection")
}

func TestNoPoints(t *testing.T) {
	t.Parallel()
	d := connected(t, TCP(newDevice(t, 1).address), setup())
	done := make(chan error, 1)
	go func() {
		_, err := d.Read(context.Background())
		done <- err
	}()
	require.NoError(t, d.Close(context.Background()))
	require.ErrorIs(t, <-done, channel.ErrNotConnected)
}

func TestReadAllocations(t *testing.T) {
	dev := newDevice(t, 1)
	var points []model.Point
	for n := range 120 {
		points = append(points, point(fmt.Sprint(n), fmt.Sprintf("holding:%d:int16", n)))
	}
	clock := channeltest.NewClock(t)
	s := setup(points...)
	s.Clock = clock
	d := connected(t, TCP(dev.address), s)
	read(t, d)
	dev.faults(nil)
	perRound := testing.AllocsPerRun(50, func() {
		clock.Advance(s.Scan)
		_, err := d.Read(context.Background())
		require.NoError(t, err)
	})
	// Both sides are counted. It is far less than one per point.
	assert.Less(t, perRound, 60.0)
}

// A round that the end of a context interrupts begins anew with the next Read.
func TestInterruptedRoundBeginsAnew(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	d := connected(t, TCP(dev.address, MaxGap(0)), setup(point("a", "holding:1"), point("b", "holding:50")))
	ctx, cancel := context.WithCancel(context.Background())
	dev.faults(func(r server.Request) server.Action {
		if r.Address == 50 {
			cancel()
		}
		return server.Action{Ignore: r.Address == 50}
	})
	_, err := d.Read(ctx)
	require.ErrorIs(t, err, context.Canceled)
	dev.faults(nil)
	dev.units[1].SetRegisters(server.HoldingRegister, 1, 77)
	got := read(t, d)
	assert.Equal(t, good("a", 77), got["a"])
	assert.Equal(t, good("b", 50), got["b"])
}

// Explain says why a point has no value, for as long as it has none.
func TestExplain(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	refuse := func(code server.Exception) {
		dev.faults(func(r server.Request) server.Action {
			if r.Function == 3 {
				return server.Action{Exception: code}
			}
			return server.Action{}
		})
	}
	refuse(server.DeviceFailure)
	d := connected(t, TCP(dev.address), setup(point("a", "holding:0"), point("b", "coil:0")))
	require.NoError(t, d.Explain("a"), "nothing was read yet")
	read(t, d)
	require.EqualError(t, d.Explain("a"), "exception 4 (server device failure) to function 3")
	require.NoError(t, d.Explain("b"))
	require.NoError(t, d.Explain("nothing"))
	refuse(server.IllegalAddress)
	read(t, d)
	var ex *Exception
	require.ErrorAs(t, d.Explain("a"), &ex)
	require.EqualValues(t, 2, ex.Code)
	require.NoError(t, d.Close(t.Context()))
	dev.faults(nil)
	require.NoError(t, d.Connect(t.Context()))
	require.NoError(t, d.Explain("a"))
	read(t, d)
	require.NoError(t, d.Explain("a"))
}
