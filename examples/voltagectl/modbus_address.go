package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/model"
)

// maxAddresses bounds how many addresses one command names.
const maxAddresses = 2000

// place is an address of the command line.
type place struct {
	text  string // as it is shown
	space string // coil, discrete, input or holding
	start int    // as on the wire
	width int    // in registers, or one bit
	str   bool   // it is text
	rest  string // type, order and options
	scale float64
}

// address is the place in the driver's notation.
func (p place) address() string { return fmt.Sprintf("%s:%d%s", p.space, p.start, p.rest) }

func (p place) bits() bool { return p.space == "coil" || p.space == "discrete" }

var (
	placeForm  = regexp.MustCompile(`^(?:(coil|discrete|input|holding):)?(0x[0-9a-fA-F]+|[0-9]+)(?:-(0x[0-9a-fA-F]+|[0-9]+))?((?::[^\s]*)?)(\s.*)?$`)
	stringForm = regexp.MustCompile(`^:string([0-9]+)(:|$)`)
	wideForm   = regexp.MustCompile(`^:(?:u?int|float|bcd)(32|64)(:|$)`)
)

// parsePlaces reads an ADDRESS, which may be a range. What it does not
// understand it leaves to the driver, which says what is wrong.
func parsePlaces(text string, base int) ([]place, error) {
	bad := func(format string, args ...any) ([]place, error) {
		return nil, usageError("address %.60q: "+format, append([]any{text}, args...)...)
	}
	m := placeForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return bad("want space:number[:type[:order]], such as holding:100:float32, a range such as holding:0-9, or a reference number such as 40101")
	}
	p := place{space: strings.ToLower(m[1]), width: 1, rest: m[4] + m[5]}
	if base != 0 && base != 1 {
		return nil, usageError("-base %d: want 0 or 1", base)
	}
	if strings.Contains(" "+m[5], " base=") {
		return bad("say -base 1 instead")
	}
	first, err := number(m[2])
	if err != nil {
		return bad("%v", err)
	}
	last := first
	if m[3] != "" {
		if last, err = number(m[3]); err != nil {
			return bad("%v", err)
		}
	}
	show := func(n int) string { return fmt.Sprintf("%s:%d", p.space, n) }
	shift := base
	if p.space == "" {
		if base != 0 {
			return bad("a reference number counts from 1 in any case: -base has no meaning for it")
		}
		digits := len(m[2])
		space, ok := map[byte]string{'0': "coil", '1': "discrete", '3': "input", '4': "holding"}[m[2][0]]
		if !ok || digits != 5 && digits != 6 || strings.HasPrefix(m[2], "0x") || m[3] != "" && (len(m[3]) != digits || m[3][0] != m[2][0]) {
			return bad("a reference number has five or six digits, of which the first is 0 (coil), 1 (discrete), 3 (input) or 4 (holding)")
		}
		p.space, shift = space, 1
		table := int(m[2][0]-'0') * pow10(digits-1)
		first, last = first-table, last-table
		show = func(n int) string { return fmt.Sprintf("%0*d", digits, n+table) }
	}
	if t := stringForm.FindStringSubmatch(m[4]); t != nil {
		p.str = true
		p.width, _ = strconv.Atoi(t[1])
	} else if t := wideForm.FindStringSubmatch(m[4]); t != nil {
		p.width, _ = strconv.Atoi(t[1])
		p.width /= 16
	}
	switch {
	case first < shift || last-shift > 65535:
		return bad("want %d to %d", shift, shift+65535)
	case last < first:
		return bad("the range runs backwards")
	case p.width < 1 || (last-first)/p.width >= maxAddresses:
		return bad("more than %d addresses", maxAddresses)
	}
	var list []place
	for n := first; n <= last; n += p.width {
		p.start, p.text = n-shift, show(n)+p.rest
		list = append(list, p)
	}
	return list, nil
}

func number(s string) (int, error) {
	if digits, ok := strings.CutPrefix(s, "0x"); ok {
		n, err := strconv.ParseUint(digits, 16, 20)
		if err != nil {
			return 0, fmt.Errorf("%.20q is too large", s)
		}
		return int(n), nil
	}
	n, err := strconv.ParseUint(s, 10, 20)
	if err != nil {
		return 0, fmt.Errorf("%.20q is too large", s)
	}
	return int(n), nil
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}

// allPlaces reads the addresses of a command line.
func (c *call) allPlaces(args []string) ([]place, error) {
	if err := c.checkScale(); err != nil {
		return nil, err
	}
	var list []place
	for _, arg := range args {
		places, err := parsePlaces(arg, c.device.base)
		if err != nil {
			return nil, err
		}
		for i := range places {
			places[i].scale = c.device.scale
		}
		if list = append(list, places...); len(list) > maxAddresses {
			return nil, usageError("more than %d addresses", maxAddresses)
		}
	}
	return list, nil
}

// points makes the points of the places: the value of place i is point "i", its
// k-th register "i.k".
func points(list []place, kind model.Kind) []model.Point {
	var points []model.Point
	for i, p := range list {
		id := strconv.Itoa(i)
		points = append(points, model.Point{ID: id, Name: p.text, Kind: kind, Address: p.address(), Text: p.str, Scale: p.factor()})
		if p.bits() {
			continue
		}
		for k := range p.width {
			points = append(points, model.Point{ID: fmt.Sprintf("%s.%d", id, k), Address: fmt.Sprintf("%s:%d", p.space, p.start+k)})
		}
	}
	return points
}

// factor is the point's Scale; bits and text have none.
func (p place) factor() float64 {
	if p.str || p.bits() || p.scale == 1 {
		return 0
	}
	return p.scale
}

func (c *call) checkScale() error {
	if s := c.device.scale; c.given("scale") && (s == 0 || !model.Finite(s)) {
		return usageError("-scale %v: want a number that is not 0", s)
	}
	return nil
}
