package northbound

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

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
	return u.tables[holding]
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
	orders, err := u.locate(ctx, u.tables[holding], int(address), 1)
	if err != nil {
		return err
	}
	leave, err := u.enter(ctx, orders, true)
	if err != nil {
		return err
	}
	defer leave()
	register, ok := u.image.base(orders[0].point, u.clock.Now())
	if !ok {
		return u.refused(ctx, fmt.Errorf("%w: %s: a mask, and the value is not good, or not known", server.DeviceFailure, orders[0].point))
	}
	if err := u.decode(ctx, orders, binary.BigEndian.AppendUint16(nil, register&and|or&^and)); err != nil {
		return err
	}
	return u.give(ctx, orders)
}

// order is one value that a client writes.
type order struct {
	point *point
	data  []byte // the registers, or bits, as written
	value float64
}

// put makes commands of what a client writes.
func (u unit) put(ctx context.Context, t *table, address int, data []byte) error {
	orders, err := u.locate(ctx, t, address, len(data)/2)
	if err == nil {
		err = u.decode(ctx, orders, data)
	}
	if err != nil {
		return err
	}
	leave, err := u.enter(ctx, orders, false)
	if err != nil {
		return err
	}
	defer leave()
	return u.give(ctx, orders)
}

// refused logs why nothing is done.
func (u unit) refused(ctx context.Context, err error) error {
	u.quiet.Warn("a write was refused", "client", client(ctx), "error", err)
	return err
}

// locate finds what a request writes, whole values only, and whether the client may.
func (u unit) locate(ctx context.Context, t *table, address, n int) ([]order, error) {
	if u.opts.readOnly {
		return nil, server.IllegalFunction
	}
	bad := func(e server.Exception, format string, args ...any) ([]order, error) {
		return nil, u.refused(ctx, fmt.Errorf("%w: "+format, append([]any{e}, args...)...))
	}
	// As the role-based authorization of Modbus/TCP Security has it.
	if roles := u.opts.writeRoles; len(roles) > 0 && !slices.Contains(roles, server.PeerFrom(ctx).Role) {
		return bad(server.IllegalFunction, "%d: the role may not write", address)
	}
	var orders []order
	end := address + n
	for at := address; at < end; {
		p := t.at(at)
		switch {
		case p == nil:
			return bad(server.IllegalAddress, "%d is not in the map", at)
		case !p.write:
			return bad(server.IllegalAddress, "%s: not to be written", p)
		case int(p.address.Start()) != at || at+p.address.Width() > end:
			return bad(server.IllegalAddress, "%s: want its %d registers together", p, p.address.Width())
		}
		orders = append(orders, order{point: p})
		at += p.address.Width()
	}
	return orders, nil
}

// decode fills in the values.
func (u unit) decode(ctx context.Context, orders []order, data []byte) error {
	for i := range orders {
		p := orders[i].point
		n := 2 * p.address.Width()
		v, err := p.decode(data[:n])
		if err != nil {
			return u.refused(ctx, fmt.Errorf("%w: %s: %w", server.IllegalValue, p, err))
		}
		orders[i].data, orders[i].value, data = data[:n], v, data[n:]
	}
	return nil
}

// enter begins to write, where that is possible now.
func (u unit) enter(ctx context.Context, orders []order, mask bool) (leave func(), err error) {
	if leave, err = u.gate.enter(host(ctx), orders, mask); err != nil {
		err = u.refused(ctx, err)
	}
	return leave, err
}

// give gives the commands, until one does not succeed.
func (u unit) give(ctx context.Context, orders []order) error {
	// The client's patience began when it sent the request.
	deadline := u.clock.Now().Add(u.opts.writeTimeout - server.Waited(ctx))
	for i, o := range orders {
		if err := u.command(ctx, o, deadline); err != nil {
			if i > 0 { // the other codes say that nothing was done
				return server.Acknowledge
			}
			return err
		}
	}
	return nil
}

// at returns who has an address; nil for nobody.
func (t *table) at(address int) *point {
	if t == nil {
		return nil
	}
	i := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].end > address })
	if i == len(t.runs) || address < t.runs[i].start {
		return nil
	}
	return t.owner[t.runs[i].cell+address-t.runs[i].start]
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
		u.quiet.Warn("a write was not given, for the request's time is over", "client", client(ctx), "point", o.point.String(), "value", o.value)
		return server.DeviceFailure
	}
	// Shortly beyond, so that the state in which it ends is heard of.
	bound, cancel := context.WithTimeout(ctx, left+300*time.Millisecond)
	defer cancel()
	r, err := u.north.Control(bound, model.Command{Model: o.point.model, Control: o.point.name, Value: o.value,
		Origin: origin(u.id), User: client(ctx), Timeout: left})
	answer := exceptionOf(r, err)
	u.image.wrote(o, answer, u.clock.Now())
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
		case "limit", "step", "enum", "not_finite":
			return server.IllegalValue
		}
		return server.DeviceFailure
	case r.State == model.CommandFailed, r.State == model.CommandExpired,
		r.State == model.CommandCancelled, r.State == model.CommandSuperseded:
		return server.DeviceFailure
	case r.State == "" && errors.Is(err, model.ErrInvalid):
		return server.IllegalValue
	}
	return server.Acknowledge
}

// host is where a request came from.
func host(ctx context.Context) string {
	p := server.PeerFrom(ctx)
	if p.Addr == nil {
		return ""
	}
	if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
		return host
	}
	return p.Addr.String()
}

// client names who sent a request, for the journal: the common name in its
// certificate, or its address.
func client(ctx context.Context) string {
	p := server.PeerFrom(ctx)
	name := p.CommonName
	if p.Serial {
		name = "serial line"
	}
	if name == "" {
		name = host(ctx)
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
