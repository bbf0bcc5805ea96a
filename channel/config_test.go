package channel

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/voltageems/voltage/model"
)

func TestScanClasses(t *testing.T) {
	t.Parallel()
	c := Config{
		ID: "1", Scans: map[string]time.Duration{"fast": 10 * time.Millisecond, "slow": time.Minute},
		Points: []model.Point{{ID: "a", Scan: "slow"}, {ID: "b", Scan: "fast"}, {ID: "c"}, {ID: "d", Scan: ScanOnce}, {ID: "e", Scan: ScanDemand}},
		Driver: func(Setup) (Driver, error) { return nil, nil },
	}
	assert.NoError(t, c.Validate())
	c = c.WithDefaults()
	s := Setup{Scan: c.Scan, Scans: c.Scans}
	for i, want := range []time.Duration{time.Minute, 10 * time.Millisecond, time.Second, 0, 0} {
		assert.Equal(t, want, s.Period(c.Points[i]), c.Points[i].ID)
	}
	for _, bad := range []struct {
		scans map[string]time.Duration
		class string
		want  string
	}{
		{nil, "fast", `invalid: channel 1: point a: scan "fast": want one of the channel's scan classes, once, demand, or nothing`},
		{map[string]time.Duration{"once": 1}, "", "invalid: channel 1: scans once: every channel has this scan class, and it has no time"},
		{map[string]time.Duration{"x": 1}, "", "invalid: channel 1: scans x 1ns: want at least 1ms"},
		{map[string]time.Duration{"": time.Second}, "", `invalid: channel 1: scans "": use 1 to 64 of A-Z a-z 0-9 _ . -`},
	} {
		err := Config{ID: "1", Scans: bad.scans, Points: []model.Point{{ID: "a", Scan: bad.class}}}.Validate()
		assert.ErrorIs(t, err, model.ErrInvalid)
		assert.EqualError(t, err, bad.want)
	}
}

// Silence is judged by the fastest class that points have, not by one that
// nobody uses.
func TestStaleFollowsTheFastestClass(t *testing.T) {
	t.Parallel()
	stale := func(scan time.Duration, classes ...string) time.Duration {
		c := Config{Scan: scan, Scans: map[string]time.Duration{"fast": time.Second, "slow": time.Minute}, Driver: func(Setup) (Driver, error) { return nil, nil }}
		for _, class := range classes {
			c.Points = append(c.Points, model.Point{Scan: class})
		}
		return c.WithDefaults().Stale
	}
	assert.Equal(t, 30*time.Second, stale(10*time.Second))
	assert.Equal(t, 30*time.Second, stale(10*time.Second, "", "slow"))
	assert.Equal(t, 3*time.Second, stale(10*time.Second, "", "fast"))
	assert.Equal(t, 3*time.Minute, stale(10*time.Second, "slow", ScanOnce))
	assert.Equal(t, 100*time.Millisecond, stale(time.Millisecond))
	assert.Negative(t, stale(time.Second, ScanOnce, ScanDemand))
}
