package scripts

import (
	"slices"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/internal/reference"
)

// directStore answers the calls of the Go evaluator of data_sync within one
// transaction. What is read comes from the store, ahead or in rounds: a read that
// nobody has made yet is answered with a guess (nothing is there) and noted; the
// notes are read in one round trip and the batch is evaluated again, until every
// answer is a known one. What is written is only recorded, and laid over what is
// read, so that the evaluator sees its own writes.
type directStore struct {
	prefix  string
	argv    []string
	known   map[string][]knownRead // by key
	unknown []readPlace            // guessed in this evaluation
	writes  []directWrite
	over    map[string]*overlay // of keys that are written
	open    bool                // rules were not normal at the batch before
}

// knownRead is a read and its answer.
type knownRead struct {
	args  []string
	reply any
	err   error
}

// readPlace is where in known a read is.
type readPlace struct {
	key string
	i   int
}

type directWrite struct {
	args  []string
	value int64 // that a HINCRBY comes to
}

// overlay is what this batch has done to a key.
type overlay struct {
	writes []int // of a hash, in writes
	gone   bool  // it was deleted: what the store has counts no more
	text   string
	isText bool              // text is the content
	pushed int64             // how much longer a list is
	scores map[string]string // of members of a sorted set; "": it is none any more
	added  []any             // entries of a stream
	last   string
	erased []string // ids of entries
}

func (d *directStore) reset() {
	d.unknown, d.writes = d.unknown[:0], d.writes[:0]
	clear(d.over)
}

func (d *directStore) forget() {
	clear(d.known)
	d.reset()
}

// storeAnswer is an error reply of a store, as the evaluator reports it.
type storeAnswer string

func (a storeAnswer) Error() string { return string(a) }

// RedisError marks it as a redis.Error.
func (storeAnswer) RedisError() {}

var errForeignType = &reference.Error{Text: "WRONGTYPE Operation against a key holding the wrong kind of value"}

// Call implements reference.Store.
func (d *directStore) Call(args ...string) (any, error) {
	if len(args) == 1 {
		return d.read(args...)
	}
	key := args[1]
	switch args[0] {
	case "MGET", "SISMEMBER":
		return d.read(args...) // of keys that no batch writes
	case "GET":
		if o := d.over[key]; o != nil && (o.isText || o.gone) {
			return o.content(), nil
		}
		return d.read(args...)
	case "EXISTS":
		if o := d.over[key]; o != nil {
			if o.gone && len(o.writes) == 0 {
				return int64(0), nil
			}
			return int64(1), nil
		}
		return d.read(args...)
	case "HKEYS", "HVALS":
		return d.read(args...) // of alarm rules, which no batch writes
	case "ZRANGEBYSCORE", "ZCARD", "ZRANGE":
		return d.readSorted(args)
	case "HGET", "HMGET", "HLEN":
		return d.readHash(args)
	case "XRANGE":
		return d.readStream(args)
	}
	return d.write(key, args)
}

func (o *overlay) content() any {
	if o.isText {
		return o.text
	}
	return nil
}

// read answers a read with what the store said, or for the time being with
// nothing.
func (d *directStore) read(args ...string) (any, error) {
	key := readKey(args)
	reads := d.known[key]
	for i := range reads {
		if slices.Equal(reads[i].args, args) {
			return reads[i].reply, reads[i].err
		}
	}
	return d.want(args), nil
}

// readKey is the key of a read; TIME has none.
func readKey(args []string) string {
	switch {
	case len(args) == 1:
		return ""
	case args[0] == "XINFO":
		return args[2]
	}
	return args[1]
}

// want notes a read and answers the guess.
func (d *directStore) want(args []string) any {
	key := readKey(args)
	guess := guessed(args)
	d.unknown = append(d.unknown, readPlace{key, len(d.known[key])})
	d.known[key] = append(d.known[key], knownRead{args: args, reply: guess})
	return guess
}

// guessed is the answer of a store that has nothing.
func guessed(args []string) any {
	switch args[0] {
	case "MGET":
		return make([]any, len(args)-1)
	case "HMGET":
		return make([]any, len(args)-2)
	case "HLEN", "LLEN", "EXISTS", "SISMEMBER", "ZCARD":
		return int64(0)
	case "XRANGE", "XINFO", "HKEYS", "HVALS", "ZRANGE", "ZRANGEBYSCORE":
		return []any{}
	case "TYPE":
		return "none"
	case "TIME":
		return []any{"0", "0"}
	}
	return nil
}

// watched reports whether a read makes the transaction depend on its key. Rules
// and alarm rules do not: mapping:version changes with them and is watched. Nor
// do timers, which only say what may be due: what is, alarm:state decides. Nor
// does a type, which only another program's mistake can change.
func (d *directStore) watched(args []string) bool {
	if args[0] == "TIME" || args[0] == "TYPE" {
		return false
	}
	name := strings.TrimPrefix(readKey(args), d.prefix)
	return name != "timers" && !strings.HasPrefix(name, "rule:") && !strings.HasPrefix(name, "alarm:rules:")
}

// readHash answers from the recorded writes first. The store is asked all the
// same: it knows whether the key is a hash at all.
func (d *directStore) readHash(args []string) (any, error) {
	o := d.over[args[1]]
	if o == nil {
		return d.read(args...)
	}
	reply, err := guessed(args), error(nil)
	if !o.gone {
		reply, err = d.read(args...)
	}
	if err != nil {
		return nil, err
	}
	switch args[0] {
	case "HLEN":
		return d.countFields(o, args[1], reply)
	case "HGET":
		if v, ok := d.field(o, args[2]); ok {
			return v, nil
		}
		return reply, nil
	}
	list := make([]any, len(args)-2)
	if before, ok := reply.([]any); ok {
		copy(list, before)
	}
	for i, name := range args[2:] {
		if v, ok := d.field(o, name); ok {
			list[i] = v
		}
	}
	return list, nil
}

// field looks for a field in the recorded writes of a hash, the newest first. A
// hash that is only written, as nearly all are, costs nothing for this.
func (d *directStore) field(o *overlay, name string) (value any, found bool) {
	for _, w := range slices.Backward(o.writes) {
		args := d.writes[w].args
		switch args[0] {
		case "HSET":
			for i := len(args) - 2; i >= 2; i -= 2 {
				if args[i] == name {
					return args[i+1], true
				}
			}
		case "HDEL":
			if slices.Contains(args[2:], name) {
				return nil, true
			}
		case "HINCRBY":
			if args[2] == name {
				return strconv.FormatInt(d.writes[w].value, 10), true
			}
		}
	}
	return nil, false
}

// countFields is HLEN of a hash that is written.
func (d *directStore) countFields(o *overlay, key string, reply any) (any, error) {
	n, _ := reply.(int64)
	seen := map[string]bool{}
	for _, w := range o.writes {
		args, step := d.writes[w].args, 2
		if args[0] == "HDEL" {
			step = 1
		}
		for i := 2; i < len(args); i += step {
			name := args[i]
			if seen[name] {
				continue
			}
			seen[name] = true
			if !o.gone {
				before, err := d.read("HGET", key, name)
				if err != nil {
					return nil, err
				}
				if before != nil {
					n--
				}
			}
			if now, _ := d.field(o, name); now != nil {
				n++
			}
		}
	}
	return n, nil
}

// readStream is XRANGE of a stream's first entries.
func (d *directStore) readStream(args []string) (any, error) {
	o := d.over[args[1]]
	if len(args) != 6 || args[2] != "-" || args[3] != "+" {
		return nil, unsupported(args)
	}
	if o == nil {
		return d.read(args...)
	}
	count, err := strconv.Atoi(args[5])
	if err != nil {
		return nil, unsupported(args)
	}
	wider := slices.Clone(args)
	wider[5] = strconv.Itoa(count + len(o.erased))
	reply, err := d.read(wider...)
	if err != nil {
		return nil, err
	}
	list, _ := reply.([]any)
	list = slices.Concat(list, o.added)
	list = slices.DeleteFunc(list, func(e any) bool {
		entry, ok := e.([]any)
		return ok && len(entry) > 0 && slices.ContainsFunc(o.erased, func(id string) bool { return entry[0] == id })
	})
	return list[:min(len(list), count)], nil
}
