package reference_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/internal/reference"
	"github.com/voltageems/voltage/scripts/storetest"
)

// Each line is a command; a case begins with an empty store. In keys, "@" stands
// for a prefix of the case's own.
var memoryCases = map[string]string{
	"string": `GET @a|SET @a 1|GET @a|MGET @a @none @a|SET @a 2 EX 100|SET @a 3 PX 100000|SET @a 3 EX 0|SET @a 3 EX x|SET @a 3 PX -1|SET @a 3 YX 1|SET @a|
		SET @a 3 EX|EXISTS @a|EXISTS @a @a @none|DEL @a @none|EXISTS @a`,
	"counter": `INCR @n|INCR @n|INCRBY @n 40|INCRBY @n -50|GET @n|SET @n x|INCR @n|SET @n 1.5|INCR @n|SET @n 9223372036854775807|INCR @n|INCRBY @n -1|INCRBY @n x|
		SET @n -9223372036854775808|INCRBY @n -1|INCRBY @n 5|SADD @s x|INCR @s`,
	"hash": `HGET @h a|HMGET @h a b|HGETALL @h|HLEN @h|HEXISTS @h a|HDEL @h a|HSET @h a 1|HSET @h a 2 b 3 b 4|HGET @h a|HGET @h none|HMGET @h b none a|HGETALL @h|
		HLEN @h|HEXISTS @h a|HEXISTS @h none|HSET @h a|HSET @h a 1 b|HDEL @h a none|HDEL @h b|EXISTS @h|HINCRBY @h n 5|HINCRBY @h n -7|HSET @h n x|HINCRBY @h n 1|HINCRBY @h m x`,
	"set":  `SISMEMBER @s a|SREM @s a|SADD @s a b a|SADD @s a c|SISMEMBER @s a|SISMEMBER @s none|SREM @s a none|SREM @s b c|EXISTS @s`,
	"list": `LPUSH @l a b c|LTRIM @l 0 1|LPUSH @l d|LTRIM @l 1 -1|LTRIM @l 5 9|EXISTS @l|LTRIM @l 0 1|LPUSH @l a b c d|LTRIM @l -3 -2|LTRIM @l x 1|LTRIM @l 0 x|LTRIM @l -9 9`,
	"stream": `XRANGE @x - +|XADD @x * a 1|XADD @x * a 2 b 3|XADD @x MAXLEN 2 * a 4|XADD @x MAXLEN ~ 1000 * a 5|XADD @x MAXLEN = 2 * a 6|XRANGE @x - +|XRANGE @x - + COUNT 1|XREVRANGE @x + - COUNT 1|
		XREVRANGE @x + -|XADD @x * a|XADD @x *|XADD @x MAXLEN x * a 1|XADD @x MAXLEN -1 * a 1|XDEL @x 1-1|XDEL @x x|XDEL @x 1-x|XDEL @x 5|XDEL @none x|XRANGE @x - + COUNT x`,
	"sorted set": `ZRANGE @z 0 -1|ZCARD @z|ZREM @z a|ZADD @z 5 b|ZADD @z 5 a|ZADD @z NX 9 a|ZADD @z NX -1.5 c|ZADD @z 7 a|ZADD @z x a|ZADD @z 9007199254740993 d|ZCARD @z|
		ZRANGE @z 0 1|ZRANGE @z 1 9|ZRANGE @z 9 10|ZRANGE @z 2 1|ZRANGE @z x 1|ZRANGE @z 0 x|ZRANGEBYSCORE @z -inf 5|ZRANGEBYSCORE @z -inf 9 LIMIT 0 2|ZRANGEBYSCORE @z -inf 4 LIMIT 0 0|ZRANGEBYSCORE @z -inf x|
		ZRANGEBYSCORE @z -inf 9 LIMIT 0 x|ZRANGEBYSCORE @none -inf 5|ZREM @z a none|ZREM @z b c d|EXISTS @z|ZADD @z|ZRANGEBYSCORE @z -inf`,
	"parts": `HKEYS @h|HVALS @h|HSET @h a 1|HKEYS @h|HVALS @h|LPOP @l|LPUSH @l a b c|LPOP @l|LPOP @l|LPOP @l|EXISTS @l`,
	"wrong type": `ZADD @h 1 a|HKEYS @h|ZADD @h x a|SADD @h a|ZCARD @h|DEL @h|HSET @h a 1|ZADD @h 1 a|ZREM @h a|ZCARD @h|ZRANGE @h 0 1|ZRANGEBYSCORE @h -inf 5|LPOP @h|DEL @h|HSET @h a 1|GET @h|INCR @h|INCRBY @h 1|SADD @h a|SREM @h a|SISMEMBER @h a|LPUSH @h a|LTRIM @h 0 1|XADD @h * a 1|XDEL @h 1-1|XRANGE @h - +|XREVRANGE @h + -|MGET @h|
		SET @h text|HGET @h a|HMGET @h a|HGETALL @h|HEXISTS @h a|HLEN @h|HSET @h a 1|HDEL @h a|HINCRBY @h a 1|SADD @h x|DEL @h|LPUSH @h a|GET @h|HSET @h a 1`,
	"expiry": `EXPIRE @a 10|SET @a 1|EXPIRE @a 10|SET @a 2|HSET @h a 1|EXPIRE @h 100|HSET @h a 2|EXPIRE @h x|INCR @n|EXPIRE @n 100|INCR @n|EXPIRE @a -1|EXISTS @a`,
	"others": `PUBLISH @c text|UNKNOWN a|GET|hget @h a|EXISTS|TIME x`,
}

// The commands answer as those of the stores, with the same errors, and leave
// the same keys.
func TestMemoryIsAsTheStores(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		for name, lines := range memoryCases {
			t.Run(name, func(t *testing.T) {
				prefix := "{" + storetest.Site(t) + "}:"
				m := reference.NewMemory(nil)
				for line := range strings.SplitSeq(lines, "|") {
					line = strings.TrimSpace(line)
					var args []string
					var anys []any
					for a := range strings.FieldsSeq(line) {
						if strings.HasPrefix(a, "@") {
							a = prefix + a[1:]
						}
						args, anys = append(args, a), append(anys, a)
					}
					reply, err := m.Call(args...)
					want, wantErr := client.Do(t.Context(), anys...).Result()
					if errors.Is(wantErr, redis.Nil) {
						wantErr = nil
					}
					require.Equal(t, wantErr != nil, err != nil, "%s: %v, not %v", line, err, wantErr)
					if err != nil {
						require.Equal(t, kindOf(wantErr), kindOf(err), "%s: %v, not %v", line, err, wantErr)
						continue
					}
					require.Equal(t, plain(want), plain(reply), line)
				}
				checkKeys(t, client, prefix, m)
			})
		}
	})
}

// kindOf is the word that an error begins with.
func kindOf(err error) string {
	word, _, _ := strings.Cut(err.Error(), " ")
	return word
}

var streamIDs = regexp.MustCompile(`\b\d{13,}-\d+\b`)

// plain is a reply without the ids of streams and in an order of its own for hashes.
func plain(reply any) string {
	if list, ok := reply.([]any); ok && len(list)%2 == 0 && len(list) > 2 {
		if _, isText := list[0].(string); isText {
			var pairs []string
			for i := 0; i < len(list); i += 2 {
				pairs = append(pairs, fmt.Sprintf("%v=%v", list[i], list[i+1]))
			}
			slices.Sort(pairs)
			return fmt.Sprint(pairs)
		}
	}
	return streamIDs.ReplaceAllString(fmt.Sprint(reply), "<id>")
}

func checkKeys(t *testing.T, client redis.UniversalClient, prefix string, m *reference.Memory) {
	t.Helper()
	ctx := t.Context()
	dump := m.Dump()
	names, err := client.Keys(ctx, prefix+"*").Result()
	require.NoError(t, err)
	for _, name := range names {
		k := dump[name]
		require.Equal(t, client.Type(ctx, name).Val(), k.Type, name)
		require.InDelta(t, max(client.PTTL(ctx, name).Val(), 0), k.TTL, float64(50*time.Second), name)
		switch k.Type {
		case "string":
			require.Equal(t, client.Get(ctx, name).Val(), k.Text, name)
		case "hash":
			require.Equal(t, client.HGetAll(ctx, name).Val(), k.Hash, name)
		case "zset":
			scores := map[string]float64{}
			for _, z := range client.ZRangeWithScores(ctx, name, 0, -1).Val() {
				scores[z.Member.(string)] = z.Score
			}
			require.Equal(t, scores, k.Scores, name)
		case "set":
			require.ElementsMatch(t, client.SMembers(ctx, name).Val(), k.List, name)
		case "list":
			require.Equal(t, client.LRange(ctx, name, 0, -1).Val(), k.List, name)
		case "stream":
			require.EqualValues(t, client.XLen(ctx, name).Val(), len(k.Stream), name)
		}
	}
	require.Len(t, dump, len(names))
}

func TestMemoryClock(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_790_000_000_123)
	m := reference.NewMemory(func() time.Time { return now })
	call := func(args ...string) any {
		reply, err := m.Call(args...)
		require.NoError(t, err)
		return reply
	}
	require.Equal(t, []any{"1790000000", "123000"}, call("TIME"))
	call("SET", "a", "1", "PX", "1500")
	call("HSET", "h", "a", "1")
	call("EXPIRE", "h", "2")
	require.Equal(t, "1790000000123-0", call("XADD", "x", "*", "a", "1"))
	require.Equal(t, "1790000000123-1", call("XADD", "x", "*", "a", "1"))
	now = now.Add(1499 * time.Millisecond)
	require.Equal(t, int64(2), call("EXISTS", "a", "h"))
	now = now.Add(time.Millisecond)
	require.Equal(t, int64(1), call("EXISTS", "a", "h"))
	require.Len(t, m.Dump(), 2)
	now = now.Add(time.Minute)
	require.Len(t, m.Dump(), 1)
	require.Equal(t, int64(1), call("HSET", "h", "b", "2"))
	require.Zero(t, m.Dump()["h"].TTL)
	now = now.Add(-2 * time.Minute) // a clock that goes back
	require.Equal(t, "1790000000123-2", call("XADD", "x", "*", "a", "1"))
	call("PUBLISH", "c", "1")
	call("PUBLISH", "d", "2")
	require.Equal(t, []reference.Message{{Channel: "c", Text: "1"}, {Channel: "d", Text: "2"}}, m.Published())
	_, err := m.Call()
	require.Error(t, err)
}
