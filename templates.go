package voltage

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/model"
)

// library are the built-in templates: a file for each, of its name.
//
//go:embed templates/*.yaml
var library embed.FS

// Templates are types of devices, by name. Make them with LoadTemplates.
type Templates struct {
	byName map[string]model.Template // with all that they extend
	bases  map[string][]string       // what each extends, nearest first
}

// LoadTemplates reads the built-in templates and those of the files, as
// docs/models.md describes them. A template of a file takes the place of a
// built-in one of the same name.
//
//	lib, err := voltage.LoadTemplates()
//	pcs, alarms, err := lib.Instance(model.Instance{ID: "pcs1", Template: "pcs",
//		Properties: map[string]float64{"rated_power": 100}, Measurements: …})
//
// It reads files and does no other I/O. The error is as that of LoadConfig.
func LoadTemplates(paths ...string) (*Templates, error) {
	first := "templates"
	if len(paths) > 0 {
		first = paths[0]
	}
	l, err := newLoader(first, nil, loadReadFile, nil)
	if err != nil {
		return nil, fmt.Errorf("LoadTemplates: %w", err)
	}
	l.files = nil
	for _, path := range paths {
		data, err := loadReadFile(path, loadMaxYAML)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, loadCause(err))
		}
		l.files = append(l.files, path)
		l.child(path, len(l.files)-1).templateFile(data)
	}
	for _, name := range builtinNames() {
		l.builtin(name)
	}
	t := &Templates{byName: map[string]model.Template{}, bases: map[string][]string{}}
	for _, name := range slices.Sorted(maps.Keys(l.templates)) {
		lt := l.template(name)
		t.byName[name], t.bases[name] = lt.whole, lt.bases
	}
	if err := l.err(); err != nil {
		return nil, err
	}
	return t, nil
}

// builtinNames returns the names of the built-in templates.
func builtinNames() []string {
	files, err := fs.Glob(library, "templates/*.yaml")
	if err != nil { // the pattern is right
		return nil
	}
	for i, name := range files {
		files[i] = name[len("templates/") : len(name)-len(".yaml")]
	}
	return files
}

// Names returns the names of all templates, sorted.
func (t *Templates) Names() []string { return slices.Sorted(maps.Keys(t.byName)) }

// Template returns a template with everything that it extends: Extends and
// Without are empty. Its maps must not be changed. It is false where there is
// none of the name.
func (t *Templates) Template(name string) (model.Template, bool) {
	whole, ok := t.byName[name]
	return whole, ok
}

// Instance completes an instance whose Template names one of the templates:
// properties get their defaults, points their units, limits and labels, and the
// calculations of the template are added, except those that the instance has
// itself, whose name it binds, or that need an optional point which it does not
// bind. So the bindings have to be there already. The rules are the template's
// alarms for this instance.
//
// Whether every point is bound that should be is not checked here, for points may
// come later; Engine.Problems tells. The error wraps model.ErrInvalid and names
// everything that is wrong.
func (t *Templates) Instance(m model.Instance) (model.Instance, []alarm.Rule, error) {
	whole, ok := t.byName[m.Template]
	if !ok {
		return m, nil, fmt.Errorf("%w: model %.80s: there is no template %.80q%s", model.ErrInvalid, m.ID, m.Template, loadNearest(m.Template, t.byName))
	}
	m, rules, faults := applyTemplate(whole, t.bases[m.Template], m.Clone())
	var errs []error
	for _, f := range faults {
		errs = append(errs, fmt.Errorf("%w: model %s: %s", model.ErrInvalid, m.ID, f))
	}
	if len(errs) == 0 {
		errs = append(errs, m.Validate())
	}
	if err := errors.Join(errs...); err != nil {
		return m, nil, err
	}
	return m, rules, nil
}
