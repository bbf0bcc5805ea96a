//go:build linux

package peertest

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/modbus/server"
)

func TestMbpoll(t *testing.T) {
	t.Parallel()
	mbpoll := program(t, "mbpoll")
	o := newOurs(t)
	host, port := split(t, o.tcp)
	pi, negative := math.Float32bits(3.14159), uint32(math.MaxUint32-122456) // -122457
	o.memory.SetRegisters(server.HoldingRegister, 300, uint16(pi), uint16(pi>>16), uint16(negative), uint16(negative>>16))
	o.memory.SetRegisters(server.InputRegister, 300, uint16(pi>>16), uint16(pi), uint16(negative>>16), uint16(negative))
	for name, target := range map[string][]string{
		"tcp": {"-m", "tcp", "-p", port, host},
		"rtu": {"-m", "rtu", "-b", "19200", "-P", "none", o.device},
	} {
		poll := func(args ...string) string {
			// The target comes before the values, and all options before it.
			all := append([]string{"-a", "7", "-0", "-1", "-o", "10"}, target[:len(target)-1]...)
			var values []string
			for k, a := range args {
				if a == "=" {
					args, values = args[:k], args[k+1:]
					break
				}
			}
			return run(t, mbpoll, append(append(append(all, args...), target[len(target)-1]), values...)...)
		}
		assert.Regexp(t, `\[3\]:\s+1\s+\[4\]:\s+0\s+\[5\]:\s+0\s+\[6\]:\s+1\s`, poll("-t", "0", "-r", "3", "-c", "4"), name)
		assert.Regexp(t, `\[5\]:\s+1\s+\[6\]:\s+0\s`, poll("-t", "1", "-r", "5", "-c", "2"), name)
		assert.Regexp(t, `\[198\]:\s+2178\s+\[199\]:\s+2189\s`, poll("-t", "3", "-r", "198", "-c", "2"), name)
		assert.Regexp(t, `\[0\]:\s+0\s+\[1\]:\s+7\s(.|\n)*\[124\]:\s+868\s`, poll("-t", "4", "-r", "0", "-c", "125"), name)
		assert.Regexp(t, `\[10\]:\s+0x0046\s`, poll("-t", "4:hex", "-r", "10"), name)
		assert.Regexp(t, `\[300\]:\s+3\.14159\s`, poll("-t", "4:float", "-r", "300"), name)
		assert.Regexp(t, `\[302\]:\s+-122457\s`, poll("-t", "4:int", "-r", "302"), name)
		assert.Regexp(t, `\[300\]:\s+3\.14159\s`, poll("-t", "3:float", "-B", "-r", "300"), name)
		assert.Regexp(t, `\[302\]:\s+-122457\s`, poll("-t", "3:int", "-B", "-r", "302"), name)

		poll("-t", "0", "-r", "20", "=", "1")               // function 5
		poll("-t", "0", "-r", "30", "=", "1", "0", "1")     // 15
		poll("-t", "4", "-r", "20", "=", "77")              // 6
		poll("-t", "4", "-r", "30", "=", "1", "65535", "3") // 16
		poll("-t", "4:float", "-r", "40", "=", "3.14159")   // 16
		poll("-t", "4:int", "-B", "-r", "50", "=", "70000") // 16
		for at, want := range map[uint16]bool{20: true, 30: true, 31: false, 32: true, 33: true} {
			got, ok := o.memory.Bit(server.Coil, at)
			require.True(t, ok)
			assert.Equal(t, want, got, "%s: coil %d", name, at)
		}
		for at, want := range map[uint16]uint16{20: 77, 21: 147, 30: 1, 31: 65535, 32: 3, 33: 231, 40: uint16(pi), 41: uint16(pi >> 16), 50: 1, 51: 70000 - 65536} {
			got, ok := o.memory.Register(server.HoldingRegister, at)
			require.True(t, ok)
			assert.Equal(t, want, got, "%s: register %d", name, at)
		}
		o.reset()
	}
}
