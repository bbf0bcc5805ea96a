package virtual

import (
	"fmt"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// followTime is the longest period of a scan class that brings what was written
// soon enough by itself.
const followTime = time.Second

// follow has what was asked for since be read.
func (d *driver) follow(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.asked) == 0 {
		return
	}
	for i := range d.signals {
		if _, ok := d.asked[d.signals[i].point.ID]; ok && !slices.Contains(d.demand, i) { // what was asked before may wait yet
			d.demand = append(d.demand, i)
		}
	}
	d.asked = nil
	d.table.Ask(0, now)
}

// Demand implements channel.Demander. Without a connection it returns
// channel.ErrNotConnected.
func (d *driver) Demand(points ...string) error {
	for _, id := range points {
		if !slices.ContainsFunc(d.setup.Points, func(p model.Point) bool { return p.ID == id }) {
			return fmt.Errorf("%w: channel %s: point %.80q: there is none", model.ErrInvalid, d.setup.ID, id)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed == nil {
		return d.notConnected("closed")
	}
	d.ask(points...)
	return nil
}

// ask is called with the lock held.
func (d *driver) ask(points ...string) {
	for _, id := range points {
		if d.asked == nil {
			d.asked = map[string]struct{}{}
		}
		d.asked[id] = struct{}{}
	}
	select {
	case d.wake <- struct{}{}:
	default: // Read is going to look already
	}
}

// wrote has a point that was written be read, unless its class brings it soon.
func (d *driver) wrote(p model.Point) {
	if period := d.setup.Period(p); period > 0 && period <= followTime {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ask(p.ID)
}
