package modbus

import (
	"sync"
	"time"

	"github.com/voltageems/voltage/channel"
)

// settings are a channel's section "modbus-tcp" in a configuration file.
type settings struct {
	Address        string         `yaml:"address"`
	Unit           *int           `yaml:"unit"`
	MaxRead        *int           `yaml:"max_read"`
	MaxGap         *int           `yaml:"max_gap"`
	MultipleWrites bool           `yaml:"multiple_writes"`
	ConnectTimeout *time.Duration `yaml:"connect_timeout"`
	Delay          *time.Duration `yaml:"delay"`
	// Exclusive gives the channel a connection of its own.
	Exclusive bool `yaml:"exclusive"`
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
	if s.ConnectTimeout != nil {
		opts = append(opts, ConnectTimeout(*s.ConnectTimeout))
	}
	if s.Delay != nil {
		opts = append(opts, Delay(*s.Delay))
	}
	return opts
}

// Kind returns the driver for configuration files, "modbus-tcp":
//
//	driver: modbus-tcp
//	modbus-tcp:
//	  address: 192.168.1.10:502  # port 502 when left out
//	  unit: 1                    # 0 to 255, default 1
//	  max_read: 125              # see MaxRead, default 125
//	  max_gap: 8                 # see MaxGap, default 8
//	  multiple_writes: false     # see MultipleWrites
//	  connect_timeout: 3s        # default 3s
//	  delay: 0s                  # see Delay
//	  exclusive: false           # a connection of its own
//
// Channels with the same address, connect_timeout and delay share one
// connection, because many gateways and devices accept only a few and answer
// one request at a time anyway. A channel with exclusive does not take part.
// The sharing is among the channels that were opened with the same Kind value.
func Kind() channel.Kind {
	type place struct {
		address string
		line    lineOptions
	}
	var mu sync.Mutex
	buses := map[place]*Bus{}
	return channel.Kind{
		Name: "modbus-tcp",
		Open: func(decode func(any) error) (channel.Factory, error) {
			var s settings
			if err := decode(&s); err != nil {
				return nil, err
			}
			b := NewBus(s.Address, s.options()...)
			o := b.options
			if b.err != nil {
				return nil, b.err
			}
			if err := b.check(o); err != nil {
				return nil, err
			}
			if s.Exclusive {
				return b.factory(o), nil
			}
			mu.Lock()
			defer mu.Unlock()
			key := place{b.line.name, o.line}
			if known, ok := buses[key]; ok {
				b = known
			} else {
				buses[key] = b
			}
			return b.factory(o), nil
		},
	}
}

// Kinds returns every kind of this package.
func Kinds() []channel.Kind { return []channel.Kind{Kind()} }
