package modbus

import "strconv"

// space is one of the four tables of the Modbus data model.
type space uint8

const (
	coil space = iota
	discrete
	input
	holding
)

var spaceNames = [...]string{coil: "coil", discrete: "discrete", input: "input", holding: "holding"}

// bits reports whether the table's entries are single bits, not registers.
func (s space) bits() bool { return s <= discrete }

// readFunction returns the code of the function that reads the table.
func (s space) readFunction() byte {
	return [...]byte{coil: 1, discrete: 2, holding: 3, input: 4}[s]
}

// dataType says how the registers of a point make a number.
type dataType uint8

const (
	typeBool dataType = iota
	typeBit
	typeBits
	typeInt8Hi
	typeInt8Lo
	typeUint8Hi
	typeUint8Lo
	typeInt16
	typeUint16
	typeBCD16
	typeInt32
	typeUint32
	typeFloat32
	typeBCD32
	typeInt64
	typeUint64
	typeFloat64
	typeString
)

var typeNames = [...]string{
	typeBool: "bool", typeBit: "bit", typeBits: "bits",
	typeInt8Hi: "int8hi", typeInt8Lo: "int8lo", typeUint8Hi: "uint8hi", typeUint8Lo: "uint8lo",
	typeInt16: "int16", typeUint16: "uint16", typeBCD16: "bcd16",
	typeInt32: "int32", typeUint32: "uint32", typeFloat32: "float32", typeBCD32: "bcd32",
	typeInt64: "int64", typeUint64: "uint64", typeFloat64: "float64", typeString: "string",
}

// registers returns how many registers the type fills; of typeString one, the
// least, for the address says how many they are.
func (t dataType) registers() int {
	switch {
	case t == typeString:
		return 1
	case t >= typeInt64:
		return 4
	case t >= typeInt32:
		return 2
	}
	return 1
}

// partial reports whether the type is only a part of a register.
func (t dataType) partial() bool { return t >= typeBit && t <= typeUint8Lo }

// truth reports whether the type is 0 or 1.
func (t dataType) truth() bool { return t <= typeBit }

func (t dataType) float() bool { return t == typeFloat32 || t == typeFloat64 }

// maxText is the longest text in registers: what one request can read.
const maxText = 125

// address is where a point lies, how it is laid out, and which of its values
// are to be believed.
type address struct {
	space    space
	start    uint16
	typ      dataType
	bit      uint8   // of typeBit, and the lowest of typeBits
	high     uint8   // the highest bit of typeBits
	length   uint8   // of typeString, in registers
	wordSwap bool    // the least significant register comes first
	byteSwap bool    // the less significant byte of each register comes first
	invert   bool    // the device's 0 is true; of bool and bit
	checks   *checks // nil for none
}

// width returns how many entries of its table the address covers.
func (a address) width() int {
	if a.space.bits() {
		return 1
	}
	if a.typ == typeString {
		return int(a.length)
	}
	return a.typ.registers()
}

// typeName returns the type as it stands in an address.
func (a address) typeName() string {
	s := typeNames[a.typ]
	switch a.typ {
	case typeBit:
		return s + strconv.Itoa(int(a.bit))
	case typeBits:
		return s + strconv.Itoa(int(a.bit)) + "-" + strconv.Itoa(int(a.high))
	case typeString:
		return s + strconv.Itoa(int(a.length))
	}
	return s
}

// String returns the address in the form that parseAddress reads, complete.
func (a address) String() string {
	s := spaceNames[a.space] + ":" + strconv.Itoa(int(a.start))
	if !a.space.bits() {
		s += ":" + a.typeName()
		for _, o := range orders(a.typ) {
			if o.wordSwap == a.wordSwap && o.byteSwap == a.byteSwap {
				s += ":" + o.name
				break
			}
		}
	}
	if a.invert {
		s += " invert"
	}
	if a.checks != nil {
		s += a.checks.text(a)
	}
	return s
}

// order is one layout of bytes in registers.
type order struct {
	name               string
	wordSwap, byteSwap bool
}

// orders returns the layouts that a type may have, the default first.
func orders(t dataType) []order {
	if t.registers() == 1 {
		return []order{{name: "AB"}, {name: "BA", byteSwap: true}}
	}
	return []order{
		{name: "ABCD"},
		{name: "CDAB", wordSwap: true},
		{name: "BADC", byteSwap: true},
		{name: "DCBA", wordSwap: true, byteSwap: true},
	}
}
