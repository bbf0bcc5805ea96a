package modbus

import (
	"context"
	"slices"
	"time"
)

// mostAhead is how many commands in turn go ahead of polls that wait. A flood of
// them is not to leave a site without values.
const mostAhead = 16

// turns are the lanes that wait for the line. The line's lock guards them.
type turns struct {
	commands []*lane
	polls    []*lane
	ahead    int // how many commands in turn went ahead of a poll
}

// acquire waits until the line is free for the lane: commands in the order in
// which they came, then polls in theirs, one of them after mostAhead commands;
// those of dead units when it is their time.
func (l *line) acquire(ctx context.Context, ln *lane) error {
	l.mu.Lock()
	if err := ctx.Err(); err != nil {
		l.mu.Unlock()
		return err
	}
	if !l.busy && (!ln.probe || l.openLocked()) {
		l.busy = true
		l.mu.Unlock()
		return nil
	}
	queue := l.queue(ln)
	*queue = append(*queue, ln)
	l.waitingLocked(ln)
	l.mu.Unlock()
	select {
	case <-ln.turn:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(*queue, ln); i >= 0 {
		*queue = slices.Delete(*queue, i, i+1)
	} else {
		<-ln.turn // it came meanwhile; hand it on
		l.nextLocked()
	}
	return ctx.Err()
}

func (l *line) queue(ln *lane) *[]*lane {
	switch {
	case ln.command:
		return &l.commands
	case ln.probe:
		return &l.probes
	}
	return &l.polls
}

// release gives the line to the next, after the pause that devices may need.
func (l *line) release() {
	if l.delay > 0 {
		time.AfterFunc(l.delay, l.next)
		return
	}
	l.next()
}

func (l *line) next() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextLocked()
}

func (l *line) nextLocked() {
	first := &l.commands
	if l.ahead >= mostAhead && len(l.polls) > 0 {
		first = &l.polls
	}
	l.busy = true
	for _, queue := range [...]*[]*lane{first, &l.commands, l.dueLocked(time.Now()), &l.polls} {
		if len(*queue) > 0 {
			ln := (*queue)[0]
			*queue = slices.Delete(*queue, 0, 1)
			if ln.command && len(l.polls) > 0 {
				l.ahead++
			} else {
				l.ahead = 0
			}
			ln.turn <- struct{}{} // has room: a lane waits once at a time
			return
		}
	}
	l.busy = false
	l.armLocked()
}
