// Package northbound shows a site's points to other systems over Modbus: TCP,
// RTU over TCP, TLS, or RTU on a serial line. A Map says which point lies where;
// what clients write becomes commands.
//
//	voltage.Config{Servers: []channel.ServerConfig{{
//		ID: "scada",
//		Server: northbound.TCP("127.0.0.1:1502", northbound.Map{
//			{Address: "input:0:int32", Model: "meter1", Point: "active_power", Scale: 0.001},
//			{Address: "input:2:uint16", Model: "meter1", Point: "active_power", Field: northbound.FieldQuality},
//			{Address: "holding:0:int16", Model: "pcs1", Point: "power_setpoint", Scale: 0.1, Write: true},
//		}),
//	}}}
//
// # Reading
//
// Requests are answered from memory, never by asking the store. Models are read
// when they change, at most every 50 ms, and at the latest after a third of the
// time in Stale; channels are read every Refresh. A request sees one state of
// all that, and a number of several registers never in two halves: a request
// that begins or ends inside one is answered with exception 2 (illegal data
// address). Text may be read in parts.
//
// What the map does not have is answered with exception 2, also where it is a
// hole in the middle of a request; see ZeroGaps. What is not usable (not good,
// never seen, too large for its type, or not read for longer than Stale because
// the store is away) is never shown as if it were good; see Bad. A value is
// never wrapped to fit.
//
// FieldQuality shows the quality of a point as a number:
//
//	0 good         measured and current
//	1 uncertain    usable with care, the device said so
//	2 substituted  entered by hand or computed
//	3 bad          not usable, no reason known; also of a point that never had a value or does not exist
//	4 invalid      the device says that it is wrong, or it cannot be decoded
//	5 overflow     outside of what the device can express or the point allows
//	6 blocked      the device holds an old value on purpose
//	7 stale        not refreshed in time; also of everything while the store is away
//	8 offline      the device or its channel does not answer
//
// Values of the qualities 0 to 2 are shown. FieldAge shows for how many seconds
// a value has not been usable: 0 while it is, at least 1 else, "not available" when
// it never was, and the greatest number of its type when that is not enough. It is brought up
// to date when its model or channel is read.
//
// # Writing
//
// The functions 5, 6, 15, 16, 22 and 23 write the rows that have Write. They
// write whole values only; several in one request are all checked before the
// first is given as a command, in the order of their addresses, and the first
// that does not succeed is the last: those before it stay written. The answer
// comes when the device has answered:
//
//	normal        executed, or verified by reading back; in no other case
//	exception 1   ReadOnly, or the client's role may not write
//	exception 2   no row there, a row without Write, or only a part of a value
//	exception 3   not a value: "not available", out of the address's range, against the point's limits or step
//	exception 4   certainly not done: refused by the device, expired, no such control, model disabled; or what a mask (function 22) changes is not good
//	exception 5   not known: sent and neither confirmed nor refused, or the site did not answer; it may have been done.
//	              Also of a request of which a part was done
//	exception 6   not done: 64 writes are under way, or 16 of this client's address, or of this value with function 22
//
// Exception 5 means "accepted, but not done yet" by the specification, and is what
// the driver of this module takes for "sent". A client must not take it for a
// success, and looks at the value instead of writing again. WriteTimeout bounds
// the whole, from when the request came in, and is to be below the client's own
// patience.
//
// Each request is a command of its own, also one that repeats the one before: the
// protocol does not tell a repetition from a new order, and orders that are given
// again, such as signs of life, must reach the device. So a client that repeats
// what was not answered may have it done twice. That is harmless for setpoints and
// states; what counts or toggles at each write does not belong into a map.
//
// The values that a client reads are what the devices were last heard to have, also
// right after a write and in the answer to function 23. Function 22 starts from what
// was written last until the device was read again or the time in Stale is over.
//
// A client that goes away does not take back what it wrote. Commands have the
// origin "modbus:" and the server's id; their user is the client's address, or
// the common name and role of its certificate. Each is logged with its result.
//
// On a serial line a write to unit 0 is given for every unit, and not answered. A
// master there that sends something else while a write is under way gets no answer to
// the write, which it would take for another's.
//
// The answers to one client come in order, so that its own reads wait for its
// writes. Other clients do not wait, except on a serial line, which has only one.
package northbound
