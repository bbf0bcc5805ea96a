//go:build linux

package soak

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/server"
)

const (
	// timeout is what a request has; healthy answers come in a fraction of a
	// millisecond. Terminals take longer, and long on a machine that is busy.
	timeout, timeoutRTU = 40 * time.Millisecond, 100 * time.Millisecond
	// buses is how many there are of each transport: a bus has one request under
	// way, and most faults cost it the timeout.
	buses = 2
	// patience is what recovery may take. Addresses that a fault made look
	// missing are tried again after up to 10 minutes of the drivers' clock.
	patience = 60 * time.Second
	// speed is how much faster the drivers' clock goes.
	speed = 120
)

// length is how long there are faults.
func length() time.Duration {
	long := os.Getenv("VOLTAGE_LONG")
	if d, err := time.ParseDuration(long); err == nil {
		return d
	}
	switch {
	case long == "1":
		return time.Hour
	case os.Getenv("VOLTAGE_CI") == "1" && !raced:
		return 10 * time.Second
	}
	return 2 * time.Second
}

func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("VOLTAGE_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "VOLTAGE_SEED")
		s = n
	}
	t.Logf("VOLTAGE_SEED=%d", s)
	return s
}

// Whatever happens between driver and server, no wrong value is published, no
// command is executed twice or said to be what it is not, all is well soon
// after the faults end, and nothing is left behind in the end.
func TestSoak(t *testing.T) {
	require.NoError(t, listen(t).Close()) // the runtime's own files for the network stay
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	t.Run("faults", func(t *testing.T) { soak(t, seed(t)) })
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > goroutines || openFiles(t) > files; {
		if time.Now().After(end) {
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			t.Fatalf("left behind: %d goroutines in place of %d, %d files in place of %d\n%s", runtime.NumGoroutine(), goroutines, openFiles(t), files, &stacks)
		}
		<-time.After(time.Millisecond)
	}
}

// soak is the test of all transports side by side, or of VOLTAGE_TRANSPORT.
func soak(t *testing.T, seed uint64) {
	var rigs []*rig
	for k, transport := range []struct {
		name  string
		start func(*testing.T, *dice, string) *modbus.Bus
		pause time.Duration // between two commands of a driver, at most
		limit time.Duration // of a request
	}{
		{"tcp", overTCP, 15 * time.Millisecond, timeout}, {"tcp pipelined", overPipeline, 15 * time.Millisecond, timeout},
		{"rtu over tcp", overRTUOverTCP, 15 * time.Millisecond, timeout}, {"rtu", overRTU, 150 * time.Millisecond, timeoutRTU},
	} {
		if only := os.Getenv("VOLTAGE_TRANSPORT"); only != "" && only != transport.name {
			continue
		}
		for n := range buses {
			d := &dice{rtu: k > 1, pipelined: k == 1, timeout: transport.limit, calm: true, r: rand.New(rand.NewPCG(seed, uint64(k*buses+n)))}
			rigs = append(rigs, newRig(t, transport.name, transport.pause, d, transport.start))
		}
	}
	for _, r := range rigs {
		r.recover("at the begin")
	}
	end := time.Now().Add(length())
	for time.Now().Before(end) && !t.Failed() {
		for _, r := range rigs {
			r.weather = r.dice.weather()
		}
		pause := time.Second + time.Duration(rigs[0].dice.int(int(2*time.Second)))
		<-time.After(min(pause, max(0, time.Until(end))))
		for _, r := range rigs {
			r.dice.clear()
		}
		for _, r := range rigs {
			r.recover(r.weather)
		}
	}
	for _, r := range rigs {
		text, missing := r.dice.report()
		t.Logf("%s: good values %d, rounds %d, connects %d, writes: %s faults: %s", r.name, r.good.Load(), r.rounds.Load(), r.connects.Load(), r.outcomes(), text)
		if length() >= 30*time.Minute { // in less, chance may leave one out
			assert.Empty(t, missing, "%s: faults that never were", r.name)
		}
		assert.Positive(t, r.good.Load(), r.name)
	}
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

func listen(t *testing.T) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

func newProxy(t *testing.T, d *dice, upstream string) *proxy {
	p := &proxy{dice: d, upstream: upstream, closed: make(chan struct{})}
	t.Cleanup(p.end)
	return p
}

func newGateway(t *testing.T, d *dice, upstream string) *gateway {
	g := &gateway{proxy: newProxy(t, d, upstream)}
	g.up.p = g.proxy
	t.Cleanup(func() {
		g.end()
		g.up.close()
	})
	return g
}

func overTCP(t *testing.T, d *dice, upstream string) *modbus.Bus {
	ln := listen(t)
	newProxy(t, d, upstream).serveTCP(ln)
	return modbus.NewBus(ln.Addr().String(), modbus.MaxGap(0))
}

func overPipeline(t *testing.T, d *dice, upstream string) *modbus.Bus {
	ln := listen(t)
	newProxy(t, d, upstream).serveTCP(ln)
	return modbus.NewBus(ln.Addr().String(), modbus.MaxGap(0), modbus.Pipeline(8))
}

func overRTUOverTCP(t *testing.T, d *dice, upstream string) *modbus.Bus {
	ln := listen(t)
	newGateway(t, d, upstream).serveRTU(ln)
	return modbus.NewRTUOverTCPBus(ln.Addr().String(), modbus.MaxGap(0))
}

func overRTU(t *testing.T, d *dice, upstream string) *modbus.Bus {
	p := &plug{path: filepath.Join(t.TempDir(), "ttyUSB0")}
	if err := p.insert(); err != nil {
		if os.Getenv("VOLTAGE_CI") == "1" {
			t.Fatal(err)
		}
		t.Skipf("no pseudo terminals here: %v", err)
	}
	newGateway(t, d, upstream).servePTY(p)
	return modbus.NewRTUBus(p.path, modbus.Baud(115200), modbus.Parity("none"), modbus.MaxGap(0))
}

// newRig starts the server, the proxy and the drivers of one transport. They end
// with the test.
func newRig(t *testing.T, name string, pause time.Duration, d *dice, start func(*testing.T, *dice, string) *modbus.Bus) *rig {
	s := newSite()
	handlers := map[byte]server.Handler{}
	for id := range byte(2) {
		handlers[id+1] = unit{s, id + 1}
	}
	srv, err := server.New(server.Config{Units: handlers, RTU: d.rtu, MaxConns: 1000})
	require.NoError(t, err)
	address, err := srv.Listen(context.Background(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = srv.Close(context.Background()) })
	bus := start(t, d, address.String())
	r := &rig{t: t, name: name, pause: pause, dice: d, site: s, sentCoil: map[place]int{}, doneCoil: map[place]int{}}
	t.Cleanup(r.stop)
	for _, factory := range []struct {
		id   byte
		make channel.Factory
	}{
		{1, bus.Unit(1)}, {2, bus.Unit(2, modbus.MultipleWrites())}, {1, bus.Unit(1, modbus.Retries(1))},
	} {
		r.run(unit{s, factory.id}, factory.make)
	}
	return r
}
