package scripts

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// dueInBatch is how many timers a batch runs at most: the script's own number.
const dueInBatch = 50

// timersOf is the read of the first timers, whatever their time: so it can be made
// ahead, before the store has told its time.
func timersOf(key, limit string) []string {
	return []string{"ZRANGEBYSCORE", key, "-inf", "+inf", "WITHSCORES", "LIMIT", "0", limit}
}

// member is one of a sorted set.
type member struct {
	name  string
	score float64
}

// membersOf reads a reply with scores: in pairs, or one after the other.
func membersOf(reply any) (list []member) {
	items, _ := reply.([]any)
	add := func(name, score any) {
		m := member{score: math.Inf(1)}
		m.name, _ = name.(string)
		switch s := score.(type) {
		case float64:
			m.score = s
		case string:
			m.score, _ = strconv.ParseFloat(s, 64)
		}
		list = append(list, m)
	}
	for i := 0; i < len(items); i++ {
		if pair, ok := items[i].([]any); ok && len(pair) == 2 {
			add(pair[0], pair[1])
		} else if i+1 < len(items) {
			add(items[i], items[i+1])
			i++
		}
	}
	return list
}

func namesOf(list []member) []any {
	names := make([]any, len(list))
	for i, m := range list {
		names[i] = m.name
	}
	return names
}

// readSorted answers what the script asks of a sorted set: which timers are due,
// before it writes any; how many records are closed, and which are the oldest.
func (d *directStore) readSorted(args []string) (any, error) {
	key, o := args[1], d.over[args[1]]
	switch args[0] {
	case "ZRANGEBYSCORE":
		now, err := strconv.ParseFloat(args[3], 64)
		if err != nil || o != nil || len(args) != 7 {
			return nil, unsupported(args)
		}
		reply, err := d.read(timersOf(key, args[6])...)
		if err != nil {
			return nil, err
		}
		return namesOf(slices.DeleteFunc(membersOf(reply), func(m member) bool { return m.score > now })), nil
	case "ZCARD":
		reply, err := d.read(args...)
		if err != nil || o == nil {
			return reply, err
		}
		n, _ := reply.(int64)
		for _, name := range o.members() {
			before, err := d.read("ZSCORE", key, name)
			if err != nil {
				return nil, err
			}
			if before != nil {
				n--
			}
			if o.scores[name] != "" {
				n++
			}
		}
		return n, nil
	}
	last, err := strconv.Atoi(args[3])
	if err != nil || args[2] != "0" {
		return nil, unsupported(args)
	}
	changed := o.members()
	reply, err := d.read("ZRANGE", key, "0", strconv.Itoa(last+len(changed)), "WITHSCORES")
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(membersOf(reply), func(m member) bool { return slices.Contains(changed, m.name) })
	for _, name := range changed {
		if score, err := strconv.ParseFloat(o.scores[name], 64); err == nil {
			list = append(list, member{name, score})
		}
	}
	slices.SortFunc(list, func(a, b member) int { return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.name, b.name)) })
	return namesOf(list[:min(len(list), last+1)]), nil
}

// members are those that this batch has written, in order.
func (o *overlay) members() (list []string) {
	if o != nil {
		for name := range o.scores {
			list = append(list, name)
		}
		slices.Sort(list)
	}
	return list
}

// sorted is ZADD of one member, and ZREM.
func (d *directStore) sorted(key string, args []string) (any, error) {
	if d.over[key] == nil {
		reads := d.known[key]
		for _, r := range reads {
			if r.err != nil {
				return nil, r.err
			}
		}
		if len(reads) == 0 {
			if err := d.check(key, "zset"); err != nil {
				return nil, err
			}
		}
	}
	o := d.record(key, args)
	if o.scores == nil {
		o.scores = map[string]string{}
	}
	if args[0] == "ZREM" {
		for _, name := range args[2:] {
			o.scores[name] = ""
		}
		return int64(1), nil
	}
	name, score := args[len(args)-1], args[len(args)-2]
	if args[2] != "NX" || o.scores[name] == "" {
		o.scores[name] = score
	}
	return int64(1), nil
}
