package voltage

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// Finding is what the linter has to say about a place in a profile.
type Finding struct {
	// Error is set when the profile cannot be used as it is; else it can, and is
	// probably wrong.
	Error bool
	// File and Line say where.
	File string
	Line int
	// Text says what, beginning with the field.
	Text string
}

// String returns the finding as compilers do: file:line: severity: text.
func (f Finding) String() string {
	severity := "warning"
	if f.Error {
		severity = "error"
	}
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, severity, f.Text)
}

// lintUnits are the usual units of energy sites. A wrong one is most often one
// that is written otherwise elsewhere, such as KW or kVAr.
var lintUnits = strings.Fields(`% ‰ °C K °F V mV kV A mA kA W kW MW VA kVA MVA var kvar Mvar Wh kWh MWh
	varh kvarh Mvarh VAh kVAh Ah kAh Hz mHz ° Ω mΩ kΩ F s ms min h d rpm bar mbar hPa Pa kPa m mm km m² m³ l l/h l/min m³/h
	m/s km/h W/m² kW/s kW/min W/s %/s %/min V/s Hz/s °C/min lx kg g t N Nm ppm dB dBm bit/s pH g/kWh kg/kWh EUR EUR/kWh`)

// lintBare are words in the names of measurements that have no unit.
var lintBare = []string{"factor", "cos", "cosphi", "ratio", "count", "counter", "number", "version", "code", "cycles", "index", "serial", "id", "thd"}

// LintProfile checks a device profile: everything that LoadProfile refuses, as
// errors, and what is allowed and probably wrong, as warnings: units, limits of
// commands, registers that overlap, scan classes that nobody uses. The findings
// are in the order of files and lines; none means that all is well. A point's
// findings can be accepted in the profile, by "accept: [POINT.FIELD]".
func LintProfile(path string, kinds ...channel.Kind) []Finding {
	return lintProfile(path, kinds, loadReadFile)
}

func lintProfile(path string, kinds []channel.Kind, read func(string, int64) ([]byte, error)) []Finding {
	pr, err := loadProfileFrom(path, kinds, read)
	if err != nil {
		return []Finding{{Error: true, File: path, Line: 1, Text: strings.TrimPrefix(err.Error(), path+": ")}}
	}
	errs := pr.count()
	known := maps.Clone(pr.seen)
	if pr.read {
		(&linter{loadProfile: pr, accepted: map[string]bool{}}).run()
	}
	_ = pr.err() // sorts
	var list []Finding
	for _, f := range pr.faults {
		list = append(list, Finding{Error: known[f.key()], File: pr.files[f.file], Line: f.line, Text: f.text})
	}
	if rest := pr.more; rest > 0 {
		list = append(list, Finding{Error: errs > loadMaxFaults, File: path, Line: 1, Text: fmt.Sprintf("and %d more", rest)})
	}
	return list
}

// linter looks for what is probably wrong in a profile.
type linter struct {
	*loadProfile
	accepted map[string]bool   // of the profile's accept, those that were found
	advisers []channel.Adviser // the drivers that look at their own side
}

// point reports something about a point, unless the profile accepts it.
func (l *linter) point(i int, field, format string, args ...any) {
	key := l.table.points[i].ID + "." + field
	if slices.Contains(l.layout.Accept, key) {
		l.accepted[key] = true
		return
	}
	l.table.at(i, field, fmt.Sprintf(format, args...))
}

func (l *linter) run() {
	l.header()
	used := map[string]bool{}
	for i, p := range l.table.points {
		used[p.Scan] = true
		if !l.table.broken[i] {
			l.one(i, p)
		}
	}
	for _, class := range slices.Sorted(maps.Keys(l.layout.Scans)) {
		if !used[class] {
			l.fail(loadPath{"scans", class}, "no point has this scan class")
		}
	}
	if len(l.table.points) == 0 && !l.table.incomplete {
		l.fail(loadPath{"points"}, "there are none")
	}
	l.drivers()
	l.alarmRules()
	for i, key := range l.layout.Accept {
		if !l.accepted[key] {
			l.fail(loadPath{"accept", i}, "%.80q: there is no such finding", key)
		}
	}
}

func (l *linter) header() {
	f := l.layout
	for _, field := range []struct{ key, value string }{{"name", f.Name}, {"manufacturer", f.Manufacturer}, {"model", f.Model}} {
		if field.value == "" {
			l.fail(loadPath{field.key}, "missing")
		}
	}
	if f.Source.Manual == "" && f.Source.URL == "" {
		l.fail(loadPath{"source"}, "missing: say from which manual the registers are, so that others can check them")
	}
	if len(f.Drivers) == 0 {
		l.fail(loadPath{"drivers"}, "missing: name the drivers that the addresses are for, such as modbus-tcp: {}")
	}
}

// one looks at a point.
func (l *linter) one(i int, p model.Point) {
	if name := loadName(p); name != p.Title() {
		l.point(i, "name", "%.64q is %s in models: use A-Z a-z 0-9 _ . - alone", p.Title(), name)
	}
	if s := math.Abs(p.Scale); s > 1e6 || s != 0 && s < 1e-9 {
		l.point(i, "scale", "%v is unusual", p.Scale)
	} else if s == 0 && l.has(loadPath{"points", i, "scale"}) {
		l.point(i, "scale", "0 is taken for 1: leave it out")
	}
	switch {
	case p.Unit != "" && p.Text:
		l.point(i, "unit", "%.20q: a text has none", p.Unit)
	case p.Unit != "" && !slices.Contains(lintUnits, p.Unit):
		l.point(i, "unit", "%.20q is not one of the usual ones%s", p.Unit, lintUnit(p.Unit))
	case p.Unit == "" && p.Kind == model.Measurement && !p.Text && len(p.Labels) == 0 && !lintUnitless(p):
		l.point(i, "unit", "missing")
	}
	if !p.Kind.Writable() {
		return
	}
	if p.Min == nil || p.Max == nil {
		l.point(i, "max", "min or max is missing: a command of any size passes")
	}
	if !p.ReadBack {
		l.point(i, "read_back", "missing: nobody learns whether the device took a command")
	}
	if p.Min != nil && p.Max != nil && p.Step > *p.Max-*p.Min && *p.Max > *p.Min {
		l.point(i, "step", "%v is more than from min to max", p.Step)
	}
}

// lintUnit suggests the usual way to write a unit.
func lintUnit(unit string) string {
	for _, u := range lintUnits {
		if strings.EqualFold(u, unit) {
			return "; did you mean " + u + "?"
		}
	}
	return ""
}

func lintUnitless(p model.Point) bool {
	// Whole words: the "id" of humidity and grid_power means nothing.
	words := strings.FieldsFunc(strings.ToLower(p.Title()), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	return slices.ContainsFunc(words, func(word string) bool { return slices.Contains(lintBare, word) })
}

// drivers asks the drivers.
func (l *linter) drivers() {
	for _, name := range slices.Sorted(maps.Keys(l.layout.Drivers)) {
		at := loadPath{"drivers", name}
		if _, ok := l.kinds[name]; !ok {
			l.fail(at, "this program does not know the driver, so nothing of it is checked%s",
				loadSuggest(name, slices.Sorted(maps.Keys(l.kinds))))
			continue
		}
		d, ok := l.try(name).(channel.Adviser)
		if !ok {
			continue
		}
		l.advisers = append(l.advisers, d)
		for _, a := range d.Advise() {
			if i, ok := l.table.index[a.Point]; ok && a.Point != "" {
				l.point(i, a.Field, "%s", a.Text)
			} else {
				l.fail(at, "%s", a.Text)
			}
		}
	}
}
