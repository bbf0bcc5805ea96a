package modbus

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// device is a Modbus server for one test, whose faults can be changed while it
// runs.
type device struct {
	t       testing.TB
	address string
	rtu     bool
	tls     *tls.Config // nil without TLS
	units   map[byte]*server.Memory
	fault   atomic.Pointer[func(server.Request) server.Action]

	mu     sync.Mutex
	srv    *server.Server
	served []server.Request
}

// newDevice starts a device with the given units, each with holding registers,
// input registers, coils and discretes 0 to 199: registers hold their address,
// bits are on where the address is odd.
func newDevice(t testing.TB, units ...byte) *device {
	t.Helper()
	return newDeviceOf(t, false, units...)
}

// newDeviceOf is newDevice with RTU over TCP where rtu is set.
func newDeviceOf(t testing.TB, rtu bool, units ...byte) *device {
	t.Helper()
	return startDevice(t, &device{rtu: rtu}, units...)
}

// startDevice is newDeviceOf with what d has already.
func startDevice(t testing.TB, d *device, units ...byte) *device {
	t.Helper()
	d.t, d.address, d.units = t, "127.0.0.1:0", map[byte]*server.Memory{}
	for _, u := range units {
		m := &server.Memory{}
		for n := range uint16(200) {
			m.SetRegisters(server.HoldingRegister, n, n)
			m.SetRegisters(server.InputRegister, n, n)
			m.SetBits(server.Coil, n, n%2 == 1)
			m.SetBits(server.DiscreteInput, n, n%2 == 1)
		}
		d.units[u] = m
	}
	d.start()
	t.Cleanup(d.stop)
	return d
}

func (d *device) start() {
	d.t.Helper()
	handlers := map[byte]server.Handler{}
	for u, m := range d.units {
		handlers[u] = m
	}
	srv, err := server.New(server.Config{Units: handlers, Intercept: d.intercept, RTU: d.rtu, TLS: d.tls})
	require.NoError(d.t, err)
	require.Eventually(d.t, func() bool {
		address, err := srv.Listen(context.Background(), d.address)
		if err == nil {
			d.address = address.String()
		}
		return err == nil
	}, 10*time.Second, 5*time.Millisecond, "the address is in use")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.srv = srv
}

func (d *device) stop() {
	d.mu.Lock()
	srv := d.srv
	d.mu.Unlock()
	_ = srv.Close(context.Background())
}

func (d *device) intercept(r server.Request) server.Action {
	r.PDU = nil
	d.mu.Lock()
	d.served = append(d.served, r)
	d.mu.Unlock()
	if f := d.fault.Load(); f != nil {
		return (*f)(r)
	}
	return server.Action{}
}

// faults sets what happens to requests from now on; nil for nothing.
func (d *device) faults(f func(server.Request) server.Action) {
	if f == nil {
		d.fault.Store(nil)
		return
	}
	d.fault.Store(&f)
}

// requests returns what came since it was called the last time.
func (d *device) requests() []server.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.served
	d.served = nil
	return out
}

func (d *device) connections() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.srv.Stats().Connections
}

func setup(points ...model.Point) channel.Setup {
	return channel.Setup{
		ID: "1", Points: points, Scan: time.Millisecond, Timeout: 10 * time.Second,
		Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock,
	}
}

func point(id, address string) model.Point { return model.Point{ID: id, Address: address} }

func control(id, address string) model.Point {
	return model.Point{ID: id, Address: address, Kind: model.Control}
}

// open makes a driver that is closed with the test.
func open(t testing.TB, f channel.Factory, s channel.Setup) *driver {
	t.Helper()
	made, err := f(s)
	require.NoError(t, err)
	d := made.(*driver)
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

func connected(t testing.TB, f channel.Factory, s channel.Setup) *driver {
	t.Helper()
	d := open(t, f, s)
	require.NoError(t, d.Connect(context.Background()))
	return d
}

// read reads one round as a map of samples.
func read(t testing.TB, d *driver) map[string]model.Sample {
	t.Helper()
	samples, err := d.Read(context.Background())
	require.NoError(t, err)
	out := map[string]model.Sample{}
	for _, s := range samples {
		out[s.Point] = s
	}
	require.Len(t, out, len(d.setup.Points))
	return out
}

func good(point string, value float64) model.Sample { return model.Sample{Point: point, Value: value} }

func bad(point string, q model.Quality) model.Sample { return model.Sample{Point: point, Quality: q} }

// script is a peer that runs f on each connection, for what no server does.
func script(t testing.TB, f func(net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			running.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln.Addr().String()
}

// request reads one request of a script's connection; nil at the end.
func request(c net.Conn) []byte {
	b := make([]byte, headerSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil
	}
	rest := make([]byte, int(b[4])<<8+int(b[5])-1)
	if _, err := io.ReadFull(c, rest); err != nil {
		return nil
	}
	return append(b, rest...)
}

// answer returns the frame that answers a request for registers with the value
// in each of them.
func answer(request []byte, value uint16) []byte {
	count := int(request[10])<<8 + int(request[11])
	b := append([]byte{}, request[:8]...)
	length := 3 + 2*count
	b[4], b[5] = byte(length>>8), byte(length)
	b = append(b, byte(2*count))
	for range count {
		b = append(b, byte(value>>8), byte(value))
	}
	return b
}
