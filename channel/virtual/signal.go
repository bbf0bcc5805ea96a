package virtual

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"github.com/voltageems/voltage/model"
)

// signal is one point of the driver, with what its signal remembers from round
// to round.
type signal struct {
	point model.Point
	address
	rand *rand.Rand // of a random walk

	begun bool
	value float64 // of the round before
	last  float64 // when that was

	recording *table // of the connection
	cells     []float64
}

// newSignal seeds the walk so that two points never walk alike.
func newSignal(p model.Point, a address, seed uint64, channelID string) signal {
	s := signal{point: p, address: a}
	if a.shape == randomWalk {
		h := fnv.New64a()
		h.Write([]byte(channelID + ":" + p.ID)) // never fails
		s.rand = rand.New(rand.NewPCG(seed, h.Sum64()))
	}
	return s
}

// sample returns the point at t seconds. held are the device's setpoints. It is
// called once a round, with rising t.
func (s *signal) sample(t float64, held map[string]float64) model.Sample {
	out := model.Sample{Point: s.point.ID}
	switch s.shape {
	case text:
		out.Text = s.text
		return out
	case setpoint:
		out.Value = held[s.point.ID]
	default:
		raw := s.raw(t, held)
		if math.IsNaN(raw) { // a gap in the recording
			out.Quality = model.Bad
			return out
		}
		out.Value = s.point.Value(raw)
	}
	if !model.Storable(out.Value) {
		out.Value, out.Quality = 0, model.Overflow
	}
	return out
}

// raw returns the signal before Scale and Offset; NaN in a gap.
func (s *signal) raw(t float64, held map[string]float64) float64 {
	v := s.start
	switch s.shape {
	case sine:
		v += s.size * math.Sin(2*math.Pi*(s.part(t)+s.phase))
	case ramp:
		v += (s.end - s.start) * s.part(t)
	case square:
		v = 0
		if s.part(t) < s.duty {
			v = 1
		}
	case toggle:
		if s.begun {
			v = 1 - s.value
		}
	case randomWalk:
		if s.begun {
			v = s.value + (2*s.rand.Float64()-1)*s.size
			v = min(max(v, s.low), s.high)
		}
	case follow:
		v = held[s.target]
		if s.begun && s.size > 0 {
			most := s.size * (t - s.last)
			v = s.value + min(max(v-s.value, -most), most)
		}
	case replay:
		v = s.cells[s.recording.row(t, s.loop)]
	}
	s.begun, s.value, s.last = true, v, t
	return v
}

// part returns how much of the period has passed, from 0 up to 1.
func (s *signal) part(t float64) float64 { return math.Mod(t, s.period) / s.period }
