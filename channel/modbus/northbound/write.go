package northbound

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// Exception codes of the Modbus Application Protocol V1.1b3, section 7, that
// package server does not use by itself.
const (
	acknowledge server.Exception = 5 // taken, and not done yet
	busy        server.Exception = 6
)

// maxWrites is how many writes of all clients are under way at the same time.
const maxWrites = 16

// unit is what stands behind one unit id.
type unit struct {
	*serving
	tables *[4]*table
}

func (u unit) table(t server.Table) *table {
	switch t {
	case server.Coil:
		return u.tables[0]
	case server.DiscreteInput:
		return u.tables[1]
	case server.InputRegister:
		return u.tables[2]
	}
	return u.tables[3]
}

// ReadBits implements server.Handler.
func (u unit) ReadBits(_ context.Context, t server.Table, address uint16, dst []bool) error {
	return u.image.get(u.table(t), int(address), len(dst), func(at int, data []byte) {
		for k := range len(data) / 2 {
			dst[at+k] = data[2*k+1] != 0
		}
	})
}

// ReadRegisters implements server.Handler.
func (u unit) ReadRegisters(_ context.Context, t server.Table, address uint16, dst []uint16) error {
	return u.image.get(u.table(t), int(address), len(dst), func(at int, data []byte) {
		for k := range len(data) / 2 {
			dst[at+k] = binary.BigEndian.Uint16(data[2*k:])
		}
	})
}

// WriteBits implements server.Handler.
func (u unit) WriteBits(ctx context.Context, t server.Table, address uint16, values []bool) error {
	data := make([]byte, 2*len(values))
	for i, on := range values {
		if on {
			data[2*i+1] = 1
		}
	}
	return u.put(ctx, u.table(t), int(address), data)
}

// WriteRegisters implements server.Handler. Unlike there, values before the one
// that fails were written: what a device did cannot be taken back.
func (u unit) WriteRegisters(ctx context.Context, t server.Table, address uint16, values []uint16) error {
	data := make([]byte, 0, 2*len(values))
	for _, v := range values {
		data = binary.BigEndian.AppendUint16(data, v)
	}
	return u.put(ctx, u.table(t), int(address), data)
}

// MaskRegister implements server.MaskWriter. What is not good is not changed: what
// came of that would be an order that nobody gave.
func (u unit) MaskRegister(ctx context.Context, address, and, or uint16) error {
	t := u.tables[3]
	if t == nil {
		return server.IllegalAddress
	}
	var data [2]byte
	err := u.image.get(t, int(address), 1, func(_ int, shown []byte) { copy(data[:], shown) }, func(p *point) error {
		if p.write && !p.usable {
			return server.DeviceFailure
		}
		return nil
	})
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(data[:], binary.BigEndian.Uint16(data[:])&and|or&^and)
	return u.put(ctx, t, int(address), data[:])
}

// order is one value that a client writes.
type order struct {
	point *point
	value float64
}

// put makes commands of what a client writes.
func (u unit) put(ctx context.Context, t *table, address int, data []byte) error {
	if u.opts.readOnly {
		return server.IllegalFunction
	}
	// As the role-based authorization of Modbus/TCP Security has it.
	if roles := u.opts.writeRoles; len(roles) > 0 && !slices.Contains(roles, server.PeerFrom(ctx).Role) {
		u.log.Warn("a write was refused", "client", client(ctx), "address", address, "count", len(data)/2, "error", "the role may not write")
		return server.IllegalFunction
	}
	orders, err := u.orders(t, address, data)
	if err != nil {
		u.log.Warn("a write was refused", "client", client(ctx), "address", address, "count", len(data)/2, "error", err)
		return err
	}
	select {
	case u.writes <- struct{}{}:
		defer func() { <-u.writes }()
	default:
		return busy
	}
	deadline := u.clock.Now().Add(u.opts.writeTimeout)
	for _, o := range orders {
		if err := u.command(ctx, o, deadline); err != nil {
			return err
		}
	}
	return nil
}

// orders checks everything that a request writes before anything is done.
func (u unit) orders(t *table, address int, data []byte) ([]order, error) {
	if t == nil {
		return nil, server.IllegalAddress
	}
	var orders []order
	end := address + len(data)/2
	for at := address; at < end; {
		p := t.at(at)
		switch {
		case p == nil:
			return nil, fmt.Errorf("%w: %d is not in the map", server.IllegalAddress, at)
		case !p.write:
			return nil, fmt.Errorf("%w: %s: not to be written", server.IllegalAddress, p)
		case int(p.address.Start()) != at || at+p.address.Width() > end:
			return nil, fmt.Errorf("%w: %s: want its %d registers together", server.IllegalAddress, p, p.address.Width())
		}
		orders = append(orders, order{point: p})
		at += p.address.Width()
	}
	for i := range orders {
		p := orders[i].point
		v, err := p.decode(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", server.IllegalValue, p, err)
		}
		orders[i].value = v
		data = data[2*p.address.Width():]
	}
	return orders, nil
}

// at returns who has an address; nil for nobody.
func (t *table) at(address int) *point {
	for _, r := range t.runs {
		if address >= r.start && address < r.end {
			return t.owner[r.cell+address-r.start]
		}
	}
	return nil
}

// decode returns the value that registers stand for, in the point's unit.
func (p *point) decode(data []byte) (float64, error) {
	raw, quality := p.address.Decode(data)
	if quality != model.Good {
		return 0, fmt.Errorf("the registers are %s", quality)
	}
	n := 2 * p.address.Width()
	var missing [8]byte
	if p.address.EncodeMissing(missing[:]) && bytes.Equal(missing[:n], data[:n]) {
		return 0, errors.New("the registers mean not available")
	}
	if p.address.Single() {
		// As the client wrote it, 0.1 and not 0.10000000149: limits and steps have
		// decimals.
		raw, _ = strconv.ParseFloat(strconv.FormatFloat(raw, 'g', -1, 32), 64)
	}
	v := raw*p.scale + p.offset
	if !model.Storable(v) || !p.address.Within(v) {
		return 0, fmt.Errorf("%v is out of range", v)
	}
	return v, nil
}

// command gives a command and waits for what becomes of it. It is nil only when
// the device certainly took the value.
func (u unit) command(ctx context.Context, o order, deadline time.Time) error {
	left := deadline.Sub(u.clock.Now())
	if left < time.Millisecond {
		u.log.Warn("a write was not given, for the request's time is over", "client", client(ctx), "point", o.point.String(), "value", o.value)
		return server.DeviceFailure
	}
	// Shortly beyond, so that the state in which it ends is heard of.
	bound, cancel := context.WithTimeout(ctx, left+300*time.Millisecond)
	defer cancel()
	r, err := u.north.Control(bound, model.Command{Model: o.point.model, Control: o.point.name, Value: o.value,
		Origin: origin(u.id), User: client(ctx), Timeout: left})
	answer := exceptionOf(r, err)
	log := u.log.With("client", client(ctx), "model", o.point.model, "control", o.point.name, "value", o.value, "state", r.State, "command", r.ID)
	u.refresher.changed(o.point.model)
	if answer != 0 {
		log.Warn("a client wrote, and the device did not certainly take it", "answer", answer, "error", err)
		return answer
	}
	log.Info("a client wrote")
	return nil
}

func origin(id string) string { return "modbus:" + id }

// exceptionOf returns what a write is answered with; 0 when the device certainly
// took it. What is not certain is never a failure either, for a client would
// repeat it.
func exceptionOf(r model.CommandResult, err error) server.Exception {
	switch {
	case err == nil && r.State.OK():
		return 0
	case r.State == model.CommandRejected:
		switch r.Reason {
		case "limit", "step", "not_finite":
			return server.IllegalValue
		}
		return server.DeviceFailure
	case r.State == model.CommandFailed, r.State == model.CommandExpired,
		r.State == model.CommandCancelled, r.State == model.CommandSuperseded:
		return server.DeviceFailure
	case r.State == "" && errors.Is(err, model.ErrInvalid):
		return server.IllegalValue
	}
	return acknowledge
}

// client names who sent a request, for the journal: the common name in its
// certificate, or its address.
func client(ctx context.Context) string {
	p := server.PeerFrom(ctx)
	name := p.CommonName
	if p.Serial {
		name = "serial line"
	}
	if name == "" && p.Addr != nil {
		name = p.Addr.String()
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
	}
	if p.Role != "" {
		name += " (" + p.Role + ")"
	}
	return plain(name)
}

// plain makes a text that others chose one that a command may bear.
func plain(s string) string {
	b := []byte(nil)
	for _, r := range s {
		if !model.PlainText(string(r), 4) {
			r = '?'
		}
		if len(b)+len(string(r)) > 64 {
			break
		}
		b = append(b, string(r)...)
	}
	return string(b)
}
