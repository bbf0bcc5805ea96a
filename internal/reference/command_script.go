package reference

import "math"

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
	}
	c := r.commandLoad(r.arg(4))
	if op == "claim" {
		return r.commandClaim(now, c)
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
		if c.state != "queued" || !late(now, c.deadline) {
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
	if late(now, c.deadline) {
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
	c.epoch, c.token = epoch, token
	r.commandMove(now, c, "executing", "", "")
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
	back := claimed == "1" && c.token == "" && (c.state == "queued" || c.state == "unknown")
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
