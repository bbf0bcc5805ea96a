package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

func (s *site) alarm(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	return ctl(t, append([]string{"-redis", s.url, "-site", s.Site(), "alarm"}, args...)...)
}

func (s *site) alarmOK(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := s.alarm(t, args...)
	require.Zero(t, code, "%v: %s%s", args, out, errs)
	return out
}

func TestAlarmWrongUse(t *testing.T) {
	t.Parallel()
	const redis = "-redis redis://x alarm "
	for line, want := range map[string]string{
		"alarm":                              "which command",
		"alarm nothing":                      "no such command",
		"alarm list":                         "-redis",
		redis + "list -n -1":                 "-n is at least 0",
		redis + "list -state open":           `state "open"`,
		redis + "list -severity urgent":      `severity "urgent"`,
		redis + "list -suppression gone":     `suppression "gone"`,
		redis + "list -from yesterday":       `-from "yesterday"`,
		redis + "list -from 1h -to 2h":       "want a time after from",
		redis + "ack":                        "ALARM is missing",
		redis + "ack 1 -all":                 "-all is without",
		redis + "ack 1 -severity low":        "together with -all",
		redis + "ack hot":                    `"hot"`,
		redis + "close":                      "ALARM is missing",
		redis + "shelve a:b":                 `"a:b"`,
		redis + "journal -csv -json":         "exclude each other",
		redis + "journal -alarm a:b:c":       `"a:b:c"`,
		redis + "journal -n -3":              "-n is at least 0",
		redis + "journal -to 2026-13-01":     `-to "2026-13-01"`,
		redis + "list -newest -nothing":      "-nothing",
		"-site plant modbus scan -tcp 1.1.1": "scripts and alarm",
	} {
		code, out, errs := ctl(t, strings.Fields(line)...)
		require.Equal(t, exitUsage, code, "%s: %s", line, errs)
		require.Empty(t, out, line)
		require.Contains(t, errs, want, line)
	}
}

func TestAlarmHelp(t *testing.T) {
	t.Parallel()
	out := ok(t, "alarm", "help")
	for _, k := range alarmCommands() {
		require.Contains(t, out, " "+k.name+" ")
		page := ok(t, "alarm", "help", k.name)
		require.Contains(t, page, "usage: voltagectl [-redis URL] [-site NAME] alarm "+k.name)
		for name := range strings.FieldsSeq(k.flags) {
			if name == "most" {
				name = "n"
			}
			require.Regexp(t, "(?m)^  -"+name+"( |$)", page, k.name)
		}
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.Local)
	for text, want := range map[string]time.Time{
		"":                     {},
		"24h":                  now.Add(-24 * time.Hour),
		"-90m":                 now.Add(-90 * time.Minute),
		"2026-11-25":           time.Date(2026, 11, 25, 0, 0, 0, 0, time.Local),
		"2026-11-25T08:30":     time.Date(2026, 11, 25, 8, 30, 0, 0, time.Local),
		"2026-11-25 08:30:15":  time.Date(2026, 11, 25, 8, 30, 15, 0, time.Local),
		"2026-11-25T08:30:15Z": time.Date(2026, 11, 25, 8, 30, 15, 0, time.UTC),
	} {
		got, err := parseTime("from", text, now)
		require.NoError(t, err, text)
		require.True(t, want.Equal(got), "%s: %s", text, got)
	}
}

func TestAlarms(t *testing.T) {
	t.Parallel()
	s, ctx := newSite(t, storetest.Redis(t)), t.Context()
	require.Contains(t, s.alarmOK(t, "list"), "ID ")
	require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "held", Model: "pcs1", Point: "temperature", Operator: model.OutOfRange, Threshold: 5, High: 40,
		Latch: true, OffDelay: time.Second, Enable: &model.AlarmEnable{Point: "temperature", Operator: model.Above, Threshold: -50}}))
	lease, err := s.Acquire(ctx, "1001", "test", time.Minute)
	require.NoError(t, err)
	w := s.NewWriter(lease, []model.Point{{ID: "10001"}})
	_, warnings, err := w.Write(ctx, []model.Sample{{Point: "10001", Value: 50}}, false)
	require.NoError(t, err)
	require.Empty(t, warnings)

	out := s.alarmOK(t, "list", "-severity", "high", "-from", "1h")
	require.Contains(t, out, "pcs1:temperature:warm")
	require.Contains(t, out, "the converter gets warm")
	require.NotContains(t, out, "held")
	var all []model.Alarm
	require.NoError(t, json.Unmarshal([]byte(s.alarmOK(t, "list", "-json", "-newest")), &all))
	require.Len(t, all, 2)
	_, out, errs := s.alarm(t, "list", "-n", "1")
	require.Equal(t, 2, strings.Count(out, "\n"))
	require.Contains(t, errs, "there are more")
	require.Regexp(t, `(?m)^open +2\n +active +2$`, s.alarmOK(t, "counts"))
	require.Regexp(t, `pcs1:temperature:held +medium +out_of_range 5…40 +off after 1s, latched, while pcs1:temperature > -50`, s.alarmOK(t, "rules"))

	code, _, errs := s.alarm(t, "shelve", "pcs1:temperature:warm", "-for", "1h")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "reason")
	out = s.alarmOK(t, "shelve", "pcs1:temperature:warm", "-for", "1h", "-reason", "known", "-by", "ann")
	require.Contains(t, out, "by ann: known")
	require.Regexp(t, `pcs1:temperature:warm +shelved .*ann +known`, s.alarmOK(t, "unannounced"))
	require.NotContains(t, s.alarmOK(t, "list", "-suppression", "none"), "warm")
	s.alarmOK(t, "unshelve", "pcs1:temperature:warm", "-by", "ann")
	require.Contains(t, s.alarmOK(t, "oos", "pcs1:temperature:warm", "-reason", "broken"), "out of service")
	s.alarmOK(t, "in-service", "pcs1:temperature:warm")

	require.Equal(t, "1 alarm changed\n", s.alarmOK(t, "ack", "-all", "-severity", "high", "-by", "ann", "-comment", "seen"))
	require.Equal(t, "0 alarms changed\n", s.alarmOK(t, "ack", "pcs1:temperature:warm", "999999"))
	var changed map[string]int
	require.NoError(t, json.Unmarshal([]byte(s.alarmOK(t, "ack", "-all", "-json")), &changed))
	require.Equal(t, map[string]int{"changed": 1}, changed)
	code, _, errs = s.alarm(t, "reset", "pcs1:temperature:held")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "acknowledged")
	require.Contains(t, s.alarmOK(t, "close", "pcs1:temperature:held", "-comment", "gone"), "closed")
	require.Contains(t, s.alarmOK(t, "list", "-state", "closed"), "held")
	code, _, errs = s.alarm(t, "close", "999999")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "999999")

	out = s.alarmOK(t, "journal", "-n", "2")
	require.Equal(t, 3, strings.Count(out, "\n"))
	require.Regexp(t, `(?s)acknowledged.*closed`, out)
	rows, err := csv.NewReader(strings.NewReader(s.alarmOK(t, "journal", "-csv", "-rule", "warm"))).ReadAll()
	require.NoError(t, err)
	require.Equal(t, model.AlarmEventColumns(), rows[0])
	require.Len(t, rows, 7)
	require.Equal(t, "raised", rows[1][3])
	var events []model.AlarmEvent
	require.NoError(t, json.Unmarshal([]byte(s.alarmOK(t, "journal", "-json")), &events))
	require.Equal(t, model.TransitionClosed, events[len(events)-1].Transition)
	require.NoError(t, json.Unmarshal([]byte(s.alarmOK(t, "journal", "-json", "-to", "1h")), &events))
	require.Empty(t, events)

	require.NoError(t, s.client.HSet(ctx, "{"+s.Site()+"}:alarm:rules:pcs1:temperature", "odd", "{").Err())
	_, _, errs = s.alarm(t, "rules")
	require.Contains(t, errs, `malformed: `)
	require.Contains(t, errs, `"odd"`)
}

// A -site with a slip of the pen does not come to be.
func TestAlarmsOfNoSite(t *testing.T) {
	t.Parallel()
	url := storetest.Redis(t)
	name := storetest.Site(t)
	for _, line := range []string{"ack 1", "ack -all", "close 1", "shelve a:b:c -for 1h -reason x"} {
		code, _, errs := ctl(t, append([]string{"-redis", url, "-site", name, "alarm"}, strings.Fields(line)...)...)
		require.Equal(t, exitFailed, code, line)
		require.Contains(t, errs, "is -site right", line)
	}
	keys, err := storetest.Client(t, url).Keys(t.Context(), fmt.Sprintf("{%s}*", name)).Result()
	require.NoError(t, err)
	require.Empty(t, keys)
}

// A message of another program commands no terminal.
func TestTableIsPrintable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	(&call{out: &out}).table("A\tB", "1\ta\x1b[2Jb\nc °C")
	require.Equal(t, "A  B\n1  a\uFFFD[2Jb\uFFFDc °C\n", out.String())
}
