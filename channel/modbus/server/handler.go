package server

import (
	"context"
	"fmt"
)

// Table is one of the four address spaces of a Modbus unit. The zero value is
// no table.
type Table uint8

// The four tables. Bits and registers of different tables are independent of
// each other, even at the same address.
const (
	// Coil is the table of readable and writable bits (FC 1, 5, 15).
	Coil Table = iota + 1
	// DiscreteInput is the table of read-only bits (FC 2).
	DiscreteInput
	// HoldingRegister is the table of readable and writable 16-bit registers
	// (FC 3, 6, 16, 22, 23).
	HoldingRegister
	// InputRegister is the table of read-only 16-bit registers (FC 4).
	InputRegister
)

// String returns "coil", "discrete", "holding" or "input".
func (t Table) String() string {
	switch t {
	case Coil:
		return "coil"
	case DiscreteInput:
		return "discrete"
	case HoldingRegister:
		return "holding"
	case InputRegister:
		return "input"
	}
	return fmt.Sprintf("table(%d)", uint8(t))
}

// Exception is a Modbus exception code, the answer to a request that is
// refused. It is an error, so that a [Handler] can return it. Valid codes are
// 1 to 127; a handler that returns another one answers as [DeviceFailure].
type Exception byte

// The exception codes of the server and of package northbound.
const (
	// IllegalFunction: the function code is not served.
	IllegalFunction Exception = 0x01
	// IllegalAddress: an address of the request does not exist.
	IllegalAddress Exception = 0x02
	// IllegalValue: a quantity, length, byte count or value is not allowed.
	IllegalValue Exception = 0x03
	// DeviceFailure: the handler failed.
	DeviceFailure Exception = 0x04
	// Acknowledge: taken, and not certainly done.
	Acknowledge Exception = 0x05
	// Busy: not done, for too much is under way.
	Busy Exception = 0x06
	// GatewayTargetFailed: no handler is set for the unit id.
	GatewayTargetFailed Exception = 0x0B
)

// Error returns the code and, where it is known, its meaning.
func (e Exception) Error() string {
	text := ""
	switch e {
	case IllegalFunction:
		text = " (illegal function)"
	case IllegalAddress:
		text = " (illegal data address)"
	case IllegalValue:
		text = " (illegal data value)"
	case DeviceFailure:
		text = " (device failure)"
	case Acknowledge:
		text = " (acknowledge)"
	case Busy:
		text = " (server device busy)"
	case GatewayTargetFailed:
		text = " (gateway target failed to respond)"
	}
	return fmt.Sprintf("modbus exception %02X%s", byte(e), text)
}

// Handler is what stands behind one unit id. Its methods are called from
// several connections at the same time.
//
// The ranges are never empty and never pass address 65535, and the quantities
// are within the limits of the protocol. An error that is or wraps an
// [Exception] is answered with that code, every other error with
// [DeviceFailure]. The context ends when the server closes; a method must then
// return soon; [PeerFrom] tells who asks. Slices belong to the server and must
// not be kept.
//
// FC 22 and FC 23 are ReadRegisters and WriteRegisters in turn. No other write
// of the same unit comes in between; reads of others may. FC 23 is read,
// written and read again, so that nothing is written where its registers cannot
// be read; if they cannot be any more after the write, the answer is
// [Acknowledge]. What changes a handler's values past the server is not kept out.
type Handler interface {
	// ReadBits fills dst with the bits from address on. The table is Coil or
	// DiscreteInput.
	ReadBits(ctx context.Context, table Table, address uint16, dst []bool) error
	// ReadRegisters fills dst with the registers from address on. The table is
	// HoldingRegister or InputRegister.
	ReadRegisters(ctx context.Context, table Table, address uint16, dst []uint16) error
	// WriteBits writes values from address on. The table is Coil. It must write
	// all values or, with an error, none.
	WriteBits(ctx context.Context, table Table, address uint16, values []bool) error
	// WriteRegisters writes values from address on. The table is
	// HoldingRegister. It must write all values or, with an error, none.
	WriteRegisters(ctx context.Context, table Table, address uint16, values []uint16) error
}

// MaskWriter is implemented by handlers that must know that a write changes a
// part of what is there (FC 22). It is called in place of ReadRegisters and
// WriteRegisters; the register becomes register&and | or&^and. Errors are those
// of a [Handler]. Such a handler sees by itself to it that no other write comes in
// between, as only it knows which would matter: the server makes no write wait for
// another.
type MaskWriter interface {
	MaskRegister(ctx context.Context, address, and, or uint16) error
}

// FIFO is implemented by handlers that have queues of registers (FC 24).
// Without it FC 24 is answered with [IllegalFunction].
type FIFO interface {
	// ReadFIFO returns the registers in the queue at address, the oldest first,
	// and leaves them there. More than 31 are answered with [IllegalValue], as
	// the protocol has it. Errors are those of a [Handler].
	ReadFIFO(ctx context.Context, address uint16) ([]uint16, error)
}
