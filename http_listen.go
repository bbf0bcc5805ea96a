package voltage

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/voltageems/voltage/internal/auth"
	"github.com/voltageems/voltage/model"
)

// How many connections the engine's own server holds, in all and of one address:
// each is a file, and the channels need files, too. This machine and trusted proxies,
// which speak for many, may have all of them.
const (
	maxHTTPConns    = 512
	maxHTTPConnsOne = 128
)

// boundedListener closes connections beyond its bounds as they come.
type boundedListener struct {
	net.Listener
	proxies []netip.Prefix
	log     *slog.Logger
	say     *auth.Limiter

	mu    sync.Mutex
	all   int
	count map[string]int // by auth.Group
}

func newBoundedListener(l net.Listener, proxies []netip.Prefix, clock model.Clock, log *slog.Logger) *boundedListener {
	return &boundedListener{Listener: l, proxies: proxies, log: log, say: auth.NewLimiter(clock, 1/time.Minute.Seconds(), 1), count: map[string]int{}}
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, most := l.from(conn)
		if l.take(from, most) {
			return &boundedConn{Conn: conn, free: sync.OnceFunc(func() { l.give(from) })}, nil
		}
		_ = conn.Close() // nothing was sent
		if l.say.Take("") == 0 {
			l.log.Warn("HTTP connections are refused: too many are open", "from", from, "most", maxHTTPConns, "most_of_one", most)
		}
	}
}

// from returns under which name a connection is counted, and how many it may have.
func (l *boundedListener) from(conn net.Conn) (name string, most int) {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return "", maxHTTPConns
	}
	at := tcp.AddrPort().Addr().Unmap().WithZone("")
	if at.IsLoopback() || slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(at) }) {
		return auth.Group(at), maxHTTPConns
	}
	return auth.Group(at), maxHTTPConnsOne
}

func (l *boundedListener) take(from string, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxHTTPConns || l.count[from] >= most {
		return false
	}
	l.all++
	l.count[from]++
	return true
}

func (l *boundedListener) give(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.count[from]--; l.count[from] == 0 {
		delete(l.count, from)
	}
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
