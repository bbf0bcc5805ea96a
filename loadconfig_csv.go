package voltage

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// csvTable reads a point table. Channels that name the same file share it, and
// its faults are reported once.
func (l *loader) csvTable(p loadPath, name string) *loadTable {
	path := l.relative(name)
	if t, ok := l.tables[path]; ok {
		return t
	}
	t := &loadTable{index: map[string]int{}, incomplete: true}
	l.tables[path] = t
	if name == "" {
		l.fail(p, "want the name of a CSV file or a list of points")
		return t
	}
	data, err := l.read(path, loadMaxCSV)
	if err != nil {
		l.addAt(p, l.line(p), fmt.Sprintf("%s: %s", path, loadText(loadCause(err))), loadCause(err))
		return t
	}
	l.files = append(l.files, path)
	in := &loadCSV{l: l, file: len(l.files) - 1, table: t}
	t.at = func(i int, field, text string) { in.fault(in.lines[i], field, text) }
	t.incomplete = false
	in.readAll(data)
	return t
}

// loadCSV reads one point table.
type loadCSV struct {
	l      *loader
	file   int
	table  *loadTable
	header []string // field of each column; "" for a column to be left empty
	lines  []int    // by point
}

func (in *loadCSV) fault(line int, field, text string) {
	in.l.add(in.file, line, field, text, model.ErrInvalid)
}

// stop reports a fault after which the rest of the table is not read.
func (in *loadCSV) stop(line int, field, text string) {
	in.fault(line, field, text)
	in.table.incomplete = true
}

func (in *loadCSV) readAll(data []byte) {
	loadRecords(data, func(line int, text string) { in.stop(line, "", text) }, func(line int, record []string) bool {
		if in.header == nil {
			return in.readHeader(line, record)
		}
		if len(in.table.points) == channel.MaxPoints {
			in.stop(line, "", fmt.Sprintf("more than %d points", channel.MaxPoints))
			return false
		}
		in.readRow(line, record)
		return true
	})
}

// loadRecords gives the lines of a table to take, the header first, as long as
// it wants more. stop is told what ends the table before its end.
func loadRecords(data []byte, stop func(line int, text string), take func(line int, record []string) bool) {
	if line := loadNotUTF8(data); line > 0 {
		stop(line, "not UTF-8 text: save the file as \"CSV UTF-8\"")
		return
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // as spreadsheets write it
	r := csv.NewReader(bytes.NewReader(data))
	r.Comma = loadSeparator(data)
	r.Comment = '#'
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	r.TrimLeadingSpace = true
	for began := false; ; {
		record, err := r.Read()
		var parse *csv.ParseError
		switch {
		case err == io.EOF && !began:
			stop(1, "empty: want a header line that names the columns")
			return
		case err == io.EOF:
			return
		case errors.As(err, &parse):
			stop(parse.Line, fmt.Sprintf("column %d: %s", parse.Column, parse.Err))
			return
		case err != nil:
			stop(1, err.Error())
			return
		}
		line, _ := r.FieldPos(0)
		for i := range record {
			record[i] = strings.TrimSpace(record[i])
		}
		if !slices.ContainsFunc(record, func(cell string) bool { return cell != "" }) {
			continue
		}
		began = true
		if !take(line, record) {
			return
		}
	}
}

// loadSeparator is the one of comma and semicolon that the header has more of.
func loadSeparator(data []byte) rune {
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if bytes.Count(line, []byte(";")) > bytes.Count(line, []byte(",")) {
			return ';'
		}
		break
	}
	return ','
}

func (in *loadCSV) readHeader(line int, record []string) bool {
	known := in.l.fieldsOf(reflect.TypeFor[model.Point]()).names
	in.header = make([]string, len(record))
	for i, cell := range record {
		name := strings.ToLower(cell)
		switch {
		case name == "":
		case !slices.Contains(known, name):
			in.fault(line, "", fmt.Sprintf("unknown column %.40q%s", cell, loadSuggest(cell, known)))
		case slices.Contains(in.header, name):
			in.fault(line, name, "the column is there twice")
		default:
			in.header[i] = name
		}
	}
	if !slices.Contains(in.header, "id") {
		in.stop(line, "id", "the column is missing; the first line names the columns")
		return false
	}
	return true
}

func (in *loadCSV) readRow(line int, record []string) {
	t := in.table
	for len(record) > len(in.header) && record[len(record)-1] == "" {
		record = record[:len(record)-1]
	}
	if len(record) != len(in.header) {
		in.stop(line, "", fmt.Sprintf("%d cells, and the header has %d; a text with the separator in it needs quotes", len(record), len(in.header)))
		return
	}
	var p model.Point
	var skip []string
	for i, cell := range record {
		name := in.header[i]
		if cell == "" || name == "" {
			continue
		}
		if err := loadPointField(&p, name, cell); err != nil {
			_, text := loadLocate(loadText(err), []string{name})
			in.fault(line, name, text)
			skip = append(skip, name)
		}
	}
	if p.ID == "" {
		in.fault(line, "id", "missing")
		skip = append(skip, "id")
	}
	i := len(t.points)
	t.points = append(t.points, p)
	t.broken = append(t.broken, len(skip) > 0)
	in.lines = append(in.lines, line)
	skip = t.check(in.l, i, skip)
	if j, ok := t.add(i, skip); !ok {
		in.fault(line, "id", fmt.Sprintf("point %s is there twice, first on line %d", p.ID, in.lines[j]))
	}
}

// loadPointField sets the field of a column from a cell that is not empty.
func loadPointField(p *model.Point, name, cell string) error {
	number := func(to *float64) error {
		v, err := loadFloat(cell)
		*to = v
		return err
	}
	bound := func(to **float64) error {
		*to = new(float64)
		return number(*to)
	}
	truth := func(to *bool) error {
		switch strings.ToLower(cell) {
		case "true", "1":
			*to = true
		case "false", "0":
		default:
			return fmt.Errorf("%.40q is neither true nor false", cell)
		}
		return nil
	}
	switch name {
	case "id":
		p.ID = cell
	case "name":
		p.Name = cell
	case "kind":
		return p.Kind.UnmarshalText([]byte(cell))
	case "address":
		p.Address = cell
	case "scan":
		p.Scan = cell
	case "scale":
		return number(&p.Scale)
	case "offset":
		return number(&p.Offset)
	case "unit":
		p.Unit = cell
	case "text":
		return truth(&p.Text)
	case "min":
		return bound(&p.Min)
	case "max":
		return bound(&p.Max)
	case "step":
		return number(&p.Step)
	case "read_back":
		return truth(&p.ReadBack)
	case "tolerance":
		return number(&p.Tolerance)
	case "labels":
		var err error
		p.Labels, err = loadLabels(cell)
		return err
	default:
		return errors.New("this column is not read from tables")
	}
	return nil
}

// loadLabels reads "0=off;1=on".
func loadLabels(cell string) (map[int]string, error) {
	labels := map[int]string{}
	for part := range strings.SplitSeq(cell, ";") {
		number, text, ok := strings.Cut(part, "=")
		text = strings.TrimSpace(text)
		if !ok || text == "" {
			return nil, fmt.Errorf("%.40q: want labels such as 0=off;1=on", part)
		}
		n, err := loadInt(strings.TrimSpace(number))
		if err != nil {
			return nil, err
		}
		if !n.IsInt64() || n.Int64() < math.MinInt32 || n.Int64() > math.MaxInt32 {
			return nil, fmt.Errorf("%.40q is out of range", number)
		}
		value := int(n.Int64())
		if _, twice := labels[value]; twice {
			return nil, fmt.Errorf("%d has two labels", value)
		}
		labels[value] = text
	}
	return labels, nil
}
