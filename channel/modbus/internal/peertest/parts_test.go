//go:build linux

package peertest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
)

// Functions 22 and 23 of the driver with foreign servers.
func TestPartsAndReadWrite(t *testing.T) {
	t.Parallel()
	interpreter, lib := python(t), libmodbus(t)
	near, far := cable(t)
	var said pymodbus
	decode(t, start(t, interpreter, pymodbusPeer, "serve", "0", "0", "0", far).first, &said)
	tcp := start(t, lib, "serve", "tcp")
	for name, at := range map[string]struct {
		make  func(...modbus.Option) channel.Factory
		start int
	}{
		"pymodbus": {func(o ...modbus.Option) channel.Factory {
			return modbus.TCP(fmt.Sprintf("127.0.0.1:%d", said.TCP), o...)
		}, 4050},
		"pymodbus on a line": {func(o ...modbus.Option) channel.Factory { return modbus.RTU(near, append(o, modbus.Parity("none"))...) }, 4060},
		"libmodbus": {func(o ...modbus.Option) channel.Factory {
			return modbus.TCP("127.0.0.1:"+strings.TrimSpace(tcp.first), o...)
		}, 50},
	} {
		t.Log(name)
		holding := func(offset int, kind string) string { return fmt.Sprintf("holding:%d:%s", at.start+offset, kind) }
		writeAll(t, at.make(modbus.PartWrites(modbus.PartsMask)), order{holding(0, "bits4-7"), 0xA}, order{holding(0, "bit0"), 1}, order{holding(0, "uint8hi"), 0x7F})
		readAll(t, func(id int) channel.Factory { return at.make() }, []expected{{1, holding(0, "bits4-7"), 0xA, "", false}, {1, holding(0, "bits8-15"), 0x7F, "", false}})
		writeAll(t, at.make(modbus.ReadWrite()), order{holding(2, "uint16"), 4711}, order{holding(3, "float64:CDAB"), -0.5})
	}
}
