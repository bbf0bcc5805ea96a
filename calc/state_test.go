package calc

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func TestIntegral(t *testing.T) {
	t.Parallel()
	s := newSingle(t, "integral(a, h)")
	require.Equal(t, Input{}, s.of(0, 3600))
	require.InDelta(t, 1, s.of(1, 3600).Value, 1e-9)
	// What is not sent again stood: the rise to 7200 happened just now.
	require.InDelta(t, 2, s.of(2, 7200).Value, 1e-9)
	// A gap that is bridged has the mean of both ends.
	require.InDelta(t, 2+10*1.5, s.of(12, 3600).Value, 1e-9)
	// A long silence counts as nothing.
	require.InDelta(t, 17, s.of(80, 3600).Value, 1e-9)
	require.InDelta(t, 18, s.of(81, 3600).Value, 1e-9)
	// A clock that goes back counts as nothing, too.
	require.InDelta(t, 18, s.of(50, 3600).Value, 1e-9)
	require.InDelta(t, 19, s.of(51, 3600).Value, 1e-9)
	// Neither does what is not usable, until the first value after it.
	require.Equal(t, Input{Quality: model.Stale}, s.value(52, map[string]Input{"a": {Value: 3600, Quality: model.Stale}}))
	require.InDelta(t, 19, s.of(53, 3600).Value, 1e-9)
	require.InDelta(t, 20, s.of(54, 3600).Value, 1e-9)

	s = newSingle(t, "integral(a, s, 5m)")
	s.of(0, 1)
	require.InDelta(t, 200, s.of(200, 1).Value, 1e-9)
	s = newSingle(t, "integral(a, min)")
	s.of(0, 60)
	require.InDelta(t, 1, s.of(1, 60).Value, 1e-9)
}

// The energy of a large plant in W is counted on where it is above what can be
// stored in Ws, and over a restart.
func TestIntegralIsBoundedByItsResult(t *testing.T) {
	t.Parallel()
	s := newSingle(t, "integral(a, h)")
	const w = 360e12 // 1e11 Wh a second
	s.of(0, w)
	require.Equal(t, Input{Value: 2e11}, s.of(2, w))
	require.Equal(t, Input{Value: 10e11}, s.of(10, w))
	other := newSingle(t, "integral(a, h)")
	require.NoError(t, other.Load("r", s.State("r")))
	require.Equal(t, Input{Value: 11e11}, other.of(11, w))
}

// Evaluated at every change and every second, as the engine does, an integral is
// exact for a value that stands between its changes, however short its pulses.
func TestIntegralOfSteps(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		s := newSingle(t, "integral(a, s)")
		now, tick, value, want, last := 0.0, 1.0, 0.0, 0.0, 0.0
		s.of(now, value)
		for range 500 {
			next := now + math.Round(r.ExpFloat64()*2e6)/1e6
			for ; tick < next; tick++ {
				want += value * (tick - last)
				last = tick
				require.InDelta(t, want, s.of(tick, value).Value, 1e-6)
			}
			want += value * (next - last)
			last = next
			value = float64(r.IntN(200) - 100)
			require.InDelta(t, want, s.of(next, value).Value, 1e-6)
			now = next
		}
	}
}

func TestMovingAverage(t *testing.T) {
	t.Parallel()
	s := newSingle(t, "moving_average(a, 60s)")
	require.Equal(t, Input{Value: 10, Quality: model.Uncertain}, s.of(0, 10))
	for i := 1; i <= 29; i++ {
		require.Equal(t, model.Uncertain, s.of(float64(i), 10).Quality, i)
	}
	for i := 30; i <= 60; i++ {
		v := s.of(float64(i), 10)
		require.Equal(t, model.Good, v.Quality, i)
		require.InDelta(t, 10, v.Value, 1e-9)
	}
	// 30 s at 40, within the width of one part
	for i := 61; i <= 90; i++ {
		s.of(float64(i), 40)
	}
	require.InDelta(t, 25, s.of(91, 40).Value, 1.1)
	for i := 92; i <= 160; i++ {
		s.of(float64(i), 40)
	}
	require.InDelta(t, 40, s.of(161, 40).Value, 1e-9)
	require.LessOrEqual(t, len(s.order[0].expr.states[0].Marks), parts+2)
	// After a long silence only what came after it counts.
	require.Equal(t, Input{Value: 7, Quality: model.Uncertain}, s.of(1000, 7))
}

func TestRate(t *testing.T) {
	t.Parallel()
	s := newSingle(t, "rate(a)")
	require.Equal(t, model.Bad, s.of(0, 0).Quality)
	require.Equal(t, Input{Value: 3, Quality: model.Uncertain}, s.of(1, 3))
	for i := 2; i <= 20; i++ {
		s.of(float64(i), 3*float64(i))
	}
	v := s.of(21, 63)
	require.Equal(t, model.Good, v.Quality)
	require.InDelta(t, 3, v.Value, 1e-9)
	for i := 22; i <= 35; i++ {
		v = s.of(float64(i), 63)
	}
	require.InDelta(t, 0, v.Value, 1e-9)
	require.LessOrEqual(t, len(s.order[0].expr.states[0].Marks), parts+2)
	// Nothing is told across a gap.
	s.value(36, map[string]Input{"a": {Quality: model.Offline}})
	require.Equal(t, model.Bad, s.of(37, 1000).Quality)
	require.Equal(t, model.Bad, s.of(100, 0).Quality)
	// A clock that goes back begins anew.
	require.Equal(t, model.Bad, s.of(50, 5).Quality)
}

// What is stored at any moment goes on as if there had been no restart.
func TestStateOverRestart(t *testing.T) {
	t.Parallel()
	const text = "integral(a, h) + 0 * moving_average(a, 60s) + 0 * rate(a)"
	s := newSingle(t, text)
	for i := range 100 {
		s.of(float64(i), float64(i*i))
	}
	other := newSingle(t, text)
	require.NoError(t, other.Load("r", s.State("r")))
	require.Equal(t, s.State("r"), other.State("r"))
	for i := 100; i < 200; i++ {
		require.Equal(t, s.of(float64(i), 5), other.of(float64(i), 5))
	}
	// The same state twice is not twice the energy: the time says what is counted.
	again := newSingle(t, text)
	require.NoError(t, again.Load("r", s.State("r")))
	require.Equal(t, s.of(199, 5).Value, again.of(199, 5).Value)
	require.Less(t, len(s.State("r")), 8000)

	require.ErrorIs(t, newSingle(t, "rate(a)").Load("r", s.State("r")), model.ErrInvalid)
	require.ErrorIs(t, newSingle(t, "rate(a)").Load("r", `[{"f":"integral"}]`), model.ErrInvalid)
	require.ErrorContains(t, other.Load("r", `[{"f":"integral","sum":1e300},{"f":"moving_average"},{"f":"rate"}]`), "cannot be true")
	require.InDelta(t, 0, other.of(300, 1).Value, 1e-9) // it began anew
}

func TestContinue(t *testing.T) {
	t.Parallel()
	const text = "integral(a, s) + rate(a)"
	older, newer := newSingle(t, text), newSingle(t, text)
	for i := range 20 {
		older.of(float64(i), 1)
		newer.of(float64(i), 1)
	}
	newer.of(21, 1)
	lost := newSingle(t, text)
	lost.Continue(nil)
	lost.Continue(newer.Model)
	require.Equal(t, newer.State("r"), lost.State("r"))
	lost.Continue(older.Model)
	require.Equal(t, newer.State("r"), lost.State("r"), "what is older is not taken")
	lost.of(22, 1)
	require.NotEqual(t, newer.State("r"), lost.State("r"))
	require.NotContains(t, newer.State("r"), `"t":`+at22(t), "nothing is shared")
}

func at22(t *testing.T) string {
	t.Helper()
	return strconv.FormatInt(at(22).UnixMicro(), 10)
}
