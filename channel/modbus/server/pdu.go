package server

import (
	"context"
	"encoding/binary"
	"errors"
)

// Function codes.
const (
	readCoils              = 1
	readDiscreteInputs     = 2
	readHoldingRegisters   = 3
	readInputRegisters     = 4
	writeSingleCoil        = 5
	writeSingleRegister    = 6
	writeMultipleCoils     = 15
	writeMultipleRegisters = 16
	maskWriteRegister      = 22
	readWriteRegisters     = 23
	readFIFOQueue          = 24
)

// Quantity limits of the Modbus Application Protocol V1.1b3, section 6.
const (
	maxReadBits       = 2000
	maxReadRegisters  = 125
	maxWriteBits      = 1968
	maxWriteRegisters = 123
	maxBesideRead     = 121 // registers that FC 23 writes
	maxFIFO           = 31
)

// request is a checked protocol data unit. data holds the values of a write, or
// the two masks of FC 22, in their wire form and aliases the PDU.
type request struct {
	function byte
	table    Table
	address  uint16 // of FC 23, what is read
	quantity uint16
	written  uint16 // the first address that FC 23 writes
	data     []byte
}

// decodeRequest checks a PDU in the order of the specification: function code
// (01), lengths, quantity and coil value (03), address range (02). The request
// is filled as far as it could be read, also beside an error. The error is
// always an Exception.
func decodeRequest(pdu []byte) (request, error) {
	if len(pdu) == 0 {
		return request{}, IllegalFunction
	}
	req := request{function: pdu[0]}
	limit := uint16(1)
	switch req.function {
	case readCoils:
		req.table, limit = Coil, maxReadBits
	case readDiscreteInputs:
		req.table, limit = DiscreteInput, maxReadBits
	case readHoldingRegisters:
		req.table, limit = HoldingRegister, maxReadRegisters
	case readInputRegisters:
		req.table, limit = InputRegister, maxReadRegisters
	case writeSingleCoil:
		req.table = Coil
	case writeSingleRegister:
		req.table = HoldingRegister
	case writeMultipleCoils:
		req.table, limit = Coil, maxWriteBits
	case writeMultipleRegisters:
		req.table, limit = HoldingRegister, maxWriteRegisters
	case maskWriteRegister:
		req.table = HoldingRegister
	case readWriteRegisters:
		req.table, limit = HoldingRegister, maxReadRegisters
	case readFIFOQueue:
		return decodeFIFO(req, pdu)
	default:
		return req, IllegalFunction
	}
	if len(pdu) < 5 {
		return req, IllegalValue
	}
	req.address = binary.BigEndian.Uint16(pdu[1:])

	switch req.function {
	case writeSingleCoil, writeSingleRegister:
		req.quantity = 1
		req.data = pdu[3:]
		if len(req.data) != 2 {
			return req, IllegalValue
		}
		if v := binary.BigEndian.Uint16(req.data); req.table == Coil && v != 0 && v != 0xFF00 {
			return req, IllegalValue
		}
		return req, nil
	case maskWriteRegister:
		req.quantity = 1
		req.data = pdu[3:]
		if len(req.data) != 4 {
			return req, IllegalValue
		}
		return req, nil
	}

	req.quantity = binary.BigEndian.Uint16(pdu[3:])
	if req.quantity < 1 || req.quantity > limit {
		return req, IllegalValue
	}
	switch req.function {
	case writeMultipleCoils, writeMultipleRegisters:
		bytes := 2 * int(req.quantity)
		if req.table == Coil {
			bytes = (int(req.quantity) + 7) / 8
		}
		if len(pdu) != 6+bytes || int(pdu[5]) != bytes {
			return req, IllegalValue
		}
		req.data = pdu[6:]
	case readWriteRegisters:
		if len(pdu) < 10 {
			return req, IllegalValue
		}
		req.written, req.data = binary.BigEndian.Uint16(pdu[5:]), pdu[10:]
		n := int(binary.BigEndian.Uint16(pdu[7:]))
		if n < 1 || n > maxBesideRead || len(req.data) != 2*n || int(pdu[9]) != 2*n {
			return req, IllegalValue
		}
		if int(req.written)+n > 0x10000 {
			return req, IllegalAddress
		}
	default:
		if len(pdu) != 5 {
			return req, IllegalValue
		}
	}
	if int(req.address)+int(req.quantity) > 0x10000 {
		return req, IllegalAddress
	}
	return req, nil
}

func decodeFIFO(req request, pdu []byte) (request, error) {
	req.table = HoldingRegister
	if len(pdu) != 3 {
		return req, IllegalValue
	}
	req.address = binary.BigEndian.Uint16(pdu[1:])
	return req, nil
}

// execute runs a checked request on a handler and appends the answer PDU to
// dst. The error, if any, is the handler's; nothing is appended then.
func execute(ctx context.Context, h Handler, req request, dst []byte) ([]byte, error) {
	n := int(req.quantity)
	switch req.function {
	case readCoils, readDiscreteInputs:
		bits := make([]bool, n)
		if err := h.ReadBits(ctx, req.table, req.address, bits); err != nil {
			return dst, err
		}
		dst = append(dst, req.function, byte((n+7)/8))
		return appendBits(dst, bits), nil
	case readHoldingRegisters, readInputRegisters:
		registers := make([]uint16, n)
		if err := h.ReadRegisters(ctx, req.table, req.address, registers); err != nil {
			return dst, err
		}
		return appendRegisters(append(dst, req.function, byte(2*n)), registers), nil
	case maskWriteRegister:
		return maskWrite(ctx, h, req, dst)
	case readWriteRegisters:
		return readWrite(ctx, h, req, dst)
	case readFIFOQueue:
		return readFIFO(ctx, h, req, dst)
	}

	// What a write is answered with: its address, then the value of a single
	// write or the quantity of a multiple one.
	echo := req.quantity
	var err error
	switch req.function {
	case writeSingleCoil:
		echo = binary.BigEndian.Uint16(req.data)
		err = h.WriteBits(ctx, Coil, req.address, []bool{echo != 0})
	case writeMultipleCoils:
		bits := make([]bool, n)
		for i := range bits {
			bits[i] = req.data[i/8]&(1<<(i%8)) != 0
		}
		err = h.WriteBits(ctx, Coil, req.address, bits)
	case writeSingleRegister, writeMultipleRegisters:
		registers := req.values()
		if req.function == writeSingleRegister {
			echo = registers[0]
		}
		err = h.WriteRegisters(ctx, HoldingRegister, req.address, registers)
	default:
		err = IllegalFunction
	}
	if err != nil {
		return dst, err
	}
	dst = append(dst, req.function)
	dst = binary.BigEndian.AppendUint16(dst, req.address)
	return binary.BigEndian.AppendUint16(dst, echo), nil
}

// appendBits packs bits, the first one into the lowest bit of the first byte.
// Unused bits of the last byte are 0.
func appendBits(dst []byte, bits []bool) []byte {
	var b byte
	for i, on := range bits {
		if on {
			b |= 1 << (i % 8)
		}
		if i%8 == 7 || i == len(bits)-1 {
			dst = append(dst, b)
			b = 0
		}
	}
	return dst
}

// appendException appends the exception PDU for a failed request.
func appendException(dst []byte, function byte, err error) []byte {
	return append(dst, function|0x80, byte(exceptionOf(err)))
}

// exceptionOf returns the code that an error is answered with.
func exceptionOf(err error) Exception {
	var e Exception
	if errors.As(err, &e) && e >= 1 && e <= 127 {
		return e
	}
	return DeviceFailure
}
