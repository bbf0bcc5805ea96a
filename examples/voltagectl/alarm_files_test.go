package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/alarmtest"
)

func TestAlarmTest(t *testing.T) {
	t.Parallel()
	good := filepath.Join("..", "allinone", "site.alarmtest")
	require.Contains(t, ok(t, "alarm", "test", good), "tests passed")

	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	bad := write("bad.alarmtest", "test \"one\"\nrule hot a:b > 5\nload 1s a:b 6\neval 0s\n  none\n\ntest \"two\"\nload 1s a:b 6\njournal\n")
	code, out, errs := ctl(t, "alarm", "test", good, bad)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "test \"one\"\n"+bad+":4: eval 0s: the open alarms are others (- expected, + found):\n    + hot active 6\n")
	require.Contains(t, errs, "voltagectl: 1 test failed\n")

	code, out, _ = ctl(t, "-json", "alarm", "test", bad)
	require.Equal(t, exitFailed, code)
	var results []alarmtest.Result
	require.NoError(t, json.Unmarshal([]byte(out), &results))
	require.Len(t, results, 2)
	require.Len(t, results[0].Failures, 1)
	require.Empty(t, results[1].Failures)

	for path, want := range map[string]string{
		write("broken.alarmtest", "test \"one\"\nfoo\n"):                          "broken.alarmtest:2: \"foo\"",
		write("lost.alarmtest", "config no.yaml\ntest \"one\"\neval 0s\n"):        "no.yaml",
		filepath.Join(folder, "none.alarmtest"):                                   "no such file",
		write("point.alarmtest", "test \"one\"\nload 1s a:b 1\nchannel 1 away\n"): "point.alarmtest:3: want channel",
	} {
		code, _, errs := ctl(t, "alarm", "test", path)
		require.Equal(t, exitFailed, code, path)
		require.Contains(t, errs, want)
	}
	code, _, errs = ctl(t, "-redis", "redis://127.0.0.1:1", "alarm", "test", good)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "leave -redis and -site away")
	code, _, _ = ctl(t, "alarm", "test")
	require.Equal(t, exitUsage, code)
}
