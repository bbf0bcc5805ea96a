package northbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

// Defaults of a server.
const (
	DefaultRefresh        = time.Second
	DefaultStale          = 10 * time.Second
	DefaultWriteTimeout   = 5 * time.Second
	DefaultMaxConnections = 32
)

// Bad says what is shown in place of a value that is not usable: not good,
// never seen, out of the range of the address, or too large for its type.
type Bad string

// The policies. The empty one is NotAvailable.
const (
	// NotAvailable shows the pattern that means "not available": the first na= of
	// the address, else that of SunSpec for the type. Requests for types that have
	// none, such as bits, are answered with exception 4.
	NotAvailable Bad = "na"
	// Fail answers requests for such a value with exception 4.
	Fail Bad = "exception"
	// Last shows the last good value, for clients that look at the quality, which
	// is a row of its own. Without one it is not available; nor is a good value that
	// does not fit, for its quality would make an older one look current.
	Last Bad = "last"
)

// Option changes a setting of a server from its default.
type Option func(*options)

type options struct {
	bad          Bad
	zeros        bool
	readOnly     bool
	refresh      time.Duration
	stale        time.Duration
	writeTimeout time.Duration
	connections  int
	allow        []string
	prefixes     []netip.Prefix
	tls          *TLSConfig // nil without
	writeRoles   []string
	serial       []modbus.Option
	bound        func(net.Addr)
}

// BadValues says what is shown in place of a value that is not usable. The
// default is NotAvailable.
func BadValues(b Bad) Option { return func(o *options) { o.bad = b } }

// ZeroGaps shows 0 in the holes of the map where a request covers at least one
// value beside them. By default such a request is answered with exception 2.
func ZeroGaps() Option { return func(o *options) { o.zeros = true } }

// ReadOnly refuses all writes with exception 1, whatever the map says.
func ReadOnly() Option { return func(o *options) { o.readOnly = true } }

// Refresh is how often the points of channels are read from the store. Those of
// models are read when they change. The default is 1 s, the least 100 ms.
func Refresh(d time.Duration) Option { return func(o *options) { o.refresh = d } }

// Stale is how long values are shown that cannot be read again, because the
// store is away; after it they are not usable. The default is 10 s, the least 1 s.
func Stale(d time.Duration) Option { return func(o *options) { o.stale = d } }

// WriteTimeout is how long a write may take, all values of a request together.
// After it nothing is sent to the device any more. It must be below the time for
// which the client waits, or the client takes for lost what was done. The default
// is 5 s, the least 100 ms, the most one minute.
func WriteTimeout(d time.Duration) Option { return func(o *options) { o.writeTimeout = d } }

// MaxConnections is how many clients are served at the same time; more are closed
// as they come. A client with fewer connections than another gets the place of that
// one's most silent. The default is 32.
func MaxConnections(n int) Option { return func(o *options) { o.connections = n } }

// Allow are the addresses from which clients may connect, such as
// "192.168.1.0/24" or "192.168.1.7"; others are closed as they come. A server
// that listens on more than loopback must name them, or have TLS.
func Allow(networks ...string) Option { return func(o *options) { o.allow = networks } }

// WriteRoles are the roles, as client certificates have them, that may write;
// others get exception 1. None means all. It needs TLS.
func WriteRoles(roles ...string) Option { return func(o *options) { o.writeRoles = roles } }

// Line are the settings of a serial line: modbus.Baud, modbus.Parity,
// modbus.StopBits.
func Line(opts ...modbus.Option) Option { return func(o *options) { o.serial = opts } }

// Bound has fn told the address each time the server has bound it, for those who
// let the system choose the port with port 0.
func Bound(fn func(net.Addr)) Option { return func(o *options) { o.bound = fn } }

func newOptions(opts []Option) options {
	o := options{bad: NotAvailable, refresh: DefaultRefresh, stale: DefaultStale, writeTimeout: DefaultWriteTimeout, connections: DefaultMaxConnections}
	for _, set := range opts {
		set(&o)
	}
	return o
}

// check says everything that is wrong with the options.
func (o *options) check() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{model.ErrInvalid}, args...)...))
	}
	switch o.bad {
	case NotAvailable, Fail, Last:
	default:
		bad("bad %.40q: want na, exception or last", o.bad)
	}
	if o.refresh < 100*time.Millisecond || o.refresh > time.Hour {
		bad("refresh %s: want 100ms to 1h", o.refresh)
	}
	if o.stale < time.Second || o.stale > time.Hour {
		bad("stale %s: want 1s to 1h", o.stale)
	}
	if o.writeTimeout < 100*time.Millisecond || o.writeTimeout > time.Minute {
		bad("write_timeout %s: want 100ms to 1m", o.writeTimeout)
	}
	if o.connections < 1 || o.connections > 1000 {
		bad("max_connections %d: want 1 to 1000", o.connections)
	}
	if len(o.writeRoles) > 0 && o.tls == nil {
		bad("write_roles: they stand in certificates of clients, which only TLS has")
	}
	o.prefixes = nil
	for _, text := range o.allow {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var ip netip.Addr
			if ip, err = netip.ParseAddr(text); err == nil {
				p = netip.PrefixFrom(ip, ip.BitLen())
			}
		}
		if err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			bad("allow %.60q: want an address or a network, such as 192.168.1.0/24", text)
			continue
		}
		o.prefixes = append(o.prefixes, p)
	}
	return errors.Join(errs...)
}

// checkListen says what is wrong with an address to listen on.
func (o *options) checkListen(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" {
		return fmt.Errorf("%w: listen %.80q: want host:port, such as 127.0.0.1:1502", model.ErrInvalid, listen)
	}
	ip := net.ParseIP(host)
	if loopback := host == "localhost" || ip != nil && ip.IsLoopback(); !loopback && len(o.allow) == 0 && o.tls == nil {
		return fmt.Errorf("%w: listen %.80q: Modbus has no login, so whoever reaches the port is served: want the clients' networks in allow, TLS, or a loopback address",
			model.ErrInvalid, listen)
	}
	return nil
}
