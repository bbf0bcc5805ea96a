package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	gb "github.com/goburrow/modbus"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// A value that was written is read back until it is there, for as long as the
// point says: devices take a moment to adopt it. The pauses in between grow from
// readBackFirst to readBackMost.
const (
	readBackFirst = 20 * time.Millisecond
	readBackMost  = 320 * time.Millisecond
)

// Write implements channel.Writer. What makes the device act is sent once.
//
// An exception is Refused, save "acknowledge" and "gateway target device
// failed to respond", after which the device may have acted and which are Sent.
// A point with ReadBack is Confirmed when the value read back matches, also
// after an answer that is missing. Otherwise the result stays what the write
// itself achieved, with an error, and ReadBack is the last value read, if any.
func (d *driver) Write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	s, err := d.current()
	if err != nil {
		return channel.Outcome{}, fmt.Errorf("%s: point %s: %w", d.name, w.Point.ID, err)
	}
	bound, release := s.bind(ctx)
	defer release()
	out, err := d.write(bound, w)
	if err == nil {
		return out, nil
	}
	switch {
	case s.ctx.Err() != nil:
		err = errClosed
	case errors.Is(err, channel.ErrNotConnected):
		select {
		case s.lost <- struct{}{}:
		default: // Read is going to hear of it already
		}
	}
	return out, fmt.Errorf("%s: point %s: %w", d.name, w.Point.ID, err)
}

func (d *driver) write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	var out channel.Outcome
	i, ok := d.index[w.Point.ID]
	if !ok {
		return out, fmt.Errorf("%w: not a point of channel %s", model.ErrInvalid, d.setup.ID)
	}
	p, it := &d.setup.Points[i], &d.items[i]
	if !p.Kind.Writable() {
		return out, fmt.Errorf("%w: %s points are not written", model.ErrInvalid, p.Kind)
	}
	change, err := d.compose(p, it, w.Value)
	if err != nil {
		return out, fmt.Errorf("%w: value %v: %w", model.ErrInvalid, w.Value, err)
	}
	var sent bool
	if change != nil {
		sent, err = d.rewrite(ctx, it, *change)
	} else {
		sent, err = d.line.exchange(ctx, &d.member, d.command, d.setup.Timeout)
	}
	out.Result = result(sent, err)
	if out.Result >= channel.Sent {
		d.wrote(i)
	}
	if !p.ReadBack || out.Result < channel.Sent || errors.Is(err, channel.ErrNotConnected) {
		return out, err
	}
	if ended := ctx.Err(); ended != nil {
		if err == nil {
			err = fmt.Errorf("read back: %w", ended)
		}
		return out, err
	}
	if err == nil && d.command.request.FunctionCode == gb.FuncCodeReadWriteMultipleRegisters {
		if v, quality := it.value(d.command.answer, int(it.start)); quality == model.Good && p.Matches(w.Value, v) {
			return channel.Outcome{Result: channel.Confirmed, ReadBack: &v}, nil
		}
	}
	value, readErr := d.readBack(ctx, w.Value, p, it)
	out.ReadBack = value
	if readErr == nil {
		out.Result = channel.Confirmed
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("%w; then %w", err, readErr)
	}
	return out, readErr
}

// change is what becomes of a register of which a part is written.
type change struct{ mask, value uint16 }

// compose makes the command lane's request for a value. A change is returned
// where the register is to be read first, and then to be written with it.
func (d *driver) compose(p *model.Point, it *item, value float64) (*change, error) {
	request := &d.command.request
	raw, data := p.Raw(value), request.Data[:0]
	var err error
	switch {
	case it.typ.partial():
		var c change
		if c.mask, c.value, err = it.encodePart(raw); err != nil {
			return nil, err
		}
		if d.opts.parts == PartsRewrite {
			return &c, nil
		}
		request.FunctionCode, request.Data = gb.FuncCodeMaskWriteRegister, appendMask(data, it.start, c.mask, c.value)
	case it.space == holding && p.ReadBack && d.opts.joined:
		request.FunctionCode = gb.FuncCodeReadWriteMultipleRegisters
		request.Data, err = appendReadWrite(data, it.address, raw)
	default:
		request.FunctionCode, request.Data, err = appendWrite(data, it.address, raw, d.opts.multiple)
	}
	return nil, err
}

// rewrite reads a register, changes a part of it and writes it back, and keeps
// the line in between. It reports whether anything of the write left.
func (d *driver) rewrite(ctx context.Context, it *item, c change) (sent bool, err error) {
	if err := d.line.acquire(ctx, d.command); err != nil {
		return false, err
	}
	defer d.line.release()
	request := &d.command.request
	request.FunctionCode = gb.FuncCodeReadHoldingRegisters
	request.Data = appendRead(request.Data[:0], int(it.start), 1)
	if _, err := d.line.exchangeHeld(ctx, &d.member, d.command, d.setup.Timeout); err != nil {
		return false, fmt.Errorf("read before the write: %w", err)
	}
	register := binary.BigEndian.Uint16(d.command.answer)
	whole := address{space: holding, start: it.start, typ: typeUint16}
	request.FunctionCode, request.Data, err = appendWrite(request.Data[:0], whole, float64(register&^c.mask|c.value), d.opts.multiple)
	if err != nil {
		return false, err
	}
	if d.line.delay > 0 {
		timer := time.NewTimer(d.line.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	return d.line.exchangeHeld(ctx, &d.member, d.command, d.setup.Timeout)
}

// result says how far a request came.
func result(sent bool, err error) channel.Result {
	var ex *Exception
	switch {
	case err == nil:
		return channel.Done
	case errors.As(err, &ex) && !ex.open():
		return channel.Refused
	case sent:
		return channel.Sent
	}
	return channel.NotSent
}

// readBack reads the point until it holds the value written. It returns the
// last value that it read, nil for none, and why it gave up.
func (d *driver) readBack(ctx context.Context, written float64, p *model.Point, it *item) (*float64, error) {
	clock := d.setup.Clock
	end := clock.Now().Add(p.ReadBackWithin())
	var last *float64
	silent := 0 // a dead unit is not to keep the line from the others
	for pause := readBackFirst; ; pause = min(2*pause, readBackMost) {
		request := &d.command.request
		request.FunctionCode = it.space.readFunction()
		request.Data = appendRead(request.Data[:0], int(it.start), it.width())
		_, err := d.line.exchange(ctx, &d.member, d.command, d.setup.Timeout)
		if err == nil {
			v, quality := it.value(d.command.answer, int(it.start))
			switch {
			case quality != model.Good:
				err = fmt.Errorf("the value is %s", quality)
			case p.Matches(written, v):
				return &v, nil
			default:
				last = &v
				err = fmt.Errorf("%v in place of %v", v, written)
			}
		}
		if unanswered(err) {
			silent++
		}
		err = fmt.Errorf("read back: %w", err)
		if errors.Is(err, channel.ErrNotConnected) || silent == maxSilent || clock.Now().Add(pause).After(end) {
			return last, err
		}
		select {
		case <-clock.After(pause):
		case <-ctx.Done():
			return last, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
