package northbound

import (
	"encoding/binary"
	"time"

	"github.com/voltageems/voltage/channel/modbus/server"
)

// recent is what a client wrote to a point and the site does not show yet. Masks
// (function 22) start from it: two that follow one another would else undo each
// other.
type recent struct {
	register uint16
	known    bool      // the device took it; else nobody knows
	until    time.Time // when the site must have heard of it
}

// wrote notes what became of a write.
func (im *image) wrote(o order, answer server.Exception, now time.Time) {
	if o.point.table != holding || o.point.address.Width() != 1 || answer != 0 && answer != server.Acknowledge {
		return
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	o.point.recent = &recent{binary.BigEndian.Uint16(o.data), answer == 0, now.Add(im.opts.stale)}
}

// base returns the register that a mask changes: what was written shortly ago, or
// what is shown. It is false where that is not good, or not known.
func (im *image) base(p *point, now time.Time) (register uint16, ok bool) {
	im.fresh()
	im.mu.Lock()
	defer im.mu.Unlock()
	if p.recent != nil && now.Before(p.recent.until) {
		return p.recent.register, p.recent.known && p.usable
	}
	return binary.BigEndian.Uint16(p.in.data[2*p.cell:]), p.usable
}
