package modbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// Defaults of the options.
const (
	DefaultUnit           = 1
	DefaultPort           = 502
	DefaultMaxRead        = 125
	DefaultMaxGap         = 8
	DefaultPipeline       = 1
	DefaultConnectTimeout = 3 * time.Second
)

// The most that Retries and Pipeline take.
const (
	maxRetries  = 5
	maxPipeline = 16
)

// lineOptions are those of a connection.
type lineOptions struct {
	connectTimeout time.Duration
	delay          time.Duration
	connectDelay   time.Duration
	serial         serialOptions
	tls            TLSConfig
}

// options are all that an Option may set. Factories check them.
type options struct {
	line     lineOptions
	unit     int
	limits   limits
	multiple bool
	parts    string // how parts of registers are written; empty for not at all
	joined   bool   // function 23 for points with ReadBack
	retries  int
	pipeline int
}

// Option changes how a unit or a connection is treated. Values out of range
// are reported by the Factory.
type Option func(*options)

// Unit sets the unit id that TCP, TLS, RTU and RTUOverTCP talk to, 0 to 255. The default is 1. With
// RTU it is 1 to 247, or 0 for the broadcast to all units. It has no meaning for
// a Bus, whose Unit method takes the id.
func Unit(n int) Option { return func(o *options) { o.unit = n } }

// MaxRead sets how many registers one request may read, 1 to 125, for devices
// that cannot deliver as many as the protocol allows. The default is 125. For
// coils and discrete inputs it is 16 times as many.
func MaxRead(registers int) Option { return func(o *options) { o.limits.maxRead = registers } }

// MaxGap sets how many registers that no point needs may be read along when
// that saves a request. The default is 8; with 0 only adjoining points are read
// together. For coils and discrete inputs it is 16 times as many.
func MaxGap(registers int) Option { return func(o *options) { o.limits.maxGap = registers } }

// MultipleWrites writes single registers with function 16 and coils with
// function 15, for devices that do not know functions 6 and 5.
func MultipleWrites() Option { return func(o *options) { o.multiple = true } }

// The ways to write a part of a register; see PartWrites.
const (
	PartsMask    = "mask"
	PartsRewrite = "rewrite"
)

// PartWrites lets points that are a part of a register (bit, bits, int8 and
// uint8) be controls and adjustments, and says how they are written. Without it
// such points are refused.
//
// PartsMask, "mask", uses function 22, by which the device itself changes the
// part and nothing else. Few devices know it.
//
// PartsRewrite, "rewrite", reads the register, changes the part and writes the
// register back with function 6, or 16 with MultipleWrites. No other request of
// this bus comes in between, but what the device itself or another client
// changes in the rest of the register between the two is undone, without a trace.
// Use it only for registers that nobody else changes. A register whose reading
// has a side effect, or which holds something else when it is read, must not be
// written so either. A read that fails leaves the command NotSent, or Refused
// where the device answers it with an exception.
func PartWrites(how string) Option { return func(o *options) { o.parts = how } }

// ReadWrite writes holding registers of points with ReadBack with function 23,
// which writes and then reads in one request. When the value in the answer is
// the one that was written, it settles the command; else it is read back as
// without this option. Coils, parts of registers and points without ReadBack
// are written as without it.
func ReadWrite() Option { return func(o *options) { o.joined = true } }

// ConnectTimeout bounds the making of the connection. The default is 3 s. The
// time for each request is the channel's Timeout.
func ConnectTimeout(d time.Duration) Option { return func(o *options) { o.line.connectTimeout = d } }

// Delay sets a pause between the end of a request and the begin of the next on
// the connection, for devices that need time to recover, up to 1 min. The
// default is none.
func Delay(d time.Duration) Option { return func(o *options) { o.line.delay = d } }

// ConnectDelay sets a pause between the making of the connection and the first
// request on it, for devices and gateways that drop what comes too early, up to
// 1 min. Commands wait for its end too. The default is none.
func ConnectDelay(d time.Duration) Option { return func(o *options) { o.line.connectDelay = d } }

// Retries sets how often a read that was not answered, or with what is no
// answer, is repeated within its round, 0 to 5. The default is 0: the next round
// is soon enough. Writes are never repeated, and neither is what the unit, or a
// gateway, refused. A unit counts as dead only after as many more requests.
func Retries(n int) Option { return func(o *options) { o.retries = n } }

// Pipeline sets how many requests of a round are sent together on Modbus TCP, 1
// to 16, without waiting for the answer to one before the next is sent. That
// saves a round trip each on networks and in devices that are slow to turn
// around. The default is 1, which every device understands: many have room for
// one request and lose or mix up others. Answers are told apart by transaction
// id. What is lost is asked for once more alone; when a unit answered alone what
// it had lost three times in a row, or two connections in a row ended amid requests
// that went together, its requests go alone until the next connect, and the log
// says so. Commands wait for the end of what was sent together.
func Pipeline(n int) Option { return func(o *options) { o.pipeline = n } }

// TCP returns the Factory of a Modbus TCP device at address, host:port or host
// alone for port 502. It is a Bus with one unit.
func TCP(address string, opts ...Option) channel.Factory {
	b := NewBus(address, opts...)
	return b.factory(b.options)
}

// Bus is a connection to several units, behind a gateway or in one device. It
// is made when the first of its channels connects and ends with the last. One
// request at a time is under way on it, or one batch of a unit (see Pipeline);
// commands go ahead of polls, and polls take turns. A unit that falls silent
// costs the others its channel's Timeout once; after that, attempts on it give
// way to them. See the package's section on silent units. A command to a unit
// that does not answer costs them a Timeout, and up to three with read-back.
type Bus struct {
	line    *line
	options options
	serial  bool  // a serial line
	tls     bool  // TLS
	err     error // what is wrong with the address
}

// NewBus returns the bus at address, host:port or host alone for port 502. The
// options hold for all of its units. It does no I/O; what is wrong with address
// and options is reported by the Factories that Unit returns.
func NewBus(address string, opts ...Option) *Bus {
	target, err := hostPort(address, DefaultPort)
	b := newBus(target, err, opts)
	b.line.dial = dialTCP(target)
	b.line.frame = func(c net.Conn) wire { return newConn(c) }
	return b
}

// newBus returns a bus that has no transport yet.
func newBus(name string, err error, opts []Option) *Bus {
	o := options{
		line:   lineOptions{connectTimeout: DefaultConnectTimeout, serial: defaultSerial},
		unit:   DefaultUnit,
		limits: limits{maxRead: DefaultMaxRead, maxGap: DefaultMaxGap},

		pipeline: DefaultPipeline,
	}
	for _, set := range opts {
		set(&o)
	}
	return &Bus{options: o, err: err, line: &line{
		name:           name,
		connectTimeout: o.line.connectTimeout,
		delay:          o.line.delay,
		connectDelay:   o.line.connectDelay,
		attached:       map[*member]struct{}{},
	}}
}

func dialTCP(target string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", target)
	}
}

// Unit returns the Factory of the unit with id n, 0 to 255; with RTU, 1 to 247,
// or 0 for the broadcast to all units. Its options come on top of those of the
// bus; those of the connection, ConnectTimeout, Delay, ConnectDelay, Baud, Parity
// and StopBits, belong to the bus and are refused here. Several channels may have
// one unit.
func (b *Bus) Unit(n int, opts ...Option) channel.Factory {
	o := b.options
	for _, set := range opts {
		set(&o)
	}
	o.unit = n
	return b.factory(o)
}

func (b *Bus) factory(o options) channel.Factory {
	return func(s channel.Setup) (channel.Driver, error) {
		if err := errors.Join(b.err, b.check(o)); err != nil {
			return nil, err
		}
		return newDriver(b.line, o, s)
	}
}

// check returns everything that is wrong with the options.
func (b *Bus) check(o options) error {
	var errs []error
	bad := func(name string, value any, want string) {
		errs = append(errs, fmt.Errorf("%w: modbus: %s %v: want %s", model.ErrInvalid, name, value, want))
	}
	if b.line.rtu && (o.unit < 0 || o.unit > maxRTUUnit) {
		bad("unit", o.unit, "1 to 247, or 0 for a broadcast")
	} else if o.unit < 0 || o.unit > 255 {
		bad("unit", o.unit, "0 to 255")
	}
	if o.limits.maxRead < 1 || o.limits.maxRead > DefaultMaxRead {
		bad("max read", o.limits.maxRead, "1 to 125 registers")
	}
	if o.limits.maxGap < 0 || o.limits.maxGap > DefaultMaxRead {
		bad("max gap", o.limits.maxGap, "0 to 125 registers")
	}
	if o.parts != "" && o.parts != PartsMask && o.parts != PartsRewrite {
		bad("part writes", fmt.Sprintf("%.20q", o.parts), "mask or rewrite")
	}
	if o.line.connectTimeout <= 0 {
		bad("connect timeout", o.line.connectTimeout, "more than 0")
	}
	if o.line.delay < 0 || o.line.delay > time.Minute {
		bad("delay", o.line.delay, "0 to 1m")
	}
	if o.line.connectDelay < 0 || o.line.connectDelay > time.Minute {
		bad("connect delay", o.line.connectDelay, "0 to 1m")
	}
	if o.retries < 0 || o.retries > maxRetries {
		bad("retries", o.retries, "0 to 5")
	}
	switch {
	case o.pipeline < 1 || o.pipeline > maxPipeline:
		bad("pipeline", o.pipeline, "1 to 16 requests")
	case o.pipeline > 1 && b.line.rtu:
		bad("pipeline", o.pipeline, "1: RTU frames have no transaction id, so one request at a time is under way")
	}
	if o.line != b.options.line {
		errs = append(errs, fmt.Errorf("%w: modbus: unit %d: connect timeout, delay, connect delay and the settings of a serial line belong to the bus", model.ErrInvalid, o.unit))
	}
	if !b.serial && o.line.serial != defaultSerial {
		errs = append(errs, fmt.Errorf("%w: modbus: %s: baud, parity and stop bits belong to serial lines", model.ErrInvalid, b.line.name))
	} else if b.serial {
		o.line.serial.check(bad)
	}
	if b.tls {
		if _, err := o.line.tls.load(); err != nil {
			errs = append(errs, fmt.Errorf("%w: modbus: %w", model.ErrInvalid, err))
		}
	}
	return errors.Join(errs...)
}

// hostPort completes an address with the default port.
func hostPort(address string, defaultPort int) (string, error) {
	bad := func(why string) (string, error) {
		return address, fmt.Errorf("%w: modbus: address %.100q: %s", model.ErrInvalid, address, why)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		// Without a port: a name, an IPv4 address, or an IPv6 address with or
		// without brackets.
		host, port = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), strconv.Itoa(defaultPort)
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return bad("want host:port, such as 192.168.1.10:502")
		}
	}
	if host == "" || strings.ContainsAny(host, "/ []") {
		return bad("want host:port, such as 192.168.1.10:502")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("the port is not a number from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}
