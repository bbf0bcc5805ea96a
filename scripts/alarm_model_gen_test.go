package scripts_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// alarmGenerator makes steps of a site with the points m:p, m:q and m:on, and a
// channel. It looks at the Go counterpart to find alarms that there are.
type alarmGenerator struct {
	*dice
	site  *alarmSite
	now   int64
	first []step
	rules map[string]alarmSpec
}

// alarmSpec is a rule, and what a batch says of it.
type alarmSpec struct {
	operator, limit, hysteresis string
	looks                       []string // at these other points of m
}

func newAlarmGenerator(d *dice, s *alarmSite) *alarmGenerator {
	g := &alarmGenerator{dice: d, site: s, now: start, rules: map[string]alarmSpec{}}
	g.first = []step{
		{"raw", "HSET", "@comsrv:1001:fence", "epoch", "1", "batch", "0"},
		{"raw", "HSET", "@model:m", "binding:p", "measurement:1001:1", "binding:q", "measurement:1001:2"},
		{"raw", "SET", "@comsrv:1001:owner", "e1:1"},
		{"raw", "HSET", "@comsrv:1001:status", "state", "online"},
		{"raw", "HSET", "@rule:r1", "conditions", `[{"model_id":"m","point_name":"on","operator":"==","threshold":1}]`,
			"actions", `[{"type":"alarm","severity":"critical","message":"it is on"}]`},
	}
	return g
}

func (g *alarmGenerator) next() step {
	if len(g.first) > 0 {
		s := g.first[0]
		g.first = g.first[1:]
		return s
	}
	g.now += int64(pick(g.dice, 0, 0, 0, 1, 1, 10, 10, 50, 50, 100, 100, 200, 1000, 1000, 5000, pick(g.dice, 5000, 20000, 60000, 61000)))
	if len(g.rules) < 4 {
		return g.define()
	}
	switch g.n(40) {
	case 0, 1:
		return g.define()
	case 2:
		return g.drop()
	case 3, 4, 5, 6, 7, 8, 9:
		return g.tick()
	case 10, 11, 12, 13, 14, 15:
		return g.desk()
	case 16:
		return g.byHand()
	case 17:
		return g.channel()
	case 18, 19, 20:
		return g.quality()
	}
	return g.sample(pick(g.dice, "p", "p", "p", "p", "q", "q", "on"))
}

func (g *alarmGenerator) at() string { return strconv.FormatInt(g.now, 10) }

// place is where a rule may be.
func (g *alarmGenerator) place() string {
	return pick(g.dice, "m:p:a", "m:p:a", "m:p:b", "m:p:c", "m:q:a", "m:q:b", "channel:1001:down")
}

func (g *alarmGenerator) define() step {
	name := g.place()
	f := strings.Split(name, ":")
	fields, spec := g.condition(f[0], f[1])
	if spec.operator != "rate" && g.chance(15) {
		fields["count"], fields["window_ms"] = pick(g.dice, 2, 2, 3), pick(g.dice, 200, 1000, 60000)
	} else {
		if spec.operator != "change" && g.chance(35) {
			fields["on_delay_ms"] = pick(g.dice, 10, 50, 200, 1000, 0)
		}
		if g.chance(35) {
			fields["off_delay_ms"] = pick(g.dice, 10, 50, 200, 1000, 5000)
		}
	}
	if g.chance(25) {
		fields["latch"] = true
	}
	if f[0] == "m" && g.chance(30) {
		fields["enable"] = map[string]any{"point_name": "on", "operator": "==", "threshold": 1}
		spec.looks = append(spec.looks, "on")
	}
	if g.chance(60) {
		fields["severity"] = pick(g.dice, "low", "medium", "high", "critical")
	}
	if g.chance(5) {
		fields["disabled"] = true
	}
	if g.chance(4) {
		fields["threshold"] = "none"
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	g.rules[name] = spec
	return step{"site_config", "alarm_rule", g.at(), "", f[0], f[1], f[2], string(text)}
}

// condition is the operator of a rule and what it needs.
func (g *alarmGenerator) condition(model, point string) (fields map[string]any, spec alarmSpec) {
	if model == "channel" {
		return map[string]any{"operator": "offline"}, alarmSpec{operator: "offline", limit: "0", hysteresis: "0.000000"}
	}
	op := pick(g.dice, ">", ">", "<", ">=", "<=", "==", "!=", "in_range", "out_of_range", "deviation", "rate", "rate", "change", "bit_set", "bit_clear", "stale", "bad_quality")
	fields, spec = map[string]any{"operator": op}, alarmSpec{operator: op, limit: "0", hysteresis: "0.000000"}
	t := pick(g.dice, 10, 15, 20)
	number := func(n int) string { return strconv.Itoa(n) + ".000000" }
	switch op {
	case "in_range", "out_of_range":
		fields["threshold"], fields["high"] = t, t+10
		spec.limit = number(t) + ":" + number(t+10)
	case "deviation":
		other := map[string]string{"p": "q", "q": "p"}[point]
		fields["threshold"], fields["reference"] = 5, pick(g.dice, other, "m:"+other)
		spec.limit, spec.looks = "5.000000:m:"+other, []string{other}
	case "rate":
		t, window := pick(g.dice, 10, 50, 200), pick(g.dice, 100, 1000)
		fields["threshold"], fields["window_ms"] = t, window
		spec.limit = number(t) + ":" + strconv.Itoa(window)
	case "change", "stale", "bad_quality":
	case "bit_set", "bit_clear":
		fields["threshold"] = pick(g.dice, 0, 2, 4)
		spec.limit = strconv.Itoa(fields["threshold"].(int))
	default:
		fields["threshold"], spec.limit = t, number(t)
	}
	if op != "==" && op != "!=" && g.chance(40) {
		fields["hysteresis"], spec.hysteresis = 1, "1.000000"
	}
	return fields, spec
}

func (g *alarmGenerator) drop() step {
	name := g.place()
	delete(g.rules, name)
	f := strings.Split(name, ":")
	return step{"site_config", "drop_alarm_rule", g.at(), "", f[0], f[1], f[2]}
}

func (g *alarmGenerator) tick() step {
	s := step{"alarm_tick", g.at(), ""}
	if g.chance(40) {
		s = append(s, "1001")
	}
	return s
}

func (g *alarmGenerator) batch(sections ...string) step {
	return append(step{"data_sync", "batch", g.at(), "", "$version", "1001", "1", "$batch", "0"}, sections...)
}

// items are the alarm rules of a point, with what a batch says of it, and those
// that look at it.
func (g *alarmGenerator) items(point, said string) []string {
	var list []string
	n := 0
	for _, name := range []string{"m:p:a", "m:p:b", "m:p:c", "m:q:a", "m:q:b"} {
		spec, ok := g.rules[name]
		switch {
		case !ok:
		case strings.HasPrefix(name, "m:"+point+":"):
			list, n = append(list, name, said, spec.operator, spec.limit, spec.hysteresis), n+1
		case slices.Contains(spec.looks, point):
			list, n = append(list, name, "", spec.operator, spec.limit, spec.hysteresis), n+1
		}
	}
	return append([]string{"A", strconv.Itoa(n)}, list...)
}

func (g *alarmGenerator) value(point string) string {
	if point == "on" {
		return pick(g.dice, "0.000000", "1.000000", "1.000000")
	}
	return pick(g.dice, "0.000000", "9.000000", "9.000001", "10.000000", "10.500000", "14.000000", "15.000000", "15.000001", "16.000000", "19.500000",
		"20.000000", "20.000001", "21.000000", "25.000000", "30.000000", "31.000000", "-5.000000")
}

func (g *alarmGenerator) sample(point string) step {
	v := g.value(point)
	said := v
	if g.chance(20) {
		said += "@" + strconv.FormatInt(g.now-int64(g.n(1000)), 10)
	}
	sections := []string{"S", "@modsrv:m:measurement", "1", point, v, "D", "@modsrv:m:quality", "1", point}
	sections = append(sections, g.items(point, said)...)
	if point == "on" {
		sections = append(sections, "R", "1", "r1")
	}
	return g.batch(sections...)
}

func (g *alarmGenerator) quality() step {
	point, quality := pick(g.dice, "p", "p", "q", "on"), pick(g.dice, "stale", "offline", "bad", "uncertain")
	sections := []string{"S", "@modsrv:m:quality", "1", point, quality}
	if quality != "uncertain" {
		sections = append(sections, g.items(point, "!"+quality)...)
	}
	return g.batch(sections...)
}

func (g *alarmGenerator) byHand() step {
	point := pick(g.dice, "p", "q")
	return step{"alarm_check", "m", point, pick(g.dice, g.value(point), g.value(point), "!stale", "!bad"), g.at()}
}

func (g *alarmGenerator) channel() step {
	return pick(g.dice, step{"raw", "DEL", "@comsrv:1001:owner"}, step{"raw", "SET", "@comsrv:1001:owner", "e1:1"}, step{"raw", "SET", "@comsrv:1001:owner", "e1:1"},
		step{"raw", "HSET", "@comsrv:1001:status", "state", pick(g.dice, "online", "online", "offline", "connecting")})
}

// desk is what a person does, mostly with an alarm that there is.
func (g *alarmGenerator) desk() step {
	target := g.target()
	head := func(op string, rest ...string) step {
		return append(step{"alarm_desk", op, g.at(), "", target, "ann"}, rest...)
	}
	switch g.n(16) {
	case 0, 1, 2, 3, 4:
		return head("ack", "seen")
	case 5:
		return head("close", "over")
	case 6, 7:
		return head("reset", "again")
	case 8, 9:
		return head("shelve", "too loud", strconv.FormatInt(g.now+int64(pick(g.dice, 50, 200, 1000, 20000)), 10))
	case 10, 11:
		return head("unshelve", "")
	case 12:
		return head("out_of_service", "repair")
	case 13, 14:
		return head("in_service", "done")
	}
	s := step{"alarm_desk", "ack_many", g.at(), "", "ann", "all of them"}
	for range 1 + g.n(4) {
		s = append(s, g.target())
	}
	return s
}

func (g *alarmGenerator) target() string {
	active := g.site.memory.Key(g.site.prefix + "alarm:active").List
	if len(active) > 0 && g.chance(50) {
		return pick(g.dice, active...)
	}
	if shelved := g.site.memory.Key(g.site.prefix + "alarm:shelved").Hash; len(shelved) > 0 && g.chance(50) {
		for _, name := range []string{"m:p:a", "m:p:b", "m:p:c", "m:q:a", "m:q:b", "channel:1001:down", "rule:r1:action1"} {
			if shelved[name] != "" && g.chance(60) {
				return name
			}
		}
	}
	if g.chance(10) {
		return strconv.Itoa(1 + g.n(20))
	}
	return pick(g.dice, g.place(), g.place(), g.place(), "rule:r1:action1")
}
