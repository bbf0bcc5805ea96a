package modbus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unicode/utf8"

	"github.com/voltageems/voltage/model"
)

// maxExact is the largest size of whole numbers that float64 tells apart.
const maxExact = 1 << 53

// arrange undoes the device's byte order on a big-endian number of the type's
// width, or brings it about: each order is its own inverse.
func (a address) arrange(v uint64) uint64 {
	switch a.width() {
	case 1:
		if a.byteSwap {
			return uint64(bits.ReverseBytes16(uint16(v)))
		}
	case 2:
		if a.wordSwap {
			v = uint64(bits.RotateLeft32(uint32(v), 16))
		}
		if a.byteSwap {
			return swapBytes(v)
		}
	case 4:
		if a.wordSwap {
			v = swapBytes(bits.ReverseBytes64(v))
		}
		if a.byteSwap {
			return swapBytes(v)
		}
	}
	return v
}

// swapBytes exchanges the two bytes of each 16-bit word.
func swapBytes(v uint64) uint64 {
	const low = 0x00ff00ff00ff00ff
	return v>>8&low | v&low<<8
}

// part returns the part of a register that the type is, as the lowest bits.
func (a address) part(v uint64) uint64 {
	switch a.typ {
	case typeBit:
		return v >> a.bit & 1
	case typeBits:
		return v >> a.bit & (1<<(a.high-a.bit+1) - 1)
	case typeInt8Hi, typeUint8Hi:
		return v >> 8
	case typeInt8Lo, typeUint8Lo:
		return v & 0xff
	}
	return v
}

// size returns how many bits the number has.
func (a address) size() int {
	switch a.typ {
	case typeBit:
		return 1
	case typeBits:
		return int(a.high-a.bit) + 1
	case typeInt8Hi, typeInt8Lo, typeUint8Hi, typeUint8Lo:
		return 8
	}
	return 16 * a.width()
}

// truth returns the number of a state, inverted where the address says so.
func (a address) truth(on bool) float64 {
	if on != a.invert {
		return 1
	}
	return 0
}

// decodeText makes text of the registers in b, which hold at least the
// address's width. The text ends at the first NUL, without the spaces before
// it. It is Invalid where it is not UTF-8. before is returned when it is the
// text, so that a text that stays costs no memory.
func (a address) decodeText(b []byte, before string) (string, model.Quality) {
	var space [2 * maxText]byte
	text := space[:copy(space[:], b[:2*a.width()])]
	if a.byteSwap {
		for k := 0; k < len(text); k += 2 {
			text[k], text[k+1] = text[k+1], text[k]
		}
	}
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	text = bytes.TrimRight(text, " ")
	switch {
	case !utf8.Valid(text):
		return "", model.Invalid
	case string(text) == before:
		return before, model.Good
	}
	return string(text), model.Good
}

// decode makes a number of the registers in b, which hold at least the
// address's width. The number means something only when the quality is Good.
func (a address) decode(b []byte) (float64, model.Quality) {
	var v uint64
	switch a.width() {
	case 1:
		v = uint64(binary.BigEndian.Uint16(b))
	case 2:
		v = uint64(binary.BigEndian.Uint32(b))
	case 4:
		v = binary.BigEndian.Uint64(b)
	}
	v = a.part(a.arrange(v))
	if a.checks != nil && a.unavailable(v) {
		return 0, model.Invalid
	}
	switch a.typ {
	case typeBool, typeBit:
		return a.truth(v != 0), model.Good
	case typeInt8Hi, typeInt8Lo:
		return float64(int8(v)), model.Good
	case typeBits, typeUint8Hi, typeUint8Lo:
		return float64(v), model.Good
	case typeInt16:
		return float64(int16(v)), model.Good
	case typeUint16, typeUint32:
		return float64(v), model.Good
	case typeBCD16, typeBCD32:
		return decodeBCD(v)
	case typeInt32:
		return float64(int32(v)), model.Good
	case typeFloat32:
		return finite(float64(math.Float32frombits(uint32(v))))
	case typeInt64:
		if n := int64(v); n >= -maxExact && n <= maxExact {
			return float64(n), model.Good
		}
		return 0, model.Overflow
	case typeUint64:
		if v <= maxExact {
			return float64(v), model.Good
		}
		return 0, model.Overflow
	case typeFloat64:
		return finite(math.Float64frombits(v))
	}
	return 0, model.Invalid
}

// finite gives NaN and infinities their quality.
func finite(f float64) (float64, model.Quality) {
	switch {
	case math.IsNaN(f):
		return 0, model.Invalid
	case math.IsInf(f, 0):
		return 0, model.Overflow
	}
	return f, model.Good
}

func decodeBCD(v uint64) (float64, model.Quality) {
	n := uint64(0)
	for shift := 28; shift >= 0; shift -= 4 {
		digit := v >> shift & 0xf
		if digit > 9 {
			return 0, model.Invalid
		}
		n = n*10 + digit
	}
	return float64(n), model.Good
}

func encodeBCD(n uint64) uint64 {
	v := uint64(0)
	for shift := 0; n > 0; shift += 4 {
		v |= n % 10 << shift
		n /= 10
	}
	return v
}

// typeRange holds the whole numbers that a type can express.
var typeRange = [...]struct{ min, max float64 }{
	typeBool: {0, 1}, typeInt16: {math.MinInt16, math.MaxInt16}, typeUint16: {0, math.MaxUint16},
	typeBCD16: {0, 9999}, typeInt32: {math.MinInt32, math.MaxInt32}, typeUint32: {0, math.MaxUint32},
	typeBCD32: {0, 99999999}, typeBit: {0, 1}, typeInt8Hi: {math.MinInt8, math.MaxInt8}, typeInt8Lo: {math.MinInt8, math.MaxInt8},
	typeUint8Hi: {0, math.MaxUint8}, typeUint8Lo: {0, math.MaxUint8}, typeInt64: {-maxExact, maxExact}, typeUint64: {0, maxExact},
}

// encode appends the registers that hold raw, rounded to the nearest number
// that the type can express. It refuses what is out of the type's range, and
// what the device would understand as "not available".
func (a address) encode(b []byte, raw float64) ([]byte, error) {
	if a.typ.partial() {
		return b, fmt.Errorf("a part of a register, %s, does not fill one", a.typeName())
	}
	v, err := a.bits(raw)
	if err != nil {
		return b, err
	}
	v = a.arrange(v)
	switch a.width() {
	case 2:
		return binary.BigEndian.AppendUint32(b, uint32(v)), nil
	case 4:
		return binary.BigEndian.AppendUint64(b, v), nil
	}
	return binary.BigEndian.AppendUint16(b, uint16(v)), nil
}

// encodePart returns which bits of its register a part of one is, and what they
// are for raw. It refuses what encode does.
func (a address) encodePart(raw float64) (mask, value uint16, err error) {
	v, err := a.bits(raw)
	if err != nil {
		return 0, 0, err
	}
	mask, value = a.inRegister(v)
	return mask, value, nil
}

// inRegister returns which bits of its register a part of one is, and what they
// are for the part's own bits.
func (a address) inRegister(v uint64) (mask, value uint16) {
	shift := 0
	switch a.typ {
	case typeBit, typeBits:
		shift = int(a.bit)
	case typeInt8Hi, typeUint8Hi:
		shift = 8
	}
	part := uint64(math.MaxUint64) >> (64 - a.size())
	return uint16(a.arrange(part << shift)), uint16(a.arrange(v << shift))
}

// bits returns the bits of raw in the type, as many as the type has.
func (a address) bits(raw float64) (uint64, error) {
	v, err := a.number(raw)
	if err != nil {
		return 0, err
	}
	v &= math.MaxUint64 >> (64 - a.size()) // of negative numbers
	if a.checks != nil && a.unavailable(v) {
		return 0, fmt.Errorf("raw value %v is one that means not available", raw)
	}
	return v, nil
}

// number returns the bits of raw in the type, most significant first.
func (a address) number(raw float64) (uint64, error) {
	outside := func(lo, hi float64) error {
		return fmt.Errorf("raw value %v is outside of %s, %v to %v", raw, a.typeName(), lo, hi)
	}
	switch {
	case a.typ == typeString:
		return 0, fmt.Errorf("text, %s, cannot be written", a.typeName())
	case math.IsNaN(raw):
		return 0, fmt.Errorf("raw value is not a number")
	case a.typ == typeFloat32:
		if f := float32(raw); !math.IsInf(float64(f), 0) {
			return uint64(math.Float32bits(f)), nil
		}
		return 0, outside(-math.MaxFloat32, math.MaxFloat32)
	case a.typ == typeFloat64:
		if !math.IsInf(raw, 0) {
			return math.Float64bits(raw), nil
		}
		return 0, outside(-math.MaxFloat64, math.MaxFloat64)
	}
	n := math.Round(raw)
	r := typeRange[a.typ]
	if a.typ == typeBits {
		r.max = math.Ldexp(1, a.size()) - 1
	}
	if n < r.min || n > r.max {
		return 0, outside(r.min, r.max)
	}
	if a.typ.truth() && math.Abs(raw-n) > 1e-6 {
		return 0, fmt.Errorf("raw value %v is neither 0 nor 1", raw)
	}
	switch a.typ {
	case typeBool, typeBit:
		return uint64(a.truth(n != 0)), nil
	case typeBCD16, typeBCD32:
		return encodeBCD(uint64(n)), nil
	}
	return uint64(int64(n)), nil
}
