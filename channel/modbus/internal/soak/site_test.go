//go:build linux

package soak

import (
	"context"
	"fmt"
	"math/bits"
	"sync"

	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// Where the registers and bits of a unit are. Each block has places that are
// 16 apart, so that a driver without a gap reads each with its own request, and
// all of a block with requests of one form.
const (
	block64   = 0x0000 // uint64
	block32   = 0x0100 // uint32
	block16   = 0x0200 // uint16
	single    = 0x0300 // written, uint16
	double    = 0x0310 // written, uint32
	confirmed = 0x0320 // written and read back, uint32
	edge64    = 0xFFFC // uint64, the last registers that there are
	coilBlock = 0x0000 // bits that never change, and one that is written:
	coilPlace = 0x0300
)

// site is the devices behind the proxy. Each request that it carries out is a
// generation.
type site struct {
	mu         sync.Mutex
	generation uint64
	history    map[place][]version
	executed   map[order]int
	coils      map[place]int // how often a coil was written
}

type place struct {
	unit    byte
	address uint16
}

// version is what a place held from a generation on.
type version struct {
	value uint32
	from  uint64
}

// order is a command as it arrives.
type order struct {
	place
	value uint32
}

func newSite() *site {
	return &site{history: map[place][]version{}, executed: map[order]int{}, coils: map[place]int{}}
}

func (s *site) now() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}

// executions returns how often an order was executed.
func (s *site) executions(o order) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.executed[o]
}

// forget drops what was executed before a number is used again.
func (s *site) forget(o order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.executed, o)
}

// held reports whether a place held the value for a request of a generation
// after begin, up to end.
func (s *site) held(p place, value uint32, begin, end uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.history[p]
	if value == 0 && (len(h) == 0 || h[0].from > begin+1) {
		return true // before the first write
	}
	for k, v := range h {
		if v.value == value && v.from < end && (k == len(h)-1 || h[k+1].from > begin+1) {
			return true
		}
	}
	return false
}

// unit is one of the site's devices.
type unit struct {
	*site
	id byte
}

func (u unit) number64(table server.Table, base uint16, g uint64) uint64 {
	return uint64(u.id&3)<<45 | uint64(table&1)<<44 | uint64(base)<<28 | g&(1<<28-1) // 47 bits, which a value may have
}

func (u unit) number32(table server.Table, base uint16, g uint64) uint32 {
	return uint32(u.id&7)<<29 | uint32(table&1)<<28 | uint32(base>>4&15)<<24 | uint32(g)&0xFFFFFF
}

func (u unit) number16(table server.Table, base uint16, g uint64) uint16 {
	return uint16(u.id&3)<<14 | uint16(table&1)<<13 | base>>4&1<<12 | uint16(g)&0xFFF
}

func (u unit) bit(table server.Table, address uint16) bool {
	return bits.OnesCount32((uint32(u.id)<<20|uint32(table)<<16|uint32(address))*2654435761)&1 == 1
}

func (u unit) ReadBits(_ context.Context, table server.Table, address uint16, dst []bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.generation++
	for k := range dst {
		dst[k] = u.bit(table, address+uint16(k))
	}
	return nil
}

func (u unit) ReadRegisters(_ context.Context, table server.Table, address uint16, dst []uint16) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.generation++
	for k := range dst {
		dst[k] = u.register(table, address+uint16(k))
	}
	return nil
}

func (u unit) register(table server.Table, at uint16) uint16 {
	base, nth := at&^15, at&15
	if at >= edge64 {
		base, nth = edge64, at-edge64
	}
	switch {
	case (base == edge64 || base < block32) && nth < 4:
		return uint16(u.number64(table, base, u.generation) >> (16 * (3 - nth)))
	case table == server.HoldingRegister && base >= single && base <= confirmed && nth < 2:
		h := u.history[place{u.id, base}]
		if len(h) == 0 {
			return 0
		}
		if base == single {
			return uint16(h[len(h)-1].value)
		}
		return uint16(h[len(h)-1].value >> (16 * (1 - nth)))
	case base >= block32 && base < block16 && nth < 2:
		return uint16(u.number32(table, base, u.generation) >> (16 * (1 - nth)))
	case base >= block16 && base < single && nth == 0:
		return u.number16(table, base, u.generation)
	}
	return 0xDEAD
}

func (u unit) WriteBits(_ context.Context, _ server.Table, address uint16, _ []bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.generation++
	u.coils[place{u.id, address}]++
	return nil
}

func (u unit) WriteRegisters(_ context.Context, _ server.Table, address uint16, values []uint16) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.generation++
	p := place{u.id, address}
	value := uint32(values[0])
	if len(values) == 2 {
		value = value<<16 | uint32(values[1])
	}
	if want := 2; address == single && len(values) != 1 || address != single && len(values) != want {
		return fmt.Errorf("%d registers at %#x", len(values), address)
	}
	u.executed[order{p, value}]++
	h := append(u.history[p], version{value, u.generation})
	if len(h) > 2000 {
		h = append(h[:0], h[1000:]...)
	}
	u.history[p] = h
	return nil
}

// check is a point and the judge of its good values, which came between two
// generations.
type check struct {
	point model.Point
	right func(value float64, begin, end uint64) bool
}

// between reports whether the lowest bits of a generation are those of one
// after begin, up to end.
func between(low uint64, width int, begin, end uint64) bool {
	behind := (end - low) & (1<<width - 1)
	return behind < end-begin
}

// checks returns what can be read of a unit.
func (u unit) checks() []check {
	var all []check
	add := func(id, address string, kind model.Kind, right func(float64, uint64, uint64) bool) {
		all = append(all, check{model.Point{ID: id, Address: address, Kind: kind, ReadBack: id == "confirmed"}, right})
	}
	for table, space := range map[server.Table]string{server.HoldingRegister: "holding", server.InputRegister: "input"} {
		for k := range uint16(2) {
			for _, base := range []uint16{block64 + 16*k, edge64} {
				if base == edge64 && k > 0 {
					continue
				}
				add(fmt.Sprintf("%s64-%d", space, base), fmt.Sprintf("%s:%d:uint64", space, base), model.Measurement, func(v float64, begin, end uint64) bool {
					n := uint64(v)
					return n>>28 == u.number64(table, base, 0)>>28 && between(n&(1<<28-1), 28, begin, end)
				})
			}
			base := block32 + 16*k
			add(fmt.Sprintf("%s32-%d", space, base), fmt.Sprintf("%s:%d:uint32", space, base), model.Measurement, func(v float64, begin, end uint64) bool {
				n := uint32(v)
				return n>>24 == u.number32(table, base, 0)>>24 && between(uint64(n&0xFFFFFF), 24, begin, end)
			})
		}
		for k := range uint16(2) {
			base := block16 + 16*k
			add(fmt.Sprintf("%s16-%d", space, base), fmt.Sprintf("%s:%d", space, base), model.Measurement, func(v float64, begin, end uint64) bool {
				n := uint16(v)
				return n>>12 == u.number16(table, base, 0)>>12 && between(uint64(n&0xFFF), 12, begin, end)
			})
		}
	}
	for table, space := range map[server.Table]string{server.Coil: "coil", server.DiscreteInput: "discrete"} {
		for k := range uint16(24) {
			at := coilBlock + k + k/12*0x100 // two requests of the same form
			want := 0.0
			if u.bit(table, at) {
				want = 1
			}
			add(fmt.Sprintf("%s-%d", space, at), fmt.Sprintf("%s:%d", space, at), model.Measurement, func(v float64, _, _ uint64) bool { return v == want })
		}
	}
	for id, at := range map[string]uint16{"single": single, "double": double, "confirmed": confirmed} {
		address := fmt.Sprintf("holding:%d", at)
		if at != single {
			address += ":uint32"
		}
		add(id, address, model.Control, func(v float64, begin, end uint64) bool {
			return u.held(place{u.id, at}, uint32(v), begin, end)
		})
	}
	add("coil", fmt.Sprintf("coil:%d", coilPlace), model.Control, func(float64, uint64, uint64) bool { return true })
	return all
}
