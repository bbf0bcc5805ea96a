package scripts

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// FailsafeOrigin is the origin of the commands that a channel's owner gives by
// itself.
const FailsafeOrigin = "failsafe"

// Failsafe is a control of a channel that has a safe value.
type Failsafe struct {
	Model, Control, Point string
	// Policy has the safe value, which is not nil.
	Policy model.ControlPolicy
}

// Failsafes returns the controls of a channel that have a safe value, one for
// each point, and the version of the site's definitions. Where that is the known
// one, nothing is read and same is true. A policy that cannot be read is left
// out and warned about: commands for such a control are refused anyway.
func (p *Plane) Failsafes(ctx context.Context, channel, known string) (list []Failsafe, version string, same bool, err error) {
	version, err = p.client.Get(ctx, p.keys.mappingVersion()).Result()
	if err != nil && !isNil(err) {
		return nil, "", false, storeError("reading the version of the definitions", err)
	}
	if version != "" && version == known {
		return nil, known, true, nil
	}
	targets, err := p.client.HGetAll(ctx, p.keys.commandTargets()).Result()
	if err != nil {
		return nil, "", false, storeError("reading the bindings of controls", err)
	}
	var replies []*redis.StringCmd
	pipe := p.client.Pipeline()
	for bound, target := range targets {
		ref, err := model.ParseRef(target)
		if err != nil || ref.Owner != channel {
			continue
		}
		id, control, _ := strings.Cut(bound, ":")
		list = append(list, Failsafe{Model: id, Control: control, Point: ref.Name})
		replies = append(replies, pipe.HGet(ctx, p.keys.model(id), "policy:"+control))
	}
	if len(replies) > 0 {
		if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
			return nil, "", false, storeError("reading the policies of channel "+channel, err)
		}
	}
	for i, reply := range replies {
		f := &list[i]
		if text := reply.Val(); text != "" {
			if err := json.Unmarshal([]byte(text), &f.Policy); err != nil {
				p.log.Warn("the policy of a control cannot be read; there is no safe value for it", "model", f.Model, "control", f.Control, "error", err)
				f.Policy = model.ControlPolicy{}
			}
		}
	}
	list = slices.DeleteFunc(list, func(f Failsafe) bool { return f.Policy.Safe == nil || !model.Storable(*f.Policy.Safe) })
	slices.SortFunc(list, func(a, b Failsafe) int {
		return cmp.Or(cmp.Compare(a.Point, b.Point), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Control, b.Control))
	})
	list = slices.CompactFunc(list, func(a, b Failsafe) bool {
		if a.Point == b.Point {
			p.log.Warn("a point is bound to two controls with a safe value; one of them counts",
				"point", channel+":"+a.Point, "controls", []string{a.Model + ":" + a.Control, b.Model + ":" + b.Control})
		}
		return a.Point == b.Point
	})
	return list, version, false, nil
}

// Held returns, for the points of a channel that have a safe value, how long ago
// a command for each was last sent, or its origin was last Alive. A point that
// is not there was never operated, as far as the store knows.
func (p *Plane) Held(ctx context.Context, channel string) (map[string]time.Duration, error) {
	reply, err := p.retry(ctx, "command", "held", channel)
	if err != nil {
		return nil, err
	}
	held := map[string]time.Duration{}
	for i := 1; i+1 < len(reply); i += 2 {
		ms, err := strconv.ParseInt(reply[i+1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w command: held: %w", ErrScript, err)
		}
		held[reply[i]] = time.Duration(max(ms, 0)) * time.Millisecond
	}
	return held, nil
}

// Alive says that the origin of commands, such as "cloud", is alive and stands
// behind what it gave: the time of every control that it operated last and that
// has a Hold begins anew. The origin is that of its commands, letter for letter.
func (p *Plane) Alive(ctx context.Context, origin string) error {
	if origin == "" || !model.PlainText(origin, 64) {
		return fmt.Errorf("%w: origin %.80q: want plain text of 1 to 64 bytes", model.ErrInvalid, origin)
	}
	_, err := p.retry(ctx, "command", "alive", origin)
	return err
}

// FailsafeRecord is what became of a safe value.
type FailsafeRecord struct {
	Failsafe
	// ID and Token are those of this command; nobody else has them.
	ID, Token string
	// State is executing before the value is written, and then a final one.
	State          model.CommandState
	Reason, Detail string
	ReadBack       *float64
	// Ago is how long ago the writing began.
	Ago time.Duration
}

// RecordFailsafe records and journals what the owner of a channel does by itself.
// With the state executing it checks the lease, and ErrFenced says that nothing
// must be written. A final state is taken from anybody who knows the token, also
// where nothing was recorded before: the device has acted.
func (p *Plane) RecordFailsafe(ctx context.Context, l Lease, r FailsafeRecord) error {
	epoch, back := "", ""
	if r.State == model.CommandExecuting {
		epoch = l.Epoch
	}
	if r.ReadBack != nil && model.Storable(*r.ReadBack) {
		back = model.FormatValue(*r.ReadBack)
	}
	_, err := p.retry(ctx, "command", "record", r.ID, r.Token, r.Model, r.Control, l.Channel, r.Point,
		model.FormatValue(*r.Policy.Safe), epoch, string(r.State), r.Reason, shortDetail(r.Detail), back, max(r.Ago, 0).Milliseconds())
	return err
}
