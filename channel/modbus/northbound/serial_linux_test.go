package northbound_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/northbound"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// missing skips a test for want of what the machine has not; in CI that is a failure.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("VOLTAGE_CI") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// terminal makes a pseudo terminal, whose other end is reached by the path
// device. While nobody holds that, reading this end fails, so holder does.
func terminal(t *testing.T, device string) (master, holder *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		missing(t, "no pseudo terminals here: %v", err)
	}
	raw, err := master.SyscallConn()
	require.NoError(t, err)
	number := 0
	require.NoError(t, raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}))
	require.NoError(t, err)
	name := fmt.Sprintf("/dev/pts/%d", number)
	holder, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		missing(t, "no pseudo terminals here: %v", err)
	}
	_ = os.Remove(device)
	require.NoError(t, os.Symlink(name, device))
	return master, holder
}

// wire makes a serial line between two devices, until it is cut.
func wire(t *testing.T, a, b string) (cut func()) {
	t.Helper()
	one, first := terminal(t, a)
	two, second := terminal(t, b)
	done := make(chan struct{}, 2)
	pump := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pump(one, two)
	go pump(two, one)
	ended := false
	cut = func() {
		if ended {
			return
		}
		ended = true
		for _, f := range []*os.File{one, two, first, second} {
			_ = f.Close()
		}
		<-done
		<-done
	}
	t.Cleanup(cut)
	return cut
}

var lineMap = northbound.Map{
	{Unit: 9, Address: "holding:4:int16", Model: "pcs1", Point: "power", Scale: 0.1},
	{Unit: 9, Address: "holding:5:int16", Model: "pcs1", Point: "setpoint", Scale: 0.1, Write: true},
	{Unit: 9, Address: "holding:6:int32", Model: "pcs1", Point: "limit", Write: true},
	{Unit: 9, Address: "coil:4", Model: "pcs1", Point: "start", Write: true},
	{Unit: 9, Address: "holding:8", Channel: "push", Point: "1"},
}

// mbpoll returns a function that runs it; extra are the arguments before those of
// each call. ok says whether it should succeed.
func mbpoll(t *testing.T, extra ...string) func(ok bool, args ...string) string {
	program, err := exec.LookPath("mbpoll")
	if err != nil {
		missing(t, "mbpoll is not installed")
	}
	return func(ok bool, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, program, append(extra, args...)...).CombinedOutput()
		assert.Equal(t, ok, err == nil, "%v: %s", args, out)
		return string(out)
	}
}

// pollBoth is what mbpoll sees and does over either transport.
func pollBoth(t *testing.T, s *site, run func(ok bool, args ...string) string, target string) {
	eventually(t, "the value is shown", func() bool {
		return strings.Contains(run(true, "-1", "-r", "4", "-c", "2", target), "[4]: \t125\n[5]: \t125")
	})
	assert.Contains(t, run(true, "-1", "-r", "8", target), "65535", "not available")
	assert.Contains(t, run(false, "-1", "-r", "9", target), "Illegal data address")
	assert.Contains(t, run(false, "-1", "-r", "6", target), "Illegal data address", "half of a number")
	assert.Contains(t, run(true, "-r", "5", target, "65236"), "Written 1 references")
	v, _ := s.device.Setpoint("4")
	assert.Equal(t, -30.0, v)
	assert.Contains(t, run(false, "-r", "5", target, "2001"), "Illegal data value", "above the point's maximum of 200")
	assert.Contains(t, run(false, "-r", "4", target, "1"), "Illegal data address", "not to be written")
	assert.Contains(t, run(true, "-r", "5", target, "10", "0", "1"), "Written 3 references")
	v, _ = s.device.Setpoint("5")
	assert.Equal(t, 1.0, v, "the words of mbpoll are the upper one first")
	run(true, "-t", "0", "-r", "4", target, "1")
	v, _ = s.device.Setpoint("6")
	assert.Equal(t, 1.0, v)
	s.device.SetOffline(true)
	eventually(t, "not available", func() bool {
		return strings.Contains(run(true, "-1", "-r", "4", target), "-32768")
	})
	assert.Contains(t, run(false, "-r", "5", target, "10"), "Slave device or server failure")
	s.device.SetOffline(false)
}

func TestMbpollTCP(t *testing.T) {
	t.Parallel()
	s := startSite(t, scripts.StoreConfig{}, func(s *site) channel.ServerFactory { return northbound.TCP("127.0.0.1:0", lineMap, s.bound()) })
	eventually(t, "bound", func() bool { return s.address() != "" })
	_, port, _ := strings.Cut(s.address(), ":")
	pollBoth(t, s, mbpoll(t, "-m", "tcp", "-p", port, "-a", "9", "-0", "-o", "9"), "127.0.0.1")
}

func TestMbpollRTU(t *testing.T) {
	t.Parallel()
	ours, theirs := filepath.Join(t.TempDir(), "ttyUSB0"), filepath.Join(t.TempDir(), "ttyUSB1")
	wire(t, ours, theirs)
	s := startSite(t, scripts.StoreConfig{}, func(*site) channel.ServerFactory {
		return northbound.RTU(ours, lineMap, northbound.Line(modbus.Baud(115200), modbus.Parity("none")))
	})
	pollBoth(t, s, mbpoll(t, "-m", "rtu", "-b", "115200", "-P", "none", "-a", "9", "-0", "-o", "9"), theirs)
}

// A line that is unplugged is told, and answers again when it is there again.
func TestSerialUnplugged(t *testing.T) {
	t.Parallel()
	ours, theirs := filepath.Join(t.TempDir(), "ttyUSB0"), filepath.Join(t.TempDir(), "ttyUSB1")
	cut := wire(t, ours, theirs)
	s := startSite(t, scripts.StoreConfig{}, func(*site) channel.ServerFactory { return northbound.RTU(ours, lineMap) })
	points := []model.Point{{ID: "power", Address: "holding:4:int16", Scale: 0.1}}
	sees := func() {
		c := connect(t, modbus.RTU(theirs, modbus.Unit(9)), points)
		c.sees("a value", func(now map[string]model.Sample) bool { return now["power"].Value == 12.5 })
		require.NoError(t, c.Close(context.Background()))
	}
	eventually(t, "serving", func() bool { return s.Servers()[0].Serving && len(s.Problems()) == 0 })
	sees()
	cut()
	eventually(t, "the problem is told", func() bool { return strings.Contains(strings.Join(s.Problems(), "\n"), "server scada: ") })
	wire(t, ours, theirs)
	eventually(t, "no problem any more", func() bool { return len(s.Problems()) == 0 })
	sees()
}
