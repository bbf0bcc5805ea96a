package voltage

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// oneEnd is a listener and the connections that come to it: each from the next address.
type oneEnd struct {
	net.Listener
	from []string
}

type farConn struct {
	net.Conn
	at     net.Addr
	closed bool
}

func (c *farConn) RemoteAddr() net.Addr { return c.at }

func (c *farConn) Close() error {
	c.closed = true
	return nil
}

func (l *oneEnd) Accept() (net.Conn, error) {
	if len(l.from) == 0 {
		return nil, net.ErrClosed
	}
	at := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(l.from[0]), 1))
	l.from = l.from[1:]
	return &farConn{at: at}, nil
}

// Whoever opens sockets without end takes neither the files of the channels nor the
// places of others.
func TestHTTPConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	many := func(n int, from string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = from
		}
		return list
	}
	open := func(l *boundedListener) (conns []net.Conn) {
		for {
			c, err := l.Accept()
			if err != nil {
				return conns
			}
			conns = append(conns, c)
		}
	}
	var log strings.Builder
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	listener := func(from ...string) *boundedListener {
		return newBoundedListener(&oneEnd{from: from}, proxies, model.SystemClock, slog.New(slog.NewTextHandler(&log, nil)))
	}
	l := listener(append(many(2*maxHTTPConns, "2001:db8::1"), "2001:db8::2", "192.0.2.1")...)
	conns := open(l)
	require.Len(t, conns, maxHTTPConnsOne+1, "the rest of the network of one, and another")
	assert.Equal(t, 1, strings.Count(log.String(), "too many are open"), "said once")
	assert.Len(t, open(listener(many(2*maxHTTPConns, "127.0.0.1")...)), maxHTTPConns)
	assert.Len(t, open(listener(many(2*maxHTTPConns, "10.0.0.1")...)), maxHTTPConns)

	require.NoError(t, conns[0].Close())
	require.NoError(t, conns[0].Close(), "counted once")
	l.Listener = &oneEnd{from: many(5, "2001:db8::3")}
	assert.Len(t, open(l), 1)
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
	assert.Equal(t, 1, l.all)
	assert.Equal(t, map[string]int{"2001:db8::/64": 1}, l.count)
}

// Whoever never reads an answer does not hold a connection for ever.
func TestServerHasTimeLimits(t *testing.T) {
	t.Parallel()
	eng, err := NewEngine(Config{HTTP: HTTP{Listen: "127.0.0.1:0"}, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	defer func() { require.NoError(t, eng.Stop(context.Background())) }()
	for _, limit := range []time.Duration{eng.server.ReadHeaderTimeout, eng.server.ReadTimeout, eng.server.WriteTimeout, eng.server.IdleTimeout} {
		assert.Positive(t, limit)
	}
}
