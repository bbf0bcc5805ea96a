package scripts_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// variant composes a script of this build with another version number and,
// where old is not empty, with old replaced by new in its files.
func variant(t *testing.T, name, version, old, new string) scripts.Script {
	t.Helper()
	files, found := fstest.MapFS{}, old == ""
	require.NoError(t, fs.WalkDir(os.DirFS("lua"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".lua") {
			return err
		}
		text, err := os.ReadFile("lua/" + path)
		require.NoError(t, err)
		s := string(text)
		if path == name+".lua" {
			before, after, ok := strings.Cut(s, "-- @version ")
			require.True(t, ok)
			_, after, _ = strings.Cut(after, "\n")
			s = before + "-- @version " + version + "\n" + after
		}
		if old != "" && (path == name+".lua" || strings.HasPrefix(path, "include/")) && strings.Contains(s, old) {
			s, found = strings.Replace(s, old, new, 1), true
		}
		files[path] = &fstest.MapFile{Data: []byte(s)}
		return nil
	}))
	require.True(t, found, "the scripts have no %q", old)
	list, err := scripts.ComposeFolder(files)
	require.NoError(t, err)
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no script %s", name)
	return scripts.Script{}
}

var byTest = scripts.Change{By: "test", Reason: "to see"}

// another is a second engine's Plane on the same site.
func (s *testSite) another(t *testing.T, o scripts.Options) *scripts.Plane {
	t.Helper()
	o.Site, o.HistoryBytes = s.Site(), 1<<20
	o.Now = func() time.Time { return time.UnixMilli(s.now.Load()) }
	p, err := scripts.New(s.client, o)
	require.NoError(t, err)
	require.NoError(t, p.Prepare(t.Context()))
	return p
}

func (s *testSite) state(t *testing.T, name string) scripts.ScriptState {
	t.Helper()
	st, err := s.ScriptState(t.Context(), name)
	require.NoError(t, err)
	return st
}

func TestHotUpdate(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testHotUpdate)
}

func testHotUpdate(t *testing.T, client redis.UniversalClient) {
	s, ctx := newSite(t, client), t.Context()
	other := s.another(t, scripts.Options{})
	own := s.state(t, "data_sync")
	require.Equal(t, own.Own, own.Active)
	require.Empty(t, own.History)
	w := other.NewWriter(s.lease, s.points)
	write := func(value float64) {
		t.Helper()
		s.now.Add(1)
		_, warnings, err := w.Write(ctx, []model.Sample{sample("1", value)}, false)
		require.NoError(t, err)
		require.Empty(t, warnings)
	}
	write(1)

	v2 := variant(t, "data_sync", "1.9.0", "", "")
	require.NoError(t, s.ActivateScript(ctx, v2, byTest))
	write(2)
	st := s.state(t, "data_sync")
	require.Equal(t, v2.Version, st.Active)
	require.Equal(t, []string{own.Own}, st.History)
	source, err := s.ScriptSource(ctx, "data_sync", "")
	require.NoError(t, err)
	require.Equal(t, v2.Text, source.Text)

	// What is not newer is refused, and nothing changes.
	require.ErrorIs(t, s.ActivateScript(ctx, variant(t, "data_sync", "1.8.0", "", ""), byTest), scripts.ErrConflict)
	require.ErrorIs(t, s.ActivateScript(ctx, variant(t, "data_sync", "1.9.0", "return report", "return  report"), byTest), scripts.ErrConflict)
	require.ErrorIs(t, s.ActivateScript(ctx, variant(t, "data_sync", "2.0.0", "", ""), byTest), scripts.ErrVersion)
	require.Equal(t, v2.Version, s.state(t, "data_sync").Active)

	// An older engine that starts follows the newer script.
	require.NoError(t, s.another(t, scripts.Options{}).Prepare(ctx))
	require.Equal(t, v2.Version, s.state(t, "data_sync").Active)

	version, err := other.RollbackScript(ctx, "data_sync", byTest)
	require.NoError(t, err)
	require.Equal(t, own.Own, version)
	write(3)
	st = s.state(t, "data_sync")
	require.Equal(t, own.Own, st.Active)
	require.Contains(t, st.Refused[v2.Version], "to see")
	_, err = other.RollbackScript(ctx, "data_sync", byTest)
	require.ErrorIs(t, err, scripts.ErrConflict)

	// Every value is there once, in order.
	entries, err := client.XRange(ctx, s.key("hissrv:queue"), "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, entries, 3)
	for i, e := range entries {
		require.Equal(t, []string{"1", "2", "3"}[i], e.Values["count"])
	}
	events, err := s.ScriptJournal(ctx, "", 1000)
	require.NoError(t, err)
	var kinds []string
	for _, e := range events {
		if e.Script == "data_sync" {
			kinds = append(kinds, e.Event)
		}
	}
	require.Equal(t, []string{"activated", "activated", "rolled_back"}, kinds)

	// The version that was rolled back may be brought back by hand, no other way.
	require.NoError(t, s.ActivateScript(ctx, v2, byTest))
	require.Empty(t, s.state(t, "data_sync").Refused)
}

// What happens to the active version when an engine starts.
func TestVersionsAtStart(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		own := s.state(t, "alarm_check").Own
		older := variant(t, "alarm_check", "1.0.0", "return report", "return  report")
		same := variant(t, "alarm_check", own[:strings.Index(own, "+")], "return report", "return  report")
		force := func(v scripts.Script) {
			require.NoError(t, client.MSet(ctx, s.key("lua:version:alarm_check"), v.Version, s.key("lua:sha:alarm_check"), v.SHA,
				s.key("lua:source:alarm_check:"+v.Version), v.Text).Err())
		}
		active := func() string {
			s.another(t, scripts.Options{})
			return s.state(t, "alarm_check").Active
		}
		force(same)
		require.Equal(t, same.Version, active(), "another text with the same number may be an operator's")
		force(older)
		require.Equal(t, own, active(), "an older one is replaced")
		require.Equal(t, []string{older.Version}, s.state(t, "alarm_check").History)
		_, err := s.RollbackScript(ctx, "alarm_check", byTest)
		require.NoError(t, err)
		require.Equal(t, older.Version, active(), "what was rolled back does not come back with a restart")

		// The version that is followed is the one that survives the loss of the data.
		require.NoError(t, client.Del(ctx, keysOf(t, client, s.prefix)...).Err())
		_, err = s.Reconcile(ctx)
		require.NoError(t, err)
		require.Contains(t, []string{older.Version, own}, s.state(t, "alarm_check").Active)
	})
}

// A version that fails is rolled back by itself, and no sample is lost by it.
func TestFailingVersionIsRolledBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		own := s.state(t, "data_sync").Active
		// only with a value that no self-test has
		bad := variant(t, "data_sync", "1.9.0", "  local now = now_ms(ARGV[2])\n  redis.call('HSET', fence, 'batch', number_of_batch)\n",
			"  local now = now_ms(ARGV[2])\n  redis.call('HSET', fence, 'batch', number_of_batch)\n  for _, a in ipairs(ARGV) do if a == '31.415926' then local x = nil + 1 end end\n")
		require.NoError(t, s.ActivateScript(ctx, bad, byTest))
		other := s.another(t, scripts.Options{})
		w := other.NewWriter(s.lease, s.points)
		for _, v := range []float64{1, 2, 31.415926, 4} {
			_, warnings, err := w.Write(ctx, []model.Sample{sample("1", v)}, false)
			require.NoError(t, err)
			require.Empty(t, warnings)
		}
		st := s.state(t, "data_sync")
		require.Equal(t, own, st.Active)
		require.Contains(t, st.Refused[bad.Version], "data_sync.lua:", "it says where")
		require.Contains(t, st.Refused[bad.Version], "nil")
		entries, err := client.XRange(ctx, s.key("hissrv:queue"), "-", "+").Result()
		require.NoError(t, err)
		require.Len(t, entries, 4)
		require.Contains(t, entries[2].Values["points"], "31.415926")
	})
}

// A trial touches its channels alone, and its errors end it.
func TestCanary(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		require.NoError(t, s.PutPoints(ctx, "2001", s.points))
		lease, err := s.Acquire(ctx, "2001", "engine", time.Minute)
		require.NoError(t, err)
		own := s.state(t, "data_sync").Active
		// marks what it writes
		v2 := variant(t, "data_sync", "1.9.0", "  redis.call('HSET', fence, 'batch', number_of_batch)\n",
			"  redis.call('HSET', fence, 'batch', number_of_batch)\n  for _, a in ipairs(ARGV) do if a == '31.415926' then error('cannot') end end\n"+
				"  if channel ~= '1001' then redis.call('HINCRBY', fence, 'canary', 1) end\n")
		require.ErrorIs(t, s.CanaryScript(ctx, v2, nil, byTest), model.ErrInvalid)
		require.NoError(t, s.CanaryScript(ctx, v2, []string{"2001"}, byTest))
		other := s.another(t, scripts.Options{}) // another engine, which knows of the trial
		one, two := other.NewWriter(s.lease, s.points), other.NewWriter(lease, s.points)
		write := func(w *scripts.Writer, v float64) {
			t.Helper()
			_, _, err := w.Write(ctx, []model.Sample{sample("1", v)}, false)
			require.NoError(t, err)
		}
		write(one, 1)
		write(two, 1)
		require.Equal(t, "1", s.hash(t, "comsrv:2001:fence")["canary"])
		require.Equal(t, own, s.state(t, "data_sync").Active)

		// A version that is on trial for one channel is refused for another.
		anchor := []string{s.key("anchor")}
		reply, err := client.EvalSha(ctx, v2.SHA, anchor, "batch", "", "", "0", "1001", "0", "1", "0").StringSlice()
		require.NoError(t, err)
		require.Equal(t, "INACTIVE", reply[0])

		write(two, 31.415926)
		require.Empty(t, s.state(t, "data_sync").Canary)
		require.Contains(t, s.state(t, "data_sync").Refused[v2.Version], "cannot")
		write(two, 2)
		require.Equal(t, "1", s.hash(t, "comsrv:2001:fence")["canary"])
		require.Equal(t, "2.000000", s.hash(t, "comsrv:2001:m")["1"])
		write(one, 2)
	})
}

// What must never become active.
func TestScriptsThatAreRefused(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		before := keysOf(t, client, s.prefix)
		for what, c := range map[string]struct{ script, old, new, want string }{
			"syntax error":     {"data_sync", "local function c2m()", "local function c2m(", "data_sync.lua:"},
			"runtime error":    {"data_sync", "local function c2m()\n", "local function c2m()\n  nothing.at.all = 1\n", "data_sync.lua:"},
			"crash":            {"data_sync", "local function c2m()\n", "local function c2m()\n  error({ 1 })\n", "data_sync.lua:"},
			"endless loop":     {"data_sync", "local function c2m()\n", "local function c2m()\n  while true do end\n", "time"},
			"loop in pcall":    {"data_sync", "local function c2m()\n", "local function c2m()\n  while true do pcall(function() while true do end end) end\n", "time"},
			"alarm too late":   {"data_sync", "if operator == '>' then return a > b end", "if operator == '>' then return a > b + 1 end", "alarm"},
			"no hysteresis":    {"data_sync", "return tonumber(stored(limit + by))", "return limit", "alarm"},
			"wrong value":      {"data_sync", "string.format('%.6f', n)", "string.format('%.5f', n)", "answered"},
			"executed twice":   {"command", "if before then return command_reply('DUPLICATE', before) end", "", "DUPLICATE"},
			"no limit":         {"command", "if high and v > high", "if high and v > 2 * high", "REJECTED"},
			"two owners":       {"channel_owner", "if held and", "if held and false and", "HELD"},
			"closes by an ack": {"alarm_desk", "status = 'acknowledged' elseif", "status = 'closed' elseif", "acknowledged"},
		} {
			err := s.ActivateScript(ctx, variant(t, c.script, "1.9.0", c.old, c.new), byTest)
			require.ErrorIs(t, err, scripts.ErrRefused, what)
			require.ErrorContains(t, err, c.want, what)
			st := s.state(t, c.script)
			require.Equal(t, st.Own, st.Active, what)
		}
		require.ElementsMatch(t, before, keysOf(t, client, s.prefix))
		if strings.HasSuffix(t.Name(), "/embedded") { // on a shared server, other tests have theirs
			require.Empty(t, keysOf(t, client, "{selftest-"), "a self-test leaves nothing behind")
		}
	})
}

// A script that hangs on a value that no self-test has is killed, for it holds
// up everybody, and rolled back.
func TestHangingVersionIsRolledBack(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t, "--lua-time-limit", "100")
	client := storetest.Client(t, server.URL)
	s, ctx := newSite(t, client), t.Context()
	own := s.state(t, "data_sync").Active
	bad := variant(t, "data_sync", "1.9.0", "  local now = now_ms(ARGV[2])\n  redis.call('HSET', fence",
		"  for _, a in ipairs(ARGV) do while a == '31.415926' do end end\n  local now = now_ms(ARGV[2])\n  redis.call('HSET', fence")
	require.NoError(t, s.ActivateScript(ctx, bad, byTest))
	w := s.NewWriter(s.lease, s.points)
	long, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, _, err := w.Write(long, []model.Sample{sample("1", 31.415926)}, false)
	require.NoError(t, err)
	st := s.state(t, "data_sync")
	require.Equal(t, own, st.Active)
	require.Contains(t, st.Refused[bad.Version], "hung")
	require.Equal(t, "31.415926", s.hash(t, "comsrv:1001:m")["1"])
}

// Hot updates, rollbacks and lost scripts under load lose and repeat nothing.
func TestUpdatesUnderLoad(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testUpdatesUnderLoad)
}

func testUpdatesUnderLoad(t *testing.T, client redis.UniversalClient) {
	s, ctx := newSite(t, client), t.Context()
	v2 := variant(t, "data_sync", "1.9.0", "", "")
	var stop atomic.Bool
	written := make(chan int64, 1)
	go func() {
		w, n := s.another(t, scripts.Options{}).NewWriter(s.lease, s.points), int64(0)
		for !stop.Load() {
			n++
			if _, _, err := w.Write(ctx, []model.Sample{sample("1", float64(n)), sample("2", float64(n))}, false); err != nil {
				t.Error(err)
				break
			}
		}
		written <- n
	}()
	updates := 5
	if storetest.Raced { // each has the self-test, which costs a second there
		updates = 2
	}
	for range updates {
		require.NoError(t, s.ActivateScript(ctx, v2, byTest))
		require.NoError(t, client.ScriptFlush(ctx).Err())
		_, err := s.RollbackScript(ctx, "data_sync", byTest)
		require.NoError(t, err)
		require.NoError(t, client.ScriptFlush(ctx).Err())
	}
	stop.Store(true)
	n := <-written
	require.Positive(t, n)
	entries, err := client.XRange(ctx, s.key("hissrv:queue"), "-", "+").Result()
	require.NoError(t, err)
	// one entry for each batch; on a slow machine there are so many that the oldest are trimmed
	require.Equal(t, fmt.Sprint(2*n), s.hash(t, "comsrv:1001:fence")["points"])
	for i, e := range slices.Backward(entries) {
		require.Equal(t, fmt.Sprint(2*(n-int64(len(entries)-1-i))), e.Values["count"])
	}
}

// A version that fails late, in the rules of a batch: the batch is made again,
// and nothing of it is there twice.
func TestLateFaultsRepeatNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s, ctx := newSite(t, client), t.Context()
		require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "high", Model: "pcs1", Point: "active_power", Operator: ">", Threshold: 10}))
		require.NoError(t, s.PutRule(ctx, model.Rule{ID: "r1", Conditions: []model.Condition{{Model: "pcs1", Point: "active_power", Operator: ">", Threshold: 10}},
			Actions: []model.Action{{Type: model.ActionControl, Model: "pcs1", Control: "power_setpoint", Value: 5}}}))
		good := s.state(t, "data_sync").Active
		bad := variant(t, "data_sync", "1.9.0", "for k = 1, n do run_rule(now, ARGV[i + 1 + k], report) end",
			"for k = 1, n do run_rule(now, ARGV[i + 1 + k], report) end\n      for _, a in ipairs(ARGV) do if a == '31.415926' then local x = nil + 1 end end")
		require.NoError(t, s.ActivateScript(ctx, bad, byTest))
		w := s.another(t, scripts.Options{}).NewWriter(s.lease, s.points)
		_, _, err := w.Write(ctx, []model.Sample{sample("1", 31.415926), sample("2", 1)}, false)
		require.NoError(t, err)
		require.Equal(t, good, s.state(t, "data_sync").Active)
		entries, err := client.XRange(ctx, s.key("hissrv:queue"), "-", "+").Result()
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Equal(t, "2", entries[0].Values["count"])
		journal, err := s.AlarmJournal(ctx, "", 10)
		require.NoError(t, err)
		require.Len(t, journal, 1)
		commands, err := s.CommandJournal(ctx, "", 10)
		require.NoError(t, err)
		require.Len(t, commands, 1)
	})
}
