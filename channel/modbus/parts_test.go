package modbus

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// Parts of registers are written so that the rest stays, in either way.
func TestPartWrites(t *testing.T) {
	t.Parallel()
	for how, functions := range map[string][]byte{PartsMask: {22, 3}, PartsRewrite: {3, 6, 3}} {
		for _, rtu := range []bool{false, true} {
			dev := newDeviceOf(t, rtu, 1)
			transport := TCP
			if rtu {
				transport = RTUOverTCP
			}
			scaled := control("byte", "holding:60:int8hi")
			scaled.Scale, scaled.Offset = 0.5, 1
			points := []model.Point{control("bit", "holding:50:bit3"), control("off", "holding:51:bit0 invert"),
				control("bits", "holding:52:bits4-7:BA"), scaled}
			points[0].ReadBack, points[1].ReadBack, points[2].ReadBack, points[3].ReadBack = true, true, true, true
			points[3].Kind = model.Adjustment
			d := connected(t, transport(dev.address, PartWrites(how)), setup(points...))
			for _, c := range []struct {
				id       string
				value    float64
				register uint16
				want     uint16
			}{
				{"bit", 1, 50, 50 | 8}, {"bit", 0, 50, 50 &^ 8}, {"off", 1, 51, 50}, {"off", 0, 51, 51},
				{"bits", 0xB, 52, 0xB000 | 52}, {"byte", -3, 60, 0xF800 | 60},
			} {
				dev.requests()
				out, err := write(d, c.id, c.value)
				require.NoError(t, err, "%s: %+v", how, c)
				assert.Equal(t, channel.Confirmed, out.Result, "%s: %+v", how, c)
				assert.Equal(t, c.value, *out.ReadBack, "%s: %+v", how, c)
				raw, _ := dev.units[1].Register(server.HoldingRegister, c.register)
				assert.Equal(t, c.want, raw, "%s: %+v", how, c)
				var asked []byte
				for _, r := range dev.requests() {
					asked = append(asked, r.Function)
				}
				assert.Equal(t, functions, asked, "%s: %+v", how, c)
			}
			assert.Equal(t, good("byte", -3), read(t, d)["byte"])
			for id, value := range map[string]float64{"bit": 2, "bits": 16, "byte": 65} {
				out, err := write(d, id, value)
				require.ErrorIs(t, err, model.ErrInvalid)
				assert.Equal(t, channel.Outcome{}, out)
			}
		}
	}
}

// Between the reading and the writing of a register no other request of the bus
// comes, not even a command of another channel to the same register.
func TestRewriteKeepsTheLine(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	bus := NewBus(dev.address, PartWrites(PartsRewrite))
	one := connected(t, bus.Unit(1), setup(control("a", "holding:50:bit0"), point("p", "holding:100")))
	two := connected(t, bus.Unit(1), setup(control("a", "holding:50:bit15"), point("p", "input:100")))
	done := make(chan error, 4)
	for _, d := range []*driver{one, two} {
		go func() {
			for i := range 100 {
				if _, err := write(d, "a", float64(1-i%2)); err != nil {
					done <- err
					return
				}
			}
			_, err := write(d, "a", 1)
			done <- err
		}()
		go func() {
			for range 100 {
				if _, err := d.Read(context.Background()); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		require.NoError(t, <-done)
	}
	raw, _ := dev.units[1].Register(server.HoldingRegister, 50)
	assert.EqualValues(t, 0x8000|50|1, raw, "no channel undid what the other did")
	asked, writes := dev.requests(), 0
	for i, r := range asked {
		if r.Function == 6 {
			writes++
			assert.Equal(t, server.Request{Transaction: asked[i-1].Transaction, Unit: 1, Function: 3, Table: server.HoldingRegister, Address: 50, Quantity: 1}, asked[i-1])
		}
	}
	assert.Equal(t, 202, writes)
}

// By its mask a part is written in all units of a line at once.
func TestPartWritesOfAllUnits(t *testing.T) {
	t.Parallel()
	dev := newDeviceOf(t, true, 1, 2)
	bus := NewRTUOverTCPBus(dev.address, PartWrites(PartsMask))
	all := connected(t, bus.Unit(0), setup(control("w", "holding:9:bit4")))
	one := connected(t, bus.Unit(1), setup(point("w", "holding:9")))
	out, err := write(all, "w", 1)
	require.ErrorIs(t, err, errBroadcast)
	assert.Equal(t, channel.Outcome{Result: channel.Sent}, out)
	assert.Equal(t, good("w", 25), read(t, one)["w"])
	raw, _ := dev.units[2].Register(server.HoldingRegister, 9)
	assert.EqualValues(t, 25, raw)
}

func TestPartWritesOptions(t *testing.T) {
	t.Parallel()
	_, err := TCP("host", PartWrites("both"))(setup())
	require.ErrorIs(t, err, model.ErrInvalid)
	require.ErrorContains(t, err, `part writes "both": want mask or rewrite`)
	_, err = RTUOverTCP("host", Unit(0), PartWrites(PartsRewrite))(setup(control("a", "holding:1:bit3")))
	require.ErrorContains(t, err, "part writes by rewrite would have to read it")
	_, err = RTUOverTCP("host", Unit(0), PartWrites(PartsMask))(setup(control("a", "holding:1:bit3")))
	require.NoError(t, err)
	settings := func(text string) (options, error) {
		f, err := Kind().Open(func(to any) error { return yaml.Unmarshal([]byte(text), to) })
		if err != nil {
			return options{}, err
		}
		return open(t, f, setup()).opts, nil
	}
	o, err := settings("{address: host, part_writes: rewrite, read_write: true}")
	require.NoError(t, err)
	assert.Equal(t, PartsRewrite, o.parts)
	assert.True(t, o.joined)
	o, err = settings("{address: host, part_writes: mask}")
	require.NoError(t, err)
	assert.Equal(t, PartsMask, o.parts)
	assert.False(t, o.joined)
	_, err = settings("{address: host, part_writes: atomic}")
	require.ErrorContains(t, err, "want mask or rewrite")
	// A part of an input register stays what it is.
	_, err = TCP("host", PartWrites(PartsMask))(setup(control("a", "input:1:bit3")))
	require.ErrorContains(t, err, "read-only")
}

// Function 23 writes and reads what a point with read-back has, and nothing else.
func TestReadWrite(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	points := []model.Point{control("word", "holding:5"), control("float", "holding:20:float32:CDAB"), control("plain", "holding:30:int32"),
		control("coil", "coil:4"), control("bit", "holding:40:bit0")}
	points[0].ReadBack, points[1].ReadBack, points[3].ReadBack, points[4].ReadBack = true, true, true, true
	d := connected(t, TCP(dev.address, ReadWrite(), PartWrites(PartsMask)), setup(points...))
	for _, c := range []struct {
		id        string
		value     float64
		functions []byte
		want      channel.Result
	}{
		{"word", 7, []byte{23}, channel.Confirmed}, {"float", 1.5, []byte{23}, channel.Confirmed}, {"plain", 8, []byte{16}, channel.Done},
		{"coil", 1, []byte{5, 1}, channel.Confirmed}, {"bit", 1, []byte{22, 3}, channel.Confirmed},
	} {
		dev.requests()
		out, err := write(d, c.id, c.value)
		require.NoError(t, err, c.id)
		assert.Equal(t, c.want, out.Result, c.id)
		var asked []byte
		for _, r := range dev.requests() {
			asked = append(asked, r.Function)
		}
		assert.Equal(t, c.functions, asked, c.id)
	}
	low, _ := dev.units[1].Register(server.HoldingRegister, 20)
	high, _ := dev.units[1].Register(server.HoldingRegister, 21)
	assert.Equal(t, []uint16{0, 0x3FC0}, []uint16{low, high})
}
