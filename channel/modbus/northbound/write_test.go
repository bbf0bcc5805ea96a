package northbound

import (
	"errors"
	"math"
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
	roles := newBench(t, written, WriteRoles("operator"))
	require.ErrorIs(t, roles.write(t, 0, 1), server.IllegalFunction, "a client without a role")
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
		{model.CommandExecuted, "", lost, acknowledge},
		{model.CommandRejected, "limit", lost, server.IllegalValue},
		{model.CommandRejected, "step", lost, server.IllegalValue},
		{model.CommandRejected, "disabled", lost, server.DeviceFailure},
		{model.CommandRejected, "no_mapping", lost, server.DeviceFailure},
		{model.CommandFailed, "refused", lost, server.DeviceFailure},
		{model.CommandExpired, "timeout", lost, server.DeviceFailure},
		{model.CommandCancelled, "", lost, server.DeviceFailure},
		{model.CommandSuperseded, "", lost, server.DeviceFailure},
		{model.CommandUnknown, "timeout", lost, acknowledge},
		{model.CommandQueued, "", lost, acknowledge},
		{model.CommandExecuting, "", lost, acknowledge},
		{model.CommandExecuting, "", nil, acknowledge},
		{"", "", lost, acknowledge},
		{"", "", nil, acknowledge},
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

func TestWritesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, written)
	b.site.hold = make(chan struct{})
	done := make(chan error, maxWrites)
	for range maxWrites {
		go func() { done <- b.write(t, 0, 1) }()
	}
	require.Eventually(t, func() bool { return len(b.writes) == maxWrites }, patience, time.Millisecond)
	require.ErrorIs(t, b.write(t, 0, 1), busy)
	_, err := b.holding(4, 1)
	require.NoError(t, err, "reads do not wait for writes")
	close(b.site.hold)
	for range maxWrites {
		require.NoError(t, <-done)
	}
}

// The time of a request is that of all of its values together.
func TestWriteTimeIsShared(t *testing.T) {
	t.Parallel()
	b := newBench(t, written)
	b.show(map[string]model.Value{})
	require.NoError(t, b.command(t.Context(), order{b.image.layout.points[0], 1}, b.clock.Now().Add(time.Second)))
	require.Equal(t, time.Second, b.site.given[0].Timeout)
	require.ErrorIs(t, b.command(t.Context(), order{b.image.layout.points[0], 1}, b.clock.Now()), server.DeviceFailure)
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
