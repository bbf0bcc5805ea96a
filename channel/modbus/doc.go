// Package modbus is the driver for devices that speak Modbus TCP.
//
//	channel.Config{
//		ID:     "1001",
//		Driver: modbus.TCP("192.168.1.10:502", modbus.Unit(1)),
//		Points: []model.Point{{ID: "1", Address: "holding:100:float32"}},
//	}
//
// Several units behind one gateway share its connection through a Bus, on
// which one request is under way at a time and commands go ahead of polls.
//
// # Addresses
//
// A point's address is
//
//	space:number[:type[:order]]
//
// The space is coil, discrete, input or holding. The number is the one that
// travels on the wire, counted from 0, decimal or 0x hexadecimal, without
// leading zeros. It is never guessed from the "40001" notation: what a manual
// calls holding register 40001 is "holding:0", and "holding:40001" is the
// register with that number on the wire.
//
// Coils and discrete inputs are bool and need no type. The types of registers,
// uint16 where none is given, are
//
//	int16 uint16 bcd16 bool          one register; bool is 1 for anything but 0
//	bit0 … bit15                     one bit, bit0 the least significant
//	int8hi int8lo uint8hi uint8lo    the upper or the lower byte
//	int32 uint32 float32 bcd32       two registers
//	int64 uint64 float64             four registers
//
// The order says how the device lays the bytes out, A being the most
// significant: AB (default) or BA for one register; ABCD (default), CDAB
// (words swapped), BADC (bytes swapped within each word) or DCBA (both) for
// two registers, and the same four names, word for word, for four.
//
// # Reading
//
// Points near each other are read with one request. When a device answers one
// with exception 2, illegal data address, the request is split until the
// addresses that it does not have are known; they are Invalid from then on and
// tried again rarely (after 10 s, then less and less, down to every 10 min)
// and after each reconnect. Numbers that no float64 holds exactly, that cannot
// be stored, or that are not numbers are Overflow or Invalid, never a wrong value.
//
// # Writing
//
// Points of kind control and adjustment are coils or whole holding registers,
// and are polled like all others. A bit or a byte of a register cannot be
// written, for to do so by reading and writing back would undo what the device
// changes in between.
package modbus
