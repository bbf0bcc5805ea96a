package modbus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	gb "github.com/goburrow/modbus"
)

// ErrTimeout says that the unit did not answer a request in time.
var ErrTimeout = errors.New("no answer in time")

// ErrAnswer says that an answer does not fit its request: it is from another
// unit, for another function, too short, too long, or not the echo that it
// should be.
var ErrAnswer = errors.New("answer does not fit the request")

// Exception is the error with which a unit answers a request that it does not
// carry out.
type Exception struct {
	// Function is the code of the function that was asked for, 1 to 127.
	Function byte
	// Code says why; the specification defines 1 to 6, 8, 10 and 11.
	Code byte
}

var exceptionNames = map[byte]string{
	gb.ExceptionCodeIllegalFunction:                    "illegal function",
	gb.ExceptionCodeIllegalDataAddress:                 "illegal data address",
	gb.ExceptionCodeIllegalDataValue:                   "illegal data value",
	gb.ExceptionCodeServerDeviceFailure:                "server device failure",
	gb.ExceptionCodeAcknowledge:                        "acknowledge",
	gb.ExceptionCodeServerDeviceBusy:                   "server device busy",
	gb.ExceptionCodeMemoryParityError:                  "memory parity error",
	gb.ExceptionCodeGatewayPathUnavailable:             "gateway path unavailable",
	gb.ExceptionCodeGatewayTargetDeviceFailedToRespond: "gateway target device failed to respond",
}

// Error names the exception, such as "exception 2 (illegal data address) to function 3".
func (e *Exception) Error() string {
	name, ok := exceptionNames[e.Code]
	if !ok {
		name = "unknown"
	}
	return fmt.Sprintf("exception %d (%s) to function %d", e.Code, name, e.Function)
}

// open reports whether the exception leaves it open what the unit does: it
// took the request and works on it, or a gateway passed it on and heard nothing.
func (e *Exception) open() bool {
	return e.Code == gb.ExceptionCodeAcknowledge || e.Code == gb.ExceptionCodeGatewayTargetDeviceFailedToRespond
}

// appendRead appends the data of a read request.
func appendRead(b []byte, start, count int) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(start))
	return binary.BigEndian.AppendUint16(b, uint16(count))
}

// appendWrite appends the data of the request that writes raw to the address
// and returns the function's code. multiple asks for functions 15 and 16 where
// 5 and 6 would do.
func appendWrite(b []byte, a address, raw float64, multiple bool) (byte, []byte, error) {
	values, err := a.encode(make([]byte, 0, 8), raw)
	if err != nil {
		return 0, b, err
	}
	b = binary.BigEndian.AppendUint16(b, a.start)
	switch {
	case a.space == coil && multiple:
		return gb.FuncCodeWriteMultipleCoils, append(b, 0, 1, 1, values[1]), nil
	case a.space == coil:
		on := byte(0)
		if values[1] != 0 {
			on = 0xff
		}
		return gb.FuncCodeWriteSingleCoil, append(b, on, 0), nil
	case a.space != holding:
		return 0, b, fmt.Errorf("the space %s is read-only", spaceNames[a.space])
	case len(values) == 2 && !multiple:
		return gb.FuncCodeWriteSingleRegister, append(b, values...), nil
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)/2))
	return gb.FuncCodeWriteMultipleRegisters, append(append(b, byte(len(values))), values...), nil
}

// appendMask appends the data of the request that makes those bits of a register
// that mask has what they are in value, with function 22.
func appendMask(b []byte, register, mask, value uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, register)
	b = binary.BigEndian.AppendUint16(b, ^mask)
	return binary.BigEndian.AppendUint16(b, value)
}

// appendReadWrite appends the data of the request that writes raw to the address
// and then reads it, with function 23.
func appendReadWrite(b []byte, a address, raw float64) ([]byte, error) {
	values, err := a.encode(make([]byte, 0, 8), raw)
	if err != nil {
		return b, err
	}
	b = appendRead(b, int(a.start), a.width())
	b = appendRead(b, int(a.start), a.width())
	return append(append(b, byte(len(values))), values...), nil
}

// checkAnswer checks an answer against its request, every byte that is known
// beforehand, and returns what a read brought: the bytes after the byte count.
// The error is an *Exception or an ErrAnswer.
func checkAnswer(request, answer *gb.ProtocolDataUnit) ([]byte, error) {
	function, data := request.FunctionCode, answer.Data
	if answer.FunctionCode == function|0x80 {
		if len(data) != 1 {
			return nil, fmt.Errorf("%w: exception with %d bytes in place of 1", ErrAnswer, len(data))
		}
		return nil, &Exception{Function: function, Code: data[0]}
	}
	if answer.FunctionCode != function {
		return nil, fmt.Errorf("%w: function %d in place of %d", ErrAnswer, answer.FunctionCode, function)
	}
	switch function {
	case gb.FuncCodeReadCoils, gb.FuncCodeReadDiscreteInputs, gb.FuncCodeReadHoldingRegisters, gb.FuncCodeReadInputRegisters,
		gb.FuncCodeReadWriteMultipleRegisters:
		count := int(binary.BigEndian.Uint16(request.Data[2:]))
		want := count * 2
		if function <= gb.FuncCodeReadDiscreteInputs {
			want = (count + 7) / 8
		}
		if len(data) != 1+want || int(data[0]) != want {
			return nil, fmt.Errorf("%w: %d bytes of data in place of %d", ErrAnswer, max(len(data)-1, 0), want)
		}
		return data[1:], nil
	}
	// All other writes echo address and value, address and quantity, or address
	// and both masks.
	echo := request.Data[:4]
	if function == gb.FuncCodeMaskWriteRegister {
		echo = request.Data[:6]
	}
	if !bytes.Equal(data, echo) {
		return nil, fmt.Errorf("%w: echo % x in place of % x", ErrAnswer, data[:min(len(data), 8)], echo)
	}
	return nil, nil
}
