package modbus

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// DefaultBaud is the speed of a serial line without the option Baud.
const DefaultBaud = 19200

// serialOptions are those of a serial line.
type serialOptions struct {
	baud   int
	parity string
	stop   int
}

var (
	defaultSerial = serialOptions{baud: DefaultBaud, parity: "even", stop: 1}
	bauds         = []int{
		300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000, 921600,
		1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000,
	}
	parities = map[string]string{"none": "N", "even": "E", "odd": "O"}
)

// Baud sets the speed of a serial line in bits per second: 300, 600, 1200,
// 1800, 2400, 4800, 9600, 19200, 38400, 57600, 115200 or one of the higher
// speeds that Linux knows. The default is 19200.
func Baud(bits int) Option { return func(o *options) { o.line.serial.baud = bits } }

// Parity sets the parity of a serial line: "none", "even" or "odd". The default
// is "even", as the specification has it.
func Parity(p string) Option { return func(o *options) { o.line.serial.parity = p } }

// StopBits sets the number of stop bits of a serial line, 1 or 2. The default
// is 1; the specification wants 2 where there is no parity, and few devices do.
func StopBits(n int) Option { return func(o *options) { o.line.serial.stop = n } }

func (s serialOptions) check(bad func(name string, value any, want string)) {
	if !slices.Contains(bauds, s.baud) {
		bad("baud", s.baud, "a standard speed such as 9600 or 19200")
	}
	if parities[s.parity] == "" {
		bad("parity", s.parity, "none, even or odd")
	}
	if s.stop != 1 && s.stop != 2 {
		bad("stop bits", s.stop, "1 or 2")
	}
}

// timing returns how long a character takes and the silence between two
// frames: 3.5 characters of 11 bits, and 1.75 ms above 19200 baud.
func (s serialOptions) timing() (char, silence time.Duration) {
	char = 11 * time.Second / time.Duration(max(s.baud, 1))
	if s.baud > 19200 {
		return char, 1750 * time.Microsecond
	}
	return char, char * 7 / 2
}

// RTU returns the Factory of a unit on the serial line at device, such as
// /dev/ttyUSB0. It is a Bus with one unit. See NewRTUBus for several.
func RTU(device string, opts ...Option) channel.Factory {
	b := NewRTUBus(device, opts...)
	return b.factory(b.options)
}

// NewRTUBus returns the bus of a serial line, which is opened for this bus
// alone. The options hold for all of its units. It does no I/O; what is wrong
// with device and options is reported by the Factories that Unit returns.
// Serial lines need Linux.
func NewRTUBus(device string, opts ...Option) *Bus {
	var err error
	if !filepath.IsAbs(device) {
		err = fmt.Errorf("%w: modbus: device %.100q: want a path such as /dev/ttyUSB0", model.ErrInvalid, device)
	}
	b := newBus(device, err, opts)
	b.serial = true
	p := &pace{}
	p.char, p.silence = b.options.line.serial.timing()
	b.line.char, b.line.silence = p.char, p.silence
	settings := b.options.line.serial
	b.speakRTU(p, func(context.Context) (net.Conn, error) { return openSerial(device, settings) })
	return b
}

// RTUOverTCP returns the Factory of a unit behind a gateway that passes on what
// it gets to a serial line, RTU frames with their checksum and without the
// header of Modbus TCP. The address is host:port or host alone for port 502. It
// is a Bus with one unit. See NewRTUOverTCPBus for several.
func RTUOverTCP(address string, opts ...Option) channel.Factory {
	b := NewRTUOverTCPBus(address, opts...)
	return b.factory(b.options)
}

// NewRTUOverTCPBus is NewBus for RTUOverTCP.
func NewRTUOverTCPBus(address string, opts ...Option) *Bus {
	target, err := hostPort(address, DefaultPort)
	b := newBus(target, err, opts)
	b.speakRTU(&pace{}, dialTCP(target))
	return b
}

func (b *Bus) speakRTU(p *pace, dial func(context.Context) (net.Conn, error)) {
	b.line.rtu = true
	b.line.dial = dial
	b.line.frame = func(c net.Conn) wire { return newRTUConn(c, p) }
}
