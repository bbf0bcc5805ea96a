//go:build linux

package peertest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

// libmodbus compiles the peer.
func libmodbus(t *testing.T) string {
	t.Helper()
	gcc := program(t, "gcc")
	if _, err := os.Stat("/usr/include/modbus/modbus.h"); err != nil {
		missing(t, "no header of libmodbus here: %v", err)
	}
	out := filepath.Join(t.TempDir(), "peer")
	text, err := exec.Command(gcc, "-Wall", "-I/usr/include/modbus", "-o", out, "testdata/libmodbus_peer.c", "-lmodbus").CombinedOutput()
	require.NoError(t, err, "%s", text)
	return out
}

func TestLibmodbusServer(t *testing.T) {
	t.Parallel()
	peer := libmodbus(t)
	near, far := cable(t)
	tcp, rtu := start(t, peer, "serve", "tcp"), start(t, peer, "serve", "rtu", far)
	list := []expected{
		{1, "holding:100:float32", 1234.5, "", false}, {1, "holding:102:float32:DCBA", 1234.5, "", false},
		{1, "holding:104:float32:BADC", 1234.5, "", false}, {1, "holding:106:float32:CDAB", 1234.5, "", false},
		{1, "holding:3", 963, "", false}, {1, "input:199", 199 * 123, "", false}, {1, "coil:198", 1, "", false},
		{1, "coil:199", 0, "", false}, {1, "discrete:195", 1, "", false}, {1, "discrete:1", 0, "", false},
		{1, "holding:200", 0, "", true}, {1, "input:205", 0, "", true}, {1, "coil:200", 0, "", true},
	}
	for name, bus := range map[string]*modbus.Bus{
		"tcp": modbus.NewBus("127.0.0.1:" + strings.TrimSpace(tcp.first)),
		"rtu": modbus.NewRTUBus(near, modbus.Parity("none")),
	} {
		readAll(t, func(id int) channel.Factory { return bus.Unit(id) }, list)
		for _, opts := range [][]modbus.Option{nil, {modbus.MultipleWrites()}} {
			writeAll(t, bus.Unit(1, opts...), order{"coil:5", 1}, order{"coil:6", 0}, order{"holding:20:int16", -3}, order{"holding:21:float64:CDAB", 0.1})
		}
		p := model.Point{ID: "w", Address: "holding:200", Kind: model.Control}
		d := open(t, bus.Unit(1), p)
		require.NoError(t, d.Connect(context.Background()))
		out, err := d.(channel.Writer).Write(context.Background(), channel.Write{Point: p, Value: 1})
		require.Error(t, err)
		assert.Equal(t, channel.Refused, out.Result, name)
		require.NoError(t, d.Close(context.Background()))
	}
	// The peer on the line dies, and comes back.
	d := open(t, modbus.RTU(near, modbus.Parity("none")), model.Point{ID: "a", Address: "holding:4"})
	require.NoError(t, d.Connect(context.Background()))
	assert.Equal(t, model.Sample{Point: "a", Value: 4 * 321}, read(t, d)["a"])
	rtu.kill()
	start(t, peer, "serve", "rtu", far)
	recovers(t, d, "a", 4*321)
}

func TestLibmodbusClient(t *testing.T) {
	t.Parallel()
	peer := libmodbus(t)
	o := newOurs(t)
	host, port := split(t, o.tcp)
	for _, target := range [][]string{{"tcp", host, port}, {"rtu", o.device}} {
		assert.Equal(t, "ok\n", run(t, peer, append(append([]string{"use"}, target...), "more")...), target)
		o.written(t, map[uint16]uint16{0: 0x5555, 99: 99 ^ 0x5555, 100: 0xBEEF, 101: 0x3FC0, 102: 0, 103: 103 * 7})
		o.reset()
	}
}
