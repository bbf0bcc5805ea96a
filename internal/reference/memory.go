package reference

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a [Store] in memory with just the commands that the scripts use, and
// with their errors. Keys expire by the clock that it is given. It is safe for
// concurrent use, but a script's calls are not one atomic step.
type Memory struct {
	mu        sync.Mutex
	now       func() time.Time
	keys      map[string]*value
	published []Message
}

// Message is what was published on a channel.
type Message struct{ Channel, Text string }

// The types of keys, as Redis names them.
const (
	typeString = "string"
	typeHash   = "hash"
	typeSet    = "set"
	typeList   = "list"
	typeStream = "stream"
	typeSorted = "zset"
)

// value is what stands under one key.
type value struct {
	kind    string
	text    string
	hash    map[string]string
	set     map[string]struct{}
	list    []string // its head at the end
	scores  map[string]float64
	entries []StreamEntry
	last    streamID
	expires time.Time // zero: never
}

// NewMemory returns an empty store. now is its clock; nil is time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, keys: map[string]*value{}}
}

// Call implements [Store]. Commands that the scripts do not use are unknown.
func (m *Memory) Call(args ...string) (any, error) {
	if len(args) == 0 {
		return nil, &Error{"ERR empty command"}
	}
	c, ok := commands[strings.ToUpper(args[0])]
	if !ok {
		return nil, &Error{"ERR unknown command '" + args[0] + "'"}
	}
	args = args[1:]
	if len(args) < c.min || c.max >= 0 && len(args) > c.max || c.step > 0 && (len(args)-c.min)%c.step != 0 {
		return nil, &Error{"ERR wrong number of arguments for '" + strings.ToLower(c.name) + "' command"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	reply, err := c.do(m, args)
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// memoryCommand is a command: how many arguments it takes (-1: any number), and in which steps.
type memoryCommand struct {
	name           string
	min, max, step int
	do             func(*Memory, []string) (any, *Error)
}

var commands = func() map[string]memoryCommand {
	all := map[string]memoryCommand{}
	for _, c := range []memoryCommand{
		{"TIME", 0, 0, 0, (*Memory).time},
		{"GET", 1, 1, 0, (*Memory).get},
		{"MGET", 1, -1, 0, (*Memory).mget},
		{"SET", 2, 4, 2, (*Memory).set},
		{"INCR", 1, 1, 0, (*Memory).incr},
		{"INCRBY", 2, 2, 0, (*Memory).incrBy},
		{"DEL", 1, -1, 0, (*Memory).del},
		{"EXISTS", 1, -1, 0, (*Memory).exists},
		{"EXPIRE", 2, 2, 0, (*Memory).expire},
		{"HGET", 2, 2, 0, (*Memory).hget},
		{"HMGET", 2, -1, 0, (*Memory).hmget},
		{"HGETALL", 1, 1, 0, (*Memory).hgetall},
		{"HKEYS", 1, 1, 0, (*Memory).hkeys},
		{"HVALS", 1, 1, 0, (*Memory).hvals},
		{"HEXISTS", 2, 2, 0, (*Memory).hexists},
		{"HLEN", 1, 1, 0, (*Memory).hlen},
		{"HSET", 3, -1, 2, (*Memory).hset},
		{"HDEL", 2, -1, 0, (*Memory).hdel},
		{"HINCRBY", 3, 3, 0, (*Memory).hincrby},
		{"SADD", 2, -1, 0, (*Memory).sadd},
		{"SREM", 2, -1, 0, (*Memory).srem},
		{"SISMEMBER", 2, 2, 0, (*Memory).sismember},
		{"LPUSH", 2, -1, 0, (*Memory).lpush},
		{"LTRIM", 3, 3, 0, (*Memory).ltrim},
		{"LPOP", 1, 1, 0, (*Memory).lpop},
		{"ZADD", 3, 4, 0, (*Memory).zadd},
		{"ZREM", 2, -1, 0, (*Memory).zrem},
		{"ZCARD", 1, 1, 0, (*Memory).zcard},
		{"ZRANGE", 3, 3, 0, (*Memory).zrange},
		{"ZRANGEBYSCORE", 3, 6, 3, (*Memory).zrangebyscore},
		{"XADD", 4, -1, 0, (*Memory).xadd},
		{"XDEL", 2, -1, 0, (*Memory).xdel},
		{"XRANGE", 3, 5, 2, (*Memory).xrange},
		{"XREVRANGE", 3, 5, 2, (*Memory).xrevrange},
		{"PUBLISH", 2, 2, 0, (*Memory).publish},
	} {
		all[c.name] = c
	}
	return all
}()

var (
	wrongType  = &Error{"WRONGTYPE Operation against a key holding the wrong kind of value"}
	notInteger = &Error{"ERR value is not an integer or out of range"}
	overflow   = &Error{"ERR increment or decrement would overflow"}
	syntax     = &Error{"ERR syntax error"}
)

// at returns what stands under a key, nil for nothing.
func (m *Memory) at(key string) *value {
	v := m.keys[key]
	if v != nil && !v.expires.IsZero() && !m.now().Before(v.expires) {
		delete(m.keys, key)
		return nil
	}
	return v
}

// find is at where the key must have a type, if there is one.
func (m *Memory) find(key, kind string) (*value, *Error) {
	v := m.at(key)
	if v != nil && v.kind != kind {
		return nil, wrongType
	}
	return v, nil
}

// make is find that makes an empty one where there is none.
func (m *Memory) make(key, kind string) (*value, *Error) {
	v, err := m.find(key, kind)
	if v == nil && err == nil {
		v = &value{kind: kind}
		switch kind {
		case typeHash:
			v.hash = map[string]string{}
		case typeSet:
			v.set = map[string]struct{}{}
		case typeSorted:
			v.scores = map[string]float64{}
		}
		m.keys[key] = v
	}
	return v, err
}

// drop removes a key that has become empty.
func (m *Memory) drop(key string, v *value) {
	if len(v.hash)+len(v.set)+len(v.list)+len(v.scores) == 0 {
		delete(m.keys, key)
	}
}

// Key is a picture of one key.
type Key struct {
	// Type is the type as Redis names it: string, hash, set, list, zset or stream.
	Type string
	// Text is the content of a string.
	Text string
	// Hash is the content of a hash.
	Hash map[string]string
	// List is the content of a list, from its head, or of a set, sorted.
	List []string
	// Scores is the content of a sorted set.
	Scores map[string]float64
	// Stream is the content of a stream, the oldest entry first.
	Stream []StreamEntry
	// TTL is how long it is until the key expires; 0 is never.
	TTL time.Duration
}

// StreamEntry is an entry of a stream: its id, and names and values in turn.
type StreamEntry struct {
	ID     string
	Fields []string
}

// Dump returns a picture of all keys.
func (m *Memory) Dump() map[string]Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]Key, len(m.keys))
	for name := range m.keys {
		if v := m.at(name); v != nil {
			all[name] = m.picture(v)
		}
	}
	return all
}

// Key returns a picture of one key, without a type where there is none.
func (m *Memory) Key(name string) Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.at(name); v != nil {
		return m.picture(v)
	}
	return Key{}
}

func (m *Memory) picture(v *value) Key {
	k := Key{Type: v.kind, Text: v.text, Hash: maps.Clone(v.hash), Scores: maps.Clone(v.scores), Stream: slices.Clone(v.entries)}
	if !v.expires.IsZero() {
		k.TTL = v.expires.Sub(m.now())
	}
	switch v.kind {
	case typeSet:
		k.List = slices.Sorted(maps.Keys(v.set))
	case typeList:
		k.List = slices.Clone(v.list)
		slices.Reverse(k.List)
	}
	return k
}

// Published returns every message since the beginning, in order.
func (m *Memory) Published() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.published)
}
