//go:build linux

package peertest

import (
	"context"
	"fmt"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

const pymodbusPeer = "testdata/pymodbus_peer.py"

// python returns the Python that has pymodbus: Debian's, which need not be the
// first on PATH.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import pymodbus, serial_asyncio").Run() == nil {
			return name
		}
	}
	missing(t, "no python3 here has pymodbus and serial_asyncio")
	return ""
}

// pymodbus is what its server says of itself.
type pymodbus struct {
	TCP, RTUTCP, TLS int
	Points           []expected
}

func TestPymodbusServer(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	near, far := cable(t)
	peer := start(t, interpreter, pymodbusPeer, "serve", "0", "0", "0", far)
	var said pymodbus
	decode(t, peer.first, &said)
	require.Greater(t, len(said.Points), 500)
	buses := map[string]*modbus.Bus{
		"tcp":          modbus.NewBus(fmt.Sprintf("127.0.0.1:%d", said.TCP)),
		"rtu over tcp": modbus.NewRTUOverTCPBus(fmt.Sprintf("127.0.0.1:%d", said.RTUTCP)),
		"rtu":          modbus.NewRTUBus(near, modbus.Parity("none")),
	}
	held := map[string]channel.Driver{}
	for name, bus := range buses {
		readAll(t, func(id int) channel.Factory { return bus.Unit(id) }, said.Points)
		for unit, opts := range map[int][]modbus.Option{1: nil, 2: {modbus.MultipleWrites()}} { // functions 5, 6 and 16; 15 and 16
			writeAll(t, bus.Unit(unit, opts...),
				order{"coil:4003", 1}, order{"coil:4004", 0}, order{"holding:4000:int16:BA", -7}, order{"holding:4001:float32:CDAB", 0.15625},
				order{"holding:4010:float64:DCBA", -123456.789}, order{"holding:4020:bcd32", 12345678}, order{"holding:4030:uint64:BADC", 1 << 40},
			)
		}
		// A register that is not there refuses, and a unit that is not there is silent or refuses.
		p := model.Point{ID: "w", Address: "holding:5000", Kind: model.Control}
		d := open(t, bus.Unit(1), p)
		require.NoError(t, d.Connect(context.Background()))
		out, err := d.(channel.Writer).Write(context.Background(), channel.Write{Point: p, Value: 1})
		assert.Equal(t, channel.Refused, out.Result, name)
		var refusal *modbus.Exception
		require.ErrorAs(t, err, &refusal)
		assert.EqualValues(t, 2, refusal.Code)
		require.NoError(t, d.Close(context.Background()))

		held[name] = open(t, bus.Unit(247), model.Point{ID: "a", Address: "holding:3000"})
		require.NoError(t, held[name].Connect(context.Background()))
		assert.Equal(t, model.Sample{Point: "a", Value: 247}, read(t, held[name])["a"])
	}

	// The peer dies without a word, and comes back.
	peer.kill()
	_, err := held["tcp"].Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	start(t, interpreter, pymodbusPeer, "serve", fmt.Sprint(said.TCP), fmt.Sprint(said.RTUTCP), "0", far)
	for _, d := range held {
		recovers(t, d, "a", 247)
	}
}

func TestPymodbusClient(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	o := newOurs(t)
	for _, target := range [][]string{{"tcp", o.tcp}, {"rtutcp", o.rtuTCP}, {"rtu", o.device}} {
		assert.Equal(t, "ok\n", run(t, interpreter, append([]string{pymodbusPeer, "use"}, target...)...), target)
		o.written(t, map[uint16]uint16{0: 0x5555, 122: 122 ^ 0x5555, 123: 123 * 7})
		o.reset()
	}
}
