package virtual

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// shape is the kind of a signal.
type shape uint8

const (
	constant shape = iota
	sine
	ramp
	randomWalk
	square
	toggle
	replay
	text
	setpoint
	follow
)

// Bounds of a PERIOD: below, a signal only looks like noise, above, a
// time.Duration would overflow.
const (
	minPeriod = time.Millisecond
	maxPeriod = 10 * 366 * 24 * time.Hour
)

// notations are the forms of an address, by their first word.
var notations = map[string]struct {
	shape    shape
	form     string
	min, max int // number of parameters
}{
	"constant":    {constant, "constant:VALUE", 1, 1},
	"sine":        {sine, "sine:MEAN:AMPLITUDE:PERIOD[:PHASE]", 3, 4},
	"ramp":        {ramp, "ramp:FROM:TO:PERIOD", 3, 3},
	"random_walk": {randomWalk, "random_walk:START:STEP[:MIN:MAX]", 2, 4},
	"square":      {square, "square:PERIOD[:DUTY]", 1, 2},
	"toggle":      {toggle, "toggle", 0, 0},
	"setpoint":    {setpoint, "setpoint:INITIAL", 1, 1},
	"follow":      {follow, "follow:POINT[:RATE]", 1, 2},
}

// address is what an address says. Which fields have a meaning depends on the
// shape.
type address struct {
	shape shape

	start     float64 // constant, mean, from, start of the walk, initial setpoint
	end       float64 // to
	size      float64 // amplitude, step, rate per second
	phase     float64 // of a sine, in periods
	duty      float64 // part of a square's period that is 1
	low, high float64 // bounds of the walk
	period    float64 // in seconds
	target    string  // the setpoint that is followed
	text      string
	file      string
	column    string
	loop      bool
}

// parse reads an address. The error says what is wrong, not where.
func parse(s string) (address, error) {
	word, rest, found := strings.Cut(s, ":")
	switch word {
	case "text": // the text may have colons
		if !found {
			return address{}, errors.New("want text:TEXT")
		}
		return address{shape: text, text: rest}, nil
	case "csv": // the file may have colons
		return parseCSV(rest)
	}
	n, ok := notations[word]
	if !ok {
		return address{}, fmt.Errorf("unknown signal %q: want one of constant, sine, ramp, random_walk, square, toggle, csv, text, setpoint, follow", word)
	}
	var args []string
	if found {
		args = strings.Split(rest, ":")
	}
	if len(args) < n.min || len(args) > n.max {
		return address{}, fmt.Errorf("want %s", n.form)
	}
	p := params{form: n.form, args: args}
	a := address{shape: n.shape}
	switch n.shape {
	case constant, setpoint:
		a.start = p.number(0)
	case sine:
		a.start, a.size, a.period = p.number(0), p.number(1), p.period(2)
		if len(args) == 4 {
			a.phase = p.number(3) / 360
		}
	case ramp:
		a.start, a.end, a.period = p.number(0), p.number(1), p.period(2)
	case square:
		a.period, a.duty = p.period(0), 0.5
		if len(args) == 2 {
			a.duty = p.number(1) / 100
			p.check(a.duty >= 0 && a.duty <= 1, "a duty from 0 to 100 percent", 1)
		}
	case randomWalk:
		a.start, a.size, a.low, a.high = p.number(0), p.number(1), -model.MaxValue, model.MaxValue
		p.check(a.size >= 0, "a step that is not negative", 1)
		if len(args) == 3 {
			return address{}, fmt.Errorf("want %s", n.form)
		}
		if len(args) == 4 {
			a.low, a.high = p.number(2), p.number(3)
			p.check(a.low <= a.high, "a maximum that is not below the minimum", 3)
			p.check(a.low <= a.start && a.start <= a.high, "a start between minimum and maximum", 0)
		}
	case follow:
		a.target = args[0]
		if len(args) == 2 {
			a.size = p.number(1)
			p.check(a.size > 0, "a rate above 0", 1)
		}
	}
	return a, p.err
}

// parseCSV reads FILE:COLUMN[:loop].
func parseCSV(rest string) (address, error) {
	a := address{shape: replay}
	at := strings.LastIndexByte(rest, ':')
	if at >= 0 && rest[at+1:] == "loop" && strings.Contains(rest[:at], ":") {
		a.loop, rest = true, rest[:at]
		at = strings.LastIndexByte(rest, ':')
	}
	if at <= 0 || at == len(rest)-1 {
		return address{}, errors.New("want csv:FILE:COLUMN[:loop]")
	}
	a.file, a.column = rest[:at], rest[at+1:]
	return a, nil
}

// params reads the parameters of an address and keeps the first error.
type params struct {
	form string
	args []string
	err  error
}

// check notes an error unless ok.
func (p *params) check(ok bool, want string, i int) {
	if !ok && p.err == nil {
		p.err = fmt.Errorf("%q: want %s in %s", p.args[i], want, p.form)
	}
}

func (p *params) number(i int) float64 {
	v, err := strconv.ParseFloat(p.args[i], 64)
	ok := err == nil && model.Storable(v)
	p.check(ok, "a number within ±1e15", i)
	if !ok {
		return 0
	}
	return v
}

// period returns seconds.
func (p *params) period(i int) float64 {
	d, err := time.ParseDuration(p.args[i])
	seconds := d.Seconds()
	if err != nil {
		seconds, err = strconv.ParseFloat(p.args[i], 64)
	}
	ok := err == nil && seconds >= minPeriod.Seconds() && seconds <= maxPeriod.Seconds()
	p.check(ok, "a period such as 90s or 90, from 1ms to ten years,", i)
	if !ok {
		return 1
	}
	return seconds
}
