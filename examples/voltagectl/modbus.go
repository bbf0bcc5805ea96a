package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

// modbusFlags say which device is meant and how it is spoken to.
type modbusFlags struct {
	tcp, rtuTCP, rtu   string
	tls, ca, cert, key string
	serverName         string
	unit, baud, stop   int
	parity             string
	timeout, delay     time.Duration
	base, maxRead      int
	scale              float64
	multiple           bool
	noReadBack         bool
	partWrites         string
	units, addresses   string
	probe              string
	every              time.Duration
	count              int
	channel, driver    string
	profile, strict    bool
}

// deviceFlags are those of every command that speaks to a device.
const deviceFlags = "tcp rtu rtu-tcp tls ca cert key server-name baud parity stop timeout delay"

// modbusFlag declares a flag of the modbus and profile commands.
func (c *call) modbusFlag(fs *flag.FlagSet, name string) {
	d := &c.device
	switch name {
	case "tcp":
		fs.StringVar(&d.tcp, name, "", "DEVICE is at this `host[:port]` and speaks Modbus TCP; port 502 when left out")
	case "rtu":
		fs.StringVar(&d.rtu, name, "", "DEVICE is on this serial `line`, such as /dev/ttyUSB0")
	case "rtu-tcp":
		fs.StringVar(&d.rtuTCP, name, "", "DEVICE is behind this `host[:port]`, a gateway that passes RTU frames on unchanged")
	case "tls":
		fs.StringVar(&d.tls, name, "", "DEVICE is at this `host[:port]` and speaks Modbus over TLS; port 802 when left out")
	case "ca":
		fs.StringVar(&d.ca, name, "", "PEM `file` with the authorities that vouch for the device; else those of the system")
	case "cert":
		fs.StringVar(&d.cert, name, "", "PEM `file` of this client's certificate")
	case "key":
		fs.StringVar(&d.key, name, "", "PEM `file` of its key")
	case "server-name":
		fs.StringVar(&d.serverName, name, "", "`name` in the device's certificate; else the host")
	case "unit":
		fs.IntVar(&d.unit, name, modbus.DefaultUnit, "the device's unit `id`")
	case "baud":
		fs.IntVar(&d.baud, name, modbus.DefaultBaud, "`speed` of the serial line")
	case "parity":
		fs.StringVar(&d.parity, name, "even", "`parity` of the serial line: none, even or odd")
	case "stop":
		fs.IntVar(&d.stop, name, 1, "stop `bits` of the serial line: 1 or 2")
	case "timeout":
		fs.DurationVar(&d.timeout, name, time.Second, "how `long` to wait for an answer; scan of units: 300ms")
	case "delay":
		fs.DurationVar(&d.delay, name, 0, "`pause` between two requests")
	case "base":
		fs.IntVar(&d.base, name, 0, "`first` number of the addresses: 1 where the manual counts registers from 1")
	case "scale":
		fs.Float64Var(&d.scale, name, 1, "`factor` from the device's number to the value")
	case "max-read":
		fs.IntVar(&d.maxRead, name, modbus.DefaultMaxRead, "most `registers` in one request, 1 to 125")
	case "multiple-writes":
		fs.BoolVar(&d.multiple, name, false, "write with functions 15 and 16 where 5 and 6 would do")
	case "no-read-back":
		fs.BoolVar(&d.noReadBack, name, false, "do not read the value back")
	case "part-writes":
		fs.StringVar(&d.partWrites, name, "", "`how` to write a part of a register, such as holding:5:bit3: mask (function 22), or rewrite (read it and write it whole)")
	case "units":
		fs.StringVar(&d.units, name, "1-247", "the `units` to look for, such as 1-10,17")
	case "addresses":
		fs.StringVar(&d.addresses, name, "", "find out which addresses exist in this `range`, such as holding:0-200, of -unit")
	case "probe":
		fs.StringVar(&d.probe, name, "holding:0", "the `address` to ask units for; an exception is an answer too")
	case "every":
		fs.DurationVar(&d.every, name, time.Second, "`time` from one reading to the next")
	case "count":
		fs.IntVar(&d.count, "n", 0, "how `often` to read; 0 is until Ctrl-C")
	case "channel":
		fs.StringVar(&d.channel, name, "", "only the channel of this `id`")
	case "profile":
		fs.BoolVar(&d.profile, name, false, "FILE is a device profile, not a site")
	case "driver":
		fs.StringVar(&d.driver, name, "", "with -profile: for this `driver`; else for the first that the profile names")
	case "strict":
		fs.BoolVar(&d.strict, name, false, "fail on warnings too")
	}
}

// bus returns the connection that the flags describe.
func (c *call) bus() (*modbus.Bus, error) {
	d := &c.device
	if err := c.exclusive("tcp", "rtu", "rtu-tcp", "tls"); err != nil {
		return nil, err
	}
	opts := []modbus.Option{modbus.Delay(d.delay), modbus.ConnectTimeout(max(d.timeout, modbus.DefaultConnectTimeout))}
	if c.flags.Lookup("max-read") != nil {
		opts = append(opts, modbus.MaxRead(d.maxRead))
	}
	if d.multiple {
		opts = append(opts, modbus.MultipleWrites())
	}
	if d.partWrites != "" {
		opts = append(opts, modbus.PartWrites(d.partWrites))
	}
	if d.timeout < time.Millisecond || d.timeout > time.Hour {
		return nil, usageError("-timeout %s: want 1ms to 1h", d.timeout)
	}
	if d.rtu == "" {
		for _, name := range []string{"baud", "parity", "stop"} {
			if c.given(name) {
				return nil, usageError("-%s belongs to -rtu", name)
			}
		}
	}
	if d.tls == "" {
		for _, name := range []string{"ca", "cert", "key", "server-name"} {
			if c.given(name) {
				return nil, usageError("-%s belongs to -tls", name)
			}
		}
	}
	switch {
	case d.tls != "":
		return modbus.NewTLSBus(d.tls, modbus.TLSConfig{CAFile: d.ca, CertFile: d.cert, KeyFile: d.key, ServerName: d.serverName}, opts...), nil
	case d.tcp != "":
		return modbus.NewBus(d.tcp, opts...), nil
	case d.rtuTCP != "":
		return modbus.NewRTUOverTCPBus(d.rtuTCP, opts...), nil
	case d.rtu != "":
		return modbus.NewRTUBus(d.rtu, append(opts, modbus.Baud(d.baud), modbus.Parity(d.parity), modbus.StopBits(d.stop))...), nil
	}
	return nil, usageError("which device? -tcp HOST, -tls HOST, -rtu LINE or -rtu-tcp HOST")
}

// unit is one unit of a bus, spoken to as an engine does.
type unit struct {
	channel.Driver
	id      int
	points  int // how many it has
	timeout time.Duration
}

// open makes the driver of a unit with these points, and connects.
func (c *call) open(ctx context.Context, b *modbus.Bus, id int, points []model.Point) (*unit, error) {
	u := &unit{id: id, points: len(points), timeout: c.device.timeout}
	cfg := channel.Config{ID: "voltagectl", Driver: b.Unit(id), Points: points, Scan: channel.MinScan, Timeout: c.device.timeout}
	if err := cfg.Validate(); err != nil {
		return nil, asUsage(err)
	}
	d, err := cfg.NewDriver(slog.New(slog.DiscardHandler), model.SystemClock)
	if err != nil {
		return nil, asUsage(err)
	}
	u.Driver = d
	if err := u.Connect(ctx); err != nil {
		return nil, u.explain(err)
	}
	return u, nil
}

// asUsage takes the words out of an error that mean nothing on a command line.
func asUsage(err error) error {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(strings.ReplaceAll(line, "invalid: ", ""))
		line = strings.TrimPrefix(line, "channel voltagectl: ")
		line = strings.TrimPrefix(line, "channel voltagectl: ")
		line = strings.ReplaceAll(line, "the option part_writes (PartWrites), mask or rewrite", "-part-writes mask or rewrite")
		if rest, ok := strings.CutPrefix(line, "point "); ok {
			_, line, _ = strings.Cut(rest, ": ")
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return fmt.Errorf("%w: %s", errUsage, strings.Join(lines, "\n"))
}

// explain says what an error of the driver means.
func (u *unit) explain(err error) error {
	text := strings.ReplaceAll(err.Error(), channel.ErrNotConnected.Error()+": ", "")
	switch {
	case errors.Is(err, modbus.ErrTimeout):
		_, more, _ := strings.Cut(text, modbus.ErrTimeout.Error())
		return fmt.Errorf("%s%s", u.silence(), strings.TrimPrefix(more, ", "+u.timeout.String()))
	case strings.Contains(text, "the unit does not answer: "):
		_, why, _ := strings.Cut(text, "the unit does not answer: ")
		return fmt.Errorf("unit %d does not answer: %s", u.id, why)
	}
	return errors.New(text)
}

// silence says that nothing came at all.
func (u *unit) silence() string {
	return fmt.Sprintf("unit %d does not answer within %s", u.id, u.timeout)
}

// why says why a point has no value.
func (u *unit) why(point string) string {
	var err error
	if e, ok := u.Driver.(channel.Explainer); ok {
		err = e.Explain(point)
	}
	var ex *modbus.Exception
	switch {
	case err == nil:
		return "no value"
	case errors.As(err, &ex):
		text, _, _ := strings.Cut(ex.Error(), " to function ") // of reading, which is known
		return text
	}
	return err.Error()
}
