package runner

import (
	"context"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// writeGrace is what a Write has to return after its context ended, in
// real time, before the command counts as unknown.
const writeGrace = 250 * time.Millisecond

// perform is transmit, counted as a command.
func (s *session) perform(ctx context.Context, w channel.Write, left time.Duration, res *result) {
	s.transmit(ctx, w, left, res)
	if res.state != model.CommandExpired && res.reason != "not_sent" {
		s.r.status.command()
	}
}

// transmit has the driver write within left, if the channel is owned and the
// driver is free, and fills in how it ended. ctx is s.writes, or ends before it.
func (s *session) transmit(ctx context.Context, w channel.Write, left time.Duration, res *result) {
	r := s.r
	deadline := r.clock.Now().Add(left)
	if !s.enter(ctx, left) {
		res.end(model.CommandExpired, "timeout", "the channel did not take it in time")
		return
	}
	defer s.leave()
	// The last look before the first byte leaves.
	if left = deadline.Sub(r.clock.Now()); left <= 0 {
		res.end(model.CommandExpired, "timeout", "the channel did not take it in time")
		return
	}
	if s.left() <= 0 || ctx.Err() != nil || (res.safe == nil && s.ctx.Err() != nil) {
		res.end(model.CommandFailed, "not_sent", errLeaseOver.Error())
		return
	}
	select {
	case r.writing <- struct{}{}:
	default:
		res.end(model.CommandFailed, "not_sent", errBusy.Error())
		return
	}
	s.writeOnce(ctx, w, left, deadline, res)
}

// enter waits, for at most left, until nothing else of this session writes.
func (s *session) enter(ctx context.Context, left time.Duration) bool {
	select {
	case s.turn <- struct{}{}:
		return true
	default:
	}
	ctx, cancel := s.r.timeout(ctx, left)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *session) leave() { <-s.turn }

// writeOnce has the driver write, for at most left, after it selected the point
// where that is asked for. The caller holds writing.
func (s *session) writeOnce(ctx context.Context, w channel.Write, left time.Duration, deadline time.Time, res *result) {
	r := s.r
	ctx, cancel := r.timeout(ctx, left)
	type answer struct {
		out      channel.Outcome
		err      error
		selected bool // the answer is that to the Write
	}
	answered := make(chan answer, 1)
	abandoned := make(chan struct{})
	late := *res
	go func() {
		defer cancel()
		selected := true
		var out channel.Outcome
		var err error
		if w.Point.Select {
			out, err = r.selectDriver(ctx, w)
			selected = out.Result >= channel.Done
			if selected {
				out, err = channel.Outcome{}, s.mayOperate(ctx, deadline)
			}
		}
		if selected && err == nil {
			out, err = r.writeDriver(ctx, w)
		}
		<-r.writing
		answered <- answer{out, err, selected}
		select {
		case <-abandoned: // what became of it after all
		default:
			return
		}
		select {
		case a := <-answered:
			late.outcome(&w.Point, a.out, a.err, !r.clock.Now().Before(deadline))
			late.selection(a.selected)
			if late.state != model.CommandUnknown && late.id != "" {
				r.results.add(late)
			}
		default: // it was taken in the last moment
		}
	}()
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		grace, stop := context.WithTimeout(context.Background(), writeGrace)
		defer stop()
		select {
		case a = <-answered:
		case <-grace.Done():
			close(abandoned)
			select {
			case a = <-answered:
			default:
				res.end(model.CommandUnknown, "timeout", "the driver did not return in time")
				return
			}
		}
	}
	res.outcome(&w.Point, a.out, a.err, !r.clock.Now().Before(deadline))
	res.selection(a.selected)
	if v := a.out.ReadBack; v != nil && model.Storable(*v) {
		// Whoever was told that the command is verified must not find the old value.
		in, _ := s.queue.put(r.clock.Now(), []model.Sample{{Point: w.Point.ID, Value: *v}})
		r.account(in)
	}
}

// mayOperate is the look between selecting and operating.
func (s *session) mayOperate(ctx context.Context, deadline time.Time) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !s.r.clock.Now().Before(deadline):
		return context.DeadlineExceeded
	case s.left() <= 0:
		return errLeaseOver
	}
	return nil
}
