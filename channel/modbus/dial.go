package modbus

import (
	"context"
	"fmt"
	"time"

	"github.com/voltageems/voltage/channel"
)

// dialing is an attempt to connect, whose outcome all who wait for it share.
type dialing struct {
	done   chan struct{}
	err    error
	broken bool // off, because the context of who dialled ended
}

// attach makes the connection, unless it is there, and adds m to those who
// hold it; with nil, it makes it for those who hold it already.
func (l *line) attach(ctx context.Context, m *member) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		l.mu.Lock()
		if l.conn != nil {
			if m != nil {
				l.attached[m] = struct{}{}
			}
			l.mu.Unlock()
			return nil
		}
		if l.dialing == nil {
			l.dialing = &dialing{done: make(chan struct{})}
			l.mu.Unlock()
			return l.connect(ctx, m)
		}
		d := l.dialing
		l.mu.Unlock()
		select {
		case <-d.done:
			if d.err != nil && !d.broken {
				return d.err
			}
		case <-ctx.Done():
		}
	}
}

// connect dials for all who wait for l.dialing.
func (l *line) connect(ctx context.Context, m *member) error {
	limited, cancel := context.WithTimeout(ctx, l.connectTimeout)
	defer cancel()
	c, err := l.dial(limited)
	if err == nil && ctx.Err() != nil {
		_ = c.Close()
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", channel.ErrNotConnected, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && m == nil && len(l.attached) == 0 {
		_ = c.Close()
		err = fmt.Errorf("%w: closed", channel.ErrNotConnected)
	}
	if err == nil {
		l.conn = l.frame(c)
		l.rest = time.Now().Add(l.connectDelay)
		l.served = false
		if m != nil {
			l.attached[m] = struct{}{}
		}
	}
	d := l.dialing
	l.dialing = nil
	d.err, d.broken = err, ctx.Err() != nil
	close(d.done)
	return err
}

// detach ends m's hold on the connection, and the connection with the last.
func (l *line) detach(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.attached, m)
	if len(l.attached) == 0 {
		l.dropLocked()
	}
}

// silent notes that m does not answer. When none of those attached that are asked
// all the time was heard since, it is the connection that is dead, though it does
// not say so.
func (l *line) silent(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.silentAt = l.heard + 1
	for other := range l.attached {
		if !other.mute && !other.idle && other.silentAt != l.heard+1 {
			return
		}
	}
	l.dropLocked()
}

func (l *line) dropLocked() {
	if l.conn != nil {
		// The connection is given up; there is nothing to do about an error.
		_ = l.conn.Close()
		l.conn = nil
	}
}
