// Package modbus is the driver for devices that speak Modbus TCP, Modbus/TCP
// Security, which is the same with TLS, Modbus RTU on a serial line, or RTU over
// TCP through a gateway.
//
//	channel.Config{
//		ID:     "1001",
//		Driver: modbus.TCP("192.168.1.10:502", modbus.Unit(1)),
//		Points: []model.Point{{ID: "1", Address: "holding:100:float32"}},
//	}
//
// Several units behind one gateway share its connection through a Bus, on
// which one request is under way at a time (or one batch, see Pipeline) and
// commands go ahead of polls. After sixteen commands in turn a poll that waits has
// its turn, so that a flood of commands does not leave a site without values.
//
// # Addresses
//
// A point's address is
//
//	space:number[:type[:order]] [options]
//
// The space is coil, discrete, input or holding. The number is the one that
// travels on the wire, counted from 0, decimal or 0x hexadecimal, without
// leading zeros. What manuals number otherwise is said, never guessed:
//
//	holding:100            number 100 on the wire
//	holding:101 base=1     the same, where the manual counts registers from 1
//	40101, 400101          the same as a reference number
//
// A reference number stands in place of space:number and is all of it: its
// first digit is the table (0 coil, 1 discrete, 3 input, 4 holding), the four
// or five digits after it count from 1. With a space it is no reference:
// "holding:40001" is the register with that number on the wire.
//
// Coils and discrete inputs are bool and need no type. The types of registers,
// uint16 where none is given, are
//
//	int16 uint16 bcd16 bool          one register; bool is 1 for anything but 0
//	bit0 … bit15                     one bit, bit0 the least significant
//	bits0-3 (any lowest-highest)     several bits of one register, a number from 0
//	int8hi int8lo uint8hi uint8lo    the upper or the lower byte
//	int32 uint32 float32 bcd32       two registers
//	int64 uint64 float64             four registers
//	string1 … string125              text; the number counts registers, as manuals
//	                                 do, so string16 has up to 32 bytes
//
// The order says how the device lays the bytes out, A being the most
// significant: AB (default) or BA for one register; ABCD (default), CDAB
// (words swapped), BADC (bytes swapped within each word) or DCBA (both) for
// two registers, and the same four names, word for word, for four. Text has AB
// (the upper byte of each register first) or BA.
//
// Text belongs to points with Text set, and to no others. It ends at the first
// NUL, and the spaces before that are cut. Text that is not UTF-8 is Invalid.
//
// # Options
//
// Options follow the address, separated by spaces, such as
// "holding:100:int16 na=0x8000 range=-50..120". The base stands first.
//
//	base=0, base=1     what the number counts from; 0 by default
//	invert             the device's 0 is true; for bool, bits, coils, discretes;
//	                   what is written is inverted as well
//	na=0x8000          this means "not available", and the sample is Invalid.
//	                   Hexadecimal are the bits of the number, its byte order
//	                   undone; decimal is the number before scale and offset.
//	                   Up to eight, each with its own na=
//	range=-50..120     plausible values, in the point's unit; what is outside is
//	                   Overflow. One end may be left out: range=0..
//	rate=5             the most by which the value changes in a second, in the
//	                   point's unit; what changes faster is Bad
//
// The last good value stays where a sample is Invalid, Overflow or Bad. No
// value means "not available" unless an option says so, save for floats: NaN is
// Invalid and infinity Overflow in any case, and na=nan only says it aloud.
//
// The rate counts from the last value that was believed and the time since, at
// least one period of the point's scan class. A jump is believed after all at the
// third reading in turn that agrees with the one before it: the device was
// replaced, or its counter began anew. Points that are written have no rate, for a
// command may change them at once.
//
// # Reading
//
// Points of one scan class that are near each other are read with one request;
// Plan prints which. A round's requests are sent one at a time, or in batches,
// and between two of them a class that is due and has a shorter period goes
// ahead. Read returns the points of a class when its round is complete. Rounds
// begin at once after the connect and then keep to a grid that lies elsewhere in
// the period for every channel, unit and class. What is read once is asked for
// again, less and less often, while it is not answered. Demand reads points of
// any class as the next request. A point that was written while its round was
// under way, or whose class is not read within a second, is read again after the
// write, and no value of before is returned after it. It is read also after a
// reconnect where the connection was lost before that, whatever its class. Writes
// of other channels and other clients are not known, of course.
//
// When a device answers a request with exception 2, illegal data address, the
// request is split until the addresses that it does not have are known; they are
// Invalid from then on and tried again rarely (after 10 s, then less and less, down
// to every 10 min), also those that are read once, and after each reconnect. Numbers that no float64 holds exactly, that cannot
// be stored, or that are not numbers are Overflow or Invalid, never a wrong value.
//
// A device that closes the connection after an answer, or when it was idle, is
// asked over a new one. A request that met the end of the connection is sent
// once more if it only reads, or if nothing of it had left.
//
// # Writing
//
// Points of kind control and adjustment are coils or holding registers, and are
// read like all others, by their scan class. They are written with functions 5, 6 and 16, or with
// 15 and 16 alone where MultipleWrites asks for that. A number that means "not
// available" is not written; nor is text, as commands carry numbers.
//
// A part of a register (a bit, several bits, a byte) is written only where
// PartWrites says how. By "mask", function 22, the device changes the part
// itself. By "rewrite" the register is read, changed and written back, one
// request after the other with none of this bus in between: simple, and wrong
// where the device itself or another client changes the rest of the register,
// for that is undone without a trace.
//
// Every answer must be the echo that its request asks for; else nobody knows
// what the device took, and the result is Sent. A point with ReadBack is read
// until it has the value that was written, for up to its ReadBackTime. With ReadWrite,
// function 23 writes and reads it in one request, which is enough where the
// value in the answer matches. Function 24, the reading of a queue, is not of
// use to points; the package server answers it.
//
// # TLS
//
// TLS and NewTLSBus are TCP and NewBus for Modbus/TCP Security
// (MB-TCP-Security v3.6): TLS 1.2 or higher, certificates on both sides, port
// 802. The device's certificate is always verified: its authority, its time and
// its name. What is wrong with either certificate is part of the error of
// Connect, or of the first Read, as with TLS 1.3 a device judges its client only
// then; both are channel.ErrNotConnected. The role in which the client comes is
// in its certificate, and what the role may do is up to the device.
//
// The files are read when the Factory checks them and again at each connect.
// The times in certificates are judged by the system's clock, so a controller
// whose clock is not set yet does not connect.
//
// # Silent units
//
// A unit is dead when two requests in a row (and as many more as Retries says) had
// no answer and nothing else was answered since the round began; one, where all
// that it is ever asked for is one request, for Connect then asks it again. Read then
// ends with channel.ErrNotConnected, and each Connect is one attempt: the unit
// counts as connected when it answers it. When all units of a bus that are asked
// again and again are silent, the connection is given up and made anew.
//
// A request to a unit, or for an address, that was not answered the last time
// keeps the line only for as long as nobody else wants it. A poll of another unit
// cuts it short after a grace of four times the slowest recent answer on the
// line, at least 20 ms and at most the Timeout; a command does so at once with
// Modbus TCP, where a late answer is told by its transaction id, and after the
// grace with RTU. So that a unit which became slower is found again, every second
// attempt in turn has twice the grace, every fourth four times and so on, and a
// unit whose answer came after all has its whole Timeout the next time. The time
// for which others had to wait, also because a gateway was still busy with the
// attempt, is paid back: attempts on dead units then rest for 19 times as long,
// and take turns. So all of them together take at most 5 % of the time of a line
// that others want.
//
// A unit that is back is noticed by the next attempt. The runner makes one every
// 15 to 30 s at the latest; on a busy line its turn may take another 20 graces
// for each dead unit on it, which is 4 s for ten of them and answers within 5 ms.
//
// # RTU
//
// RTU, NewRTUBus, RTUOverTCP and NewRTUOverTCPBus are TCP and NewBus for RTU
// framing. A channel's Timeout covers sending the request and receiving the
// answer, and 250 bytes take 290 ms at 9600 baud. A line is
// left silent for 3.5 characters between frames, 1.75 ms above 19200 baud;
// gaps inside a frame are not judged, since USB adapters make them. Every
// answer is checked: checksum, unit, function, length and, for writes, the
// echo; bytes that are no answer are passed over, and what comes between two
// requests is thrown away.
//
// An RTU answer does not tell to which request it belongs. Where the answer to
// a request did not come, the driver therefore sends no request to that unit to
// which a late answer would fit before the unit has answered a short read of
// another length. An exception tells even less: while an answer to the same function
// is missing it counts as none, and the short read uses another function. For 30 s,
// that is; what a device delivers later than that can
// be taken for another answer, as on every RTU line. So can a second copy of
// an answer that comes only after the next request, and answers that come in
// another order than the requests. Do not use adapters that
// echo what is sent: the echo of a single write is its answer.
//
// Unit 0 is the broadcast to all units of the line. Its channel has controls
// and adjustments only, which are never read. A write to it is Sent with an
// error, for nobody acknowledges it; the line then rests for 100 ms.
//
// A serial line is opened for one bus alone (with a lock that other programs
// may honour) and has 8 data bits. Whether it drives an RS-485 transceiver is up
// to the hardware and the kernel's driver.
package modbus
