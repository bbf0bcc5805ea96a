package scripts

import (
	"context"
	"fmt"
	"time"
)

// AlarmTick lets time have its effect on alarms: delays that are over, shelving
// that ends, rules that were changed, and the rules of operator offline of these
// channels. It does some hundred things at most; more says that others are due.
// problems name what went wrong with single rules and held nobody up. Without
// channels, and with nothing due, it costs one look at the timers. It may be called
// by any number of engines, as often as one likes.
func (p *Plane) AlarmTick(ctx context.Context, channels ...string) (more bool, problems []string, err error) {
	if len(channels) == 0 {
		if due, err := p.timerDue(ctx); err != nil || !due {
			return false, nil, err
		}
	}
	args := make([]any, len(channels))
	for i, id := range channels {
		args[i] = id
	}
	reply, err := p.call(ctx, "alarm_tick", "", args...)
	if err != nil {
		return false, nil, err
	}
	if len(reply) < 3 {
		return false, nil, fmt.Errorf("%w alarm_tick: the answer has %d texts, at least 3 are wanted", ErrScript, len(reply))
	}
	return reply[2] == "1", reply[3:], nil
}

// timerDue reports whether the time of any timer has come.
func (p *Plane) timerDue(ctx context.Context) (bool, error) {
	node, err := p.nodeOf(ctx, p.anchor)
	if err != nil {
		return false, err
	}
	pipe := node.Pipeline()
	first, clock := pipe.ZRangeWithScores(ctx, p.keys.timers(), 0, 0), pipe.Time(ctx)
	_, _ = pipe.Exec(ctx) // each command's own error is looked at
	list, err := first.Result()
	switch {
	case err != nil && isAnswer(err):
		return true, nil // no sorted set: the script says so
	case err != nil:
		return false, storeError("reading the timers", err)
	}
	now := p.localTime()
	if p.options.Now == nil {
		if now, err = clock.Result(); err != nil {
			return false, storeError("reading the time of the store", err)
		}
	}
	if back, err := p.clockRan(ctx, now); err != nil || back || len(list) == 0 {
		return back, err
	}
	return !time.UnixMilli(int64(list[0].Score)).After(now), nil
}
