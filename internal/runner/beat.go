package runner

import (
	"errors"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// beat feeds the device's own watchdog, for as long as everything is as it should
// be. Otherwise it does nothing, and the device acts by itself.
func (s *session) beat() {
	r := s.r
	h := r.ch.Heartbeat
	if h == nil || r.writer == nil {
		return
	}
	point := r.ch.Points[r.index[h.Point]]
	for failing := false; ; {
		if s.healthy() {
			res := result{}
			s.transmit(s.writes, channel.Write{Point: point, Value: float64(r.beats)}, max(h.Every, r.ch.Timeout), &res)
			ok := res.state.OK()
			if ok {
				r.status.beat()
			} else if !failing {
				s.log.Warn("the heartbeat is not taken; repeating", "point", h.Point, "reason", res.reason, "detail", res.detail)
				r.status.fail(errors.New("heartbeat: " + res.reason + ": " + res.detail))
			}
			failing = !ok
			// What may have been taken is not written again: it would be no beat.
			if ok || res.state == model.CommandUnknown {
				if r.beats++; r.beats > max(h.Max, 1) {
					r.beats = 0
				}
			}
		}
		if !r.pause(s.ctx, h.Every) {
			return
		}
	}
}

// healthy reports whether the engine does for the channel what it is there for:
// the store answered within the time in which the lease has to be renewed, the
// device is connected, and samples come.
func (s *session) healthy() bool {
	r := s.r
	if !s.owns() || s.left() <= r.lead() || !s.connected.Load() {
		return false
	}
	return r.ch.Stale < 0 || r.clock.Now().Sub(r.status.get().LastScan) < r.ch.Stale
}
