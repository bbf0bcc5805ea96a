package server

import (
	"context"
	"encoding/binary"
	"fmt"
)

// values are the registers that a request writes.
func (r request) values() []uint16 {
	registers := make([]uint16, len(r.data)/2)
	for i := range registers {
		registers[i] = binary.BigEndian.Uint16(r.data[2*i:])
	}
	return registers
}

// maskWrite is FC 22: the register keeps the bits of the first mask and takes
// those bits of the second that the first one does not have.
func maskWrite(ctx context.Context, h Handler, req request, dst []byte) ([]byte, error) {
	masks := req.values()
	if m, ok := h.(MaskWriter); ok {
		if err := m.MaskRegister(ctx, req.address, masks[0], masks[1]); err != nil {
			return dst, err
		}
	} else {
		var register [1]uint16
		if err := h.ReadRegisters(ctx, HoldingRegister, req.address, register[:]); err != nil {
			return dst, err
		}
		register[0] = register[0]&masks[0] | masks[1]&^masks[0]
		if err := h.WriteRegisters(ctx, HoldingRegister, req.address, register[:]); err != nil {
			return dst, err
		}
	}
	dst = binary.BigEndian.AppendUint16(append(dst, req.function), req.address)
	return append(dst, req.data...), nil
}

// readWrite is FC 23. What cannot be read must not leave a write behind, so it
// reads before the write, too.
func readWrite(ctx context.Context, h Handler, req request, dst []byte) ([]byte, error) {
	registers := make([]uint16, req.quantity)
	if err := h.ReadRegisters(ctx, HoldingRegister, req.address, registers); err != nil {
		return dst, err
	}
	if err := h.WriteRegisters(ctx, HoldingRegister, req.written, req.values()); err != nil {
		return dst, err
	}
	if err := h.ReadRegisters(ctx, HoldingRegister, req.address, registers); err != nil {
		// Any other code would say that nothing was done.
		return dst, fmt.Errorf("%w: written, but not to be read then: %w", Acknowledge, err)
	}
	return appendRegisters(append(dst, req.function, byte(2*req.quantity)), registers), nil
}

// readFIFO is FC 24.
func readFIFO(ctx context.Context, h Handler, req request, dst []byte) ([]byte, error) {
	f, ok := h.(FIFO)
	if !ok {
		return dst, IllegalFunction
	}
	registers, err := f.ReadFIFO(ctx, req.address)
	if err == nil && len(registers) > maxFIFO {
		err = IllegalValue
	}
	if err != nil {
		return dst, err
	}
	dst = binary.BigEndian.AppendUint16(append(dst, req.function), uint16(2+2*len(registers)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(registers)))
	return appendRegisters(dst, registers), nil
}

func appendRegisters(dst []byte, registers []uint16) []byte {
	for _, v := range registers {
		dst = binary.BigEndian.AppendUint16(dst, v)
	}
	return dst
}
