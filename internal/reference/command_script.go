package reference

import (
	"math"
	"strings"
)

// command is the script of that name: the life of a command after somebody
// asked for it.
func (r *run) command() []string {
	op, given := r.opt(1)
	if refusal := r.guard(3, 0); refusal != nil {
		return refusal
	}
	now := r.nowArg(2)
	switch op {
	case "time":
		return []string{"OK", rounded(mustNumber(now))}
	case "submit":
		left := mustNumber(r.arg(11)) - mustNumber(now)
		if left < 0 && r.commandLoad(r.arg(4)) == nil {
			return []string{"LATE"}
		}
		return r.commandSubmit(now, &command{id: r.arg(4), model: r.arg(6), control: r.arg(7), value: r.arg(8),
			origin: r.arg(9), user: r.arg(10)}, r.arg(5), math.Max(left, 0), true)
	case "alive":
		r.call("HSET", r.key("cmd:sources"), r.arg(4), now)
		return []string{"OK"}
	case "held":
		return r.commandHeld(now)
	}
	c := r.commandLoad(r.arg(4))
	switch op {
	case "claim":
		return r.commandClaim(now, c)
	case "record":
		return r.commandRecord(now, c)
	}
	if c == nil {
		return []string{"NOTFOUND"}
	}
	switch op {
	case "finish":
		return r.commandFinish(now, c)
	case "cancel":
		if c.state != "queued" {
			return commandReply("NO", c)
		}
		r.commandMove(now, c, "cancelled", "cancelled", "by "+r.arg(5))
		return commandReply("OK", c)
	case "expire":
		if c.state != "queued" || !late(now, c) {
			return commandReply("NO", c)
		}
		if before, _ := r.opt(5); before == "1" {
			return r.wentBack(now, c)
		}
		r.commandMove(now, c, "expired", "timeout", "the channel did not take it in time")
		return commandReply("OK", c)
	}
	if !given {
		op = "nil"
	}
	return []string{"INVALID", `unknown operation "` + op + `"`}
}

// commandClaim lets the channel's owner execute a command.
func (r *run) commandClaim(now string, c *command) []string {
	channel, epoch, token, entry := r.arg(5), r.arg(6), r.arg(7), r.arg(8)
	if have, ok := r.text("HGET", r.key("comsrv:", channel, ":fence"), "epoch"); !ok || have != epoch {
		return []string{"FENCED"}
	}
	if c == nil || c.channel != channel || final(c.state) { // nothing to execute behind this entry
		r.call("XDEL", r.key("cmd:", channel, ":queue"), entry)
		if c == nil {
			return []string{"NOTFOUND"}
		}
		return commandReply("NO", c)
	}
	if c.state == "executing" {
		if c.token == token {
			return commandReply("OK", c)
		}
		if c.epoch != epoch { // claimed by an owner that is gone: whether it was sent, nobody knows
			r.commandMove(now, c, "unknown", "owner_lost", "the engine that executed it ended before the result was known")
		}
		return commandReply("NO", c)
	}
	if c.state != "queued" {
		return commandReply("NO", c)
	}
	if before, _ := r.opt(9); before == "1" {
		return r.wentBack(now, c)
	}
	if late(now, c) {
		r.commandMove(now, c, "expired", "timeout", "the channel did not take it in time")
		return commandReply("NO", c)
	}
	again := &command{model: c.model, control: c.control, value: c.value}
	reason, detail := r.commandRefusal(again)
	if reason == "" && (again.channel != c.channel || again.point != c.point) {
		reason, detail = "no_mapping", c.model+":"+c.control+" is bound to another point now"
	}
	if reason != "" {
		r.commandMove(now, c, "rejected", reason, detail)
		return commandReply("NO", c)
	}
	if field(again.policy, "safe") != nil { // from now on somebody has to stand behind it
		r.call("HSET", r.key("cmd:", channel, ":held"), c.point, now+" "+c.origin)
	}
	c.epoch, c.token = epoch, token
	r.commandMove(now, c, "executing", "", "")
	return commandReply("OK", c)
}

// commandHeld answers how long ago each control that has a safe value was last
// operated, or whoever operated it last said that it is alive.
func (r *run) commandHeld(now string) []string {
	reply := []string{"OK"}
	for _, held := range r.pairs(r.key("cmd:", r.arg(4), ":held")) {
		at, origin, ok := strings.Cut(held[1], " ")
		if !ok || at == "" || !digits(at) {
			continue
		}
		alive, _ := r.text("HGET", r.key("cmd:sources"), origin)
		last, any := 0.0, false
		for _, text := range []string{at, alive} {
			// a time to come is of a clock that was set back since, and says nothing
			if ms, ok := number(text); ok && ms <= mustNumber(now)+commandSkew {
				last, any = max(last, ms), true
			}
		}
		if any {
			reply = append(reply, held[0], rounded(mustNumber(now)-last))
		}
	}
	return reply
}

// commandRecord records what the channel's owner does by itself.
func (r *run) commandRecord(now string, c *command) []string {
	token, channel, epoch, state := r.arg(5), r.arg(8), r.arg(11), r.arg(12)
	if epoch != "" {
		if have, ok := r.text("HGET", r.key("comsrv:", channel, ":fence"), "epoch"); !ok || have != epoch {
			return []string{"FENCED"}
		}
	}
	switch {
	case c != nil && c.token != token:
		return commandReply("NO", c)
	case c != nil && c.state == state:
		return commandReply("OK", c)
	case c != nil && final(c.state) && (c.state != "unknown" || state == "executing"):
		return commandReply("NO", c)
	case c == nil:
		created := rounded(mustNumber(now) - mustNumber(r.arg(16)))
		c = &command{id: r.arg(4), token: token, epoch: epoch, model: r.arg(6), control: r.arg(7), channel: channel, point: r.arg(9),
			value: r.arg(10), origin: "failsafe", created: created, deadline: created}
		if state == "executing" { // so that the next owner ends it, should this one not come to it
			c.entry, _ = r.text("XADD", r.key("cmd:", channel, ":queue"), "*", "id", c.id, "point", c.point, "value", c.value)
		}
		r.commandStore(c, 0)
	}
	c.readBack = r.arg(15)
	r.commandMove(now, c, state, r.arg(13), r.arg(14))
	return commandReply("OK", c)
}

// wentBack ends a queued command that the caller claimed before.
func (r *run) wentBack(now string, c *command) []string {
	r.commandMove(now, c, "unknown", "store_went_back", "it was claimed before, and the store has lost what became of it")
	return commandReply("NO", c)
}

// commandFinish stores the final state of a command that was claimed.
func (r *run) commandFinish(now string, c *command) []string {
	token, state := r.arg(5), r.arg(6)
	claimed, _ := r.opt(10)
	back := claimed == "1" && c.token == "" && (c.state == "queued" || c.state == "unknown" || c.state == "superseded")
	if c.token != token && !back {
		return commandReply("NO", c)
	}
	if c.state == state {
		return commandReply("OK", c)
	}
	// unknown may still be settled by whoever executed it
	if c.state != "executing" && c.state != "unknown" && !back {
		return commandReply("NO", c)
	}
	c.token, c.readBack = token, r.arg(9)
	r.commandMove(now, c, state, r.arg(7), r.arg(8))
	return commandReply("OK", c)
}
