package modbus

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func items(t testing.TB, addresses ...string) []item {
	t.Helper()
	var out []item
	for k, s := range addresses {
		out = append(out, item{address: mustParse(t, s), sample: k})
	}
	return out
}

func describe(plan []span) []string {
	out := []string{}
	for _, s := range plan {
		out = append(out, fmt.Sprintf("%s %d+%d", spaceNames[s.space], s.start, s.count))
	}
	return out
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits    limits
		addresses []string
		want      []string
	}{
		"nothing":    {limits{125, 8}, nil, []string{}},
		"one":        {limits{125, 8}, []string{"holding:100:float32"}, []string{"holding 100+2"}},
		"contiguous": {limits{125, 0}, []string{"holding:2", "holding:0:int32", "holding:3"}, []string{"holding 0+4"}},
		"gap within": {limits{125, 8}, []string{"holding:0", "holding:9"}, []string{"holding 0+10"}},
		"gap beyond": {limits{125, 8}, []string{"holding:0", "holding:10"}, []string{"holding 0+1", "holding 10+1"}},
		"no gaps":    {limits{125, 0}, []string{"holding:0", "holding:2"}, []string{"holding 0+1", "holding 2+1"}},
		"size":       {limits{4, 8}, []string{"input:0:int32", "input:2:int32", "input:4:int32"}, []string{"input 0+4", "input 4+2"}},
		"not cut":    {limits{3, 8}, []string{"input:0:int32", "input:2:int32"}, []string{"input 0+2", "input 2+2"}},
		"overlap":    {limits{125, 0}, []string{"holding:0:int64", "holding:1", "holding:1:bit3", "holding:4"}, []string{"holding 0+5"}},
		"spaces":     {limits{125, 8}, []string{"coil:1", "discrete:1", "input:1", "holding:1"}, []string{"coil 1+1", "discrete 1+1", "input 1+1", "holding 1+1"}},
		"bits":       {limits{125, 8}, []string{"coil:0", "coil:128", "coil:258"}, []string{"coil 0+129", "coil 258+1"}},
		"bits size":  {limits{1, 1}, []string{"coil:0", "coil:15", "coil:16"}, []string{"coil 0+16", "coil 16+1"}},
		"the end":    {limits{125, 8}, []string{"holding:65535", "holding:65530"}, []string{"holding 65530+6"}},
	} {
		assert.Equal(t, c.want, describe(makePlan(items(t, c.addresses...), c.limits)), name)
	}
}

// Whatever the points are, each is in exactly one request, wholly, and the
// requests keep the limits.
func TestPlanProperties(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		l := limits{maxRead: 4 + r.IntN(122), maxGap: r.IntN(20)}
		var all []item
		for k := range r.IntN(200) {
			a := address{space: space(r.IntN(4)), typ: dataType(r.IntN(int(typeFloat64) + 1))}
			if a.space.bits() {
				a.typ = typeBool
			}
			reach := []int{50, 1000, 1 << 16}[r.IntN(3)]
			a.start = uint16(1<<16 - a.width() - r.IntN(reach-a.width()))
			all = append(all, item{address: a, sample: k})
		}
		checkPlan(t, makePlan(all, l), len(all), l)
	}
}

func checkPlan(t *testing.T, plan []span, n int, l limits) {
	t.Helper()
	seen := make([]int, n)
	for _, s := range plan {
		size, gap := l.in(s.space)
		require.Positive(t, s.count)
		require.LessOrEqual(t, s.count, size)
		require.LessOrEqual(t, s.start+s.count, 1<<16)
		require.Equal(t, s.start, int(s.items[0].start))
		end := s.start
		for _, i := range s.items {
			seen[i.sample]++
			require.Equal(t, s.space, i.space)
			require.GreaterOrEqual(t, int(i.start), s.start)
			require.LessOrEqual(t, i.end(), s.start+s.count)
			require.LessOrEqual(t, int(i.start)-end, gap)
			end = max(end, i.end())
		}
		require.Equal(t, s.start+s.count, end)
	}
	for k, times := range seen {
		require.Equal(t, 1, times, "item %d", k)
	}
}

func TestSplitEndsAtSingleAddresses(t *testing.T) {
	t.Parallel()
	plan := makePlan(items(t, "holding:0", "holding:1:bit0", "holding:1:bit1", "holding:2:int32", "holding:3", "holding:6"), limits{125, 8})
	require.Len(t, plan, 1)
	var leaves []span
	for len(plan) > 0 {
		s := plan[0]
		plan = plan[1:]
		if halves := s.split(); halves != nil {
			require.Len(t, halves, 2)
			require.Equal(t, len(s.items), len(halves[0].items)+len(halves[1].items))
			plan = append(plan, halves...)
		} else {
			leaves = append(leaves, s)
		}
	}
	assert.ElementsMatch(t, []string{"holding 0+1", "holding 1+1", "holding 2+2", "holding 3+1", "holding 6+1"}, describe(leaves))
}
