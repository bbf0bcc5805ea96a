package scripts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

// Errors of scripts on real stores: each names the file and line where it began.
func TestScriptErrors(t *testing.T) {
	t.Parallel()
	const own, shared = "-- a: x\n-- @version 1.0.0\n-- @include one\n-- @include two\n", "-- shared\nlocal KEY = KEYS[1]\n"
	cases := map[string]struct {
		two, a  string // what stands behind the four lines of a.lua and the two of include/two.lua
		file    string
		line    int
		message string // part of it
	}{
		"syntax, include":       {two: "local x = = 1\n", file: "include/two.lua", line: 3, message: "'='"},
		"syntax, own":           {a: "\nif then\n", file: "a.lua", line: 6, message: "then"},
		"no end":                {a: "if 1 then\n\nlocal x = 1", file: "a.lua", line: 7, message: ""},
		"nil index, include":    {two: "\nlocal function f(t)\n  return t.x.y\nend\n", a: "local x = f({})\nreturn x\n", file: "include/two.lua", line: 5, message: "attempt to index"},
		"nil index, own":        {a: "local t = {}\n\nlocal x = t.x.y\n", file: "a.lua", line: 7, message: "attempt to index"},
		"arithmetic":            {a: "local t = {}\nlocal x = t + 1\n", file: "a.lua", line: 6, message: "t"},
		"error":                 {two: "local function f() error('the device is gone') end\n", a: "f()\n", file: "include/two.lua", line: 3, message: "the device is gone"},
		"error, no position":    {a: "local t\nerror('gone', 0)\n", file: "a.lua", line: 6, message: "gone"},
		"error, position above": {two: "local function f()\n  error('gone', 2)\nend\n", a: "\nf()\n", file: "a.lua", line: 6, message: "gone"},
		"error rethrown":        {two: "local function f()\n  error('gone')\nend\n", a: "local ok, e = pcall(f)\nerror(e)\n", file: "include/two.lua", line: 4, message: "gone"},
		"wrong type":            {two: "local function f()\n  redis.call('HSET', KEY, 'a', 'b')\nend\n", a: "redis.call('SET', KEY, 'x')\nf()\n", file: "include/two.lua", line: 4, message: "WRONGTYPE"},
		"wrong type, own":       {a: "redis.call('SET', KEY, 'x')\nredis.call('LPUSH', KEY, 'a')\n", file: "a.lua", line: 6, message: "WRONGTYPE"},
		"no such command":       {a: "redis.call('NOSUCH')\n", file: "a.lua", line: 5, message: "command"},
		"too few arguments":     {a: "redis.call('GET')\n", file: "a.lua", line: 5, message: "rong number of arg"},
		"bad argument":          {a: "\nredis.call('GET', {})\n", file: "a.lua", line: 6, message: "must be strings or integers"},
		"global read":           {two: "local function f()\n  return nosuch\nend\n", a: "local x = f()\n", file: "include/two.lua", line: 4, message: "nosuch"},
		"global written":        {a: "\n\nnosuch = 1\n", file: "a.lua", line: 7, message: ""},
		"endless recursion":     {two: "local function f(n)\n  return 1 + f(n)\nend\n", a: "\nlocal x = f(1)\n", file: "include/two.lua", line: 4, message: "stack overflow"},
		"too much to unpack":    {a: "local x = { unpack({}, 1, 10000) }\n", file: "a.lua", line: 5, message: "o"},
	}
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		for name, c := range cases {
			if name == "error, position above" && strings.HasSuffix(t.Name(), "/embedded") {
				continue // the embedded store takes any level for 1
			}
			list, err := ComposeFolder(folder("a.lua", own+c.a, "include/one.lua", shared, "include/two.lua", "-- shared\n-- @include one\n"+c.two))
			require.NoError(t, err, name)
			s := list[0]
			err = runScript(t.Context(), client, &s, "{"+storetest.Site(t)+"}:anchor")
			var failed *ScriptError
			require.ErrorAs(t, err, &failed, name)
			require.Equal(t, fmt.Sprintf("%s:%d", c.file, c.line), fmt.Sprintf("%s:%d", failed.File, failed.Line), "%s: %v", name, errors.Unwrap(failed.cause))
			require.Contains(t, failed.Message, c.message, name)
			require.NotContains(t, failed.Message, "user_script", name)
			require.NotContains(t, failed.Message, "traceback", name)
			foreign := c.message == "WRONGTYPE" // that is not the script's fault
			require.Equal(t, !foreign, errors.Is(err, ErrScript), name)
			require.Equal(t, foreign, errors.Is(err, ErrStore), name)
			require.True(t, isAnswer(err), name)
			require.True(t, strings.HasPrefix(err.Error(), fmt.Sprintf("script a %s: %s:%d: ", s.Version, c.file, c.line)), err.Error())
		}
		// what a script answers as an error is its answer
		list, err := ComposeFolder(folder("a.lua", "-- a: x\n-- @version 1.0.0\nreturn redis.error_reply('MINE it is')\n"))
		require.NoError(t, err)
		err = runScript(t.Context(), client, &list[0], "x")
		require.ErrorIs(t, err, ErrStore)
	})
}

func runScript(ctx context.Context, client redis.UniversalClient, s *Script, key string) error {
	sha, err := client.ScriptLoad(ctx, s.Text).Result()
	if err == nil {
		err = client.EvalSha(ctx, sha, []string{key}).Err()
	}
	return scriptError(s, err)
}

// What stores say that are not here to be asked, and what is no fault of a script.
func TestScriptErrorTexts(t *testing.T) {
	t.Parallel()
	s := Script{Name: "a", Version: "1.0.0+00000000", Text: "local SCRIPT, VERSION = 'a', '1.0.0+00000000'\n-- from include/b.lua\n1\n2\n-- from a.lua\n1\n2\n"}
	const sha = "0123456789012345678901234567890123456789"
	for text, want := range map[string]string{
		"ERR Error running script (call to f_" + sha + "): @user_script:4: user_script:4: attempt to index a nil value ": "include/b.lua:2: attempt to index a nil value",
		"ERR Error running script (call to f_" + sha + "): @user_script:7: @user_script: 7: Unknown Redis command ":      "a.lua:2: Unknown Redis command",
		"ERR Error running script (call to f_" + sha + "): @user_script:6: WRONGTYPE Operation against a key":            "a.lua:1: WRONGTYPE Operation against a key",
		"ERR user_script:6: boom script: " + sha + ", on @user_script:6.":                                                "a.lua:1: boom",
		"WRONGTYPE Operation script: " + sha + ", on @user_script:3.":                                                    "include/b.lua:1: WRONGTYPE Operation",
		"ERR boom script: " + sha: "boom",
		"ERR Error compiling script (new function): user_script:9: 'end' expected near '<eof>'":                                            "a.lua:2: 'end' expected near '<eof>'",
		"ERR user_script:1: boom script: " + sha + ", on @user_script:1.":                                                                  "line 1: boom",
		"ERR Error running script: Script killed by user with SCRIPT KILL. script: " + sha + ", on @user_script:7.":                        "a.lua:2: Error running script: Script killed by user with SCRIPT KILL.",
		"OOM command not allowed when used memory > 'maxmemory'. script: " + sha + ", on @user_script:7.":                                  "",
		"ERR Error running script (call to f_" + sha + "): @user_script:7: @user_script: 7: -OOM command not allowed when used memory > x": "",
		"LOADING Redis is loading the dataset in memory":                                                                                   "",
		"BUSY Redis is busy running a script.":                                                                                             "",
		"NOSCRIPT No matching script.":                                                                                                     "",
		"NOAUTH Authentication required.":                                                                                                  "",
		"":                                                                                                                                 "",
	} {
		cause := redisError(text)
		err := scriptError(&s, cause)
		var failed *ScriptError
		if want == "" {
			require.False(t, errors.As(err, &failed), text)
			require.ErrorIs(t, err, ErrStore, text)
			continue
		}
		require.ErrorAs(t, err, &failed, text)
		require.Equal(t, "script a 1.0.0+00000000: "+want, err.Error())
		require.ErrorIs(t, err, error(cause))
	}
	require.NoError(t, scriptError(&s, nil))
	require.ErrorIs(t, scriptError(&s, io.EOF), ErrStore)
	require.Equal(t, context.Canceled, scriptError(&s, context.Canceled))
}
