package runner

import (
	"errors"
	"fmt"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// ErrNoDemand: the channel has no driver that reads on demand.
var ErrNoDemand = errors.New("the channel has no driver that reads points on demand")

// Demand has points be read as soon as possible, all of them when none are
// given. It does not wait for that.
//
// The error wraps model.ErrInvalid for a point that the channel has not. All
// others wrap scripts.ErrConflict: ErrNoDemand, ErrStandby, ErrStopped, and
// channel.ErrNotConnected while the device is not connected.
func (r *Runner) Demand(points []string) (err error) {
	no := func(err error) error { return fmt.Errorf("channel %s: %w: %w", r.ch.ID, scripts.ErrConflict, err) }
	demander, ok := r.driver.(channel.Demander)
	if !ok {
		return no(ErrNoDemand)
	}
	for _, id := range points {
		if _, ok := r.index[id]; !ok {
			return fmt.Errorf("%w: channel %s: point %.80q: the channel has no such point", model.ErrInvalid, r.ch.ID, id)
		}
	}
	switch r.status.get().State {
	case model.ChannelStopped:
		return no(ErrStopped)
	case model.ChannelStandby:
		return no(ErrStandby)
	case model.ChannelConnecting:
		return no(channel.ErrNotConnected)
	}
	if len(points) == 0 {
		for i := range r.ch.Points {
			points = append(points, r.ch.Points[i].ID)
		}
	}
	defer r.contain("Demand", &err)
	if err := demander.Demand(points...); errors.Is(err, channel.ErrNotConnected) {
		return no(err)
	} else if err != nil {
		return fmt.Errorf("channel %s: %w", r.ch.ID, err)
	}
	return nil
}
