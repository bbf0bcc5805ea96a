package luabox

import (
	"strconv"
	"strings"
)

// command says where the keys of a command are and whether it may write.
type command struct {
	name   string
	first  int // index of the first key; 0: no key
	last   int // of the last; negative counts from the end
	step   int
	writes bool
	keys   func(args []string) []string // where the above is not enough
}

// commands are those that scripts of the data plane use, and the common ones
// besides. What is not here cannot be run: luabox would not know what to copy.
var commands = makeCommands()

// forbidden are commands that no script may call.
var forbidden = makeSet(`AUTH BLMOVE BLMPOP CLIENT CLUSTER CONFIG DEBUG DISCARD EVAL EVALSHA EVALSHA_RO
	EVAL_RO EXEC FCALL FCALL_RO HELLO MONITOR MULTI PSUBSCRIBE PSYNC PUNSUBSCRIBE QUIT REPLICAOF RESET SAVE
	SCRIPT SHUTDOWN SLAVEOF SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE SYNC UNSUBSCRIBE UNWATCH WATCH`)

func makeSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

func makeCommands() map[string]command {
	all := map[string]command{}
	add := func(first, last, step int, writes bool, names string) {
		for _, n := range strings.Fields(names) {
			all[n] = command{name: n, first: first, last: last, step: step, writes: writes}
		}
	}
	add(0, 0, 1, false, "PING ECHO TIME")
	add(0, 0, 1, true, "PUBLISH")
	add(1, 1, 1, false, `GET GETRANGE STRLEN TYPE TTL PTTL EXPIRETIME PEXPIRETIME GETBIT BITCOUNT BITPOS
		HGET HMGET HGETALL HKEYS HVALS HLEN HEXISTS HSTRLEN HSCAN HRANDFIELD
		SMEMBERS SISMEMBER SMISMEMBER SCARD SRANDMEMBER SSCAN
		LRANGE LLEN LINDEX LPOS
		ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX ZSCORE ZMSCORE ZCARD ZCOUNT
		ZLEXCOUNT ZRANK ZREVRANK ZSCAN ZRANDMEMBER
		XRANGE XREVRANGE XLEN XPENDING`)
	add(1, 1, 1, true, `SET SETNX SETEX PSETEX GETSET GETDEL GETEX APPEND SETRANGE SETBIT
		INCR DECR INCRBY DECRBY INCRBYFLOAT EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST
		HSET HSETNX HMSET HDEL HINCRBY HINCRBYFLOAT
		SADD SREM SPOP
		LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LSET LINSERT LREM LTRIM
		ZADD ZINCRBY ZREM ZREMRANGEBYSCORE ZREMRANGEBYRANK ZREMRANGEBYLEX ZPOPMIN ZPOPMAX
		XADD XDEL XTRIM XACK XCLAIM XAUTOCLAIM`)
	add(1, -1, 1, false, "EXISTS MGET TOUCH SINTER SUNION SDIFF")
	add(1, -1, 1, true, "DEL UNLINK SINTERSTORE SUNIONSTORE SDIFFSTORE")
	add(1, -1, 2, true, "MSET MSETNX")
	add(1, 2, 1, true, "RENAME RENAMENX COPY SMOVE LMOVE RPOPLPUSH")
	add(2, 2, 1, false, "XINFO OBJECT")
	add(2, 2, 1, true, "XGROUP")
	for name, store := range map[string]int{"ZUNIONSTORE": 1, "ZINTERSTORE": 1, "ZUNION": 0, "ZINTER": 0, "SINTERCARD": 0} {
		all[name] = command{name: name, writes: store == 1, keys: func(args []string) []string { return numberedKeys(args, store) }}
	}
	all["XREAD"] = command{name: "XREAD", keys: streamKeys}
	all["XREADGROUP"] = command{name: "XREADGROUP", keys: streamKeys, writes: true}
	return all
}

// Effect says which keys a call names, and whether its command is one that may
// change the data or, like PUBLISH, reach somebody. Of a command that is not known
// here the first argument is taken for its key, and it may write.
func Effect(args []string) (keys []string, writes bool) {
	if len(args) == 0 {
		return nil, false
	}
	c, ok := commands[strings.ToUpper(args[0])]
	if !ok {
		return args[1:min(2, len(args))], true
	}
	return c.keysOf(args), c.writes
}

// keysOf are the keys of a call; args[0] is the command's name.
func (c command) keysOf(args []string) []string {
	if c.keys != nil {
		return c.keys(args)
	}
	if c.first == 0 {
		return nil
	}
	last := c.last
	if last < 0 {
		last += len(args)
	}
	var keys []string
	for i := c.first; i <= last && i < len(args); i += c.step {
		keys = append(keys, args[i])
	}
	return keys
}

// unblocked leaves BLOCK out, which has no effect in scripts.
func (c command) unblocked(args []string) []string {
	if c.name != "XREAD" && c.name != "XREADGROUP" {
		return args
	}
	for i := 1; i+1 < len(args) && !strings.EqualFold(args[i], "STREAMS"); i++ {
		if strings.EqualFold(args[i], "BLOCK") {
			return append(append([]string(nil), args[:i]...), args[i+2:]...)
		}
	}
	return args
}

// numberedKeys is for [destination] numkeys key …
func numberedKeys(args []string, store int) []string {
	at := 1 + store
	if at >= len(args) {
		return nil
	}
	keys := append([]string(nil), args[1:at]...)
	n, err := strconv.Atoi(args[at])
	if err != nil || n < 0 {
		return keys
	}
	at++
	return append(keys, args[at:min(at+n, len(args))]...)
}

// streamKeys is for … STREAMS key … id …
func streamKeys(args []string) []string {
	for i, a := range args {
		if strings.EqualFold(a, "STREAMS") {
			rest := args[i+1:]
			return rest[:len(rest)/2]
		}
	}
	return nil
}
