package modbus

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// batches is a peer that takes requests n at a time and answers them with what
// reply makes of their right answers.
func batches(t testing.TB, n int, reply func(round int, requests, answers [][]byte) [][]byte) string {
	var rounds atomic.Int32
	return script(t, func(c net.Conn) {
		for {
			var requests, answers [][]byte
			for range n {
				q := request(c)
				if q == nil {
					return
				}
				requests = append(requests, q)
				answers = append(answers, answer(q, uint16(q[8])<<8|uint16(q[9])))
			}
			if _, err := c.Write(bytes.Join(reply(int(rounds.Add(1)), requests, answers), nil)); err != nil {
				return
			}
		}
	})
}

// spread are n points that need a request each.
func spread(n int) []model.Point {
	var points []model.Point
	for k := range n {
		points = append(points, point(fmt.Sprint(k), fmt.Sprintf("holding:%d", 20*k)))
	}
	return points
}

func spreadIs(t testing.TB, got map[string]model.Sample, missing ...int) {
	t.Helper()
	for k := range len(got) {
		want := good(fmt.Sprint(k), float64(20*k))
		for _, m := range missing {
			if m == k {
				want = bad(fmt.Sprint(k), model.Bad)
			}
		}
		assert.Equal(t, want, got[fmt.Sprint(k)])
	}
}

// A peer that waits for all requests before it answers any, and then in any
// order, with answers twice and late ones in between.
func TestPipelineAnyOrder(t *testing.T) {
	t.Parallel()
	var late []byte
	address := batches(t, 4, func(_ int, _, a [][]byte) [][]byte {
		out := [][]byte{a[2], a[0], a[0], late, a[3], a[1], a[2]}
		late = a[1]
		return out
	})
	d := connected(t, TCP(address, Pipeline(4)), setup(spread(8)...))
	for range 20 {
		spreadIs(t, read(t, d))
	}
	assert.Equal(t, 4, d.depth)
}

// What is wrong with one answer does not disturb the others.
func TestPipelineFaultOfOne(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(a []byte) []byte{
		"exception":  func(a []byte) []byte { a[5] = 3; return append(a[:7], 0x83, 4) },
		"wrong unit": func(a []byte) []byte { a[6] = 9; return a },
		"wrong function": func(a []byte) []byte {
			a[7] = 4
			return a
		},
		"longer": func(a []byte) []byte { a[5] += 2; a[8] += 2; return append(a, 0, 0) },
	} {
		dev := newDevice(t, 1)
		s := setup(spread(4)...)
		d := connected(t, TCP(dev.address, Pipeline(4)), s)
		spreadIs(t, read(t, d))
		dev.faults(func(r server.Request) server.Action {
			if r.Address == 20 {
				return server.Action{Rewrite: change}
			}
			return server.Action{}
		})
		spreadIs(t, read(t, d), 1)
		dev.faults(nil)
		spreadIs(t, read(t, d))
		assert.EqualValues(t, 1, dev.srv.Stats().Accepted, name)
	}
}

// A device that has room for one request: the last or the first of those that
// come together is answered. All values come, and soon the requests go alone.
func TestPipelineFallsBack(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]func(n int) int{"last": func(n int) int { return n - 1 }, "first": func(int) int { return 0 }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := script(t, func(c net.Conn) {
				buffer := make([]byte, 1024)
				for {
					n, err := c.Read(buffer)
					if err != nil {
						return
					}
					k := keep(n / 12)
					q := buffer[12*k : 12*k+12]
					if _, err := c.Write(answer(q, uint16(q[8])<<8|uint16(q[9]))); err != nil {
						return
					}
				}
			})
			var log bytes.Buffer
			s := setup(spread(3)...)
			s.Timeout, s.Log = time.Second, slog.New(slog.NewTextHandler(&log, nil))
			d := connected(t, TCP(address, Pipeline(3)), s)
			for range 5 {
				spreadIs(t, read(t, d))
			}
			assert.Equal(t, 1, d.depth)
			assert.Contains(t, log.String(), "they are sent alone")
			require.NoError(t, d.Close(context.Background()))
			require.NoError(t, d.Connect(context.Background()))
			assert.Equal(t, 3, d.depth, "it is tried again after a connect")
		})
	}
}

// One address that is never answered costs its own value alone, and the others
// go on together.
func TestPipelineWithASilentAddress(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s := setup(spread(6)...)
	s.Timeout = 700 * time.Millisecond
	d := connected(t, TCP(dev.address, Pipeline(6)), s)
	dev.faults(func(r server.Request) server.Action { return server.Action{Drop: r.Address == 40} })
	for range 4 {
		spreadIs(t, read(t, d), 2)
	}
	assert.Equal(t, 6, d.depth)
	dev.faults(nil)
	spreadIs(t, read(t, d))
}

// A command waits for the requests under way and is the next one.
func TestPipelineAndCommands(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	d := connected(t, TCP(dev.address, Pipeline(3)), setup(append(spread(9), control("z", "coil:1"))...))
	reached, proceed := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	dev.faults(func(r server.Request) server.Action {
		if r.Function == 3 && !once.Swap(true) {
			close(reached)
			<-proceed
		}
		return server.Action{}
	})
	reading := reads(d)
	<-reached
	writing := make(chan error, 1)
	go func() {
		_, err := write(d, "z", 1)
		writing <- err
	}()
	require.Eventually(t, func() bool {
		d.line.mu.Lock()
		defer d.line.mu.Unlock()
		return len(d.line.commands) == 1
	}, 10*time.Second, time.Millisecond)
	close(proceed)
	require.NoError(t, <-writing)
	require.NoError(t, (<-reading).err)
	at := 0
	for k, r := range dev.requests() {
		if r.Function == 5 {
			at = k
		}
	}
	assert.Contains(t, []int{2, 3}, at, "after one batch of three, of which the first may be a coil")
}

func TestPipelineIsForTCP(t *testing.T) {
	t.Parallel()
	for _, f := range []channel.Factory{RTUOverTCP("127.0.0.1", Pipeline(2)), RTU("/dev/ttyS0", Pipeline(2))} {
		_, err := f(setup())
		require.ErrorIs(t, err, model.ErrInvalid)
		require.ErrorContains(t, err, "pipeline 2: want 1")
	}
	_, err := RTU("/dev/ttyS0", Pipeline(1))(setup())
	require.NoError(t, err)
	for text, o := range map[string]Option{"pipeline 0": Pipeline(0), "pipeline 17": Pipeline(17), "retries -1": Retries(-1), "retries 6": Retries(6),
		"connect delay -1s": ConnectDelay(-time.Second), "connect delay 1m1s": ConnectDelay(61 * time.Second)} {
		_, err := TCP("127.0.0.1", o)(setup())
		require.ErrorIs(t, err, model.ErrInvalid, text)
		require.ErrorContains(t, err, text)
	}
	_, err = NewBus("127.0.0.1").Unit(1, ConnectDelay(time.Second))(setup())
	require.ErrorContains(t, err, "belong to the bus")
	_, err = NewBus("127.0.0.1").Unit(1, Retries(1), Pipeline(2))(setup())
	require.NoError(t, err)
}
