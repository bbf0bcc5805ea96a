package voltage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// notifyingEnd is what a notifier has to end: it waits for a message that is on
// its way.
const notifyingEnd = 500 * time.Millisecond

// notifying is the notifier that runs. The zero value is none.
type notifying struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// runNotifier begins to deliver notifications.
func (e *Engine) runNotifier(run context.Context) {
	if e.notifier == nil {
		return
	}
	ctx, cancel := context.WithCancel(run)
	e.notifying = notifying{cancel, make(chan struct{})}
	e.goRun(ctx, func(ctx context.Context) {
		defer close(e.notifying.done)
		e.notifier.Run(ctx, e.plane, e.id)
	})
}

// stop ends it. What was on its way and did not arrive in time is sent again
// after the next start.
func (n notifying) stop(ctx context.Context) error {
	if n.cancel == nil {
		return nil
	}
	n.cancel()
	t := time.NewTimer(notifyingEnd)
	defer t.Stop()
	select {
	case <-n.done:
		return nil
	case <-t.C:
	case <-ctx.Done():
	}
	return errors.New("stopping the notifications: a sender does not end")
}

// wakeAlarms passes on the hint that there is something new about alarms.
func (e *Engine) wakeAlarms() {
	e.subscribers.wakeAlarms()
	if e.notifier != nil {
		e.notifier.Wake()
	}
}

// notifierOf returns the notifier of a running engine.
func (e *Engine) notifierOf() (*notify.Notifier, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	if e.notifier == nil {
		return nil, fmt.Errorf("%w: this engine has no targets of notifications", scripts.ErrConflict)
	}
	return e.notifier, nil
}

// TestNotification sends a message through one target, once and at once, that says
// that it is a test, and returns what became of it: nil when the target took it,
// notify.ErrNotDelivered with the reason when it did not.
// scripts.ErrNotFound where there is no such target.
func (e *Engine) TestNotification(ctx context.Context, target string) error {
	n, err := e.notifierOf()
	if err != nil {
		if errors.Is(err, scripts.ErrConflict) {
			err = fmt.Errorf("target %.80q: %w", target, scripts.ErrNotFound)
		}
		return err
	}
	return n.Test(ctx, target)
}

// TestNotification tells what the target answered from what kept it from being asked.
func (s site) TestNotification(ctx context.Context, target string) (failure string, err error) {
	err = s.Engine.TestNotification(ctx, target)
	if errors.Is(err, notify.ErrNotDelivered) {
		return err.Error(), nil
	}
	return "", err
}

// Notifications returns how the notifications are doing. Without targets only
// what the store has is in it.
func (e *Engine) Notifications(ctx context.Context) (model.Notifications, error) {
	n, err := e.notifierOf()
	if errors.Is(err, scripts.ErrConflict) {
		s := model.Notifications{}
		s.Queue, s.DeadLetters, s.Dropped, err = e.plane.NotificationCounts(ctx)
		return s, err
	}
	if err != nil {
		return model.Notifications{}, err
	}
	return n.Status(ctx)
}

// DeadNotifications returns what was given up and is kept, the newest first.
func (e *Engine) DeadNotifications(ctx context.Context) ([]model.DeadNotification, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	list := []model.DeadNotification{}
	err := e.plane.DeadNotifications(ctx, func(d model.DeadNotification, _ string) { list = append(list, d) })
	return list, err
}

// RetryNotifications has what was given up sent again, that of the ids or all
// without any, and returns how many. What was for a target that there is no more
// stays. scripts.ErrNotFound where an id is not among them, and then none is
// sent; scripts.ErrConflict where this engine has no targets.
func (e *Engine) RetryNotifications(ctx context.Context, ids ...string) (int, error) {
	n, err := e.notifierOf()
	if err != nil {
		return 0, err
	}
	return n.RetryDead(ctx, ids...)
}
