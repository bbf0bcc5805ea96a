package redisproc

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// script writes a program that stands in for a server.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700))
	return path
}

func TestParseLine(t *testing.T) {
	t.Parallel()
	msg, warning := parseLine("123:M 01 Jan 2026 10:00:00.000 # Background saving error")
	require.Equal(t, "Background saving error", msg)
	require.True(t, warning)
	msg, warning = parseLine("123:M 01 Jan 2026 10:00:00.000 * Ready to accept connections")
	require.Equal(t, "Ready to accept connections", msg)
	require.False(t, warning)
	msg, warning = parseLine("Bad directive or wrong number of arguments")
	require.Equal(t, "Bad directive or wrong number of arguments", msg)
	require.True(t, warning)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	v, err := BinaryVersion(context.Background(), script(t, `echo "Valkey server v=8.1.0 sha=0:0 malloc=jemalloc"`))
	require.NoError(t, err)
	require.Equal(t, Version{8, 1}, v)
	require.True(t, v.AtLeast(7, 2))
	require.True(t, Version{6, 2}.AtLeast(6, 2))
	require.False(t, Version{6, 0}.AtLeast(6, 2))
	_, err = BinaryVersion(context.Background(), script(t, "echo nothing"))
	require.ErrorIs(t, err, ErrVersion)
	for _, bad := range []string{"", "x", "7", "99999999.1"} {
		_, err = ParseVersion(bad)
		require.ErrorIs(t, err, ErrVersion, bad)
	}
}

func TestStartTellsWhyItEnded(t *testing.T) {
	t.Parallel()
	p, err := Start(Options{Binary: script(t, `
i=0; while [ $i -lt 20 ]; do echo "line $i"; i=$((i+1)); done
printf 'no newline at the end'; exit 3`)})
	require.NoError(t, err)
	<-p.Done()
	require.ErrorContains(t, p.Ended(), "exit status 3")
	require.ErrorContains(t, p.Ended(), "line 19 | no newline at the end")
	require.NotContains(t, p.Ended().Error(), "line 10 ")
	require.NoError(t, p.Signal(syscall.SIGTERM)) // harmless
	_, err = Start(Options{Binary: "/does/not/exist"})
	require.Error(t, err)
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	ready := make(chan struct{}, 1)
	p, err := Start(Options{
		Binary: script(t, "trap '' TERM\necho ready\nwhile :; do sleep 0.05; done"),
		Log:    func(string, bool) { ready <- struct{}{} },
	})
	require.NoError(t, err)
	<-ready
	require.NoError(t, p.Ended())
	pgid, err := syscall.Getpgid(p.PID())
	require.NoError(t, err)
	require.Equal(t, p.PID(), pgid, "a process group of its own")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Stop(ctx), context.DeadlineExceeded)
	require.ErrorContains(t, p.Ended(), "killed")
}

func TestConfigIsReadFromStandardInput(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	p, err := Start(Options{Binary: script(t, "cat"), Config: "port 0", Log: func(line string, _ bool) { got <- line }})
	require.NoError(t, err)
	require.Equal(t, "port 0", <-got)
	<-p.Done()
}
