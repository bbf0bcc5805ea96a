package modbus

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// maxNA bounds how many values of one point may mean "not available".
const maxNA = 8

// checks say which values of a point are not to be believed.
type checks struct {
	na       []uint64 // the bits of the numbers that mean "not available"
	min, max float64  // of plausible values, in the point's unit; infinite where open
	rate     float64  // most change a second, in the point's unit; 0 for any
}

// slack is what the rounding of a scaled number may add to a limit.
func slack(limit float64) float64 { return 1e-9 * max(1, math.Abs(limit)) }

// within reports whether a value is in the plausible range.
func (c *checks) within(v float64) bool {
	return c.min-v <= slack(c.min) && v-c.max <= slack(c.max)
}

// unavailable reports whether the bits of a number mean that there is none.
func (a address) unavailable(v uint64) bool { return slices.Contains(a.checks.na, a.oneZero(v)) }

// oneZero makes the negative zero of floats the positive one.
func (a address) oneZero(v uint64) uint64 {
	if a.typ.float() && v == 1<<(a.size()-1) {
		return 0
	}
	return v
}

// text returns the options as parseOptions reads them, each after a space.
func (c *checks) text(a address) string {
	var b strings.Builder
	for _, v := range c.na {
		fmt.Fprintf(&b, " na=0x%0*X", (a.size()+3)/4, v)
	}
	format := func(f float64) string {
		if math.IsInf(f, 0) {
			return ""
		}
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	if lo, hi := format(c.min), format(c.max); lo != "" || hi != "" {
		b.WriteString(" range=" + lo + ".." + hi)
	}
	if c.rate > 0 {
		b.WriteString(" rate=" + format(c.rate))
	}
	return b.String()
}

// parseOptions reads what stands behind the place and the base.
func (a *address) parseOptions(options []string) error {
	c := checks{min: math.Inf(-1), max: math.Inf(1)}
	checked := false
	var seen []string
	for _, o := range options {
		name, value, _ := strings.Cut(strings.ToLower(o), "=")
		if name != "na" && slices.Contains(seen, name) {
			return fmt.Errorf("option %.20q: %s is there twice", o, name)
		}
		seen = append(seen, name)
		var err error
		switch name {
		case "invert":
			if !a.typ.truth() {
				err = fmt.Errorf("only bool and bit can be inverted, not %s", a.typeName())
			} else if name != strings.ToLower(o) {
				err = errors.New("invert has no value")
			}
			a.invert = true
		case "na", "range", "rate":
			if a.typ.truth() || a.typ == typeString {
				return fmt.Errorf("option %.20q: %s is for numbers, not for %s", o, name, a.typeName())
			}
			switch name {
			case "na":
				err = c.parseNA(*a, value)
			case "range":
				err = c.parseRange(value)
			case "rate":
				if c.rate, err = parseFinite(value); err != nil || c.rate <= 0 {
					err = errors.New("want the most that the value changes in a second, above 0, such as rate=5")
				}
			}
			checked = true
		case "base":
			err = errors.New("want base=0 or base=1, before all other options")
		default:
			err = errors.New("unknown: want base=, invert, na=, range= or rate=")
		}
		if err != nil {
			return fmt.Errorf("option %.20q: %w", o, err)
		}
	}
	// na=nan alone asks for nothing that is not so in any case.
	if checked && (len(c.na) > 0 || c.rate > 0 || !math.IsInf(c.min, 0) || !math.IsInf(c.max, 0)) {
		a.checks = &c
	}
	return nil
}

func parseFinite(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err == nil && !model.Finite(f) {
		err = errors.New("not finite")
	}
	return f, err
}

// parseNA reads a number that means "not available": as hexadecimal the bits
// of it, as decimal the number before scale and offset.
func (c *checks) parseNA(a address, s string) error {
	if len(c.na) == maxNA {
		return fmt.Errorf("more than %d of them", maxNA)
	}
	var v uint64
	var err error
	digits, hexadecimal := strings.CutPrefix(s, "0x")
	switch {
	case s == "nan" && a.typ.float():
		return nil // NaN is Invalid in any case
	case hexadecimal:
		v, err = strconv.ParseUint(digits, 16, a.size())
	case a.typ.float():
		var f float64
		if f, err = parseFinite(s); err == nil {
			v, err = a.number(f)
		}
	case a.typ == typeBCD16, a.typ == typeBCD32:
		if v, err = strconv.ParseUint(s, 10, a.size()); err == nil && float64(v) > typeRange[a.typ].max {
			err = strconv.ErrRange
		}
		v = encodeBCD(v)
	case a.signed():
		var n int64
		n, err = strconv.ParseInt(s, 10, a.size())
		v = uint64(n) & (math.MaxUint64 >> (64 - a.size()))
	default:
		v, err = strconv.ParseUint(s, 10, a.size())
	}
	v = a.oneZero(v)
	switch {
	case err != nil && a.typ.float():
		return fmt.Errorf("want a number of %s, its bits such as 0x%X, or nan", a.typeName(), uint64(0x7fc)<<(a.size()-12))
	case err != nil:
		return fmt.Errorf("want a number of %s, or its bits such as 0x%X", a.typeName(), uint64(math.MaxUint64)>>(64-a.size()))
	case slices.Contains(c.na, v):
		return errors.New("there twice")
	}
	c.na = append(c.na, v)
	return nil
}

func (a address) signed() bool {
	switch a.typ {
	case typeInt8Hi, typeInt8Lo, typeInt16, typeInt32, typeInt64:
		return true
	}
	return false
}

// parseRange reads LOW..HIGH, of which one may be left out.
func (c *checks) parseRange(s string) error {
	wrong := errors.New("want the lowest and the highest value, such as range=-50..120, range=0.. or range=..100")
	lo, hi, ok := strings.Cut(s, "..")
	if !ok || lo == "" && hi == "" {
		return wrong
	}
	for _, end := range []struct {
		text string
		to   *float64
	}{{lo, &c.min}, {hi, &c.max}} {
		if end.text == "" {
			continue
		}
		f, err := parseFinite(end.text)
		if err != nil {
			return wrong
		}
		*end.to = f
	}
	if c.min > c.max {
		return fmt.Errorf("%v is above %v", c.min, c.max)
	}
	return nil
}

// believeAfter is how many readings in turn make a jump believable when they
// agree with each other: so many that a disturbance is over, so few that a
// device that was replaced, or a counter that began anew, is not bad for long.
const believeAfter = 3

// trend judges a point's values by the rate at which they change.
type trend struct {
	rate  float64       // most change a second
	least time.Duration // the shortest time between two readings that counts: one scan

	good   reading // the last that was believed
	jump   reading // the last that was not
	jumped int     // how many in turn were not and agree with each other
}

// reading is a value and when it came; a zero time for none.
type reading struct {
	value float64
	time  time.Time
}

// near reports whether the value can have become v by now.
func (t *trend) near(r reading, v float64, now time.Time) bool {
	most := t.rate * max(now.Sub(r.time), t.least).Seconds()
	return math.Abs(v-r.value) <= most+slack(r.value)
}

// believe reports whether a value can be believed, and remembers it.
func (t *trend) believe(v float64, now time.Time) bool {
	if !t.good.time.IsZero() && !t.near(t.good, v, now) {
		if t.jumped > 0 && !t.near(t.jump, v, now) {
			t.jumped = 0
		}
		t.jump = reading{v, now}
		if t.jumped++; t.jumped < believeAfter {
			return false
		}
	}
	t.good, t.jumped = reading{v, now}, 0
	return true
}
