package server

import (
	"context"
	"slices"
	"sync"
)

// Memory is a [Handler] that keeps its values in RAM. An address exists once
// it was set; reading or writing another one is answered with
// [IllegalAddress]. The zero value is ready to use and has no addresses. It
// may be used from several goroutines.
type Memory struct {
	mu        sync.RWMutex
	bits      map[cell]bool
	registers map[cell]uint16
	queues    map[uint16][]uint16
}

type cell struct {
	table   Table
	address uint16
}

// SetBits sets the bits of a table (Coil or DiscreteInput) from address on and
// makes them exist. Values past address 65535 are left out.
func (m *Memory) SetBits(table Table, address uint16, values ...bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bits == nil {
		m.bits = map[cell]bool{}
	}
	set(m.bits, table, address, values)
}

// SetRegisters sets the registers of a table (HoldingRegister or
// InputRegister) from address on and makes them exist. Values past address
// 65535 are left out.
func (m *Memory) SetRegisters(table Table, address uint16, values ...uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registers == nil {
		m.registers = map[cell]uint16{}
	}
	set(m.registers, table, address, values)
}

// SetFIFO sets what is in the queue at an address, the oldest first, and makes
// it exist.
func (m *Memory) SetFIFO(address uint16, values ...uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.queues == nil {
		m.queues = map[uint16][]uint16{}
	}
	m.queues[address] = slices.Clone(values)
}

// Bit returns a bit and whether it exists.
func (m *Memory) Bit(table Table, address uint16) (value, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok = m.bits[cell{table, address}]
	return value, ok
}

// Register returns a register and whether it exists.
func (m *Memory) Register(table Table, address uint16) (value uint16, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok = m.registers[cell{table, address}]
	return value, ok
}

// ReadBits implements [Handler].
func (m *Memory) ReadBits(_ context.Context, table Table, address uint16, dst []bool) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return get(m.bits, table, address, dst)
}

// ReadRegisters implements [Handler].
func (m *Memory) ReadRegisters(_ context.Context, table Table, address uint16, dst []uint16) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return get(m.registers, table, address, dst)
}

// ReadFIFO implements [FIFO].
func (m *Memory) ReadFIFO(_ context.Context, address uint16) ([]uint16, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	queue, ok := m.queues[address]
	if !ok {
		return nil, IllegalAddress
	}
	return slices.Clone(queue), nil
}

// WriteBits implements [Handler].
func (m *Memory) WriteBits(_ context.Context, table Table, address uint16, values []bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return overwrite(m.bits, table, address, values)
}

// WriteRegisters implements [Handler].
func (m *Memory) WriteRegisters(_ context.Context, table Table, address uint16, values []uint16) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return overwrite(m.registers, table, address, values)
}

func set[T any](cells map[cell]T, table Table, address uint16, values []T) {
	for i, v := range values {
		if int(address)+i > 0xFFFF {
			return
		}
		cells[cell{table, address + uint16(i)}] = v
	}
}

func get[T any](cells map[cell]T, table Table, address uint16, dst []T) error {
	for i := range dst {
		v, ok := cells[cell{table, address + uint16(i)}]
		if !ok {
			return IllegalAddress
		}
		dst[i] = v
	}
	return nil
}

// overwrite writes only if every address exists, so that a refused request
// changes nothing.
func overwrite[T any](cells map[cell]T, table Table, address uint16, values []T) error {
	for i := range values {
		if _, ok := cells[cell{table, address + uint16(i)}]; !ok {
			return IllegalAddress
		}
	}
	set(cells, table, address, values)
	return nil
}
