package northbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

var written = Map{
	{Address: "holding:0:int16", Model: "m", Point: "a", Scale: 0.1, Offset: 5, Write: true},
	{Address: "holding:1:float32:CDAB", Model: "m", Point: "b", Write: true},
	{Address: "holding:3:uint16 range=0..100", Model: "m", Point: "c", Write: true},
	{Address: "holding:4", Model: "m", Point: "d"},
	{Address: "coil:0", Model: "m", Point: "e", Write: true},
	{Address: "coil:1 invert", Model: "m", Point: "f", Write: true},
}

func (b *bench) write(t *testing.T, address uint16, values ...uint16) error {
	return b.WriteRegisters(t.Context(), server.HoldingRegister, address, values)
}

func TestWrites(t *testing.T) {
	t.Parallel()
	b := newBench(t, written)
	given := func() []model.Command {
		b.site.mu.Lock()
		defer b.site.mu.Unlock()
		list := b.site.given
		b.site.given = nil
		return list
	}
	require.NoError(t, b.write(t, 0, 0xFFF6, 0x0000, 0x3FC0, 100))
	require.Equal(t, []model.Command{
		{Model: "m", Control: "a", Value: 4, Origin: "modbus:scada", Timeout: DefaultWriteTimeout},
		{Model: "m", Control: "b", Value: 1.5, Origin: "modbus:scada", Timeout: DefaultWriteTimeout},
		{Model: "m", Control: "c", Value: 100, Origin: "modbus:scada", Timeout: DefaultWriteTimeout},
	}, given(), "in the order of their addresses")
	require.NoError(t, b.WriteBits(t.Context(), server.Coil, 0, []bool{true, true}))
	list := given()
	require.Len(t, list, 2)
	assert.Equal(t, []float64{1, 0}, []float64{list[0].Value, list[1].Value})

	for name, c := range map[string]struct {
		address uint16
		values  []uint16
		want    server.Exception
	}{
		"half of a value":        {1, []uint16{1}, server.IllegalAddress},
		"the other half":         {2, []uint16{1, 2}, server.IllegalAddress},
		"the begin of a value":   {0, []uint16{1, 2}, server.IllegalAddress},
		"not to be written":      {3, []uint16{1, 2}, server.IllegalAddress},
		"not there":              {5, []uint16{1}, server.IllegalAddress},
		"out of range":           {3, []uint16{101}, server.IllegalValue},
		"not available":          {0, []uint16{0x8000}, server.IllegalValue},
		"not a number":           {1, []uint16{0, 0x7FC0}, server.IllegalValue},
		"one of several":         {0, []uint16{1, 0, 0x7FC0, 5}, server.IllegalValue},
		"the last is not to be":  {0, []uint16{1, 0, 0, 5, 6}, server.IllegalAddress},
		"infinite":               {1, []uint16{0, 0x7F80}, server.IllegalValue},
		"too large to be stored": {1, []uint16{0xFFFF, 0x7F7F}, server.IllegalValue},
	} {
		require.ErrorIs(t, b.write(t, c.address, c.values...), c.want, name)
	}
	require.Empty(t, given(), "nothing is given of a request that is refused")
	require.ErrorIs(t, unit{b.serving, new([4]*table)}.WriteBits(t.Context(), server.Coil, 0, []bool{true}), server.IllegalAddress)

	r := newBench(t, written, ReadOnly())
	require.ErrorIs(t, r.write(t, 0, 1), server.IllegalFunction)
	require.ErrorIs(t, r.MaskRegister(t.Context(), 0, 0, 1), server.IllegalFunction)
	roles := newBench(t, written, WriteRoles("operator"))
	require.ErrorIs(t, roles.write(t, 0, 1), server.IllegalFunction, "a client without a role")
	require.ErrorIs(t, roles.MaskRegister(t.Context(), 0, 0, 1), server.IllegalFunction)
	require.Empty(t, roles.site.given)
}

// The first value that is not certainly taken ends the request.
func TestWriteResults(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	for _, c := range []struct {
		state  model.CommandState
		reason string
		err    error
		want   server.Exception
	}{
		{model.CommandVerified, "", nil, 0},
		{model.CommandExecuted, "", nil, 0},
		{model.CommandExecuted, "", lost, server.Acknowledge},
		{model.CommandRejected, "limit", lost, server.IllegalValue},
		{model.CommandRejected, "step", lost, server.IllegalValue},
		{model.CommandRejected, "enum", lost, server.IllegalValue},
		{model.CommandRejected, "disabled", lost, server.DeviceFailure},
		{model.CommandRejected, "no_mapping", lost, server.DeviceFailure},
		{model.CommandFailed, "refused", lost, server.DeviceFailure},
		{model.CommandExpired, "timeout", lost, server.DeviceFailure},
		{model.CommandCancelled, "", lost, server.DeviceFailure},
		{model.CommandSuperseded, "", lost, server.DeviceFailure},
		{model.CommandUnknown, "timeout", lost, server.Acknowledge},
		{model.CommandQueued, "", lost, server.Acknowledge},
		{model.CommandExecuting, "", lost, server.Acknowledge},
		{model.CommandExecuting, "", nil, server.Acknowledge},
		{"", "", lost, server.Acknowledge},
		{"", "", nil, server.Acknowledge},
		{"", "", model.ErrInvalid, server.IllegalValue},
	} {
		b := newBench(t, written)
		b.site.result, b.site.problem = model.CommandResult{State: c.state, Reason: c.reason}, c.err
		err := b.write(t, 0, 1, 0, 0x3FC0)
		if c.want == 0 {
			require.NoError(t, err)
			require.Len(t, b.site.given, 2)
			continue
		}
		require.ErrorIs(t, err, c.want, "%+v", c)
		require.Len(t, b.site.given, 1, "%+v", c)
	}
}

// One client has only a part of the writes, and all together have a bound.
func TestWritesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, written)
	b.site.hold = make(chan struct{})
	done := make(chan error, maxWrites)
	given := func() int {
		b.site.mu.Lock()
		defer b.site.mu.Unlock()
		return len(b.site.given)
	}
	for range maxClientWrites {
		go func() { done <- b.write(t, 0, 1) }()
	}
	require.Eventually(t, func() bool { return given() == maxClientWrites }, patience, time.Millisecond)
	require.ErrorIs(t, b.write(t, 0, 1), server.Busy)
	_, err := b.holding(4, 1)
	require.NoError(t, err, "reads do not wait for writes")
	orders := []order{{point: b.image.layout.points[1]}}
	for i := range maxWrites - maxClientWrites {
		leave, err := b.gate.enter(strconv.Itoa(i%4), orders, false)
		require.NoError(t, err)
		defer leave()
	}
	_, err = b.gate.enter("another", orders, false)
	require.ErrorIs(t, err, server.Busy)
	close(b.site.hold)
	for range maxClientWrites {
		require.NoError(t, <-done)
	}
	require.NoError(t, b.write(t, 0, 1))
	require.NotContains(t, b.gate.clients, "")
	require.Len(t, b.gate.points, 1)
}

// A mask is alone at its value, and nothing else is kept from being written by it.
func TestMaskIsAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, written)
	b.show(map[string]model.Value{"a": b.good(5), "c": b.good(0)})
	b.site.hold = make(chan struct{})
	done := make(chan error, 3)
	given := func(n int) {
		require.Eventually(t, func() bool {
			b.site.mu.Lock()
			defer b.site.mu.Unlock()
			return len(b.site.given) == n
		}, patience, time.Millisecond)
	}
	go func() { done <- b.MaskRegister(t.Context(), 0, 0, 1) }()
	given(1)
	require.ErrorIs(t, b.write(t, 0, 1), server.Busy)
	require.ErrorIs(t, b.MaskRegister(t.Context(), 0, 0, 1), server.Busy)
	go func() { done <- b.write(t, 3, 1) }()
	given(2)
	require.ErrorIs(t, b.MaskRegister(t.Context(), 3, 0, 1), server.Busy)
	go func() { done <- b.write(t, 3, 2) }()
	given(3)
	close(b.site.hold)
	for range 3 {
		require.NoError(t, <-done)
	}
	require.NoError(t, b.MaskRegister(t.Context(), 3, 0, 1))
}

// The site hears of what was written only when the device was read again. Two
// masks must not undo each other until then.
func TestMasksThatFollowOneAnother(t *testing.T) {
	t.Parallel()
	b := newBench(t, written)
	set := func(bit uint16) error { return b.MaskRegister(t.Context(), 3, ^bit, bit) }
	last := func() float64 { return b.site.given[len(b.site.given)-1].Value }
	b.show(map[string]model.Value{"c": b.good(0)})
	require.NoError(t, set(1))
	require.NoError(t, set(2))
	require.EqualValues(t, 3, last())
	b.show(map[string]model.Value{"c": b.good(1)}) // of the first one
	require.NoError(t, set(4))
	require.EqualValues(t, 7, last())
	b.show(map[string]model.Value{"c": b.good(7)})
	b.show(map[string]model.Value{"c": b.good(16)}) // someone else
	require.NoError(t, set(1))
	require.EqualValues(t, 17, last())

	require.NoError(t, b.write(t, 3, 32))
	b.clock.turn(DefaultStale) // the device did something else
	b.show(map[string]model.Value{"c": b.good(8)})
	require.NoError(t, set(1))
	require.EqualValues(t, 9, last())

	b.site.result.State = model.CommandUnknown
	require.ErrorIs(t, b.write(t, 3, 64), server.Acknowledge)
	n := len(b.site.given)
	require.ErrorIs(t, set(1), server.DeviceFailure, "nobody knows what is there")
	require.Len(t, b.site.given, n)
}

// No answer to a request of which a part was done says that nothing was.
func TestRestOfARequestFails(t *testing.T) {
	t.Parallel()
	for _, result := range []model.CommandResult{{State: model.CommandRejected, Reason: "limit"}, {State: model.CommandFailed}, {State: model.CommandUnknown}} {
		b := newBench(t, written)
		b.site.later = &result
		require.ErrorIs(t, b.write(t, 0, 1, 0, 0x3FC0, 5), server.Acknowledge)
		require.Len(t, b.site.given, 2)
	}
}

// The time of a request is that of all of its values together.
func TestWriteTimeIsShared(t *testing.T) {
	t.Parallel()
	b := newBench(t, written)
	b.show(map[string]model.Value{})
	require.NoError(t, b.command(t.Context(), order{point: b.image.layout.points[0], data: []byte{0, 1}, value: 1}, b.clock.Now().Add(time.Second)))
	require.Equal(t, time.Second, b.site.given[0].Timeout)
	require.ErrorIs(t, b.command(t.Context(), order{point: b.image.layout.points[0], data: []byte{0, 1}, value: 1}, b.clock.Now()), server.DeviceFailure)
	require.Len(t, b.site.given, 1)
}

// A mask changes what is shown, so it must not be given for what is not good.
func TestMaskOfWhatIsNotGood(t *testing.T) {
	t.Parallel()
	b := newBench(t, written, BadValues(Last))
	mask := func(address, and, or uint16) error { return b.MaskRegister(t.Context(), address, and, or) }
	require.ErrorIs(t, mask(0, 0, 1), server.DeviceFailure)
	b.show(map[string]model.Value{"a": b.good(1), "c": b.good(math.MaxFloat32), "d": b.good(1)})
	require.NoError(t, mask(0, 0xFFF0, 3), "-40 is 0xFFD8")
	require.Equal(t, 0.1*float64(-45)+5, b.site.given[0].Value, "0xFFD3")
	require.ErrorIs(t, mask(3, 0, 1), server.DeviceFailure, "out of range")
	require.ErrorIs(t, mask(4, 0, 1), server.IllegalAddress, "not to be written")
	require.ErrorIs(t, mask(1, 0, 1), server.IllegalAddress, "half of a number")
	require.ErrorIs(t, mask(9, 0, 1), server.IllegalAddress)
	b.clock.turn(DefaultStale + time.Second)
	require.ErrorIs(t, mask(0, 0, 1), server.DeviceFailure)
	require.Len(t, b.site.given, 1)
	require.ErrorIs(t, unit{b.serving, new([4]*table)}.MaskRegister(t.Context(), 0, 0, 1), server.IllegalAddress)
}

// A float32 is the decimal number that was meant, or steps would refuse it.
func TestFloat32IsWhatWasMeant(t *testing.T) {
	t.Parallel()
	b := newBench(t, written)
	bits := math.Float32bits(100.1)
	require.NoError(t, b.write(t, 1, uint16(bits), uint16(bits>>16)))
	require.Equal(t, 100.1, b.site.given[0].Value)
}

func TestPlain(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "192.168.1.5", plain("192.168.1.5"))
	assert.Equal(t, "a?b?", plain("a\nb\x00"))
	for _, s := range []string{strings.Repeat("é", 50), "a\xffb", strings.Repeat("\n", 100)} {
		assert.True(t, model.PlainText(plain(s), 64), "%q", plain(s))
	}
}

func TestLongIDs(t *testing.T) {
	t.Parallel()
	setup := testSetup(t)
	setup.ID = strings.Repeat("a", 58)
	_, err := TCP("127.0.0.1:0", written)(setup)
	require.ErrorContains(t, err, "at most 57")
	setup.ID = setup.ID[1:]
	_, err = TCP("127.0.0.1:0", written)(setup)
	require.NoError(t, err)
}

// Writes that their client sent while another was under way wait in the connection.
// Those for which it cannot be waiting any more are not given: hours of them may lie
// there.
func TestWritesThatWaitedTooLong(t *testing.T) {
	t.Parallel()
	b := newBench(t, written, WriteTimeout(100*time.Millisecond))
	b.site.hold = make(chan struct{})
	srv, err := b.server(server.Config{})
	require.NoError(t, err)
	addr, err := srv.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = srv.Close(context.Background()) })
	c, err := net.Dial("tcp", addr.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	const n = 200
	one := []byte{0, 1, 0, 0, 0, 6, 1, 6, 0, 0, 0, 7}
	_, err = c.Write(bytes.Repeat(one, n))
	require.NoError(t, err)
	sent := time.Now()
	require.Eventually(t, func() bool { return time.Since(sent) > 400*time.Millisecond }, patience, 10*time.Millisecond)
	close(b.site.hold)
	answers := make([]byte, len(one)+9*(n-1))
	_, err = io.ReadFull(c, answers)
	require.NoError(t, err)
	require.Equal(t, one, answers[:len(one)])
	require.Equal(t, bytes.Repeat([]byte{0, 1, 0, 0, 0, 3, 1, 0x86, 4}, n-1), answers[len(one):])
	b.site.mu.Lock()
	require.Len(t, b.site.given, 1)
	b.site.mu.Unlock()
	_, err = c.Write(one)
	require.NoError(t, err)
	_, err = io.ReadFull(c, answers[:len(one)])
	require.NoError(t, err)
	require.Equal(t, one, answers[:len(one)], "the next one is not old")
}

// panicking is a site that panics when it is asked for values.
type panicking struct{ *fakeSite }

func (panicking) Values(context.Context, string) (map[string]model.Value, error) { panic("on purpose") }

// A panic ends the server with an error, and not the process.
func TestPanicIsContained(t *testing.T) {
	t.Parallel()
	s, err := TCP("127.0.0.1:0", written)(testSetup(t))
	require.NoError(t, err)
	require.ErrorContains(t, s.Serve(t.Context(), panicking{&fakeSite{}}), "on purpose")
}
