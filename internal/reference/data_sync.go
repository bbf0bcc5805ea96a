package reference

import "strconv"

// dataSync is data_sync: values from channels to models, commands from models
// to channels.
func (r *run) dataSync() []string {
	op, given := r.opt(1)
	if op == "batch" {
		return r.batch()
	}
	if inactive := r.guard(0, 0); inactive != nil {
		return inactive
	}
	switch {
	case op == "c2m":
		return r.c2m()
	case op == "m2c":
		return r.m2c()
	case !given:
		op = "nil"
	}
	return []string{"INVALID", `want c2m, m2c or batch, not "` + op + `"`}
}

// dueInBatch is how many timers a batch runs at most.
const dueInBatch = 50

// chunk is how many arguments a call has at most, as the embedded store needs it.
const chunk = 1000

// attempt is a write of a batch: a key of a foreign type costs that key alone.
func (r *run) attempt(report *[]string, args ...string) any {
	reply, err := r.pcall(args...)
	if err != nil {
		*report = append(*report, "write of "+args[1]+": "+err.Text)
		return nil
	}
	return reply
}

func (r *run) attemptFields(report *[]string, command, key string, list []string) {
	for len(list) > 0 {
		n := min(len(list), chunk)
		args := make([]string, 0, 2+n)
		r.attempt(report, append(append(args, command, key), list[:n]...)...)
		list = list[n:]
	}
}

// timeOfAll stores one time for all names of a model, under '*'.
func (r *run) timeOfAll(now, key string, names []string) {
	kept := []string{"HSET", key, "*", now}
	if len(names) > 0 {
		reply, _ := r.pcall(append([]string{"HMGET", key, "*"}, names...)...)
		before, _ := reply.([]any)
		for i, name := range names {
			kept = append(kept, name, or(before, i+1, or(before, 0, "")))
		}
	}
	r.call("DEL", key)
	r.call(kept...)
}

func (r *run) runRule(now, id string, report *[]string) {
	var notes []string
	if err := protect(func() { r.ruleRun(now, id, false, &notes, report) }); err != nil {
		*report = append(*report, "rule "+id+": "+err.Text)
	}
}

// batch is a whole batch of one channel, resolved beforehand.
func (r *run) batch() []string {
	if refusal := r.guard(3, 5); refusal != nil {
		return refusal
	}
	fence := r.key("comsrv:", r.arg(5), ":fence")
	epoch, batchNumber := r.arg(6), r.arg(7)
	f := r.list("HMGET", fence, "epoch", "batch")
	if have, ok := at(f, 0); !ok || have != epoch {
		return []string{"FENCED", have}
	}
	if last, ok := at(f, 1); ok { // also a lower number: a request that a broken connection delivers late
		if done, _ := number(last); done >= mustNumber(batchNumber) {
			return []string{"DUPLICATE"}
		}
	}
	version, _ := r.text("GET", r.key("mapping:version"))
	if want, ok := r.opt(4); !ok || version != want {
		return []string{"MAPPING", version}
	}
	now := r.nowArg(2)
	r.call("HSET", fence, "batch", batchNumber)
	report := []string{"OK"}
	r.alarmDue(now, dueInBatch, &report) // first what was due before these values came
	b := batch{run: r, now: now, fence: fence, report: &report}
	for i := 9; i <= len(r.argv); {
		length := b.section(i)
		if length == 0 {
			report = append(report, `section "`+r.arg(i)+`" at argument `+strconv.Itoa(i)+` is unknown: the rest was left out`)
			break
		}
		i += length
	}
	return report
}

// batch is a batch under way.
type batch struct {
	*run
	now, fence string
	report     *[]string
	total      string // points queued so far, once it is known
}

// section does the section that begins at ARGV[i] and returns how long it is, 0
// for an unknown one.
func (b *batch) section(i int) (length int) {
	switch b.arg(i) {
	case "S":
		n := 2 * count(b.arg(i+2))
		b.attemptFields(b.report, "HSET", b.arg(i+1), b.args(i+3, i+2+n))
		return 3 + n
	case "D":
		n := count(b.arg(i + 2))
		b.attemptFields(b.report, "HDEL", b.arg(i+1), b.args(i+3, i+2+n))
		return 3 + n
	case "T":
		n := count(b.arg(i + 2))
		times := make([]string, 0, 2*n)
		for _, name := range b.args(i+3, i+2+n) {
			times = append(times, name, b.now)
		}
		b.attemptFields(b.report, "HSET", b.arg(i+1), times)
		return 3 + n
	case "N":
		n := count(b.arg(i + 2))
		b.timeOfAll(b.now, b.arg(i+1), b.args(i+3, i+2+n))
		return 3 + n
	case "I":
		n := count(b.arg(i + 1))
		b.attempt(b.report, append([]string{"DEL"}, b.args(i+2, i+1+n)...)...)
		return 2 + n
	case "P":
		b.call("PUBLISH", b.arg(i+1), b.arg(i+2))
		return 3
	case "X":
		b.queue(b.arg(i+1), b.arg(i+2), b.arg(i+3), b.arg(i+4))
		return 5
	case "A":
		n := count(b.arg(i + 1))
		b.batchAlarms(b.now, i+2, n, b.report)
		return 2 + n*5
	case "R":
		n := count(b.arg(i + 1))
		for _, id := range b.args(i+2, i+1+n) {
			b.runRule(b.now, id, b.report)
		}
		return 2 + n
	}
	return 0
}

// queue appends the batch's points to a stream. They are counted once for all
// streams, for each has the same points.
func (b *batch) queue(key, limit, channel, points string) {
	if b.total == "" {
		b.total = "0"
		if n, ok := b.attempt(b.report, "HINCRBY", b.fence, "points", b.arg(8)).(int64); ok {
			b.total = whole(float64(n))
		}
	}
	b.attempt(b.report, "XADD", key, "MAXLEN", "~", limit, "*", "v", "1", "channel", channel,
		"time", b.now, "count", b.total, "points", points)
}

// c2m is one value by hand.
func (r *run) c2m() []string {
	channel, _ := r.opt(2)
	point, _ := r.opt(3)
	text, given := r.opt(4)
	v, ok := number(text)
	if channel == "" || point == "" {
		return []string{"INVALID", "want: c2m <channel> <point> <value>"}
	}
	if !given {
		text = "nil"
	}
	if !ok {
		return []string{"INVALID", `value "` + text + `" is not a finite decimal number`}
	}
	now, value, report := r.nowArg(5), stored(v), []string{"OK"}
	r.alarmDue(now, dueInBatch, &report)
	targets, _ := r.text("HGET", r.key("mapping:c2m"), channel+":"+point)
	r.call("HSET", r.key("comsrv:", channel, ":m"), point, value)
	r.call("HDEL", r.key("comsrv:", channel, ":quality"), point)
	var hit [][2]string
	for _, target := range parts(targets) {
		model, name, ok := pair(target)
		if !ok {
			report = append(report, "mapping of "+channel+":"+point+` to "`+target+`" is malformed and was skipped`)
			continue
		}
		r.call("HSET", r.key("modsrv:", model, ":measurement"), name, value)
		r.call("HSET", r.key("modsrv:", model, ":ts"), name, now)
		r.call("HDEL", r.key("modsrv:", model, ":quality"), name)
		r.call("DEL", r.key("cache:model:", model, ":values"))
		r.call("PUBLISH", r.key("modsrv:", model, ":update"), name+":"+value)
		hit = append(hit, [2]string{model, name})
		report = append(report, target+" = "+value)
	}
	// all values first, then alarms, then rules
	for _, t := range hit {
		if err := protect(func() { r.alarmCheck(now, t[0], t[1], sampled(value, v), &report) }); err != nil {
			report = append(report, "alarms of "+t[0]+":"+t[1]+": "+err.Text)
		}
	}
	for _, t := range hit {
		ids, _ := r.text("HGET", r.key("rules:index"), t[0]+":"+t[1])
		for _, id := range parts(ids) {
			r.runRule(now, id, &report)
		}
	}
	return report
}

// m2c is one command by hand.
func (r *run) m2c() []string {
	model, hasModel := r.opt(2)
	control, hasControl := r.opt(3)
	value, hasValue := r.opt(4)
	if !hasModel || !hasControl || !hasValue {
		return []string{"INVALID", "want: m2c <model> <control> <value>"}
	}
	return r.commandSubmit(r.nowArg(5), &command{model: model, control: control, value: value, origin: "script"}, "", 10000, false)
}
