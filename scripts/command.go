package scripts

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// Submit records a command and queues it for its channel, or records why not:
// then the state is rejected. A command whose ID or Key is known already
// changes nothing and returns the first record; with ErrConflict when that was
// another command. A command to the same point that still waits ends superseded,
// unless the control's policy has a Queue. c.ID must be set. The command's time runs from this call: when
// it is over before the store takes the command, nothing is recorded and the
// error wraps context.DeadlineExceeded.
func (p *Plane) Submit(ctx context.Context, c model.Command) (model.CommandResult, error) {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return model.CommandResult{}, err
	}
	if err := model.CheckID("command", c.ID); err != nil {
		return model.CommandResult{}, err
	}
	until, err := p.until(ctx, c.Timeout)
	if err != nil {
		return model.CommandResult{}, fmt.Errorf("command %s:%s: %w", c.Model, c.Control, err)
	}
	value := model.FormatValue(c.Value)
	reply, err := p.retry(ctx, "command", "submit", c.ID, c.Key, c.Model, c.Control, value, c.Origin, c.User, until)
	r, err := p.commandReply(reply, err)
	if err == nil && (r.Model != c.Model || r.Control != c.Control || model.FormatValue(r.Value) != value) {
		return r, fmt.Errorf("%w: the id or key of this command belongs to %s:%s = %v", ErrConflict, r.Model, r.Control, r.Value)
	}
	return r, err
}

// until returns when a time that begins now is over, in ms by the clock of the
// store. A call that a store which stood still held up, or that is repeated,
// bears it and does nothing when it arrives too late: the caller may be long
// gone, and with him the grounds for the command.
func (p *Plane) until(ctx context.Context, d time.Duration) (int64, error) {
	clock := time.Now
	if p.options.Now != nil {
		clock = p.options.Now
	}
	began := clock()
	reply, err := p.retry(ctx, "command", "time", "")
	if err != nil {
		return 0, err
	}
	if len(reply) < 2 {
		return 0, fmt.Errorf("%w command: no time in the reply", ErrScript)
	}
	now, err := strconv.ParseInt(reply[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w command: %w", ErrScript, err)
	}
	left := d - clock().Sub(began)
	if left <= 0 {
		return 0, fmt.Errorf("the store did not answer within %s: %w", d, context.DeadlineExceeded)
	}
	return now + left.Milliseconds(), nil
}

// QueueEntry is a command that waits in a channel's queue.
type QueueEntry struct {
	// Position is the entry's place in the queue.
	Position string
	Command  string
}

// Queue returns what waits in a channel's queue after a position; "" is the
// beginning. It does not block.
func (p *Plane) Queue(ctx context.Context, channel, after string) ([]QueueEntry, error) {
	entries, err := p.read(ctx, p.keys.commandQueue(channel), after, 100)
	if err != nil {
		return nil, err
	}
	list := make([]QueueEntry, len(entries))
	for i, e := range entries {
		list[i] = QueueEntry{Position: e.ID, Command: text(e.Values, "id")}
	}
	return list, nil
}

// Claim takes a queued command for execution. It succeeds once per command, and
// again for the same token, which the caller makes new for every command that
// it begins to execute. ErrConflict when the command is past that: expired,
// cancelled, claimed before; the result says which. ErrFenced when the channel
// has another owner. Only after Claim may anything be sent to the device. It
// looks at the grounds again: a command whose model was disabled, whose binding
// changed or whose value the limits, the labels or an interlock forbid by now is
// rejected.
func (p *Plane) Claim(ctx context.Context, l Lease, e QueueEntry, token string) (model.CommandResult, error) {
	before := "0"
	if p.claims.other(e.Command, token) {
		before = "1"
	}
	reply, err := p.retry(ctx, "command", "claim", e.Command, l.Channel, l.Epoch, token, e.Position, before)
	r, err := p.commandReply(reply, err)
	if err == nil {
		p.claims.note(e.Command, token)
	}
	return r, err
}

// claims are the commands that were claimed here in the last hours. A store that
// comes back with older data, after a crash or a failover, may show one of them
// as queued again.
type claims struct {
	mu    sync.Mutex
	list  map[string]claim
	sweep int // how long the list gets before old ones are dropped
}

type claim struct {
	token string
	at    time.Time
}

// other reports whether a command was claimed with another token.
func (cs *claims) other(id, token string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, ok := cs.list[id]
	return ok && c.token != token
}

func (cs *claims) note(id, token string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	now := time.Now()
	if cs.list == nil {
		cs.list = map[string]claim{}
	}
	if len(cs.list) >= cs.sweep {
		maps.DeleteFunc(cs.list, func(_ string, c claim) bool { return now.Sub(c.at) > 2*model.MaxCommandTimeout })
		cs.sweep = 2*len(cs.list) + 1000
	}
	cs.list[id] = claim{token, now}
}

// done reports whether a command is known to be claimed with this token.
func (cs *claims) done(id, token string) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c, ok := cs.list[id]
	return ok && c.token == token
}

// Finish stores the final state of a command that was claimed with token. A
// command that ended unknown may be settled later by the same token.
func (p *Plane) Finish(ctx context.Context, id, token string, state model.CommandState, reason, detail string, readBack *float64) (model.CommandResult, error) {
	value, claimed := "", "0"
	if p.claims.done(id, token) {
		claimed = "1"
	}
	if readBack != nil && model.Storable(*readBack) {
		value = model.FormatValue(*readBack)
	}
	reply, err := p.retry(ctx, "command", "finish", id, token, string(state), reason, shortDetail(detail), value, claimed)
	return p.commandReply(reply, err)
}

// shortDetail bounds a detail to 500 bytes.
func shortDetail(detail string) string {
	if len(detail) > 500 {
		return strings.ToValidUTF8(detail[:500], "") // the cut may be inside of a rune
	}
	return detail
}

// Cancel takes back a command that was not claimed yet, else ErrConflict.
func (p *Plane) Cancel(ctx context.Context, id, by string) (model.CommandResult, error) {
	reply, err := p.retry(ctx, "command", "cancel", id, by)
	return p.commandReply(reply, err)
}

// Expire ends a command that was not claimed by its deadline, else ErrConflict.
func (p *Plane) Expire(ctx context.Context, id string) (model.CommandResult, error) {
	before := "0"
	if p.claims.other(id, "") {
		before = "1"
	}
	reply, err := p.retry(ctx, "command", "expire", id, before)
	return p.commandReply(reply, err)
}

// Command returns a command's record.
func (p *Plane) Command(ctx context.Context, id string) (model.CommandResult, error) {
	if err := model.CheckID("command", id); err != nil {
		return model.CommandResult{}, err
	}
	h, err := p.client.HGetAll(ctx, p.keys.command(id)).Result()
	if err != nil {
		return model.CommandResult{}, storeError("reading command "+id, err)
	}
	if h["id"] == "" {
		return model.CommandResult{}, fmt.Errorf("command %s: %w", id, ErrNotFound)
	}
	return commandResult(func(name string) string { return h[name] }), nil
}

// CommandJournal returns transitions of commands after a position; "" is the
// oldest that is kept.
func (p *Plane) CommandJournal(ctx context.Context, after string, limit int) ([]model.CommandEvent, error) {
	entries, err := p.read(ctx, p.keys.commandJournal(), after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]model.CommandEvent, len(entries))
	for i, e := range entries {
		list[i] = model.CommandEvent{Position: e.ID, CommandResult: commandResult(func(name string) string { return text(e.Values, name) })}
	}
	return list, nil
}

// CommandJournalEnd returns the position of the newest entry.
func (p *Plane) CommandJournalEnd(ctx context.Context) (string, error) {
	return p.end(ctx, p.keys.commandJournal())
}

func (p *Plane) commandReply(reply []string, err error) (model.CommandResult, error) {
	var r model.CommandResult
	if len(reply) > 2 {
		r = commandResult(func(name string) string {
			for i := 1; i+1 < len(reply); i += 2 {
				if reply[i] == name {
					return reply[i+1]
				}
			}
			return ""
		})
	}
	return r, err
}

func commandResult(get func(string) string) model.CommandResult {
	r := model.CommandResult{
		ID: get("id"), Model: get("model"), Control: get("control"), Channel: get("channel"), Point: get("point"),
		State: model.CommandState(get("state")), Reason: get("reason"), Detail: get("detail"),
		Origin: get("origin"), User: get("user"),
		Created: millis(get("created")), Updated: millis(get("updated")), Deadline: millis(get("deadline")),
	}
	r.Value, _ = strconv.ParseFloat(get("value"), 64)
	if v, err := strconv.ParseFloat(get("read_back"), 64); err == nil {
		r.ReadBack = &v
	}
	return r
}

// millis reads Unix milliseconds; what cannot be read is the zero time.
func millis(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// read returns entries of a stream after a position.
func (p *Plane) read(ctx context.Context, stream, after string, limit int) ([]redis.XMessage, error) {
	if after == "" {
		after = "0"
	}
	streams, err := p.client.XRead(ctx, &redis.XReadArgs{Streams: []string{stream, after}, Count: int64(limit), Block: -1}).Result()
	if isNil(err) || (err == nil && len(streams) == 0) {
		return nil, nil
	}
	if err != nil {
		return nil, storeError("reading "+stream, err)
	}
	return streams[0].Messages, nil
}

// end returns the newest position of a stream, "0" for an empty one.
func (p *Plane) end(ctx context.Context, stream string) (string, error) {
	last, err := p.client.XRevRangeN(ctx, stream, "+", "-", 1).Result()
	if err != nil {
		return "", storeError("reading "+stream, err)
	}
	if len(last) == 0 {
		return "0", nil
	}
	return last[0].ID, nil
}

func text(values map[string]any, name string) string {
	s, _ := values[name].(string)
	return s
}
