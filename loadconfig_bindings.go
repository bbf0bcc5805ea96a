package voltage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/voltageems/voltage/model"
)

// loadMaxBindings is the most rows of a table of bindings.
const loadMaxBindings = 100_000

// loadBinding is a row of the table of bindings.
type loadBinding struct {
	name, source string
	kind         model.Kind
	kindGiven    bool
	file, line   int
}

var loadBindingColumns = []string{"model", "name", "channel", "point", "kind"}

// readBindings reads the table of bindings into l.bindings, by model.
func (l *loader) readBindings(name string, models []loadModel) {
	l.bindings = map[string][]loadBinding{}
	p := loadPath{"bindings"}
	if name == "" || l.isBroken(p) {
		return
	}
	path := l.relative(name)
	data, err := l.read(path, loadMaxCSV)
	if err != nil {
		l.addAt(p, l.line(p), fmt.Sprintf("%s: %s", path, loadText(loadCause(err))), loadCause(err))
		return
	}
	l.files = append(l.files, path)
	file := len(l.files) - 1
	ids := map[string]bool{}
	for _, m := range models {
		ids[m.ID] = true
	}
	bad := func(line int, field, format string, args ...any) {
		l.add(file, line, field, fmt.Sprintf(format, args...), model.ErrInvalid)
	}
	var header []string
	rows := 0
	loadRecords(data, func(line int, text string) { bad(line, "", "%s", text) }, func(line int, record []string) bool {
		if header == nil {
			header = make([]string, len(record))
			for i, cell := range record {
				header[i] = strings.ToLower(cell)
				switch {
				case !slices.Contains(loadBindingColumns, header[i]):
					bad(line, "", "unknown column %.40q%s", cell, loadSuggest(cell, loadBindingColumns))
				case slices.Index(header, header[i]) < i:
					bad(line, header[i], "the column is there twice")
				}
			}
			for _, column := range loadBindingColumns[:4] {
				if !slices.Contains(header, column) {
					bad(line, column, "the column is missing; the first line names the columns")
					return false
				}
			}
			return true
		}
		if rows++; rows > loadMaxBindings {
			bad(line, "", "more than %d rows", loadMaxBindings)
			return false
		}
		if len(record) != len(header) {
			bad(line, "", "%d cells, and the header has %d", len(record), len(header))
			return true
		}
		cells := map[string]string{}
		for i, cell := range record {
			cells[header[i]] = cell
		}
		b := loadBinding{name: cells["name"], source: cells["channel"] + ":" + cells["point"], file: file, line: line, kindGiven: cells["kind"] != ""}
		kind, err := model.ParseKind(cells["kind"])
		b.kind = kind
		_, refErr := model.ParseRef(b.source)
		switch {
		case err != nil:
			bad(line, "kind", "%s", loadText(err))
		case !model.ValidID(b.name):
			bad(line, "name", "%.80q: use 1 to %d of A-Z a-z 0-9 _ . -", b.name, model.MaxIDLength)
		case refErr != nil:
			bad(line, "channel", "%.140q: want the ids of a channel and a point", b.source)
		case !ids[cells["model"]]:
			bad(line, "model", "the file has no model %.64q%s", cells["model"], loadNearest(cells["model"], ids))
		default:
			l.bindings[cells["model"]] = append(l.bindings[cells["model"]], b)
		}
		return true
	})
}

// bindTable adds the rows of the table of bindings to a model.
func (l *loader) bindTable(inst *model.Instance, t *model.Template, names *loadNames, bound map[string]bool) {
	lines := map[string]int{}
	for _, b := range l.bindings[inst.ID] {
		bad := func(format string, args ...any) {
			l.add(b.file, b.line, "", fmt.Sprintf(format, args...), model.ErrInvalid)
		}
		if first, twice := lines[b.name]; twice {
			bad("%s of model %s is bound twice, first on line %d", b.name, inst.ID, first)
			continue
		}
		lines[b.name] = b.line
		if k, ok := names.kinds[b.name]; ok {
			bad("%s of model %s is bound twice: the model's %s bind it, too", b.name, inst.ID, loadBindingKey(k))
			continue
		}
		k, point := b.kind, model.Point{}
		state := l.point(b.source, &point)
		if !b.kindGiven && state == pointKnown {
			k = point.Kind
		}
		if t != nil && !b.kindGiven {
			for _, other := range model.Kinds() {
				if _, ok := t.Points(other)[b.name]; ok {
					k = other
				}
			}
		}
		switch {
		case state == pointMissing:
			bad("%s of model %s: there is no point %s", b.name, inst.ID, b.source)
		case state == pointKnown && k.Writable() && !point.Kind.Writable():
			bad("%s of model %s: point %s is a %s and cannot be written", b.name, inst.ID, b.source, point.Kind)
		}
		bound[b.source], names.kinds[b.name] = true, k
		to := map[model.Kind]*map[string]string{model.Measurement: &inst.Measurements, model.Signal: &inst.Signals,
			model.Control: &inst.Controls, model.Adjustment: &inst.Adjustments}[k]
		*to = loadJoin(*to, map[string]string{b.name: b.source})
	}
}

// What the file knows of a point.
const (
	pointKnown   = iota
	pointMissing // the channel is the file's, and has no such point
	pointForeign // the channel is not the file's, or not known completely
)

// point looks up "channel:point".
func (l *loader) point(source string, to *model.Point) int {
	ref, err := model.ParseRef(source)
	t, ok := l.channels[ref.Owner]
	if err != nil || !ok {
		return pointForeign
	}
	i, ok := t.index[ref.Name]
	switch {
	case ok && t.broken[i]:
		return pointForeign
	case ok:
		*to = t.points[i]
		return pointKnown
	case t.incomplete:
		return pointForeign
	}
	return pointMissing
}
