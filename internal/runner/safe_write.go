package runner

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// write writes the safe value of a control, once, within most: the others need
// their time, too. The device may be told so several times, as a safe value is the
// same every time.
func (l *lane) write(c *standing, most time.Duration) {
	s, r := l.s, l.s.r
	point := r.ch.Points[r.index[c.Point]]
	value := *c.Policy.Safe
	if c.id == "" {
		l.count++
		c.id, c.token, c.began = "failsafe-"+rand.Text(), s.lease.Epoch+"-"+strconv.Itoa(l.count), r.clock.Now()
		s.log.Warn("writing the safe value of a control", "control", c.Model+":"+c.Control, "point", c.Point, "value", value, "reason", c.due)
		if err := l.announce(c); errors.Is(err, scripts.ErrFenced) {
			s.end(err)
			return
		}
	}
	res := result{id: c.id, token: c.token, safe: &ownWrite{Failsafe: c.Failsafe, lease: s.lease, reason: c.due, began: c.began}}
	if reason, detail := refusal(&point, value); reason != "" {
		res.end(model.CommandFailed, reason, detail)
	} else {
		limit := max(4*r.ch.Timeout, point.ReadBackWithin()+r.ch.Timeout)
		ctx, stop := l.attentive()
		s.perform(ctx, channel.Write{Point: point, Value: value}, min(limit, most, s.left()), &res)
		stop()
	}
	c.tries++
	c.next = r.clock.Now().Add(backoff(c.tries-1, safeRetry))
	switch {
	case res.state.OK():
		c.safe = true
	case c.due == stopped: // there is no other try
	case res.reason == "not_sent", res.reason == "not_connected", res.state == model.CommandExpired:
		return // and again: nothing was sent
	case res.state == model.CommandUnknown && c.tries < safeTries:
		c.sent = true
		return
	}
	level := s.log.Info
	if !c.safe {
		level = s.log.Error
	}
	level("safe value "+string(res.state), "control", c.Model+":"+c.Control, "point", c.Point, "value", value, "reason", c.due, "detail", res.detail)
	r.results.add(res)
	// What failed is tried again when it would be due again.
	*c = standing{Failsafe: c.Failsafe, at: r.clock.Now(), safe: c.safe, lost: c.lost}
}

// announce records that the value is going to be written, so that it is in the
// journal whatever happens, and that the lease holds. A store that does not
// answer holds nothing up.
func (l *lane) announce(c *standing) error {
	s, r := l.s, l.s.r
	if c.due == storeLost || c.due == stopped || l.silent || s.left() <= r.lead() {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, min(askTime, r.lead()))
	defer cancel()
	_, err := await(ctx, func() (struct{}, error) {
		return struct{}{}, r.cfg.Plane.RecordFailsafe(ctx, s.lease, scripts.FailsafeRecord{Failsafe: c.Failsafe, ID: c.id, Token: c.token,
			State: model.CommandExecuting, Reason: c.due})
	})
	l.silent = errors.Is(err, context.DeadlineExceeded) // then the others are not held up by it
	return err
}

// finish writes what is to be written when the channel is stopped cleanly.
func (l *lane) finish() {
	s := l.s
	defer func() {
		for _, c := range l.standings {
			if c.id == "" {
				continue
			}
			res := result{id: c.id, token: c.token, safe: &ownWrite{Failsafe: c.Failsafe, lease: s.lease, reason: c.due, began: c.began}}
			if c.sent {
				res.end(model.CommandUnknown, "not_confirmed", "the engine stopped or lost the channel before the device confirmed it")
			} else {
				res.end(model.CommandFailed, "not_sent", "the engine stopped or lost the channel before the device could be reached")
			}
			s.r.results.add(res)
		}
	}()
	cause := context.Cause(s.ctx)
	if errors.Is(cause, scripts.ErrFenced) || errors.Is(cause, errLeaseOver) {
		return
	}
	end := s.r.clock.Now().Add(safeTime)
	for i, c := range l.standings {
		if c.Policy.SafeOnStop && !c.safe && s.connected.Load() && s.left() > 0 {
			if c.due == "" {
				c.ask(stopped)
			}
			l.write(c, end.Sub(s.r.clock.Now())/time.Duration(len(l.standings)-i))
		}
	}
}
