package northbound

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

func testSetup(testing.TB) channel.ServerSetup {
	return channel.ServerSetup{ID: "scada", Report: func(...string) {}, Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock}
}

// every type, in one map.
var everyType = Map{
	{Address: "holding:0:int16", Model: "m", Point: "a"},
	{Address: "holding:1:uint16", Model: "m", Point: "a"},
	{Address: "holding:2:int32", Model: "m", Point: "a"},
	{Address: "holding:4:uint32:CDAB", Model: "m", Point: "a"},
	{Address: "holding:6:int64", Model: "m", Point: "a"},
	{Address: "holding:10:uint64", Model: "m", Point: "a"},
	{Address: "holding:14:float32", Model: "m", Point: "a"},
	{Address: "holding:16:float64", Model: "m", Point: "a"},
	{Address: "holding:20:bcd16", Model: "m", Point: "a"},
	{Address: "holding:21:int16 na=-1", Model: "m", Point: "a"},
	{Address: "holding:22:string2", Model: "m", Point: "t"},
	{Address: "holding:24:uint16", Model: "m", Point: "a", Field: FieldQuality},
	{Address: "holding:25:int16:BA", Model: "m", Point: "a"},
}

func TestNotAvailable(t *testing.T) {
	t.Parallel()
	b := newBench(t, everyType)
	nan := math.Float64bits(math.NaN()) >> 48 &^ 1
	missing := []uint16{0x8000, 0xFFFF, 0x8000, 0, 0xFFFF, 0xFFFF, 0x8000, 0, 0, 0, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF,
		0x7FC0, 0, uint16(nan), 0, 0, 0, 0xFFFF, 0xFFFF, 0, 0, 7, 0x0080}
	got, err := b.holding(0, 26)
	require.NoError(t, err)
	assert.Equal(t, missing, got, "nothing was read yet")

	b.show(nil)
	got, err = b.holding(0, 26)
	require.NoError(t, err)
	missing[24] = 3
	assert.Equal(t, missing, got, "never had a value")

	b.show(map[string]model.Value{"a": b.good(1234), "t": {Text: "aéb", Time: b.clock.Now()}})
	got, err = b.holding(0, 26)
	require.NoError(t, err)
	assert.Equal(t, []uint16{1234, 1234, 0, 1234, 1234, 0, 0, 0, 0, 1234, 0, 0, 0, 1234, 0x449A, 0x4000, 0x4093, 0x4800, 0, 0, 0x1234, 1234,
		0x61C3, 0xA962, 0, 0xD204}, got)

	for q := model.Bad; q <= model.Offline; q++ {
		b.show(map[string]model.Value{"a": {Value: 1234, Quality: q, Time: b.clock.Now()}, "t": {Text: "ab", Quality: q}})
		got, err = b.holding(0, 26)
		require.NoError(t, err)
		missing[24] = uint16(q)
		assert.Equal(t, missing, got, q)
	}
	for _, q := range []model.Quality{model.Uncertain, model.Substituted} {
		b.show(map[string]model.Value{"a": {Value: 7, Quality: q, Time: b.clock.Now()}})
		got, err = b.holding(1, 1)
		require.NoError(t, err)
		assert.Equal(t, []uint16{7}, got)
	}
}

// A value that does not fit is not available, and never another value.
func TestValuesThatDoNotFit(t *testing.T) {
	t.Parallel()
	b := newBench(t, Map{
		{Address: "holding:0:int16", Model: "m", Point: "a", Scale: 0.1, Offset: -5},
		{Address: "holding:1:uint16 range=0..10", Model: "m", Point: "a"},
		{Address: "holding:2:bits0-3", Model: "m", Point: "a"},
		{Address: "holding:3:int8hi na=-128", Model: "m", Point: "a"},
		{Address: "holding:3:bit0", Model: "m", Point: "b"},
		{Address: "coil:3 invert", Model: "m", Point: "b"},
	})
	show := func(a float64) { b.show(map[string]model.Value{"a": b.good(a), "b": b.good(1)}) }
	show(10)
	got, err := b.holding(0, 4)
	require.NoError(t, err)
	assert.Equal(t, []uint16{150, 10, 10, 0x0A01}, got)
	bits := make([]bool, 1)
	require.NoError(t, b.ReadBits(t.Context(), server.Coil, 3, bits))
	assert.Equal(t, []bool{false}, bits, "inverted")
	show(4000)
	got, err = b.holding(0, 2)
	require.NoError(t, err)
	assert.Equal(t, []uint16{0x8000, 0xFFFF}, got)
	_, err = b.holding(2, 1)
	require.ErrorIs(t, err, server.DeviceFailure, "bits have no pattern")
	got, err = b.holding(3, 1)
	require.NoError(t, err)
	assert.Equal(t, []uint16{0x8001}, got)
	show(-6)
	got, err = b.holding(0, 2)
	require.NoError(t, err)
	assert.Equal(t, []uint16{0xFFF6, 0xFFFF}, got)
	b.show(map[string]model.Value{"a": b.good(1), "b": b.good(2)})
	require.ErrorIs(t, b.ReadBits(t.Context(), server.Coil, 3, bits), server.DeviceFailure, "2 is no state")
	_, err = b.holding(3, 1)
	require.ErrorIs(t, err, server.DeviceFailure)
	show(3)
	require.NoError(t, b.ReadBits(t.Context(), server.Coil, 3, bits))
}

func TestHolesAndHalves(t *testing.T) {
	t.Parallel()
	m := Map{row("holding:10:int32"), row("holding:20"), row("holding:22:string4"), row("holding:26"), row("holding:65535")}
	b, z := newBench(t, m), newBench(t, m, ZeroGaps())
	for _, b := range []*bench{b, z} {
		b.show(map[string]model.Value{"p": {Value: 1, Text: "", Time: b.clock.Now()}})
	}
	for _, c := range []struct {
		address uint16
		n       int
		ok, z   bool
	}{
		{10, 2, true, true}, {10, 1, false, false}, {11, 1, false, false}, {9, 2, false, false}, {11, 10, false, false},
		{10, 10, false, true}, {10, 11, false, true}, {0, 10, false, false}, {5, 20, false, true}, {20, 1, true, true},
		{22, 1, true, true}, {23, 2, true, true}, {22, 5, true, true}, {26, 4, false, true}, {27, 3, false, false}, {65535, 1, true, true},
	} {
		_, err := b.holding(c.address, c.n)
		assert.Equal(t, c.ok, err == nil, "%v: %v", c, err)
		got, err := z.holding(c.address, c.n)
		assert.Equal(t, c.z, err == nil, "with zeros, %v: %v", c, err)
		if c.address == 5 {
			assert.Equal(t, []uint16{0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, got)
		}
		if err != nil {
			assert.ErrorIs(t, err, server.IllegalAddress)
		}
	}
	require.ErrorIs(t, z.ReadBits(t.Context(), server.DiscreteInput, 0, make([]bool, 1)), server.IllegalAddress)
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	m := Map{row("holding:0"), {Address: "holding:1", Model: "m", Point: "q"}, {Address: "coil:0", Model: "m", Point: "p"}}
	bits := make([]bool, 1)

	fail := newBench(t, m, BadValues(Fail))
	fail.show(map[string]model.Value{"p": {Value: 1, Quality: model.Offline, Time: fail.clock.Now()}, "q": fail.good(2)})
	_, err := fail.holding(0, 2)
	require.ErrorIs(t, err, server.DeviceFailure)
	got, err := fail.holding(1, 1)
	require.NoError(t, err)
	assert.Equal(t, []uint16{2}, got)

	last := newBench(t, m, BadValues(Last))
	last.show(map[string]model.Value{"p": {Value: 0, Quality: model.Offline}, "q": {Value: 5, Quality: model.Offline, Time: last.clock.Now()}})
	got, err = last.holding(0, 2)
	require.NoError(t, err)
	assert.Equal(t, []uint16{0xFFFF, 5}, got, "the one was never good, the other before the server began")
	require.ErrorIs(t, last.ReadBits(t.Context(), server.Coil, 0, bits), server.DeviceFailure)
	last.show(map[string]model.Value{"p": last.good(1), "q": last.good(6)})
	last.show(map[string]model.Value{"p": {Quality: model.Offline}})
	got, err = last.holding(0, 2)
	require.NoError(t, err)
	assert.Equal(t, []uint16{1, 6}, got)
	require.NoError(t, last.ReadBits(t.Context(), server.Coil, 0, bits))
	assert.True(t, bits[0])
}

// What cannot be read again is not shown for longer than allowed, even when
// nobody refreshes the image at all.
func TestStale(t *testing.T) {
	t.Parallel()
	b := newBench(t, Map{row("holding:0"), {Address: "holding:1", Model: "m", Point: "p", Field: FieldQuality},
		{Address: "holding:2", Channel: "c", Point: "1"}, {Address: "holding:3", Channel: "c", Point: "1", Field: FieldAge}}, Stale(10*time.Second))
	b.site.chans = map[string]map[string]model.Value{"c": {"1": {Value: 9}}}
	check := func(want ...uint16) {
		t.Helper()
		got, err := b.holding(0, 4)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	b.show(map[string]model.Value{"p": b.good(5)})
	check(5, 0, 9, 0)
	b.site.err = errors.New("the store is away")
	b.clock.turn(10 * time.Second)
	b.reread()
	check(5, 0, 9, 0)
	b.clock.turn(time.Millisecond)
	check(0xFFFF, 7, 0xFFFF, 10)
	b.clock.turn(50 * time.Second)
	check(0xFFFF, 7, 0xFFFF, 60)
	b.clock.turn(100000 * time.Second)
	check(0xFFFF, 7, 0xFFFF, 65534)
	b.site.err = nil
	b.reread()
	check(5, 0, 9, 0)
	// One source that fails does not take the others with it for longer than until
	// the next read.
	b.clock.turn(6 * time.Second)
	b.refresher.read(t.Context(), b.image.sources[0])
	b.clock.turn(6 * time.Second)
	b.refresher.read(t.Context(), b.image.sources[0])
	check(5, 0, 0xFFFF, 12)
}

func TestAge(t *testing.T) {
	t.Parallel()
	b := newBench(t, Map{{Address: "holding:0:int16", Model: "m", Point: "p", Field: FieldAge}, {Address: "holding:1:uint8lo", Model: "m", Point: "p", Field: FieldAge}})
	_, err := b.holding(1, 1)
	require.ErrorIs(t, err, server.DeviceFailure, "a byte has no pattern for never")
	check := func(want ...uint16) {
		t.Helper()
		got, err := b.holding(0, 2)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	b.show(map[string]model.Value{"p": b.good(1)})
	check(0, 0)
	bad := model.Value{Value: 1, Quality: model.Offline, Time: b.clock.Now()}
	b.clock.turn(90 * time.Second)
	b.show(map[string]model.Value{"p": bad})
	check(90, 90)
	b.clock.turn(1000 * time.Second)
	b.show(map[string]model.Value{"p": bad})
	check(1090, 255)
	b.clock.turn(100000 * time.Second)
	b.show(map[string]model.Value{"p": bad})
	check(32767, 255)
}

// What is good and does not fit must not be shown as what was good before: the
// quality beside it says good.
func TestLastIsNotWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	b := newBench(t, Map{row("holding:0:uint16 range=0..100"), {Address: "holding:1", Model: "m", Point: "p", Field: FieldQuality}}, BadValues(Last))
	check := func(want ...uint16) {
		t.Helper()
		got, err := b.holding(0, 2)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, much := range []float64{101, 1e6, -1, math.NaN(), math.Inf(1)} {
		b.show(map[string]model.Value{"p": b.good(5)})
		check(5, 0)
		b.show(map[string]model.Value{"p": b.good(much)})
		check(0xFFFF, 0)
		b.show(map[string]model.Value{"p": {Value: much, Quality: model.Offline, Time: b.clock.Now()}})
		check(0xFFFF, 8)
	}
}

func TestNumberAtAnAddressOfText(t *testing.T) {
	t.Parallel()
	b := newBench(t, Map{row("holding:0:string2")}, BadValues(Fail))
	b.show(map[string]model.Value{"p": {Time: b.clock.Now()}})
	_, err := b.holding(0, 2)
	require.NoError(t, err, "an empty text")
	b.show(map[string]model.Value{"p": b.good(5)})
	_, err = b.holding(0, 2)
	require.ErrorIs(t, err, server.DeviceFailure)
}

// Age 0 means good, so what is not good is at least one second old, whatever the
// device's clock says.
func TestAgeOfWhatIsNotGoodIsNotZero(t *testing.T) {
	t.Parallel()
	b := newBench(t, Map{{Address: "holding:0", Model: "m", Point: "p", Field: FieldAge}})
	for _, at := range []time.Duration{0, -time.Millisecond, time.Hour} {
		b.show(map[string]model.Value{"p": {Quality: model.Offline, Time: b.clock.Now().Add(at)}})
		got, err := b.holding(0, 1)
		require.NoError(t, err)
		assert.NotZero(t, got[0], "%s", at)
	}
	b.show(map[string]model.Value{"p": b.good(1)})
	b.clock.turn(time.Minute)
	b.show(map[string]model.Value{"p": {Quality: model.Offline, Time: b.clock.Now().Add(time.Hour)}})
	got, err := b.holding(0, 1)
	require.NoError(t, err)
	assert.Equal(t, []uint16{60}, got, "since it was good here")
}

// Values are as old as the question for them, not as its answer.
func TestStaleCountsFromTheQuestion(t *testing.T) {
	t.Parallel()
	b := newBench(t, Map{row("holding:0")}, Stale(10*time.Second))
	b.site.asked = func() { b.clock.turn(4 * time.Second) }
	b.show(map[string]model.Value{"p": b.good(5)})
	b.clock.turn(6 * time.Second)
	got, err := b.holding(0, 1)
	require.NoError(t, err)
	assert.Equal(t, []uint16{5}, got)
	b.clock.turn(time.Millisecond)
	got, err = b.holding(0, 1)
	require.NoError(t, err)
	assert.Equal(t, []uint16{0xFFFF}, got)
}

// One source that cannot be read among others that can is told once.
func TestSourceThatFailsIsToldOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, Map{row("holding:0"), {Address: "holding:1", Model: "n", Point: "p"}})
	var log bytes.Buffer
	b.refresher.log = slog.New(slog.NewTextHandler(&log, nil))
	bad, good := b.image.sources[0], b.image.sources[1]
	for range 5 {
		b.site.err = errors.New("corrupt")
		b.refresher.read(t.Context(), bad)
		b.site.err = nil
		b.refresher.read(t.Context(), good)
	}
	assert.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	b.refresher.read(t.Context(), bad)
	assert.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
}

func BenchmarkRead125(b *testing.B) {
	var m Map
	for i := range 125 {
		m = append(m, row("holding:"+strconv.Itoa(i)))
	}
	bench := newBench(b, m)
	bench.show(map[string]model.Value{"p": bench.good(5)})
	dst := make([]uint16, 125)
	b.ReportAllocs()
	for b.Loop() {
		if err := bench.ReadRegisters(b.Context(), server.HoldingRegister, 0, dst); err != nil {
			b.Fatal(err)
		}
	}
}
