package voltage

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/calc"
	"github.com/voltageems/voltage/model"
)

// loadTemplateFile is the layout of a file of templates.
type loadTemplateFile struct {
	Templates map[string]loadTemplate `yaml:"templates"`
	Extra     map[string]loadRaw      `yaml:",inline"`
}

// loadTemplate is a template in a file.
type loadTemplate struct {
	Title        string                         `yaml:"title"`
	Description  string                         `yaml:"description"`
	Extends      string                         `yaml:"extends"`
	Without      []string                       `yaml:"without"`
	Properties   map[string]model.Property      `yaml:"properties"`
	Measurements map[string]model.TemplatePoint `yaml:"measurements"`
	Signals      map[string]model.TemplatePoint `yaml:"signals"`
	Controls     map[string]model.TemplatePoint `yaml:"controls"`
	Adjustments  map[string]model.TemplatePoint `yaml:"adjustments"`
	Calculations map[string]loadRaw             `yaml:"calculations"`
	Alarms       map[string]model.TemplateAlarm `yaml:"alarms"`

	Policies map[string]model.TemplatePolicy `yaml:"policies"`
}

// loadedTemplate is a template and the loader that knows where its parts stand.
type loadedTemplate struct {
	l     *loader
	p     loadPath
	own   model.Template
	whole model.Template // with all that it extends
	bases []string
	state int // of resolve
}

// The states of a template that is being made whole.
const (
	templateRead = iota
	templateUnder
	templateWhole
	templateBroken // it was reported
)

// readTemplates reads the files of templates that the configuration names.
func (l *loader) readTemplates(paths []string) {
	for i, name := range paths {
		p := loadPath{"templates", i}
		if l.isBroken(p) || name == "" {
			continue // an empty item was reported
		}
		path := l.relative(name)
		if l.templateFiles[path] {
			l.fail(p, "%s is there twice", name)
			continue
		}
		if l.templateFiles == nil {
			l.templateFiles = map[string]bool{}
		}
		l.templateFiles[path] = true
		data, err := l.read(path, loadMaxYAML)
		if err != nil {
			l.addAt(p, l.line(p), fmt.Sprintf("%s: %s", path, loadText(loadCause(err))), loadCause(err))
			continue
		}
		l.files = append(l.files, path)
		l.child(path, len(l.files)-1).templateFile(data)
	}
	for _, name := range slices.Sorted(maps.Keys(l.templates)) {
		l.template(name) // also those that nobody uses have no faults
	}
}

// templateFile reads one file of templates.
func (l *loader) templateFile(data []byte) {
	if !l.parse(data) {
		return
	}
	var f loadTemplateFile
	l.decode(l.root, reflect.ValueOf(&f).Elem(), nil, l.root.Line, false)
	l.extra(f.Extra, reflect.TypeFor[loadTemplateFile]())
	if len(f.Templates) == 0 && !l.brokenUnder(loadPath{"templates"}) {
		l.fail(loadPath{"templates"}, "missing: want the templates, by name")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Templates)) {
		p := loadPath{"templates", name}
		if !model.ValidID(name) {
			l.fail(p, "the name may have 1 to %d of A-Z a-z 0-9 _ . -", model.MaxIDLength)
			continue
		}
		if other, ok := l.templates[name]; ok {
			l.fail(p, "the template is there twice, first in %s:%d", other.l.path, other.l.line(other.p))
			continue
		}
		y := f.Templates[name]
		t := model.Template{Name: name, Title: y.Title, Description: y.Description, Extends: y.Extends, Without: y.Without,
			Properties: y.Properties, Measurements: y.Measurements, Signals: y.Signals, Controls: y.Controls, Adjustments: y.Adjustments,
			Calculations: l.calculations(p.with("calculations"), y.Calculations), Alarms: y.Alarms, Policies: y.Policies}
		l.templates[name] = &loadedTemplate{l: l, p: p, own: t}
	}
}

// calculations decodes calculations: an expression, or a section with more.
func (l *loader) calculations(p loadPath, raw map[string]loadRaw) map[string]model.Calculation {
	if len(raw) == 0 {
		return nil
	}
	all := map[string]model.Calculation{}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		at, c := p.with(name), model.Calculation{}
		if raw[name].node.Kind == yaml.ScalarNode {
			l.decode(raw[name].node, reflect.ValueOf(&c.Expression).Elem(), at, raw[name].line, false)
		} else {
			l.decode(raw[name].node, reflect.ValueOf(&c).Elem(), at, raw[name].line, false)
		}
		if c.Expression == "" && !l.brokenUnder(at) {
			l.fail(at, "the expression is missing")
		}
		all[name] = c
	}
	return all
}

// builtin reads a built-in template, unless a file has one of that name.
func (l *loader) builtin(name string) {
	if _, ok := l.templates[name]; ok || !slices.Contains(builtinNames(), name) {
		return
	}
	path := "templates/" + name + ".yaml"
	data, err := library.ReadFile(path)
	if err != nil {
		return // there is no such template
	}
	l.files = append(l.files, "built-in "+path)
	l.child("built-in "+path, len(l.files)-1).templateFile(data)
}

// template returns a template with all that it extends; nil where there is none.
func (l *loader) template(name string) *loadedTemplate {
	l.builtin(name)
	t := l.templates[name]
	if t == nil || t.state != templateRead {
		return t
	}
	t.state = templateUnder
	if t.state = t.resolve(); t.state == templateWhole {
		before := l.count()
		t.check()
		if l.count() > before {
			t.state = templateBroken
		}
	}
	return t
}

// resolve makes a template whole.
func (t *loadedTemplate) resolve() (state int) {
	t.whole = t.own
	state = templateWhole
	if t.l.brokenUnder(t.p) {
		state = templateBroken
	}
	if t.own.Extends == "" {
		if len(t.own.Without) > 0 {
			t.l.fail(t.p.with("without"), "belongs to extends, which is not there")
		}
		return state
	}
	at := t.p.with("extends")
	base := t.l.template(t.own.Extends)
	switch {
	case base == nil:
		t.l.fail(at, "there is no template %.64q%s", t.own.Extends, t.l.nearTemplate(t.own.Extends))
		return templateBroken
	case base.state == templateUnder:
		t.l.fail(at, "templates extend each other in a circle: %s", t.l.templateCircle(t.own.Name))
		return templateBroken
	case base.state == templateBroken:
		return templateBroken
	}
	var unknown []string
	t.whole, unknown = extendTemplate(t.own, base.whole)
	for _, name := range unknown {
		t.l.fail(t.p.with("without"), "template %s has no %.64q", base.own.Name, name)
	}
	t.bases = append([]string{base.own.Name}, base.bases...)
	return state
}

// templateCircle names the templates of a circle that leads back to name.
func (l *loader) templateCircle(name string) string {
	way := []string{name}
	for at := l.templates[name].own.Extends; at != name && len(way) < 20; at = l.templates[at].own.Extends {
		if l.templates[at] == nil {
			break
		}
		way = append(way, at)
	}
	return strings.Join(append(way, name), " extends ")
}

func (l *loader) nearTemplate(name string) string {
	known := map[string]bool{}
	for _, n := range builtinNames() {
		known[n] = true
	}
	for n := range l.templates {
		known[n] = true
	}
	return loadNearest(name, known)
}

// check names what is wrong with a whole template. Faults of what it has of
// another stand at the template itself.
func (t *loadedTemplate) check() {
	l, whole := t.l, t.whole
	if err := whole.Validate(); err != nil {
		text := strings.TrimPrefix(loadText(err), "template "+whole.Name+": ")
		l.fail(t.p, "%s", text)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(whole.Calculations)) {
		t.checkCalculation(t.p.with("calculations", name), whole.Calculations[name])
	}
	// Properties without a default have some value, so that expressions of them
	// can be tried.
	properties := map[string]float64{}
	for name, p := range whole.Properties {
		properties[name] = 1.2345
		if p.Default != nil {
			properties[name] = *p.Default
		}
	}
	constant := func(p loadPath, text string) {
		if text == "" {
			return
		}
		if _, err := calc.Constant(text, properties); err != nil {
			l.fail(p, "%s", loadText(err))
		}
	}
	for _, k := range model.Kinds() {
		for _, name := range slices.Sorted(maps.Keys(whole.Points(k))) {
			point, at := whole.Points(k)[name], t.p.with(loadBindingKey(k), name)
			constant(at.with("min"), point.Min)
			constant(at.with("max"), point.Max)
			constant(at.with("step"), point.Step)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(whole.Alarms)) {
		a, at := whole.Alarms[id], t.p.with("alarms", id)
		constant(at.with("threshold"), a.Threshold)
		constant(at.with("high"), a.High)
		constant(at.with("hysteresis"), a.Hysteresis)
		if a.Enable != nil {
			constant(at.with("enable", "threshold"), a.Enable.Threshold)
		}
		if a.Limits != nil {
			constant(at.with("limits", "hihi"), a.Limits.HiHi)
			constant(at.with("limits", "hi"), a.Limits.Hi)
			constant(at.with("limits", "lo"), a.Limits.Lo)
			constant(at.with("limits", "lolo"), a.Limits.LoLo)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(whole.Policies)) {
		at := t.p.with("policies", name)
		constant(at.with("safe"), whole.Policies[name].Safe)
		for i, lock := range whole.Policies[name].Interlocks {
			constant(at.with("interlocks", i, "threshold"), lock.Threshold)
		}
	}
	if err := calc.Cycle([]model.Instance{{ID: whole.Name, Calculations: whole.Calculations}}); err != nil {
		l.fail(t.p.with("calculations"), "%s", loadText(err))
	}
}

// checkCalculation parses an expression and looks for the names of the template.
func (t *loadedTemplate) checkCalculation(p loadPath, c model.Calculation) {
	expr, err := calc.Parse(c.Expression)
	if err != nil {
		t.l.fail(p, "%s", loadText(err))
		return
	}
	names := map[string]bool{}
	for _, name := range templateNames(t.whole) {
		names[name] = true
	}
	for _, r := range expr.Refs() {
		if r.Model == "" && !r.Children && !names[r.Name] {
			t.l.fail(p, "the template has no %.64q%s", r.Name, loadNearest(r.Name, names))
		}
	}
}
