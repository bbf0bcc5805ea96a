package modbus

import (
	"encoding/binary"

	gb "github.com/goburrow/modbus"
)

const (
	maxRTUUnit = 247 // the ids above are reserved
	maxRTUSize = 5 + 255
)

// crc16 is the checksum of an RTU frame; its low byte travels first.
func crc16(b []byte) uint16 {
	sum := uint16(0xFFFF)
	for _, v := range b {
		sum = crcTable[byte(sum)^v] ^ sum>>8
	}
	return sum
}

var crcTable = func() (table [256]uint16) {
	for i := range table {
		v := uint16(i)
		for range 8 {
			if v&1 != 0 {
				v = v>>1 ^ 0xA001
			} else {
				v >>= 1
			}
		}
		table[i] = v
	}
	return table
}()

// appendRTU appends the frame of a request or an answer.
func appendRTU(b []byte, unit byte, pdu *gb.ProtocolDataUnit) []byte {
	start := len(b)
	b = append(append(b, unit, pdu.FunctionCode), pdu.Data...)
	return binary.LittleEndian.AppendUint16(b, crc16(b[start:]))
}

// validRTU reports whether the checksum of a whole frame is right.
func validRTU(frame []byte) bool {
	n := len(frame) - 2
	return n >= 2 && binary.LittleEndian.Uint16(frame[n:]) == crc16(frame[:n])
}

// answerLength returns how long the answer is that b begins with: 0 if more of
// it must be known for that, -1 if no answer begins so.
func answerLength(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if b[0] == 0 || b[0] > maxRTUUnit {
		return -1
	}
	if len(b) < 2 {
		return 0
	}
	if b[1] > 0x80 {
		return 5 // exception
	}
	switch b[1] {
	case gb.FuncCodeReadCoils, gb.FuncCodeReadDiscreteInputs, gb.FuncCodeReadHoldingRegisters, gb.FuncCodeReadInputRegisters,
		gb.FuncCodeReadWriteMultipleRegisters:
		switch {
		case len(b) < 3:
			return 0
		case b[2] == 0:
			return -1
		}
		return 5 + int(b[2])
	case gb.FuncCodeWriteSingleCoil, gb.FuncCodeWriteSingleRegister, gb.FuncCodeWriteMultipleCoils, gb.FuncCodeWriteMultipleRegisters:
		return 8
	case gb.FuncCodeMaskWriteRegister:
		return 10
	case gb.FuncCodeReadFIFOQueue:
		if len(b) < 4 {
			return 0
		}
		// The byte count covers the count of registers and up to 31 of them.
		if n := int(binary.BigEndian.Uint16(b[2:])); n >= 2 && n <= 64 {
			return 6 + n
		}
	}
	return -1
}

// wantedLength returns how long the answer to a request is, if it is no
// exception.
func wantedLength(request *gb.ProtocolDataUnit) int {
	switch request.FunctionCode {
	case gb.FuncCodeReadCoils, gb.FuncCodeReadDiscreteInputs:
		return 5 + (int(binary.BigEndian.Uint16(request.Data[2:]))+7)/8
	case gb.FuncCodeReadHoldingRegisters, gb.FuncCodeReadInputRegisters, gb.FuncCodeReadWriteMultipleRegisters:
		return 5 + 2*int(binary.BigEndian.Uint16(request.Data[2:]))
	case gb.FuncCodeMaskWriteRegister:
		return 10
	}
	return 8
}
