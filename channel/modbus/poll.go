package modbus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	gb "github.com/goburrow/modbus"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// maxSilent is how many requests in a row may stay without an answer, from the
// first of a round on, before the unit counts as dead.
const maxSilent = 2

// maxStrikes is how often in a row a unit may lose requests that went together
// and answer them alone, before they go alone.
const maxStrikes = 3

// maxBroken is how many connections in turn may end amid requests that went
// together before those of the next one go alone.
const maxBroken = 2

// poller is the state of Read.
type poller struct {
	classes []*class // in the order in which they go ahead of each other
	table   *channel.Timetable
	waits   time.Time      // when the wait under way ends
	samples []model.Sample // class by class
	out     []model.Sample // what Read returns where it is not all of a class
	wanted  []bool         // by point: it is among those to be read on demand
	stale   []bool         // by sample: it is of before a write
	stales  int            // how many are
	why     map[int]error  // by sample: why it has no value, as the device or the line had none

	dead    bool   // nobody answered at the end of the last connection
	quiet   int    // how many requests in a row were not answered
	answers uint64 // counts those that were
	probe   int    // the request, counted through all classes, that Connect asks a dead unit
	depth   int    // how many requests go together
	strikes int    // see maxStrikes
	broken  int    // see maxBroken
}

// begin prepares Read after a connect.
func (d *driver) begin(ctx context.Context) error {
	d.reset()
	total := d.requests()
	if d.line.rests() {
		d.dead = false // for as long as a connect may take nothing can be asked: Read finds out
	}
	if !d.dead || total == 0 {
		d.quiet = 0
		return nil
	}
	c, k := d.at(d.probe % total)
	d.poll.quiet, d.poll.probe = max(d.quiet, 1), true
	err := d.single(ctx, &c.plan[k])
	d.poll.probe = false
	if unanswered(err) {
		d.quiet++
		d.probe++ // it may be this request that the device does not like
		d.line.silent(&d.member)
		return fmt.Errorf("%w: the unit does not answer: %w", channel.ErrNotConnected, err)
	}
	if err != nil && exception(err) == nil {
		return err
	}
	c.start = k
	d.dead, d.quiet = false, 0
	return nil
}

// single sends the request of one span.
func (d *driver) single(ctx context.Context, s *span) error {
	d.poll.asks[0].read(s)
	if err := d.line.ask(ctx, &d.member, d.poll, 1, d.setup.Timeout); err != nil {
		return err
	}
	return d.poll.asks[0].err
}

// unanswered reports whether an error says that nothing usable came from the
// unit, though the connection stands.
func unanswered(err error) bool {
	if err == nil {
		return false
	}
	if ex := exception(err); ex != nil {
		return ex.Code == gb.ExceptionCodeGatewayPathUnavailable || ex.Code == gb.ExceptionCodeGatewayTargetDeviceFailedToRespond
	}
	return !errors.Is(err, channel.ErrNotConnected) && (errors.Is(err, ErrTimeout) || errors.Is(err, ErrAnswer))
}

// exception returns the exception that an error is, or nil.
func exception(err error) *Exception {
	if err == nil {
		return nil // the usual case, without an allocation
	}
	var ex *Exception
	errors.As(err, &ex)
	return ex
}

// step sends the next request of a class's round, or as many as may go
// together, and reports whether the round has ended. It returns an error when
// the connection is gone or the unit is dead.
func (d *driver) step(ctx context.Context, c *class) (ended bool, err error) {
	n := d.together(c)
	if n == 0 {
		return true, nil
	}
	asks := d.poll.asks[:n]
	for k := range asks {
		asks[k].read(&c.todo[c.at+k])
	}
	d.poll.quiet = max(d.quiet, c.todo[c.at].quiet)
	if err := d.line.ask(ctx, &d.member, d.poll, n, d.setup.Timeout); err != nil {
		switch {
		case !errors.Is(err, channel.ErrNotConnected):
		case n > 1:
			d.broken++
		default:
			d.broken = 0
		}
		return false, err
	}
	missing := 0
	for k := range asks {
		if unanswered(asks[k].err) {
			missing, err = missing+1, asks[k].err
		}
	}
	switch {
	case missing < n:
		d.answers++
		d.dead, d.quiet = false, 0
	case missing > 0:
		d.quiet++
	}
	if n > 1 && missing == 0 {
		d.strikes, d.broken = 0, 0
	}
	first := c.at
	c.at += n
	for k := range asks {
		d.settle(c, first+k, &asks[k], n > 1)
	}
	if missing == n && d.answers == c.answers && d.quiet >= min(maxSilent, max(d.requests(), 1))+d.opts.retries {
		d.dead = true
		if len(c.plan) > 0 {
			c.start = (c.start + c.at) % len(c.plan)
			d.probe = d.place(c) + c.start
		}
		d.line.silent(&d.member)
		return false, fmt.Errorf("%w: the unit does not answer: %w", channel.ErrNotConnected, err)
	}
	return c.at == len(c.todo), nil
}

// together returns how many of a class's next requests go together. A unit or a
// request that was not answered lately is asked alone.
func (d *driver) together(c *class) int {
	left := c.todo[c.at:]
	fits := func(s *span) bool { return !s.alone && s.quiet == 0 && d.quiet == 0 }
	n := min(1, len(left))
	for n > 0 && n < min(d.depth, len(left)) && fits(&left[0]) && fits(&left[n]) {
		n++
	}
	return n
}

// settle deals with what became of the request at a place of the round.
func (d *driver) settle(c *class, at int, a *ask, batch bool) {
	s := c.todo[at]
	ex := exception(a.err)
	quiet := 0
	switch {
	case a.err == nil:
		d.take(&s, a.data)
		if s.lost {
			d.strike()
		}
	case unanswered(a.err):
		d.log(c, &s, "request failed", a.err)
		if again := s.tries < d.opts.retries && ex == nil; again || batch {
			if again && !batch {
				s.tries++
			}
			s.alone, s.lost = true, batch
			c.todo = append(c.todo, s)
			return
		}
		quiet = s.quiet + 1
		d.mark(&s, model.Bad, a.err)
		c.missed(&s)
	case ex != nil && ex.Code == gb.ExceptionCodeIllegalDataAddress:
		c.changed = true
		c.heard(at)
		if halves := s.split(); halves != nil {
			for _, half := range halves {
				half.origin = -1
				c.todo = append(c.todo, half)
			}
		} else {
			d.mark(&s, model.Invalid, a.err)
			c.refused += len(s.items)
			if c.Name == channel.ScanOnce {
				c.none = append(c.none, s.items...)
			}
		}
		return
	default:
		d.log(c, &s, "request refused", a.err)
		d.mark(&s, model.Bad, a.err)
		c.missed(&s)
	}
	s.quiet = quiet
	if s.origin >= 0 && s.origin < len(c.plan) {
		c.plan[s.origin].quiet = quiet
	}
	if quiet == 0 {
		c.heard(at)
	}
	c.good = append(c.good, s)
}

func (d *driver) log(c *class, s *span, what string, err error) {
	d.setup.Log.Debug("modbus: "+what, "unit", d.opts.unit, "class", c.Title(),
		"space", spaceNames[s.space], "from", s.start, "count", s.count, "error", err)
}

// strike notes that a request which was lost among others was answered alone.
func (d *driver) strike() {
	if d.strikes++; d.strikes == maxStrikes && d.depth > 1 {
		d.depth = 1
		d.setup.Log.Warn("modbus: the unit loses requests that are sent together and answers them alone; they are sent alone until the next connect",
			"unit", d.opts.unit, "pipeline", d.opts.pipeline)
	}
}

// take makes samples of a span's data.
func (d *driver) take(s *span, data []byte) {
	for k := range s.items {
		i := &s.items[k]
		sample := &d.samples[i.sample]
		d.fresh(i.sample)
		if len(d.why) > 0 {
			delete(d.why, i.sample)
		}
		if i.typ == typeString {
			sample.Text, sample.Quality = i.decodeText(data[(int(i.start)-s.start)*2:], sample.Text)
			continue
		}
		sample.Value, sample.Quality = i.value(data, s.start)
		if i.trend != nil && sample.Quality == model.Good && !i.trend.believe(sample.Value, d.setup.Clock.Now()) {
			sample.Value, sample.Quality = 0, model.Bad
		}
	}
}

// mark gives all points of a span a quality and no value.
func (d *driver) mark(s *span, q model.Quality, why error) {
	for k := range s.items {
		sample := &d.samples[s.items[k].sample]
		d.why[s.items[k].sample] = why
		d.fresh(s.items[k].sample)
		sample.Value, sample.Text, sample.Quality = 0, "", q
	}
}

// Explain implements channel.Explainer.
func (d *driver) Explain(point string) error {
	i, ok := d.index[point]
	if !ok {
		return nil
	}
	return d.why[d.items[i].sample]
}

// value decodes the item from data, which begins at the address start, in the
// point's unit. The value is 0 when the quality is not Good.
func (i *item) value(data []byte, start int) (float64, model.Quality) {
	at := int(i.start) - start
	var raw float64
	quality := model.Good
	if i.space.bits() {
		raw = i.truth(data[at/8]>>(at%8)&1 != 0)
	} else {
		raw, quality = i.decode(data[at*2:])
	}
	if quality != model.Good {
		return 0, quality
	}
	v := raw*i.factor + i.offset
	switch {
	case model.Storable(v) && (i.checks == nil || i.checks.within(v)):
		return v, model.Good
	case math.IsNaN(v):
		return 0, model.Invalid
	}
	return 0, model.Overflow
}
