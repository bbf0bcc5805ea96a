package voltage

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// loadProfileVersion is the format of profiles that this program reads.
const loadProfileVersion = 1

// loadProfileFile is the layout of a profile.
type loadProfileFile struct {
	Profile      int                      `yaml:"profile"`
	Name         string                   `yaml:"name"`
	Manufacturer string                   `yaml:"manufacturer"`
	Model        string                   `yaml:"model"`
	Source       ProfileSource            `yaml:"source"`
	Drivers      map[string]loadRaw       `yaml:"drivers"`
	Scan         time.Duration            `yaml:"scan"`
	Scans        map[string]time.Duration `yaml:"scans"`
	Timeout      time.Duration            `yaml:"timeout"`
	Points       loadRaw                  `yaml:"points"`
	Alarms       []loadAlarm              `yaml:"alarms"`
	Accept       []string                 `yaml:"accept"`
	Extra        map[string]loadRaw       `yaml:",inline"`
}

// loadProfile is a profile and the loader that knows where its parts stand.
type loadProfile struct {
	*loader
	layout loadProfileFile
	table  *loadTable
	byName map[string]string // name in models → point id
	alarms []loadAlarm
	read   bool // it has sections
}

// profile reads the profile that a channel names. Channels that name the same
// file share it, and its faults are reported once.
func (l *loader) profile(p loadPath, name string) *loadProfile {
	path := l.relative(name)
	if pr, ok := l.profiles[path]; ok {
		return pr
	}
	pr := &loadProfile{table: &loadTable{incomplete: true}, loader: &loader{loadShared: l.loadShared, path: path}}
	l.profiles[path] = pr
	data, err := l.loadShared.read(path, loadMaxYAML)
	if err != nil {
		l.addAt(p, l.line(p), fmt.Sprintf("%s: %s", path, loadText(loadCause(err))), loadCause(err))
		return pr
	}
	l.files = append(l.files, path)
	pr.loader = l.child(path, len(l.files)-1)
	pr.build(data)
	return pr
}

// build checks the profile as far as that needs no driver.
func (pr *loadProfile) build(data []byte) {
	if !pr.parse(data) {
		return
	}
	f := &pr.layout
	pr.decode(pr.root, reflect.ValueOf(f).Elem(), nil, pr.root.Line, false)
	if pr.isBroken(nil) {
		return // it has no sections at all
	}
	pr.read = true
	pr.extra(f.Extra, reflect.TypeFor[loadProfileFile]())
	switch p := (loadPath{"profile"}); {
	case pr.isBroken(p):
	case !pr.has(p):
		pr.fail(p, "missing: want the version of the format, profile: %d", loadProfileVersion)
	case f.Profile != loadProfileVersion:
		pr.fail(p, "%d: this program reads version %d", f.Profile, loadProfileVersion)
	}
	skip := pr.unfit(nil, reflect.TypeFor[loadProfileFile]())
	for name, d := range map[string]time.Duration{"scan": f.Scan, "timeout": f.Timeout} {
		if pr.zero(loadPath{name}, d) && !slices.Contains(skip, name) {
			pr.fail(loadPath{name}, "0s: want a duration above 0, or nothing for the default")
		}
	}
	loadCheck(pr.loader, loadChannel{ID: "profile", Scan: f.Scan, Timeout: f.Timeout, Scans: f.Scans}, loadChannel{ID: "profile"}, skip,
		func(c loadChannel) error { return c.config().Validate() },
		func(field, text string) { pr.failChannel(nil, f.Scans, field, text) })
	for _, name := range slices.Sorted(maps.Keys(f.Drivers)) {
		pr.refuseVariables(loadPath{"drivers", name}, f.Drivers[name].node)
	}
	pr.table = pr.points(nil, f.Points)
	pr.table.checkScans(f.Scans)
	pr.nameAll()
	pr.buildAlarms()
}

// nameAll finds the names that models give to the points.
func (pr *loadProfile) nameAll() {
	pr.byName = map[string]string{}
	for i, p := range pr.table.points {
		if first, ok := pr.table.index[p.ID]; !ok || first != i {
			continue
		}
		name := loadName(p)
		if other, ok := pr.byName[name]; ok {
			pr.table.at(i, "name", fmt.Sprintf("points %s and %s both get the name %s in models", other, p.ID, name))
			continue
		}
		pr.byName[name] = p.ID
	}
}

func (pr *loadProfile) buildAlarms() {
	for i, a := range pr.layout.Alarms {
		p := loadPath{"alarms", i}
		before := pr.count()
		checkAlarm(pr.loader, p, a, "model", func(a *loadAlarm) *loadAlarm { return a }, "id", "point")
		if a.ID != "" && a.Point != "" {
			for _, r := range a.rules("", a.Point) {
				pr.once(p, "alarm rule", fmt.Sprintf("%s of %s", r.ID, r.Point))
			}
		}
		pr.checkPoint(p.with("point"), a.Point)
		pr.checkPoint(p.with("reference"), a.Reference)
		if e := a.Enable; e != nil {
			pr.checkPoint(p.with("enable", "point"), e.Point)
			if e.Model != "" {
				pr.fail(p.with("enable", "model"), "a profile knows no models: want a point of its own alone")
			}
		}
		if pr.count() == before {
			pr.alarms = append(pr.alarms, a)
		}
	}
}

// checkPoint reports a name that none of the profile's points has.
func (pr *loadProfile) checkPoint(p loadPath, name string) {
	if _, ok := pr.byName[name]; !ok && name != "" && !pr.table.incomplete && !pr.isBroken(p) {
		pr.fail(p, "the profile has no point %.64q%s", name, loadNearest(name, pr.byName))
	}
}

// refuseVariables reports ${NAME} in a driver's section: a profile is the same
// everywhere, so what differs from site to site belongs to the channel.
func (pr *loadProfile) refuseVariables(p loadPath, n *yaml.Node) {
	if n == nil || len(p) > loadMaxDepth || !pr.spend(p, n.Line, 0) {
		return
	}
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "${") {
		pr.at(p, n.Line, "environment variables are not replaced in profiles: such a setting belongs to the channel")
	}
	for _, c := range n.Content {
		pr.refuseVariables(p, c)
	}
}

// base decodes the profile's settings of a driver into v. It is false when
// something is wrong with them, which is reported the first time.
func (pr *loadProfile) base(driver string, v reflect.Value) bool {
	p := loadPath{"drivers", driver}
	if raw, ok := pr.layout.Drivers[driver]; ok && raw.node != nil && !pr.brokenUnder(p) {
		pr.decode(raw.node, v, p, raw.line, false)
	}
	return !pr.brokenUnder(p)
}

// under returns open with settings to which those of the profile are the base.
func (pr *loadProfile) under(driver string, open func(func(any) error) (channel.Factory, error)) func(func(any) error) (channel.Factory, error) {
	return func(decode func(any) error) (channel.Factory, error) {
		return open(func(to any) error {
			if v := reflect.ValueOf(to); v.Kind() == reflect.Pointer && !v.IsNil() && !pr.base(driver, v.Elem()) {
				return errLoadReported
			}
			return decode(to)
		})
	}
}

// suits reports a channel whose driver the profile is not for, unless nobody
// knows that driver, which is reported elsewhere.
func (pr *loadProfile) suits(l *loader, p loadPath, driver string) bool {
	_, named := pr.layout.Drivers[driver]
	_, known := l.kinds[driver]
	if named || !known || len(pr.layout.Drivers) == 0 || l.isBroken(p.with("driver")) {
		return true
	}
	l.fail(p.with("profile"), "%s is for %s, and the channel has driver: %s", pr.path,
		strings.Join(slices.Sorted(maps.Keys(pr.layout.Drivers)), ", "), driver)
	return false
}

// fill gives a channel what it does not say itself.
func (pr *loadProfile) fill(c *channel.Config) {
	f := pr.layout
	if c.Scan == 0 {
		c.Scan = f.Scan
	}
	if c.Timeout == 0 {
		c.Timeout = f.Timeout
	}
	if len(f.Scans) > 0 {
		own := c.Scans
		c.Scans = maps.Clone(f.Scans)
		maps.Copy(c.Scans, own)
	}
}

// over returns the points of a channel: those of the profile, and the channel's
// own in place of those that have the same id, or behind them.
func (pr *loadProfile) over(own *loadTable) *loadTable {
	t := &loadTable{
		points: slices.Clone(pr.table.points), broken: slices.Clone(pr.table.broken), index: maps.Clone(pr.table.index),
		incomplete: pr.table.incomplete || own.incomplete, at: pr.table.at, profile: pr,
	}
	if len(own.points) == 0 {
		return t
	}
	if t.index == nil {
		t.index = map[string]int{}
	}
	from := map[int]int{} // place here → place in own
	for i, p := range own.points {
		if first, ok := own.index[p.ID]; !ok || first != i {
			continue
		}
		at, ok := t.index[p.ID]
		if !ok {
			at = len(t.points)
			t.points, t.broken = append(t.points, p), append(t.broken, false)
			t.index[p.ID] = at
		}
		t.points[at], t.broken[at] = p, own.broken[i]
		from[at] = i
	}
	t.at = func(i int, field, text string) {
		if k, ok := from[i]; ok {
			own.at(k, field, text)
		} else {
			pr.table.at(i, field, text)
		}
	}
	return t
}

// profileAlarms makes the alarms of a channel's profile those of a model that
// is bound to the channel.
func (l *loader) profileAlarms(p loadPath, m loadModel, inst model.Instance) {
	t := l.channels[m.Channel]
	if t == nil || t.profile == nil || m.Alarms != nil && !*m.Alarms {
		return
	}
	names := map[string]string{} // "channel:point" → name
	for _, k := range model.Kinds() {
		for _, name := range slices.Sorted(maps.Keys(inst.Bindings(k))) {
			if ref := inst.Bindings(k)[name]; names[ref] == "" {
				names[ref] = name
			}
		}
	}
	for _, a := range t.profile.alarms {
		bound := true
		find := func(name *string) {
			point := t.profile.byName[*name]
			if to := names[model.Ref{Owner: m.Channel, Name: point}.String()]; to != "" {
				*name = to
				return
			}
			bound = false
			l.fail(p.with("channel"), "alarm %s of the profile watches %s, which is not bound here: bind point %s under another name, or say alarms: false", a.ID, *name, point)
		}
		find(&a.Point)
		if a.Reference != "" {
			find(&a.Reference)
		}
		if a.Enable != nil {
			a.Enable = new(*a.Enable)
			find(&a.Enable.Point)
		}
		if bound {
			l.alarms = append(l.alarms, a.rules(m.ID, a.Point)...)
		}
	}
}
