package scripts

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/internal/reference"
)

// write records a command and answers what the script uses of its reply.
func (d *directStore) write(key string, args []string) (any, error) {
	switch args[0] {
	case "HSET", "HDEL":
		// most such keys are written blindly: what fails then, the transaction tells
		if d.over[key] == nil {
			for _, r := range d.known[key] {
				if r.err != nil {
					return nil, r.err
				}
			}
		}
		o := d.record(key, args)
		o.writes = append(o.writes, len(d.writes)-1)
		return int64(0), nil
	case "HINCRBY":
		return d.countField(key, args)
	case "INCR":
		return d.count(key, args, "1")
	case "INCRBY":
		return d.count(key, args, args[2])
	case "SET":
		o := d.record(key, args)
		*o = overlay{text: args[2], isText: true, gone: true}
		return "OK", nil
	case "DEL":
		return d.remove(args)
	case "ZADD", "ZREM":
		return d.sorted(key, args)
	case "EXPIRE", "PUBLISH":
		d.writes = append(d.writes, directWrite{args: args})
		return int64(0), nil
	case "SADD", "SREM":
		if err := d.check(key, "set"); err != nil {
			return nil, err
		}
		d.record(key, args)
		return int64(1), nil
	case "LPUSH", "LTRIM", "LPOP":
		return d.list(key, args)
	case "XADD", "XDEL":
		if err := d.check(key, "stream"); err != nil {
			return nil, err
		}
		return d.stream(key, args)
	}
	return nil, unsupported(args)
}

func unsupported(args []string) error {
	return storeAnswer("ERR direct: data_sync does not use " + args[0] + " like this")
}

// record appends a write of a key that exists afterwards.
func (d *directStore) record(key string, args []string) *overlay {
	d.writes = append(d.writes, directWrite{args: args})
	return d.overlay(key)
}

func (d *directStore) overlay(key string) *overlay {
	o := d.over[key]
	if o == nil {
		o = &overlay{}
		d.over[key] = o
	}
	return o
}

// check refuses a key that holds something else. The script has to know at once,
// where a failed write decides what follows.
func (d *directStore) check(key, kind string) error {
	if o := d.over[key]; o != nil {
		return nil // a write of this batch passed before
	}
	reply, err := d.read("TYPE", key)
	if err != nil {
		return err
	}
	if reply != "none" && reply != kind {
		return errForeignType
	}
	return nil
}

// countField is HINCRBY.
func (d *directStore) countField(key string, args []string) (any, error) {
	before, err := d.readHash([]string{"HGET", key, args[2]})
	if err != nil {
		return nil, err
	}
	sum, err := added(before, args[3], "ERR hash value is not an integer")
	if err != nil {
		return nil, err
	}
	o := d.record(key, args)
	o.writes = append(o.writes, len(d.writes)-1)
	d.writes[len(d.writes)-1].value = sum
	return sum, nil
}

// count is INCR and INCRBY.
func (d *directStore) count(key string, args []string, by string) (any, error) {
	before, err := d.Call("GET", key)
	if err != nil {
		return nil, err
	}
	sum, err := added(before, by, "ERR value is not an integer or out of range")
	if err != nil {
		return nil, err
	}
	o := d.record(key, args)
	o.text, o.isText = strconv.FormatInt(sum, 10), true
	return sum, nil
}

// added is a sum as Redis makes it.
func added(before any, by, otherwise string) (int64, error) {
	text, ok := before.(string)
	if !ok {
		text = "0"
	}
	a, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(a, 10) != text {
		return 0, &reference.Error{Text: otherwise}
	}
	b, err := strconv.ParseInt(by, 10, 64)
	if err != nil {
		return 0, &reference.Error{Text: "ERR value is not an integer or out of range"}
	}
	if b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b {
		return 0, &reference.Error{Text: "ERR increment or decrement would overflow"}
	}
	return a + b, nil
}

// remove is DEL. Only of an alarm's record does the script want to know whether
// there was one.
func (d *directStore) remove(args []string) (any, error) {
	there := any(int64(0))
	if name := strings.TrimPrefix(args[1], d.prefix); strings.HasPrefix(name, "alarm:") {
		var err error
		if there, err = d.Call("EXISTS", args[1]); err != nil {
			return nil, err
		}
	}
	for _, k := range args[1:] {
		*d.overlay(k) = overlay{gone: true}
	}
	d.writes = append(d.writes, directWrite{args: args})
	return there, nil
}

// list is LPUSH and LPOP, and LTRIM from the head on, of which only the length is used.
func (d *directStore) list(key string, args []string) (any, error) {
	o, length := d.over[key], int64(0)
	if o == nil || !o.gone {
		reply, err := d.read("LLEN", key)
		if err != nil {
			return nil, err
		}
		length, _ = reply.(int64)
	}
	o = d.record(key, args)
	if args[0] == "LPUSH" {
		o.pushed += int64(len(args) - 2)
		return length + o.pushed, nil
	}
	if args[0] == "LPOP" {
		o.pushed--
		return nil, nil
	}
	last, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil || args[2] != "0" || last < 0 {
		return nil, unsupported(args)
	}
	o.pushed = min(o.pushed, last+1-length)
	return "OK", nil
}

// stream is XADD and XDEL. The id of a new entry is used only where the stream
// has no MAXLEN: of a command, whose record holds it. There it is made here,
// with the store's clock and above every id that the stream has had, as the store
// itself makes it.
func (d *directStore) stream(key string, args []string) (any, error) {
	if args[0] == "XDEL" {
		o := d.record(key, args)
		o.erased = append(o.erased, args[2:]...)
		return int64(1), nil
	}
	if args[2] != "*" {
		d.record(key, args)
		return "0-0", nil
	}
	id, err := d.nextID(key)
	if err != nil {
		return nil, err
	}
	args = slices.Clone(args)
	args[2] = id
	fields := make([]any, 0, len(args)-3)
	for _, f := range args[3:] {
		fields = append(fields, f)
	}
	o := d.record(key, args)
	o.last, o.added = id, append(o.added, []any{id, fields})
	return id, nil
}

func (d *directStore) nextID(key string) (string, error) {
	last := ""
	if o := d.over[key]; o != nil {
		last = o.last
	}
	if last == "" {
		info, err := d.read("XINFO", "STREAM", key)
		if err != nil && !strings.Contains(err.Error(), "no such key") {
			return "", err
		}
		fields, _ := info.([]any)
		for i := 0; i+1 < len(fields); i += 2 {
			if fields[i] == "last-generated-id" {
				last, _ = fields[i+1].(string)
			}
		}
	}
	clock, err := d.read("TIME")
	if err != nil {
		return "", err
	}
	parts, _ := clock.([]any)
	now := uint64(0)
	if len(parts) == 2 {
		seconds, _ := parts[0].(string)
		micros, _ := parts[1].(string)
		s, _ := strconv.ParseUint(seconds, 10, 64)
		us, _ := strconv.ParseUint(micros, 10, 64)
		now = s*1000 + us/1000
	}
	ms, seq, _ := strings.Cut(last, "-")
	lastMS, _ := strconv.ParseUint(ms, 10, 64)
	lastSeq, _ := strconv.ParseUint(seq, 10, 64)
	if now > lastMS {
		return strconv.FormatUint(now, 10) + "-0", nil
	}
	return ms + "-" + strconv.FormatUint(lastSeq+1, 10), nil
}
