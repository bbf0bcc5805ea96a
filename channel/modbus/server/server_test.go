package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience bounds what a test waits for; it never decides a passing test.
const patience = 10 * time.Second

// start runs a server for the time of the test.
func start(t *testing.T, cfg Config) (*Server, string) {
	t.Helper()
	s, err := New(cfg)
	require.NoError(t, err)
	addr, err := s.Listen(context.Background(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, s.Close(ctx))
	})
	return s, addr.String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, frame string) {
	t.Helper()
	_, err := c.Write(unhex(t, frame))
	require.NoError(t, err)
}

// expect reads exactly the given frame.
func expect(t *testing.T, c net.Conn, frame string) {
	t.Helper()
	want := unhex(t, frame)
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	require.NoError(t, err, "after % X", got[:n])
	require.Equal(t, want, got)
}

// expectEnd checks that the server closed the connection without sending more.
func expectEnd(t *testing.T, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "still open")
}

const (
	ask    = "0001 0000 0006 01 04 0008 0001" // input register 8 of unit 1
	answer = "0001 0000 0005 01 04 02 000A"
)

func TestUnitsBehindOneListener(t *testing.T) {
	t.Parallel()
	other := &Memory{}
	other.SetRegisters(InputRegister, 8, 0xBEEF)
	s, addr := start(t, Config{Units: map[byte]Handler{1: specimen(), 7: other}})
	c := dial(t, addr)
	send(t, c, ask)
	expect(t, c, answer)
	send(t, c, "0002 0000 0006 07 04 0008 0001")
	expect(t, c, "0002 0000 0005 07 04 02 BEEF")
	send(t, c, "0003 0000 0006 08 04 0008 0001")
	expect(t, c, "0003 0000 0003 08 84 0B")
	send(t, c, "0003 0000 0006 00 04 0008 0001") // unit 0 is a unit as any other
	expect(t, c, "0003 0000 0003 00 84 0B")

	s.SetUnit(8, other)
	s.SetUnit(7, nil)
	send(t, c, "0004 0000 0006 08 04 0008 0001 0005 0000 0006 07 04 0008 0001") // two in one segment
	expect(t, c, "0004 0000 0005 08 04 02 BEEF 0005 0000 0003 07 84 0B")
	assert.Equal(t, Stats{Connections: 1, Accepted: 1, Requests: 6, Exceptions: 3}, s.Stats())
}

func TestFrameInPieces(t *testing.T) {
	t.Parallel()
	_, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}})
	c := dial(t, addr)
	for _, b := range unhex(t, ask) {
		_, err := c.Write([]byte{b})
		require.NoError(t, err)
	}
	expect(t, c, answer)
}

func TestBadFramingEndsThatConnectionOnly(t *testing.T) {
	t.Parallel()
	_, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}})
	good := dial(t, addr)
	for _, frame := range []string{
		"0001 0001 0006 01 04 0008 0001", // protocol id
		"0001 0000 0001 01",              // too short, but complete as a header
		"0001 0000 0000 01",
		"0001 0000 00FF 01",
		"0001 0000 FFFF 01",
	} {
		bad := dial(t, addr)
		send(t, bad, frame)
		expectEnd(t, bad)
		send(t, good, ask)
		expect(t, good, answer)
	}
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}, MaxConns: 1})
	first := dial(t, addr)
	send(t, first, ask)
	expect(t, first, answer)
	second := dial(t, addr)
	expectEnd(t, second)
	send(t, first, ask)
	expect(t, first, answer)
	assert.Equal(t, int64(1), s.Stats().Refused)

	// A place that becomes free is used again.
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return s.Stats().Connections == 0 }, patience, time.Millisecond)
	third := dial(t, addr)
	send(t, third, ask)
	expect(t, third, answer)
}

func TestIdleAndStalledClientsAreClosed(t *testing.T) {
	t.Parallel()
	_, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}, IdleTimeout: 20 * time.Millisecond})
	silent, half := dial(t, addr), dial(t, addr)
	send(t, half, "0001 0000 0006 01 04")
	expectEnd(t, silent)
	expectEnd(t, half)
}

func TestClientThatTakesNoAnswers(t *testing.T) {
	t.Parallel()
	m := &Memory{}
	m.SetRegisters(InputRegister, 0, make([]uint16, 125)...)
	s, addr := start(t, Config{Units: map[byte]Handler{1: m}, WriteTimeout: 20 * time.Millisecond})
	c := dial(t, addr)
	one := unhex(t, "0001 0000 0006 01 04 0000 007D")
	// Requests without end and no reading: once the buffers are full, the
	// server gives up this client, which fails our writing.
	for {
		if _, err := c.Write(one); err != nil {
			break
		}
	}
	require.Eventually(t, func() bool { return s.Stats().Connections == 0 }, patience, time.Millisecond)
}

// faulty is a handler that misbehaves in the way its function says.
type faulty struct {
	Memory
	read func(ctx context.Context) error
}

func (f *faulty) ReadRegisters(ctx context.Context, _ Table, _ uint16, _ []uint16) error {
	return f.read(ctx)
}

func TestHandlerFailures(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errors.New("broken") },
		"panic": func(context.Context) error { panic("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, addr := start(t, Config{Units: map[byte]Handler{1: &faulty{read: read}, 2: specimen()}})
			c := dial(t, addr)
			send(t, c, ask)
			expect(t, c, "0001 0000 0003 01 84 04")
			send(t, c, "0001 0000 0006 02 04 0008 0001")
			expect(t, c, "0001 0000 0005 02 04 02 000A")
		})
	}
}

func TestCloseEndsConnectionsAndHandlers(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	h := &faulty{read: func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}}
	s, addr := start(t, Config{Units: map[byte]Handler{1: h}})
	idle, busy := dial(t, addr), dial(t, addr)
	send(t, busy, ask)
	<-entered
	require.NoError(t, s.Close(context.Background()))
	require.NoError(t, s.Close(context.Background()), "again")
	expectEnd(t, idle)
	expectEnd(t, busy)
	_, err := net.DialTimeout("tcp", addr, patience)
	require.Error(t, err)
	_, err = s.Listen(context.Background(), "127.0.0.1:0")
	require.ErrorIs(t, err, ErrClosed)
	assert.Zero(t, s.Stats().Connections)
}

func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	h := &faulty{read: func(context.Context) error {
		close(entered)
		<-release
		return nil
	}}
	s, addr := start(t, Config{Units: map[byte]Handler{1: h}})
	c := dial(t, addr)
	send(t, c, ask)
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, s.Close(ctx), context.Canceled)
	close(release)
	require.NoError(t, s.Close(context.Background()))
}

func TestServe(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Units: map[byte]Handler{1: specimen()}})
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	c := dial(t, ln.Addr().String())
	send(t, c, ask)
	expect(t, c, answer)
	require.NoError(t, s.Close(context.Background()))
	require.ErrorIs(t, <-done, ErrClosed)

	ln, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.ErrorIs(t, s.Serve(ln), ErrClosed)
	require.ErrorIs(t, ln.Close(), net.ErrClosed, "a refused listener is closed")
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{MaxConns: -1}, {IdleTimeout: -1}, {WriteTimeout: -1}, {Units: map[byte]Handler{1: nil}},
	} {
		_, err := New(cfg)
		require.ErrorIs(t, err, ErrConfig)
	}
	s, err := New(Config{})
	require.NoError(t, err)
	_, err = s.Listen(context.Background(), "nowhere")
	require.Error(t, err)
	require.NoError(t, s.Close(context.Background()))
}

func TestIntercept(t *testing.T) {
	t.Parallel()
	write := "0001 0000 0006 01 06 0001 0003"
	for name, tc := range map[string]struct {
		action Action
		want   string // what comes back before the connection ends
		runs   bool   // whether the write was executed
	}{
		"none":        {Action{}, write, true},
		"ignore":      {Action{Ignore: true}, "", false},
		"exception":   {Action{Exception: 6}, "0001 0000 0003 01 86 06", false},
		"transaction": {Action{WrongTransaction: true}, "0002 0000 0006 01 06 0001 0003", true},
		"truncate":    {Action{Truncate: 3}, "0001 0000 0006 01 06 00", true},
		"truncateAll": {Action{Truncate: 999}, "", true},
		"drop":        {Action{Drop: true}, "", true},
		"duplicate":   {Action{Duplicate: true}, write + write, true},
		"delay":       {Action{Delay: time.Millisecond}, write, true},
		"rewrite": {Action{Rewrite: func(f []byte) []byte {
			f[6] = 9
			return f
		}}, "0001 0000 0006 09 06 0001 0003", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := specimen()
			var seen atomic.Pointer[Request]
			_, addr := start(t, Config{Units: map[byte]Handler{1: m}, Intercept: func(r Request) Action {
				r.PDU = append([]byte(nil), r.PDU...)
				seen.Store(&r)
				act := tc.action
				act.Disconnect = true
				return act
			}})
			c := dial(t, addr)
			send(t, c, write)
			expect(t, c, tc.want)
			expectEnd(t, c)
			v, _ := m.Register(HoldingRegister, 1)
			assert.Equal(t, tc.runs, v == 3)
			assert.Equal(t, &Request{Transaction: 1, Unit: 1, Function: 6, Table: HoldingRegister,
				Address: 1, Quantity: 1, PDU: unhex(t, write)[7:]}, seen.Load())
		})
	}
}

func TestCloseDoesNotWaitForADelayedAnswer(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	s, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}, Intercept: func(Request) Action {
		close(asked)
		return Action{Delay: time.Hour}
	}})
	c := dial(t, addr)
	send(t, c, ask)
	<-asked
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, s.Close(ctx))
	expectEnd(t, c)
}

func TestManyConnections(t *testing.T) {
	t.Parallel()
	m := &Memory{}
	m.SetRegisters(HoldingRegister, 0, make([]uint16, 2*16)...)
	_, addr := start(t, Config{Units: map[byte]Handler{1: m}})
	done := make(chan error, 16)
	for n := range 16 {
		c := dial(t, addr)
		go func() { done <- count(c, uint16(2*n)) }()
	}
	for range 16 {
		require.NoError(t, <-done)
	}
}

// slow gives others the time to come in between.
type slow struct{ Memory }

func (s *slow) ReadRegisters(ctx context.Context, table Table, address uint16, dst []uint16) error {
	err := s.Memory.ReadRegisters(ctx, table, address, dst)
	runtime.Gosched()
	return err
}

// Each of 16 clients turns a bit of register 0 on and off. Were FC 22 not one
// operation, one would undo what another did.
func TestMaskWriteIsOneOperation(t *testing.T) {
	t.Parallel()
	m := &slow{}
	m.SetRegisters(HoldingRegister, 0, 0, 0)
	_, addr := start(t, Config{Units: map[byte]Handler{1: m}})
	done := make(chan error, 16)
	for bit := range 16 {
		c := dial(t, addr)
		go func() { done <- flip(c, 1<<bit) }()
	}
	for range 16 {
		require.NoError(t, <-done)
	}
}

// flip turns a bit of register 0 on and off with FC 22 and looks each time what
// became of it, with an FC 23 that writes register 1.
func flip(c net.Conn, bit uint16) error {
	for i := range uint16(100) {
		want := i % 2 * bit
		b := []byte{0, 0, 0, 0, 0, 8, 1, 22, 0, 0}
		b = binary.BigEndian.AppendUint16(b, ^bit)
		b = binary.BigEndian.AppendUint16(b, want)
		b = append(b, 0, 1, 0, 0, 0, 13, 1, 23, 0, 0, 0, 1, 0, 1, 0, 1, 2, 0, 0)
		if _, err := c.Write(b); err != nil {
			return err
		}
		var answer [14 + 11]byte
		if _, err := io.ReadFull(c, answer[:]); err != nil {
			return err
		}
		if got := binary.BigEndian.Uint16(answer[14+9:]); got&bit != want {
			return fmt.Errorf("bit %04X is %04X in place of %04X", bit, got&bit, want)
		}
	}
	return nil
}

// count writes two registers together and reads them back, 100 times.
func count(c net.Conn, address uint16) error {
	buf := make([]byte, 64)
	for i := range uint16(100) {
		b := []byte{0, 0, 0, 0, 0, 11, 1, 16}
		b = binary.BigEndian.AppendUint16(b, address)
		b = append(b, 0, 2, 4)
		b = binary.BigEndian.AppendUint16(b, i)
		b = binary.BigEndian.AppendUint16(b, ^i)
		b = append(b, 0, 1, 0, 0, 0, 6, 1, 3)
		b = binary.BigEndian.AppendUint16(b, address)
		b = append(b, 0, 2)
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, buf[:12+13]); err != nil {
			return err
		}
		if binary.BigEndian.Uint16(buf[21:]) != i || binary.BigEndian.Uint16(buf[23:]) != ^i {
			return errors.New("read back another value")
		}
	}
	return nil
}

// halfReadable can be read once.
type halfReadable struct {
	Memory
	reads atomic.Int32
}

func (m *halfReadable) ReadRegisters(ctx context.Context, t Table, address uint16, dst []uint16) error {
	if m.reads.Add(1) > 1 {
		return DeviceFailure
	}
	return m.Memory.ReadRegisters(ctx, t, address, dst)
}

// What FC 23 wrote must not be answered with an exception that means not done.
func TestReadWriteThatCannotBeReadAfterTheWrite(t *testing.T) {
	t.Parallel()
	m := &halfReadable{}
	m.SetRegisters(HoldingRegister, 0, 0, 0)
	_, addr := start(t, Config{Units: map[byte]Handler{1: m}})
	c := dial(t, addr)
	send(t, c, "0001 0000 000D 01 17 0000 0001 0001 0001 02 0007")
	expect(t, c, "0001 0000 0003 01 97 05")
	v, _ := m.Register(HoldingRegister, 1)
	assert.EqualValues(t, 7, v)
}

// masker makes its own order of writes.
type masker struct{ *heldMemory }

func (m masker) MaskRegister(context.Context, uint16, uint16, uint16) error { return Busy }

func TestMaskWriterDoesNotWait(t *testing.T) {
	t.Parallel()
	m := masker{newHeldMemory()}
	_, addr := start(t, Config{Units: map[byte]Handler{1: m}})
	one, two := dial(t, addr), dial(t, addr)
	send(t, one, "0001 0000 0006 01 06 0000 0001")
	<-m.entered
	send(t, two, "0001 0000 0008 01 16 0000 00F2 0025")
	expect(t, two, "0001 0000 0003 01 96 06")
	m.leave <- struct{}{}
	expect(t, one, "0001 0000 0006 01 06 0000 0001")
}

// dialFrom connects from an address of loopback.
func dialFrom(t *testing.T, from, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Skip("only 127.0.0.1 is there: ", err)
	}
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A client that takes all connections does not keep out another one.
func TestConnectionsAreShared(t *testing.T) {
	t.Parallel()
	s, addr := start(t, Config{Units: map[byte]Handler{1: specimen()}, MaxConns: 4})
	var greedy []net.Conn
	for range 4 {
		c := dialFrom(t, "127.0.0.1", addr)
		send(t, c, ask)
		expect(t, c, answer)
		greedy = append(greedy, c)
	}
	expectEnd(t, dialFrom(t, "127.0.0.1", addr)) // it pushes out none of its own
	send(t, greedy[0], ask)
	expect(t, greedy[0], answer)
	for i := range 2 {
		c := dialFrom(t, "127.0.0.2", addr)
		send(t, c, ask)
		expect(t, c, answer)
		expectEnd(t, greedy[i+1]) // the most silent one
	}
	expectEnd(t, dialFrom(t, "127.0.0.2", addr)) // each has its share
	for _, i := range []int{0, 3} {
		send(t, greedy[i], ask)
		expect(t, greedy[i], answer)
	}
	assert.Equal(t, int64(4), s.Stats().Refused)
}
