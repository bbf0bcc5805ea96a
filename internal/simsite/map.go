package simsite

import (
	"fmt"
	"math"

	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// Names of the devices.
const (
	DeviceMeter = "meter" // grid meter, unit 1
	DevicePV    = "pv"    // PV inverter, unit 2
	DevicePCS   = "pcs"   // battery converter, unit 3
	DeviceBMS   = "bms"   // battery with its management system, unit 4
)

// Devices returns the names of the devices in the order of their ports.
func Devices() []string { return []string{DeviceMeter, DevicePV, DevicePCS, DeviceBMS} }

// Type is the data type of an [Entry].
type Type string

// The data types. Values of 32 bits take two registers, high word first.
const (
	Bool    Type = "bool"
	Int16   Type = "int16"
	Uint16  Type = "uint16"
	Int32   Type = "int32"
	Uint32  Type = "uint32"
	Float32 Type = "float32"
)

// words returns the number of registers; 1 for a bit.
func (t Type) words() int {
	switch t {
	case Int32, Uint32, Float32:
		return 2
	}
	return 1
}

// Entry declares one point of a device.
type Entry struct {
	// Device is the name of the device, one of [Devices].
	Device string
	// UnitID is the device's Modbus unit id.
	UnitID byte
	// Name is unique within the device, such as "active_power".
	Name string
	// Label is a text for people, such as "Active power".
	Label string
	// Kind is what the point is to Voltage.
	Kind model.Kind
	// Table and Register say where the value stands; Register is the 0-based
	// protocol address of its first bit or register.
	Table    server.Table
	Register uint16
	// Type is the data type. Bits are Bool.
	Type Type
	// Scale turns the register's number into Unit: value = number · Scale.
	Scale float64
	// Unit is the unit of measurement; empty means a bare number.
	Unit string
	// Min and Max bound what may be written, in Unit. Both are 0 where the
	// point cannot be written.
	Min, Max float64
	// ReadBack tells whether a written value can be read back. It is false for
	// points that cannot be written and for coils that fall back by themselves.
	ReadBack bool
	// Texts names the values of an enumeration; nil for all other points.
	Texts map[int]string

	get func(*Snapshot) float64
	set func(*Plant, float64)
	// may, where given, is false if the device's state forbids the write.
	may func(*Plant, float64) bool
}

// Writable reports whether the point can be written.
func (e Entry) Writable() bool { return e.set != nil }

// Address returns the point's address as the Modbus driver takes it:
// "holding:100:float32", or "coil:0" for a bit.
func (e Entry) Address() string {
	if e.Type == Bool {
		return fmt.Sprintf("%v:%d", e.Table, e.Register)
	}
	return fmt.Sprintf("%v:%d:%s", e.Table, e.Register, e.Type)
}

// Value returns the point's value in Unit, before it is rounded to the
// register.
func (e Entry) Value(s Snapshot) float64 { return e.get(&s) }

// Point returns the entry as a point of a channel with the given id.
func (e Entry) Point(id string) model.Point {
	p := model.Point{
		ID: id, Name: e.Name, Kind: e.Kind, Address: e.Address(),
		Scale: e.Scale, Unit: e.Unit, Labels: e.Texts, ReadBack: e.ReadBack,
	}
	if e.Writable() {
		low, high := e.Min, e.Max
		p.Min, p.Max = &low, &high
		p.Step = e.Scale
	}
	return p
}

// Map returns the register map of all devices, in the order of the devices and
// their tables. The caller may change it.
func Map() []Entry {
	var all []Entry
	for i, entries := range [][]Entry{meterMap(), pvMap(), pcsMap(), bmsMap()} {
		for _, e := range entries {
			e.Device, e.UnitID = Devices()[i], byte(i+1)
			if e.Type == "" {
				e.Type = Bool
			}
			if e.Scale == 0 {
				e.Scale = 1
			}
			if e.Type == Bool && e.set != nil {
				e.Max = 1
			}
			all = append(all, e)
		}
	}
	return all
}

// encode returns the registers of the point; unused words are 0. Integers are
// rounded and held within the range of their type.
func (e Entry) encode(s *Snapshot) [2]uint16 {
	v := e.get(s)
	if e.Type == Float32 {
		return split(math.Float32bits(float32(v / e.Scale)))
	}
	n := math.Round(v / e.Scale)
	switch e.Type {
	case Int16:
		return [2]uint16{uint16(int16(clamp(n, math.MinInt16, math.MaxInt16)))}
	case Int32:
		return split(uint32(int32(clamp(n, math.MinInt32, math.MaxInt32))))
	case Uint32:
		return split(uint32(clamp(n, 0, math.MaxUint32)))
	}
	return [2]uint16{uint16(clamp(n, 0, math.MaxUint16))}
}

// decode returns the value of a written register. Everything that can be
// written is one register wide.
func (e Entry) decode(register uint16) float64 {
	if e.Type == Int16 {
		return float64(int16(register)) * e.Scale
	}
	return float64(register) * e.Scale
}

func split(v uint32) [2]uint16 { return [2]uint16{uint16(v >> 16), uint16(v)} }

func number(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
