package modbus

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseAddress reads space:number[:type[:order]], or a reference number in
// place of space:number, and the options after it, separated by spaces. Case
// does not matter. The error says which part is wrong and what it may be.
func parseAddress(s string) (address, error) {
	bad := func(err error) (address, error) { return address{}, fmt.Errorf("address %.60q: %w", s, err) }
	words := strings.Fields(s)
	if len(words) == 0 {
		return bad(errForm)
	}
	options := words[1:]
	base := -1            // not said
	if len(options) > 0 { // it comes first because the number needs it
		switch strings.ToLower(options[0]) {
		case "base=0", "base=1":
			base, options = int(options[0][5]-'0'), options[1:]
		}
	}
	a, err := parsePlace(words[0], base)
	if err != nil {
		return bad(err)
	}
	if err := a.parseOptions(options); err != nil {
		return bad(err)
	}
	return a, nil
}

var errForm = errors.New("want space:number[:type[:order]], such as holding:100:float32, or a reference number such as 40101:float32")

// parsePlace reads an address without its options. The number counts from
// base; a negative one means that the address names none.
func parsePlace(s string, base int) (address, error) {
	parts := strings.Split(s, ":")
	var a address
	var err error
	if isReference(parts[0]) {
		if base >= 0 {
			return a, fmt.Errorf("base=%d: the reference number %.20s counts from 1 in any case", base, parts[0])
		}
		if a.space, a.start, err = parseReference(parts[0]); err != nil {
			return a, fmt.Errorf("reference number %.20q: %w", parts[0], err)
		}
		parts = parts[1:]
	} else {
		if len(parts) < 2 {
			return a, errForm
		}
		var ok bool
		if a.space, ok = parseSpace(parts[0]); !ok {
			return a, fmt.Errorf("space %.20q: want coil, discrete, input or holding", parts[0])
		}
		if a.start, err = parseNumber(parts[1], max(base, 0)); err != nil {
			return a, fmt.Errorf("number %.20q: %w", parts[1], err)
		}
		parts = parts[2:]
	}
	if len(parts) > 2 {
		return a, errForm
	}

	if a.space.bits() {
		if len(parts) > 0 && !strings.EqualFold(parts[0], "bool") {
			return a, fmt.Errorf("type %.20q: a %s is bool", parts[0], spaceNames[a.space])
		}
		if len(parts) > 1 {
			return a, fmt.Errorf("order %.20q: a %s has none", parts[1], spaceNames[a.space])
		}
		return a, nil
	}

	a.typ = typeUint16
	if len(parts) > 0 {
		if err = a.parseType(parts[0]); err != nil {
			return a, fmt.Errorf("type %.20q: %w", parts[0], err)
		}
	}
	if int(a.start)+a.width() > 1<<16 {
		return a, fmt.Errorf("%d registers from %d on go beyond 65535", a.width(), a.start)
	}
	if len(parts) < 2 {
		return a, nil
	}
	var names []string
	for _, o := range orders(a.typ) {
		if strings.EqualFold(o.name, parts[1]) {
			a.wordSwap, a.byteSwap = o.wordSwap, o.byteSwap
			return a, nil
		}
		names = append(names, o.name)
	}
	return a, fmt.Errorf("order %.20q: want %s", parts[1], strings.Join(names, ", "))
}

func parseSpace(s string) (space, bool) {
	for i, name := range spaceNames {
		if strings.EqualFold(name, s) {
			return space(i), true
		}
	}
	return 0, false
}

// isReference reports whether s, which stands where a space could, is a number.
func isReference(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// parseReference reads a reference number of five or six digits: the first
// names the table, the others count from 1.
func parseReference(s string) (space, uint16, error) {
	if len(s) != 5 && len(s) != 6 {
		return 0, 0, errors.New("want five or six digits, such as 40001 or 400001, or space:number")
	}
	tables := map[byte]space{'0': coil, '1': discrete, '3': input, '4': holding}
	table, ok := tables[s[0]]
	if !ok {
		return 0, 0, errors.New("want 0 (coil), 1 (discrete), 3 (input) or 4 (holding) as the first digit")
	}
	n, err := strconv.ParseUint(s[1:], 10, 32)
	if err != nil || n < 1 || n > 1<<16 {
		return 0, 0, errors.New("want 1 to 65536 after the first digit")
	}
	return table, uint16(n - 1), nil
}

// parseNumber reads a number that counts from base and returns it as on the
// wire. Leading zeros are refused because they look like a reference number,
// such as 00001 for the first coil.
func parseNumber(s string, base int) (uint16, error) {
	digits, radix := s, 10
	if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
		digits, radix = s[2:], 16
	}
	if radix == 10 && len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("want a number without leading zeros")
	}
	n, err := strconv.ParseUint(digits, radix, 32)
	if err != nil || n < uint64(base) || n > uint64(base)+math.MaxUint16 {
		return 0, fmt.Errorf("want %d to %d, decimal or 0x hexadecimal", base, base+math.MaxUint16)
	}
	return uint16(n - uint64(base)), nil
}

// parseSmall reads a decimal number without leading zeros, from lo to hi.
func parseSmall(s string, lo, hi uint8) (uint8, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil && uint8(n) >= lo && uint8(n) <= hi && (len(s) == 1 || s[0] != '0')
}

// parseType sets the type and what belongs to it.
func (a *address) parseType(s string) error {
	name := strings.ToLower(s)
	for i, known := range typeNames {
		if t := dataType(i); name == known && t != typeBit && t != typeBits && t != typeString {
			a.typ = t
			return nil
		}
	}
	var ok bool
	if digits, found := strings.CutPrefix(name, "string"); found {
		a.typ = typeString
		if a.length, ok = parseSmall(digits, 1, maxText); !ok {
			return fmt.Errorf("want string1 to string%d, the length in registers of two bytes", maxText)
		}
		return nil
	}
	if digits, found := strings.CutPrefix(name, "bits"); found {
		a.typ = typeBits
		lo, hi, _ := strings.Cut(digits, "-")
		if a.bit, ok = parseSmall(lo, 0, 15); ok {
			a.high, ok = parseSmall(hi, 0, 15)
		}
		if !ok || a.bit >= a.high {
			return fmt.Errorf("want the lowest and the highest bit, such as bits0-3, up to bits0-15")
		}
		return nil
	}
	if digits, found := strings.CutPrefix(name, "bit"); found {
		a.typ = typeBit
		if a.bit, ok = parseSmall(digits, 0, 15); !ok {
			return fmt.Errorf("want bit0 to bit15")
		}
		return nil
	}
	return fmt.Errorf("want bool, bit0 to bit15, bits0-15 or a part of it, (u)int8hi, (u)int8lo, (u)int16, (u)int32, (u)int64, float32, float64, bcd16, bcd32 or string1 to string%d", maxText)
}
