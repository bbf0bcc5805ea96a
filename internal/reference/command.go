package reference

import (
	"math"
	"strconv"
	"strings"
)

const (
	commandKept    = 86400    // seconds that a record stays after its final state
	commandEntries = "100000" // of the journal
	commandSkew    = 1000     // ms that a time may be ahead of the clock
)

// final reports whether a command in this state is over.
func final(state string) bool {
	switch state {
	case "verified", "executed", "failed", "expired", "rejected", "cancelled", "superseded", "unknown":
		return true
	}
	return false
}

// commandFields are the fields of a record; the first of them are journalled.
var commandFields = []string{"id", "model", "control", "channel", "point", "value", "state", "reason", "detail",
	"origin", "user", "read_back", "created", "updated", "deadline", "entry", "token", "epoch"}

const journalled = 15

// command is a record.
type command struct {
	id, model, control, channel, point, value, state, reason, detail, origin, user, readBack,
	created, updated, deadline, entry, token, epoch string
	policy any // of the control, where it was looked up
}

// values are the places of commandFields.
func (c *command) values() []*string {
	return []*string{&c.id, &c.model, &c.control, &c.channel, &c.point, &c.value, &c.state, &c.reason, &c.detail,
		&c.origin, &c.user, &c.readBack, &c.created, &c.updated, &c.deadline, &c.entry, &c.token, &c.epoch}
}

// commandLoad returns a record, nil when there is none.
func (r *run) commandLoad(id string) *command {
	h := r.list(append([]string{"HMGET", r.key("command:", id)}, commandFields...)...)
	if _, ok := at(h, 0); !ok {
		return nil
	}
	c := &command{}
	for i, v := range c.values() {
		*v = or(h, i, "")
	}
	return c
}

// commandReply is the reply that carries a record.
func commandReply(code string, c *command) []string {
	reply := make([]string, 0, 1+2*len(commandFields))
	reply = append(reply, code)
	for i, v := range c.values() {
		reply = append(reply, commandFields[i], *v)
	}
	return reply
}

// commandMove stores a new state and tells everybody.
func (r *run) commandMove(now string, c *command, state, reason, detail string) {
	c.state, c.reason, c.detail, c.updated = state, reason, detail, now
	entry := []string{"XADD", r.key("command:journal"), "MAXLEN", "~", commandEntries, "*"}
	for i, v := range c.values()[:journalled] {
		entry = append(entry, commandFields[i], *v)
	}
	r.call(entry...)
	key := r.key("command:", c.id)
	r.call("HSET", key, "state", state, "reason", reason, "detail", detail, "updated", now,
		"token", c.token, "epoch", c.epoch, "read_back", c.readBack)
	if final(state) {
		r.call("EXPIRE", key, strconv.Itoa(commandKept))
		if c.entry != "" {
			r.call("XDEL", r.key("cmd:", c.channel, ":queue"), c.entry)
		}
	}
	r.call("PUBLISH", r.key("command:journal"), c.id)
}

// commandStore writes the record of a new command, all but its state. timeout is in ms.
func (r *run) commandStore(c *command, timeout float64) {
	record := r.key("command:", c.id)
	r.call("HSET", record, "id", c.id, "model", c.model, "control", c.control, "channel", c.channel,
		"point", c.point, "value", c.value, "origin", c.origin, "user", c.user, "created", c.created, "deadline", c.deadline, "entry", c.entry)
	r.call("EXPIRE", record, rounded(math.Floor(timeout/1000)+2*commandKept))
}

// commandRefusal is why a command must not be given, "" for no reason. It fills
// in channel and point, the stored form of the value, and the policy of the control.
func (r *run) commandRefusal(c *command) (reason, detail string) {
	v, ok := number(c.value)
	if !ok {
		return "not_finite", "the value is not a finite decimal number"
	}
	c.value = stored(v)
	known := r.integer("EXISTS", r.key("model:", c.model)) == 1
	if known || r.integer("EXISTS", r.key("model:enabled")) == 1 {
		if r.integer("SISMEMBER", r.key("model:enabled"), c.model) == 0 {
			if !known {
				return "no_model", "there is no model " + c.model
			}
			return "disabled", "model " + c.model + " is disabled"
		}
	}
	bound := c.model + ":" + c.control
	target, ok := r.text("HGET", r.key("mapping:m2c"), bound)
	if !ok {
		return "no_mapping", bound + " is not bound to a point"
	}
	channel, point, ok := pair(target)
	if !ok {
		return "no_mapping", bound + ` is bound to "` + target + `", which is no channel:point`
	}
	c.channel, c.point = channel, point
	text, given := r.text("HGET", r.key("point:", channel), point)
	p := decode(text, given)
	if given && p == nil {
		return "bad_point", "the definition of " + target + " is not JSON"
	}
	if reason, detail = pointRefusal(p, target, c.value, v); reason != "" {
		return reason, detail
	}
	text, given = r.text("HGET", r.key("model:", c.model), "policy:"+c.control)
	if !given {
		return "", ""
	}
	if c.policy = decode(text, given); c.policy == nil {
		return "bad_policy", "the policy of " + bound + " is not JSON"
	}
	safe, ok := numberOf(field(c.policy, "safe"))
	if field(c.policy, "safe") != nil && !ok {
		return "bad_policy", "the safe value of " + bound + " is not a number"
	}
	if ok && stored(safe) == c.value { // nothing forbids the way back
		return "", ""
	}
	if forbidden := r.interlockRefusal(c.policy); forbidden != "" {
		return "interlock", forbidden
	}
	return "", ""
}

// interlockRefusal is why an interlock forbids to operate now, "" for no reason.
func (r *run) interlockRefusal(policy any) string {
	list := field(policy, "interlocks")
	if list == nil {
		return ""
	}
	if len(items(list)) == 0 {
		return "the list of interlocks cannot be read"
	}
	for n, i := range items(list) {
		name := "interlock " + strconv.Itoa(n+1)
		if !table(i) {
			return name + " cannot be read"
		}
		if s, ok := field(i, "name").(string); ok {
			name += " (" + s + ")"
		}
		model, ok1 := field(i, "model_id").(string)
		point, ok2 := field(i, "point_name").(string)
		threshold, ok3 := numberOf(field(i, "threshold"))
		operator := field(i, "operator")
		if _, known := compare(0, operator, 0); !ok1 || !ok2 || !ok3 || !known {
			return name + " cannot be read"
		}
		what := name + ": " + model + ":" + point
		v, ok, quality, marked := r.pointValue(model, point)
		switch {
		case !ok && marked:
			return what + " is " + quality
		case !ok:
			return what + " is not known"
		}
		bound, _ := r.text("HGET", r.key("model:", model), "binding:"+point)
		if kind, source, ok := strings.Cut(bound, ":"); ok && kind != "" && letters(kind) {
			if channel, _, ok := pair(source); ok {
				if reason, _ := r.commandUnowned(channel, false); reason != "" {
					return what + " is not current: no engine runs channel " + channel
				}
			}
		}
		if met, _ := compare(v, operator, threshold); met {
			return what + " is " + stored(v) + ", which is " + concat(operator) + " " + stored(threshold)
		}
	}
	return ""
}

// pointRefusal is what the point's definition says against a value.
func pointRefusal(p any, target, value string, v float64) (reason, detail string) {
	if kind := field(p, "kind"); kind != nil && kind != "control" && kind != "adjustment" {
		return "not_writable", target + " is a " + tostring(kind)
	}
	var limits [3]float64 // min, max, step
	var given [3]bool
	for i, name := range []string{"min", "max", "step"} {
		f := field(p, name)
		limits[i], given[i] = numberOf(f)
		if f != nil && !given[i] { // a limit that cannot be read is not "no limit"
			return "bad_point", "the " + name + " of " + target + " is not a number"
		}
	}
	low, high, step := limits[0], limits[1], limits[2]
	if given[0] && v < low-0.0000005 {
		return "limit", value + " is below the minimum " + stored(low) + " of " + target
	}
	if given[1] && v > high+0.0000005 {
		return "limit", value + " is above the maximum " + stored(high) + " of " + target
	}
	if given[2] && step > 0 {
		n := (v - low) / step
		if math.Abs(n-math.Floor(n+0.5))*step > 0.000001 {
			return "step", value + " is not on the step " + stored(step) + " of " + target
		}
	}
	return enumRefusal(p, target, value, v)
}

// enumRefusal is what the point's labels say against a value, where it takes no
// other values.
func enumRefusal(p any, target, value string, v float64) (reason, detail string) {
	if field(p, "enum") != true {
		return "", ""
	}
	labels := field(p, "labels")
	if !table(labels) {
		return "bad_point", target + " takes the values of its labels only, and has none"
	}
	n := math.Floor(v + 0.5)
	if _, ok := field(labels, rounded(n)).(string); ok && math.Abs(v-n) < 0.0000005 {
		return "", ""
	}
	return "enum", value + " is none of the labelled values of " + target
}

// tostring is Lua's, but for tables, which have no text there that is the same twice.
func tostring(v any) string {
	switch v := v.(type) {
	case string, float64:
		return concat(v)
	case bool:
		return strconv.FormatBool(v)
	}
	return "table"
}

// commandUnowned is why nobody would execute a command, "" for no reason.
func (r *run) commandUnowned(channel string, needOwner bool) (reason, detail string) {
	if r.integer("EXISTS", r.key("comsrv:", channel, ":owner")) == 0 &&
		(needOwner || r.integer("EXISTS", r.key("comsrv:", channel, ":status")) == 1) {
		return "channel_stopped", "no engine runs channel " + channel
	}
	return "", ""
}

// commandSweep ends the oldest commands of a queue whose time is over.
func (r *run) commandSweep(now, queue string) {
	for _, e := range r.list("XRANGE", queue, "-", "+", "COUNT", "3") {
		entry, _ := e.([]any)
		if len(entry) < 2 {
			fail("XRANGE: not an entry: %v", e)
		}
		id := or(entry, 0, "")
		fields, _ := entry[1].([]any)
		var c *command
		for i := 0; i+1 < len(fields); i += 2 {
			if or(fields, i, "") == "id" {
				c = r.commandLoad(or(fields, i+1, ""))
			}
		}
		if c == nil || final(c.state) {
			r.call("XDEL", queue, id)
		} else if c.state == "queued" && late(now, c) {
			r.commandMove(now, c, "expired", "timeout", "the channel did not take it in time")
		}
	}
}

// late reports whether a command's time is over, as a deadline is that nobody can
// read, and one that was given when the clock was ahead of now.
func late(now string, c *command) bool {
	at := mustNumber(now)
	deadline, _ := number(c.deadline)
	created, _ := number(c.created)
	return at > deadline || at+commandSkew < created
}

var originEscape = strings.NewReplacer("%", "%25", ":", "%3A")

// commandKey is the key of an idempotency key.
func (r *run) commandKey(origin, key string) string {
	return r.key("command:key:", originEscape.Replace(origin), ":", key)
}

// commandSupersede ends the command that waits for the same point: the newer one
// takes its place.
func (r *run) commandSupersede(now string, c *command) {
	latest := r.key("cmd:", c.channel, ":latest")
	before, ok := r.text("HGET", latest, c.point)
	r.call("HSET", latest, c.point, c.id)
	if field(c.policy, "queue") == true || !ok || before == c.id {
		return
	}
	old := r.commandLoad(before)
	if old != nil && old.state == "queued" && old.channel == c.channel && old.point == c.point {
		r.commandMove(now, old, "superseded", "superseded", "by "+c.id)
	}
}

// commandSubmit records a command and queues it, or records why not. c has id
// (empty: one is made), model, control, value, origin and user; timeout is in
// ms. The same id or key again changes nothing and answers the first record.
func (r *run) commandSubmit(now string, c *command, key string, timeout float64, needOwner bool) []string {
	if c.id == "" {
		c.id = "c" + now + "-" + whole(float64(r.integer("INCR", r.key("commands:counter"))))
	}
	if before := r.commandLoad(c.id); before != nil {
		return commandReply("DUPLICATE", before)
	}
	idempotency := r.commandKey(c.origin, key)
	if key != "" {
		if first, ok := r.text("GET", idempotency); ok {
			if before := r.commandLoad(first); before != nil {
				return commandReply("DUPLICATE", before)
			}
		}
	}
	c.created, c.updated, c.state = now, now, "queued"
	c.deadline = rounded(mustNumber(now) + timeout)
	reason, detail := r.commandRefusal(c)
	if reason == "" {
		reason, detail = r.commandUnowned(c.channel, needOwner)
	}
	if reason == "not_finite" {
		c.value = "0.000000"
	}
	queue := r.key("cmd:", c.channel, ":queue")
	if reason == "" { // first what may fail: a key of a foreign type must not leave half a command
		r.commandSweep(now, queue)
		c.entry, _ = r.text("XADD", queue, "*", "id", c.id, "point", c.point, "value", c.value)
	}
	r.commandStore(c, timeout)
	if key != "" {
		r.call("SET", idempotency, c.id, "EX", rounded(math.Floor(timeout/1000)+commandKept))
	}
	state := "queued"
	if reason != "" {
		state = "rejected"
	}
	if err := protect(func() { r.commandMove(now, c, state, reason, detail) }); err != nil {
		r.call("DEL", r.key("command:", c.id)) // the caller is told that it failed: then nobody must execute it
		if c.entry != "" {
			r.call("XDEL", queue, c.entry)
		}
		panic(failure{err})
	}
	if reason != "" {
		return commandReply("REJECTED", c)
	}
	_ = protect(func() { r.commandSupersede(now, c) })                             // an older one that stays is executed first
	_, _ = r.pcall("HSET", r.key("cmd:", c.channel, ":control"), c.point, c.value) // for others to read: never the reason to fail
	r.call("PUBLISH", r.key("cmd:", c.channel, ":control"), c.point+":"+c.value)
	return commandReply("OK", c)
}
