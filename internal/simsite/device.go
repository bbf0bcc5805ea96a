package simsite

import (
	"context"

	"github.com/voltageems/voltage/channel/modbus/server"
)

// slot is one bit or register of a device: a word of a point.
type slot struct {
	entry *Entry
	word  int
}

type place struct {
	table    server.Table
	register uint16
}

// device serves the points of one device from the site's plant. The lock of
// the site makes all values of one request belong to the same instant.
type device struct {
	name  string
	unit  byte
	site  *Site
	slots map[place]slot

	// Guarded by the site's life lock. addr is the bound address and stays
	// when the device is stopped; srv is nil then.
	addr string
	srv  *server.Server
}

func newDevice(site *Site, name string) *device {
	d := &device{name: name, site: site, slots: map[place]slot{}}
	for _, e := range Map() {
		if e.Device != name {
			continue
		}
		d.unit = e.UnitID
		for w := range e.Type.words() {
			d.slots[place{e.Table, e.Register + uint16(w)}] = slot{&e, w}
		}
	}
	return d
}

// ReadBits implements server.Handler.
func (d *device) ReadBits(_ context.Context, table server.Table, address uint16, dst []bool) error {
	d.site.mu.Lock()
	defer d.site.mu.Unlock()
	for i := range dst {
		at, ok := d.slots[place{table, address + uint16(i)}]
		if !ok {
			return server.IllegalAddress
		}
		dst[i] = at.entry.get(&d.site.plant.s) != 0
	}
	return nil
}

// ReadRegisters implements server.Handler.
func (d *device) ReadRegisters(_ context.Context, table server.Table, address uint16, dst []uint16) error {
	d.site.mu.Lock()
	defer d.site.mu.Unlock()
	for i := range dst {
		at, ok := d.slots[place{table, address + uint16(i)}]
		if !ok {
			return server.IllegalAddress
		}
		dst[i] = at.entry.encode(&d.site.plant.s)[at.word]
	}
	return nil
}

// WriteBits implements server.Handler.
func (d *device) WriteBits(_ context.Context, table server.Table, address uint16, values []bool) error {
	return d.write(table, address, len(values), func(_ *Entry, i int) float64 { return number(values[i]) })
}

// WriteRegisters implements server.Handler.
func (d *device) WriteRegisters(_ context.Context, table server.Table, address uint16, values []uint16) error {
	return d.write(table, address, len(values), func(e *Entry, i int) float64 { return e.decode(values[i]) })
}

// write checks all values before it sets the first one.
func (d *device) write(table server.Table, address uint16, n int, value func(e *Entry, i int) float64) error {
	d.site.mu.Lock()
	defer d.site.mu.Unlock()
	plant := d.site.plant
	entries := make([]*Entry, n)
	for i := range entries {
		at, ok := d.slots[place{table, address + uint16(i)}]
		if !ok || !at.entry.Writable() {
			return server.IllegalAddress
		}
		entries[i] = at.entry
	}
	const rounding = 1e-9 // of register · Scale
	for i, e := range entries {
		v := value(e, i)
		if v < e.Min-rounding || v > e.Max+rounding {
			return server.IllegalValue
		}
		if e.may != nil && !e.may(plant, v) {
			return server.DeviceFailure
		}
	}
	for i, e := range entries {
		e.set(plant, value(e, i))
	}
	return nil
}
