package channeltest

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"
)

// noGoroutines fails the check when goroutines of the driver stay.
func (c *check) noGoroutines(when string) {
	c.tb.Helper()
	deadline := time.NewTimer(c.h.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		left := c.goroutines()
		if left == "" {
			return
		}
		select {
		case <-deadline.C:
			c.tb.Fatalf("the driver left goroutines %s:\n%s", when, left)
		case <-tick.C:
		}
	}
}

// goroutines returns the stacks of the check's labelled goroutines.
func (c *check) goroutines() string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		c.tb.Fatalf("goroutine profile: %v", err)
	}
	mark := fmt.Sprintf("%q:%q", label, c.id)
	var found []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, mark) {
			found = append(found, stack)
		}
	}
	return strings.Join(found, "\n\n")
}
