package modbus

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func place(t testing.TB, s string) Address {
	a, err := ParseAddress(s)
	require.NoError(t, err)
	return a
}

func TestAddressFace(t *testing.T) {
	t.Parallel()
	a := place(t, "40101:int32:CDAB na=-1 range=-5..5")
	assert.Equal(t, "holding", a.Table())
	assert.Equal(t, uint16(100), a.Start())
	assert.Equal(t, 2, a.Width())
	assert.Equal(t, uint16(0xFFFF), a.Mask())
	assert.False(t, a.Bits() || a.Text() || a.Truth() || a.Rate() || a.Single())
	assert.True(t, a.Within(5) && !a.Within(6))
	assert.Equal(t, a, place(t, a.String()))
	assert.Equal(t, uint16(0xF000), place(t, "holding:1:bits4-7:BA").Mask(), "in the register as it travels")
	assert.Equal(t, uint16(0x00FF), place(t, "holding:1:int8hi:BA").Mask())
	assert.True(t, place(t, "coil:1").Bits())
	_, err := ParseAddress("holding:70000")
	require.ErrorIs(t, err, model.ErrInvalid)
}

// What "not available" looks like, by the SunSpec Information Model.
func TestEncodeMissing(t *testing.T) {
	t.Parallel()
	for address, want := range map[string][]byte{
		"holding:0:int16":          {0x80, 0},
		"holding:0:int16:BA":       {0, 0x80},
		"holding:0:uint16":         {0xFF, 0xFF},
		"holding:0:bcd16":          {0xFF, 0xFF},
		"holding:0:int32":          {0x80, 0, 0, 0},
		"holding:0:int32:CDAB":     {0, 0, 0x80, 0},
		"holding:0:uint32":         {0xFF, 0xFF, 0xFF, 0xFF},
		"holding:0:int64":          {0x80, 0, 0, 0, 0, 0, 0, 0},
		"holding:0:uint64":         {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		"holding:0:float32":        {0x7F, 0xC0, 0, 0},
		"holding:0:float64":        {0x7F, 0xF8, 0, 0, 0, 0, 0, 0},
		"holding:0:string2":        {0, 0, 0, 0},
		"holding:0:uint16 na=7":    {0, 7},
		"holding:0:float32 na=-1":  {0xBF, 0x80, 0, 0},
		"holding:0:int8hi na=-128": {0x80, 0xAA},
		"holding:0:bits4-7 na=15":  {0xAA, 0xFA},
	} {
		b := []byte{0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA}[:len(want)]
		require.True(t, place(t, address).EncodeMissing(b), address)
		assert.Equal(t, want, b, address)
	}
	for _, address := range []string{"coil:0", "holding:0:bool", "holding:0:bit3", "holding:0:bits0-3", "holding:0:uint8lo"} {
		b := []byte{0xAA, 0xAA}
		require.False(t, place(t, address).EncodeMissing(b), address)
		assert.Equal(t, []byte{0xAA, 0xAA}, b, address)
	}
}

func TestAddressFaceParts(t *testing.T) {
	t.Parallel()
	b := []byte{0x12, 0x34}
	require.NoError(t, place(t, "holding:0:int8hi").Encode(b, -2))
	assert.Equal(t, []byte{0xFE, 0x34}, b)
	require.NoError(t, place(t, "holding:0:bits0-3").Encode(b, 15))
	require.NoError(t, place(t, "holding:0:bit7 invert").Encode(b, 0))
	assert.Equal(t, []byte{0xFE, 0xBF}, b)
	require.NoError(t, place(t, "holding:0:uint8lo:BA").Encode(b, 1))
	assert.Equal(t, []byte{0x01, 0xBF}, b)
	for address, raw := range map[string]float64{"holding:0:int8lo": 128, "holding:0:uint8hi": -1, "holding:0:bits0-3": 16,
		"holding:0:bit1": 0.5, "holding:0:bits0-15": math.NaN(), "holding:0:bits0-3 na=3": 3} {
		require.Error(t, place(t, address).Encode(b, raw), address)
		assert.Equal(t, []byte{0x01, 0xBF}, b)
	}
}

func TestEncodeText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ address, text, want string }{
		{"holding:0:string2", "ab", "ab\x00\x00"}, {"holding:0:string2", "abcdef", "abcd"}, {"holding:0:string2", "abcé", "abc\x00"},
		{"holding:0:string2:BA", "abc", "ba\x00c"}, {"holding:0:string2", "a\xffb", "a?b\x00"}, {"holding:0:string2", "", "\x00\x00\x00\x00"},
	} {
		b := []byte("####rest")
		place(t, c.address).EncodeText(b, c.text)
		assert.Equal(t, c.want+"rest", string(b), c)
	}
}

// What is encoded is decoded to the same, and nothing else is touched.
func FuzzAddressFace(f *testing.F) {
	f.Add("holding:0:bits3-9:BA na=5", 77.0, uint64(0x1234567890abcdef))
	f.Add("40001:int64:CDAB", -1e15, uint64(0))
	f.Add("holding:0:bcd32:DCBA", 1234.4, uint64(1))
	f.Add("coil:5 invert", 1.0, uint64(7))
	f.Fuzz(func(t *testing.T, text string, raw float64, before uint64) {
		a, err := ParseAddress(text)
		if err != nil || a.Text() {
			return
		}
		require.Equal(t, a.String(), place(t, a.String()).String())
		was := binary.BigEndian.AppendUint64(nil, before)
		b := append([]byte(nil), was...)
		if a.Encode(b, raw) != nil {
			require.Equal(t, was, b)
			return
		}
		require.Equal(t, was[2*a.Width():], b[2*a.Width():])
		if a.Width() == 1 {
			other := ^a.Mask()
			require.Equal(t, binary.BigEndian.Uint16(was)&other, binary.BigEndian.Uint16(b)&other)
		}
		v, quality := a.Decode(b)
		if quality != model.Good {
			require.Equal(t, model.Overflow, quality, "only what a float64 cannot tell apart")
			return
		}
		again := append([]byte(nil), was...)
		require.NoError(t, a.Encode(again, v))
		require.Equal(t, b, again)
	})
}
