package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/voltageems/voltage/channel/modbus/server"
)

// plug serves a pseudo terminal, whose other end is reached by the path it
// returns.
func plug(t *testing.T, srv *server.Server) string {
	t.Helper()
	missing := func(err error) {
		if os.Getenv("VOLTAGE_CI") == "1" {
			t.Fatalf("no pseudo terminals here: %v", err)
		}
		t.Skipf("no pseudo terminals here: %v", err)
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		missing(err)
	}
	raw, err := master.SyscallConn()
	require.NoError(t, err)
	number := 0
	require.NoError(t, errors.Join(raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}), err))
	name := fmt.Sprintf("/dev/pts/%d", number)
	// While nobody holds the other end, reading this one fails.
	holder, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		missing(err)
	}
	device := filepath.Join(t.TempDir(), "ttyUSB0")
	require.NoError(t, os.Symlink(name, device))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeRTU(master)
	}()
	t.Cleanup(func() {
		_ = srv.Close(context.Background())
		_ = master.Close()
		_ = holder.Close()
		<-done
	})
	return device
}

func TestModbusSerialLine(t *testing.T) {
	t.Parallel()
	m := memory()
	srv, err := server.New(units(map[byte]server.Handler{2: m, 7: m}))
	require.NoError(t, err)
	device := plug(t, srv)
	line := []string{"-rtu", device, "-baud", "115200", "-parity", "none"}

	out := ok(t, append([]string{"modbus", "read", "-timeout", patient, "-unit", "7", "holding:100:float32"}, line...)...)
	require.Contains(t, out, "12.5")
	out = ok(t, append([]string{"modbus", "write", "-timeout", patient, "-unit", "7", "holding:1=500"}, line...)...)
	require.Contains(t, out, "confirmed")
	out = ok(t, append([]string{"modbus", "scan", "-timeout", "2s", "-units", "1-2,7", "-probe", "holding:1"}, line...)...)
	require.Equal(t, "UNIT  ANSWER\n2     holding:1 = 500\n7     holding:1 = 500\n", out)

	// As an engine has it.
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	code, _, errs := ctl(t, append([]string{"modbus", "read", "holding:0"}, line...)...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "in use")
}
