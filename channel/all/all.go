// Package all gathers the drivers and servers of Voltage for programs that read
// theirs from a configuration file:
//
//	cfg, err := voltage.LoadConfig("site.yaml", all.Kinds()...)
//
// A program that imports it links every driver and server. One that needs few passes
// those alone, such as modbus.Kinds().
package all

import (
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/northbound"
	"github.com/voltageems/voltage/channel/virtual"
)

// Kinds returns every kind of driver and server in this module. Each call returns new
// ones; connections are shared only among channels that one call's kinds opened.
func Kinds() []channel.Kind {
	return append(append(modbus.Kinds(), virtual.Kind()), northbound.Kinds()...)
}
