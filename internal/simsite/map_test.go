package simsite

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

func TestMapIsSound(t *testing.T) {
	t.Parallel()
	type key struct {
		device string
		place  place
	}
	names, places := map[string]bool{}, map[key]string{}
	types, tables, kinds := map[Type]int{}, map[server.Table]int{}, map[model.Kind]int{}
	perDevice := map[string]int{}
	for i, e := range Map() {
		full := e.Device + "." + e.Name
		require.False(t, names[full], "%s twice", full)
		names[full] = true
		for w := range e.Type.words() {
			at := key{e.Device, place{e.Table, e.Register + uint16(w)}}
			require.Empty(t, places[at], "%s overlaps", full)
			places[at] = full
		}
		isBit := e.Table == coil || e.Table == discrete
		assert.Equal(t, isBit, e.Type == Bool, full)
		assert.NotEmpty(t, e.Label, full)
		assert.NotZero(t, e.Scale, full)
		assert.NotNil(t, e.get, full)
		assert.Equal(t, e.Writable(), e.Kind.Writable(), full)
		assert.Equal(t, e.Writable(), e.Min < e.Max, full)
		if e.Writable() {
			assert.True(t, e.Table == coil || e.Table == holding, full)
			assert.Equal(t, 1, e.Type.words(), full)
			assert.Contains(t, []Type{Bool, Int16, Uint16}, e.Type, full)
		}
		require.NoError(t, e.Point(fmt.Sprint(i+1)).Validate(), full)
		types[e.Type]++
		tables[e.Table]++
		kinds[e.Kind]++
		perDevice[e.Device]++
	}
	assert.GreaterOrEqual(t, len(names), 60)
	assert.Len(t, types, 6)
	assert.Len(t, tables, 4)
	assert.Len(t, kinds, 4)
	assert.Len(t, perDevice, 4)

	// Registers of a table follow each other without holes (the PCS has its
	// measured values from 100 on), so that a block can be read in one request.
	for at := range places {
		if at.place.register == 0 || at == (key{DevicePCS, place{holding, 100}}) {
			continue
		}
		before := at
		before.place.register--
		assert.NotEmpty(t, places[before], "hole before %v", at)
	}
}

func TestAddressNotation(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"meter.voltage_l2":          "input:2:float32",
		"meter.reactive_power_l1":   "input:18:int32",
		"meter.import_energy":       "input:37:uint32",
		"pv.power_limit":            "holding:0:uint16",
		"pcs.active_power_setpoint": "holding:0:int16",
		"pcs.start":                 "coil:0",
		"bms.over_temperature":      "discrete:1",
	}
	for _, e := range Map() {
		if address, ok := want[e.Device+"."+e.Name]; ok {
			assert.Equal(t, address, e.Address())
			delete(want, e.Device+"."+e.Name)
		}
	}
	assert.Empty(t, want)
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		typ   Type
		scale float64
		value float64
		want  [2]uint16
	}{
		{Int16, 0.1, -12.34, [2]uint16{0xFF85}},
		{Int16, 1, 40000, [2]uint16{0x7FFF}},
		{Int16, 1, -40000, [2]uint16{0x8000}},
		{Uint16, 0.01, 50.004, [2]uint16{5000}},
		{Uint16, 1, -1, [2]uint16{0}},
		{Uint16, 1, 70000, [2]uint16{0xFFFF}},
		{Int32, 0.001, -1.5, [2]uint16{0xFFFF, 0xFA24}},
		{Int32, 1, 1e12, [2]uint16{0x7FFF, 0xFFFF}},
		{Uint32, 1, 0x12345678, [2]uint16{0x1234, 0x5678}},
		{Uint32, 1, 1e12, [2]uint16{0xFFFF, 0xFFFF}},
		{Float32, 1, -2.5, [2]uint16{0xC020, 0}},
	} {
		e := Entry{Type: tc.typ, Scale: tc.scale, get: func(*Snapshot) float64 { return tc.value }}
		assert.Equal(t, tc.want, e.encode(nil), "%+v", tc)
	}
	assert.InDelta(t, -0.1, Entry{Type: Int16, Scale: 0.1}.decode(0xFFFF), 1e-12)
	assert.InDelta(t, 6553.5, Entry{Type: Uint16, Scale: 0.1}.decode(0xFFFF), 1e-9)
}

// TestRangesFitTheRegisters runs the site through extremes and checks that no
// value is cut off by its register.
func TestRangesFitTheRegisters(t *testing.T) {
	t.Parallel()
	p := NewPlant(5, 0)
	for i := range 24 * 12 {
		p.s.PCS.Setpoint = float64(100 - 200*(i/12%2))
		p.s.BMS.OverTemperature = i%24 == 23
		p.resetFault()
		p.Step(5 * time.Minute)
		s := p.Snapshot()
		for _, e := range Map() {
			if e.Type == Float32 || e.Type == Bool {
				continue
			}
			n := math.Round(e.Value(s) / e.Scale)
			low, high := 0.0, float64(math.MaxUint16)
			switch e.Type {
			case Int16:
				low, high = math.MinInt16, math.MaxInt16
			case Int32:
				low, high = math.MinInt32, math.MaxInt32
			case Uint32:
				high = math.MaxUint32
			}
			require.True(t, n >= low && n <= high, "%s.%s: %v", e.Device, e.Name, n)
		}
	}
}

func ExampleMap() {
	for _, e := range Map() {
		if e.Writable() && strings.HasSuffix(e.Name, "setpoint") {
			fmt.Println(e.Device, e.UnitID, e.Name, e.Address(), e.Scale, e.Unit, e.Min, e.Max)
		}
	}
	// Output:
	// pcs 3 active_power_setpoint holding:0:int16 0.1 kW -100 100
	// pcs 3 reactive_power_setpoint holding:1:int16 0.1 kvar -50 50
}
