// Package server is a Modbus TCP server: it lets other systems read and write
// values over function codes 1, 2, 3, 4, 5, 6, 15, 16, 22, 23 and 24.
//
// One [Server] answers for any number of unit ids. What stands behind a unit
// is a [Handler]; [Memory] is a ready-made one that keeps bits and registers
// in RAM. The server checks everything that the Modbus Application Protocol
// V1.1b3 lets it check (lengths, quantities, byte counts, coil values, the
// address range) before a handler sees a request, so a handler only decides
// which addresses exist and which values it accepts.
//
// Requests of one connection are answered one after the other and in order;
// connections run side by side and do not influence each other, save that where all
// are taken the address with the most gives one to an address with fewer. A connection
// that breaks the framing (protocol id not 0, length outside 2..254), that
// stays silent for longer than the idle timeout or that does not take its
// answer is closed.
//
// A request waits for those before it on its connection, so that a write may be old
// when its turn comes, and its client have given up on it: [Waited] tells. Masters
// repeat what was not answered in time, and the specification has nothing by which a
// repetition could be told from a new request; each is carried out.
//
// Addresses are protocol addresses, 0 to 65535. Unit ids 0 and 255 have no
// special meaning: they answer only where a handler is set for them.
//
// With [Config.RTU] the connections speak RTU over TCP, and [Server.ServeRTU]
// serves a serial line. There unit 0 is all units, and units without a handler
// are silent.
//
// The handling of the protocol data unit (pdu.go) knows nothing of TCP; the
// framing is in mbap.go and rtu.go.
package server
