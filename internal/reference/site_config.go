package reference

import (
	"maps"
	"slices"
	"strings"
)

var (
	modelParts   = []string{"measurement", "signal", "control", "adjustment", "text", "ts", "quality"}
	channelParts = []string{"m", "s", "c", "a", "text", "ts", "quality"}
)

// siteConfig is site_config: definitions of models, points, alarm rules and rules.
func (r *run) siteConfig() []string {
	op, given := r.opt(1)
	if refusal := r.guard(3, 0); refusal != nil {
		return refusal
	}
	switch op {
	case "touch":
		r.call("DEL", r.key("rules:index"))
		for i := 4; i <= len(r.argv); i += 2 {
			r.call("HSET", r.key("rules:index"), r.arg(i), r.arg(i+1))
		}
		return r.changed()
	case "model":
		return r.putModel(r.arg(4))
	case "drop_model":
		return r.dropModel(r.arg(4))
	case "points":
		return r.putPoints(r.arg(4))
	case "drop_points":
		return r.dropPoints(r.arg(4))
	case "alarm_rule":
		key := r.key("alarm:rules:", r.arg(4), ":", r.arg(5))
		if before, ok := r.text("HGET", key, r.arg(6)); ok && before == r.arg(7) {
			return unchanged
		}
		r.call("HSET", key, r.arg(6), r.arg(7))
		r.alarmSoon()
		return r.changed()
	case "drop_alarm_rule":
		if r.integer("HDEL", r.key("alarm:rules:", r.arg(4), ":", r.arg(5)), r.arg(6)) == 0 {
			return []string{"NOTFOUND", r.arg(4)}
		}
		r.alarmSoon()
		return r.changed()
	case "rule":
		return r.putRule(r.arg(4))
	case "drop_rule":
		return r.dropRule(r.arg(4))
	}
	if !given {
		op = "nil"
	}
	return []string{"INVALID", `unknown operation "` + op + `"`}
}

var unchanged = []string{"OK", "0"}

// changed makes every batch resolve anew.
func (r *run) changed() []string {
	key := r.key("mapping:version")
	if _, err := r.pcall("INCR", key); err != nil { // another program keeps something else there
		r.call("SET", key, r.nowArg(2))
	}
	return []string{"OK", "1"}
}

// alarmSoon has alarm_tick judge the rule with what is stored.
func (r *run) alarmSoon() {
	_, _ = r.pcall("ZADD", r.key("timers"), r.nowArg(2), "alarm:"+r.arg(4)+":"+r.arg(5)+":"+r.arg(6))
}

// checkMapping ends the script before its first write where a mapping of a
// foreign type would leave half a change.
func (r *run) checkMapping() {
	r.call("HLEN", r.key("mapping:c2m"))
	r.call("HLEN", r.key("mapping:m2c"))
}

// targetsOf are the targets of a channel's point in mapping:c2m.
func (r *run) targetsOf(source string) []string {
	s, _ := r.text("HGET", r.key("mapping:c2m"), source)
	return parts(s)
}

func (r *run) storeTargets(source string, list []string) {
	r.storeList(r.key("mapping:c2m"), source, list)
}

// storeList stores a list with commas, or nothing for an empty one.
func (r *run) storeList(key, name string, list []string) {
	if len(list) == 0 {
		r.call("HDEL", key, name)
	} else {
		r.call("HSET", key, name, strings.Join(list, ","))
	}
}

func (r *run) unbind(source, target string) {
	list := r.targetsOf(source)
	r.storeTargets(source, slices.DeleteFunc(list, func(t string) bool { return t == target }))
}

func (r *run) bind(source, target string) {
	list := r.targetsOf(source)
	if !slices.Contains(list, target) {
		r.storeTargets(source, append(list, target))
	}
}

// forget takes the current value of a name out of the hashes of a model or a channel.
func (r *run) forget(owner string, parts []string, name string) {
	for _, part := range parts {
		_, _ = r.pcall("HDEL", r.key(owner, ":", part), name)
	}
}

// pairs are the fields and values of a hash, in the order of the store.
func (r *run) pairs(key string) [][2]string {
	all := r.list("HGETALL", key)
	list := make([][2]string, 0, len(all)/2)
	for i := 0; i+1 < len(all); i += 2 {
		list = append(list, [2]string{or(all, i, ""), or(all, i+1, "")})
	}
	return list
}

// unbindModel takes back what the stored definition of a model had bound. fields
// is the new one, nil where there is none.
func (r *run) unbindModel(id, key string, fields map[string]string) {
	for _, old := range r.pairs(key) {
		name, ok := strings.CutPrefix(old[0], "binding:")
		if !ok || name == "" {
			continue
		}
		kind, source, _ := strings.Cut(old[1], ":")
		if kind == "" || !letters(kind) {
			source = ""
		}
		r.unbind(source, id+":"+name)
		r.call("HDEL", r.key("mapping:m2c"), id+":"+name)
		if now, has := fields[old[0]]; fields != nil && (!has || now != old[1]) {
			r.forget("modsrv:"+id, modelParts, name)
		}
	}
}

func (r *run) sameHash(key string, fields map[string]string) bool {
	now := r.pairs(key)
	for _, f := range now {
		if v, ok := fields[f[0]]; !ok || v != f[1] {
			return false
		}
	}
	return len(now) == len(fields)
}

func (r *run) storeHash(key string, fields map[string]string) {
	r.call("DEL", key)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		r.call("HSET", key, name, fields[name])
	}
}

// binding is a name of a model and the point behind it.
type binding struct{ kind, name, source string }

func (b binding) writable() bool { return b.kind == "control" || b.kind == "adjustment" }

func (r *run) putModel(id string) []string {
	key := r.key("model:", id)
	fields := map[string]string{"json": r.arg(5)}
	var bindings []binding
	for i := 7; i <= len(r.argv); i += 3 {
		b := binding{r.arg(i), r.arg(i + 1), r.arg(i + 2)}
		if b.kind == "policy" {
			fields["policy:"+b.name] = b.source
			continue
		}
		fields["binding:"+b.name] = b.kind + ":" + b.source
		bindings = append(bindings, b)
	}
	enable, _ := r.opt(6)
	enabled := r.integer("SISMEMBER", r.key("model:enabled"), id) == 1
	if r.sameHash(key, fields) && enabled == (enable == "1") && r.bound(id, bindings) {
		return unchanged
	}
	r.checkMapping()
	r.unbindModel(id, key, fields)
	r.storeHash(key, fields)
	for _, b := range bindings {
		r.bind(b.source, id+":"+b.name)
		if b.writable() {
			r.call("HSET", r.key("mapping:m2c"), id+":"+b.name, b.source)
		}
	}
	add := "SREM"
	if enable == "1" {
		add = "SADD"
	}
	r.call(add, r.key("model:enabled"), id)
	return r.changed()
}

// bound reports whether the mapping follows the definition.
func (r *run) bound(id string, bindings []binding) bool {
	complete := true
	for _, b := range bindings {
		complete = slices.Contains(r.targetsOf(b.source), id+":"+b.name) && complete
		if b.writable() && complete {
			source, ok := r.text("HGET", r.key("mapping:m2c"), id+":"+b.name)
			complete = ok && source == b.source
		}
	}
	return complete
}

func (r *run) dropModel(id string) []string {
	key := r.key("model:", id)
	if r.integer("EXISTS", key) == 0 {
		return []string{"NOTFOUND", id}
	}
	r.checkMapping()
	r.call("SISMEMBER", r.key("model:enabled"), id) // the same
	r.unbindModel(id, key, nil)
	r.call("DEL", key)
	r.call("SREM", r.key("model:enabled"), id)
	for _, part := range modelParts {
		r.call("DEL", r.key("modsrv:", id, ":", part))
	}
	return r.changed()
}

func (r *run) putPoints(id string) []string {
	key, fields := r.key("point:", id), map[string]string{}
	for i := 5; i <= len(r.argv); i += 2 {
		fields[r.arg(i)] = r.arg(i + 1)
	}
	if r.sameHash(key, fields) {
		return unchanged
	}
	r.checkMapping()
	for _, old := range r.pairs(key) {
		text, given := fields[old[0]]
		before, after := decode(old[1], true), decode(text, given)
		if after != nil && same(field(before, "kind"), field(after, "kind")) && same(field(before, "text"), field(after, "text")) {
			continue
		}
		r.forget("comsrv:"+id, channelParts, old[0])
		for _, t := range r.targetsOf(id + ":" + old[0]) {
			if model, name, ok := pair(t); ok {
				r.forget("modsrv:"+model, modelParts, name)
			}
		}
	}
	r.call("DEL", key)
	for i := 5; i <= len(r.argv); i += 2 {
		r.call("HSET", key, r.arg(i), r.arg(i+1))
	}
	return r.changed()
}

// same is Lua's == of decoded JSON: no two tables are the same.
func same(a, b any) bool { return !table(a) && !table(b) && a == b }

func (r *run) dropPoints(id string) []string {
	if r.integer("DEL", r.key("point:", id)) == 0 {
		return []string{"NOTFOUND", id}
	}
	for _, part := range channelParts {
		r.call("DEL", r.key("comsrv:", id, ":", part))
	}
	r.call("DEL", r.key("comsrv:", id, ":status"))
	return r.changed()
}

// unindexRule takes a rule out of rules:index, for the points that it looked at.
func (r *run) unindexRule(id, points string) {
	for _, source := range parts(points) {
		list, _ := r.text("HGET", r.key("rules:index"), source)
		kept := slices.DeleteFunc(parts(list), func(other string) bool { return other == id })
		r.storeList(r.key("rules:index"), source, kept)
	}
}

func (r *run) putRule(id string) []string {
	key, index := r.key("rule:", id), r.key("rules:index")
	sources := r.args(9, max(len(r.argv), 8))
	fields := map[string]string{"id": id, "name": r.arg(5), "disabled": r.arg(6), "conditions": r.arg(7),
		"actions": r.arg(8), "points": strings.Join(sources, ",")}
	indexed := true
	for _, s := range sources {
		list, _ := r.text("HGET", index, s)
		indexed = strings.Contains(","+list+",", ","+id+",") && indexed
	}
	if indexed && r.sameHash(key, fields) {
		return unchanged
	}
	points, _ := r.text("HGET", key, "points")
	r.unindexRule(id, points)
	r.storeHash(key, fields)
	for _, s := range sources {
		list, ok := r.text("HGET", index, s)
		if ok {
			list += ","
		}
		r.call("HSET", index, s, list+id)
	}
	r.call("HDEL", r.key("rules:state"), id)
	return r.changed()
}

func (r *run) dropRule(id string) []string {
	key := r.key("rule:", id)
	if r.integer("EXISTS", key) == 0 {
		return []string{"NOTFOUND", id}
	}
	points, _ := r.text("HGET", key, "points")
	r.unindexRule(id, points)
	r.call("DEL", key, r.key("rule:stats:", id))
	r.call("HDEL", r.key("rules:state"), id)
	return r.changed()
}
