package calc

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// slack is up to which time between two evaluations the value is known to have
// stood: a change brings an evaluation at once, and without one there is an
// evaluation every second. What is longer is a gap.
const slack = 2 * time.Second

// Tick is how often what remembers must be evaluated while nothing changes.
const Tick = time.Second

// parts is in how many parts a window is kept.
const parts = 30

// state is what a function remembers. The fields with tags are stored.
type state struct {
	unit float64       // of an integral, in s
	span time.Duration // the window, or the longest gap of an integral

	// Kind is the function.
	Kind string `json:"f"`
	// OK says that Last was usable at At, in µs since 1970.
	OK   bool    `json:"ok,omitempty"`
	At   int64   `json:"at,omitempty"`
	Last float64 `json:"last,omitempty"`
	// Sum is the integral, in value times s.
	Sum float64 `json:"sum,omitempty"`
	// Marks are the parts of a window: of an average the number of a part, the
	// time that is known of it and the integral over that; of a rate a time and
	// the value from then on.
	Marks []mark `json:"marks,omitempty"`
}

type mark struct {
	At    int64   `json:"t"`
	Known float64 `json:"k,omitempty"`
	Value float64 `json:"v"`
}

// step moves to now and returns the function's value there.
func (s *state) step(now int64, in Input) Input {
	if !in.Quality.Usable() {
		s.OK = false
		if s.Kind == "rate" {
			s.Marks = s.Marks[:0] // what happened meanwhile is not known
		}
		return in
	}
	elapsed, mean := s.known(now, in.Value)
	s.OK, s.At, s.Last = true, now, in.Value
	switch s.Kind {
	case "integral":
		s.Sum += mean * elapsed.Seconds()
		if !model.Storable(s.Sum / s.unit) { // an energy in Wh may be 3600 times as large in Ws
			s.Sum = 0
			return Input{Quality: model.Overflow}
		}
		return number(s.Sum/s.unit, in.Quality)
	case "moving_average":
		return s.average(now, elapsed, mean, in)
	default:
		return s.rate(now, in)
	}
}

// known returns the time since the last evaluation as far as something is known
// of the value in it, and its mean. A value that is not sent again because it did
// not change stood until now: a straight line from the last change would invent
// what never flowed. Over a gap nobody knows, and the straight line is fair; a
// long gap counts as nothing. A clock that went back counts as nothing too.
func (s *state) known(now int64, v float64) (elapsed time.Duration, mean float64) {
	elapsed = time.Duration(now-s.At) * time.Microsecond
	longest := s.span
	if s.Kind != "integral" {
		longest = max(slack, s.span/2)
	}
	switch {
	case !s.OK, elapsed <= 0, elapsed > max(longest, slack):
		return 0, 0
	case elapsed <= slack:
		return elapsed, s.Last
	}
	return elapsed, (s.Last + v) / 2
}

// average adds to the parts of the window and returns the mean over it: uncertain
// while less than half of it is known.
func (s *state) average(now int64, elapsed time.Duration, mean float64, in Input) Input {
	width := s.span.Microseconds() / parts
	for from := now - elapsed.Microseconds(); from < now; {
		part := from / width
		end := min((part+1)*width, now)
		seconds := float64(end-from) / 1e6
		if n := len(s.Marks); n == 0 || s.Marks[n-1].At < part {
			s.Marks = append(s.Marks, mark{At: part})
		}
		m := &s.Marks[len(s.Marks)-1]
		m.Known += seconds
		m.Value += mean * seconds
		from = end
	}
	first := now/width - parts
	s.forget(func(m mark) bool { return m.At <= first || m.At > now/width })
	var known, sum float64
	for _, m := range s.Marks {
		known += m.Known
		sum += m.Value
	}
	if known == 0 {
		return number(in.Value, worst(in.Quality, model.Uncertain))
	}
	if known < s.span.Seconds()/2 {
		in.Quality = worst(in.Quality, model.Uncertain)
	}
	return number(sum/known, in.Quality)
}

// rate returns the change over the window, in a second: bad while nothing is
// known but one value, uncertain while less than half of the window is known.
func (s *state) rate(now int64, in Input) Input {
	n := len(s.Marks)
	if n > 0 && s.Marks[n-1].At > now { // the clock went back
		s.Marks, n = s.Marks[:0], 0
	}
	if n > 0 && now-s.Marks[n-1].At > max(s.span, slack).Microseconds() {
		s.Marks, n = s.Marks[:0], 0 // after a long gap it is another story
	}
	if n == 0 || now-s.Marks[n-1].At >= s.span.Microseconds()/parts {
		s.Marks = append(s.Marks, mark{At: now, Value: in.Value})
	}
	// The last mark before the window has the value at its beginning.
	begin, old := now-s.span.Microseconds(), 0
	for i, m := range s.Marks {
		if m.At <= begin {
			old = i
		}
	}
	from := s.Marks[old]
	s.forget(func(m mark) bool { return m.At < from.At })
	elapsed := time.Duration(now-max(from.At, begin)) * time.Microsecond
	switch {
	case elapsed < s.span/parts:
		return Input{Quality: model.Bad}
	case elapsed < s.span/2:
		in.Quality = worst(in.Quality, model.Uncertain)
	}
	return number((in.Value-from.Value)/elapsed.Seconds(), in.Quality)
}

func (s *state) forget(out func(mark) bool) { s.Marks = slices.DeleteFunc(s.Marks, out) }

// load takes over what was stored, unless it cannot be true.
func (s *state) load(text string) error {
	var stored state
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return fmt.Errorf("%w: state of %s: %w", model.ErrInvalid, s.Kind, err)
	}
	if stored.Kind != s.Kind {
		return fmt.Errorf("%w: state of %s: it is that of %.40q", model.ErrInvalid, s.Kind, stored.Kind)
	}
	fit := model.Storable(stored.Sum/max(s.unit, 1)) && model.Storable(stored.Last) && len(stored.Marks) <= parts+2 && stored.At >= 0 && stored.At < math.MaxInt64/2
	for i, m := range stored.Marks {
		fit = fit && model.Storable(m.Value) && m.Known >= 0 && m.Known <= maxSpan.Seconds() && (i == 0 || m.At > stored.Marks[i-1].At)
	}
	if !fit {
		return fmt.Errorf("%w: state of %s: it cannot be true", model.ErrInvalid, s.Kind)
	}
	s.OK, s.At, s.Last, s.Sum, s.Marks = stored.OK, stored.At, stored.Last, stored.Sum, stored.Marks
	return nil
}
