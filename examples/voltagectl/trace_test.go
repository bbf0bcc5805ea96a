package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// masked takes out of a page what is another one in the next run or build:
// times, generations, versions and the lines of the Lua.
func masked(page string) string {
	for _, m := range [][2]string{
		{`\d{13}-\d+`, "<entry>"},
		{`\b\d{13}\b`, "<ms>"},
		{`\["\d{10}", "\d+"\]`, "[<seconds>, <µs>]"},
		{`"[0-9a-f]{16}"`, "<generation>"},
		{`\d+\.\d+\.\d+\+[0-9a-f]{8}`, "<version>"},
		{`\.lua:\d+ +\d+ µs`, ".lua:<line>  <n> µs"},
		{`(?m)^ {20,}`, strings.Repeat(" ", 20)},
		{`\b\d+ µs in commands`, "<n> µs in commands"},
	} {
		page = regexp.MustCompile(m[0]).ReplaceAllString(page, m[1])
	}
	return page
}

// TestDemoTrace holds the first thing that a newcomer sees.
func TestDemoTrace(t *testing.T) {
	t.Parallel()
	code, out, errs := ctl(t, "scripts", "trace", "data_sync", "--", "c2m", "1001", "10001", "25.5")
	require.Zero(t, code, errs)
	require.Equal(t, demoText+demoSays, errs)
	file := filepath.Join("testdata", "trace.txt")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(masked(out)), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	const hint = "go test ./examples/voltagectl -run TestDemoTrace -update writes it anew, here and in docs/scripts.md"
	require.Equal(t, string(want), masked(out), hint)
	require.Equal(t, string(want), masked(documented(t, out)), hint)

	// where a call is said to be made, there is one
	places := regexp.MustCompile(`(?m)^ +\d+ \w+ +(\S+\.lua):(\d+) `).FindAllStringSubmatch(out, -1)
	require.Greater(t, len(places), 20)
	for _, p := range places {
		require.Regexp(t, `redis\.p?call`, luaLine(t, p[1], p[2]), "%s:%s", p[1], p[2])
	}
}

// documented returns the trace that docs/scripts.md shows; with -update it is put
// there first if it is another one.
func documented(t *testing.T, out string) string {
	t.Helper()
	const file, command = "../../docs/scripts.md", "    $ voltagectl scripts trace data_sync -- c2m 1001 10001 25.5\n"
	page, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(page), command)
	require.True(t, found, "docs/scripts.md does not show the trace")
	end := regexp.MustCompile(`(?m)^\S`).FindStringIndex(rest)
	require.NotNil(t, end)
	shown := strings.TrimRight(regexp.MustCompile(`(?m)^ {4}`).ReplaceAllString(rest[:end[0]], ""), "\n") + "\n"
	if *update && masked(shown) != masked(out) {
		block := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(out, "    $1") + "\n"
		require.NoError(t, os.WriteFile(file, []byte(before+command+block+rest[end[0]:]), 0o644))
		return out
	}
	return shown
}

func luaLine(t *testing.T, file, line string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../scripts/lua", file))
	require.NoError(t, err)
	var n int
	require.NoError(t, json.Unmarshal([]byte(line), &n))
	// a call may begin some lines above the one that it ends on
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, n-4):n], "\n")
}

func TestTraceOnScratch(t *testing.T) {
	t.Parallel()
	// no rule, no model: an empty store
	code, out, errs := ctl(t, "scripts", "trace", "data_sync", "-demo=false", "--", "c2m", "1001", "10001", "-25.5")
	require.Zero(t, code)
	require.Equal(t, emptyText, errs)
	require.Contains(t, out, "value = -25.5")
	require.Contains(t, out, "+ 10001 = -25.500000")
	require.NotContains(t, out, "pcs1")
	// without --, where nothing looks like a flag
	require.Contains(t, ok(t, "scripts", "trace", "alarm_check", "pcs1", "temperature", "26"), "alarm warm of pcs1:temperature raised")
	// the command's record, and the rule that gives one
	out = ok(t, "scripts", "trace", "data_sync", "--", "m2c", "pcs1", "power_setpoint", "50")
	require.Contains(t, out, "state = queued")
	out = ok(t, "scripts", "trace", "data_sync", "--", "c2m", "1001", "10001", "61")
	require.Contains(t, out, "rule:stats:derate")
	require.Contains(t, out, "cmd:1001:queue")
	// what a refusal means
	out = ok(t, "scripts", "trace", "data_sync", "--", "c2m", "1001", "10001", "warm")
	require.Contains(t, out, "answer   INVALID: (by hand) the arguments are not as above")
	require.Contains(t, out, "1 call: 1 read of 3 keys; it made 0 writes")
	// another text
	from := newer(t, "1.77.0", "return report\nend\n\nlocal function m2c", "error('gone')\nend\n\nlocal function m2c")
	code, out, errs = ctl(t, "scripts", "trace", "data_sync", "-folder", from, "--", "c2m", "1001", "10001", "1")
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `failed   script data_sync 1\.77\.0\+\S+: data_sync\.lua:\d+: gone`, out)
	require.Contains(t, errs, "gone")

	var v traceView
	require.NoError(t, json.Unmarshal([]byte(ok(t, "scripts", "trace", "data_sync", "-json", "-site", "plant", "--", "c2m", "1001", "10001", "25.5")), &v))
	require.Equal(t, "scratch", v.Where)
	require.Equal(t, "OK", v.Reply[0])
	require.NotEmpty(t, v.Changes)
	i := slices.IndexFunc(v.Calls, func(c callView) bool { return c.Args[0] == "HSET" })
	require.Equal(t, []string{"HSET", "{plant}:comsrv:1001:m", "10001", "25.500000"}, v.Calls[i].Args)
	require.Equal(t, "write", v.Calls[i].Access)
	require.Equal(t, []string{"the channel's values"}, v.Calls[i].Why)
	require.Equal(t, "data_sync.lua", v.Calls[i].File)
}

func TestTraceForReal(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Redis(t))
	key := func(name string) string { return "{" + s.Site() + "}:" + name }
	out := s.ok(t, "trace", "data_sync", "--", "c2m", "1001", "10001", "25.5")
	require.Contains(t, out, "run for real")
	require.Contains(t, out, "every key begins with {"+s.Site()+"}:")
	require.Contains(t, out, "HSET comsrv:1001:m 10001 25.500000 → 1")
	require.Contains(t, out, "alarm warm of pcs1:temperature raised")
	require.NotContains(t, out, "\nchanges")
	require.NotContains(t, strings.ReplaceAll(out, "begins with {"+s.Site()+"}:", ""), "{"+s.Site()+"}:")
	require.Equal(t, "25.500000", s.client.HGet(t.Context(), key("comsrv:1001:m"), "10001").Val())

	code, _, errs := s.ctl(t, "trace", "data_sync", "-folder", newer(t, "1.77.0"), "--", "c2m")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "-dry-run")
	code, _, errs = s.ctl(t, "trace", "nothing", "--", "x")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "this build has no script")

	// a script that fails: how far it came, and where
	require.NoError(t, s.client.Del(t.Context(), key("modsrv:pcs1:measurement")).Err())
	require.NoError(t, s.client.Set(t.Context(), key("modsrv:pcs1:measurement"), "odd", 0).Err())
	code, out, errs = s.ctl(t, "trace", "data_sync", "--", "c2m", "1001", "10001", "20")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "→ error: WRONGTYPE")
	require.Regexp(t, `failed   script data_sync \S+: data_sync\.lua:\d+: WRONGTYPE`, out)
	require.Contains(t, out, "stays written")
	require.Contains(t, errs, "WRONGTYPE")
}

// contents returns every key of a server with what it holds and how long it lasts.
func contents(t *testing.T, client redis.UniversalClient) map[string]string {
	t.Helper()
	ctx := t.Context()
	all := map[string]string{}
	names, err := client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	for _, name := range names {
		all[name] = client.Dump(ctx, name).Val() + client.ExpireTime(ctx, name).String()
	}
	return all
}

// A dry run changes nothing on a real Redis, asks it nothing but commands that
// read, and foresees what the real call then does.
func TestDryRunOnlyReads(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	s := newSite(t, server.URL)
	ctx := t.Context()
	s.ok(t, "trace", "data_sync", "--", "c2m", "1001", "10001", "20", "1700000000000")
	before := contents(t, s.client)
	require.NoError(t, s.client.ConfigResetStat(ctx).Err())

	dry := s.ok(t, "trace", "data_sync", "--dry-run", "--", "c2m", "1001", "10001", "25.5", "1700000001000")
	s.ok(t, "trace", "data_sync", "-dry-run", "-folder", newer(t, "1.77.0"), "--", "c2m", "1001", "10001", "25.5")
	s.ok(t, "trace", "site_config", "-dry-run", "--", "drop_model", "", "", "pcs1")
	s.ok(t, "profile", "data_sync", "-n", "3", "--", "m2c", "pcs1", "power_setpoint", "1")
	asked := s.client.Info(ctx, "commandstats").Val()
	require.Equal(t, before, contents(t, s.client))

	require.Contains(t, dry, "nothing was written")
	require.Regexp(t, `would write +data_sync\.lua:\d+ `, dry)
	require.Contains(t, dry, "~ 10001: 20.000000 → 25.500000")
	require.Regexp(t, `\+ pcs1:temperature:warm = 1\|\d*\|\|1\|active\|`, dry)
	require.Contains(t, dry, "it would make ")
	readers := map[string]bool{"config|resetstat": true}
	for name := range strings.FieldsSeq("get type pttl time hlen hscan scard sscan zcard zscan llen lrange xrevrange xinfo|stream info ping hello select") {
		readers[name] = true
	}
	stats := regexp.MustCompile(`(?m)^cmdstat_([^:]+):calls=(\d+)`).FindAllStringSubmatch(asked, -1)
	require.NotEmpty(t, stats)
	for _, m := range stats {
		require.True(t, readers[m[1]], "%s reached the server", m[0])
	}

	s.ok(t, "trace", "data_sync", "--", "c2m", "1001", "10001", "25.5", "1700000001000")
	prefix := "{" + s.Site() + "}:"
	for name, text := range map[string]string{"comsrv:1001:m": "25.500000", "modsrv:pcs1:measurement": "25.500000"} {
		require.Contains(t, s.client.HVals(ctx, prefix+name).Val(), text)
	}
	after := contents(t, s.client)
	for name := range after {
		short := strings.TrimPrefix(name, prefix)
		require.Equal(t, after[name] != before[name], regexp.MustCompile(`(?m)^ {9}`+regexp.QuoteMeta(short)+`$`).MatchString(dry), short)
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	out := ok(t, "scripts", "profile", "data_sync", "-n", "5", "--", "c2m", "1001", "10001", "25.5")
	require.Contains(t, out, "measured: 5 runs in this process, on a scratch store")
	require.Contains(t, out, "answers:  OK 5")
	require.Regexp(t, `MGET +1\.00 +\S+ .s`, out)
	require.Regexp(t, `together +\S+ .s +100\.0 %`, out)
	require.NotContains(t, out, "the Lua itself")
	var f scripts.Profile
	require.NoError(t, json.Unmarshal([]byte(ok(t, "scripts", "profile", "data_sync", "-n", "5", "-json", "--", "c2m", "1001", "10001", "25.5")), &f))
	require.Equal(t, 5, f.Runs)
	require.NotEmpty(t, f.Commands)

	s := newSite(t, storetest.Own(t).URL)
	out = s.ok(t, "profile", "data_sync", "-n", "5", "--", "c2m", "1001", "10001", "25.5")
	require.Contains(t, out, "which stay as they are")
	require.Empty(t, s.client.HGetAll(t.Context(), "{"+s.Site()+"}:comsrv:1001:m").Val())
	out = s.ok(t, "profile", "data_sync", "-n", "5", "-real", "--", "c2m", "1001", "10001", "25.5")
	require.Contains(t, out, "for real, which wrote")
	require.Contains(t, out, "INFO commandstats")
	require.Regexp(t, `MGET +1\.00`, out)
	require.Contains(t, out, "the Lua itself")
	code, _, errs := s.ctl(t, "profile", "data_sync", "-real", "-folder", "x", "--", "c2m")
	require.Equal(t, exitUsage, code, errs)
}
