package modbus

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func mustParse(t testing.TB, s string) address {
	t.Helper()
	a, err := parseAddress(s)
	require.NoError(t, err)
	return a
}

// Each row is one type in one order, as the bytes travel on the wire.
var layouts = []struct {
	typ   string
	bytes string
	value float64
}{
	{"bool", "00 00", 0}, {"bool", "00 01", 1}, {"bool invert", "00 01", 0}, {"bool invert", "00 00", 1}, {"bool:BA", "01 00", 1},
	{"int16", "FF FE", -2}, {"int16:BA", "FE FF", -2}, {"int16", "80 00", -32768}, {"int16", "7F FF", 32767},
	{"uint16", "12 34", 0x1234}, {"uint16:AB", "12 34", 0x1234}, {"uint16:BA", "34 12", 0x1234}, {"uint16", "FF FF", 65535},
	{"bcd16", "12 34", 1234}, {"bcd16:BA", "34 12", 1234}, {"bcd16", "99 99", 9999},

	{"int32", "FF FE 1D C0", -123456}, {"int32:ABCD", "FF FE 1D C0", -123456}, {"int32:CDAB", "1D C0 FF FE", -123456},
	{"int32:BADC", "FE FF C0 1D", -123456}, {"int32:DCBA", "C0 1D FE FF", -123456},
	{"uint32", "01 02 03 04", 0x01020304}, {"uint32:CDAB", "03 04 01 02", 0x01020304},
	{"uint32:BADC", "02 01 04 03", 0x01020304}, {"uint32:DCBA", "04 03 02 01", 0x01020304}, {"uint32", "FF FF FF FF", math.MaxUint32},
	{"float32", "42 F6 E9 79", float64(float32(123.456))}, {"float32:CDAB", "E9 79 42 F6", float64(float32(123.456))},
	{"float32:BADC", "F6 42 79 E9", float64(float32(123.456))}, {"float32:DCBA", "79 E9 F6 42", float64(float32(123.456))},
	{"bcd32", "12 34 56 78", 12345678}, {"bcd32:CDAB", "56 78 12 34", 12345678}, {"bcd32:BADC", "34 12 78 56", 12345678}, {"bcd32:DCBA", "78 56 34 12", 12345678},

	{"int64", "FF FF FF FF FF FF FF FE", -2},
	{"int64", "00 04 03 02 01 00 07 06", 0x0004030201000706},
	{"int64:CDAB", "07 06 01 00 03 02 00 04", 0x0004030201000706},
	{"int64:BADC", "04 00 02 03 00 01 06 07", 0x0004030201000706},
	{"int64:DCBA", "06 07 00 01 02 03 04 00", 0x0004030201000706},
	{"uint64", "00 00 00 01 00 02 00 03", 1<<32 | 2<<16 | 3},
	{"uint64:CDAB", "00 03 00 02 00 01 00 00", 1<<32 | 2<<16 | 3},
	{"uint64:BADC", "00 00 01 00 02 00 03 00", 1<<32 | 2<<16 | 3},
	{"uint64:DCBA", "03 00 02 00 01 00 00 00", 1<<32 | 2<<16 | 3},
	{"float64", "40 5E DD 2F 1A 9F BE 77", 123.456}, {"float64:CDAB", "BE 77 1A 9F DD 2F 40 5E", 123.456},
	{"float64:BADC", "5E 40 2F DD 9F 1A 77 BE", 123.456}, {"float64:DCBA", "77 BE 9F 1A 2F DD 5E 40", 123.456},
}

func TestLayouts(t *testing.T) {
	t.Parallel()
	for _, l := range layouts {
		a := mustParse(t, "holding:0:"+l.typ)
		got, quality := a.decode(unhex(t, l.bytes))
		assert.Equal(t, model.Good, quality, "%+v", l)
		assert.Equal(t, l.value, got, "%+v", l)
		b, err := a.encode(nil, l.value)
		require.NoError(t, err, "%+v", l)
		assert.Equal(t, unhex(t, l.bytes), b, "%+v", l)
	}
}

func TestDecodeParts(t *testing.T) {
	t.Parallel()
	for typ, want := range map[string]float64{
		"bit0": 1, "bit1": 0, "bit7": 1, "bit8": 0, "bit15": 1, "bit0:BA": 0, "bit8:BA": 1,
		"uint8hi": 0xFE, "uint8lo": 0x81, "int8hi": -2, "int8lo": -127, "uint8hi:BA": 0x81, "bool": 1,
		"bits0-3": 1, "bits4-7": 8, "bits7-9": 5, "bits8-15": 0xFE, "bits0-15": 0xFE81, "bits14-15": 3, "bits0-3:BA": 0xE,
		"bool invert": 0, "bit0 invert": 0, "bit1 invert": 1,
	} {
		got, quality := mustParse(t, "input:0:"+typ).decode(unhex(t, "FE 81"))
		assert.Equal(t, model.Good, quality, typ)
		assert.Equal(t, want, got, typ)
	}
}

func TestDecodeWhatIsNoNumber(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ, bytes string
		want       model.Quality
	}{
		{"float32", "7F C0 00 00", model.Invalid},
		{"float32", "7F 80 00 00", model.Overflow},
		{"float32", "FF 80 00 00", model.Overflow},
		{"float64", "7F F8 00 00 00 00 00 01", model.Invalid},
		{"float64", "7F F0 00 00 00 00 00 00", model.Overflow},
		{"float64", "7F E0 00 00 00 00 00 00", model.Overflow}, // a number, but not storable
		{"int64", "00 20 00 00 00 00 00 01", model.Overflow},   // 2^53 + 1
		{"int64", "80 00 00 00 00 00 00 00", model.Overflow},   // the least
		{"int64", "00 1F FF FF FF FF FF FF", model.Overflow},   // exact, above model.MaxValue
		{"uint64", "FF FF FF FF FF FF FF FF", model.Overflow},
		{"uint64", "00 03 8D 7E A4 C6 80 00", model.Good}, // 1e15
		{"bcd16", "00 0A", model.Invalid},
		{"bcd32", "A0 00 00 00", model.Invalid},
	} {
		i := item{address: mustParse(t, "holding:0:"+c.typ), factor: 1}
		v, quality := i.value(unhex(t, c.bytes), 0)
		assert.Equal(t, c.want, quality, "%+v", c)
		if quality != model.Good {
			assert.Zero(t, v, "%+v", c)
		}
	}
}

func TestScaleMayOverflow(t *testing.T) {
	t.Parallel()
	i := item{address: mustParse(t, "holding:0:float32"), factor: 1e300, offset: 1}
	_, quality := i.value(unhex(t, "7F 7F FF FF"), 0)
	assert.Equal(t, model.Overflow, quality)
}

func TestEncodeRoundsAndRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ   string
		raw   float64
		bytes string // empty where it is refused
	}{
		{"int16", 499.5, "01 F4"}, {"int16", -0.4, "00 00"}, {"int16", 32767.4, "7F FF"}, {"int16", 32767.5, ""}, {"int16", -32768.5, ""}, {"int16", -32768.4, "80 00"},
		{"uint16", -1, ""}, {"uint16", 65536, ""}, {"uint16", -0.4, "00 00"},
		{"int32", math.MaxInt32 + 1, ""}, {"uint32", 1 << 32, ""}, {"uint32", -1, ""},
		{"int64", 1 << 53, "00 20 00 00 00 00 00 00"}, {"int64", -(1 << 53), "FF E0 00 00 00 00 00 00"}, {"int64", 1<<53 + 2, ""}, {"uint64", -1, ""}, {"uint64", 1 << 54, ""},
		{"float32", 1e39, ""}, {"float32", -1e39, ""}, {"float32", math.NaN(), ""}, {"float64", math.Inf(1), ""}, {"int16", math.NaN(), ""}, {"int16", math.Inf(-1), ""},
		{"bcd16", 10000, ""}, {"bcd16", -1, ""}, {"bcd32", 1e8, ""},
		{"bool", 2, ""}, {"bool", -1, ""}, {"bool", 0.4, ""}, {"bool", 1.0000000001, "00 01"},
		{"bit3", 1, ""}, {"uint8hi", 1, ""}, {"bits0-3", 1, ""}, {"string4", 1, ""},
		{"int16 na=0x8000", -32768, ""}, {"int16 na=0x8000", -32767, "80 01"}, {"float32 na=0", math.Copysign(0, -1), ""},
		{"bool invert", 2, ""},
	} {
		b, err := mustParse(t, "holding:0:"+c.typ).encode(nil, c.raw)
		if c.bytes == "" {
			assert.Error(t, err, "%+v gave % x", c, b)
			continue
		}
		require.NoError(t, err, "%+v", c)
		assert.Equal(t, unhex(t, c.bytes), b, "%+v", c)
	}
}

// A part that is written into a register is read from it, and the rest of the
// register stays.
func TestEncodeParts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ, before string
		raw         float64
		after       string // empty where it is refused
	}{
		{"bit0", "FE 80", 1, "FE 81"}, {"bit0", "FF FF", 0, "FF FE"}, {"bit15", "00 00", 1, "80 00"}, {"bit0:BA", "00 00", 1, "01 00"}, {"bit8:BA", "00 00", 1, "00 01"},
		{"bit3 invert", "FF FF", 1, "FF F7"}, {"bit3 invert", "00 00", 0, "00 08"}, {"bit3", "00 00", 0.5, ""}, {"bit3", "00 00", 2, ""}, {"bit3", "00 00", -1, ""},
		{"bits4-7", "12 34", 0xA, "12 A4"}, {"bits4-7", "FF FF", 0, "FF 0F"}, {"bits4-7", "00 00", 16, ""}, {"bits4-7", "00 00", -1, ""}, {"bits4-7:BA", "12 34", 0xA, "A2 34"},
		{"bits7-9", "00 00", 5, "02 80"}, {"bits0-15", "12 34", 65535, "FF FF"}, {"bits0-15", "12 34", 65536, ""}, {"bits0-3", "12 34", 2.6, "12 33"},
		{"int8hi", "12 34", -2, "FE 34"}, {"int8lo", "12 34", -128, "12 80"}, {"int8lo", "12 34", 128, ""}, {"int8lo", "12 34", -129, ""}, {"int8hi:BA", "12 34", -2, "12 FE"},
		{"uint8hi", "12 34", 255, "FF 34"}, {"uint8lo", "12 34", 256, ""}, {"uint8lo", "12 34", math.NaN(), ""}, {"uint8lo:BA", "12 34", 1, "01 34"},
		{"int8lo na=-1", "12 34", -1, ""}, {"bits0-3 na=0xF", "12 34", 15, ""}, {"uint8hi na=0xFF", "12 34", 254, "FE 34"},
	} {
		a := mustParse(t, "holding:0:"+c.typ)
		mask, value, err := a.encodePart(c.raw)
		if c.after == "" {
			assert.Error(t, err, "%+v gave %x %x", c, mask, value)
			continue
		}
		require.NoError(t, err, "%+v", c)
		require.Zero(t, value&^mask, "%+v", c)
		register := binary.BigEndian.AppendUint16(nil, binary.BigEndian.Uint16(unhex(t, c.before))&^mask|value)
		assert.Equal(t, unhex(t, c.after), register, "%+v", c)
		got, quality := a.decode(register)
		assert.Equal(t, model.Good, quality, "%+v", c)
		assert.Equal(t, math.Round(c.raw), got, "%+v", c)
	}
}

// What was encoded decodes to the same, for every type, order and number.
func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for typ := typeBool; typ < typeString; typ++ {
		if typ.partial() {
			continue
		}
		for _, o := range orders(typ) {
			a := address{space: holding, typ: typ, wordSwap: o.wordSwap, byteSwap: o.byteSwap}
			for range 200 {
				var raw float64
				switch typ {
				case typeFloat32:
					raw = float64(float32(r.NormFloat64() * 1e6))
				case typeFloat64:
					raw = r.NormFloat64() * 1e6
				default:
					n := typeRange[typ]
					raw = math.Round(n.min + r.Float64()*(n.max-n.min))
				}
				b, err := a.encode(nil, raw)
				require.NoError(t, err)
				require.Len(t, b, 2*a.width())
				got, quality := a.decode(b)
				require.Equal(t, model.Good, quality)
				require.Equal(t, raw, got, "%s", a)
			}
		}
	}
}
