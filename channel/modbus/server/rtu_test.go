package server

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func rtuFrame(b ...byte) []byte { return binary.LittleEndian.AppendUint16(b, crc16(b)) }

func TestRequestLength(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   []byte
		want int
	}{
		{nil, 0}, {[]byte{1}, 0}, {[]byte{248}, -1}, {[]byte{1, 3}, 8}, {[]byte{1, 6}, 8}, {[]byte{1, 16, 0, 0, 0, 1}, 0},
		{[]byte{1, 16, 0, 0, 0, 1, 2}, 11}, {[]byte{1, 15, 0, 0, 0, 1, 255}, -1}, {[]byte{1, 22}, 10}, {[]byte{1, 24}, 6},
		{[]byte{1, 23, 0, 0, 0, 1, 0, 0, 0, 1, 2}, 15}, {[]byte{1, 8}, 8}, {[]byte{1, 17}, 4}, {[]byte{1, 99}, -1}, {[]byte{1, 0x83}, -1},
	} {
		assert.Equal(t, c.want, requestLength(c.in), "% x", c.in)
	}
}

func TestServeRTU(t *testing.T) {
	t.Parallel()
	one, two := &Memory{}, &Memory{}
	one.SetRegisters(HoldingRegister, 0, 0x1234)
	two.SetRegisters(HoldingRegister, 0, 0)
	srv, err := New(Config{Units: map[byte]Handler{1: one, 2: two}})
	require.NoError(t, err)
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- srv.ServeRTU(far) }()
	require.NoError(t, near.SetDeadline(time.Now().Add(10*time.Second)))
	send := func(parts ...[]byte) {
		for _, p := range parts {
			_, err := near.Write(p)
			require.NoError(t, err)
		}
	}
	expect := func(want []byte) {
		got := make([]byte, len(want))
		_, err := io.ReadFull(near, got)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	ask := rtuFrame(1, 3, 0, 0, 0, 1)
	send(ask)
	expect(rtuFrame(1, 3, 2, 0x12, 0x34))
	// Garbage, a wrong checksum and a unit that is not there are passed over.
	wrong := rtuFrame(1, 6, 0, 0, 0, 1)
	wrong[5] = 9
	send([]byte{0xFF, 0x01, 0x99}, wrong, rtuFrame(3, 3, 0, 0, 0, 1), ask)
	expect(rtuFrame(1, 3, 2, 0x12, 0x34))
	send(rtuFrame(2, 3, 0, 1, 0, 1))
	expect(rtuFrame(2, 0x83, 2))
	// A broadcast is carried out by all and answered by none.
	send(rtuFrame(0, 6, 0, 0, 0x43, 0x21), ask)
	expect(rtuFrame(1, 3, 2, 0x43, 0x21))
	v, _ := two.Register(HoldingRegister, 0)
	assert.EqualValues(t, 0x4321, v)

	require.NoError(t, srv.Close(context.Background()))
	require.ErrorIs(t, <-served, ErrClosed)
	_, err = near.Read(make([]byte, 1))
	require.Error(t, err)
	require.ErrorIs(t, srv.ServeRTU(far), ErrClosed)
}

func TestServeRTUEndsWithTheLine(t *testing.T) {
	t.Parallel()
	srv, err := New(Config{})
	require.NoError(t, err)
	near, far := net.Pipe()
	require.NoError(t, near.Close())
	require.NoError(t, srv.ServeRTU(far))
	require.NoError(t, srv.Close(context.Background()))
}

// scripted is a line on which bytes come at given times.
type scripted struct {
	arrivals *arrivals
	parts    [][]byte
	pauses   []time.Duration // before each
}

func (s *scripted) Read(b []byte) (int, error) {
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.parts[0])
	s.arrivals.at = s.arrivals.empty.Add(s.pauses[0])
	s.arrivals.empty = s.arrivals.at
	s.parts, s.pauses = s.parts[1:], s.pauses[1:]
	return n, nil
}

func newScripted(gap time.Duration, parts ...any) *rtuLine {
	a := &arrivals{empty: time.Now().Add(-time.Hour)}
	s := &scripted{arrivals: a}
	for i := 0; i < len(parts); i += 2 {
		s.pauses = append(s.pauses, parts[i].(time.Duration))
		s.parts = append(s.parts, parts[i+1].([]byte))
	}
	return &rtuLine{in: s, arrivals: a, gap: gap}
}

func isOne(id byte) bool { return id == 1 }

// The begin of a request that never came in whole must not swallow the next ones,
// which would be carried out when their master has long given up on them.
func TestRestsAreDroppedAfterAGap(t *testing.T) {
	t.Parallel()
	write := rtuFrame(1, 6, 0, 0, 0, 5)
	l := newScripted(gapSerial, time.Second, []byte{1, 16, 0, 0, 0, 123, 246}, 10*gapSerial, write)
	f, err := l.next(isOne)
	require.NoError(t, err)
	assert.Equal(t, write[1:6], f.pdu)
	_, err = l.next(isOne)
	require.ErrorIs(t, err, io.EOF)
	// A request in pieces that follow one another is one.
	l = newScripted(gapSerial, time.Second, write[:3], gapSerial/2, write[3:5], gapSerial/2, write[5:])
	f, err = l.next(isOne)
	require.NoError(t, err)
	assert.Equal(t, write[1:6], f.pdu)
}

// A master that sent another request has given up on the one before.
func TestOnlyTheLastOfWaitingRequests(t *testing.T) {
	t.Parallel()
	first, all, last := rtuFrame(1, 6, 0, 0, 0, 5), rtuFrame(0, 6, 0, 0, 0, 6), rtuFrame(1, 3, 0, 0, 0, 1)
	waiting := slices.Concat(first, all, first, last)
	l := newScripted(gapSerial, time.Second, waiting) // an hour ago
	for _, want := range [][]byte{all, last} {
		f, err := l.next(isOne)
		require.NoError(t, err)
		assert.Equal(t, want, rtuFrame(append([]byte{f.unit}, f.pdu...)...), "and what no answer is expected to")
	}
	l = newScripted(gapSerial, time.Second, slices.Concat(first, rtuFrame(9, 3, 0, 0, 0, 1)))
	_, err := l.next(isOne)
	require.ErrorIs(t, err, io.EOF, "it asked another device meanwhile")
	l = newScripted(gapSerial, 2*time.Hour, waiting) // not waiting
	f, err := l.next(isOne)
	require.NoError(t, err)
	assert.Equal(t, first[1:6], f.pdu)
}

// What other devices of the line are asked and answer is passed over as a whole:
// its bytes may look like the begin of a request.
func TestOtherDevicesOfTheLine(t *testing.T) {
	t.Parallel()
	mine := rtuFrame(1, 3, 0, 0, 0, 1)
	for _, other := range [][]byte{
		rtuFrame(5, 16, 0, 1, 0, 2), rtuFrame(5, 15, 0, 1, 0, 2), rtuFrame(5, 3, 4, 1, 16, 0, 1), rtuFrame(5, 0x83, 2), rtuFrame(5, 3, 0, 0, 0, 1),
		rtuFrame(5, 6, 1, 16, 1, 16), rtuFrame(5, 22, 0, 0, 1, 16, 1, 16), rtuFrame(5, 24, 0, 4, 0, 1, 1, 16), rtuFrame(5, 7, 1), rtuFrame(5, 17, 2, 1, 16),
	} {
		l := newScripted(time.Hour, time.Second, slices.Concat(other, other, mine), time.Second, other, time.Second, mine)
		for range 2 {
			f, err := l.next(isOne)
			require.NoError(t, err, "% x", other)
			assert.Equal(t, mine[1:6], f.pdu)
		}
	}
}

// heldMemory holds writes up until it is told to go on.
type heldMemory struct {
	Memory
	entered chan time.Duration // Waited of each write
	leave   chan struct{}
}

func (m *heldMemory) WriteRegisters(ctx context.Context, t Table, address uint16, values []uint16) error {
	m.entered <- Waited(ctx)
	<-m.leave
	return m.Memory.WriteRegisters(ctx, t, address, values)
}

func newHeldMemory() *heldMemory {
	m := &heldMemory{entered: make(chan time.Duration, 10), leave: make(chan struct{})}
	m.SetRegisters(HoldingRegister, 0, 0)
	return m
}

// passed waits until some time is over.
func passed(t *testing.T, since time.Time, d time.Duration) {
	require.Eventually(t, func() bool { return time.Since(since) > d }, patience, time.Millisecond)
}

// The answer to a request on which the master gave up would pass for the answer to
// the next one: RTU has no transaction ids.
func TestRTUAnswersNothingLate(t *testing.T) {
	t.Parallel()
	for _, tcp := range []bool{false, true} {
		m := newHeldMemory()
		srv, addr := start(t, Config{Units: map[byte]Handler{1: m}, RTU: true})
		var near net.Conn
		if tcp {
			near = dial(t, addr)
		} else {
			var far net.Conn
			near, far = net.Pipe()
			go func() { _ = srv.ServeRTU(far) }()
			require.NoError(t, near.SetDeadline(time.Now().Add(patience)))
		}
		_, err := near.Write(rtuFrame(1, 6, 0, 0, 0, 5))
		require.NoError(t, err)
		<-m.entered
		begun := time.Now()
		wrote := make(chan error, 1)
		go func() { // a pipe holds nothing
			_, err := near.Write(slices.Concat(rtuFrame(1, 6, 0, 0, 0, 6), rtuFrame(1, 3, 0, 0, 0, 1)))
			wrote <- err
		}()
		passed(t, begun, 2*slowRequest)
		m.leave <- struct{}{}
		got := make([]byte, 7)
		_, err = io.ReadFull(near, got)
		require.NoError(t, err)
		assert.Equal(t, rtuFrame(1, 3, 2, 0, 5), got, "neither an answer to the first nor a second write")
		require.NoError(t, <-wrote)
	}
}

// An answer that comes back must not be carried out.
func TestEchoOfALine(t *testing.T) {
	t.Parallel()
	m := &Memory{}
	m.SetRegisters(HoldingRegister, 0, 0)
	write, read := rtuFrame(1, 6, 0, 0, 0, 5), rtuFrame(1, 3, 0, 0, 0, 1)
	begin := func(t *testing.T) (net.Conn, *Server, chan error) {
		srv, _ := start(t, Config{Units: map[byte]Handler{1: m}})
		near, far := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- srv.ServeRTU(far) }()
		require.NoError(t, near.SetDeadline(time.Now().Add(patience)))
		t.Cleanup(func() { _ = near.Close() })
		return near, srv, served
	}
	ask := func(t *testing.T, near net.Conn, request []byte, size int) []byte {
		_, err := near.Write(request)
		require.NoError(t, err)
		got := make([]byte, size)
		_, err = io.ReadFull(near, got)
		require.NoError(t, err)
		return got
	}
	t.Run("echo", func(t *testing.T) {
		t.Parallel()
		near, srv, served := begin(t)
		for range 3 {
			back := ask(t, near, write, 8)
			_, err := near.Write(back[:3])
			require.NoError(t, err)
			_, err = near.Write(back[3:])
			require.NoError(t, err)
		}
		back := ask(t, near, read, 7)
		assert.EqualValues(t, 4, srv.Stats().Requests)
		_, err := near.Write(back)
		require.NoError(t, err)
		require.ErrorIs(t, <-served, errEcho)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		near, _, _ := begin(t)
		ask(t, near, read, 7)
		for range 3 {
			assert.Equal(t, write, ask(t, near, write, 8), "the same again is a request")
		}
		ask(t, near, read, 7)
	})
}

func FuzzRTU(f *testing.F) {
	f.Add(rtuFrame(1, 6, 0, 0, 0, 5), byte(3))
	f.Add(slices.Concat(rtuFrame(5, 16, 0, 1, 0, 2), []byte{1, 16}, rtuFrame(0, 15, 0, 0, 0, 1, 1, 1)), byte(200))
	f.Fuzz(func(t *testing.T, stream []byte, cut byte) {
		at := min(int(cut), len(stream))
		l := newScripted(gapSerial, time.Hour, stream[:at], time.Duration(0), stream[at:])
		for {
			fr, err := l.next(isOne)
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				return
			}
			require.True(t, fr.unit <= 1)
			require.Contains(t, string(stream), string(rtuFrame(append([]byte{fr.unit}, fr.pdu...)...)))
		}
	})
}
