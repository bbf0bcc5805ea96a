package runner

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

const (
	// commandTick is how often the queue is looked at without a Wake.
	commandTick = time.Second
	// commandRetry is when it is looked at again after the store failed.
	commandRetry = 250 * time.Millisecond
	// writeGrace is what a Write has to return after its context ended, in
	// real time, before the command counts as unknown.
	writeGrace = 250 * time.Millisecond
)

// claim is the attempt to get one command for execution. Until its outcome is
// known it is repeated with the same token and nothing else is.
type claim struct {
	entry scripts.QueueEntry
	token string
	start time.Time // before the first try
}

// lane executes the channel's commands, one after the other.
type lane struct {
	s     *session
	count int    // tokens made
	open  *claim // its outcome is not known
}

// command is the command lane of a session.
func (s *session) command() {
	l := &lane{s: s}
	failing := false
	for s.ctx.Err() == nil {
		wait := commandTick
		err := l.drain()
		if err != nil && s.ctx.Err() == nil {
			if !failing { // an outage is said once, not four times a second
				s.log.Warn("the commands could not be read; repeating", "error", err)
			}
			wait = commandRetry
		}
		failing = err != nil
		select {
		case <-s.r.wake:
		case <-s.r.clock.After(wait):
		case <-s.ctx.Done():
		}
	}
	if l.open != nil {
		// Whether it was claimed is not known, but that nothing was sent is.
		s.r.results.add(result{
			id: l.open.entry.Command, token: l.open.token, state: model.CommandFailed, reason: "not_sent",
			detail: "the engine stopped or lost the channel before anything was sent",
		})
	}
}

// drain takes what waits. It returns early when the store fails. It begins with
// the oldest entry every time, for a store that went back to older data may have
// entries again that were taken.
func (l *lane) drain() error {
	s, plane := l.s, l.s.r.cfg.Plane
	if l.open != nil {
		if err := l.take(l.open.entry); err != nil {
			return err
		}
	}
	after := ""
	for s.ctx.Err() == nil {
		entries, err := await(s.ctx, func() ([]scripts.QueueEntry, error) {
			return plane.Queue(s.ctx, s.lease.Channel, after)
		})
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if err := l.take(e); err != nil {
				return err
			}
			after = e.Position
		}
	}
	return nil
}

// take claims one command and executes it. An error means that the outcome of
// the claim is not known.
func (l *lane) take(e scripts.QueueEntry) error {
	s, r := l.s, l.s.r
	if !s.owns() {
		return errLeaseOver
	}
	if l.open == nil || l.open.entry != e {
		l.count++
		l.open = &claim{entry: e, token: s.lease.Epoch + "-" + strconv.Itoa(l.count), start: r.clock.Now()}
	}
	c := *l.open
	cmd, err := await(s.ctx, func() (model.CommandResult, error) {
		return r.cfg.Plane.Claim(s.ctx, s.lease, e, c.token)
	})
	switch {
	case err == nil:
	case errors.Is(err, scripts.ErrConflict), errors.Is(err, scripts.ErrNotFound):
		l.open = nil
		return nil
	case errors.Is(err, scripts.ErrFenced):
		s.end(err)
		return err
	default:
		return err
	}
	l.open = nil
	res := result{id: cmd.ID, token: c.token}
	// The time that is left was measured by the clock of the store; the claim
	// happened after c.start by ours, so this deadline is never too late.
	s.operate(cmd, c.start.Add(cmd.Deadline.Sub(cmd.Updated)), &res)
	s.log.Info("command "+string(res.state), "command", cmd.ID, "point", cmd.Point, "value", cmd.Value,
		"origin", cmd.Origin, "reason", res.reason, "detail", res.detail)
	r.results.add(res)
	return nil
}

// operate executes a claimed command, if it may, and fills in how it ended.
func (s *session) operate(cmd model.CommandResult, deadline time.Time, res *result) {
	r := s.r
	at, ok := r.index[cmd.Point]
	switch {
	case !ok:
		res.end(model.CommandFailed, "not_writable", "the channel has no point "+cmd.Point)
		return
	case r.writer == nil:
		res.end(model.CommandFailed, "not_writable", "the channel's driver does not write")
		return
	}
	point := &r.ch.Points[at]
	if reason, detail := refusal(point, cmd.Value); reason != "" {
		res.end(model.CommandFailed, reason, detail)
		return
	}
	if !s.owns() {
		res.end(model.CommandFailed, "not_sent", errLeaseOver.Error())
		return
	}
	if !s.connected.Load() {
		res.end(model.CommandFailed, "not_connected", "the device is not connected")
		return
	}
	select {
	case r.writing <- struct{}{}:
	default:
		res.end(model.CommandFailed, "not_sent", errBusy.Error())
		return
	}
	// The last look before the first byte leaves.
	left := deadline.Sub(r.clock.Now())
	if left <= 0 {
		<-r.writing
		res.end(model.CommandExpired, "timeout", "the channel did not take it in time")
		return
	}
	if !s.owns() {
		<-r.writing
		res.end(model.CommandFailed, "not_sent", errLeaseOver.Error())
		return
	}
	r.status.command()
	s.writeOnce(channel.Write{Point: *point, Value: cmd.Value}, left, deadline, res)
}

// writeOnce has the driver write, for at most left. The caller holds writing.
func (s *session) writeOnce(w channel.Write, left time.Duration, deadline time.Time, res *result) {
	r := s.r
	ctx, cancel := r.timeout(s.writes, left)
	type answer struct {
		out channel.Outcome
		err error
	}
	answered := make(chan answer, 1)
	abandoned := make(chan struct{})
	late := *res
	go func() {
		defer cancel()
		out, err := r.writeDriver(ctx, w)
		<-r.writing
		answered <- answer{out, err}
		select {
		case <-abandoned: // what became of it after all
		default:
			return
		}
		select {
		case a := <-answered:
			late.outcome(&w.Point, a.out, a.err, !r.clock.Now().Before(deadline))
			if late.state != model.CommandUnknown {
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
	if v := a.out.ReadBack; v != nil && model.Storable(*v) {
		// Whoever was told that the command is verified must not find the old value.
		in, _ := s.queue.put(r.clock.Now(), []model.Sample{{Point: w.Point.ID, Value: *v}})
		r.account(in)
	}
}
