package runner

import (
	"sync/atomic"
	"time"

	"github.com/voltageems/voltage/channel"
)

// scans are the times when samples of each scan class last arrived. The queue
// notes them as it looks up the points anyway.
type scans struct {
	names []string
	class []int          // by point
	last  []atomic.Int64 // Unix nanoseconds; 0 for never
}

// newScans returns nil for a channel whose points name no scan class.
func newScans(ch channel.Config) *scans {
	s := &scans{class: make([]int, len(ch.Points))}
	named := false
	for k, c := range (channel.Setup{Points: ch.Points, Scan: ch.Scan, Scans: ch.Scans}).Classes() {
		s.names = append(s.names, c.Title())
		for _, i := range c.Points {
			s.class[i] = k
			named = named || c.Name != ""
		}
	}
	if !named {
		return nil
	}
	s.last = make([]atomic.Int64, len(s.names))
	return s
}

// arrived notes a sample of a point and returns its class. before is the class
// of the sample before it, which came at the same time.
func (s *scans) arrived(point, before int, now time.Time) int {
	c := s.class[point]
	if c != before {
		s.last[c].Store(now.UnixNano())
	}
	return c
}

// times returns the times by class, nil where there are none.
func (s *scans) times() map[string]time.Time {
	if s == nil {
		return nil
	}
	var out map[string]time.Time
	for k := range s.last {
		if at := s.last[k].Load(); at != 0 {
			if out == nil {
				out = make(map[string]time.Time, len(s.names))
			}
			out[s.names[k]] = time.Unix(0, at)
		}
	}
	return out
}
