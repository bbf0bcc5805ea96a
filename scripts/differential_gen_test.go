package scripts_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// The generator of the differential fuzz: a small site, where names meet often,
// that the scripts and other programs define and operate, well and badly.

// What it leaves out, for the stores themselves differ there and no script can
// help it:
//   - lax JSON: the cjson of Redis takes numbers such as 0x10, +1, 01 and nan,
//     and control characters in texts, which the embedded store refuses
//   - JSON, and texts that become notifications, in invalid UTF-8
//   - MAXLEN ~ with a small limit: Redis trims whole nodes, the embedded store exactly
//   - HINCRBY beyond 64 bits: the embedded store wraps around
//   - integers with a sign + or leading zeros where a command wants one
// And a Writer is not asked where it would wait: see writable.

// dice are random numbers: of a generator, or from the bytes of a fuzz input.
type dice struct {
	random  *rand.Rand
	data    []byte
	bounded bool
}

func (d *dice) over() bool { return d.bounded && len(d.data) == 0 }

func (d *dice) n(k int) int {
	if !d.bounded {
		return d.random.IntN(k)
	}
	if len(d.data) == 0 {
		return 0
	}
	b := int(d.data[0])
	d.data = d.data[1:]
	if k > 256 && len(d.data) > 0 {
		b = b<<8 | int(d.data[0])
		d.data = d.data[1:]
	}
	return b % k
}

func (d *dice) chance(percent int) bool { return d.n(100) >= 100-percent }

func pick[T any](d *dice, list ...T) T { return list[d.n(len(list))] }

type generator struct {
	*dice
	now   int64
	given int // commands so far
}

func newGenerator(d *dice) *generator { return &generator{dice: d, now: start} }

func (g *generator) steps(most int) []step {
	list := []step{
		{"raw", "SET", "@site:generation", "g1"},
		{"channel_owner", "acquire", g.time(), "g1", "1001", "e1", "900000"},
		{"channel_owner", "acquire", g.time(), "g1", "1002", "e1", "900000"},
	}
	if g.chance(80) {
		list = append(list, g.base()...)
	}
	for range g.n(8) {
		list = append(list, g.define())
	}
	for len(list) < most && !g.over() {
		list = append(list, g.step())
	}
	return list
}

// base is a site where everything works.
func (g *generator) base() []step {
	define := func(args ...string) step { return append(step{"site_config", args[0], g.time(), "g1"}, args[1:]...) }
	list := []step{
		define("points", "1001", "1", "{}", "2", "{}", "4", `{"kind":"control","min":-100,"max":100,"step":0.5}`),
		define("model", "pcs1", "{}", "1", "measurement", "p", "1001:1", "measurement", "q", "1001:2", "control", "sp", "1001:4"),
		define("model", "bms", "{}", "1", "measurement", "p", "1001:1", "measurement", "t", "1002:3"),
		define("alarm_rule", "pcs1", "p", "hi", `{"operator":">","threshold":20,"hysteresis":5}`),
	}
	for i, id := range []string{"r1", "r2", "r3"} {
		model := pick(g.dice, "pcs1", "bms")
		list = append(list, define("rule", id, id, "0",
			fmt.Sprintf(`[{"model_id":"%s","point_name":"p","operator":"%s","threshold":%d}]`, model, g.operator(), 10+10*i), g.actions(), model+":p"))
	}
	return list
}

// time moves forward, mostly: by what delays are made of.
func (g *generator) time() string {
	switch g.n(40) {
	case 0:
		g.now += int64(pick(g.dice, g.n(20000), 60000, 61000, 1000, 999))
	case 1, 2, 3:
	default:
		g.now += int64(g.n(300))
	}
	return strconv.FormatInt(g.now, 10)
}

func (g *generator) generation() string {

	return pick(g.dice, "g1", "g1", "g1", "g1", "g1", "g1", "g1", "g1", "g1", "", "", "", "", "", "g0")

}

func (g *generator) channel() string { return pick(g.dice, "1001", "1001", "1001", "1002", "ch.3") }
func (g *generator) point() string   { return pick(g.dice, "1", "2", "3", "4", "5", "6") }
func (g *generator) model() string   { return pick(g.dice, "pcs1", "pcs1", "bms", "m-3") }
func (g *generator) name() string    { return pick(g.dice, "p", "p", "p", "q", "t", "sp", "on", "txt") }
func (g *generator) kind() string {
	return pick(g.dice, "measurement", "measurement", "signal", "control", "adjustment")
}
func (g *generator) alarmRule() string { return pick(g.dice, "hi", "lo", "x.1") }
func (g *generator) rule() string      { return pick(g.dice, "r1", "r2", "r3", "r 4") }

// command is one of the last few that were given.
func (g *generator) command() string {
	return "c" + strconv.Itoa(max(g.given-pick(g.dice, 0, 0, 0, 1, 2, 5), 1))
}

func (g *generator) alarm() string {
	return pick(g.dice, "1", "1", "2", "2", "3", "4", "5", "6", "7", "99", "x", "")
}

// target is how a person names an alarm.
func (g *generator) target() string {
	switch g.n(5) {
	case 0, 1:
		return strconv.Itoa(1 + g.n(12))
	case 2:
		return g.alarm()
	case 3:
		return pick(g.dice, "rule:r1:action1", "channel:1001:down", "channel:1002:down", "a:b", "a:b:c:d", "a|b:c:d", ":::", "none:none:none")
	}
	return g.alarmName()
}

func (g *generator) alarmName() string { return g.model() + ":" + g.name() + ":" + g.alarmRule() }
func (g *generator) operator() string  { return pick(g.dice, ">", ">=", "<", "<=", "==", "!=") }

func (g *generator) token() string { return pick(g.dice, "t1", "t1", "t1", "t1", "t1", "t2") }

// value is a number as the engine writes it; around a few thresholds.
func (g *generator) value() string {
	return strconv.FormatFloat(float64(g.n(9)*5)+pick(g.dice, 0, 0, 0, 0.5, 0.1, 0.0000004, -0.000001), 'f', 6, 64)
}

// odd is any text that somebody may give for a number.
func (g *generator) odd() string {
	if g.chance(80) {
		return g.value()
	}
	return pick(g.dice, "nan", "-nan", "inf", "1e3", "0x10", "+5", "-0", ".5", "-.5", "5.", ".", "", "-", "+", " 1", "1 ", "1,5", "1_0",
		"1e16", "1000000000000000", "1000000000000000.000001", "1000000000000001", "-1000000000000000", "99999999999999999999", "007",
		strings.Repeat("1", 41), strings.Repeat("0", 39)+"7", "0."+strings.Repeat("3", 38), "a\x00b", "\xff\xfe", "%d", "12abc", "12\n")
}

// text is any text of a text point, a user, a comment.
func (g *generator) text() string {
	return pick(g.dice, "", "plain", "a,b:c%d", `quo"te \ / back`, "é<&>", "line\nbreak\ttab", "\x7f", strings.Repeat("long ", 60), "$x", "nil", "false")
}

// jsonNumber is a threshold or limit as programs write it.
func (g *generator) jsonNumber() any {
	switch g.n(12) {
	case 0:
		return g.value()
	case 1:
		return pick[any](g.dice, nil, true, false, "", "x", []any{1}, map[string]any{"a": 1}, json.RawMessage("1e3"), json.RawMessage("-0"),
			json.RawMessage("1e300"), json.RawMessage("1E-3"), json.RawMessage("123456789012345678901"), "1e3", " 5", -1, 0.1)
	case 2:
		return g.n(40)
	}
	return json.RawMessage(g.value())
}

// object writes a JSON object, now and then a field twice or the whole malformed.
func (g *generator) object(fields ...any) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := 0; i < len(fields); i += 2 {
		if g.chance(4) {
			continue // missing
		}
		v := fields[i+1]
		if g.chance(3) {
			v = pick[any](g.dice, nil, 5, "", true, []any{}, map[string]any{})
		}
		if b.Len() > 1 {
			b.WriteString(pick(g.dice, ",", ",", " , ", ",\n"))
		}
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		if g.chance(2) {
			fmt.Fprintf(&b, "%q:null,", fields[i])
		}
		fmt.Fprintf(&b, "%q:%s", fields[i], text)
	}
	b.WriteByte('}')
	return g.damaged(b.String())
}

func (g *generator) damaged(text string) string {
	if !g.chance(4) {
		return text
	}
	return pick(g.dice, "", "null", "5", `"text"`, "[]", "{}", "[[]]", text+"x", text[:len(text)/2], "true", "[1,2]", `{"a":{"b":[1,{"c":2}]}}`,
		strings.Repeat("[", 1200), " "+text+" \n", "{"+text)
}

func (g *generator) pointJSON() string {
	kind := pick(g.dice, "measurement", "signal", "control", "control", "adjustment")
	fields := []any{"id", g.point(), "kind", kind}
	if g.chance(20) {
		fields = append(fields, "text", true)
	}
	if g.chance(50) {
		fields = append(fields, "min", g.jsonNumber())
	}
	if g.chance(50) {
		fields = append(fields, "max", g.jsonNumber())
	}
	if g.chance(40) {
		fields = append(fields, "step", pick[any](g.dice, 0.5, 5, 0.1, 0, g.jsonNumber()))
	}
	if g.chance(25) {
		fields = append(fields, "enum", pick[any](g.dice, true, true, false, "true", 1), "labels",
			pick[any](g.dice, map[string]any{"0": "off", "5": "on", "10": "more"}, map[string]any{"5": 5, "-5": "minus"}, []any{"a", "b"}, "x", map[string]any{}))
	}
	if g.chance(2) { // a kind that is none
		fields[3] = pick[any](g.dice, 5, true, "", "other", false)
	}
	return g.object(fields...)
}

// alarmOperator is any operator of an alarm rule.
func (g *generator) alarmOperator() string {
	if g.chance(35) {
		return g.operator()
	}
	return pick(g.dice, "in_range", "out_of_range", "deviation", "rate", "change", "bit_set", "bit_clear", "stale", "bad_quality", "offline")
}

// alarmJSON is an alarm rule, of an operator where it is given, mostly one that works.
func (g *generator) alarmJSON(operator ...string) string {
	op := g.alarmOperator()
	if g.chance(30) {
		op = g.operator()
	}
	if len(operator) > 0 {
		op = operator[0]
	}
	fields := []any{"operator", op, "threshold", g.jsonNumber()}
	if g.chance(3) {
		fields[1] = pick[any](g.dice, "=", "", 5, []any{">"}, "≥")
	}
	switch op {
	case "in_range", "out_of_range":
		fields[3] = pick[any](g.dice, 10, 10, g.jsonNumber())
		fields = append(fields, "high", pick[any](g.dice, 30, 25, 30.5, g.jsonNumber()))
	case "bit_set", "bit_clear":
		fields[3] = pick[any](g.dice, 0, 1, 2, 3, 52, 53, 0.5, -1, g.jsonNumber())
	case "deviation":
		fields[3] = pick[any](g.dice, 5, 7.5, 0, g.jsonNumber())
		fields = append(fields, "reference", pick[any](g.dice, "q", "t", "bms:p", "pcs1:p", "bms:none", "a:b:c", "", 5, "a|b"))
	case "rate":
		fields[3] = pick[any](g.dice, 5, 20, 0.5, g.jsonNumber())
		fields = append(fields, "window_ms", pick[any](g.dice, 1000, 200, 5000, 0))
	}
	if g.chance(40) {
		fields = append(fields, "hysteresis", pick[any](g.dice, 1, 0.1, 5, 0, g.jsonNumber()))
	}
	duration := func() any {
		return pick[any](g.dice, 100, 500, 1000, "300", 5000, 60000, 0, int64(2592000000), int64(2592000001), -1, 0.5, "x")
	}
	if op != "rate" && g.chance(15) {
		fields = append(fields, "count", pick[any](g.dice, 2, 3, 2, 5, 1, 0, 50, 51, 2.5, "x"), "window_ms", pick[any](g.dice, 1000, 5000, 60000, 500, duration()))
	} else {
		if g.chance(30) {
			fields = append(fields, "on_delay_ms", duration())
		}
		if g.chance(30) {
			fields = append(fields, "off_delay_ms", duration())
		}
	}
	if g.chance(25) {
		fields = append(fields, "latch", pick[any](g.dice, true, true, true, false, "true", 1))
	}
	if g.chance(25) {
		fields = append(fields, "enable", json.RawMessage(g.enable()))
	}
	if g.chance(2) {
		fields = append(fields, pick(g.dice, "reference", "high", "count", "window_ms"), pick[any](g.dice, "q", 5, 0, ""))
	}
	if g.chance(50) {
		fields = append(fields, "severity", pick[any](g.dice, "low", "high", "", g.text()))
	}
	if g.chance(50) {
		fields = append(fields, "message", pick[any](g.dice, "too hot", g.text()))
	}
	if g.chance(15) {
		fields = append(fields, "disabled", pick[any](g.dice, true, true, false, "true", 1))
	}
	return g.object(fields...)
}

// enable is a condition of an alarm rule, now and then none.
func (g *generator) enable() string {
	e := map[string]any{"point_name": pick(g.dice, "on", "on", "q"), "operator": pick(g.dice, ">", ">", "<=", "=="), "threshold": pick[any](g.dice, 0, 20, "15")}
	if g.chance(30) {
		e["model_id"] = pick[any](g.dice, "bms", "pcs1", "", 5)
	}
	if g.chance(10) {
		delete(e, pick(g.dice, "point_name", "operator", "threshold"))
	}
	if g.chance(10) {
		e[pick(g.dice, "point_name", "operator", "threshold")] = pick[any](g.dice, 5, "", "deviation", nil, []any{})
	}
	text, err := json.Marshal(pick[any](g.dice, e, e, e, e, e, e, e, e, e, e, e, "x", []any{}))
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (g *generator) list(most int, element func() string) string {
	parts := make([]string, 1+g.n(pick(g.dice, 1, most)))
	for i := range parts {
		parts[i] = element()
		if parts[i] == "" {
			parts[i] = "7"
		}
		if g.chance(3) {
			parts[i] = pick(g.dice, "null", " null ", `"null"`, `[null]`, `"a\\",null`, `{"a":null}`)
		}
	}
	if g.chance(3) {
		parts = nil
	}
	return g.damaged("[" + strings.Join(parts, ",") + "]")
}

func (g *generator) conditions() string {
	return g.list(3, func() string {
		fields := []any{"operator", g.operator(), "threshold", g.jsonNumber()}
		switch g.n(8) {
		case 0:
			fields = append(fields, "key", pick[any](g.dice, "modsrv:"+g.model()+":"+g.kind(), "comsrv:1001:m", "mapping:version", 5, "none"), "field", pick[any](g.dice, g.name(), g.point(), 5))
		case 1:
			fields = append(fields, "model_id", pick[any](g.dice, g.model(), 5, 0.1, 1e20, true, []any{}, ""), "point_name", pick[any](g.dice, g.name(), 1, 0.5, false, map[string]any{}))
		default:
			fields = append(fields, "model_id", g.model(), "point_name", g.name())
		}
		return g.object(fields...)
	})
}

func (g *generator) actions() string {
	return g.list(3, func() string {
		fields := []any{"type", pick(g.dice, "control", "alarm", "notification", "notification")}
		if g.chance(4) {
			fields[1] = pick[any](g.dice, "call", 5, "", []any{})
		}
		fields = append(fields, "model_id", g.model(), "control_name", pick(g.dice, "sp", "sp", g.name()), "value", g.jsonNumber())
		if g.chance(60) {
			fields = append(fields, "severity", pick[any](g.dice, "high", "", 5, g.text()), "message", pick[any](g.dice, "act", "", g.text(), []any{}))
		}
		return g.object(fields...)
	})
}

// policy is that of a control.
func (g *generator) policy() string {
	var fields []any
	if g.chance(70) {
		fields = append(fields, "safe", pick[any](g.dice, 0, 5, 10, g.jsonNumber()))
	}
	if g.chance(70) {
		fields = append(fields, "interlocks", json.RawMessage(g.interlocks()))
	}
	if g.chance(20) {
		fields = append(fields, "queue", pick[any](g.dice, true, true, false, "true", 1))
	}
	return g.object(fields...)
}

func (g *generator) interlocks() string {
	list := make([]string, g.n(4))
	for i := range list {
		model, name := any(g.model()), any(g.name())
		if g.chance(3) {
			model, name = pick[any](g.dice, 5, true, nil, []any{}), pick[any](g.dice, 5, name, "")
		}
		text, err := json.Marshal(map[string]any{"model_id": model, "point_name": name, "operator": pick(g.dice, ">", "<", "<", "==", "~"),
			"threshold": pick[any](g.dice, 0, 0, 30, g.jsonNumber()), "name": pick[any](g.dice, "low", g.text(), nil, 5)})
		if err != nil {
			panic(err)
		}
		list[i] = pick(g.dice, string(text), string(text), string(text), string(text), string(text), string(text), "7", "[]", "{}")
	}
	return "[" + strings.Join(list, ",") + "]"
}

// define is a definition, by site_config or by another program.
func (g *generator) define() step {
	now, generation := g.time(), "g1"
	if g.chance(5) {
		generation = g.generation()
	}
	head := func(op string, rest ...string) step { return append(step{"site_config", op, now, generation}, rest...) }
	switch g.n(18) {
	case 16:
		return head("alarm_rule", "channel", g.channel(), "down", g.alarmJSON("offline"))
	case 0, 1, 2, 3:
		s := head("model", g.model(), g.object("id", "x"), pick(g.dice, "1", "1", "1", "1", "0"))
		for range g.n(6) {
			s = append(s, g.kind(), g.name(), g.channel()+":"+g.point())
		}
		if g.chance(70) {
			s = append(s, "control", "sp", "1001:"+pick(g.dice, "4", "4", "5"))
		}
		if g.chance(50) {
			s = append(s, "policy", "sp", g.policy())
		}
		return s
	case 4, 5, 6:
		s := head("points", g.channel())
		for _, id := range []string{"1", "2", "3", "4", "5", "6"} {
			if g.chance(80) {
				s = append(s, id, g.pointJSON())
			}
		}
		return s
	case 7, 8, 9, 17:
		return head("alarm_rule", g.model(), g.name(), g.alarmRule(), g.alarmJSON())
	case 10, 11, 12:
		s := head("rule", g.rule(), "name", pick(g.dice, "0", "0", "0", "0", "1"), g.conditions(), g.actions())
		for range g.n(4) {
			s = append(s, g.model()+":"+g.name())
		}
		return s
	case 13:
		s := head("touch")
		for range g.n(4) {
			s = append(s, g.model()+":"+g.name(), pick(g.dice, "r1", "r1,r2", "r3,,r 4", ","))
		}
		return s
	}
	return pick(g.dice, head("drop_model", g.model()), head("drop_points", g.channel()), head("drop_alarm_rule", g.model(), g.name(), g.alarmRule()),
		head("drop_rule", g.rule()), head("nonsense", "x"))
}

// foreign are keys that another program may have put something else at.
func (g *generator) foreign() string {
	return "@" + pick(g.dice, "alarm:active", "alarm:state", "alarm:state", "alarm:shelved", "alarm:closed", "timers", "alarm:rules:channel:"+g.channel(), "alarm:journal", "alarm:counter", "alarm:"+g.alarm(), "alarm:rules:"+g.model()+":"+g.name(),
		"command:journal", "command:"+g.command(), "commands:counter", "command:key:api:k1", "notification:queue", "rules:state", "rules:index",
		"rule:"+g.rule(), "rule:stats:"+g.rule(), "mapping:c2m", "mapping:m2c", "mapping:version", "model:enabled", "model:"+g.model(),
		"point:"+g.channel(), "modsrv:"+g.model()+":"+pick(g.dice, "measurement", "signal", "control", "ts", "quality", "text"),
		"comsrv:"+g.channel()+":"+pick(g.dice, "m", "s", "text", "ts", "quality", "fence", "owner", "status"),
		"cmd:"+g.channel()+":"+pick(g.dice, "queue", "control", "latest", "held"), "cmd:sources", "hissrv:queue", "cache:model:"+g.model()+":values", "site:generation",
		"lua:version:data_sync", "lua:canary:data_sync")
}

// others is a write of another program.
func (g *generator) others() step {
	model, name := g.model(), g.name()
	switch g.n(28) {
	case 24:
		return step{"raw", "HSET", "@alarm:state", pick(g.dice, g.alarmName(), g.alarmName(), "rule:r1:action1", "channel:1001:down"), g.alarmState()}
	case 25:
		return pick(g.dice, step{"raw", "ZADD", "@timers", strconv.FormatInt(g.now+int64(pick(g.dice, 0, -5, 100, 5000)), 10), "alarm:" + g.alarmName()},
			step{"raw", "ZADD", "@timers", "5", pick(g.dice, "", "odd", "alarm:a:b", "alarm:a:b:", "alarm:::", "alarm:a:b:c:d", "other:a:b:c", "alarm:rule:r1:action1")},
			step{"raw", "ZREM", "@timers", "alarm:" + g.alarmName()},
			step{"raw", "HDEL", "@alarm:state", g.alarmName()})
	case 26:
		return pick(g.dice, step{"raw", "HSET", "@alarm:shelved", g.alarmName(), pick(g.dice, `{"kind":"shelved","until":5,"by":"x","reason":"y"}`, `{"by":5}`, "", "x", "[]", "{")},
			step{"raw", "HDEL", "@alarm:shelved", g.alarmName()}, step{"raw", "SREM", "@alarm:active", g.alarm()}, step{"raw", "DEL", "@alarm:" + g.alarm()},
			step{"raw", "SET", "@alarm:counter", pick(g.dice, "0", "1", "2")})
	case 27:
		return pick(g.dice, step{"raw", "DEL", "@comsrv:" + g.channel() + ":owner"},
			step{"raw", "HSET", "@comsrv:" + g.channel() + ":status", "state", pick(g.dice, "online", "offline", "stopped", "connecting", "")},
			step{"raw", "HSET", "@model:" + model, "binding:" + name, pick(g.dice, "measurement:1001:1", "measurement:1002:1", "m:ch.3:", "bad", "1:2:3", "")},
			step{"raw", "HSET", "@modsrv:" + model + ":quality", name, pick(g.dice, "stale", "offline", "offline", "bad")},
			step{"raw", "HDEL", "@modsrv:" + model + ":quality", name},
			step{"raw", "HSET", "@alarm:rules:channel:" + g.channel(), pick(g.dice, "down", "x.1"), g.alarmJSON("offline")})
	case 0, 1:
		return step{"raw", "HSET", "@mapping:c2m", g.channel() + ":" + g.point(),
			pick(g.dice, model+":"+name, model+":"+name+",bms:q", model+":"+name+",,bad,a:b:c,:x,y:,m-3:t", "", ",", model+":"+name+","+model+":"+name)}
	case 2:
		return step{"raw", "HSET", "@mapping:m2c", model + ":" + pick(g.dice, "sp", name), pick(g.dice, g.channel()+":"+g.point(), "1001:4", "1001:4", "bad", "a:b:c", "", ":4", "1001:", "1001:4,1002:4")}
	case 3:
		return step{"raw", "HSET", "@alarm:rules:" + model + ":" + name, g.alarmRule(), g.alarmJSON()}
	case 4:
		return step{"raw", "HSET", "@rule:" + g.rule(), "conditions", g.conditions(), "actions", g.actions(), "disabled", pick(g.dice, "0", "0", "1", "", "true")}
	case 5:
		return step{"raw", "HSET", "@rules:index", model + ":" + name, pick(g.dice, "r1", "r1,r2,r3", ",r1,,r 4,", "none,r2")}
	case 6:
		return step{"raw", "HSET", "@point:" + g.channel(), pick(g.dice, "4", g.point()), g.pointJSON()}
	case 7:
		return step{"raw", "HSET", "@alarm:state", pick(g.dice, model+":"+name+":"+g.alarmRule(), "rule:r1:action1"),
			pick(g.dice, "1|active", "", "|", "1", "0||||normal||||||", "1|||99|active||||||", "1|||1|odd||||||", "0|||x|normal||||||", "2||||normal||||||", "0||||normal||||||x|y",
				"0||||normal||sodc||||", "0||||normal||s||1,2|3|5.000000:", "1|||||||||||", "0||b d||normal||||||")}
	case 8:
		return step{"raw", "HSET", "@alarm:" + g.alarm(), pick(g.dice, "status", "count", "severity", "model_id", "message"), pick(g.dice, "active", "cleared", "closed", "latched", "odd", "", "7", "3.5", "1e3", "inf")}
	case 9:
		return step{"raw", pick(g.dice, "SADD", "SADD", "SREM"), "@model:enabled", g.model()}
	case 10:
		return step{"raw", "HSET", "@modsrv:" + model + ":" + g.kind(), name, g.odd()}
	case 11:
		return step{"raw", "HSET", "@modsrv:" + model + ":quality", name, pick(g.dice, "bad", "uncertain", "substituted", "offline", "")}
	case 12:
		return step{"raw", "HSET", "@modsrv:" + model + ":ts", pick(g.dice, "*", name), pick(g.dice, "1790000000000", "x", "")}
	case 13:
		return step{"raw", "HSET", "@comsrv:" + g.channel() + ":fence", pick(g.dice, "points", "batch"), pick(g.dice, "5", "x", "", "3.5", "1e3", "0x10", "nan")}
	case 14:
		return step{"raw", "HSET", "@rule:stats:" + g.rule(), "execution_count", pick(g.dice, "5", "x", "")}
	case 15:
		return step{"raw", "SET", "@mapping:version", pick(g.dice, "2026-11-23T01:00", "9223372036854775807", "5", "")}
	case 16:
		if g.chance(50) {
			return g.repair()
		}
		return step{"raw", "SET", "@lua:version:" + pick(g.dice, "data_sync", "command"), pick(g.dice, "9.0.0+x", "$lua:data_sync", "$lua:command")}
	case 17:
		return step{"raw", "HSET", "@lua:canary:data_sync", g.channel(), pick(g.dice, "$lua:data_sync", "$lua:data_sync", "9.0.0+x")}
	case 18:
		return step{"raw", "SET", "@comsrv:" + g.channel() + ":owner", pick(g.dice, "e2:5", "noepoch", "", "e1:1")}
	case 19:
		return step{"raw", "HSET", "@comsrv:" + g.channel() + ":status", "state", "online"}
	case 20:
		if g.chance(80) {
			return g.repair()
		}
		return step{"raw", "SET", "@site:generation", pick(g.dice, "g1", "g0")}
	case 21:
		return step{"raw", "XADD", "@cmd:" + g.channel() + ":queue", "*", pick(g.dice, "id", "other"), g.command()}
	case 22:
		if g.chance(30) {
			return pick(g.dice, step{"raw", "HSET", "@model:" + model, "policy:sp", g.policy()},
				step{"raw", "HSET", "@cmd:" + g.channel() + ":held", g.point(), pick(g.dice, "5 api", "x", "", "5", " a", "1790000000000 ", "1790000000000 a b", "12x api", "99999999999999999999 api")},
				step{"raw", "HSET", "@cmd:sources", pick(g.dice, "api", ""), pick(g.dice, "1790000000000", "x", "", "1e3")},
				step{"raw", "HSET", "@cmd:" + g.channel() + ":latest", g.point(), g.command()})
		}
		if g.chance(50) {
			return pick(g.dice, step{"raw", "HSET", "@command:" + g.command(), "deadline", pick(g.dice, "x", "", "1e3", "0x10", "inf", "5")},
				step{"raw", "HSET", "@comsrv:" + g.channel() + ":fence", "epoch", pick(g.dice, "x", "1e3", "nan", "5")})
		}
		return step{"raw", "SET", "@cache:model:" + model + ":values", "{}"}
	}
	key := g.foreign()
	return pick(g.dice, step{"raw", "SET", key, "foreign"}, step{"raw", "HSET", key, "f", "foreign"}, step{"raw", "SADD", key, "foreign"},
		step{"raw", "LPUSH", key, "foreign"}, step{"raw", "DEL", key})
}

// repair takes away what a program put at keys that nearly everything needs.
func (g *generator) repair() step {
	return pick(g.dice, step{"raw", "DEL", g.foreign()}, step{"raw", "DEL", g.foreign()}, step{"raw", "DEL", g.foreign()},
		step{"raw", "SET", "@site:generation", "g1"}, step{"raw", "DEL", "@lua:version:data_sync"}, step{"raw", "DEL", "@lua:version:command"},
		step{"raw", "DEL", "@alarm:journal"}, step{"raw", "DEL", "@alarm:state"}, step{"raw", "DEL", "@timers"}, step{"raw", "DEL", "@command:journal"}, step{"raw", "DEL", "@model:enabled"},
		step{"channel_owner", "acquire", g.time(), "g1", g.channel(), "e1", "900000"})
}

// alarmState is an entry of alarm:state as the scripts may have left it, with any
// combination of what may be in it.
func (g *generator) alarmState() string {
	at := func() string {
		return strconv.FormatInt(g.now+int64(pick(g.dice, 0, 100, -100, -1000, 5000, -61000)), 10)
	}
	maybe := func(text string) string { return pick(g.dice, "", text) }
	times := func() string { return strings.TrimSuffix(strings.Repeat(at()+",", g.n(6)), ",") }
	id, status := "", "normal"
	if g.chance(60) {
		id, status = strconv.Itoa(1+g.n(8)), pick(g.dice, "active", "acknowledged", "cleared", "latched")
	}
	flags := maybe("s") + pick(g.dice, "", "", "o") + maybe("d") + pick(g.dice, "", "", "c")
	return strings.Join([]string{pick(g.dice, "0", "1"), maybe(at()), pick(g.dice, "", "", "stale", "offline"), id, status, maybe(at()), flags, maybe(at()),
		times(), times(), pick(g.dice, "", "", g.value(), g.value()+":", g.value()+":"+at(), "x:5", ":", "5:x")}, "|")
}

// desk is what a person does with alarms.
func (g *generator) desk() step {
	head := func(op string, rest ...string) step {
		return append(step{"alarm_desk", op, g.time(), g.generation()}, rest...)
	}
	target := g.target()
	switch g.n(16) {
	case 0, 1, 2:
		return head("ack", target, g.text(), g.text())
	case 3:
		return head("close", target, g.text(), g.text())
	case 4, 5:
		return head("reset", target, g.text(), g.text())
	case 6, 7, 8:
		until := strconv.FormatInt(g.now+pick[int64](g.dice, 500, 1000, 5000, 60000, 60000, 0, -5, 2592000000, 2592001000), 10)
		return head("shelve", target, g.text(), g.text(), pick(g.dice, until, until, until, until, until, until, "x", "", until+".5"))
	case 9:
		return head("unshelve", target, g.text(), g.text())
	case 10, 11:
		return head("out_of_service", target, g.text(), g.text())
	case 12:
		return head("in_service", target, g.text(), g.text())
	case 13:
		s := head("ack_many", g.text(), g.text())
		for range g.n(5) {
			s = append(s, g.target())
		}
		return s
	case 14:
		return pick(g.dice, head("nonsense", target, "x", "y"), head("ack"), head("ack", target), head("shelve", target, "me", "why"), head("ack_many", "me"), step{"alarm_desk"}, step{"alarm_desk", "ack", g.time()})
	}
	return head("ack", g.alarmName(), g.text(), g.text())
}

// tick is alarm_tick.
func (g *generator) tick() step {
	s := step{"alarm_tick", g.time(), g.generation()}
	for range g.n(3) {
		s = append(s, g.channel())
	}
	return s
}

func (g *generator) step() step {
	switch g.n(24) {
	case 20, 21:
		return g.tick()
	case 22:
		return g.desk()
	case 23:
		return step{"alarm_check", g.model(), g.name(), pick(g.dice, g.value(), g.value(), "!stale", "!offline", "!bad"), g.time()}
	case 0, 1:
		return g.define()
	case 2, 3:
		return g.others()
	case 4:
		return g.repair()
	case 5, 6, 7:
		return g.batch()
	case 8, 9:
		if g.chance(30) {
			return step{"channel_owner", "acquire", g.time(), "g1", "1001", "e1", "900000"}
		}
		return g.writer()
	case 10, 11:
		return g.byHand()
	case 12:
		return g.desk()
	case 13, 14:
		return g.owner()
	}
	return g.commands()
}

func (g *generator) byHand() step {
	switch g.n(8) {
	case 0:
		return step{"alarm_check", g.model(), g.name(), pick(g.dice, g.odd(), g.odd(), "!stale", "!good", "!uncertain", "!", "! x", "!5"), g.time()}
	case 1:
		return step{"rule_engine", g.rule(), g.time()}
	case 2:
		return pick(g.dice, step{"data_sync", "m2c"}, step{"data_sync", "c2m", "1001", "1"}, step{"data_sync", "c2m", "", "1", "5"}, step{"data_sync", "other"},
			step{"alarm_check", "pcs1"}, step{"alarm_check", "pcs1", "p", ""}, step{"channel_owner", "other", g.time(), "g1", "1001", "e1", "$epoch:1001"},
			step{"command", "other", g.time(), "g1", "c1"}, step{"command", "time", g.time(), g.generation()})
	case 3:
		return step{"data_sync", "m2c", g.model(), pick(g.dice, "sp", g.name()), g.odd(), g.time()}
	}
	return step{"data_sync", "c2m", g.channel(), g.point(), g.odd(), g.time()}
}

func (g *generator) epoch(channel string) string {
	return pick(g.dice, "$epoch:"+channel, "$epoch:"+channel, "$epoch:"+channel, "$epoch:"+channel, "$epoch:"+channel, "$epoch:"+channel, "1", "")
}

func (g *generator) owner() step {
	channel, engine := g.channel(), pick(g.dice, "e1", "e1", "e2")
	var status []string
	for range g.n(3) {
		status = append(status, pick(g.dice, "state", "latency", g.text()), g.text())
	}
	if g.chance(3) {
		status = append(status, "odd")
	}
	ttl := pick(g.dice, "900000", "900000", "900000", "900000", "900000", "0", "-1", "x")
	switch g.n(8) {
	case 0, 1, 2:
		return step{"channel_owner", "acquire", g.time(), g.generation(), channel, engine, ttl}
	case 3:
		return append(step{"channel_owner", "release", g.time(), g.generation(), channel, engine, g.epoch(channel)}, status...)
	}
	return append(step{"channel_owner", "renew", g.time(), g.generation(), channel, engine, g.epoch(channel), ttl}, status...)
}

func (g *generator) commands() step {
	now, id, channel := g.time(), g.command(), pick(g.dice, "1001", "1001", "1001", "1001", g.channel())
	head := func(op string, rest ...string) step { return append(step{"command", op, now, g.generation()}, rest...) }
	switch g.n(15) {
	case 12:
		return head("alive", pick(g.dice, "api", "api", "clo%ud:3A", "", g.text()))
	case 13:
		return head("held", channel)
	case 14:
		if g.chance(60) {
			g.given++
			id = "c" + strconv.Itoa(g.given)
		}
		return head("record", id, g.token(), pick(g.dice, "pcs1", g.model()), "sp", channel, g.point(), g.value(), pick(g.dice, g.epoch(channel), ""),
			pick(g.dice, "executing", "executing", "verified", "executed", "failed", "unknown"), g.text(), g.text(), pick(g.dice, "", g.value()), pick(g.dice, "0", "0", "500", "x"))
	case 0, 1, 2, 3, 4:
		if g.chance(70) {
			g.given++
			id = "c" + strconv.Itoa(g.given)
		}
		until := strconv.FormatInt(g.now+int64(pick(g.dice, 10000, 60000, 60000, 10000, 500, 1, 0, -1)), 10)
		return head("submit", id, pick(g.dice, "", "", "k1", "k:2%"), pick(g.dice, "pcs1", g.model()), pick(g.dice, "sp", "sp", "sp", g.name()), g.odd(),
			pick(g.dice, "api", "api", "clo%ud:3A", ""), g.text(), until)
	case 5, 6, 7:
		return head("claim", id, channel, g.epoch(channel), g.token(), pick(g.dice, "$entry:"+id, "$entry:"+id, "$entry:"+g.command(), "1-1"),
			pick(g.dice, "0", "0", "0", "0", "1"))
	case 8, 9:
		return head("finish", id, g.token(), pick(g.dice, "executed", "verified", "failed", "unknown", "unknown", "executing", "odd"), g.text(), g.text(), pick(g.dice, "", g.value()))
	case 10:
		return head("cancel", id, g.text())
	}
	return head("expire", id)
}
