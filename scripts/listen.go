package scripts

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// Listener is told what happens on the site. Its functions run on the one
// goroutine that reads the subscription: they must return at once. Any may be
// nil. Except for Update they are only hints that a journal or a queue is worth
// reading: what must not be missed is read from there, from a position.
type Listener struct {
	// Update has the changed values of a model.
	Update func(model.Update)
	// Alarms hints at new entries in the alarm journal.
	Alarms func()
	// Commands hints at new entries in the command journal.
	Commands func()
	// Control hints at a command in a channel's queue.
	Control func(channel string)
	// Scripts hints at a change of the active scripts, of a trial or of the sync
	// modes: call FollowScripts.
	Scripts func()
	// Connected says that the subscription stands, first and again after a
	// break, in which messages may have been lost.
	Connected func()
}

// Listen subscribes and calls the listener until ctx ends, over broken
// connections too.
func (p *Plane) Listen(ctx context.Context, l Listener) {
	for attempt := 0; ctx.Err() == nil; attempt++ {
		connected := p.listen(ctx, l)
		if connected {
			attempt = 0
		}
		if !pause(ctx, backoff(attempt)) {
			return
		}
	}
}

// idle is how long the subscription may be silent before it is probed, so that
// a connection that died without a word is noticed.
const idle = 5 * time.Second

func (p *Plane) listen(ctx context.Context, l Listener) (connected bool) {
	var plain, patterns []string
	if l.Alarms != nil {
		plain = append(plain, p.keys.alarmJournal())
	}
	if l.Commands != nil {
		plain = append(plain, p.keys.commandJournal())
	}
	if l.Scripts != nil {
		plain = append(plain, p.keys.scriptChanged())
	}
	if l.Update != nil {
		patterns = append(patterns, p.keys.update("*"))
	}
	if l.Control != nil {
		patterns = append(patterns, p.keys.commandControl("*"))
	}
	sub := p.client.Subscribe(ctx, plain...)
	defer sub.Close()
	if len(patterns) > 0 {
		if err := sub.PSubscribe(ctx, patterns...); err != nil {
			return false
		}
	}
	// A read that waits does not see the end of ctx: close under it.
	stop := context.AfterFunc(ctx, func() { sub.Close() })
	defer stop()
	wanted, probed := len(plain)+len(patterns), false
	for {
		message, err := sub.ReceiveTimeout(ctx, idle)
		if err != nil {
			if ctx.Err() == nil && isTimeout(err) && !probed && sub.Ping(ctx) == nil {
				probed = true
				continue
			}
			if ctx.Err() == nil {
				p.log.Warn("the subscription broke; subscribing again", "site", p.options.Site, "error", err)
			}
			return connected
		}
		probed = false
		switch m := message.(type) {
		case *redis.Subscription:
			if wanted--; wanted == 0 {
				connected = true
				if l.Connected != nil {
					l.Connected()
				}
			}
		case *redis.Message:
			p.dispatch(l, m)
		}
	}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

func (p *Plane) dispatch(l Listener, m *redis.Message) {
	switch m.Channel {
	case p.keys.alarmJournal():
		l.Alarms()
		return
	case p.keys.commandJournal():
		l.Commands()
		return
	case p.keys.scriptChanged():
		l.Scripts()
		return
	}
	parts := strings.Split(strings.TrimPrefix(m.Channel, string(p.keys)), ":")
	if len(parts) != 3 {
		return
	}
	switch {
	case parts[0] == "cmd" && l.Control != nil:
		l.Control(parts[1])
	case parts[0] == "modsrv" && l.Update != nil:
		l.Update(ParseUpdate(parts[1], m.Payload))
	}
}

// ParseUpdate reads the message of a model's update channel.
func ParseUpdate(id, message string) model.Update {
	u := model.Update{Model: id, Points: make([]model.PointUpdate, 0, strings.Count(message, ",")+1)}
	for item := range strings.SplitSeq(message, ",") {
		name, value, ok := strings.Cut(item, ":")
		if !ok {
			continue // not ours: whoever publishes there may say anything
		}
		if strings.Contains(value, "%") {
			value = unescape.Replace(value)
		}
		u.Points = append(u.Points, model.PointUpdate{Name: name, Value: value})
	}
	return u
}

var unescape = strings.NewReplacer("%2C", ",", "%25", "%", "%0A", "\n", "%09", "\t")
