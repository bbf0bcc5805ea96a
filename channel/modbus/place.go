package modbus

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strings"

	"github.com/voltageems/voltage/model"
)

// Address is where a value lies in the tables of a Modbus unit and how it is laid
// out there, in the notation of the package documentation. It is for programs
// that speak Modbus themselves, such as servers; drivers are given the text. The
// zero value is coil 0.
type Address struct{ a address }

// ParseAddress reads an address. The error wraps model.ErrInvalid and says which
// part is wrong and what it may be.
func ParseAddress(s string) (Address, error) {
	a, err := parseAddress(s)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %w", model.ErrInvalid, err)
	}
	return Address{a}, nil
}

// String returns the address in the form that ParseAddress reads, complete.
func (a Address) String() string { return a.a.String() }

// Table returns "coil", "discrete", "input" or "holding".
func (a Address) Table() string { return spaceNames[a.a.space] }

// Bits reports whether the table's entries are single bits, not registers.
func (a Address) Bits() bool { return a.a.space.bits() }

// Start returns the number of the first entry, as it travels on the wire.
func (a Address) Start() uint16 { return a.a.start }

// Width returns how many entries of the table the value covers: 1 of bits, 1 to
// 125 registers.
func (a Address) Width() int { return a.a.width() }

// Mask returns which bits of its register a value covers that is only a part of
// one, such as bit3 or uint8hi; 0xFFFF for all other types.
func (a Address) Mask() uint16 {
	if !a.a.typ.partial() {
		return 0xFFFF
	}
	mask, _ := a.a.inRegister(0)
	return mask
}

// Text reports whether the value is text.
func (a Address) Text() bool { return a.a.typ == typeString }

// Truth reports whether the value is 0 or 1.
func (a Address) Truth() bool { return a.a.typ.truth() }

// Single reports whether the value is a float32.
func (a Address) Single() bool { return a.a.typ == typeFloat32 }

// Rate reports whether the address limits how fast the value may change.
func (a Address) Rate() bool { return a.a.checks != nil && a.a.checks.rate > 0 }

// Within reports whether v, in the point's unit, is in the range that the
// address gives; true where it gives none.
func (a Address) Within(v float64) bool { return a.a.checks == nil || a.a.checks.within(v) }

// Decode makes a number of b, which holds at least Width registers, or for a bit
// one register that is 0 or 1, each with its upper byte first. The number means
// something only when the quality is Good.
func (a Address) Decode(b []byte) (float64, model.Quality) { return a.a.decode(b) }

// Encode puts a number into b, which is laid out as for Decode, rounded to the
// nearest that the type can express. The rest of a register of which the value
// is a part stays. It refuses, and leaves b alone, when the number is out of the
// type's range or one that the address calls not available.
func (a Address) Encode(b []byte, raw float64) error {
	if !a.a.typ.partial() {
		var room [8]byte
		v, err := a.a.encode(room[:0], raw)
		if err == nil {
			copy(b, v)
		}
		return err
	}
	mask, value, err := a.a.encodePart(raw)
	if err == nil {
		putPart(b, mask, value)
	}
	return err
}

// EncodeText puts text into b, which holds at least Width registers, cut to what
// fits at the end of a character, and fills the rest with zeros.
func (a Address) EncodeText(b []byte, text string) {
	b = b[:2*a.a.width()]
	text = strings.ToValidUTF8(text, "?")
	for len(text) > len(b) {
		cut := len(b)
		for cut > 0 && text[cut]&0xC0 == 0x80 { // inside a character
			cut--
		}
		text = text[:cut]
	}
	clear(b[copy(b, text):])
	if a.a.byteSwap {
		for i := 0; i < len(b); i += 2 {
			b[i], b[i+1] = b[i+1], b[i]
		}
	}
}

// EncodeMissing puts "not available" into b, laid out as for Decode: the first
// na= of the address, else what the SunSpec Information Model (version 1.2,
// "Unimplemented registers") has for the type: 0x8000… of signed numbers, all
// ones of unsigned and BCD numbers, NaN of floats, zeros for text. It reports
// whether there is such a pattern; bool, bits and single bytes have none of
// their own.
func (a Address) EncodeMissing(b []byte) bool {
	v := uint64(0)
	switch {
	case a.a.checks != nil && len(a.a.checks.na) > 0:
		v = a.a.checks.na[0]
	case a.a.typ == typeString:
		clear(b[:2*a.a.width()])
		return true
	case a.a.typ.truth(), a.a.typ.partial():
		return false
	case a.a.typ == typeFloat32:
		v = 0x7FC00000
	case a.a.typ == typeFloat64:
		v = 0x7FF8000000000000
	case a.a.signed():
		v = 1 << (a.a.size() - 1)
	default:
		v = math.MaxUint64 >> (64 - a.a.size())
	}
	if a.a.typ.partial() {
		mask, value := a.a.inRegister(v)
		putPart(b, mask, value)
		return true
	}
	v = a.a.arrange(v)
	switch a.a.width() {
	case 1:
		binary.BigEndian.PutUint16(b, uint16(v))
	case 2:
		binary.BigEndian.PutUint32(b, uint32(v))
	default:
		binary.BigEndian.PutUint64(b, v)
	}
	return true
}

// putPart puts the bits of a part into the register in b.
func putPart(b []byte, mask, value uint16) {
	binary.BigEndian.PutUint16(b, binary.BigEndian.Uint16(b)&^mask|value)
}

// OpenSerial opens a serial line for this process alone, for a server that
// answers on it. Of the options Baud, Parity and StopBits count. Serial lines
// need Linux; see CheckSerial for what it refuses.
func OpenSerial(_ context.Context, device string, opts ...Option) (net.Conn, error) {
	s, err := serialSettings(device, opts)
	if err != nil {
		return nil, err
	}
	return openSerial(device, s)
}

// CheckSerial returns nil when device is a path and the options are those of a
// serial line, else an error that wraps model.ErrInvalid. It does no I/O.
func CheckSerial(device string, opts ...Option) error {
	_, err := serialSettings(device, opts)
	return err
}

func serialSettings(device string, opts []Option) (serialOptions, error) {
	o := options{line: lineOptions{serial: defaultSerial}}
	for _, opt := range opts {
		opt(&o)
	}
	var err error
	if !filepath.IsAbs(device) {
		err = fmt.Errorf("%w: device %.100q: want a path such as /dev/ttyUSB0", model.ErrInvalid, device)
	}
	o.line.serial.check(func(name string, value any, want string) {
		err = fmt.Errorf("%w: %s %v: want %s", model.ErrInvalid, name, value, want)
	})
	return o.line.serial, err
}
