// Package simsite is a simulated storage site made of four real Modbus TCP
// devices, each with a listener of its own: a grid meter (unit 1), a PV
// inverter (unit 2), a battery converter or PCS (unit 3) and a battery with its
// management system or BMS (unit 4). It is the device of demonstrations and
// tests.
//
// # Physics
//
// [Plant] is the physics alone: pure steps, no I/O, the same seed gives the
// same values. Signs: grid power is positive while the site imports, PCS and
// battery power are positive while the battery discharges, PV and load are
// positive. At every step
//
//	grid = load − pv − pcs
//
// The battery's state of charge integrates the power at its terminals plus its
// own losses; the PCS loses 3 % between its AC and DC side. Cell voltages
// follow state of charge and current, temperature follows the losses.
//
// # Faults
//
// While over-temperature is injected, by [Site.InjectOverTemperature] or the
// coil "inject_over_temperature" of the BMS, the battery heats to over 60 °C
// within 3 simulated seconds, and cools within 10 s afterwards. From 50 °C on
// the BMS lowers its limits, at 60 °C it reports an over-temperature alarm, at
// 65 °C it trips. A trip puts the PCS into its fault state with zero power; once
// the battery is below 55 °C again, the coil "fault_reset" of the PCS clears it
// and the PCS starts again if its start coil is still set. A reset while the
// battery is too hot is refused with exception 04.
//
// # Registers
//
// [Map] is the one declaration of all registers, from which the servers encode
// and from which other code makes its point tables. A value outside the range of
// a writable register is refused with exception 03, a write to a read-only one
// with exception 02. Stopping a device ([Site.StopDevice]) takes it off the
// network; the physics go on.
package simsite
