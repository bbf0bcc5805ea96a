package model

import "time"

// Clock is the time source that is handed to whatever waits or takes the time,
// so that tests can turn it by hand. SystemClock is the real one.
type Clock interface {
	// Now returns the current time. Differences are monotonic on SystemClock.
	Now() time.Time
	// After delivers the time once d has passed.
	After(d time.Duration) <-chan time.Time
}

// SystemClock is the machine's clock.
var SystemClock Clock = systemClock{}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
