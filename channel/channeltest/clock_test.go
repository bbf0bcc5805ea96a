package channeltest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/voltageems/voltage/model"
)

var _ model.Clock = (*Clock)(nil)

// fired reports whether the channel has delivered.
func fired(c <-chan time.Time) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestClockFiresWhenTurned(t *testing.T) {
	t.Parallel()
	clock := NewClock(t)
	start := clock.Now()
	require.Equal(t, "2026-01-01T00:00:00Z", start.Format(time.RFC3339))
	require.True(t, fired(clock.After(0)))
	require.True(t, fired(clock.After(-time.Second)))

	late, early, same := clock.After(3*time.Second), clock.After(time.Second), clock.After(time.Second)
	require.Equal(t, 3, clock.Waiters())
	clock.Advance(999 * time.Millisecond)
	require.False(t, fired(early))
	clock.Advance(time.Millisecond)
	require.Equal(t, start.Add(time.Second), <-early)
	require.Equal(t, start.Add(time.Second), <-same)
	require.False(t, fired(late))
	require.Equal(t, 1, clock.Waiters())
	require.True(t, clock.dueWithin(2*time.Second))
	require.False(t, clock.dueWithin(time.Second))

	clock.Advance(-time.Hour)
	require.False(t, fired(late))
	clock.Advance(2 * time.Hour)
	require.True(t, fired(late))
	require.Zero(t, clock.Waiters())
}

func TestClockBlockUntil(t *testing.T) {
	t.Parallel()
	clock := NewClock(t)
	clock.BlockUntil(0)
	var ready sync.WaitGroup
	for i := range 10 {
		ready.Go(func() { <-clock.After(time.Duration(i+1) * time.Second) })
	}
	clock.BlockUntil(10)
	clock.Advance(10 * time.Second)
	ready.Wait()
	require.Zero(t, clock.Waiters())
}
