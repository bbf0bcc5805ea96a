//go:build linux

package peertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// patience is what anything may take. What comes sooner does not wait for it.
const patience = 60 * time.Second

// missing skips a test for want of what the machine has not; in CI that is a failure.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("VOLTAGE_CI") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// program returns the path of a program that a test needs.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "%s is not installed", name)
	}
	return path
}

// process is a peer that runs beside the test.
type process struct {
	cmd   *exec.Cmd
	in    io.Closer
	first string // its first line of output
}

// kill ends the process at once, and waits.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.in.Close()
}

// start runs a peer until the test ends, and returns when it has printed a line.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...)}
	var errors strings.Builder
	p.cmd.Stderr = &errors
	var err error
	p.in, err = p.cmd.StdinPipe() // the end of its input ends it when the test does not
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		lines <- line
	}()
	select {
	case p.first = <-lines:
	case <-time.After(patience):
	}
	if p.first == "" {
		p.kill()
		t.Fatalf("%s %v did not come up: %s", name, args, &errors)
	}
	return p
}

// run runs a peer to its end and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

// cable returns the two ends of a serial line: pseudo terminals that socat
// connects.
func cable(t *testing.T) (one, two string) {
	t.Helper()
	socat := program(t, "socat")
	one, two = filepath.Join(t.TempDir(), "ttyUSB0"), filepath.Join(t.TempDir(), "ttyUSB1")
	cmd := exec.Command(socat, "pty,rawer,link="+one, "pty,rawer,link="+two)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		_, err1 := os.Stat(one)
		_, err2 := os.Stat(two)
		return err1 == nil && err2 == nil
	}, patience, time.Millisecond, "socat made no terminals")
	return one, two
}

// expected is a point and what a peer holds there.
type expected struct {
	Unit    int
	Address string
	Value   float64
	Text    string
	Missing bool
}

// open makes a driver that is closed with the test.
func open(t *testing.T, f channel.Factory, points ...model.Point) channel.Driver {
	t.Helper()
	d, err := f(channel.Setup{
		ID: "1", Points: points, Scan: time.Millisecond, Timeout: 5 * time.Second,
		Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

// read returns the samples of a round by point.
func read(t *testing.T, d channel.Driver) map[string]model.Sample {
	t.Helper()
	samples, err := d.Read(context.Background())
	require.NoError(t, err)
	all := map[string]model.Sample{}
	for _, s := range samples {
		all[s.Point] = s
	}
	return all
}

// readAll reads everything that a peer says it holds, twice: before and after
// the driver has learned what is missing.
func readAll(t *testing.T, unit func(int) channel.Factory, list []expected) {
	t.Helper()
	units := map[int][]expected{}
	for _, e := range list {
		units[e.Unit] = append(units[e.Unit], e)
	}
	for id, list := range units {
		var points []model.Point
		for k, e := range list {
			points = append(points, model.Point{ID: fmt.Sprint(k), Address: e.Address, Text: e.Text != ""})
		}
		d := open(t, unit(id), points...)
		require.NoError(t, d.Connect(context.Background()))
		for range 2 {
			got := read(t, d)
			for k, e := range list {
				want := model.Sample{Point: fmt.Sprint(k), Value: e.Value, Text: e.Text}
				if e.Missing {
					want.Quality = model.Invalid
				}
				assert.Equal(t, want, got[want.Point], "unit %d, %s", id, e.Address)
			}
		}
		require.NoError(t, d.Close(context.Background()))
	}
}

// order is a value that is written to a point.
type order struct {
	address string
	value   float64
}

// writeAll writes, reads back in the same way and once more in the next round.
func writeAll(t *testing.T, f channel.Factory, orders ...order) {
	t.Helper()
	var points []model.Point
	for k, o := range orders {
		points = append(points, model.Point{ID: fmt.Sprint(k), Address: o.address, Kind: model.Control, ReadBack: true})
	}
	d := open(t, f, points...)
	require.NoError(t, d.Connect(context.Background()))
	for k, o := range orders {
		out, err := d.(channel.Writer).Write(context.Background(), channel.Write{Point: points[k], Value: o.value})
		require.NoError(t, err, o.address)
		assert.Equal(t, channel.Confirmed, out.Result, o.address)
	}
	got := read(t, d)
	for k, o := range orders {
		assert.Equal(t, model.Sample{Point: fmt.Sprint(k), Value: o.value}, got[fmt.Sprint(k)], o.address)
	}
	require.NoError(t, d.Close(context.Background()))
}

// recovers waits until a driver whose connection may be gone reads a value.
func recovers(t *testing.T, d channel.Driver, point string, value float64) {
	t.Helper()
	require.Eventually(t, func() bool {
		samples, err := d.Read(context.Background())
		if err != nil {
			_ = d.Close(context.Background())
			_ = d.Connect(context.Background())
			return false
		}
		for _, s := range samples {
			if s.Point == point {
				return s.Quality == model.Good && s.Value == value
			}
		}
		return false
	}, patience, 10*time.Millisecond)
}

// ours is a server of ours for peers that are clients: unit 7, on all
// transports, with values that the peers know.
type ours struct {
	memory              *server.Memory
	tcp, rtuTCP, device string
}

func newOurs(t *testing.T) ours {
	t.Helper()
	o := ours{memory: &server.Memory{}}
	for n := range uint16(200) {
		o.memory.SetRegisters(server.HoldingRegister, n, n*7)
		o.memory.SetRegisters(server.InputRegister, n, n*11)
	}
	last := uint16(65535)
	o.memory.SetRegisters(server.HoldingRegister, last, last*7)
	o.memory.SetRegisters(server.InputRegister, last, last*11)
	for n := range uint16(2000) {
		o.memory.SetBits(server.Coil, n, n%3 == 0)
		o.memory.SetBits(server.DiscreteInput, n, n%5 == 0)
	}
	serve := func(rtu bool) (*server.Server, string) {
		srv, err := server.New(server.Config{Units: map[byte]server.Handler{7: o.memory}, RTU: rtu})
		require.NoError(t, err)
		address, err := srv.Listen(context.Background(), "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, srv.Close(context.Background())) })
		return srv, address.String()
	}
	var srv *server.Server
	_, o.tcp = serve(false)
	srv, o.rtuTCP = serve(true)
	end, device := cable(t)
	line, err := os.OpenFile(end, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	require.NoError(t, err)
	o.device = device
	go func() { _ = srv.ServeRTU(line) }()
	return o
}

// written checks what pymodbus and libmodbus have written.
func (o ours) written(t *testing.T, registers map[uint16]uint16) {
	t.Helper()
	for at, want := range map[uint16]bool{1000: true, 1002: false, 1010: true, 1011: false, 1012: true, 1013: true, 1018: true, 1019: 1019%3 == 0} {
		got, _ := o.memory.Bit(server.Coil, at)
		assert.Equal(t, want, got, "coil %d", at)
	}
	for at, want := range registers {
		got, _ := o.memory.Register(server.HoldingRegister, at)
		assert.Equal(t, want, got, "register %d", at)
	}
}

// reset undoes that.
func (o ours) reset() {
	for n := range uint16(200) {
		o.memory.SetRegisters(server.HoldingRegister, n, n*7)
	}
	for n := range uint16(2000) {
		o.memory.SetBits(server.Coil, n, n%3 == 0)
	}
}

func split(t *testing.T, address string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	return host, port
}

func decode(t *testing.T, text string, to any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), to), text)
}
