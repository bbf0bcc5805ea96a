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

	loaded    bool   // which controls have a safe value is known
	version   string // of the definitions, then
	standings []*standing
	given     map[string]time.Time // point → when this session last operated it
	silent    bool                 // the store was asked in this round and did not answer
}

// command is the command lane of a session.
func (s *session) command() {
	l := &lane{s: s, given: map[string]time.Time{}}
	defer close(s.secured)
	failing := false
	for s.ctx.Err() == nil {
		wait := commandTick
		err := l.load()
		if hold := l.secure(); err == nil && !hold {
			err = l.drain()
		}
		if errors.Is(err, errUrgent) {
			continue
		}
		if err != nil && s.ctx.Err() == nil {
			if !failing { // an outage is said once, not four times a second
				s.log.Warn("the commands could not be read; repeating", "error", err)
			}
			wait = commandRetry
		}
		failing = err != nil
		if left, any := l.left(); any {
			if left <= 0 {
				continue
			}
			wait = min(wait, left)
		}
		select {
		case <-s.r.wake:
		case <-s.linked:
		case <-s.r.clock.After(wait):
		case <-s.ctx.Done():
		}
	}
	l.finish()
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
		entries, err := ask(l, func(ctx context.Context) ([]scripts.QueueEntry, error) {
			return plane.Queue(ctx, s.lease.Channel, after)
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

// errUrgent: a safe value may be due, and nothing is waited for any more.
var errUrgent = errors.New("a safe value may be due")

// ask asks the store, but waits for it only until a safe value may be due. The
// time is that of now, for every command changes it.
func ask[T any](l *lane, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := l.context()
	defer cancel()
	v, err := await(ctx, func() (T, error) { return f(ctx) })
	if err != nil && ctx.Err() != nil && l.s.ctx.Err() == nil {
		err = errUrgent
	}
	return v, err
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
	cmd, err := ask(l, func(ctx context.Context) (model.CommandResult, error) {
		return r.cfg.Plane.Claim(ctx, s.lease, e, c.token)
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
	l.operate(cmd, c.start, c.start.Add(cmd.Deadline.Sub(cmd.Updated)), &res)
	s.log.Info("command "+string(res.state), "command", cmd.ID, "point", cmd.Point, "value", cmd.Value,
		"origin", cmd.Origin, "reason", res.reason, "detail", res.detail)
	r.results.add(res)
	return nil
}

// operate executes a command that was claimed at start, if it may, and fills in
// how it ended.
func (l *lane) operate(cmd model.CommandResult, start, deadline time.Time, res *result) {
	s, r := l.s, l.s.r
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
	if !s.connected.Load() {
		res.end(model.CommandFailed, "not_connected", "the device is not connected")
		return
	}
	// The device may have come back just now, and with it what has to be written
	// before any command.
	if l.secure() {
		res.end(model.CommandFailed, "not_sent", "the store does not answer, or a safe value has to be written first and could not be")
		return
	}
	left := deadline.Sub(r.clock.Now())
	if left <= 0 {
		res.end(model.CommandExpired, "timeout", "the channel did not take it in time")
		return
	}
	l.commanded(cmd.Point, start)
	ctx, stop := l.attentive()
	defer stop()
	s.perform(ctx, channel.Write{Point: *point, Value: cmd.Value}, left, res)
}
