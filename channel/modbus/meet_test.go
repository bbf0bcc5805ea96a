package modbus

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	gb "github.com/goburrow/modbus"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// Where two features meet.

// A device that closes the connection after each answer loses what was sent
// together, connection after connection, until it is asked for one at a time.
func TestPipelineOnADeviceThatClosesAfterEachAnswer(t *testing.T) {
	t.Parallel()
	address := script(t, func(c net.Conn) {
		if r := request(c); r != nil {
			_, _ = c.Write(answer(r, 7))
		}
	})
	d := open(t, TCP(address, Pipeline(4)), setup(point("a", "holding:0"), point("b", "holding:20"), point("c", "holding:40")))
	var samples []model.Sample
	var err error
	for range maxBroken + 1 {
		require.NoError(t, d.Connect(context.Background()))
		if samples, err = d.Read(context.Background()); err == nil {
			break
		}
		require.ErrorIs(t, err, channel.ErrNotConnected)
	}
	require.NoError(t, err)
	assert.Equal(t, []model.Sample{good("a", 7), good("b", 7), good("c", 7)}, samples)
	assert.Equal(t, 1, d.depth)
}

// A unit that is asked for nothing by itself says nothing about the connection.
// When the others find it dead, a command to that unit makes it anew.
func TestConnectionThatIsDeadForAll(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1, 2)
	bus := NewBus(dev.address)
	idle := control("w", "holding:5")
	idle.Scan = channel.ScanDemand
	a := connected(t, bus.Unit(1), setup(idle))
	s := setup(point("b", "holding:1"), point("c", "holding:100"))
	b := connected(t, bus.Unit(2), s)
	read(t, b)
	b.setup.Timeout = 50 * time.Millisecond // nothing is answered
	dev.faults(func(server.Request) server.Action { return server.Action{Ignore: true} })
	_, err := b.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	a.line.mu.Lock()
	assert.Nil(t, a.line.conn, "given up")
	a.line.mu.Unlock()
	dev.faults(nil)
	out, err := write(a, "w", 3)
	require.NoError(t, err)
	assert.Equal(t, channel.Done, out.Result)

	// And so does what is asked for.
	require.NoError(t, b.Connect(context.Background()))
	dev.faults(func(server.Request) server.Action { return server.Action{Ignore: true} })
	_, err = b.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	dev.faults(nil)
	require.NoError(t, a.Demand("w"))
	assert.Equal(t, good("w", 3), read(t, a)["w"])

	require.NoError(t, a.Close(context.Background()))
	out, err = write(a, "w", 3)
	require.ErrorIs(t, err, channel.ErrNotConnected)
	assert.Equal(t, channel.NotSent, out.Result)
}

// A device that is still starting does not have its addresses yet, also those
// that are read once.
func TestIllegalAddressOfWhatIsReadOnce(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]server.Action{"at once": {}, "after silence": {Ignore: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := newDevice(t, 1)
			s, clock := classed(t, scanned(channel.ScanOnce, point("serial", "input:500")), point("a", "holding:1"))
			d := connected(t, TCP(dev.address), s)
			if first.Ignore {
				d.setup.Timeout = time.Second
				dev.faults(func(r server.Request) server.Action { return server.Action{Ignore: r.Address == 500} })
			}
			assert.Equal(t, []string{"a"}, ids(t, <-reads(d)))
			assert.Equal(t, []string{"serial"}, ids(t, <-reads(d)))
			if first.Ignore {
				assert.Equal(t, bad("serial", model.Bad), d.samples[d.items[0].sample])
				dev.faults(nil)
				d.setup.Timeout = 10 * time.Second
				clock.Advance(s.Scan)
				assert.Equal(t, []string{"a"}, ids(t, <-reads(d)))
				assert.Equal(t, []string{"serial"}, ids(t, <-reads(d)))
			}
			assert.Equal(t, bad("serial", model.Invalid), d.samples[d.items[0].sample])
			dev.units[1].SetRegisters(server.InputRegister, 500, 77)
			clock.Advance(retryFirst)
			assert.Equal(t, []string{"a"}, ids(t, <-reads(d)))
			assert.Equal(t, []string{"serial"}, ids(t, <-reads(d)))
			assert.Equal(t, good("serial", 77), d.samples[d.items[0].sample])
		})
	}
}

// What was written when the connection was lost is read after the reconnect,
// whatever its class: the value of before may be wrong.
func TestWrittenWhenTheConnectionWasLost(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	w := control("w", "holding:5")
	w.Scan = channel.ScanDemand
	d := connected(t, TCP(dev.address), setup(w))
	require.NoError(t, d.Demand("w"))
	assert.Equal(t, good("w", 5), read(t, d)["w"])
	dev.faults(func(r server.Request) server.Action { return server.Action{Drop: true, Disconnect: true} })
	out, err := write(d, "w", 9)
	require.ErrorIs(t, err, channel.ErrNotConnected)
	require.Equal(t, channel.Sent, out.Result)
	_, err = d.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	dev.faults(nil)
	require.NoError(t, d.Connect(context.Background()))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	samples, err := d.Read(ctx)
	require.NoError(t, err)
	assert.Equal(t, []model.Sample{good("w", 9)}, samples)
}

// passing is a context whose deadline has passed, and that has not noticed.
type passing struct{ context.Context }

func (passing) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

// A request whose time is over before it was sent costs nobody the connection.
func TestDeadlineBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	for name, w := range map[string]wire{"TCP": newConn(ours), "RTU": newRTUConn(ours, &pace{})} {
		asks := []ask{{request: gb.ProtocolDataUnit{FunctionCode: 6, Data: []byte{0, 1, 0, 2}}}}
		x, err := w.exchange(passing{context.Background()}, time.Hour, 1, asks, true)
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.NotErrorIs(t, err, channel.ErrNotConnected, name)
		assert.False(t, x.sent, name)
	}
	// TLS writes nothing any more after that.
	err := (&stream{Conn: &tlsConn{}}).unwritten(context.Background(), true, false, os.ErrDeadlineExceeded)
	require.ErrorIs(t, err, channel.ErrNotConnected)
}

// An attempt that was cut short while a frame came in waits for the end of that
// frame, and not for another one.
func TestCutWithinALateFrame(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	c := newConn(ours)
	c.last, c.issued = 1, 1
	ctx, cut := context.WithCancelCause(context.Background())
	asks := []ask{{request: gb.ProtocolDataUnit{FunctionCode: 3, Data: []byte{0, 1, 0, 1}}}}
	done := make(chan error, 1)
	go func() {
		_, err := c.exchange(ctx, time.Hour, 1, asks, false)
		done <- err
	}()
	r := request(theirs)
	r[1] = 1 // to an earlier request
	late := answer(r, 5)
	_, err := theirs.Write(late[:5])
	require.NoError(t, err)
	cut(errCut)
	c.interrupt()
	_, err = theirs.Write(late[5:])
	require.NoError(t, err)
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
}

// The end of a Read is not a unit without an answer.
func TestEndOfAnAttemptsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var try try
	try.ctx, try.cancel = context.WithCancelCause(context.Background())
	require.ErrorIs(t, try.ended(ctx, []ask{{err: ErrTimeout, done: true}}, nil), context.Canceled)
}

// A flood of commands from many units leaves polls their turns.
func TestCommandsDoNotStarvePolls(t *testing.T) {
	t.Parallel()
	l := &line{attached: map[*member]struct{}{}}
	holder := newLane(true)
	require.NoError(t, l.acquire(context.Background(), holder))
	var mu sync.Mutex
	var order []string
	var waiting sync.WaitGroup
	enqueue := func(name string, ln *lane) {
		queue := l.queue(ln)
		l.mu.Lock()
		before := len(*queue)
		l.mu.Unlock()
		waiting.Go(func() {
			if l.acquire(context.Background(), ln) == nil {
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				l.release()
			}
		})
		require.Eventually(t, func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(*queue) > before
		}, 10*time.Second, time.Millisecond)
	}
	var want []string
	for k := range 2 {
		enqueue(fmt.Sprint("poll ", k), newLane(false))
	}
	for k := range 3 * mostAhead / 2 {
		enqueue(fmt.Sprint("command ", k), newLane(true))
		want = append(want, fmt.Sprint("command ", k))
		if k == mostAhead-1 {
			want = append(want, "poll 0")
		}
	}
	l.release()
	waiting.Wait()
	assert.Equal(t, append(want, "poll 1"), order)
}

// Whatever the order of Connect and Close, a driver that was closed holds no
// connection.
func TestConnectAndCloseTogether(t *testing.T) {
	t.Parallel()
	bus := NewBus("127.0.0.1")
	bus.line.dial = func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		return ours, theirs.Close()
	}
	d := open(t, bus.Unit(1), setup(point("a", "holding:1")))
	for range 2000 {
		connecting := make(chan error, 1)
		go func() { connecting <- d.Connect(context.Background()) }()
		require.NoError(t, d.Close(context.Background()))
		<-connecting
		d.mu.Lock()
		closed := d.session.ctx.Err() != nil
		d.mu.Unlock()
		d.line.mu.Lock()
		held := len(d.line.attached)
		d.line.mu.Unlock()
		require.False(t, closed && held > 0)
		require.NoError(t, d.Close(context.Background()))
	}
}

// What cuts short a request with TLS leaves its writing alone: after a write that
// failed TLS writes nothing any more, for all units of the bus.
func TestTLSIsNotCutWithinAWrite(t *testing.T) {
	t.Parallel()
	secure, files := newSecurity(t)
	dev := startDevice(t, &device{tls: secure}, 1)
	d := connected(t, TLS(dev.address, files), setup(point("a", "holding:1")))
	read(t, d)
	c := d.line.conn.(*conn)
	c.guard(context.Background(), time.Now().Add(time.Minute))
	c.interrupt()
	c.last++
	c.issued++
	_, err := c.Write(appendTCP(nil, c.last, 1, &gb.ProtocolDataUnit{FunctionCode: 3, Data: appendRead(nil, 1, 1)}))
	require.NoError(t, err)
	c.unguard()
	for range 3 {
		assert.Equal(t, good("a", 1), read(t, d)["a"])
	}
	assert.EqualValues(t, 1, dev.srv.Stats().Accepted)
}
