package northbound

import (
	"errors"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
)

// settings are what a server's section has in a configuration file for every
// transport.
type settings struct {
	Map          []Row          `yaml:"map" load:"table"`
	Bad          *Bad           `yaml:"bad"`
	Gaps         gaps           `yaml:"gaps"`
	ReadOnly     bool           `yaml:"read_only"`
	Refresh      *time.Duration `yaml:"refresh"`
	Stale        *time.Duration `yaml:"stale"`
	WriteTimeout *time.Duration `yaml:"write_timeout"`
}

// gaps says what the holes of a map are answered with.
type gaps bool

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *gaps) UnmarshalText(b []byte) error {
	switch string(b) {
	case "zero":
		*g = true
	case "exception":
	default:
		return errors.New("want zero or exception")
	}
	return nil
}

func (s settings) options() []Option {
	var opts []Option
	if s.Bad != nil {
		opts = append(opts, BadValues(*s.Bad))
	}
	if s.Gaps {
		opts = append(opts, ZeroGaps())
	}
	if s.ReadOnly {
		opts = append(opts, ReadOnly())
	}
	if s.Refresh != nil {
		opts = append(opts, Refresh(*s.Refresh))
	}
	if s.Stale != nil {
		opts = append(opts, Stale(*s.Stale))
	}
	if s.WriteTimeout != nil {
		opts = append(opts, WriteTimeout(*s.WriteTimeout))
	}
	return opts
}

// tcpSection is a section of a transport over TCP.
type tcpSection struct {
	Listen         string   `yaml:"listen"`
	Allow          []string `yaml:"allow"`
	MaxConnections *int     `yaml:"max_connections"`
	settings       `yaml:",inline"`
}

func (s tcpSection) options() []Option {
	opts := s.settings.options()
	if s.Allow != nil {
		opts = append(opts, Allow(s.Allow...))
	}
	if s.MaxConnections != nil {
		opts = append(opts, MaxConnections(*s.MaxConnections))
	}
	return opts
}

// tlsSection is a section "modbus-tls".
type tlsSection struct {
	CertFile     channel.Path `yaml:"cert_file"`
	KeyFile      channel.Path `yaml:"key_file"`
	ClientCAFile channel.Path `yaml:"client_ca_file"`
	WriteRoles   []string     `yaml:"write_roles"`
	tcpSection   `yaml:",inline"`
}

func (s tlsSection) open() channel.ServerFactory {
	opts := s.options()
	if s.WriteRoles != nil {
		opts = append(opts, WriteRoles(s.WriteRoles...))
	}
	return TLS(s.Listen, TLSConfig{CertFile: string(s.CertFile), KeyFile: string(s.KeyFile), ClientCAFile: string(s.ClientCAFile)}, s.Map, opts...)
}

// serialSection is a section "modbus-rtu".
type serialSection struct {
	Device   string  `yaml:"device"`
	Baud     *int    `yaml:"baud"`
	Parity   *string `yaml:"parity"`
	StopBits *int    `yaml:"stop_bits"`
	settings `yaml:",inline"`
}

func (s serialSection) options() []Option {
	var line []modbus.Option
	if s.Baud != nil {
		line = append(line, modbus.Baud(*s.Baud))
	}
	if s.Parity != nil {
		line = append(line, modbus.Parity(*s.Parity))
	}
	if s.StopBits != nil {
		line = append(line, modbus.StopBits(*s.StopBits))
	}
	return append(s.settings.options(), Line(line...))
}

// Kind returns the server for configuration files, "modbus-tcp":
//
//	server: modbus-tcp
//	modbus-tcp:
//	  listen: 127.0.0.1:1502
//	  allow: [192.168.1.0/24]    # see Allow
//	  max_connections: 32        # see MaxConnections
//	  map: map.csv               # or a list of rows; see Row
//	  bad: na                    # na, exception or last; see Bad
//	  gaps: exception            # or zero; see ZeroGaps
//	  read_only: false           # see ReadOnly
//	  refresh: 1s                # see Refresh
//	  stale: 10s                 # see Stale
//	  write_timeout: 5s          # see WriteTimeout
func Kind() channel.Kind {
	return kind("modbus-tcp", func(s tcpSection) channel.ServerFactory { return TCP(s.Listen, s.Map, s.options()...) })
}

// TLSKind returns the server for configuration files, "modbus-tls":
//
//	server: modbus-tls
//	modbus-tls:
//	  listen: 0.0.0.0:802
//	  cert_file: gateway.pem     # see TLSConfig; relative paths count from the
//	  key_file: gateway.key      # folder of the configuration file
//	  client_ca_file: clients.pem
//	  write_roles: [operator]    # see WriteRoles
//
// and all that Kind has.
func TLSKind() channel.Kind {
	return kind("modbus-tls", tlsSection.open)
}

// RTUOverTCPKind returns the server for configuration files, "modbus-rtu-tcp".
// Its section is that of Kind; see RTUOverTCP.
func RTUOverTCPKind() channel.Kind {
	return kind("modbus-rtu-tcp", func(s tcpSection) channel.ServerFactory { return RTUOverTCP(s.Listen, s.Map, s.options()...) })
}

// RTUKind returns the server for configuration files, "modbus-rtu". Its section
// has device, baud, parity and stop_bits as that of the driver, and all that
// Kind has but listen, allow and max_connections.
func RTUKind() channel.Kind {
	return kind("modbus-rtu", func(s serialSection) channel.ServerFactory { return RTU(s.Device, s.Map, s.options()...) })
}

func kind[S any](name string, open func(S) channel.ServerFactory) channel.Kind {
	return channel.Kind{Name: name, Serve: func(decode func(any) error) (channel.ServerFactory, error) {
		var s S
		if err := decode(&s); err != nil {
			return nil, err
		}
		return open(s), nil
	}}
}

// Kinds returns every kind of this package.
func Kinds() []channel.Kind { return []channel.Kind{Kind(), TLSKind(), RTUKind(), RTUOverTCPKind()} }
