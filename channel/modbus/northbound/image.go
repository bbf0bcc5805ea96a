package northbound

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// point is one row at run time. What render changes is guarded by image.mu.
type point struct {
	row            int // counted from 1
	unit           byte
	address        modbus.Address
	table          int
	field          Field
	scale, offset  float64
	write          bool
	model, channel string
	name           string // in the model or channel

	in   *table
	cell int // of the first register or bit
	from *source

	usable bool      // the value may be shown, and changed by a mask
	shown  bool      // data holds a good value, perhaps an old one
	failed bool      // there is nothing to show
	goodAt time.Time // when a good value was last seen here; zero for never

	recent *recent // nil for nothing
}

func (p *point) String() string {
	owner := "model " + p.model
	if p.channel != "" {
		owner = "channel " + p.channel
	}
	return fmt.Sprintf("map row %d: %s, point %s", p.row, owner, p.name)
}

// source is a model or a channel whose points are shown.
type source struct {
	model, channel string // one of them
	points         []*point

	// guarded by image.mu
	values map[string]model.Value
	read   time.Time // when the last reading of values began; zero for never
	old    bool      // its points are shown as too old

	// guarded by refresher.mu
	next    time.Time // when to read it again
	begun   time.Time // when it was last begun to be read
	failing bool      // it could not be read; of refresher.run alone
}

// image is what clients are shown. All of it is consistent under mu, so that a
// request sees one state of it and no number in two halves.
type image struct {
	layout  *layout
	sources []*source
	opts    options
	now     func() time.Time

	mu sync.RWMutex
	// until is when the first source is too old to be shown.
	until time.Time
}

func newImage(l *layout, o options, now func() time.Time) *image {
	im := &image{layout: l, opts: o, now: now}
	type key struct{ model, channel string }
	known := map[key]*source{}
	for _, p := range l.points {
		k := key{p.model, p.channel}
		s := known[k]
		if s == nil {
			s = &source{model: p.model, channel: p.channel}
			known[k] = s
			im.sources = append(im.sources, s)
		}
		p.from = s
		s.points = append(s.points, p)
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.renderAll(now())
	return im
}

// set takes what was read of a source from begun on; ok is false when it could not
// be read.
func (im *image) set(s *source, values map[string]model.Value, begun time.Time, ok bool) {
	im.mu.Lock()
	defer im.mu.Unlock()
	now := im.now()
	if ok { // the values may be as old as the question
		s.values, s.read = values, begun
	}
	im.renderSource(s, now)
	im.limit(now)
}

// fresh sees to it that nothing is shown that is too old, whatever keeps the
// sources from being read.
func (im *image) fresh() {
	now := im.now()
	im.mu.RLock()
	old := now.After(im.until)
	im.mu.RUnlock()
	if !old {
		return
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.renderAll(now)
}

func (im *image) renderAll(now time.Time) {
	for _, s := range im.sources {
		im.renderSource(s, now)
	}
	im.limit(now)
}

func (im *image) renderSource(s *source, now time.Time) {
	s.old = im.dead(s, now)
	for _, p := range s.points {
		im.render(p, now)
	}
}

// limit sets until, and sees to sources that are too old by now. While there are
// such, their ages are brought up to date every second.
func (im *image) limit(now time.Time) {
	im.until = now.Add(im.opts.stale)
	old := false
	for _, s := range im.sources {
		if im.dead(s, now) {
			old = true
			if !s.old {
				im.renderSource(s, now)
			}
		} else if end := s.read.Add(im.opts.stale); end.Before(im.until) {
			im.until = end
		}
	}
	if soon := now.Add(time.Second); old && soon.Before(im.until) {
		im.until = soon
	}
}

// dead reports whether what is known of a source is too old to be shown.
func (im *image) dead(s *source, now time.Time) bool {
	return s.read.IsZero() || now.Sub(s.read) > im.opts.stale
}

// render puts what a row shows into the table. im.mu is held.
func (im *image) render(p *point, now time.Time) {
	v, known := p.from.values[p.name]
	dead := im.dead(p.from, now)
	good := known && !dead && v.Quality.Usable()
	data := p.in.data[2*p.cell:]
	failed := false
	switch p.field {
	case FieldQuality:
		code := v.Quality
		switch {
		case dead:
			code = model.Stale
		case !known:
			code = model.Bad
		}
		failed = p.address.Encode(data, float64(code)) != nil && !p.address.EncodeMissing(data)
	case FieldAge:
		if good {
			p.goodAt = p.from.read
		}
		since := p.goodAt
		if v.Time.After(since) && !v.Time.After(now) { // a device's clock may be ahead
			since = v.Time
		}
		failed = !p.encodeAge(data, good, since, now)
	default:
		p.usable = good && p.encode(data, v) == nil
		// Not of a good value that does not fit: its quality would make an old one
		// look current.
		last := im.opts.bad == Last && !good
		switch {
		case p.usable:
			p.shown = true
			if p.recent != nil && p.recent.register == binary.BigEndian.Uint16(data) {
				p.recent = nil
			}
		case last && p.shown:
		case last && known && !v.Time.IsZero() && p.encode(data, v) == nil:
			p.shown = true // what the site held before this server began
		default:
			p.shown = false
			failed = im.opts.bad == Fail || !p.address.EncodeMissing(data)
		}
	}
	if failed != p.failed {
		p.failed = failed
		change := uint8(1)
		if !failed {
			change = math.MaxUint8 // one less
		}
		for k := range p.address.Width() {
			p.in.fails[p.cell+k] += change
		}
	}
}

// encode puts a value into the table, or leaves it alone with an error.
func (p *point) encode(data []byte, v model.Value) error {
	switch {
	case p.address.Text():
		if v.Text == "" && v.Value != 0 {
			return fmt.Errorf("the value is a number")
		}
		p.address.EncodeText(data, v.Text)
		return nil
	case v.Text != "":
		return fmt.Errorf("the value is text")
	case !p.address.Within(v.Value):
		return fmt.Errorf("the value is out of range")
	}
	return p.address.Encode(data, (v.Value-p.offset)/p.scale)
}

// encodeAge puts an age into the table. One that is too long for the type is the
// longest that fits and does not mean "not available".
func (p *point) encodeAge(data []byte, good bool, since, now time.Time) bool {
	seconds := 0.0
	switch {
	case good:
	case since.IsZero():
		return p.address.EncodeMissing(data)
	default:
		seconds = math.Floor(max(1, now.Sub(since).Seconds())) // 0 would mean good
	}
	if p.encodeUnlikeMissing(data, seconds) {
		return true
	}
	// The greatest number of the type: Encode refuses more.
	low, high := 0.0, seconds
	for high-low > 1 {
		middle := math.Floor((low + high) / 2)
		if p.encodeUnlikeMissing(data, middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return p.encodeUnlikeMissing(data, low)
}

// encodeUnlikeMissing is Encode, which here also refuses the number that has the
// form of "not available".
func (p *point) encodeUnlikeMissing(data []byte, v float64) bool {
	var value, missing [8]byte
	n := 2 * p.address.Width()
	copy(value[:n], data[:n])
	copy(missing[:n], data[:n])
	if p.address.Encode(value[:], v) != nil || p.address.EncodeMissing(missing[:]) && bytes.Equal(value[:n], missing[:n]) {
		return false
	}
	copy(data, value[:n])
	return true
}

// get gives the cells from address on to put. A request may neither begin nor end
// inside a number: its other half would come from another request.
func (im *image) get(t *table, address, n int, put func(at int, data []byte)) error {
	if t == nil {
		return server.IllegalAddress
	}
	im.fresh()
	im.mu.RLock()
	defer im.mu.RUnlock()
	i := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].end > address })
	found, failed := false, false
	for at := 0; at < n; {
		if i == len(t.runs) || address+at < t.runs[i].start { // a hole
			if !im.opts.zeros {
				return server.IllegalAddress
			}
			if i == len(t.runs) {
				break // dst is zero there
			}
			at = min(n, t.runs[i].start-address)
			continue
		}
		r := t.runs[i]
		cell := r.cell + address + at - r.start
		count := min(n-at, r.end-address-at)
		if first, last := t.owner[cell], t.owner[cell+count-1]; at == 0 && first.inside(cell) ||
			at+count == n && last.inside(cell+count-last.address.Width()) {
			return server.IllegalAddress
		}
		for _, f := range t.fails[cell : cell+count] {
			failed = failed || f > 0
		}
		put(at, t.data[2*cell:2*(cell+count)])
		found = true
		at += count
		i++
	}
	switch {
	case !found:
		return server.IllegalAddress
	case failed:
		return server.DeviceFailure
	}
	return nil
}

// inside reports whether a cell other than its first one stands where a number
// should begin. Text may be read in parts.
func (p *point) inside(cell int) bool { return cell != p.cell && !p.address.Text() }
