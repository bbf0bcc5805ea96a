package modbus

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
)

// Some devices close the connection after each answer. All of their points are
// read, and commands are sent, one request a connection.
func TestClosesAfterEachAnswer(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	dev.faults(func(server.Request) server.Action { return server.Action{Disconnect: true} })
	d := connected(t, TCP(dev.address, MaxGap(0)), setup(point("a", "holding:1"), point("b", "holding:50"), point("c", "coil:7"), control("w", "holding:150")))
	for range 5 {
		got := read(t, d)
		assert.Equal(t, good("a", 1), got["a"])
		assert.Equal(t, good("b", 50), got["b"])
		assert.Equal(t, good("c", 1), got["c"])
	}
	require.Eventually(t, func() bool { return dev.connections() == 0 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool {
		d.line.mu.Lock()
		defer d.line.mu.Unlock()
		return !alive(d.line.conn.(*conn).Conn)
	}, 10*time.Second, time.Millisecond)
	out, err := write(d, "w", 151)
	require.NoError(t, err)
	assert.Equal(t, channel.Done, out.Result)
	assert.Equal(t, good("w", 151), read(t, d)["w"])
}

// A device that takes connections and closes them without an answer is not
// connected to for ever, and a command that has left is not sent again.
func TestClosesWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	var accepted, asked atomic.Int32
	address := script(t, func(c net.Conn) {
		answers := accepted.Add(1) == 1
		for q := request(c); q != nil; q = request(c) {
			asked.Add(1)
			if !answers || q[7] != 3 {
				return
			}
			_, _ = c.Write(answer(q, 5))
		}
	})
	d := connected(t, TCP(address), setup(control("w", "holding:1")))
	assert.Equal(t, good("w", 5), read(t, d)["w"])
	out, err := write(d, "w", 6)
	require.ErrorIs(t, err, channel.ErrNotConnected)
	assert.Equal(t, channel.Sent, out.Result)
	assert.EqualValues(t, 1, accepted.Load())
	assert.EqualValues(t, 2, asked.Load())
	require.NoError(t, d.Connect(context.Background()))
	_, err = d.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	assert.EqualValues(t, 2, accepted.Load(), "it has not answered on this connection")
}
