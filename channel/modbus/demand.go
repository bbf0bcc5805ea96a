package modbus

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// followTime is the longest period of a scan class that brings what was written
// soon enough by itself. Points of slower classes are read after the write.
const followTime = time.Second

// Demand implements channel.Demander. Without a connection it returns
// channel.ErrNotConnected.
func (d *driver) Demand(points ...string) error {
	var errs []error
	places := make([]int, 0, len(points))
	for _, id := range points {
		i, ok := d.index[id]
		if !ok {
			errs = append(errs, fmt.Errorf("%w: channel %s: point %.80q: there is none", model.ErrInvalid, d.setup.ID, id))
			continue
		}
		places = append(places, i)
	}
	if d.member.mute && len(points) > 0 {
		errs = append(errs, fmt.Errorf("%w: channel %s: unit 0 is all units of the line, which can be written and not be read", model.ErrInvalid, d.setup.ID))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == nil || d.session.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", d.name, channel.ErrNotConnected)
	}
	for _, i := range places {
		if !slices.Contains(d.asked, i) {
			d.asked = append(d.asked, i)
		}
	}
	d.session.signal()
	return nil
}

// signal wakes a Read that waits.
func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is going to look already
	}
}

// wrote notes that the point at a place was written: what was read of it before
// is not its value any more.
func (d *driver) wrote(i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.written, i) {
		d.written = append(d.written, i)
	}
	if d.session != nil {
		d.session.signal()
	}
}

// follow takes over what was written and asked for. It is called before every
// request of Read and before samples are returned, so that a request that is
// sent after it brings what is there after the write.
func (d *driver) follow() {
	d.mu.Lock()
	written, asked := d.written, d.asked
	d.written, d.asked = nil, nil
	d.mu.Unlock()
	if len(written)+len(asked) == 0 || d.member.mute {
		return
	}
	want := false
	for _, i := range written {
		if sample := d.items[i].sample; !d.stale[sample] {
			d.stale[sample] = true
			d.stales++
		}
		if c := d.classOf(i); c.begun || c.Period == 0 || c.Period > followTime {
			d.wanted[i], want = true, true
		}
	}
	for _, i := range asked {
		d.wanted[i], want = true, true
	}
	if want {
		d.table.Ask(0, d.setup.Clock.Now()) // the first class is that of demands
	}
}

// classOf returns the class of the point at a place.
func (d *driver) classOf(i int) *class {
	name := d.setup.Points[i].Scan
	for _, c := range d.classes {
		if c.Name == name {
			return c
		}
	}
	return d.classes[0] // not with a channel that is valid
}

// demanded returns what is to be read on demand, and takes it as taken.
func (d *driver) demanded() []item {
	var items []item
	for i, w := range d.wanted {
		if w {
			d.wanted[i] = false
			items = append(items, d.items[i])
		}
	}
	return items
}

// fresh notes that a sample is of after all writes to its point.
func (d *driver) fresh(sample int) {
	if d.stales > 0 && d.stale[sample] {
		d.stale[sample] = false
		d.stales--
	}
}
