package scripts

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

// tracedScript composes a script of one include, whose first line is line 2 of
// its file, and an own part, whose first line is line 4.
func tracedScript(t *testing.T, shared, own string) Script {
	t.Helper()
	list, err := ComposeFolder(folder("a.lua", "-- a: x\n-- @version 1.0.0\n-- @include one\n"+own, "include/one.lua", "-- shared\n"+shared))
	require.NoError(t, err)
	return list[0]
}

func runTraced(t *testing.T, client redis.UniversalClient, s Script, args ...any) ([]string, []TracedCall, error) {
	t.Helper()
	traced := s.Traced()
	require.Equal(t, s.Name, traced.Name)
	require.Equal(t, s.Version, traced.Version)
	require.NotEqual(t, s.SHA, traced.SHA)
	sha, err := client.ScriptLoad(t.Context(), traced.Text).Result()
	require.NoError(t, err)
	require.Equal(t, traced.SHA, sha)
	reply, err := client.EvalSha(t.Context(), sha, []string{"{" + storetest.Site(t) + "}:anchor"}, args...).Result()
	require.NoError(t, err)
	return decodeTrace(&traced, reply)
}

func TestTraced(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := tracedScript(t, `local call = redis.call
local function put(f, v)
  call('HSET', KEYS[1], f, v)
end
`, `put('a\0\r\n:', 'b"ü')
local all = redis.call('HGETALL', KEYS[1])
all[1] = 'changed' -- the log keeps what came
put(1.5, 3)
local none = redis.call('HMGET', KEYS[1], 'none', '1.5', 'none')
local bad = redis.pcall('GET', KEYS[1])
local ok = redis.call('SET', KEYS[1] .. 'x', '')
redis.call('DEL', KEYS[1], KEYS[1] .. 'x')
return { 'OK', bad.err, ok.ok, none[1] == false and 'nil' or 'no', redis.sha1hex(''), 7, SCRIPT, VERSION }
`)
		reply, calls, err := runTraced(t, client, s)
		require.NoError(t, err)
		wrongType := "WRONGTYPE Operation against a key holding the wrong kind of value"
		require.Equal(t, []string{"OK", wrongType, "OK", "nil", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "7", "a", s.Version}, reply)
		key := calls[0].Args[1]
		for i := range calls {
			require.GreaterOrEqual(t, calls[i].Micros, int64(-1))
			require.Less(t, calls[i].Micros, int64(10_000_000))
			calls[i].Micros = 0
		}
		require.Equal(t, []TracedCall{
			{File: "include/one.lua", Line: 4, Args: []string{"HSET", key, "a\x00\r\n:", `b"ü`}, Reply: int64(1)},
			{File: "a.lua", Line: 5, Args: []string{"HGETALL", key}, Reply: []any{"a\x00\r\n:", `b"ü`}},
			{File: "include/one.lua", Line: 4, Args: []string{"HSET", key, "1.5", "3"}, Reply: int64(1)},
			{File: "a.lua", Line: 8, Args: []string{"HMGET", key, "none", "1.5", "none"}, Reply: []any{nil, "3", nil}},
			{File: "a.lua", Line: 9, Protected: true, Args: []string{"GET", key}, Err: wrongType},
			{File: "a.lua", Line: 10, Args: []string{"SET", key + "x", ""}, Reply: "OK"},
			{File: "a.lua", Line: 11, Args: []string{"DEL", key, key + "x"}, Reply: int64(2)},
		}, calls)
	})
}

// The calls before an error are not lost, and the error names its place.
func TestTracedErrors(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		for name, c := range map[string]struct {
			shared, own, at, message string
			calls                    int
		}{
			"nil index":   {"local function f(x)\n  return x.y.z\nend\n", "redis.call('PING')\nlocal x = f({})\n", "include/one.lua:3: ", "attempt to index", 1},
			"wrong type":  {"", "redis.call('SET', KEYS[1], 'x')\nredis.call('HLEN', KEYS[1])\n", "a.lua:5: ", "WRONGTYPE", 2},
			"error":       {"", "redis.call('PING')\n\nerror('gone')\n", "a.lua:6: ", "gone", 1},
			"no position": {"", "redis.call('PING')\nerror('gone', 0)\n", "", "gone", 1},
			"a table":     {"", "error({ err = 'MINE it is' })\n", "", "MINE it is", 0},
			"any table":   {"", "error({ 1 })\n", "", "table", 0},
			"answered":    {"", "return redis.error_reply('MINE it is')\n", "", "MINE it is", 0},
			"argument":    {"", "redis.call('PING')\nredis.pcall('GET', {})\nredis.call('GET', {})\n", "a.lua:", "must be strings or integers", 3},
			"no command":  {"", "redis.call('NOSUCH')\n", "a.lua:4: ", "command", 1},
		} {
			s := tracedScript(t, c.shared, c.own)
			reply, calls, err := runTraced(t, client, s)
			var failed *ScriptError
			require.ErrorAs(t, err, &failed, name)
			require.Nil(t, reply, name)
			if name != "argument" || !strings.HasSuffix(t.Name(), "/embedded") { // there, even pcall raises it
				require.Len(t, calls, c.calls, name)
			}
			require.Contains(t, err.Error(), "script a "+s.Version+": "+c.at, name)
			require.Contains(t, failed.Message, c.message, name)
			require.True(t, isFault(nil, err) || strings.Contains(err.Error(), "WRONGTYPE"))
		}
		// an error that the script deals with is no error
		s := tracedScript(t, "", `redis.call('SET', KEYS[1], 'x')
local ok, e = pcall(redis.call, 'HLEN', KEYS[1])
return { 'OK', tostring(ok), type(e), string.match(e, 'WRONGTYPE') }
`)
		reply, calls, err := runTraced(t, client, s)
		require.NoError(t, err)
		require.Equal(t, []string{"OK", "false", "string", "WRONGTYPE"}, reply)
		require.Contains(t, calls[1].Err, "WRONGTYPE")
		// answers that are no arrays
		for body, want := range map[string][]string{"return 7.9\n": {"7"}, "return 'x'\n": {"x"}, "return false\n": nil, "\n": nil, "return true\n": {"1"},
			"return { 'OK', { 'a', { 1 } }, nil, 'lost' }\n": {"OK", "[a [1]]"}, "return redis.status_reply('FINE')\n": {"FINE"},
			"return redis.call('PING')\n": {"PONG"}} {
			reply, _, err := runTraced(t, client, tracedScript(t, "", body))
			require.NoError(t, err, body)
			require.Equal(t, want, reply, body)
		}
	})
}

// The traced form does what the script does: a whole batch, with as many
// arguments as one has.
func TestTracedBatch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		list, err := Scripts()
		require.NoError(t, err)
		var s Script
		for _, l := range list {
			if l.Name == "data_sync" {
				s = l
			}
		}
		p := "{" + storetest.Site(t) + "}:"
		ctx := t.Context()
		require.NoError(t, client.Set(ctx, p+"site:generation", "g", 0).Err())
		require.NoError(t, client.HSet(ctx, p+"comsrv:1:fence", "epoch", "5", "batch", "0").Err())
		args := []any{"batch", "1790000000000", "g", "", "1", "5", "1", "500"}
		fields := make([]any, 0, 1000)
		for i := range 500 {
			fields = append(fields, strings.Repeat("f", i%5)+"x"+string(rune('a'+i%26))+strings.Repeat("y", i/26), "1.000000")
		}
		for _, key := range []string{"comsrv:1:m", "modsrv:a:measurement"} {
			args = append(args, "S", p+key, "500")
			args = append(args, fields...)
		}
		args = append(args, "P", p+"modsrv:a:update", "x:1")
		traced := s.Traced()
		reply, err := client.Eval(ctx, traced.Text, []string{p + "anchor"}, args...).Result()
		require.NoError(t, err)
		result, calls, err := decodeTrace(&traced, reply)
		require.NoError(t, err)
		require.Equal(t, []string{"OK"}, result)
		require.EqualValues(t, 500, client.HLen(ctx, p+"comsrv:1:m").Val())
		sets := 0
		for _, c := range calls {
			require.NotEmpty(t, c.File, c.Args)
			if c.Args[0] == "HSET" && strings.HasSuffix(c.Args[1], ":measurement") {
				sets += (len(c.Args) - 2) / 2
			}
		}
		require.Equal(t, 500, sets)
	})
}

func TestPlaneTrace(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		ctx, site := t.Context(), storetest.Site(t)
		p, err := New(client, Options{Site: site})
		require.NoError(t, err)
		require.NoError(t, p.Prepare(ctx))
		prefix := "{" + site + "}:"
		require.NoError(t, client.HSet(ctx, prefix+"mapping:c2m", "1001:10001", "pcs1:temperature").Err())
		require.NoError(t, client.HSet(ctx, prefix+"alarm:rules:pcs1:temperature", "hot", `{"operator":">","threshold":60}`).Err())
		tr, err := p.Trace(ctx, "data_sync", "c2m", "1001", "10001", "70")
		require.NoError(t, err)
		require.NoError(t, tr.Err)
		require.Equal(t, []string{"OK", "pcs1:temperature = 70.000000", "alarm hot of pcs1:temperature raised"}, tr.Reply)
		require.Equal(t, "70.000000", client.HGet(ctx, prefix+"comsrv:1001:m", "10001").Val())
		require.Positive(t, tr.Elapsed)
		page := tr.String()
		require.Contains(t, page, "c2m 1001 10001 70\n")
		require.Regexp(t, `(?m)^ +\d+  include/alarm\.lua:\d+ +\d+ µs  INCR \{`+site+`\}:alarm:counter → 1$`, page)
		require.Contains(t, page, `answer: OK "pcs1:temperature = 70.000000" "alarm hot of pcs1:temperature raised"`)

		// another version is active, which has no marker lines of ours
		other := "redis.call('PING')\nreturn { 'OK', 'other' }\n"
		require.NoError(t, client.Set(ctx, p.keys.scriptVersion("data_sync"), "1.9.0+00000000", 0).Err())
		require.NoError(t, client.Set(ctx, p.keys.scriptSource("data_sync", "1.9.0+00000000"), other, 0).Err())
		tr, err = p.Trace(ctx, "data_sync", "c2m")
		require.NoError(t, err)
		require.Equal(t, []string{"OK", "other"}, tr.Reply)
		require.Equal(t, "1.9.0+00000000", tr.Version)
		require.Len(t, tr.Calls, 1)
		require.Equal(t, "data_sync.lua:1", tr.Calls[0].at())

		require.NoError(t, client.Set(ctx, p.keys.scriptSource("data_sync", "1.9.0+00000000"), "redis.call('PING')\nlocal x = nil .. 'a'\n", 0).Err())
		tr, err = p.Trace(ctx, "data_sync")
		require.NoError(t, err)
		require.ErrorIs(t, tr.Err, ErrScript)
		require.Contains(t, tr.Err.Error(), "script data_sync 1.9.0+00000000: data_sync.lua:2: ")
		require.Len(t, tr.Calls, 1)
		require.Contains(t, tr.String(), "failed: script data_sync")

		require.NoError(t, client.Set(ctx, p.keys.scriptVersion("data_sync"), "1.9.1+00000000", 0).Err())
		_, err = p.Trace(ctx, "data_sync")
		require.ErrorIs(t, err, ErrVersion)
		_, err = p.Trace(ctx, "none")
		require.ErrorIs(t, err, ErrNotFound)
	})
}

func FuzzDecodeTrace(f *testing.F) {
	for _, seed := range []string{"a4:s6:trace1i1:s0:i1:a1:s2:OKa1:a5:s4:calli3:i12:a2:s3:GETs1:kn:", "a4:s6:trace1i0:s4:gonei0:n:a0:",
		"a4:s6:trace1i1:s0:i1:es4:MINEa0:", "a9999999999:", "s99:x", "es-1:", "", ":", "i1", "a1:" + strings.Repeat("a1:", 200)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, calls, err := decodeTrace(nil, text)
		if err == nil && len(calls) > len(text) {
			t.Errorf("%d calls of %d bytes", len(calls), len(text))
		}
	})
}
