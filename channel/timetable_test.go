package channel_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestClasses(t *testing.T) {
	t.Parallel()
	s := channel.Setup{
		Scan:  time.Second,
		Scans: map[string]time.Duration{"slow": time.Minute, "fast": 100 * time.Millisecond, "unused": time.Hour},
		Points: []model.Point{
			{ID: "a", Scan: "slow"}, {ID: "b"}, {ID: "c", Scan: channel.ScanOnce}, {ID: "d", Scan: "fast"}, {ID: "e"},
		},
	}
	assert.Equal(t, []channel.Class{
		{Name: channel.ScanDemand},
		{Name: "fast", Period: 100 * time.Millisecond, Points: []int{3}},
		{Period: time.Second, Points: []int{1, 4}},
		{Name: "slow", Period: time.Minute, Points: []int{0}},
		{Name: channel.ScanOnce, Points: []int{2}},
	}, s.Classes())
	assert.Equal(t, "default", channel.Class{}.Title())
	assert.Equal(t, "slow", channel.Class{Name: "slow"}.Title())
	assert.Equal(t, []channel.Class{{Name: channel.ScanDemand}}, channel.Setup{Scan: time.Second}.Classes())
}

// table is a timetable of classes named by their periods in seconds; 0 is one
// without a period.
func table(device string, seconds ...int) *channel.Timetable {
	var classes []channel.Class
	for _, s := range seconds {
		classes = append(classes, channel.Class{Name: fmt.Sprint(s), Period: time.Duration(s) * time.Second})
	}
	return channel.NewTimetable(device, classes)
}

// round serves the class that is picked with a round of one request; -1 for none.
func round(tt *channel.Timetable, now time.Time) int {
	c, ok := tt.Pick(now)
	if !ok {
		return -1
	}
	tt.End(c)
	return c
}

func TestTimetableKeepsToTheGrid(t *testing.T) {
	t.Parallel()
	tt := table("1", 10)
	tt.Start(noon)
	assert.Equal(t, 0, round(tt, noon), "at once")
	assert.Equal(t, -1, round(tt, noon))
	shift, ok := tt.Wait(noon)
	require.True(t, ok)
	require.Positive(t, shift)
	require.LessOrEqual(t, shift, 10*time.Second)
	grid := noon.Add(shift)
	at := func(seconds float64) time.Time { return grid.Add(time.Duration(seconds * float64(time.Second))) }
	for _, c := range []struct {
		at   float64
		want int
		next float64 // when the next round is due
	}{
		{-0.001, -1, 0},
		{0, 0, 10},     // on the grid
		{9.9, -1, 10},  // not yet
		{13, 0, 20},    // late, and the grid stays
		{20, 0, 30},    // as before
		{62, 0, 70},    // a stall: 40, 50 and 60 are left out
		{69.9, -1, 70}, // no burst
	} {
		assert.Equal(t, c.want, round(tt, at(c.at)), "at %v", c.at)
		wait, ok := tt.Wait(at(c.at))
		require.True(t, ok)
		assert.Equal(t, at(c.next), at(c.at).Add(wait), "after %v", c.at)
	}
	tt.Start(at(100))
	assert.Equal(t, 0, round(tt, at(100)), "at once after the next connect")
}

func TestTimetableOfAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	tt := table("1", 10)
	tt.Start(noon)
	round(tt, noon)
	back := noon.Add(-time.Hour)
	wait, ok := tt.Wait(back)
	require.True(t, ok)
	assert.Equal(t, 10*time.Second, wait, "not an hour")
	assert.Equal(t, 0, round(tt, back.Add(wait)))
}

func TestTimetableOrder(t *testing.T) {
	t.Parallel()
	tt := table("1", 0, 1, 60)
	tt.Start(noon)
	pick := func(at time.Time, want int) {
		t.Helper()
		got, ok := tt.Pick(at)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	pick(noon, 1)
	tt.End(1)
	for range 3 {
		pick(noon, 2) // requests of one round
	}
	assert.True(t, tt.Begun(2))
	later := noon.Add(time.Second)
	pick(later, 1) // due: ahead of the rest
	pick(later, 1) // until its round has ended
	tt.Ask(0, later)
	pick(later, 0) // and what was asked for goes ahead of both
	tt.End(0)
	pick(later, 2) // then one of who waits longest
	pick(later, 1)
	tt.End(1)
	pick(later, 2)
	tt.End(2)
	assert.False(t, tt.Begun(2))
	assert.Equal(t, -1, round(tt, later))
}

// Where every class is due all the time, each gets on.
func TestTimetableStarvesNobody(t *testing.T) {
	t.Parallel()
	tt := table("1", 1, 2, 3)
	tt.Start(noon)
	now := noon
	served := map[int]int{}
	for range 300 {
		now = now.Add(10 * time.Second) // what one request takes
		served[round(tt, now)]++
	}
	assert.Equal(t, map[int]int{0: 100, 1: 100, 2: 100}, served)
}

func TestTimetableAsk(t *testing.T) {
	t.Parallel()
	tt := table("1", 0, 10, 0)
	tt.Start(noon, 2)
	assert.Equal(t, 1, round(tt, noon))
	assert.Equal(t, 2, round(tt, noon), "once")
	assert.Equal(t, -1, round(tt, noon))
	tt.Ask(0, noon.Add(3*time.Millisecond))
	tt.Ask(0, noon.Add(time.Millisecond))
	tt.Ask(0, noon.Add(2*time.Millisecond))
	wait, ok := tt.Wait(noon)
	require.True(t, ok)
	assert.Equal(t, time.Millisecond, wait)
	assert.Equal(t, 0, round(tt, noon.Add(wait)))

	none := table("1", 0)
	none.Start(noon)
	_, ok = none.Wait(noon)
	assert.False(t, ok)
}

// The grids of many devices and classes lie apart.
func TestTimetableSpreads(t *testing.T) {
	t.Parallel()
	var tenths [10]int
	for device := range 1000 {
		tt := table(fmt.Sprintf("10%d unit 1", device), 10)
		tt.Start(noon)
		round(tt, noon)
		wait, _ := tt.Wait(noon)
		tenths[min(int(wait/time.Second), 9)]++
	}
	for k, n := range tenths {
		assert.InDelta(t, 100, n, 50, "second %d", k)
	}
}

func TestTimetableWithoutADevice(t *testing.T) {
	t.Parallel()
	tt := table("", 10)
	tt.Start(noon)
	round(tt, noon)
	wait, _ := tt.Wait(noon)
	assert.Equal(t, 10*time.Second, wait, "the first round is on the grid")
}
