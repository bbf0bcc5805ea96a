package modbus

import (
	"fmt"
	"slices"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// Addresses that the device does not have are tried again after retryFirst,
// and each time after twice as long, up to retryMost: it may be a device that
// is still starting.
const (
	retryFirst = 10 * time.Second
	retryMost  = 10 * time.Minute
)

// onceMost is the longest time until what is read once is asked for again where
// it was not answered. It begins with the channel's Scan.
const onceMost = time.Minute

// class is a scan class of a unit and the state of its rounds.
type class struct {
	channel.Class
	place   int            // in the timetable
	items   []item         // what it reads
	samples []model.Sample // of its points; a part of the driver's
	plan    []span
	start   int // the request with which a round begins: one that was answered

	// the round under way, whose requests Read may send one at a time
	begun   bool
	whole   bool // it reads all points of the class
	time    time.Time
	todo    []span // all requests so far, those of the beginning first
	planned int    // how many of them are there from the beginning
	at      int    // the next one
	first   int    // the first one that was answered, or -1
	good    []span // those that go into the next plan
	again   []span // those that brought nothing
	none    []item // of what is read once: those whose addresses the device does not have
	refused int    // how many points have addresses that the device does not have
	changed bool   // requests were split
	answers uint64 // of the driver when the round began

	illegal   int           // as refused, of the last round
	reported  int           // how many of them the log has
	retryAt   time.Time     // when they are tried again
	retryWait time.Duration // how long after the last time
	onceWait  time.Duration // until what was not answered is asked for again
	absent    []item        // as none, of all rounds since the connect; they wait for retryAt
}

// heard notes that a request of the round was answered.
func (c *class) heard(at int) {
	if c.first < 0 {
		c.first = at
	}
}

// missed notes that a request of the round brought nothing.
func (c *class) missed(s *span) {
	again := *s
	again.trial = trial{origin: -1}
	c.again = append(c.again, again)
}

// sort makes the classes of the points and the places of their samples.
func (d *driver) sort() {
	d.samples = make([]model.Sample, 0, len(d.items))
	classes := d.setup.Classes()
	for k, found := range classes {
		c := &class{Class: found, place: k}
		first := len(d.samples)
		for _, i := range found.Points {
			d.items[i].sample = len(d.samples)
			d.samples = append(d.samples, model.Sample{Point: d.setup.Points[i].ID})
			c.items = append(c.items, d.items[i])
		}
		c.samples = d.samples[first:len(d.samples):len(d.samples)]
		d.classes = append(d.classes, c)
	}
	d.wanted, d.stale, d.why = make([]bool, len(d.items)), make([]bool, len(d.items)), map[int]error{}
	d.table = channel.NewTimetable(fmt.Sprintf("%s unit %d", d.setup.ID, d.opts.unit), classes)
}

// reset forgets what an earlier connection left, and plans for all points,
// whatever was learned about them.
func (d *driver) reset() {
	d.mu.Lock()
	d.asked = nil
	for i := range d.items { // what was written is read in any case
		if d.stale[d.items[i].sample] && !slices.Contains(d.written, i) {
			d.written = append(d.written, i)
		}
	}
	d.mu.Unlock()
	clear(d.wanted)
	clear(d.stale)
	clear(d.why)
	d.stales, d.strikes, d.depth = 0, 0, len(d.poll.asks)
	if d.broken >= maxBroken && d.depth > 1 {
		d.depth = 1
		d.setup.Log.Warn("modbus: the connection ends again and again while requests that were sent together are under way; they are sent alone until the next connect",
			"channel", d.setup.ID, "unit", d.opts.unit, "pipeline", d.opts.pipeline)
	}
	var once []int
	for k, c := range d.classes {
		c.begun, c.again, c.absent, c.todo, c.at = false, nil, nil, c.todo[:0], 0
		c.retryWait, c.onceWait = 0, 0
		if c.Name == channel.ScanDemand {
			continue
		}
		d.replan(c)
		if c.Period == 0 {
			once = append(once, k)
		}
	}
	if d.member.mute {
		// Nothing is due, ever: all units at once do not answer.
		d.table = channel.NewTimetable("", []channel.Class{{}})
		return
	}
	d.table.Start(d.setup.Clock.Now(), once...)
}

func (d *driver) replan(c *class) {
	c.plan = makePlan(c.items, d.opts.limits)
	c.illegal = 0
	if len(c.plan) > 0 {
		c.start %= len(c.plan)
	}
}

// requests returns how many requests a round of every class has.
func (d *driver) requests() int {
	n := 0
	for _, c := range d.classes {
		n += len(c.plan)
	}
	return n
}

// place returns the number of the first request of a class among those of all.
func (d *driver) place(c *class) int {
	n := 0
	for _, other := range d.classes[:c.place] {
		n += len(other.plan)
	}
	return n
}

// at returns the class and the place in its plan of a request among those of
// all.
func (d *driver) at(n int) (*class, int) {
	for _, c := range d.classes {
		if n < len(c.plan) {
			return c, n
		}
		n -= len(c.plan)
	}
	return nil, 0 // not with fewer than requests
}

// prepare begins a round.
func (d *driver) prepare(c *class, now time.Time) {
	if c.illegal > 0 && c.Period > 0 && !now.Before(c.retryAt) {
		d.replan(c)
	}
	c.todo = c.todo[:0]
	c.whole = c.Name != channel.ScanDemand && len(c.again) == 0 && len(c.absent) == 0 || c.Period > 0
	switch {
	case c.Name == channel.ScanDemand:
		c.todo = append(c.todo, makePlan(d.demanded(), d.opts.limits)...)
	case !c.whole:
		c.todo = append(c.todo, c.again...)
		if len(c.absent) > 0 && !now.Before(c.retryAt) {
			c.todo, c.absent = append(c.todo, makePlan(c.absent, d.opts.limits)...), nil
		}
	case len(c.plan) > 0:
		c.start %= len(c.plan)
		c.todo = append(append(c.todo, c.plan[c.start:]...), c.plan[:c.start]...)
	}
	for k := range c.todo {
		c.todo[k].trial = trial{origin: -1}
		if c.whole {
			c.todo[k].origin = (c.start + k) % len(c.plan)
		}
	}
	c.begun, c.planned = true, len(c.todo)
	d.rewind(c, now)
}

// rewind has a round begin with its first request.
func (d *driver) rewind(c *class, now time.Time) {
	c.todo = c.todo[:c.planned]
	c.time, c.at, c.first = now, 0, -1
	c.good, c.again, c.none, c.changed, c.answers = c.good[:0], c.again[:0:0], c.none[:0], false, d.answers
	c.refused = 0
	if c.whole {
		c.refused = c.illegal
	}
}

// finish ends a round and returns its samples.
func (d *driver) finish(c *class) []model.Sample {
	d.follow()
	c.begun = false
	d.table.End(c.place)
	if c.whole {
		d.learn(c)
	}
	if c.Name == channel.ScanOnce {
		d.askAgain(c)
	}
	if c.whole && d.stales == 0 {
		return c.samples
	}
	d.out = d.out[:0]
	if c.whole {
		for k := range c.items {
			d.add(c.items[k].sample)
		}
		return d.out
	}
	for k := range c.todo[:c.planned] {
		for i := range c.todo[k].items {
			d.add(c.todo[k].items[i].sample)
		}
	}
	return d.out
}

// askAgain has what is read once be asked for once more, where it was not answered
// or the device did not have it.
func (d *driver) askAgain(c *class) {
	if len(c.none) > 0 {
		c.absent = append(c.absent, c.none...)
		if !c.whole { // else learn did it
			c.retryWait = min(max(2*c.retryWait, retryFirst), retryMost)
			c.retryAt = c.time.Add(c.retryWait)
		}
	}
	switch {
	case len(c.again) > 0: // and what is absent with it, when it is time for that
		c.onceWait = min(max(2*c.onceWait, d.setup.Scan), onceMost)
		d.table.Ask(c.place, d.setup.Clock.Now().Add(c.onceWait))
	case len(c.absent) > 0:
		d.table.Ask(c.place, c.retryAt)
	}
}

// add has Read return a sample, unless it is of before a write.
func (d *driver) add(sample int) {
	if !d.stale[sample] {
		d.out = append(d.out, d.samples[sample])
	}
}

// learn makes the plan of the next round.
func (d *driver) learn(c *class) {
	switch {
	case c.changed:
		c.plan = slices.Clone(c.good)
		slices.SortFunc(c.plan, func(a, b span) int { return compareItems(a.items[0], b.items[0]) })
		c.start = 0
	case c.planned > 0:
		c.start = (c.start + max(c.first, 0)) % c.planned
	}
	illegal := c.refused
	switch {
	case illegal == 0:
		c.retryWait = 0
	case len(c.plan) == 0:
		// Where nothing is left to ask for, asking again is also what tells
		// whether the unit is there.
		c.retryWait = retryFirst
	case c.illegal == 0:
		c.retryWait = min(max(2*c.retryWait, retryFirst), retryMost)
	}
	if illegal > 0 && c.illegal == 0 {
		c.retryAt = c.time.Add(c.retryWait)
	}
	c.illegal = illegal
	if illegal == c.reported {
		return
	}
	c.reported = illegal
	planned := make([]bool, len(d.samples)) // not by quality: other points may be Invalid too
	for _, s := range c.plan {
		for _, i := range s.items {
			planned[i.sample] = true
		}
	}
	var points []string
	for _, i := range c.items {
		if len(points) == 20 {
			points = append(points, "…")
			break
		}
		if !planned[i.sample] {
			points = append(points, d.samples[i.sample].Point)
		}
	}
	d.setup.Log.Warn("modbus: the unit does not have the addresses of some points",
		"unit", d.opts.unit, "class", c.Title(), "count", illegal, "invalid", points)
}
