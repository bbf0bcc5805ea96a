package modbus

import (
	"testing"
	"time"

	gb "github.com/goburrow/modbus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRTUFrame(t *testing.T) {
	t.Parallel()
	pdu := &gb.ProtocolDataUnit{FunctionCode: 7}
	assert.Equal(t, unhex(t, "02 07 41 12"), appendRTU(nil, 2, pdu), "the example of the specification")
	for n := range 20 {
		pdu := &gb.ProtocolDataUnit{FunctionCode: byte(n + 1), Data: make([]byte, n)}
		handler := gb.NewRTUClientHandler("")
		handler.SlaveId = byte(n)
		want, err := handler.Encode(pdu)
		require.NoError(t, err)
		got := appendRTU(nil, byte(n), pdu)
		assert.Equal(t, want, got)
		assert.True(t, validRTU(got))
		got[n%len(got)] ^= 1
		assert.False(t, validRTU(got))
	}
	assert.False(t, validRTU([]byte{0xFF, 0xFF}))
}

func TestAnswerLength(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{
		"": 0, "01": 0, "01 03": 0, "01 03 04": 9, "F7 01 01": 6, "01 17 02": 7, "01 05": 8, "01 06": 8, "01 0F": 8, "01 10": 8,
		"01 16": 10, "01 18": 0, "01 18 00": 0, "01 18 00 04": 10, "01 18 00 41": -1, "01 83": 5, "01 FF": 5,
		"00": -1, "F8": -1, "01 00": -1, "01 80": -1, "01 07": -1, "01 03 00": -1,
	} {
		assert.Equal(t, want, answerLength(unhex(t, in)), in)
	}
}

func TestWantedLength(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{
		"01 0013 0013": 8, "02 00C4 0016": 8, "03 006B 0003": 11, "04 0008 0001": 7, "05 00AC FF00": 8, "06 0001 0003": 8,
		"0F 0013 000A 02 CD01": 8, "10 0001 0002 04 000A 0102": 8, "16 0004 00F2 0025": 10, "17 0003 0006 000E 0003 06 00FF 00FF 00FF": 17,
	} {
		b := unhex(t, in)
		assert.Equal(t, want, wantedLength(&gb.ProtocolDataUnit{FunctionCode: b[0], Data: b[1:]}), in)
	}
}

func TestSerialTiming(t *testing.T) {
	t.Parallel()
	for baud, want := range map[int]time.Duration{9600: 4010, 19200: 2005, 38400: 1750, 115200: 1750} {
		_, silence := serialOptions{baud: baud}.timing()
		assert.InDelta(t, want*time.Microsecond, silence, float64(time.Microsecond), "%d", baud)
	}
}

func TestDoubts(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	ask := func(function byte, start, count int) *gb.ProtocolDataUnit {
		return &gb.ProtocolDataUnit{FunctionCode: function, Data: appendRead(nil, start, count)}
	}
	var ds doubts
	_, ok := ds.probe(1, ask(3, 0, 10), now)
	require.False(t, ok)
	ds.add(1, ask(3, 0, 10), now)
	for _, safe := range []*gb.ProtocolDataUnit{ask(3, 0, 9), ask(4, 0, 10), ask(6, 0, 10)} {
		_, ok := ds.probe(1, safe, now)
		assert.False(t, ok, "%v", safe)
	}
	_, ok = ds.probe(2, ask(3, 0, 10), now)
	require.False(t, ok, "another unit")
	probe, ok := ds.probe(1, ask(3, 50, 10), now)
	require.True(t, ok)
	assert.Equal(t, *ask(3, 50, 1), probe)
	ds.add(1, &probe, now)
	probe, ok = ds.probe(1, ask(3, 65535, 1), now)
	require.True(t, ok)
	assert.Equal(t, *ask(3, 65534, 2), probe)

	ds.add(1, ask(6, 7, 1), now)
	probe, ok = ds.probe(1, ask(6, 8, 1), now)
	require.True(t, ok)
	assert.Equal(t, *ask(3, 8, 2), probe)
	ds.add(1, ask(15, 7, 1), now)
	probe, ok = ds.probe(1, ask(15, 9, 3), now)
	require.True(t, ok)
	assert.Equal(t, *ask(1, 9, 1), probe)
	ds.add(1, &probe, now)
	probe, ok = ds.probe(1, ask(1, 9, 3), now)
	require.True(t, ok)
	assert.Equal(t, *ask(1, 9, 9), probe)

	// A mask and a write that reads are writes to registers.
	for n, function := range []byte{22, 23} {
		request := ask(function, 30, 2)
		_, ok = ds.probe(4, request, now)
		require.False(t, ok)
		ds.add(4, request, now)
		probe, ok = ds.probe(4, ask(function, 31, 1), now)
		require.True(t, ok)
		assert.Equal(t, *ask(3, 31, 1+n), probe)
		ds.add(4, &probe, now)
	}

	ds.add(2, ask(3, 0, 1), now)
	ds.clear(1)
	_, ok = ds.probe(1, ask(3, 50, 10), now)
	require.False(t, ok)
	_, ok = ds.probe(2, ask(3, 0, 1), now)
	require.True(t, ok)
	_, ok = ds.probe(2, ask(3, 0, 1), now.Add(doubtTime+1))
	require.False(t, ok)
	ds.add(3, ask(3, 0, 1), now.Add(doubtTime+1))
	require.Len(t, ds, 1)
	for n := range 300 {
		ds.add(3, ask(3, 0, n%125+1), now.Add(doubtTime+1))
	}
	_, ok = ds.probe(3, ask(3, 0, 1), now.Add(doubtTime+1))
	require.True(t, ok, "ends")
}
