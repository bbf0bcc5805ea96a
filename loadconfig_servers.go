package voltage

import (
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// loadMaxRows bounds the tables of sections.
const loadMaxRows = 100_000

// loadServer is a server in the file. Sections are the keys that are not its
// own: the settings stand under the kind's name.
type loadServer struct {
	ID       string             `yaml:"id"`
	Name     string             `yaml:"name"`
	Server   string             `yaml:"server"`
	Disabled bool               `yaml:"disabled"`
	Sections map[string]loadRaw `yaml:",inline"`
}

func (l *loader) buildServers(list []loadServer) []channel.ServerConfig {
	var out []channel.ServerConfig
	for i, s := range list {
		p := loadPath{"servers", i}
		skip := l.unfit(p, reflect.TypeFor[loadServer](), "id", "server")
		if !slices.Contains(skip, "id") {
			if err := model.CheckID("server", s.ID); err != nil {
				_, text := loadLocate(loadText(err), []string{"id"})
				l.fail(p.with("id"), "%s", text)
			}
			l.once(p, "server", s.ID)
		}
		c := channel.ServerConfig{ID: s.ID, Name: s.Name, Disabled: s.Disabled}
		if c.Server = l.server(p, s, slices.Contains(skip, "server")); c.Server != nil {
			out = append(out, c)
		}
	}
	return out
}

// server makes a server's factory and has it check everything, which does no I/O.
func (l *loader) server(p loadPath, s loadServer, unfit bool) channel.ServerFactory {
	names := slices.Sorted(maps.Keys(l.servers))
	for _, key := range slices.Sorted(maps.Keys(s.Sections)) {
		_, known := l.servers[key]
		switch line := s.Sections[key].line; {
		case key == s.Server, known && unfit:
		case known:
			l.at(p.with(key), line, "settings of another server than this one, %s", s.Server)
		default:
			own := append(slices.Clone(l.fieldsOf(reflect.TypeFor[loadServer]()).names), names...)
			l.at(p.with(key), line, "unknown key%s", loadSuggest(key, own))
		}
	}
	if unfit {
		return nil
	}
	kind, ok := l.servers[s.Server]
	if !ok {
		know := "the program knows none"
		if len(names) > 0 {
			know = "known are " + strings.Join(names, ", ")
		}
		l.fail(p.with("server"), "unknown server %.40q: %s; the program passes them to LoadConfig, such as those of channel/all", s.Server, know)
		return nil
	}
	at := p.with(s.Server)
	var factory channel.ServerFactory
	keys, ok := l.settings(at, "server", s.Sections[s.Server], func(decode func(any) error) (made bool, err error) {
		factory, err = kind.Serve(decode)
		return factory != nil, err
	})
	if !ok {
		return nil
	}
	id := s.ID
	if !model.ValidID(id) {
		id = "server" // reported already
	}
	before := l.count()
	_, err := factory(channel.ServerSetup{ID: id, Report: func(...string) {}, Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock})
	l.failSection(at, keys, err)
	if l.count() > before {
		return nil
	}
	return factory
}

// loadRows says where the rows of a list stand that may be a table.
type loadRows struct {
	fields []string // of a row
	file   int
	lines  []int // by row, in a table; nil for a list in the configuration file
}

// loadRow finds the row that a message is about.
var loadRow = regexp.MustCompile(`^row ([0-9]{1,9}): `)

// failRow reports a message about a row of the list at p where that row stands.
// It is false for other messages.
func (l *loader) failRow(p loadPath, text string) bool {
	rows, ok := l.rows[p.String()]
	m := loadRow.FindStringSubmatch(text)
	if !ok || m == nil {
		return false
	}
	i, err := strconv.Atoi(m[1])
	if err != nil || i < 1 {
		return false
	}
	key, text := loadLocate(text[len(m[0]):], rows.fields)
	switch {
	case rows.lines == nil:
		l.fail(p.with(i-1).field(key), "%s", text)
	case i <= len(rows.lines):
		l.add(rows.file, rows.lines[i-1], key, text, model.ErrInvalid)
	default:
		return false
	}
	return true
}

// table reads a list of structs that is given as the name of a CSV file. It is
// false where the list stands in the configuration file.
func (l *loader) table(pair loadPair, v reflect.Value, p loadPath, expand bool) bool {
	n := pair.value
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Struct {
		return false
	}
	fields := l.fieldsOf(v.Type().Elem())
	l.rows[p.String()] = loadRows{fields: fields.names}
	if n.Kind != yaml.ScalarNode || loadNull(n) {
		return false
	}
	var name string
	before := l.count()
	l.decodeScalar(n, reflect.ValueOf(&name).Elem(), p, pair.line, expand)
	if l.count() > before {
		return true
	}
	if name == "" {
		l.at(p, pair.line, "want the name of a CSV file or a list")
		return true
	}
	path := l.relative(name)
	data, err := l.read(path, loadMaxCSV)
	if err != nil {
		l.addAt(p, pair.line, l.redact(fmt.Sprintf("%s: %s", path, loadText(loadCause(err)))), loadCause(err))
		return true
	}
	rows := loadRows{fields: fields.names, file: slices.Index(l.files, path)}
	if rows.file < 0 {
		rows.file = len(l.files)
		l.files = append(l.files, path)
	}
	fault := func(line int, field, text string) { l.add(rows.file, line, field, text, model.ErrInvalid) }
	var header []string
	loadRecords(data, func(line int, text string) { fault(line, "", text) }, func(line int, record []string) bool {
		if header == nil {
			header = l.tableHeader(fields, record, func(field, text string) { fault(line, field, text) })
			return true
		}
		for len(record) > len(header) && record[len(record)-1] == "" {
			record = record[:len(record)-1]
		}
		switch {
		case len(record) != len(header):
			fault(line, "", fmt.Sprintf("%d cells, and the header has %d; a text with the separator in it needs quotes", len(record), len(header)))
			return false
		case len(rows.lines) == loadMaxRows:
			fault(line, "", fmt.Sprintf("more than %d rows", loadMaxRows))
			return false
		}
		row := reflect.New(v.Type().Elem()).Elem()
		for i, cell := range record {
			if cell == "" || header[i] == "" {
				continue
			}
			if err := loadCell(row.FieldByIndex(fields.byName[header[i]]), cell); err != nil {
				_, text := loadLocate(loadText(err), []string{header[i]})
				fault(line, header[i], text)
			}
		}
		v.Set(reflect.Append(v, row))
		rows.lines = append(rows.lines, line)
		return true
	})
	l.rows[p.String()] = rows
	return true
}

// tableHeader returns the field of each column; "" for a column to be left empty.
func (l *loader) tableHeader(fields *loadFields, record []string, fault func(field, text string)) []string {
	header := make([]string, len(record))
	for i, cell := range record {
		name := strings.ToLower(cell)
		switch {
		case name == "":
		case !slices.Contains(fields.names, name):
			fault("", fmt.Sprintf("unknown column %.40q%s", cell, loadSuggest(cell, fields.names)))
		case slices.Contains(header, name):
			fault(name, "the column is there twice")
		default:
			header[i] = name
		}
	}
	return header
}

// loadCell sets a field from a cell that is not empty.
func loadCell(v reflect.Value, cell string) error {
	if v.Kind() == reflect.Bool { // spreadsheets have their own words
		switch strings.ToLower(cell) {
		case "true", "1":
			v.SetBool(true)
			return nil
		case "false", "0":
			return nil
		}
	}
	return loadSet(v, cell)
}
