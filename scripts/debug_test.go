package scripts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

// debugPlane returns the plane of a site of its own with a model, an alarm rule
// and a rule.
func debugPlane(t *testing.T, client redis.UniversalClient) *Plane {
	t.Helper()
	p, err := New(client, Options{Site: storetest.Site(t)})
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, p.Prepare(ctx))
	require.NoError(t, p.PutPoints(ctx, "1001", []model.Point{{ID: "1"}, {ID: "2", Kind: model.Control}}))
	require.NoError(t, p.PutModel(ctx, model.Instance{ID: "pcs1", Measurements: map[string]string{"power": "1001:1"}, Controls: map[string]string{"setpoint": "1001:2"}}))
	require.NoError(t, p.PutAlarmRule(ctx, model.AlarmRule{ID: "high", Model: "pcs1", Point: "power", Operator: model.Above, Threshold: 25}))
	return p
}

// content returns every key of the site, with what it holds.
func siteContent(t *testing.T, p *Plane) map[string]string {
	t.Helper()
	all, err := (&scratchSite{p, p.keys}).dump(t.Context())
	require.NoError(t, err)
	return all
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		p, ctx := debugPlane(t, client), t.Context()
		_, err := p.Trace(ctx, "data_sync", "c2m", "1001", "1", "20")
		require.NoError(t, err)
		s, err := p.ScriptSource(ctx, "data_sync", "")
		require.NoError(t, err)
		before := siteContent(t, p)

		d, err := p.DryRun(ctx, s, "c2m", "1001", "1", "26", "1700000000000")
		require.NoError(t, err)
		require.Equal(t, before, siteContent(t, p), "a dry run writes nothing")
		require.Equal(t, []string{"OK", "pcs1:power = 26.000000", "alarm high of pcs1:power raised"}, d.Reply)
		changed := map[string]string{}
		show := func(s *string) string {
			if s == nil {
				return "nothing"
			}
			return *s
		}
		for _, c := range d.Changes {
			changed[strings.TrimPrefix(c.Key, string(p.keys))+" "+c.Part] = c.Type + " " + show(c.Before) + " → " + show(c.After)
		}
		require.Equal(t, "hash 20.000000 → 26.000000", changed["comsrv:1001:m 1"])
		require.Equal(t, "hash 20.000000 → 26.000000", changed["modsrv:pcs1:measurement power"])
		require.Contains(t, changed["alarm:state pcs1:power:high"], "|1|active|")
		require.Equal(t, "set nothing → ", changed["alarm:active 1"])
		require.Equal(t, "string nothing → 1", changed["alarm:counter "])
		require.Contains(t, changed["notification:queue "], `list nothing → {"type":"alarm"`)
		for name := range changed {
			require.NotContains(t, name, "lua:", "what the dry run needs for itself is no change")
		}

		// the calls and the answer are those of the real run
		real, err := p.Trace(ctx, "data_sync", "c2m", "1001", "1", "26", "1700000000000")
		require.NoError(t, err)
		require.Equal(t, real.Reply, d.Reply)
		require.Equal(t, len(real.Calls), len(d.Calls))
		for i := range real.Calls {
			require.Equal(t, real.Calls[i].Args[:2], d.Calls[i].Args[:2])
			require.Equal(t, real.Calls[i].at(), d.Calls[i].at())
		}

		// keys with the time in their names
		d, err = p.DryRun(ctx, s, "m2c", "pcs1", "setpoint", "1")
		require.NoError(t, err)
		require.Equal(t, "OK", d.Reply[0])
		require.NotEmpty(t, d.Changes)

		// a version that is not active runs as if it were
		other := newScript(s.Name, "1.99.0+00000000", strings.Replace(s.Text, s.Version, "1.99.0+00000000", 1))
		d, err = p.DryRun(ctx, other, "c2m", "1001", "1", "26")
		require.NoError(t, err)
		require.Equal(t, "OK", d.Reply[0])
		require.Equal(t, "1.99.0+00000000", d.Version)
	})
}

// Every kind of key, and everything that can become of it.
func TestDryRunChanges(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		ctx := t.Context()
		p, err := New(client, Options{Site: storetest.Site(t)})
		require.NoError(t, err)
		k := func(name string) string { return p.keys.key(name) }
		require.NoError(t, client.Set(ctx, k("text"), "a", 0).Err())
		require.NoError(t, client.HSet(ctx, k("hash"), "x", "1", "y", "2", "z", "3").Err())
		require.NoError(t, client.RPush(ctx, k("list"), "a", "a", "b").Err())
		require.NoError(t, client.SAdd(ctx, k("set"), "m", "n").Err())
		require.NoError(t, client.ZAdd(ctx, k("zset"), redis.Z{Member: "m", Score: 1}).Err())
		require.NoError(t, client.Set(ctx, k("gone"), "", 0).Err())
		s := tracedScript(t, "", `local k = string.sub(KEYS[1], 1, #KEYS[1] - 6)
redis.call('SET', k .. 'text', 'b', 'PX', 5000)
redis.call('HSET', k .. 'hash', 'x', '1', 'y', '5', 'w', '4')
redis.call('HDEL', k .. 'hash', 'z')
redis.call('LPOP', k .. 'list')
redis.call('RPUSH', k .. 'list', 'c', 'c')
redis.call('SREM', k .. 'set', 'm')
redis.call('SADD', k .. 'set', 'o')
redis.call('ZADD', k .. 'zset', 2, 'm')
redis.call('XADD', k .. 'stream', '5-1', 'f', 'v', 'g', 'w')
redis.call('DEL', k .. 'gone', k .. 'never')
redis.call('PUBLISH', k .. 'told', 'x')
return { 'OK' }
`)
		d, err := p.DryRun(ctx, s)
		require.NoError(t, err)
		var got []string
		for _, c := range d.Changes {
			show := func(s *string) string {
				if s == nil {
					return "-"
				}
				return fmt.Sprintf("%q", *s)
			}
			got = append(got, fmt.Sprintf("%s %s %s: %s %s", strings.TrimPrefix(c.Key, string(p.keys)), c.Type, c.Part, show(c.Before), show(c.After)))
		}
		require.Equal(t, []string{
			`gone string : "" -`,
			`hash hash w: - "4"`, `hash hash y: "2" "5"`, `hash hash z: "3" -`,
			`list list : "a" -`, `list list : - "c"`, `list list : - "c"`,
			`set set m: "" -`, `set set o: - ""`,
			`stream stream 5-1: - "f=v g=w"`,
			`text string : "a" "b"`, `text string expiry: - "5 s"`,
			`zset zset m: "1" "2"`,
		}, got)
		require.Equal(t, "a", client.Get(ctx, k("text")).Val())
	})
}

// A script that fails is in the trace with its place; a run that would not be
// true is an error.
func TestDryRunErrors(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p, err := New(storetest.Embedded(t), Options{})
	require.NoError(t, err)
	d, err := p.DryRun(ctx, tracedScript(t, "", "redis.call('SET', 'x', '1')\nerror('gone')\n"))
	require.NoError(t, err)
	require.ErrorContains(t, d.Err, "a.lua:5: gone")
	require.ErrorIs(t, d.Err, ErrScript)
	require.Nil(t, d.Reply)
	require.Len(t, d.Calls, 1)
	require.Len(t, d.Changes, 1)

	_, err = p.DryRun(ctx, tracedScript(t, "", "redis.call('GEOADD', 'x', '1', '1', 'a')\n"))
	require.ErrorIs(t, err, ErrStore)
	require.ErrorContains(t, err, "GEOADD")
	_, err = p.DryProfile(ctx, tracedScript(t, "", "error('gone')\n"), 3)
	require.ErrorContains(t, err, "a.lua:4: gone")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = p.DryRun(cancelled, tracedScript(t, "", "return { 'OK' }\n"))
	require.Error(t, err)
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		p, ctx := debugPlane(t, client), t.Context()
		s, err := p.ScriptSource(ctx, "data_sync", "")
		require.NoError(t, err)
		before := siteContent(t, p)
		f, err := p.DryProfile(ctx, s, 4, "c2m", "1001", "1", "26")
		require.NoError(t, err)
		require.Equal(t, before, siteContent(t, p))
		require.Equal(t, map[string]int{"OK": 4}, f.Answers)
		calls := map[string]int64{}
		for i, c := range f.Commands {
			calls[c.Command] = c.Calls
			require.True(t, i == 0 || f.Commands[i-1].Total >= c.Total)
		}
		require.Equal(t, int64(4), calls["MGET"])
		require.Equal(t, int64(1), calls["XADD"], "the alarm is raised once: each run goes on where the one before ended")
		require.Zero(t, f.Elapsed)

		f, err = p.RealProfile(ctx, "data_sync", 4, "c2m", "1001", "1", "26")
		if strings.HasSuffix(t.Name(), "/embedded") {
			require.ErrorIs(t, err, ErrStore)
			return
		}
		require.NoError(t, err)
		require.Equal(t, map[string]int{"OK": 4}, f.Answers)
		require.Positive(t, f.Elapsed)
		for _, c := range f.Commands {
			if c.Command == "MGET" {
				require.GreaterOrEqual(t, c.Calls, int64(4))
			}
		}
		require.Equal(t, "26.000000", client.HGet(ctx, p.keys.key("comsrv:1001:m"), "1").Val())
	})
}

func TestCheckScript(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	list, err := Scripts()
	require.NoError(t, err)
	for _, s := range list {
		require.NoError(t, CheckScript(ctx, s), s.Name)
	}
	s := list[0]
	change := func(old, now string) Script {
		return newScript(s.Name, s.Version, strings.Replace(s.Text, old, now, 1))
	}
	require.ErrorIs(t, CheckScript(ctx, newScript("other", s.Version, s.Text)), ErrNotFound)
	require.ErrorIs(t, CheckScript(ctx, newScript(s.Name, "9.0.0+00000000", s.Text)), ErrVersion)
	require.ErrorIs(t, CheckScript(ctx, change("return report", "return { 'WRONG' }")), ErrRefused)
	err = CheckScript(ctx, change("return report", "return nowhere.y"))
	require.ErrorIs(t, err, ErrRefused)
	var at *ScriptError
	require.True(t, errors.As(err, &at))
	require.Equal(t, s.Name+".lua", at.File)
	require.Positive(t, at.Line)
	require.ErrorIs(t, CheckScript(ctx, newScript(s.Name, s.Version, s.Text+strings.Repeat("-", MaxScript))), ErrRefused)
}

// What a call reads and writes comes from the table of luabox.
func TestCallsAreKnown(t *testing.T) {
	t.Parallel()
	for call, writes := range map[string]bool{"HSET k f v": true, "del k": true, "GET k": false, "TIME": false, "PUBLISH c m": false, "NEW k": true, "": false} {
		require.Equal(t, writes, TracedCall{Args: strings.Fields(call)}.Writes(), call)
	}
	for call, want := range map[string]string{
		"HSET k f v": "k", "get k": "k", "MGET a b c": "a b c", "DEL a b": "a b", "TIME": "", "PUBLISH c m": "", "MSET a 1 b 2": "a b",
		"LMOVE a b LEFT RIGHT": "a b", "XINFO STREAM s": "s", "XREAD COUNT 1 STREAMS a b 0 0": "a b", "ZUNIONSTORE d 2 a b": "d a b",
		"ZINTER 1 a": "a", "ZINTER x a": "", "GET": "", "XINFO": "", "XREAD": "", "ZUNION": "", "": "",
	} {
		c := TracedCall{Args: strings.Fields(call)}
		require.Equal(t, want, strings.Join(c.Keys(), " "), call)
	}
	require.True(t, TracedCall{Args: []string{"publish", "c", "m"}}.Publishes())
	require.False(t, TracedCall{Args: []string{"PUBLISH", "c", "m"}}.Writes())
	require.False(t, TracedCall{}.Writes())
}

func TestManifestExplains(t *testing.T) {
	t.Parallel()
	list, err := Scripts()
	require.NoError(t, err)
	manifests := map[string]Manifest{}
	for _, s := range list {
		if manifests[s.Name], err = s.Manifest(); err != nil {
			require.NoError(t, err)
		}
	}
	m := manifests["data_sync"]
	for name, want := range map[string]string{
		"comsrv:1001:m": "comsrv:<channel>:<m|s|c|a|text>", "comsrv:1001:quality": "comsrv:<channel>:<ts|quality>",
		"alarm:state": "alarm:state", "alarm:17": "alarm:<id>", "alarm:rules:pcs1:power": "alarm:rules:<model>:<point>", "mapping:c2m": "mapping:c2m",
	} {
		use, ok := m.KeyUse(name, false)
		require.True(t, ok, name)
		require.Equal(t, want, use.Pattern)
	}
	_, ok := m.KeyUse("alarm:new", true)
	require.True(t, ok)
	use, ok := m.KeyUse("alarm:new", false) // only published on
	require.False(t, ok && use.Pattern == "alarm:new")
	_, ok = m.KeyUse("comsrv:1001:m", true)
	require.False(t, ok)
	_, ok = m.KeyUse("else:where", false)
	require.False(t, ok)

	f, ok := m.Form([]string{"c2m", "1001", "1", "2"})
	require.True(t, ok)
	require.Equal(t, []string{"c2m"}, f.Words())
	_, ok = m.Form([]string{"nothing"})
	require.False(t, ok)
	f, ok = manifests["alarm_check"].Form([]string{"pcs1", "power", "2"})
	require.True(t, ok)
	require.Empty(t, f.Words())
	meaning, ok := m.Meaning("FENCED")
	require.True(t, ok)
	require.Contains(t, meaning, "owns the channel")
	_, ok = m.Meaning("NOTHING")
	require.False(t, ok)
}
