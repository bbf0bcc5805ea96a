package northbound

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func row(address string) Row { return Row{Address: address, Model: "m", Point: "p"} }

func TestMapFaults(t *testing.T) {
	t.Parallel()
	with := func(r Row, change func(*Row)) Row { change(&r); return r }
	for name, c := range map[string]struct {
		rows []Row
		want string
	}{
		"nothing":           {nil, "map: 0 rows"},
		"address":           {[]Row{row("holding:x")}, `map row 1: invalid: address "holding:x": number "x"`},
		"no point":          {[]Row{{Address: "coil:1", Model: "m"}}, "map row 1: invalid: point: the id is empty"},
		"no owner":          {[]Row{{Address: "coil:1", Point: "p"}}, "map row 1: invalid: model: missing"},
		"two owners":        {[]Row{{Address: "coil:1", Point: "p", Model: "m", Channel: "c"}}, "not both"},
		"unit":              {[]Row{with(row("coil:1"), func(r *Row) { r.Unit = 248 })}, "unit 248: want 1 to 247"},
		"overlap":           {[]Row{row("holding:1:int32"), row("holding:2")}, `map row 2: invalid: address "holding:2": unit 1 has row 1 there, "holding:1:int32"`},
		"duplicate":         {[]Row{row("coil:2"), row("00003")}, "row 1 there"},
		"overlapping bits":  {[]Row{row("holding:2:bits0-3"), row("holding:2:bit3")}, "row 1 there"},
		"bits and all":      {[]Row{row("holding:2:bit3"), row("holding:2")}, "row 1 there"},
		"too wide":          {[]Row{row("holding:65535:int32")}, "go beyond 65535"},
		"rate":              {[]Row{row("holding:1:int16 rate=5")}, "rate= is for devices"},
		"field":             {[]Row{with(row("holding:1"), func(r *Row) { r.Field = "unit" })}, "want value, quality or age"},
		"quality in a bit":  {[]Row{with(row("holding:1:bit1"), func(r *Row) { r.Field = FieldQuality })}, "numbers 0 to 8 of a quality"},
		"quality in bits":   {[]Row{with(row("holding:1:bits0-2"), func(r *Row) { r.Field = FieldQuality })}, "numbers 0 to 8"},
		"age as text":       {[]Row{with(row("holding:1:string4"), func(r *Row) { r.Field = FieldAge })}, "of a age"},
		"scaled bit":        {[]Row{with(row("coil:1"), func(r *Row) { r.Scale = 2 })}, "for numbers"},
		"written input":     {[]Row{with(row("input:1"), func(r *Row) { r.Write = true })}, "write: input registers are only read"},
		"written channel":   {[]Row{{Address: "coil:1", Channel: "c", Point: "1", Write: true}}, "not to channels"},
		"written part":      {[]Row{with(row("holding:1:uint8hi"), func(r *Row) { r.Write = true })}, "whole registers"},
		"written text":      {[]Row{with(row("holding:1:string2"), func(r *Row) { r.Write = true })}, "whole registers"},
		"written quality":   {[]Row{with(row("holding:1"), func(r *Row) { r.Write, r.Field = true, FieldQuality })}, "the quality of a value cannot be written"},
		"all in one go":     {[]Row{row("x"), row("y")}, "map row 2"},
		"reference and bit": {[]Row{row("40001:bit1"), row("holding:0:bit1")}, "row 1 there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Map(c.rows).compile(maxRTUUnit)
			require.ErrorIs(t, err, model.ErrInvalid)
			assert.Contains(t, err.Error(), c.want)
		})
	}
	_, err := Map{row("holding:1:bit1"), row("holding:1:bit2"), row("holding:1:uint8hi"), {Unit: 2, Address: "holding:1", Model: "m", Point: "p"}, row("input:1")}.compile(255)
	require.NoError(t, err, "parts of one register, and other units and tables")
}

func TestOptionFaults(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string][]Option{
		"bad \"x\": want na":            {BadValues("x")},
		"refresh 1ms":                   {Refresh(1e6)},
		"stale 1ms":                     {Stale(1e6)},
		"write_timeout 2m0s":            {WriteTimeout(120e9)},
		"max_connections 0":             {MaxConnections(0)},
		"allow \"10.0.0.0/33\"":         {Allow("10.0.0.0/33")},
		"write_roles":                   {WriteRoles("operator")},
		"belong to serial lines":        {Line(nil)},
		"whoever reaches the port":      nil,
		"want 100ms to 1h, and no more": {Refresh(0)},
	} {
		_, err := TCP("0.0.0.0:1502", Map{row("coil:1")}, opts...)(testSetup(t))
		require.ErrorIs(t, err, model.ErrInvalid)
		assert.Contains(t, err.Error(), strings.TrimSuffix(want, ", and no more"))
	}
	for _, listen := range []string{"127.0.0.1:0", "localhost:502", "[::1]:502"} {
		_, err := TCP(listen, Map{row("coil:1")})(testSetup(t))
		require.NoError(t, err, listen)
	}
	for _, listen := range []string{"", "502", ":502", "192.168.1.5:502", "gateway:502", "127.0.0.1:"} {
		_, err := TCP(listen, Map{row("coil:1")})(testSetup(t))
		require.ErrorIs(t, err, model.ErrInvalid, listen)
	}
	_, err := TCP(":502", Map{row("coil:1")}, Allow("10.0.0.0/8", "fd00::1"))(testSetup(t))
	require.NoError(t, err)
	_, err = TLS(":802", TLSConfig{CertFile: "a"}, Map{row("coil:1")})(testSetup(t))
	require.ErrorIs(t, err, model.ErrInvalid)
	assert.Equal(t, "invalid: key_file: missing\ninvalid: client_ca_file: missing", err.Error())
	_, err = RTU("ttyUSB0", Map{row("coil:1")}, Allow("10.0.0.0/8"))(testSetup(t))
	require.ErrorContains(t, err, "a serial line")
}

// Whatever a map says, it is refused with rows named, or it can be served.
func FuzzMap(f *testing.F) {
	f.Add("holding:1:int32", "holding:3:string4", "", 0.0, true)
	f.Add("40001:bits0-3", "holding:0:bits4-7 na=0xF", "quality", 0.0, false)
	f.Add("coil:1 invert", "input:65535:float32", "age", 1e300, false)
	f.Add("input:7:uint16 na=7 range=0..9", "input:8:bcd32:DCBA", "age", -0.1, false)
	f.Fuzz(func(t *testing.T, a, b, field string, scale float64, write bool) {
		m := Map{{Address: a, Model: "m", Point: "p", Scale: scale, Write: write}, {Address: b, Model: "m", Point: "q", Field: Field(field)}}
		l, err := m.compile(255)
		if err != nil {
			require.ErrorIs(t, err, model.ErrInvalid)
			require.Contains(t, err.Error(), "map row ")
			return
		}
		bench := newBench(t, m)
		for _, v := range []model.Value{{}, {Value: 1e15, Time: bench.clock.Now()}, bench.good(-3.5), {Text: "text", Quality: model.Stale}} {
			bench.show(map[string]model.Value{"p": v, "q": v})
			for _, p := range l.points {
				table := bench.tables[p.table]
				_ = bench.image.get(table, int(p.address.Start()), p.address.Width(), func(_ int, data []byte) {
					require.Len(t, data, 2*p.address.Width())
				})
				if orders, err := bench.locate(t.Context(), table, int(p.address.Start()), p.address.Width()); err == nil {
					_ = bench.decode(t.Context(), orders, make([]byte, 2*p.address.Width()))
				}
			}
			for _, f := range bench.tables[tableOf(l.points[0].address)].fails {
				require.LessOrEqual(t, f, uint8(2))
			}
		}
	})
}
