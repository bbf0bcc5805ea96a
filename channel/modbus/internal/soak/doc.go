// Package soak tests the Modbus driver with a peer that injects faults at
// random: a proxy between drivers and server that loses, delays, cuts, splits,
// repeats and forges what they say to each other, over TCP, RTU over TCP and a
// pseudo terminal.
//
// The server gives every request a generation, and every register that it
// returns tells its unit, its table, its address and that generation. A good
// sample whose generation is not one of those between the begin and the end of
// the Read that brought it is a wrong value, whatever the fault was. Commands
// carry numbers, so that the server's list of what it executed can be held
// against what the driver said of each.
//
// With TCP this holds for every fault that leaves a frame's bytes of data as
// they are. With RTU it holds as long as a line delivers a unit's answers in
// the order of the requests, none later than half a minute, a second copy of an
// answer along with the first, and no answer with a right checksum under the
// name of another unit or function, for nothing in an answer tells to which
// request it belongs.
//
// VOLTAGE_SEED repeats the choice of faults, as far as the scheduling of
// goroutines allows; VOLTAGE_LONG=1 runs an hour, VOLTAGE_LONG=5m five
// minutes.
package soak
