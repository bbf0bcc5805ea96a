package modbus

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	gb "github.com/goburrow/modbus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
)

// missing skips a test for want of what the machine has not; in CI that is a failure.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("VOLTAGE_CI") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// plug makes a pseudo terminal whose other end is reached by the path device,
// and serves it until it is unplugged.
func plug(t *testing.T, srv *server.Server, device string) (unplug func()) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		missing(t, "no pseudo terminals here: %v", err)
	}
	number := 0
	require.NoError(t, withFD(master, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	}))
	name := fmt.Sprintf("/dev/pts/%d", number)
	// While nobody holds the other end, reading this one fails.
	holder, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		missing(t, "no pseudo terminals here: %v", err)
	}
	_ = os.Remove(device)
	require.NoError(t, os.Symlink(name, device))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeRTU(master)
	}()
	unplug = func() {
		_ = master.Close()
		_ = holder.Close()
		<-done
	}
	t.Cleanup(unplug)
	return unplug
}

func TestSerialLine(t *testing.T) {
	t.Parallel()
	memory := &server.Memory{}
	for n := range uint16(200) {
		memory.SetRegisters(server.HoldingRegister, n, n)
	}
	srv, err := server.New(server.Config{Units: map[byte]server.Handler{1: memory, 7: memory}})
	require.NoError(t, err)
	device := filepath.Join(t.TempDir(), "ttyUSB0")
	unplug := plug(t, srv, device)

	bus := NewRTUBus(device, Baud(115200), Parity("none"))
	s := setup(point("a", "holding:1"), point("b", "holding:10:int32"), control("w", "holding:150"))
	d, other := connected(t, bus.Unit(7), s), connected(t, bus.Unit(1), s)
	_, err = openSerial(device, defaultSerial)
	require.ErrorContains(t, err, "in use")
	started := time.Now()
	const rounds = 20
	for range rounds {
		for _, d := range []*driver{d, other} {
			got := read(t, d)
			assert.Equal(t, good("a", 1), got["a"])
			assert.Equal(t, good("b", 10<<16|11), got["b"])
		}
	}
	assert.Greater(t, time.Since(started), (rounds*2*2-1)*1750*time.Microsecond, "the silence between frames, two requests in each round of each")
	out, err := write(d, "w", 10) // 10 is a line feed, which a terminal would change
	require.NoError(t, err)
	assert.Equal(t, channel.Done, out.Result)
	out, err = write(d, "w", 0x1103) // and these are flow control and interrupt
	require.NoError(t, err)
	assert.Equal(t, channel.Done, out.Result)
	assert.Equal(t, good("w", 0x1103), read(t, d)["w"])

	unplug()
	out, err = write(d, "w", 1)
	require.ErrorIs(t, err, channel.ErrNotConnected)
	assert.Equal(t, channel.NotSent, out.Result)
	_, err = other.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	require.ErrorIs(t, d.Connect(context.Background()), channel.ErrNotConnected)
	plug(t, srv, device)
	require.NoError(t, d.Connect(context.Background()))
	assert.Equal(t, good("w", 0x1103), read(t, d)["w"])
	require.NoError(t, srv.Close(context.Background()))
}

func TestSerialUnplugEndsARequest(t *testing.T) {
	t.Parallel()
	taken := make(chan struct{}, 1)
	srv, err := server.New(server.Config{Units: map[byte]server.Handler{1: &server.Memory{}}, Intercept: func(server.Request) server.Action {
		taken <- struct{}{}
		return server.Action{Ignore: true}
	}})
	require.NoError(t, err)
	device := filepath.Join(t.TempDir(), "ttyUSB0")
	unplug := plug(t, srv, device)
	s := setup(point("a", "holding:1"))
	s.Timeout = time.Hour
	d := connected(t, RTU(device), s)
	go func() {
		<-taken
		unplug()
	}()
	_, err = d.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
}

func TestSerialRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, device := range []string{file, "/dev/null"} {
		_, err := openSerial(device, defaultSerial)
		require.ErrorContains(t, err, "not a serial line")
	}
}

// What comes while the line is closed is not sent back, as a terminal would: to a
// device, the answer to a write is a write.
func TestSerialDoesNotEcho(t *testing.T) {
	t.Parallel()
	srv, err := server.New(server.Config{})
	require.NoError(t, err)
	device := filepath.Join(t.TempDir(), "ttyUSB0")
	plug(t, srv, device)
	echoes := func() bool {
		f, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		require.NoError(t, err)
		defer f.Close()
		var settings *unix.Termios
		require.NoError(t, withFD(f, func(fd int) (err error) {
			settings, err = unix.IoctlGetTermios(fd, unix.TCGETS)
			return err
		}))
		return settings.Lflag&unix.ECHO != 0
	}
	require.True(t, echoes(), "it begins as a terminal")
	c, err := openSerial(device, defaultSerial)
	require.NoError(t, err)
	assert.False(t, echoes())
	require.NoError(t, c.Close())
	assert.False(t, echoes())
}

// What lies there before a request is sent is never its answer, not even when
// it would fit.
func TestRTUDrainsBeforeSending(t *testing.T) {
	t.Parallel()
	more, sent := make(chan struct{}), make(chan struct{})
	frame := func(value byte) []byte {
		return appendRTU(nil, 1, &gb.ProtocolDataUnit{FunctionCode: 3, Data: []byte{2, 0, value}})
	}
	address := script(t, func(c net.Conn) {
		q := make([]byte, 8)
		for n, err := c.Read(q); n == 8 && err == nil; n, err = c.Read(q) {
			_, _ = c.Write(frame(5))
			if _, ok := <-more; ok {
				_, _ = c.Write(frame(66))
				close(sent)
			}
		}
	})
	d := connected(t, RTUOverTCP(address), setup(point("a", "holding:1")))
	assert.Equal(t, good("a", 5), read(t, d)["a"])
	more <- struct{}{}
	<-sent
	require.Eventually(t, func() bool {
		waiting := 0
		raw, err := d.line.conn.(*rtuConn).Conn.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) { waiting, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }))
		return err == nil && waiting == len(frame(66))
	}, 10*time.Second, time.Millisecond)
	close(more)
	assert.Equal(t, good("a", 5), read(t, d)["a"])
}
