package northbound

import (
	"errors"
	"fmt"
	"slices"

	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

// MaxRows bounds a map.
const MaxRows = 20000

// Field says what of a point a row shows.
type Field string

// The fields. The empty one is FieldValue.
const (
	FieldValue   Field = "value"   // the value, in the point's unit before scale and offset
	FieldQuality Field = "quality" // a number, see the package documentation
	FieldAge     Field = "age"     // for how many seconds the value is not good; 0 while it is
)

// Row is one line of a Map: where a point of the site is shown.
type Row struct {
	// Unit is the Modbus unit id, 1 to 255, on a serial line up to 247. Zero
	// means 1.
	Unit int `yaml:"unit"`
	// Address is where the value lies, in the notation of package modbus, such as
	// "holding:100:float32:CDAB" or "40101:int16 na=-1". Values outside of its
	// range= are not shown and not taken. It may not limit the rate. Required.
	Address string `yaml:"address"`
	// Model or Channel, one of them, and Point name what is shown: a point of a
	// model by its name, or of a channel by its id. Required.
	Model   string `yaml:"model"`
	Channel string `yaml:"channel"`
	Point   string `yaml:"point"`
	// Field says what of the point is shown. Empty means the value.
	Field Field `yaml:"field"`
	// Scale and Offset turn the register's number into the point's unit, as those
	// of a channel's points: value = number·Scale + Offset. A zero Scale means 1.
	Scale  float64 `yaml:"scale"`
	Offset float64 `yaml:"offset"`
	// Write makes commands of what clients write here. It is for coils and holding
	// registers that show the value of a model's control or adjustment.
	Write bool `yaml:"write"`
}

// Map is what a server shows, and where. Registers and bits without a row do not
// exist.
type Map []Row

// tableNames are the four tables in the order of layout.
var tableNames = [4]string{"coil", "discrete", "input", "holding"}

const holding = 3 // among them

func tableOf(a modbus.Address) int { return slices.Index(tableNames[:], a.Table()) }

// check reads a row's address and says everything that is wrong with the row.
func (r Row) check(maxUnit int) (modbus.Address, error) {
	a, err := modbus.ParseAddress(r.Address)
	errs := []error{err}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r.Unit < 0 || r.Unit > maxUnit {
		bad("unit %d: want 1 to %d", r.Unit, maxUnit)
	}
	switch {
	case r.Model == "" && r.Channel == "":
		bad("model: missing; want a model, or a channel")
	case r.Model != "" && r.Channel != "":
		bad("channel %.40q: want a model or a channel, not both", r.Channel)
	case r.Model != "" && !model.ValidID(r.Model):
		errs = append(errs, model.CheckID("model", r.Model))
	case r.Channel != "" && !model.ValidID(r.Channel):
		errs = append(errs, model.CheckID("channel", r.Channel))
	}
	if !model.ValidID(r.Point) {
		errs = append(errs, model.CheckID("point", r.Point))
	}
	if !model.Finite(r.Scale) || !model.Finite(r.Offset) {
		bad("scale %v, offset %v: want finite numbers", r.Scale, r.Offset)
	}
	if err != nil {
		return a, errors.Join(errs...)
	}
	if a.Rate() {
		bad("address %.60q: rate= is for devices that are read", r.Address)
	}
	if scaled := r.Scale != 0 || r.Offset != 0; scaled && (a.Text() || a.Truth() || r.field() != FieldValue) {
		bad("scale: it is for numbers that show a value")
	}
	switch r.field() {
	case FieldValue:
	case FieldQuality, FieldAge:
		var room [250]byte
		if a.Text() || a.Truth() || a.Encode(room[:], float64(model.Offline)) != nil {
			bad("address %.60q: want a type that holds the numbers 0 to %d of a %s", r.Address, model.Offline, r.Field)
		}
	default:
		bad("field %.40q: want value, quality or age", r.Field)
	}
	if r.Write {
		switch t := a.Table(); {
		case t != "holding" && t != "coil":
			bad("write: %s are only read; want coil or holding", map[string]string{"input": "input registers", "discrete": "discrete inputs"}[t])
		case r.Channel != "":
			bad("write: commands go to controls and adjustments of models, not to channels")
		case r.field() != FieldValue:
			bad("write: the %s of a value cannot be written", r.Field)
		case a.Text(), a.Mask() != 0xFFFF:
			bad("write: want a number in whole registers, or a bool")
		}
	}
	return a, errors.Join(errs...)
}

func (r Row) field() Field {
	if r.Field == "" {
		return FieldValue
	}
	return r.Field
}

// layout is a map that was found to be right.
type layout struct {
	points []*point
	units  map[byte]*[4]*table
}

// compile checks a map and lays it out. The error has all faults, each with the
// number of its row.
func (m Map) compile(maxUnit int) (*layout, error) {
	if len(m) == 0 || len(m) > MaxRows {
		return nil, fmt.Errorf("%w: map: %d rows: want 1 to %d", model.ErrInvalid, len(m), MaxRows)
	}
	var errs []error
	l := &layout{units: map[byte]*[4]*table{}}
	for i, row := range m {
		a, err := row.check(maxUnit)
		for _, err := range split(err) {
			errs = append(errs, fault(i, err))
		}
		if err != nil {
			continue
		}
		p := &point{row: i + 1, unit: byte(max(row.Unit, 1)), address: a, table: tableOf(a), field: row.field(),
			scale: row.Scale, offset: row.Offset, write: row.Write, name: row.Point, model: row.Model, channel: row.Channel}
		if p.scale == 0 {
			p.scale = 1
		}
		l.points = append(l.points, p)
	}
	// Overlaps are found in the order of the rows: the later one is wrong.
	used := map[[3]int]cellUse{}
	for _, p := range l.points {
		for k := range p.address.Width() {
			cell := [3]int{int(p.unit), p.table, int(p.address.Start()) + k}
			u := used[cell]
			if u.mask&p.address.Mask() != 0 {
				errs = append(errs, fault(p.row-1, fmt.Errorf("address %.60q: unit %d has row %d there, %.60q",
					m[p.row-1].Address, p.unit, u.row, m[u.row-1].Address)))
				break
			}
			if u.row == 0 {
				u.row = p.row
			}
			u.mask |= p.address.Mask()
			used[cell] = u
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	l.lay()
	return l, nil
}

// cellUse is who has a register, and which of its bits.
type cellUse struct {
	row  int
	mask uint16
}

func fault(i int, err error) error {
	if !errors.Is(err, model.ErrInvalid) {
		err = fmt.Errorf("%w: %w", model.ErrInvalid, err)
	}
	return fmt.Errorf("map row %d: %w", i+1, err)
}

// split takes errors.Join apart.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

// lay makes the tables.
func (l *layout) lay() {
	sorted := slices.Clone(l.points)
	slices.SortStableFunc(sorted, func(a, b *point) int { return int(a.address.Start()) - int(b.address.Start()) })
	for _, p := range sorted {
		unit := l.units[p.unit]
		if unit == nil {
			unit = new([4]*table)
			l.units[p.unit] = unit
		}
		if unit[p.table] == nil {
			unit[p.table] = &table{}
		}
		unit[p.table].add(p)
	}
	for _, unit := range l.units {
		for _, t := range unit {
			if t != nil {
				t.fails, t.data = make([]uint8, len(t.owner)), make([]byte, 2*len(t.owner))
			}
		}
	}
}

// table is one of the four tables of a unit: the cells, registers or bits, that
// rows cover, in the order of their addresses.
type table struct {
	runs []run
	// by cell:
	data  []byte   // two bytes of each, as in modbus.Address.Decode
	fails []uint8  // how many points there have nothing to show
	owner []*point // the point, or one of those that share a register
}

// run is a range of addresses without a hole.
type run struct {
	start, end int // of addresses; end is the first after it
	cell       int // of start
}

// add puts a point at the end, or into the register at the end.
func (t *table) add(p *point) {
	start, width := int(p.address.Start()), p.address.Width()
	last := len(t.runs) - 1
	if last < 0 || t.runs[last].end < start {
		t.runs = append(t.runs, run{start, start, len(t.owner)})
		last++
	}
	r := &t.runs[last]
	p.cell = r.cell + start - r.start
	p.in = t
	for range start + width - r.end { // none where a register is shared
		t.owner = append(t.owner, p)
	}
	r.end = max(r.end, start+width)
}
