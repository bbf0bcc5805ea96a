package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/model"
)

// reading is what was read from one place.
type reading struct {
	Address string   `json:"address"`
	Value   *float64 `json:"value,omitempty"`
	Text    *string  `json:"text,omitempty"`
	Raw     []string `json:"raw,omitempty"` // the registers, in hexadecimal
	Error   string   `json:"error,omitempty"`

	short bool // of 32 bits, which has no more than seven digits to show
}

// shown is the value for people.
func (r reading) shown() string {
	switch {
	case r.Text != nil:
		return strconv.Quote(*r.Text)
	case r.Value != nil:
		return decimal(*r.Value, r.short)
	}
	return "-"
}

// decimal prints a number without digits that only rounding made.
func decimal(v float64, short bool) string {
	bits := 64
	if short {
		bits = 32
	} else if rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 12, 64), 64); err == nil {
		if v != math.Trunc(v) {
			v = rounded
		}
	}
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-4 || a >= 1e16) {
		format = 'g'
	}
	return strconv.FormatFloat(v, format, -1, bits)
}

// readOnce reads all places once. A driver may give them in several parts.
func (u *unit) readOnce(ctx context.Context, list []place) ([]reading, error) {
	byID := make(map[string]model.Sample, u.points)
	for len(byID) < u.points {
		samples, err := u.Read(ctx)
		if err != nil {
			return nil, u.explain(err)
		}
		for _, s := range samples {
			byID[s.Point] = s
		}
	}
	readings := make([]reading, len(list))
	for i, p := range list {
		readings[i] = u.reading(i, p, byID)
	}
	return readings, nil
}

func (u *unit) reading(i int, p place, samples map[string]model.Sample) reading {
	r := reading{Address: p.text, short: strings.HasPrefix(p.rest, ":float32") && p.scale == 1}
	id := strconv.Itoa(i)
	s := samples[id]
	raw, from := s.Quality, id // of the registers themselves
	if !p.bits() {
		raw = model.Good
		for k := range p.width {
			from = fmt.Sprintf("%s.%d", id, k)
			register := samples[from]
			if register.Quality != model.Good {
				raw = register.Quality
				break
			}
			r.Raw = append(r.Raw, fmt.Sprintf("%04X", uint16(register.Value)))
		}
	}
	switch {
	case raw != model.Good:
		r.Raw, r.Error = nil, u.why(from)
	case s.Quality == model.Good && p.str:
		r.Text = &s.Text
	case s.Quality == model.Good:
		r.Value = &s.Value
	default:
		r.Error = fmt.Sprintf("%s: not a value of this type, or not one to believe", s.Quality)
	}
	return r
}

// failed says how many of the readings have no value.
func failed(list []reading) error {
	n := 0
	for _, r := range list {
		if r.Error != "" {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d could not be read", n, len(list))
}

// device opens the unit that the flags name, with the places as points.
func (c *call) deviceAt(ctx context.Context, list []place, kind model.Kind) (*unit, error) {
	b, err := c.bus()
	if err != nil {
		return nil, err
	}
	return c.open(ctx, b, c.device.unit, points(list, kind))
}

func runModbusRead(ctx context.Context, c *call) error {
	list, err := c.allPlaces(c.names)
	if err != nil {
		return err
	}
	u, err := c.deviceAt(ctx, list, model.Measurement)
	if err != nil {
		return err
	}
	defer func() { _ = u.Close(ctx) }()
	readings, err := u.readOnce(ctx, list)
	if err != nil {
		return err
	}
	if c.json {
		if err := c.printJSON(readings); err != nil {
			return err
		}
		return failed(readings)
	}
	rows := []string{"ADDRESS\tVALUE\tREGISTERS\tREMARK"}
	for _, r := range readings {
		rows = append(rows, r.Address+"\t"+r.shown()+"\t"+or(strings.Join(r.Raw, " "), "-")+"\t"+r.Error)
	}
	c.table(rows...)
	return failed(readings)
}
