//go:build unix

package exec_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/alarm/notify/exec"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// script returns the sender of a shell script; no shell but the script's own runs.
func script(t *testing.T, text string, args ...string) notify.Sender {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700))
	s, err := exec.New(exec.Config{Command: "/bin/sh", Args: append([]string{path}, args...), Env: map[string]string{"MODEM": "/dev/ttyUSB0"}})(notify.Setup{})
	require.NoError(t, err)
	return s
}

func TestProgramGetsTheMessage(t *testing.T) {
	t.Setenv("A_SECRET", "s3cret")
	out := filepath.Join(t.TempDir(), "out")
	m := notify.Samples()[0]
	m.Subject = "$(touch /tmp/x); `id` \"quoted\""
	require.NoError(t, script(t, `cat >"$1"; echo "$VOLTAGE_SUBJECT|$VOLTAGE_SEVERITY|$VOLTAGE_MODEL|$MODEM|$A_SECRET|$2" >>"$1"`, out, "a b;c").Send(t.Context(), m))
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	end := strings.LastIndex(strings.TrimSpace(string(text)), "}") + 1
	var got notify.Message
	require.NoError(t, json.Unmarshal(text[:end], &got))
	require.Equal(t, m, got)
	require.Equal(t, m.Subject+"|critical|bms1|/dev/ttyUSB0||a b;c", strings.TrimSpace(string(text[end:])))
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	m := notify.Samples()[0]
	require.NoError(t, script(t, "exit 0").Send(t.Context(), m), "it need not read its input")
	m.Text = strings.Repeat("x", 1<<20)
	require.NoError(t, script(t, "exit 0").Send(t.Context(), notify.Message{Text: strings.Repeat("x", 60_000)}))
	require.NoError(t, script(t, "exit 0").Send(t.Context(), m), "what is too long for the environment is cut")
	m.Text = ""
	err := script(t, "echo no such number >&2; exit 65").Send(t.Context(), m)
	require.ErrorIs(t, err, notify.ErrPermanent)
	require.ErrorContains(t, err, "no such number")
	err = script(t, "i=0; while [ $i -lt 5000 ]; do echo 0123456789; i=$((i+1)); done; echo the end; exit 1").Send(t.Context(), m)
	require.Error(t, err)
	require.NotErrorIs(t, err, notify.ErrPermanent)
	require.ErrorContains(t, err, "the end")
	require.Less(t, len(err.Error()), 2000)
	s, err := exec.New(exec.Config{Command: "/nowhere/at/all"})(notify.Setup{})
	require.NoError(t, err, "it may come with a disk")
	require.ErrorContains(t, s.Send(t.Context(), m), "no such file")
	require.NoError(t, script(t, "sleep 3 & exit 0").Send(t.Context(), m), "what it starts may go on")
}

// A program whose time is over is killed with everything that it has started.
func TestProgramIsKilled(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	pid := filepath.Join(folder, "pid")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := script(t, `sleep 600 & echo $! >"$1.new"; mv "$1.new" "$1"; wait`, pid)
	go func() { done <- s.Send(ctx, notify.Samples()[0]) }()
	var child string
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(pid)
		child = strings.TrimSpace(string(text))
		return err == nil && child != ""
	}, time.Minute, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile("/proc/" + child + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, time.Minute, 5*time.Millisecond, "the child is gone")
}

func TestProgramSettings(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]exec.Config{
		"want an absolute path": {Command: channel.Path("notify.sh")}, "args:": {Command: "/a", Args: []string{"\x00"}},
		`env: "A=B"`: {Command: "/a", Env: map[string]string{"A=B": "c"}}, `env: "VOLTAGE_X"`: {Command: "/a", Env: map[string]string{"VOLTAGE_X": "c"}},
	} {
		_, err := exec.New(c)(notify.Setup{})
		require.ErrorIs(t, err, model.ErrInvalid, want)
		require.ErrorContains(t, err, want)
	}
}
