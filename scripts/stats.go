package scripts

import (
	"cmp"
	"slices"
	"time"
)

// ScriptStats is what the calls of one script came to, or of one version of it.
// Times are those of the whole round trip, measured in Go: with the network, the
// wait for a connection and the wait behind others on the store.
type ScriptStats struct {
	// Script is the script's name.
	Script string
	// Version is empty for all versions together.
	Version string
	// Calls counts the calls that were answered, in whatever way.
	Calls int64
	// Errors counts the calls that the script failed: an error of Redis or Lua, or
	// an answer that is none. They are among Calls.
	Errors int64
	// Lost counts the calls without an answer: the connection broke or the time
	// was over, and nobody knows whether the script ran. They are not among Calls
	// and not in the times.
	Lost int64
	// Slow counts the calls that took longer than Options.SlowScript.
	Slow int64
	// Points counts the samples that data_sync's batches stored; 0 for all others.
	Points int64
	// Refused counts the answers that say that nothing was done by their code, or
	// OTHER; only what occurred is in it. NOSCRIPT, BUSY and UNAVAILABLE (the store
	// loads its data, is full, has no master, …) are answers of the store itself.
	// They are among Calls.
	Refused map[string]int64
	// Total and Max are the time of all calls and of the longest one.
	Total, Max time.Duration
	// Last is when the last call ended; zero when there was none.
	Last time.Time
	// Histogram is cumulative: the calls that took at most so long, from 50 µs to
	// 5 s. Longer ones are in Calls alone.
	Histogram []StatsBucket
	// Versions has the same by version, the last one called first: of this process
	// the last four, of the whole site the last 16 with their Calls, Errors and
	// Last alone.
	Versions []ScriptStats
}

// StatsBucket counts the calls that took at most UpTo.
type StatsBucket struct {
	UpTo  time.Duration
	Calls int64
}

// Mean is the mean time of a call, 0 when there was none.
func (s ScriptStats) Mean() time.Duration { return s.Total / time.Duration(max(s.Calls, 1)) }

// PerPoint is the time of the calls divided by the points, 0 without points.
func (s ScriptStats) PerPoint() time.Duration {
	if s.Points == 0 {
		return 0
	}
	return s.Total / time.Duration(s.Points)
}

// Quantile returns the time that a share q (0 to 1) of the calls did not exceed,
// rounded up to the next bound of the histogram and never above Max; 0 when
// there was no call.
func (s ScriptStats) Quantile(q float64) time.Duration {
	for _, b := range s.Histogram {
		if b.Calls > 0 && float64(b.Calls) >= q*float64(s.Calls) {
			return min(b.UpTo, s.Max)
		}
	}
	return s.Max
}

// Stats returns the statistics of every script that this process called, by
// name: since the Plane was made, of the last four versions of each. It does no
// I/O.
func (p *Plane) Stats() []ScriptStats {
	now, at := p.stats.now(), p.localTime()
	var all []ScriptStats
	for _, s := range p.scripts {
		var sum counts
		total := ScriptStats{Script: s.stats.name}
		for _, v := range s.stats.list() {
			c := v.snapshot()
			sum.add(&c)
			one := c.stats(s.stats.name, v.version)
			one.Max = time.Duration(max(v.peak.Load(), v.longest.Load()))
			if last := v.last.Load(); last > 0 {
				one.Last = at.Add(time.Duration(last) - now)
			}
			total.Versions = append(total.Versions, one)
		}
		if len(total.Versions) == 0 {
			continue
		}
		longest, versions := time.Duration(0), total.Versions
		for i := range versions {
			longest = max(longest, versions[i].Max)
		}
		total = sum.stats(s.stats.name, "")
		total.Max, total.Last, total.Versions = longest, versions[0].Last, versions
		all = append(all, total)
	}
	slices.SortFunc(all, func(a, b ScriptStats) int { return cmp.Compare(a.Script, b.Script) })
	return all
}

func (c *counts) stats(script, version string) ScriptStats {
	s := ScriptStats{Script: script, Version: version, Calls: c.calls(), Errors: c[countErrors], Lost: c[countLost], Slow: c[countSlow],
		Points: c[countPoints], Total: time.Duration(c[countNanos]), Refused: map[string]int64{}, Histogram: c.histogram()}
	for i, code := range refusalCodes {
		if n := c[countRefusals+i]; n > 0 {
			s.Refused[code] = n
		}
	}
	return s
}
