package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

var update = flag.Bool("update", false, "write testdata anew")

// ctl runs a command line and returns its exit code and what it printed.
func ctl(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

// ok runs a command line that has to succeed.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := ctl(t, args...)
	require.Zero(t, code, "%v: %s%s", args, out, errs)
	return out
}

// site is a site on redis-server with the demo's definitions.
type site struct {
	*scripts.Plane
	client redis.UniversalClient
	url    string
}

func newSite(t *testing.T, url string) *site {
	t.Helper()
	client := storetest.Client(t, url)
	p, err := scripts.New(client, scripts.Options{Site: storetest.Site(t)})
	require.NoError(t, err)
	require.NoError(t, p.Prepare(t.Context()))
	require.NoError(t, define(t.Context(), p))
	return &site{p, client, url}
}

func (s *site) ctl(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	return ctl(t, append([]string{"-redis", s.url, "-site", s.Site(), "scripts"}, args...)...)
}

func (s *site) ok(t *testing.T, args ...string) string {
	t.Helper()
	return ok(t, append([]string{"-redis", s.url, "-site", s.Site(), "scripts"}, args...)...)
}

// folder returns a copy of the scripts' folder in which old is now in one file.
func folder(t *testing.T, file string, change ...string) string {
	t.Helper()
	to := t.TempDir()
	require.NoError(t, os.CopyFS(to, os.DirFS("../../scripts/lua")))
	path := filepath.Join(to, file)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	changed := string(text)
	for i := 0; i+1 < len(change); i += 2 {
		require.Contains(t, changed, change[i])
		changed = strings.Replace(changed, change[i], change[i+1], 1)
	}
	require.NoError(t, os.WriteFile(path, []byte(changed), 0o644))
	return to
}

// newer is a folder whose data_sync has a higher number.
func newer(t *testing.T, number string, change ...string) string {
	t.Helper()
	return folder(t, "data_sync.lua", append([]string{"-- @version " + number1(t, "data_sync"), "-- @version " + number}, change...)...)
}

// number1 is the number of this build's script.
func number1(t *testing.T, name string) string {
	t.Helper()
	s, err := own(name)
	require.NoError(t, err)
	number, _, _ := strings.Cut(s.Version, "+")
	return number
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"nothing":                                  `"nothing"`,
		"scripts":                                  "which command",
		"scripts nothing":                          "no such command",
		"scripts show":                             "NAME is missing",
		"scripts show a b":                         `"b" is too much`,
		"scripts list -nothing":                    "-nothing",
		"-nothing scripts list":                    "-nothing",
		"scripts stats":                            "-redis",
		"scripts rollback data_sync":               "-redis",
		"scripts dump data_sync -version 1.0.0":    "-redis",
		"scripts verify -version 1":                "NAME is missing",
		"scripts verify -folder a -file b":         "-folder and -file exclude each other",
		"scripts list -- x":                        "nothing stands behind --",
		"scripts trace data_sync c2m -- 1":         `"c2m" stands before --`,
		"scripts trace data_sync -dry-run -- c2m":  "-redis",
		"scripts profile data_sync -n 0 -- c2m":    "-n is 1 to",
		"scripts profile data_sync -real -- c2m":   "-redis",
		"-redis nonsense scripts list":             "store configuration",
		"-redis redis://x scripts sync sideways":   "lua, direct or shadow",
		"-redis redis://x scripts sync -percent 5": "MODE is missing",
		"-redis redis://x scripts activate data_sync -canary 1 -percent 2": "exclude each other",
		"-redis redis://x scripts sync lua -channels 1 -percent 2":         "exclude each other",
		"-redis redis://x scripts trace data_sync -demo -- c2m":            "-demo",
	} {
		code, out, errs := ctl(t, strings.Fields(line)...)
		require.Equal(t, exitUsage, code, "%s: %s", line, errs)
		require.Empty(t, out, line)
		require.Contains(t, errs, want, line)
		require.Contains(t, errs, "voltagectl ", line)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"", "help", "-h", "scripts help", "scripts -h"} {
		out := ok(t, strings.Fields(line)...)
		for _, k := range commands() {
			require.Contains(t, out, " "+k.name+" ", line)
		}
	}
	for _, k := range commands() {
		out := ok(t, "scripts", "help", k.name)
		require.Contains(t, out, "usage: voltagectl [-redis URL] [-site NAME] scripts "+k.name)
		require.Contains(t, out, k.detail)
		require.Equal(t, out, ok(t, "scripts", k.name, "-h"))
		require.Equal(t, out, ok(t, "help", "scripts", k.name))
		for flag := range strings.FieldsSeq(k.flags) {
			switch flag {
			case "runs", "limit":
				flag = "n"
			}
			require.Regexp(t, "(?m)^  -"+flag+"( |$)", out, k.name)
		}
	}
}

func TestThisBuild(t *testing.T) {
	t.Parallel()
	all, err := scripts.Scripts()
	require.NoError(t, err)
	table := ok(t, "scripts", "list")
	var rows []listed
	require.NoError(t, json.Unmarshal([]byte(ok(t, "scripts", "list", "-json")), &rows))
	require.Len(t, rows, len(all))
	for i, s := range all {
		require.Contains(t, table, s.Name+" ")
		require.Contains(t, table, s.Version)
		require.Equal(t, s.SHA, rows[i].SHA)
		require.Equal(t, s.Text, ok(t, "scripts", "dump", s.Name))
		m, err := s.Manifest()
		require.NoError(t, err)
		require.Equal(t, m.String(), ok(t, "scripts", "show", s.Name))
	}
	var one shown
	require.NoError(t, json.Unmarshal([]byte(ok(t, "-json", "scripts", "show", "data_sync")), &one))
	require.Equal(t, "data_sync", one.Manifest.Name)

	code, out, errs := ctl(t, "scripts", "dump", "nothing")
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	require.Contains(t, errs, "data_sync")

	from := newer(t, "1.77.0")
	require.Contains(t, ok(t, "scripts", "show", "data_sync", "-folder", from), "data_sync 1.77.0+")
}

func TestVerify(t *testing.T) {
	t.Parallel()
	all, err := scripts.Scripts()
	require.NoError(t, err)
	out := ok(t, "scripts", "verify", "-folder", "../../scripts/lua")
	require.Equal(t, len(all), strings.Count(out, ": ok, tested in this process\n"))
	require.Contains(t, ok(t, "scripts", "verify", "alarm_check"), "ok, tested in this process")
	require.Contains(t, ok(t, "scripts", "verify", "data_sync", "-folder", newer(t, "1.77.0")), "data_sync 1.77.0+")

	// a file is what dump wrote
	file := filepath.Join(t.TempDir(), "a.lua")
	text := ok(t, "scripts", "dump", "alarm_check")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	require.Contains(t, ok(t, "scripts", "verify", "-file", file), "alarm_check")
	_, _, errs := ctl(t, "scripts", "verify", "data_sync", "-file", file)
	require.Contains(t, errs, "is the script alarm_check, not data_sync")
	require.NoError(t, os.WriteFile(file, []byte(text+"\n"), 0o644))
	_, _, errs = ctl(t, "scripts", "verify", "-file", file)
	require.Contains(t, errs, "changed after it was composed")

	const version = "@version "
	for name, c := range map[string]struct {
		folder string
		want   []string
	}{
		"not raised": {folder(t, "alarm_check.lua", "'want: ", "'wants: "), []string{"alarm_check.lua: the text differs", "raise @version"}},
		"syntax": {folder(t, "alarm_check.lua", version+number1(t, "alarm_check"), version+"1.77.0", "return report", "return report +"),
			[]string{"alarm_check.lua:"}},
		"runtime": {folder(t, "alarm_check.lua", version+number1(t, "alarm_check"), version+"1.77.0", "return report", "return report.x.y"),
			[]string{"alarm_check.lua:", "attempt to index"}},
		"result": {folder(t, "alarm_check.lua", version+number1(t, "alarm_check"), version+"1.77.0", "return report", "return { 'OK', 'x' }"),
			[]string{"answered", "instead of"}},
		"header":  {folder(t, "alarm_check.lua", "-- @reply ", "-- @replies "), []string{"alarm_check.lua:", "unknown directive @replies"}},
		"no code": {folder(t, "alarm_check.lua", version+number1(t, "alarm_check"), version+"1.77.0", "-- @reply OK", "-- OK"), []string{"the header has no @reply"}},
		"major":   {folder(t, "alarm_check.lua", version+number1(t, "alarm_check"), version+"9.0.0"), []string{"9.0.0"}},
		"no file": {"nowhere", []string{"nowhere"}},
	} {
		code, _, errs := ctl(t, "scripts", "verify", "alarm_check", "-folder", c.folder)
		require.Equal(t, exitFailed, code, name)
		for _, want := range c.want {
			require.Contains(t, errs, want, name)
		}
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Redis(t))
	mine, err := own("data_sync")
	require.NoError(t, err)
	from := newer(t, "1.77.0")

	require.Contains(t, s.ok(t, "activate", "data_sync"), "is active already")
	require.Contains(t, s.ok(t, "verify", "data_sync", "-folder", from), "and on the store")
	out := s.ok(t, "activate", "data_sync", "-folder", from, "-by", "me", "-reason", "to see")
	require.Contains(t, out, "is active; before: "+mine.Version)
	require.Contains(t, s.ok(t, "list"), "this build has "+mine.Version+", which is older")
	require.Contains(t, s.ok(t, "show", "data_sync"), "data_sync 1.77.0+")
	require.Contains(t, s.ok(t, "dump", "data_sync"), "'1.77.0+")
	require.Equal(t, mine.Text, s.ok(t, "dump", "data_sync", "-version", mine.Version))
	number, _, _ := strings.Cut(mine.Version, "+")
	require.Equal(t, mine.Text, s.ok(t, "dump", "data_sync", "-version", number))
	code, _, errs := s.ctl(t, "dump", "data_sync", "-version", "1.2.3+12345678")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "not found")

	out = s.ok(t, "rollback", "data_sync", "-reason", "seen")
	require.Contains(t, out, mine.Version+" is active again; 1.77.0+")
	require.Contains(t, s.ok(t, "list"), "1 version refused")
	require.Regexp(t, `refused +1\.77\.0\+\S+: seen`, s.ok(t, "show", "data_sync"))
	code, _, errs = s.ctl(t, "rollback", "data_sync")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "no version before")
	code, _, errs = s.ctl(t, "activate", "alarm_check", "-folder", folder(t, "alarm_check.lua", "-- @version 1", "-- @version 0"))
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "incompatible version")

	// on trial
	code, _, errs = s.ctl(t, "activate", "data_sync", "-folder", from, "-canary", "1001, 1002")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "channel 1002: not found")
	require.NoError(t, s.PutPoints(t.Context(), "1002", []model.Point{{ID: "1"}}))
	require.Contains(t, s.ok(t, "activate", "data_sync", "-folder", from, "-canary", "1001, 1002"), "is on trial for 2 channels: 1001, 1002")
	require.Contains(t, s.ok(t, "list"), "is on trial for 2 channels")
	require.Contains(t, s.ok(t, "show", "data_sync"), "for channel 1002")
	require.Contains(t, s.ok(t, "canary-end", "data_sync"), "the trial is over; "+mine.Version+" goes on for channel 1001, 1002")
	require.Contains(t, s.ok(t, "canary-end", "data_sync"), "nothing was on trial")
	require.Contains(t, s.ok(t, "activate", "data_sync", "-folder", from, "-percent", "50"), "on trial for 1 channel: 1002")
	code, _, errs = s.ctl(t, "activate", "data_sync", "-folder", from, "-percent", "500")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "1 to 100")
	code, _, errs = s.ctl(t, "activate", "alarm_check", "-canary", "1001")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "only data_sync")

	// all of it is in the journal
	journal := s.ok(t, "journal", "-n", "100")
	require.Regexp(t, `data_sync +activated +1\.77\.0\+\S+ +`+regexp.QuoteMeta(mine.Version)+` +me +to see`, journal)
	for _, want := range []string{"rolled_back", "canary", "canary_ended"} {
		require.Contains(t, journal, want)
	}
	var events []scripts.ScriptEvent
	require.NoError(t, json.Unmarshal([]byte(s.ok(t, "journal", "-n", "2", "-json")), &events))
	require.Len(t, events, 2)
	require.Equal(t, "canary", events[1].Event)
}

func TestSync(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Redis(t))
	require.Regexp(t, `all others +lua`, s.ok(t, "sync"))
	require.Regexp(t, `1001 +direct\nall others +lua`, s.ok(t, "sync", "direct", "-channels", "1001"))
	require.Regexp(t, `1001 +shadow`, s.ok(t, "sync", "shadow", "-percent", "100"))
	require.JSONEq(t, `{"*":"direct"}`, s.ok(t, "sync", "direct", "-json"))
	require.Contains(t, s.ok(t, "differences"), "no differences")
	require.NoError(t, s.client.XAdd(t.Context(), &redis.XAddArgs{Stream: "{" + s.Site() + "}:lua:differences:data_sync", Values: []any{
		"time", "1700000000000", "version", "1.1.0+x", "channel", "1001", "what", "call 3", "lua", "HSET a", "go", "HSET b"}}).Err())
	out := s.ok(t, "differences")
	for _, want := range []string{"channel 1001, data_sync 1.1.0+x: call 3", "Lua  HSET a", "Go   HSET b"} {
		require.Contains(t, out, want)
	}
	require.Contains(t, s.ok(t, "differences", "-json"), `"what": "call 3"`)
}

func TestStats(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Redis(t))
	ctx := t.Context()
	l, err := s.Acquire(ctx, "1001", "engine", time.Minute)
	require.NoError(t, err)
	w := s.NewWriter(l, []model.Point{{ID: "10001"}})
	for i := range 3 {
		_, _, err := w.Write(ctx, []model.Sample{{Point: "10001", Value: float64(i)}}, false)
		require.NoError(t, err)
	}
	require.NoError(t, s.FlushStats(ctx))
	mine, err := own("data_sync")
	require.NoError(t, err)
	calls := s.Stats()[slices.IndexFunc(s.Stats(), func(s scripts.ScriptStats) bool { return s.Script == "data_sync" })].Calls
	require.GreaterOrEqual(t, calls, int64(3)) // and one with a mapping that had changed
	require.Regexp(t, fmt.Sprintf(`data_sync +%d +0 +0 +0 +\S+ .s +\S+ .s`, calls), s.ok(t, "stats"))
	out := s.ok(t, "stats", "data_sync")
	require.Regexp(t, fmt.Sprintf(`%s +%d +0`, regexp.QuoteMeta(mine.Version), calls), out)
	require.Contains(t, out, "AT MOST")
	require.Contains(t, s.ok(t, "list"), "data_sync")
	var list []scripts.ScriptStats
	require.NoError(t, json.Unmarshal([]byte(s.ok(t, "stats", "data_sync", "-json")), &list))
	require.Equal(t, calls, list[0].Calls)
	code, _, errs := s.ctl(t, "stats", "nothing")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "not found")
}

func TestStoreErrors(t *testing.T) {
	t.Parallel()
	code, _, errs := ctl(t, "-redis", "unix:///nowhere/redis.sock", "scripts", "list")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "store not available")
	code, _, errs = ctl(t, "-redis", storetest.Redis(t), "-site", "a:b", "scripts", "list")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "a:b")
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, exitFailed, run(ctx, []string{"scripts", "trace", "data_sync", "--", "c2m", "1001", "10001", "1"}, &out, &out))
}
