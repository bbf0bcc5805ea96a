package voltage

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// loadChannel is a channel in the file. Sections are the keys that are not its
// own: the driver's settings stand under the driver's name.
type loadChannel struct {
	ID       string        `yaml:"id"`
	Name     string        `yaml:"name"`
	Driver   string        `yaml:"driver"`
	Profile  string        `yaml:"profile"`
	Scan     time.Duration `yaml:"scan"`
	Scans    loadScans     `yaml:"scans"`
	Timeout  time.Duration `yaml:"timeout"`
	Stale    loadStale     `yaml:"stale"`
	Refresh  time.Duration `yaml:"refresh"`
	Disabled bool          `yaml:"disabled"`

	Heartbeat *channel.Heartbeat `yaml:"heartbeat"`

	Points   loadRaw            `yaml:"points"`
	Sections map[string]loadRaw `yaml:",inline"`
}

// loadStale is a duration above 0, or "never", which is negative.
type loadStale time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *loadStale) UnmarshalText(b []byte) error {
	if string(b) == "never" {
		*s = -1
		return nil
	}
	d, err := loadDuration(string(b))
	if err == nil && d <= 0 {
		err = fmt.Errorf("%.40q: want a duration above 0, or never", b)
	}
	if err != nil {
		return err
	}
	*s = loadStale(d)
	return nil
}

// config is the channel without points and driver.
func (c loadChannel) config() channel.Config {
	return channel.Config{
		ID: c.ID, Name: c.Name, Scan: c.Scan, Scans: c.Scans, Timeout: c.Timeout, Stale: time.Duration(c.Stale),
		Refresh: c.Refresh, Disabled: c.Disabled,
	}
}

// loadTable is the points of a channel and where they stand.
type loadTable struct {
	points []model.Point
	broken []bool         // by point: something was wrong with it
	index  map[string]int // id → the first point with it
	// incomplete is set when points are missing that the file perhaps defines.
	incomplete bool
	// at reports a fault of a point.
	at      func(i int, field, text string)
	profile *loadProfile // of the channel; nil without
}

func (l *loader) buildChannels(list []loadChannel) []channel.Config {
	l.channels = map[string]*loadTable{}
	var out []channel.Config
	for i, c := range list {
		p := loadPath{"channels", i}
		skip := l.unfit(p, reflect.TypeFor[loadChannel](), "id")
		for _, f := range []struct {
			name  string
			value time.Duration
		}{{"scan", c.Scan}, {"timeout", c.Timeout}, {"refresh", c.Refresh}} {
			if l.zero(p.with(f.name), f.value) && !slices.Contains(skip, f.name) {
				l.fail(p.with(f.name), "0s: want a duration above 0, or nothing for the default")
			}
		}
		for class := range c.Scans {
			if l.isBroken(p.with("scans", class)) {
				c.Scans[class] = channel.DefaultScan // reported, and known to the points
			}
		}
		classes := c.Scans // all of them, for the points are not at fault for a wrong one
		c = loadCheck(l, c, loadChannel{ID: "channel"}, skip,
			func(c loadChannel) error { return c.config().Validate() },
			func(field, text string) { l.failChannel(p, classes, field, text) })
		if !slices.Contains(skip, "id") {
			if model.IsCalculationChannel(c.ID) {
				l.fail(p.with("id"), "ids that begin with calc. are those of calculations")
			}
			l.once(p, "channel", c.ID)
		}
		table, cfg := l.points(p, c.Points), c.config()
		suits := true // what is said of the addresses
		if c.Profile != "" {
			profile := l.profile(p.with("profile"), c.Profile)
			suits = profile.suits(l, p, c.Driver)
			profile.fill(&cfg)
			table = profile.over(table)
		}
		if _, ok := l.channels[c.ID]; !ok {
			l.channels[c.ID] = table
		}
		if !slices.Contains(skip, "scans") {
			known := maps.Clone(cfg.Scans)
			if known == nil {
				known = loadScans{}
			}
			maps.Copy(known, classes)
			table.checkScans(known)
		}
		cfg.Points = slices.Clone(table.points)
		l.heartbeat(p.with("heartbeat"), c, &cfg, table)
		cfg.Driver = l.driver(p, c, cfg, table, suits)
		out = append(out, cfg)
	}
	return out
}

// heartbeat takes over the heartbeat of a channel, where it is in order.
func (l *loader) heartbeat(p loadPath, c loadChannel, cfg *channel.Config, t *loadTable) {
	if c.Heartbeat == nil || l.brokenUnder(p) || t.incomplete {
		return
	}
	check := channel.Config{ID: "channel", Points: t.points, Heartbeat: c.Heartbeat}
	if err := check.Validate(); err != nil {
		text := strings.TrimPrefix(loadText(err), "channel channel: ")
		if rest, ok := strings.CutPrefix(text, "heartbeat "); ok { // the points are checked elsewhere
			l.fail(p, "%s", rest)
		}
		return
	}
	cfg.Heartbeat = c.Heartbeat
}

// field is with for a field that may be unknown.
func (p loadPath) field(name string) loadPath {
	if name == "" {
		return p
	}
	return p.with(name)
}

// once reports an id that an earlier entry of the same list has.
func (l *loader) once(p loadPath, what, id string) {
	key, i := what+" "+id, p[len(p)-1].(int)
	first, twice := l.ids[key]
	if !twice {
		l.ids[key] = i
		return
	}
	l.fail(p.with("id"), "%s %s is there twice, first on line %d", what, id, l.line(p[:len(p)-1].with(first, "id")))
}

// unfit returns the fields that need no further check: those that could not be
// decoded, and those that are required and missing, which it reports.
func (l *loader) unfit(p loadPath, t reflect.Type, required ...string) []string {
	var skip []string
	names := l.fieldsOf(t).names
	if l.isBroken(p) {
		return names
	}
	for _, name := range names {
		switch at := p.with(name); {
		case l.isBroken(at):
			skip = append(skip, name)
		case slices.Contains(required, name) && !l.has(at):
			l.fail(at, "missing")
			skip = append(skip, name)
		}
	}
	return skip
}

// points reads a channel's points: a list, or the name of a CSV file.
func (l *loader) points(p loadPath, raw loadRaw) *loadTable {
	at := p.with("points")
	switch {
	case raw.node == nil || loadNull(raw.node):
		return &loadTable{incomplete: l.isBroken(at) || l.isBroken(p)}
	case raw.node.Kind == yaml.ScalarNode:
		return l.csvTable(at, raw.node.Value)
	case raw.node.Kind != yaml.SequenceNode:
		l.at(at, raw.line, "want the name of a CSV file or a list of points")
		return &loadTable{incomplete: true}
	}
	t := &loadTable{index: map[string]int{}}
	t.at = func(i int, field, text string) { l.fail(at.with(i).field(field), "%s", text) }
	before := l.count()
	l.decode(raw.node, reflect.ValueOf(&t.points).Elem(), at, raw.line, false)
	clean := l.count() == before
	if len(t.points) > channel.MaxPoints {
		l.fail(at, "%d points: at most %d", len(t.points), channel.MaxPoints)
		return &loadTable{incomplete: true}
	}
	t.broken = make([]bool, len(t.points))
	for i, point := range t.points {
		pp := at.with(i)
		var skip []string
		if !clean {
			t.broken[i] = l.brokenUnder(pp)
			skip = l.unfit(pp, reflect.TypeFor[model.Point]())
		}
		if point.ID == "" && !slices.Contains(skip, "id") {
			if !t.broken[i] || !l.isBroken(pp) {
				t.at(i, "id", "missing")
			}
			skip = append(skip, "id")
		}
		skip = t.check(l, i, skip)
		if j, ok := t.add(i, skip); !ok {
			t.at(i, "id", fmt.Sprintf("point %s is there twice, first on line %d", point.ID, l.line(at.with(j, "id"))))
		}
	}
	return t
}

// check validates a point and replaces what is wrong, so that the other checks
// can go on. It returns skip and the fields that it replaced.
func (t *loadTable) check(l *loader, i int, skip []string) []string {
	t.points[i] = loadCheck(l, t.points[i], model.Point{ID: "point"}, skip, model.Point.Validate, func(field, text string) {
		t.broken[i] = true
		skip = append(skip, field)
		t.at(i, field, text)
	})
	return skip
}

// add enters a point's id. It returns the point that has it already.
func (t *loadTable) add(i int, skip []string) (first int, ok bool) {
	id := t.points[i].ID
	if slices.Contains(skip, "id") {
		t.incomplete, t.broken[i] = true, true
		return 0, true
	}
	if first, twice := t.index[id]; twice {
		t.broken[i] = true
		return first, false
	}
	t.index[id] = i
	return 0, true
}

// driver opens a channel's driver and, where the addresses are meant for it, has
// its Factory check the points.
func (l *loader) driver(p loadPath, c loadChannel, cfg channel.Config, t *loadTable, suits bool) channel.Factory {
	own := l.fieldsOf(reflect.TypeFor[loadChannel]()).names
	for _, key := range slices.Sorted(maps.Keys(c.Sections)) {
		_, known := l.kinds[key]
		switch line := c.Sections[key].line; {
		case key == c.Driver:
		case known && l.isBroken(p.with("driver")):
		case known && c.Driver == "":
			l.at(p.with(key), line, "settings of a driver, but the channel has none: add driver: %s", key)
		case known:
			l.at(p.with(key), line, "settings of another driver than the channel's, %s", c.Driver)
		default:
			names := append(slices.Clone(own), slices.Sorted(maps.Keys(l.kinds))...)
			l.at(p.with(key), line, "unknown key%s", loadSuggest(key, names))
		}
	}
	if c.Driver == "" {
		return nil
	}
	kind, ok := l.kinds[c.Driver]
	if !ok {
		if len(l.kinds) == 0 {
			l.fail(p.with("driver"), "unknown driver %.40q: the program knows none; it passes them to LoadConfig, such as those of channel/all", c.Driver)
		} else {
			names := slices.Sorted(maps.Keys(l.kinds))
			l.fail(p.with("driver"), "unknown driver %.40q: known are %s; the program passes them to LoadConfig, such as those of channel/all",
				c.Driver, strings.Join(names, ", "))
		}
		return nil
	}
	if t.profile != nil {
		kind.Open = t.profile.under(kind.Name, kind.Open)
	}
	factory := l.open(p.with(c.Driver), kind, c.Sections[c.Driver])
	if factory != nil && suits {
		l.checkAddresses(p.with("driver"), factory, cfg, t)
	}
	return factory
}

// open decodes a driver's settings. It returns nil when they are wrong.
func (l *loader) open(p loadPath, kind channel.Kind, section loadRaw) (factory channel.Factory) {
	_, ok := l.settings(p, "driver", section, func(decode func(any) error) (made bool, err error) {
		factory, err = kind.Open(decode)
		return factory != nil, err
	})
	if !ok {
		return nil
	}
	return factory
}

// settings has a kind decode its section and make something of it, and reports
// what is wrong with that. It returns the section's keys and whether all is well.
func (l *loader) settings(p loadPath, what string, section loadRaw, open func(decode func(any) error) (made bool, err error)) (keys []string, ok bool) {
	before := l.count()
	made, err := open(func(to any) error {
		v := reflect.ValueOf(to)
		if v.Kind() != reflect.Pointer || v.IsNil() {
			return errors.New("the settings need a pointer to decode into")
		}
		if v.Elem().Kind() == reflect.Struct {
			keys = l.fieldsOf(v.Elem().Type()).names
		}
		if section.node == nil {
			return nil
		}
		before := l.count()
		l.decode(section.node, v.Elem(), p, section.line, l.env != nil)
		if l.count() > before {
			return errLoadReported
		}
		return nil
	})
	if err == nil && !made && l.count() == before {
		err = fmt.Errorf("the %s's kind gave no %s", what, what)
	}
	l.failSection(p, keys, err)
	return keys, err == nil && l.count() == before
}

// failSection reports what is wrong with a section, each fault at the key that
// it names.
func (l *loader) failSection(p loadPath, keys []string, err error) {
	for _, err := range loadSplit(err) {
		if errors.Is(err, errLoadReported) {
			continue
		}
		key, text := loadLocate(loadText(err), keys)
		text = l.redact(text)
		if !l.failRow(p.field(key), text) {
			l.fail(p.field(key), "%s", text)
		}
	}
}

// loadPointID finds the point that a driver's message is about.
var loadPointID = regexp.MustCompile(`(?:^|: )point ([A-Za-z0-9_.-]{1,64}): `)

// loadNoLog is the log of drivers that only check.
var loadNoLog = slog.New(slog.DiscardHandler)

// checkAddresses has the driver's Factory check the points, which does no I/O.
func (l *loader) checkAddresses(p loadPath, factory channel.Factory, cfg channel.Config, t *loadTable) {
	cfg = cfg.WithDefaults()
	setup := channel.Setup{
		ID: cfg.ID, Scan: cfg.Scan, Scans: cfg.Scans, Timeout: cfg.Timeout,
		Log: loadNoLog, Clock: model.SystemClock,
	}
	// Points with other faults take part, for some points refer to others.
	for i, point := range t.points {
		if first, ok := t.index[point.ID]; ok && first == i {
			setup.Points = append(setup.Points, point)
		}
	}
	fields := l.fieldsOf(reflect.TypeFor[model.Point]()).names
	_, err := factory(setup)
	for _, err := range loadSplit(err) {
		text := l.redact(loadText(err))
		m := loadPointID.FindStringSubmatchIndex(text)
		if m != nil {
			if i, ok := t.index[text[m[2]:m[3]]]; ok {
				if !t.broken[i] {
					t.at(i, "address", loadAddress(text[m[1]:], fields))
				}
				continue
			}
		}
		l.fail(p, "%s", strings.TrimPrefix(text, "channel "+cfg.ID+": "))
	}
}

// loadAddress takes the word address from the front of a message, where the
// field's name stands already.
func loadAddress(text string, fields []string) string {
	if key, rest := loadLocate(text, fields); key == "address" {
		return rest
	}
	return text
}
