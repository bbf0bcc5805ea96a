package luabox

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

// commandLog is a hook that notes every command that a client sends.
type commandLog struct {
	mu    sync.Mutex
	names map[string]int
}

func (c *commandLog) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commandLog) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.note(cmd); return next(ctx, cmd) }
}

func (c *commandLog) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.note(cmds...); return next(ctx, cmds) }
}

func (c *commandLog) note(cmds ...redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range cmds {
		c.names[strings.ToUpper(cmd.Name())]++
	}
}

func newStore(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := NewStore(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func TestSourceIsSeenAndOnlyRead(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, source redis.UniversalClient) {
		t.Parallel()
		ctx := context.Background()
		p := "{" + storetest.Site(t) + "}:"
		require.NoError(t, source.Set(ctx, p+"string", "v", time.Hour).Err())
		many := make([]any, 0, 6000)
		for i := range 3000 {
			many = append(many, i, i*2)
		}
		require.NoError(t, source.HSet(ctx, p+"hash", many...).Err())
		require.NoError(t, source.SAdd(ctx, p+"set", many...).Err())
		require.NoError(t, source.RPush(ctx, p+"list", many...).Err())
		require.NoError(t, source.ZAdd(ctx, p+"zset", redis.Z{Score: 0.1, Member: "a"}, redis.Z{Score: 1e17, Member: "b"}).Err())
		for i := range 10 {
			require.NoError(t, source.XAdd(ctx, &redis.XAddArgs{Stream: p + "stream", ID: "5-" + string(rune('1'+i)), Values: []any{"b", i, "a", "", "b", "again"}}).Err())
			if i == 8 {
				break
			}
		}
		id, err := source.XAdd(ctx, &redis.XAddArgs{Stream: p + "emptied", Values: []any{"a", 1}}).Result()
		require.NoError(t, err)
		require.NoError(t, source.XDel(ctx, p+"emptied", id).Err())
		before := dump(t, source, p)

		log := &commandLog{names: map[string]int{}}
		source.AddHook(log)
		s := newStore(t, Options{Source: source, Tail: 4})
		reply, calls, err := Run(ctx, Script{Text: `
			local p = KEYS[1]
			local r = {
				redis.call('GET', p .. 'string'), redis.call('PTTL', p .. 'string'),
				redis.call('HLEN', p .. 'hash'), redis.call('HGET', p .. 'hash', '17'),
				redis.call('SCARD', p .. 'set'), redis.call('SISMEMBER', p .. 'set', '5998'),
				redis.call('LLEN', p .. 'list'), redis.call('LINDEX', p .. 'list', 5999),
				redis.call('ZSCORE', p .. 'zset', 'a'), redis.call('ZRANGE', p .. 'zset', 1, 1, 'WITHSCORES'),
				redis.call('XLEN', p .. 'stream'), redis.call('XRANGE', p .. 'stream', '-', '+', 'COUNT', 1),
				redis.call('EXISTS', p .. 'none', p .. 'string'), redis.call('XLEN', p .. 'emptied'),
				redis.call('XADD', p .. 'emptied', '*', 'a', 'b'), redis.call('XADD', p .. 'stream', '*', 'a', 'b'),
				redis.call('INCR', p .. 'counter'), redis.call('DEL', p .. 'string', p .. 'hash'), redis.call('EXISTS', p .. 'string'),
				redis.call('PUBLISH', p .. 'news', 'hello'), redis.call('SADD', p .. 'set', 'x'), redis.call('TIME'),
			}
			return r`}, []string{p}, nil, s)
		require.NoError(t, err)
		r := reply.([]any)
		require.Equal(t, "v", r[0])
		require.InDelta(t, time.Hour.Milliseconds(), r[1], 60_000)
		require.Equal(t, []any{int64(3000), "34"}, r[2:4])
		require.Equal(t, int64(1), r[5])
		require.Equal(t, []any{int64(6000), "5998"}, r[6:8])
		require.Equal(t, "0.1", r[8])
		require.Equal(t, "b", r[9].([]any)[0])
		require.Equal(t, []any{int64(4), []any{[]any{"5-6", []any{"b", "5", "a", "", "b", "again"}}}}, r[10:12])
		require.Equal(t, []any{int64(1), int64(0)}, r[12:14])
		require.Greater(t, r[14], id)
		require.Equal(t, []any{int64(1), int64(2), int64(0), int64(0), int64(1)}, r[16:21])
		require.Len(t, r[21], 2)

		var written []string
		for _, c := range calls {
			if c.Writes {
				written = append(written, c.Args[0])
			}
			require.NotZero(t, c.Line)
			require.False(t, c.Protected)
		}
		require.Equal(t, []string{"XADD", "XADD", "INCR", "DEL", "PUBLISH", "SADD"}, written)

		reads := makeSet("TYPE PTTL GET HLEN HSCAN SCARD SSCAN ZCARD ZSCAN LLEN LRANGE XREVRANGE XINFO TIME HELLO CLIENT")
		for name := range log.names {
			require.True(t, reads[name], "the source got %s", name)
		}
		require.Equal(t, before, dump(t, source, p))

		// the scratch store keeps its data for the next run
		reply, _, err = Run(ctx, Script{Text: `return {redis.call('INCR', KEYS[1] .. 'counter'), redis.call('EXISTS', KEYS[1] .. 'string')}`}, []string{p}, nil, s)
		require.NoError(t, err)
		require.Equal(t, []any{int64(2), int64(0)}, reply)
	})
}

func dump(t *testing.T, c redis.UniversalClient, prefix string) map[string]any {
	t.Helper()
	ctx := context.Background()
	all := map[string]any{}
	keys, err := c.Keys(ctx, prefix+"*").Result()
	require.NoError(t, err)
	for _, k := range keys {
		kind := c.Type(ctx, k).Val()
		switch kind {
		case "string":
			all[k] = c.Get(ctx, k).Val()
		case "hash":
			all[k] = c.HGetAll(ctx, k).Val()
		case "set":
			all[k] = c.SMembersMap(ctx, k).Val()
		case "list":
			all[k] = c.LRange(ctx, k, 0, -1).Val()
		case "zset":
			all[k] = c.ZRangeWithScores(ctx, k, 0, -1).Val()
		case "stream":
			all[k] = c.XRange(ctx, k, "-", "+").Val()
		}
	}
	return all
}

func TestSourceThatFails(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := storetest.Own(t)
	source := storetest.Client(t, server.URL)
	require.NoError(t, source.RPush(ctx, "list", 1, 2, 3).Err())
	s := newStore(t, Options{Source: source, Items: 2})
	text := Script{Name: "x", Text: "\nreturn redis.pcall('LLEN', KEYS[1])"}
	_, _, err := Run(ctx, text, []string{"list"}, nil, s)
	require.ErrorIs(t, err, ErrStore)
	require.ErrorContains(t, err, `script x: user_script:2: luabox: store: copying key "list": it has 3 items, more than 2`)
	server.Kill()
	_, _, err = Run(ctx, text, []string{"other"}, nil, s)
	require.ErrorIs(t, err, ErrStore)
}

func TestUnknownCommandsAreNamed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, text := range []string{"pcall(redis.pcall, 'JSON.GET', 'a') return 1", "redis.call('JSON.GET', 'a')"} {
		_, _, err := Run(ctx, Script{Text: text}, nil, nil, nil)
		require.ErrorIs(t, err, ErrCommand)
		require.ErrorContains(t, err, `"JSON.GET" is not among`)
	}
	_, _, err := Run(ctx, Script{Text: "return redis.pcall('XGROUP', 'NOPE', 'a')"}, nil, nil, nil)
	require.Error(t, err)
	s := newStore(t, Options{})
	_, err = s.Do(ctx, "FLUSHALL")
	require.ErrorIs(t, err, ErrCommand)
	_, err = s.Do(ctx)
	require.ErrorIs(t, err, ErrCommand)
	_, err = s.Do(ctx, "INCR", "a", "b")
	require.IsType(t, ReplyError(""), err)
	reply, err := s.Do(ctx, "set", "a", "1")
	require.NoError(t, err)
	require.Equal(t, Status("OK"), reply)
	names, err := s.Keys(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, names)
	reply, err = s.Do(ctx, "XREAD", "BLOCK", "0", "STREAMS", "none", "0")
	require.NoError(t, err)
	require.Nil(t, reply)
	require.NoError(t, s.Close(ctx))
	_, err = s.Do(ctx, "GET", "a")
	require.ErrorIs(t, err, ErrStore)
	_, _, err = Run(ctx, Script{Text: "return redis.call('GET', 'a')"}, nil, nil, s)
	require.ErrorIs(t, err, ErrStore)
}

func TestTimeIsGivenAndFrozen(t *testing.T) {
	t.Parallel()
	now := time.UnixMicro(1700000000123456)
	s := newStore(t, Options{Now: func() time.Time { now = now.Add(time.Second); return now }})
	for i := range 2 {
		reply, _, err := Run(context.Background(), Script{Text: "local a, b = redis.call('TIME'), redis.call('TIME') return {a[1], a[2], b[1]}"}, nil, nil, s)
		require.NoError(t, err)
		want := []any{"1700000001", "123456", "1700000001"}
		if i == 1 {
			want[0], want[2] = "1700000002", "1700000002"
		}
		require.Equal(t, want, reply)
	}
}

func TestCallsAreLogged(t *testing.T) {
	t.Parallel()
	_, calls, err := Run(context.Background(), Script{Text: `redis.call('SET', KEYS[1], ARGV[1], 'PX', 1000)
		redis.pcall('HGET', KEYS[1], 'f')
		return redis.call('get', KEYS[1]), error('end')`}, []string{"k"}, []string{"v"}, nil)
	require.EqualError(t, err, "user_script:3: end")
	for i := range calls {
		require.Positive(t, calls[i].Duration)
		calls[i].Duration = 0
	}
	require.Equal(t, []Call{
		{Args: []string{"SET", "k", "v", "PX", "1000"}, Reply: Status("OK"), Writes: true, Line: 1},
		{Args: []string{"HGET", "k", "f"}, Err: "WRONGTYPE Operation against a key holding the wrong kind of value", Protected: true, Line: 2},
		{Args: []string{"get", "k"}, Reply: "v", Line: 3},
	}, calls)
}

func TestKeysOfCommands(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"GET a": "a", "MGET a b c": "a b c", "MSET a 1 b 2": "a b", "DEL a b": "a b", "TIME": "", "PUBLISH c m": "", "RENAME a b": "a b",
		"XREAD COUNT 1 STREAMS a b 0 0": "a b", "XREADGROUP GROUP g c STREAMS a >": "a", "XGROUP CREATE a g $": "a", "XINFO STREAM a": "a",
		"ZUNIONSTORE d 2 a b": "d a b", "ZUNION 2 a b WITHSCORES": "a b", "ZUNION x": "", "ZUNIONSTORE": "", "GET": "", "XREAD": "",
		"SINTERCARD 9 a": "a", "HSET h f v": "h", "ZUNIONSTORE d -1 a": "d",
	} {
		args := strings.Fields(line)
		c, ok := find(args[0])
		require.True(t, ok, line)
		require.Equal(t, want, strings.Join(c.keysOf(args), " "), line)
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	got := Profile([]Call{
		{Args: []string{"hget", "a", "b"}, Duration: 2}, {Args: []string{"HGET", "a"}, Duration: 3, Err: "x"}, {Args: []string{"SET", "a", "b"}, Duration: 9}, {},
	})
	require.Equal(t, []CommandProfile{
		{Command: "SET", Calls: 1, Args: 2, Total: 9, Max: 9},
		{Command: "HGET", Calls: 2, Args: 3, Errors: 1, Total: 5, Max: 3},
	}, got)
	require.Empty(t, Profile(nil))
}
