package modbus

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// settings are what a channel's section has in a configuration file for every
// transport.
type settings struct {
	Unit           *int           `yaml:"unit"`
	MaxRead        *int           `yaml:"max_read"`
	MaxGap         *int           `yaml:"max_gap"`
	MultipleWrites bool           `yaml:"multiple_writes"`
	PartWrites     *string        `yaml:"part_writes"`
	ReadWrite      bool           `yaml:"read_write"`
	ConnectTimeout *time.Duration `yaml:"connect_timeout"`
	Delay          *time.Duration `yaml:"delay"`
	ConnectDelay   *time.Duration `yaml:"connect_delay"`
	Retries        *int           `yaml:"retries"`
	Pipeline       *int           `yaml:"pipeline"`
}

func (s settings) options() []Option {
	var opts []Option
	if s.Unit != nil {
		opts = append(opts, Unit(*s.Unit))
	}
	if s.MaxRead != nil {
		opts = append(opts, MaxRead(*s.MaxRead))
	}
	if s.MaxGap != nil {
		opts = append(opts, MaxGap(*s.MaxGap))
	}
	if s.MultipleWrites {
		opts = append(opts, MultipleWrites())
	}
	if s.PartWrites != nil {
		opts = append(opts, PartWrites(*s.PartWrites))
	}
	if s.ReadWrite {
		opts = append(opts, ReadWrite())
	}
	if s.ConnectTimeout != nil {
		opts = append(opts, ConnectTimeout(*s.ConnectTimeout))
	}
	if s.Delay != nil {
		opts = append(opts, Delay(*s.Delay))
	}
	if s.ConnectDelay != nil {
		opts = append(opts, ConnectDelay(*s.ConnectDelay))
	}
	if s.Retries != nil {
		opts = append(opts, Retries(*s.Retries))
	}
	if s.Pipeline != nil {
		opts = append(opts, Pipeline(*s.Pipeline))
	}
	return opts
}

// network is a section of a transport over TCP.
type network struct {
	Address string `yaml:"address"`
	// Exclusive gives the channel a connection of its own.
	Exclusive bool `yaml:"exclusive"`
	settings  `yaml:",inline"`
}

func (n network) alone() bool { return n.Exclusive }

func (n network) place() (string, []Option) { return n.Address, n.options() }

// secured is a section "modbus-tls".
type secured struct {
	network    `yaml:",inline"`
	CAFile     channel.Path `yaml:"ca_file"`
	CertFile   channel.Path `yaml:"cert_file"`
	KeyFile    channel.Path `yaml:"key_file"`
	ServerName string       `yaml:"server_name"`
}

func (s secured) place() (string, []Option) {
	address, opts := s.network.place()
	return address, append(opts, withTLS(TLSConfig{
		CAFile: string(s.CAFile), CertFile: string(s.CertFile), KeyFile: string(s.KeyFile), ServerName: s.ServerName,
	}))
}

// serialLine is a section "modbus-rtu".
type serialLine struct {
	Device   string  `yaml:"device"`
	Baud     *int    `yaml:"baud"`
	Parity   *string `yaml:"parity"`
	StopBits *int    `yaml:"stop_bits"`
	settings `yaml:",inline"`
}

func (l serialLine) place() (string, []Option) {
	opts := l.options()
	if l.Baud != nil {
		opts = append(opts, Baud(*l.Baud))
	}
	if l.Parity != nil {
		opts = append(opts, Parity(*l.Parity))
	}
	if l.StopBits != nil {
		opts = append(opts, StopBits(*l.StopBits))
	}
	return l.Device, opts
}

func (serialLine) alone() bool { return false }

// Kind returns the driver for configuration files, "modbus-tcp":
//
//	driver: modbus-tcp
//	modbus-tcp:
//	  address: 192.168.1.10:502  # port 502 when left out
//	  unit: 1                    # 0 to 255, default 1
//	  max_read: 125              # see MaxRead, default 125
//	  max_gap: 8                 # see MaxGap, default 8
//	  multiple_writes: false     # see MultipleWrites
//	  part_writes: mask          # or rewrite; see PartWrites, default none
//	  read_write: false          # see ReadWrite
//	  connect_timeout: 3s        # default 3s
//	  delay: 0s                  # see Delay
//	  connect_delay: 0s          # see ConnectDelay
//	  retries: 0                 # see Retries
//	  pipeline: 1                # see Pipeline; not with RTU
//	  exclusive: false           # a connection of its own
//
// Channels with the same address, connect_timeout, delay and connect_delay share
// one connection, because many gateways and devices accept only a few and answer
// one request at a time anyway. A channel with exclusive does not take part.
// The sharing is among the channels that were opened with the same Kind value.
func Kind() channel.Kind { return kind[network]("modbus-tcp", NewBus) }

// RTUOverTCPKind returns the driver for configuration files, "modbus-rtu-tcp".
// Its section is that of Kind; see RTUOverTCP.
func RTUOverTCPKind() channel.Kind { return kind[network]("modbus-rtu-tcp", NewRTUOverTCPBus) }

// TLSKind returns the driver for configuration files, "modbus-tls":
//
//	driver: modbus-tls
//	modbus-tls:
//	  address: 192.168.1.10      # port 802 when left out
//	  ca_file: ca.pem            # see TLSConfig; relative paths count from the
//	  cert_file: gateway.pem     # folder of the configuration file
//	  key_file: gateway.key
//	  server_name: pcs1.plant    # default: the host of the address
//
// and all that Kind has. Channels share a connection when these agree as well.
func TLSKind() channel.Kind { return kind[secured]("modbus-tls", newTLSBus) }

// RTUKind returns the driver for configuration files, "modbus-rtu":
//
//	driver: modbus-rtu
//	modbus-rtu:
//	  device: /dev/ttyUSB0
//	  baud: 19200                # see Baud, default 19200
//	  parity: even               # none, even, odd; default even
//	  stop_bits: 1               # 1 or 2, default 1
//
// and all that Kind has but address and exclusive. Channels with the same
// device share it, and must agree about baud, parity, stop_bits,
// connect_timeout, delay and connect_delay.
func RTUKind() channel.Kind {
	return kind[serialLine]("modbus-rtu", NewRTUBus)
}

// kind returns the kind whose sections are S and whose buses newBus makes.
func kind[S interface {
	place() (string, []Option)
	alone() bool
}](name string, newBus func(string, ...Option) *Bus) channel.Kind {
	type place struct {
		address string
		line    lineOptions
	}
	var mu sync.Mutex
	buses := map[place]*Bus{}
	return channel.Kind{
		Name: name,
		Profile: func(decode func(any) error) (channel.Factory, error) {
			var s S
			if err := decode(&s); err != nil {
				return nil, err
			}
			address, opts := s.place()
			b := newBus(cmp.Or(address, "127.0.0.1"), opts...)
			if address == "" && b.err != nil {
				b = newBus("/dev/null", opts...) // a serial line; nobody opens it
			}
			return b.factory(b.options), errors.Join(b.err, b.check(b.options))
		},
		Open: func(decode func(any) error) (channel.Factory, error) {
			var s S
			if err := decode(&s); err != nil {
				return nil, err
			}
			address, opts := s.place()
			b := newBus(address, opts...)
			o := b.options
			if b.err != nil {
				return nil, b.err
			}
			if err := b.check(o); err != nil {
				return nil, err
			}
			key := place{b.line.name, o.line}
			if b.serial {
				key.line = lineOptions{} // one line has one owner
			} else if s.alone() {
				return b.factory(o), nil
			}
			mu.Lock()
			defer mu.Unlock()
			if known, ok := buses[key]; ok {
				if known.options.line != o.line {
					return nil, fmt.Errorf("%w: modbus: device %s: another channel has it with a different baud, parity, stop_bits, connect_timeout, delay or connect_delay", model.ErrInvalid, address)
				}
				b = known
			} else {
				buses[key] = b
			}
			return b.factory(o), nil
		},
	}
}

// Kinds returns every kind of this package.
func Kinds() []channel.Kind { return []channel.Kind{Kind(), TLSKind(), RTUKind(), RTUOverTCPKind()} }
