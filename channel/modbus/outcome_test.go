package modbus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// ways are the ways to write, each with the function that makes the device act.
var ways = []struct {
	name     string
	function byte
	opts     []Option
	address  string
	value    float64
}{
	{"function 5", 5, nil, "coil:4", 1},
	{"function 6", 6, nil, "holding:5", 3},
	{"function 15", 15, []Option{MultipleWrites()}, "coil:4", 1},
	{"function 16", 16, nil, "holding:6:int32", 70000},
	{"function 22", 22, []Option{PartWrites(PartsMask)}, "holding:9:bits4-7", 5},
	{"rewrite with 6", 6, []Option{PartWrites(PartsRewrite)}, "holding:9:bits4-7", 5},
	{"rewrite with 16", 16, []Option{PartWrites(PartsRewrite), MultipleWrites()}, "holding:9:uint8lo", 5},
	{"function 23", 23, []Option{ReadWrite()}, "holding:6:int32", 70000},
}

// hasty is a clock on which no pause takes time.
type hasty struct {
	model.Clock
	mu  sync.Mutex
	now time.Time
}

func (h *hasty) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hasty) After(d time.Duration) <-chan time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
	c := make(chan time.Time, 1)
	c <- h.now
	return c
}

// everyWay runs a test for each way to write, over TCP, TLS and RTU, all side by
// side: most of the time passes in waiting for answers that do not come.
func everyWay(t *testing.T, readBack bool, timeout time.Duration, run func(name string, dev *device, d *driver, p model.Point, function byte, value float64)) {
	t.Helper()
	var running sync.WaitGroup
	secure, files := newSecurity(t)
	for transport, open := range map[string]func(string, ...Option) channel.Factory{
		"TCP": TCP, "RTU": RTUOverTCP,
		"TLS": func(address string, opts ...Option) channel.Factory { return TLS(address, files, opts...) },
	} {
		for _, w := range ways {
			if w.function == 23 && !readBack {
				continue // without read-back it is function 16
			}
			dev := &device{rtu: transport == "RTU"}
			if transport == "TLS" {
				dev.tls = secure
			}
			startDevice(t, dev, 1)
			p := control("w", w.address)
			p.ReadBack = readBack
			s := setup(p)
			s.Timeout, s.Clock = timeout, &hasty{Clock: model.SystemClock, now: time.Now()}
			d := connected(t, open(dev.address, w.opts...), s)
			name := w.name + ", " + transport
			running.Go(func() { run(name, dev, d, p, w.function, w.value) })
		}
	}
	running.Wait()
}

// spoil changes the last byte of an answer's PDU.
func spoil(rtu bool) server.Action {
	return server.Action{Rewrite: func(f []byte) []byte {
		if rtu {
			f[len(f)-3] ^= 0xFF
			return sealed(f)
		}
		f[len(f)-1] ^= 0xFF
		return f
	}}
}

// The outcome of each way to write, for all that can become of the request,
// without and with read-back.
func TestOutcomeOfEveryWrite(t *testing.T) {
	t.Parallel()
	act := func(a server.Action) func(bool) server.Action { return func(bool) server.Action { return a } }
	for name, c := range map[string]struct {
		action   func(rtu bool) server.Action
		silent   bool // no answer comes that fits
		want     channel.Result
		readBack channel.Result
		text     string // in the error, where there is one
	}{
		"ok":                           {act(server.Action{}), false, channel.Done, channel.Confirmed, ""},
		"exception":                    {act(server.Action{Exception: server.IllegalValue}), false, channel.Refused, channel.Refused, "exception 3 (illegal data value)"},
		"acknowledge":                  {act(server.Action{Exception: 5}), false, channel.Sent, channel.Sent, "exception 5 (acknowledge)"},
		"gateway heard nothing":        {act(server.Action{Exception: server.GatewayTargetFailed}), false, channel.Sent, channel.Sent, "exception 11"},
		"answer lost":                  {act(server.Action{Drop: true}), true, channel.Sent, channel.Confirmed, "no answer in time"},
		"request lost":                 {act(server.Action{Ignore: true}), true, channel.Sent, channel.Sent, "no answer in time"},
		"wrong echo":                   {spoil, true, channel.Sent, channel.Confirmed, "does not fit the request"},
		"connection lost after":        {act(server.Action{Drop: true, Disconnect: true}), false, channel.Sent, channel.Sent, "not connected"},
		"connection lost, not taken":   {act(server.Action{Ignore: true, Disconnect: true}), false, channel.Sent, channel.Sent, "not connected"},
		"duplicate of the answer":      {act(server.Action{Duplicate: true}), false, channel.Done, channel.Confirmed, ""},
		"late, but within its time":    {act(server.Action{Delay: 30 * time.Millisecond}), false, channel.Done, channel.Confirmed, ""},
		"cut off before its last byte": {act(server.Action{Truncate: 1, Disconnect: true}), false, channel.Sent, channel.Sent, "not connected"},
	} {
		for _, readBack := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, read-back %t", name, readBack), func(t *testing.T) {
				t.Parallel()
				want, timeout := c.want, 10*time.Second
				if readBack {
					want = c.readBack
				}
				if c.silent {
					timeout = time.Second
				}
				everyWay(t, readBack, timeout, func(name string, dev *device, d *driver, p model.Point, function byte, value float64) {
					dev.faults(func(r server.Request) server.Action {
						if r.Function == function {
							return c.action(dev.rtu)
						}
						return server.Action{}
					})
					out, err := write(d, "w", value)
					assert.Equal(t, want, out.Result, "%s: %v", name, err)
					switch {
					case want >= channel.Done:
						assert.NoError(t, err, name)
					case assert.Error(t, err, name):
						assert.ErrorContains(t, err, c.text, name)
					}
					if want == channel.Confirmed && assert.NotNil(t, out.ReadBack, name) {
						assert.Equal(t, value, *out.ReadBack, name)
					}
					sent := 0
					for _, r := range dev.requests() {
						if r.Function == function {
							sent++
						}
					}
					assert.Equal(t, 1, sent, "%s: sent once", name)
				})
			})
		}
	}
}

// What was found closed was not sent.
func TestOutcomeWhereTheConnectionIsGone(t *testing.T) {
	t.Parallel()
	everyWay(t, true, 10*time.Second, func(name string, dev *device, d *driver, _ model.Point, function byte, value float64) {
		dev.stop()
		d.line.mu.Lock()
		var c = d.line.conn
		d.line.mu.Unlock()
		assert.Eventually(t, func() bool { return !stillOpen(c) }, 10*time.Second, time.Millisecond, name)
		out, err := write(d, "w", value)
		assert.ErrorIs(t, err, channel.ErrNotConnected, name)
		assert.Equal(t, channel.Outcome{}, out, name)
		out, err = write(d, "w", value)
		assert.ErrorIs(t, err, channel.ErrNotConnected, name)
		assert.Equal(t, channel.Outcome{}, out, name)
		assert.Empty(t, dev.requests(), name)
	})
}

func stillOpen(w wire) bool {
	switch c := w.(type) {
	case *conn:
		return alive(c.Conn)
	case *rtuConn:
		return alive(c.Conn)
	}
	return false
}

// What is read back is the value, at once or later, or another one.
func TestOutcomeOfReadBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrong int // how many readings after the write bring another value
		want  channel.Result
		text  string
	}{
		"equal":     {0, channel.Confirmed, ""},
		"late":      {3, channel.Confirmed, ""},
		"different": {1 << 30, channel.Done, "read back: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyWay(t, true, 10*time.Second, func(name string, dev *device, d *driver, p model.Point, function byte, value float64) {
				written, readings := false, 0
				dev.faults(func(r server.Request) server.Action {
					written = written || r.Function == function
					if written && slices.Contains([]byte{1, 3, 23}, r.Function) {
						if readings++; readings <= c.wrong {
							return spoil(dev.rtu)
						}
					}
					return server.Action{}
				})
				out, err := write(d, "w", value)
				assert.Equal(t, c.want, out.Result, "%s: %v", name, err)
				if c.text == "" {
					assert.NoError(t, err, name)
				} else if assert.Error(t, err, name) {
					assert.ErrorContains(t, err, c.text, name)
				}
				if assert.NotNil(t, out.ReadBack, name) {
					assert.Equal(t, c.want == channel.Confirmed, *out.ReadBack == value, name)
				}
			})
		})
	}
}

// Within its tolerance a value is confirmed, and function 23 needs no reading
// beside it.
func TestOutcomeWithTolerance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		opts  []Option
		asked []byte
	}{{nil, []byte{6, 3}}, {[]Option{ReadWrite()}, []byte{23}}} {
		dev := newDevice(t, 1)
		p := control("w", "holding:5:int16")
		p.ReadBack, p.Tolerance = true, 2
		d := connected(t, TCP(dev.address, c.opts...), setup(p))
		dev.faults(func(r server.Request) server.Action {
			return server.Action{Rewrite: func(f []byte) []byte {
				if r.Function != 6 {
					f[len(f)-1] += 2
				}
				return f
			}}
		})
		out, err := write(d, "w", 40)
		require.NoError(t, err)
		assert.Equal(t, channel.Confirmed, out.Result)
		assert.Equal(t, 42.0, *out.ReadBack)
		var asked []byte
		for _, r := range dev.requests() {
			asked = append(asked, r.Function)
		}
		assert.Equal(t, c.asked, asked)
	}
}

// The reading before a rewrite operates nothing: when it fails, nothing is sent.
func TestOutcomeOfTheReadingBeforeARewrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		action server.Action
		want   channel.Result
		text   string
	}{
		"refused":      {server.Action{Exception: server.IllegalAddress}, channel.Refused, "read before the write: exception 2"},
		"gateway":      {server.Action{Exception: server.GatewayTargetFailed}, channel.NotSent, "exception 11"},
		"no answer":    {server.Action{Drop: true}, channel.NotSent, "read before the write: no answer in time"},
		"disconnected": {server.Action{Drop: true, Disconnect: true}, channel.NotSent, "not connected"},
		"longer":       {server.Action{Rewrite: func(f []byte) []byte { f[5] += 2; f[8] += 2; return append(f, 0, 0) }}, channel.NotSent, "does not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := newDevice(t, 1)
			p := control("w", "holding:9:bit4")
			p.ReadBack = true
			s := setup(p)
			if c.text == "read before the write: no answer in time" {
				s.Timeout = 100 * time.Millisecond
			}
			d := connected(t, TCP(dev.address, PartWrites(PartsRewrite)), s)
			dev.faults(func(server.Request) server.Action { return c.action })
			out, err := write(d, "w", 1)
			require.ErrorContains(t, err, c.text)
			assert.Equal(t, channel.Outcome{Result: c.want}, out)
			require.LessOrEqual(t, len(dev.requests()), 1)
			v, _ := dev.units[1].Register(server.HoldingRegister, 9)
			assert.EqualValues(t, 9, v)
		})
	}
}

// A command that is broken off while it waits for the line leaves no request.
func TestOutcomeOfARewriteThatIsBrokenOff(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	d := connected(t, TCP(dev.address, PartWrites(PartsRewrite), Delay(time.Minute)), setup(control("w", "holding:9:bit4")))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dev.faults(func(server.Request) server.Action { cancel(); return server.Action{} })
	out, err := d.Write(ctx, channel.Write{Point: d.setup.Points[0], Value: 1})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, channel.Outcome{}, out)
	assert.Len(t, dev.requests(), 1, "it was read, and the pause was not over")
}
