package modbus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	gb "github.com/goburrow/modbus"

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

// maxSilent is how many requests of a round may stay without an answer, from
// the first on, before the unit counts as dead.
const maxSilent = 2

// poller is the state of Read.
type poller struct {
	samples []model.Sample
	next    time.Time // of the next round; zero for at once
	plan    []span
	start   int    // the request with which a round begins: one that was answered
	dead    bool   // the last round found nobody
	todo    []span // of the round under way
	good    []span // those of them that go into the next plan

	illegal   int           // how many points have addresses that the device does not have
	reported  int           // how many of them the log has
	retryAt   time.Time     // when they are tried again
	retryWait time.Duration // how long after the last time
}

// begin prepares Read after a connect.
func (d *driver) begin(ctx context.Context) error {
	d.next = time.Time{}
	d.retryWait = 0
	d.replan()
	if !d.dead || len(d.plan) == 0 {
		return nil
	}
	_, err := d.request(ctx, &d.plan[d.start%len(d.plan)])
	if unanswered(err) {
		d.start++ // it may be this request that the device does not like
		d.line.silent(&d.member)
		return fmt.Errorf("%w: the unit does not answer: %w", channel.ErrNotConnected, err)
	}
	var ex *Exception
	if errors.As(err, &ex) {
		err = nil
	}
	if err != nil {
		return err
	}
	d.dead = false
	return nil
}

// replan plans for all points, whatever was learned about them.
func (d *driver) replan() {
	d.plan = makePlan(d.items, d.opts.limits)
	d.illegal = 0
}

// unanswered reports whether an error says that nothing usable came from the
// unit, though the connection stands.
func unanswered(err error) bool {
	var ex *Exception
	if errors.As(err, &ex) {
		return ex.Code == gb.ExceptionCodeGatewayPathUnavailable || ex.Code == gb.ExceptionCodeGatewayTargetDeviceFailedToRespond
	}
	return !errors.Is(err, channel.ErrNotConnected) && (errors.Is(err, ErrTimeout) || errors.Is(err, ErrAnswer))
}

// round asks for everything once and leaves the samples in d.samples. It
// returns an error when the round was broken off.
func (d *driver) round(ctx context.Context) error {
	now := d.setup.Clock.Now()
	d.takeWritten() // what was written before is read now
	if d.illegal > 0 && !now.Before(d.retryAt) {
		d.replan()
	}
	planned := len(d.plan)
	d.start %= max(planned, 1)
	d.todo = append(append(d.todo[:0], d.plan[d.start:]...), d.plan[:d.start]...)
	d.good = d.good[:0]
	illegal := d.illegal
	answered, silent, first := 0, 0, 0
	for k := 0; k < len(d.todo); k++ {
		s := d.todo[k]
		data, err := d.request(ctx, &s)
		var ex *Exception
		switch {
		case err == nil:
			d.take(&s, data)
		case unanswered(err):
			d.mark(&s, model.Bad)
			d.good = append(d.good, s)
			d.setup.Log.Debug("modbus: request failed", "channel", d.setup.ID, "unit", d.opts.unit, "from", s.start, "count", s.count, "error", err)
			if silent++; answered == 0 && (silent == maxSilent || k == len(d.todo)-1) {
				d.start += silent
				d.dead = true
				d.line.silent(&d.member)
				return fmt.Errorf("%w: the unit does not answer: %w", channel.ErrNotConnected, err)
			}
			continue
		case errors.As(err, &ex) && ex.Code == gb.ExceptionCodeIllegalDataAddress:
			if halves := s.split(); halves != nil {
				d.todo = append(d.todo, halves...)
			} else {
				d.mark(&s, model.Invalid)
				illegal += len(s.items)
			}
			if answered++; answered == 1 {
				first = k
			}
			continue
		case errors.As(err, &ex):
			d.mark(&s, model.Bad)
			d.setup.Log.Debug("modbus: request refused", "channel", d.setup.ID, "unit", d.opts.unit, "from", s.start, "count", s.count, "error", err)
		default:
			return err
		}
		d.good = append(d.good, s)
		if answered++; answered == 1 {
			first = k
		}
	}
	d.dead = false
	if err := d.refresh(ctx); err != nil {
		return err
	}
	switch {
	case len(d.todo) > planned || illegal > d.illegal:
		d.plan = slices.Clone(d.good)
		slices.SortFunc(d.plan, func(a, b span) int { return compareItems(a.items[0], b.items[0]) })
		d.start = 0
	case planned > 0:
		d.start = (d.start + first) % planned
	}
	d.learned(illegal, now)
	return nil
}

// refresh reads the points again that were written while the round was under
// way, so that it does not bring their values of before.
func (d *driver) refresh(ctx context.Context) error {
	for _, k := range d.takeWritten() {
		s := newSpan(d.items[k : k+1])
		data, err := d.request(ctx, &s)
		var ex *Exception
		switch {
		case err == nil:
			d.take(&s, data)
		case errors.As(err, &ex) && ex.Code == gb.ExceptionCodeIllegalDataAddress:
			d.mark(&s, model.Invalid) // as in the round: it can only be written
		case errors.As(err, &ex), unanswered(err):
			d.mark(&s, model.Bad)
		default:
			return err
		}
	}
	return nil
}

// takeWritten returns the places of the points that were written since it was
// called the last time.
func (d *driver) takeWritten() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	written := d.written
	d.written = nil
	return written
}

// learned notes how many points have addresses that the device does not have,
// and when to try them again.
func (d *driver) learned(illegal int, now time.Time) {
	switch {
	case illegal == 0:
		d.retryWait = 0
	case len(d.plan) == 0:
		// Where nothing is left to ask for, asking again is also what tells
		// whether the unit is there.
		d.retryWait = retryFirst
	case d.illegal == 0:
		d.retryWait = min(max(2*d.retryWait, retryFirst), retryMost)
	}
	if illegal > 0 && d.illegal == 0 {
		d.retryAt = now.Add(d.retryWait)
	}
	d.illegal = illegal
	if illegal == d.reported {
		return
	}
	d.reported = illegal
	planned := make([]bool, len(d.samples)) // not by quality: other points may be Invalid too
	for _, s := range d.plan {
		for _, i := range s.items {
			planned[i.sample] = true
		}
	}
	var points []string
	for i := range d.samples {
		if len(points) == 20 {
			points = append(points, "…")
			break
		}
		if !planned[i] {
			points = append(points, d.samples[i].Point)
		}
	}
	d.setup.Log.Warn("modbus: the unit does not have the addresses of some points", "channel", d.setup.ID,
		"unit", d.opts.unit, "count", illegal, "invalid", points)
}

// request reads a span and returns its data, which is valid until the next
// request.
func (d *driver) request(ctx context.Context, s *span) ([]byte, error) {
	d.poll.request.FunctionCode = s.space.readFunction()
	d.poll.request.Data = appendRead(d.poll.request.Data[:0], s.start, s.count)
	if _, err := d.line.exchange(ctx, &d.member, d.poll, d.setup.Timeout); err != nil {
		return nil, err
	}
	return d.poll.answer, nil
}

// take makes samples of a span's data.
func (d *driver) take(s *span, data []byte) {
	for k := range s.items {
		i := &s.items[k]
		sample := &d.samples[i.sample]
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
func (d *driver) mark(s *span, q model.Quality) {
	for k := range s.items {
		sample := &d.samples[s.items[k].sample]
		sample.Value, sample.Text, sample.Quality = 0, "", q
	}
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
