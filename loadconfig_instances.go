package voltage

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/voltageems/voltage/calc"
	"github.com/voltageems/voltage/model"
)

// plain returns the whole template, nil without one.
func (t *loadedTemplate) plain() *model.Template {
	if t == nil {
		return nil
	}
	return &t.whole
}

// modelTemplate returns the template that a model of the file names; nil without
// one, or where it has faults.
func (l *loader) modelTemplate(p loadPath, m loadModel, names *loadNames) *loadedTemplate {
	at := p.with("template")
	if m.Template == "" || l.isBroken(at) {
		return nil
	}
	t := l.template(m.Template)
	switch {
	case t == nil:
		l.fail(at, "there is no template %.64q%s", m.Template, l.nearTemplate(m.Template))
	case t.state == templateWhole:
		return t
	}
	names.incomplete = true
	return nil
}

// complete makes of a model what its template says, and checks it.
func (l *loader) complete(p loadPath, m loadModel, t *loadedTemplate, inst *model.Instance, names *loadNames) {
	inst.Parent, inst.Properties = m.Parent, m.Properties
	inst.Calculations = l.calculations(p.with("calculations"), m.Calculations)
	for _, name := range slices.Sorted(maps.Keys(inst.Calculations)) {
		at := p.with("calculations", name)
		if k, ok := names.kinds[name]; ok {
			l.fail(at, "the name is both a %s and a calculation", k)
		}
	}
	if t != nil {
		var rules []model.AlarmRule
		var faults []templateFault
		*inst, rules, faults = applyTemplate(t.whole, t.bases, *inst)
		if !names.incomplete {
			faults = append(faults, checkBindings(*inst, func(ref model.Ref) (point model.Point, ok bool) {
				state := l.point(ref.String(), &point)
				return point, state == pointKnown
			})...)
		}
		for _, f := range faults {
			if at := p.with(f.field...); !l.isBroken(at) {
				l.fail(at, "%s", f.text)
			}
		}
		if m.Alarms == nil || *m.Alarms {
			l.alarms = append(l.alarms, rules...)
		}
	}
	for name, c := range inst.Calculations {
		names.kinds[name] = c.Kind()
	}
	// What is left: names of properties and calculations, and their bounds.
	if !l.brokenUnder(p) && (model.Instance{ID: inst.ID}).Validate() == nil {
		only := model.Instance{ID: inst.ID, Parent: inst.Parent, Properties: inst.Properties, Calculations: inst.Calculations}
		if err := only.Validate(); err != nil {
			field, text := loadLocate(strings.TrimPrefix(loadText(err), "model "+inst.ID+": "), l.fieldsOf(reflect.TypeFor[loadModel]()).names)
			l.fail(p.field(field), "%s", text)
		}
	}
}

// checkTree checks what models say about each other: parents, and the references
// of calculations. Other models than the file's may be another engine's, but a
// parent is the file's.
func (l *loader) checkTree(list []model.Instance) {
	models := map[string]model.Instance{}
	places := map[string]int{}
	for i, m := range list {
		if _, ok := models[m.ID]; !ok {
			models[m.ID], places[m.ID] = m, i
		}
	}
	for i, m := range list {
		p := loadPath{"models", i}
		if _, ok := models[m.Parent]; m.Parent != "" && m.Parent != m.ID && !ok && !l.isBroken(p.with("parent")) {
			l.fail(p.with("parent"), "the file has no model %.64q%s", m.Parent, loadNearest(m.Parent, models))
		}
		l.checkExpressions(p, m, models)
	}
	if circle := parentCircle(models); len(circle) > 0 {
		l.fail(loadPath{"models", places[circle[0]], "parent"}, "a circle: %s", joinCircle(circle))
	}
	if err := calc.Cycle(list); err != nil {
		text := loadText(err)
		at := loadPath{"models"}
		if id, _, ok := strings.Cut(strings.TrimPrefix(text, "model "), ": "); ok {
			at = at.with(places[id], "calculations")
		}
		l.fail(at, "%s", text)
	}
}

// checkExpressions checks the calculations of a model.
func (l *loader) checkExpressions(p loadPath, m model.Instance, models map[string]model.Instance) {
	for _, name := range slices.Sorted(maps.Keys(m.Calculations)) {
		at := p.with("calculations", name)
		if l.brokenUnder(at) || m.Calculations[name].Expression == "" {
			continue
		}
		expr, err := calc.Parse(m.Calculations[name].Expression)
		if err != nil {
			l.fail(at, "%s", loadText(err))
			continue
		}
		for _, r := range expr.Refs() {
			owner := r.Model
			if owner == "" {
				owner = m.ID
			}
			names := l.models[owner]
			if r.Children || names == nil || names.incomplete {
				continue
			}
			if _, ok := names.kinds[r.Name]; ok {
				continue
			}
			if _, ok := models[owner].Points[r.Name]; ok {
				continue // it is not bound, and that is reported where it has to be
			}
			if _, ok := models[owner].Properties[r.Name]; !ok {
				l.fail(at, "model %s has no %.64q%s", owner, r.Name, loadNearest(r.Name, names.kinds))
			}
		}
	}
}

// parentCircle returns models that are parts of each other, the first once more
// at the end; nothing where there are none.
func parentCircle(models map[string]model.Instance) []string {
	done := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(models)) {
		var way []string
		for at := id; at != "" && !done[at]; at = models[at].Parent {
			if i := slices.Index(way, at); i >= 0 {
				return append(way[i:], at)
			}
			way = append(way, at)
		}
		for _, at := range way {
			done[at] = true
		}
	}
	return nil
}
