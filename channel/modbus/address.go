package modbus

import (
	"fmt"
	"strconv"
	"strings"
)

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
)

var typeNames = [...]string{
	typeBool: "bool", typeBit: "bit",
	typeInt8Hi: "int8hi", typeInt8Lo: "int8lo", typeUint8Hi: "uint8hi", typeUint8Lo: "uint8lo",
	typeInt16: "int16", typeUint16: "uint16", typeBCD16: "bcd16",
	typeInt32: "int32", typeUint32: "uint32", typeFloat32: "float32", typeBCD32: "bcd32",
	typeInt64: "int64", typeUint64: "uint64", typeFloat64: "float64",
}

// registers returns how many registers the type fills.
func (t dataType) registers() int {
	switch {
	case t >= typeInt64:
		return 4
	case t >= typeInt32:
		return 2
	}
	return 1
}

// partial reports whether the type is only a part of a register.
func (t dataType) partial() bool { return t >= typeBit && t <= typeUint8Lo }

// address is where a point lies and how it is laid out.
type address struct {
	space    space
	start    uint16
	typ      dataType
	bit      uint8 // of typeBit
	wordSwap bool  // the least significant register comes first
	byteSwap bool  // the less significant byte of each register comes first
}

// width returns how many entries of its table the address covers.
func (a address) width() int {
	if a.space.bits() {
		return 1
	}
	return a.typ.registers()
}

// String returns the address in the form that parseAddress reads, complete.
func (a address) String() string {
	s := spaceNames[a.space] + ":" + strconv.Itoa(int(a.start))
	if a.space.bits() {
		return s
	}
	s += ":" + typeNames[a.typ]
	if a.typ == typeBit {
		s += strconv.Itoa(int(a.bit))
	}
	for _, o := range orders(a.typ) {
		if o.wordSwap == a.wordSwap && o.byteSwap == a.byteSwap {
			return s + ":" + o.name
		}
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

// parseAddress reads space:number[:type[:order]]; case does not matter. The
// error says which part is wrong and what it may be.
func parseAddress(s string) (address, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 4 {
		return address{}, fmt.Errorf("address %.60q: want space:number[:type[:order]], such as holding:100:float32", s)
	}
	var a address
	bad := func(format string, args ...any) (address, error) {
		return address{}, fmt.Errorf("address %.60q: "+format, append([]any{s}, args...)...)
	}
	var ok bool
	if a.space, ok = parseSpace(parts[0]); !ok {
		return bad("space %.20q: want coil, discrete, input or holding", parts[0])
	}
	number, err := parseNumber(parts[1])
	if err != nil {
		return bad("number %.20q: %w", parts[1], err)
	}
	a.start = number

	if a.space.bits() {
		if len(parts) > 2 && !strings.EqualFold(parts[2], "bool") {
			return bad("type %.20q: a %s is bool", parts[2], spaceNames[a.space])
		}
		if len(parts) > 3 {
			return bad("order %.20q: a %s has none", parts[3], spaceNames[a.space])
		}
		return a, nil
	}

	a.typ = typeUint16
	if len(parts) > 2 {
		if a.typ, a.bit, err = parseType(parts[2]); err != nil {
			return bad("type %.20q: %w", parts[2], err)
		}
	}
	if int(a.start)+a.width() > 1<<16 {
		return bad("%d registers from %d on go beyond 65535", a.width(), a.start)
	}
	if len(parts) < 4 {
		return a, nil
	}
	var names []string
	for _, o := range orders(a.typ) {
		if strings.EqualFold(o.name, parts[3]) {
			a.wordSwap, a.byteSwap = o.wordSwap, o.byteSwap
			return a, nil
		}
		names = append(names, o.name)
	}
	return bad("order %.20q: want %s", parts[3], strings.Join(names, ", "))
}

func parseSpace(s string) (space, bool) {
	for i, name := range spaceNames {
		if strings.EqualFold(name, s) {
			return space(i), true
		}
	}
	return 0, false
}

// parseNumber reads a protocol address. Leading zeros are refused because they
// look like the notation that counts from 1, such as 00001 for the first coil.
func parseNumber(s string) (uint16, error) {
	digits, base := s, 10
	if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
		digits, base = s[2:], 16
	}
	if base == 10 && len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("want the number on the wire, counted from 0, without leading zeros")
	}
	n, err := strconv.ParseUint(digits, base, 16)
	if err != nil {
		return 0, fmt.Errorf("want 0 to 65535, decimal or 0x hexadecimal")
	}
	return uint16(n), nil
}

func parseType(s string) (dataType, uint8, error) {
	name := strings.ToLower(s)
	if digits, ok := strings.CutPrefix(name, "bit"); ok {
		n, err := strconv.ParseUint(digits, 10, 8)
		if err != nil || n > 15 || (len(digits) > 1 && digits[0] == '0') {
			return 0, 0, fmt.Errorf("want bit0 to bit15")
		}
		return typeBit, uint8(n), nil
	}
	for i, known := range typeNames {
		if name == known {
			return dataType(i), 0, nil
		}
	}
	return 0, 0, fmt.Errorf("want bool, bit0 to bit15, (u)int8hi, (u)int8lo, (u)int16, (u)int32, (u)int64, float32, float64, bcd16 or bcd32")
}
