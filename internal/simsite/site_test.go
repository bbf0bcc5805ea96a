package simsite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/modbus/server"
)

// patience bounds what a test waits for; it never decides a passing test.
const patience = 10 * time.Second

// TestMain fails the package if a site left a goroutine behind: every test
// closes its sites, so none may be running after the last test.
func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.Now().Add(patience)
	for code == 0 {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, "simsite.(*Site).") && !strings.Contains(stacks, "server.(*Server).") {
			break
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "goroutines left:\n"+stacks)
			code = 1
		}
		runtime.Gosched()
	}
	os.Exit(code)
}

// frozen starts a site whose physics move by Advance only.
func frozen(t *testing.T, cfg Config) *Site {
	t.Helper()
	if cfg.Ticks == nil {
		cfg.Ticks = make(chan time.Time)
	}
	s := New(cfg)
	require.NoError(t, s.Start(context.Background()))
	t.Cleanup(func() { closeSite(t, s) })
	return s
}

func closeSite(t *testing.T, s *Site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	assert.NoError(t, s.Close(ctx))
}

// client is a Modbus TCP client that shares no code with the server.
type client struct {
	t    *testing.T
	conn net.Conn
	unit byte
	id   uint16
}

func connect(t *testing.T, s *Site, device string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.Addr(device), patience)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { _ = conn.Close() })
	unit := map[string]byte{"meter": 1, "pv": 2, "pcs": 3, "bms": 4}[device]
	return &client{t: t, conn: conn, unit: unit}
}

// ask sends a request and returns the answer's PDU.
func (c *client) ask(function byte, words ...uint16) []byte {
	c.t.Helper()
	c.id++
	pdu := []byte{function}
	for _, w := range words {
		pdu = binary.BigEndian.AppendUint16(pdu, w)
	}
	frame := binary.BigEndian.AppendUint16(nil, c.id)
	frame = binary.BigEndian.AppendUint16(append(frame, 0, 0), uint16(len(pdu)+1))
	_, err := c.conn.Write(append(append(frame, c.unit), pdu...))
	require.NoError(c.t, err)
	head := make([]byte, 7)
	_, err = io.ReadFull(c.conn, head)
	require.NoError(c.t, err)
	require.Equal(c.t, c.id, binary.BigEndian.Uint16(head))
	require.Equal(c.t, c.unit, head[6])
	answer := make([]byte, binary.BigEndian.Uint16(head[4:])-1)
	_, err = io.ReadFull(c.conn, answer)
	require.NoError(c.t, err)
	return answer
}

// value reads one point as a driver would.
func (c *client) value(e Entry) float64 {
	c.t.Helper()
	function := map[server.Table]byte{coil: 1, discrete: 2, holding: 3, input: 4}[e.Table]
	answer := c.ask(function, e.Register, uint16(e.Type.words()))
	require.Equal(c.t, function, answer[0], "%s.%s", e.Device, e.Name)
	data := answer[2:]
	switch e.Type {
	case Bool:
		return float64(data[0])
	case Int16:
		return float64(int16(binary.BigEndian.Uint16(data))) * e.Scale
	case Uint16:
		return float64(binary.BigEndian.Uint16(data)) * e.Scale
	case Int32:
		return float64(int32(binary.BigEndian.Uint32(data))) * e.Scale
	case Uint32:
		return float64(binary.BigEndian.Uint32(data)) * e.Scale
	case Float32:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(data))) * e.Scale
	}
	c.t.Fatalf("type %s", e.Type)
	return 0
}

func TestRegistersShowTheSnapshot(t *testing.T) {
	t.Parallel()
	s := frozen(t, Config{Seed: 9})
	clients := map[string]*client{}
	for _, d := range Devices() {
		clients[d] = connect(t, s, d)
	}
	s.InjectOverTemperature(true)
	for _, setpoint := range []float64{60, -60} {
		s.mu.Lock()
		s.plant.s.PCS.Setpoint = setpoint
		s.mu.Unlock()
		s.Advance(3 * time.Second)
		snapshot := s.Snapshot()
		for _, e := range Map() {
			want := e.Value(snapshot)
			rounding := e.Scale / 2
			if e.Type == Float32 {
				rounding = math.Abs(want) * 1e-6
			}
			assert.InDelta(t, want, clients[e.Device].value(e), rounding+1e-9, "%s.%s", e.Device, e.Name)
		}
	}

	// Some by hand, so that the map and its own test cannot be wrong together.
	snapshot := s.Snapshot()
	b := clients[DeviceMeter].ask(4, 28, 2)[2:]
	power := math.Float32frombits(binary.BigEndian.Uint32(b))
	assert.InDelta(t, snapshot.Load-snapshot.PV.Power-snapshot.PCS.Power, power, 1e-4)
	b = clients[DeviceBMS].ask(4, 6, 1)[2:]
	assert.InDelta(t, snapshot.BMS.TemperatureMax*10, int16(binary.BigEndian.Uint16(b)), 0.5)
	b = clients[DeviceBMS].ask(2, 0, 3)[2:]
	assert.Equal(t, []byte{0b110}, b, "contactor open, over-temperature, tripped")
}

func TestWholeBlocksCanBeRead(t *testing.T) {
	t.Parallel()
	s := frozen(t, Config{})
	assert.Len(t, connect(t, s, DeviceMeter).ask(4, 0, 41), 2+82)
	assert.Equal(t, []byte{0x84, 2}, connect(t, s, DeviceMeter).ask(4, 0, 42), "one too far")
	assert.Len(t, connect(t, s, DevicePV).ask(4, 0, 16), 2+32)
	assert.Len(t, connect(t, s, DevicePCS).ask(3, 100, 15), 2+30)
	assert.Equal(t, []byte{0x83, 2}, connect(t, s, DevicePCS).ask(3, 0, 4))
	assert.Len(t, connect(t, s, DeviceBMS).ask(4, 0, 38), 2+76)
}

func TestSetpointMovesThePower(t *testing.T) {
	t.Parallel()
	s := frozen(t, Config{})
	s.Advance(3 * time.Second)
	pcs := connect(t, s, DevicePCS)
	before := s.Snapshot()
	assert.Equal(t, []byte{6, 0, 0, 0x01, 0xF4}, pcs.ask(6, 0, 500)) // 50 kW
	assert.Equal(t, []byte{3, 2, 0x01, 0xF4}, pcs.ask(3, 0, 1), "reads back at once")
	s.Advance(2 * time.Second)
	after := s.Snapshot()
	assert.InDelta(t, 50, after.PCS.Power, 0.5)
	assert.InDelta(t, before.Grid.Power-50, after.Grid.Power, 25, "less import")
	assert.Equal(t, []byte{6, 0, 0, 0xFC, 0x18}, pcs.ask(6, 0, 0xFC18)) // -100 kW, the bound itself
	s.Advance(5 * time.Second)
	assert.InDelta(t, -100, s.Snapshot().PCS.Power, 0.5)
}

func TestRefusedWritesChangeNothing(t *testing.T) {
	t.Parallel()
	s := frozen(t, Config{})
	pcs := connect(t, s, DevicePCS)
	for _, tc := range []struct {
		request []uint16
		code    byte
	}{
		{[]uint16{6, 0, 1001}, 3},      // 100.1 kW
		{[]uint16{6, 0, 0xFC17}, 3},    // -100.1 kW
		{[]uint16{6, 2, 0}, 3},         // ramp 0
		{[]uint16{6, 100, 1}, 2},       // a measured value
		{[]uint16{6, 3, 1}, 2},         // nothing there
		{[]uint16{5, 2, 0xFF00}, 2},    // no such coil
		{[]uint16{6, 0xFFFF, 0xFF}, 2}, // the last address
	} {
		got := pcs.ask(byte(tc.request[0]), tc.request[1:]...)
		assert.Equal(t, []byte{byte(tc.request[0]) | 0x80, tc.code}, got, "%v", tc.request)
	}
	// FC 16, 2 registers in 4 bytes: the first is good, the second is not.
	got := pcs.askRaw([]byte{16, 0, 0, 0, 2, 4, 0, 10, 0x7F, 0xFF})
	assert.Equal(t, []byte{0x90, 3}, got)
	assert.Zero(t, s.Snapshot().PCS.Setpoint)
	assert.InDelta(t, 50.0, s.Snapshot().PCS.Ramp, 0)
	got = pcs.askRaw([]byte{16, 0, 0, 0, 2, 4, 0, 10, 0, 20})
	assert.Equal(t, []byte{16, 0, 0, 0, 2}, got)
	assert.InDelta(t, 1.0, s.Snapshot().PCS.Setpoint, 1e-9)
	assert.InDelta(t, 2.0, s.Snapshot().PCS.ReactiveSetpoint, 1e-9)
}

// askRaw is ask for a PDU that is not made of words.
func (c *client) askRaw(pdu []byte) []byte {
	c.t.Helper()
	c.id++
	frame := binary.BigEndian.AppendUint16(nil, c.id)
	frame = binary.BigEndian.AppendUint16(append(frame, 0, 0), uint16(len(pdu)+1))
	_, err := c.conn.Write(append(append(frame, c.unit), pdu...))
	require.NoError(c.t, err)
	head := make([]byte, 7)
	_, err = io.ReadFull(c.conn, head)
	require.NoError(c.t, err)
	answer := make([]byte, binary.BigEndian.Uint16(head[4:])-1)
	_, err = io.ReadFull(c.conn, answer)
	require.NoError(c.t, err)
	return answer
}

func TestFaultOverTheWire(t *testing.T) {
	t.Parallel()
	s := frozen(t, Config{})
	bms, pcs, pv := connect(t, s, DeviceBMS), connect(t, s, DevicePCS), connect(t, s, DevicePV)
	s.Advance(3 * time.Second)
	assert.Equal(t, []byte{5, 0, 0, 0xFF, 0}, bms.ask(5, 0, 0xFF00))
	assert.Equal(t, []byte{1, 1, 1}, bms.ask(1, 0, 1))
	s.Advance(5 * time.Second)
	assert.Greater(t, s.Snapshot().BMS.TemperatureMax, 60.0)
	assert.Equal(t, []byte{3, 2, 0, PCSFault}, pcs.ask(3, 109, 1))
	assert.Equal(t, []byte{0x85, 4}, pcs.ask(5, 1, 0xFF00), "no reset while it is hot")
	assert.Equal(t, []byte{5, 0, 0, 0, 0}, bms.ask(5, 0, 0))
	s.Advance(10 * time.Second)
	assert.Equal(t, []byte{5, 0, 1, 0xFF, 0}, pcs.ask(5, 1, 0xFF00))
	assert.Equal(t, []byte{1, 1, 0b01}, pcs.ask(1, 0, 2), "started, and the reset has fallen back")
	s.Advance(3 * time.Second)
	assert.Equal(t, []byte{3, 2, 0, PCSRunning}, pcs.ask(3, 109, 1))
	assert.Equal(t, []byte{5, 0, 0, 0, 0}, pcs.ask(5, 0, 0))
	assert.Equal(t, []byte{6, 0, 0, 0, 100}, pv.ask(6, 0, 100)) // 10 %
	s.Advance(10 * time.Second)
	assert.Equal(t, PCSOff, s.Snapshot().PCS.State)
	assert.LessOrEqual(t, s.Snapshot().PV.Power, 6.0)
}

func TestStopAndStartDevice(t *testing.T) {
	t.Parallel()
	s := frozen(t, Config{})
	addr := s.Addr(DevicePV)
	pv, meter := connect(t, s, DevicePV), connect(t, s, DeviceMeter)
	pv.ask(4, 0, 1)
	require.NoError(t, s.StopDevice(DevicePV))
	require.NoError(t, s.StopDevice(DevicePV), "again")
	_, err := pv.conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "the connection is dropped")
	_, err = net.DialTimeout("tcp", addr, patience)
	require.Error(t, err)
	meter.ask(4, 0, 1) // the others go on
	assert.Equal(t, addr, s.Addr(DevicePV))

	require.NoError(t, s.StartDevice(DevicePV))
	require.NoError(t, s.StartDevice(DevicePV), "again")
	assert.Equal(t, addr, s.Addr(DevicePV))
	assert.Equal(t, byte(4), connect(t, s, DevicePV).ask(4, 0, 1)[0])
	require.ErrorIs(t, s.StopDevice("boiler"), ErrDevice)
	require.ErrorIs(t, s.StartDevice("boiler"), ErrDevice)
	assert.Empty(t, s.Addr("boiler"))
}

func TestTicksStepThePhysics(t *testing.T) {
	t.Parallel()
	ticks := make(chan time.Time)
	s := frozen(t, Config{Ticks: ticks, Speed: 20})
	for range 5 {
		ticks <- time.Time{}
	}
	close(ticks) // received only after the fifth step
	require.Eventually(t, func() bool { return s.Snapshot().Elapsed == 10*time.Second }, patience, time.Millisecond)
}

func TestRealTicker(t *testing.T) {
	t.Parallel()
	s := New(Config{})
	require.NoError(t, s.Start(context.Background()))
	defer closeSite(t, s)
	require.Eventually(t, func() bool { return s.Snapshot().Elapsed >= 3*StepTime }, patience, 10*time.Millisecond)
}

func TestConsecutivePorts(t *testing.T) {
	t.Parallel()
	// Four free ports in a row have to be found first.
	for range 50 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		base := ln.Addr().(*net.TCPAddr).Port
		require.NoError(t, ln.Close())
		s := New(Config{Listen: fmt.Sprintf("127.0.0.1:%d", base), Ticks: make(chan time.Time)})
		if s.Start(context.Background()) != nil {
			assert.Empty(t, s.Addr(DeviceMeter))
			closeSite(t, s)
			continue
		}
		for i, d := range Devices() {
			assert.Equal(t, "127.0.0.1:"+strconv.Itoa(base+i), s.Addr(d))
		}
		closeSite(t, s)
		return
	}
	t.Fatal("no four free ports in a row")
}

func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	taken := frozen(t, Config{})
	_, port, err := net.SplitHostPort(taken.Addr(DeviceBMS))
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	s := New(Config{Listen: fmt.Sprintf("127.0.0.1:%d", n-1)}) // the second device's port is taken, if not the first's
	require.Error(t, s.Start(context.Background()))
	assert.Nil(t, s.devices[0].srv)
	assert.Empty(t, s.Addr(DeviceMeter))
	require.ErrorIs(t, s.StopDevice(DeviceMeter), ErrState)
	closeSite(t, s)
}

func TestCloseIsIdempotentAndFinal(t *testing.T) {
	t.Parallel()
	s := frozen(t, Config{})
	c := connect(t, s, DevicePCS)
	c.ask(3, 0, 1)
	require.ErrorIs(t, s.Start(context.Background()), ErrState)
	require.NoError(t, s.StopDevice(DevicePV))
	closeSite(t, s)
	closeSite(t, s)
	_, err := c.conn.Read(make([]byte, 1))
	require.Error(t, err)
	for _, d := range Devices() {
		_, err := net.DialTimeout("tcp", s.Addr(d), patience)
		require.Error(t, err)
	}
	require.ErrorIs(t, s.StartDevice(DevicePV), ErrState)

	never := New(Config{})
	closeSite(t, never)
	require.ErrorIs(t, never.Start(context.Background()), ErrState)
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{Listen: "nowhere"}, {Listen: "127.0.0.1:x"}, {Listen: "127.0.0.1:65533"}, {Listen: "127.0.0.1:-1"},
		{Speed: -1}, {Speed: 1e6}, {Speed: math.NaN()},
	} {
		require.ErrorIs(t, New(cfg).Start(context.Background()), ErrConfig, "%+v", cfg)
	}
}
