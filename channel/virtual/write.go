package virtual

import (
	"context"
	"fmt"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// Write sets a setpoint. With the point's ReadBack it is Confirmed. A point with
// Select has to be selected for the value.
func (d *driver) Write(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	out, err := d.request(ctx, w, func(breaks int) answer { return d.device.write(breaks, w.Point.ID, w.Value, w.Point.Select) })
	if out.Result != channel.Done {
		return out, err
	}
	d.wrote(w.Point)
	if w.Point.ReadBack {
		back := w.Value
		out = channel.Outcome{Result: channel.Confirmed, ReadBack: &back}
	}
	return out, err
}

// Select selects a setpoint for a value, until it is written or the device goes
// offline.
func (d *driver) Select(ctx context.Context, w channel.Write) (channel.Outcome, error) {
	return d.request(ctx, w, func(breaks int) answer { return d.device.choose(breaks, w.Point.ID, w.Value) })
}

func (d *driver) request(ctx context.Context, w channel.Write, ask func(breaks int) answer) (channel.Outcome, error) {
	closed, breaks := d.connection()
	if closed == nil {
		return channel.Outcome{}, d.notConnected("closed")
	}
	if err := ctx.Err(); err != nil {
		return channel.Outcome{}, err
	}
	id := w.Point.ID
	if !model.Storable(w.Value) {
		return channel.Outcome{}, fmt.Errorf("%w: channel %s: point %s: value %v", model.ErrInvalid, d.setup.ID, id, w.Value)
	}
	if _, ok := d.device.Setpoint(id); !ok {
		return channel.Outcome{Result: channel.Refused}, fmt.Errorf("channel %s: point %s: not a setpoint", d.setup.ID, id)
	}
	switch ask(breaks) {
	case unreachable:
		return channel.Outcome{}, d.notConnected("the virtual device went offline")
	case refused:
		return channel.Outcome{Result: channel.Refused}, fmt.Errorf("channel %s: point %s: the virtual device refused %v", d.setup.ID, id, w.Value)
	case unanswered:
		return channel.Outcome{Result: channel.Sent}, d.unanswered(ctx, closed, breaks)
	}
	return channel.Outcome{Result: channel.Done}, nil
}

// unanswered waits for an answer that does not come and says what ended that.
func (d *driver) unanswered(ctx context.Context, closed <-chan struct{}, breaks int) error {
	timeout := d.setup.Clock.After(d.setup.Timeout)
	for {
		at := d.device.state()
		if at.offline || at.breaks != breaks {
			return d.notConnected("the virtual device went offline before it answered")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-closed:
			return d.notConnected("closed before the answer")
		case <-at.changed:
		case <-timeout:
			return fmt.Errorf("channel %s: the virtual device did not answer within %s", d.setup.ID, d.setup.Timeout)
		}
	}
}
