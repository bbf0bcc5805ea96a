package voltage

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/calc"
	"github.com/voltageems/voltage/model"
)

// templateFault is something that is wrong with an instance: the field of the
// configuration that it is about, and what.
type templateFault struct {
	field []any
	text  string
}

func (f templateFault) String() string { return loadPath(f.field).String() + ": " + f.text }

// applyTemplate makes an instance complete. m is the caller's own.
func applyTemplate(t model.Template, bases []string, m model.Instance) (model.Instance, []alarm.Rule, []templateFault) {
	var faults []templateFault
	fail := func(text string, field ...any) { faults = append(faults, templateFault{field, text}) }
	m.Template, m.Bases = t.Name, slices.Clone(bases)

	properties := map[string]float64{}
	for name, p := range t.Properties {
		if p.Default != nil {
			properties[name] = *p.Default
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Properties)) {
		if _, ok := t.Properties[name]; !ok {
			fail(fmt.Sprintf("template %s has no such property%s", t.Name, loadNearest(name, t.Properties)), "properties", name)
		}
		properties[name] = m.Properties[name]
	}
	incomplete := false
	for _, name := range slices.Sorted(maps.Keys(t.Properties)) {
		if _, ok := properties[name]; !ok {
			incomplete = true
			fail(fmt.Sprintf("%s is missing: template %s has no default for it", name, t.Name), "properties")
		}
	}
	m.Properties = properties
	constant := func(what, text string) (v float64) {
		if text == "" || incomplete {
			return 0
		}
		v, err := calc.Constant(text, properties)
		if err != nil {
			fail(what+": "+loadText(err), "template")
		}
		return v
	}

	if m.Points == nil {
		m.Points = map[string]model.PointInfo{}
	}
	absent := map[string]bool{} // optional points that are not bound
	for _, k := range model.Kinds() {
		for _, name := range slices.Sorted(maps.Keys(t.Points(k))) {
			p := t.Points(k)[name]
			what := k.String() + " " + name
			info := model.PointInfo{Kind: k, Unit: p.Unit, Text: p.Text, Labels: p.Labels, Description: p.Description, Optional: p.Optional,
				Step: constant(what+": step", p.Step)}
			for _, bound := range []struct {
				text string
				to   **float64
			}{{p.Min, &info.Min}, {p.Max, &info.Max}} {
				if bound.text != "" {
					v := constant(what+": limit "+bound.text, bound.text)
					*bound.to = &v
				}
			}
			if info.Min != nil && info.Max != nil && *info.Min > *info.Max {
				fail(fmt.Sprintf("%s: min %v is above max %v", what, *info.Min, *info.Max), "template")
			}
			m.Points[name] = info
			if other, ok := boundKind(m, name); !ok {
				absent[name] = p.Optional
			} else if other != k {
				fail(fmt.Sprintf("the template has it as a %s", k), loadBindingKey(other), name)
			}
		}
	}
	m.Calculations = templateCalculations(t, m, absent)
	m.Policies = maps.Clone(m.Policies)
	for _, name := range slices.Sorted(maps.Keys(t.Policies)) {
		_, own := m.Policies[name]
		if _, bound := boundKind(m, name); own || !bound {
			continue
		}
		policy := t.Policies[name].Policy(m.ID, func(text string) float64 { return constant("policies "+name, text) },
			func(point string) bool { return absent[point] })
		info := m.Points[name]
		empty := info.Min != nil && info.Max != nil && *info.Min > *info.Max // it was reported
		if safe := policy.Safe; safe != nil && !incomplete && !empty && (info.Min != nil && *safe < *info.Min || info.Max != nil && *safe > *info.Max) {
			fail(fmt.Sprintf("policies %s: safe %v is outside of the limits of the template", name, *safe), "template")
		}
		if m.Policies == nil {
			m.Policies = map[string]model.ControlPolicy{}
		}
		m.Policies[name] = policy
	}
	var rules []alarm.Rule
	for _, id := range slices.Sorted(maps.Keys(t.Alarms)) {
		before := len(faults)
		of, err := t.Alarms[id].Rules(id, m.ID, func(field, text string) float64 { return constant("alarm "+id+": "+field, text) }, func(name string) bool {
			_, calculated := m.Calculations[name]
			_, info := m.Points[name]
			_, bound := boundKind(m, name)
			return absent[name] || !calculated && !bound && !info
		})
		if err != nil && !incomplete && len(faults) == before && model.ValidID(m.ID) {
			fail(loadText(err), "template")
		}
		rules = append(rules, of...)
	}
	return m, rules, faults
}

// boundKind returns by which kind of binding an instance has a name.
func boundKind(m model.Instance, name string) (model.Kind, bool) {
	for _, k := range model.Kinds() {
		if _, ok := m.Bindings(k)[name]; ok {
			return k, true
		}
	}
	return 0, false
}

// templateCalculations returns the calculations of an instance: its own, and of
// the template those whose name is not bound and that lack nothing.
func templateCalculations(t model.Template, m model.Instance, absent map[string]bool) map[string]model.Calculation {
	all := map[string]model.Calculation{}
	for name, c := range t.Calculations {
		if _, bound := boundKind(m, name); !bound {
			all[name] = c
		}
	}
	maps.Copy(all, m.Calculations)
	missing := maps.Clone(absent)
	for again := true; again; {
		again = false
		for name, c := range all {
			if _, own := m.Calculations[name]; own {
				continue
			}
			expr, err := calc.Parse(c.Expression)
			if err != nil {
				continue // it is reported elsewhere
			}
			if slices.ContainsFunc(expr.Refs(), func(r calc.Ref) bool { return r.Model == "" && !r.Children && missing[r.Name] }) {
				delete(all, name)
				missing[name], again = true, true
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// checkBindings names what is wrong with the bindings of an instance that was
// made of a template. point returns what is known of a point of a channel.
func checkBindings(m model.Instance, point func(model.Ref) (model.Point, bool)) (faults []templateFault) {
	fail := func(k model.Kind, name, format string, args ...any) {
		faults = append(faults, templateFault{[]any{loadBindingKey(k), name}, fmt.Sprintf(format, args...)})
	}
	type use struct {
		source   string
		writable bool
	}
	first := map[use]string{}
	for _, k := range model.Kinds() {
		for _, name := range slices.Sorted(maps.Keys(m.Points)) {
			info := m.Points[name]
			if info.Kind != k {
				continue
			}
			source, ok := m.Bindings(k)[name]
			if !ok {
				if !info.Optional {
					faults = append(faults, templateFault{[]any{"template"}, fmt.Sprintf("%s %s of template %s is not bound", k, name, m.Template)})
				}
				continue
			}
			u := use{source, k.Writable()}
			if other, twice := first[u]; twice {
				fail(k, name, "%s is bound twice: as %s and as %s", source, other, name)
			} else {
				first[u] = name
			}
			ref, err := model.ParseRef(source)
			if err != nil {
				continue // it is reported elsewhere
			}
			p, known := point(ref)
			switch {
			case !known:
			case info.Unit != p.Unit && info.Unit != "" && p.Unit != "":
				fail(k, name, "it is in %s, and point %s in %s: scale the point to %s and say so with its unit", info.Unit, source, p.Unit, info.Unit)
			case info.Text != p.Text:
				fail(k, name, "one of the template and point %s has it as text, the other as a number", source)
			case k.Writable() && (info.Min == nil || info.Max == nil || *info.Min <= *info.Max):
				if _, err := narrow(p, info); err != nil {
					fail(k, name, "%s: %s", source, loadText(err))
				}
			}
		}
	}
	return faults
}

// narrow returns a point of a channel with the limits that a model adds. Limits
// become narrower, never wider; a new bound is moved inwards to the point's grid.
// With an error, the point is as narrow as it can be made, so that it refuses too
// much rather than too little.
func narrow(p model.Point, info model.PointInfo) (model.Point, error) {
	const slack = 1e-9
	step, origin := p.Step, 0.0
	if p.Min != nil {
		origin = *p.Min
	}
	var err error
	if info.Step > 0 {
		times := info.Step / max(p.Step, slack)
		switch {
		case p.Step > 0 && math.Abs(times-math.Round(times)) > slack*times:
			err = fmt.Errorf("%w: step %v is no multiple of the point's step %v", model.ErrInvalid, info.Step, p.Step)
		case p.Step == 0 && info.Min != nil && (p.Min == nil || *info.Min > *p.Min):
			origin = *info.Min // the point has no grid: the template's begins where it says
			fallthrough
		default:
			p.Step, step = info.Step, info.Step
		}
	}
	if info.Min != nil && (p.Min == nil || *info.Min > *p.Min) {
		v := *info.Min
		if step > 0 {
			v = origin + math.Ceil((v-origin)/step-slack)*step
		}
		p.Min = &v
	}
	if info.Max != nil && (p.Max == nil || *info.Max < *p.Max) {
		v := *info.Max
		p.Max = &v
	}
	if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
		err = fmt.Errorf("%w: nothing is left between the limits %v and %v of template and point", model.ErrInvalid, *p.Min, *p.Max)
	}
	return p, err
}

// extendTemplate returns t with everything of base that it does not say itself.
func extendTemplate(t, base model.Template) (whole model.Template, unknown []string) {
	out := map[string]bool{}
	for _, name := range t.Without {
		out[name] = true
		if _, isAlarm := base.Alarms[name]; !isAlarm && !slices.Contains(templateNames(base), name) {
			unknown = append(unknown, name)
		}
	}
	whole = t
	whole.Extends, whole.Without = "", nil
	own := templateNames(t)
	gone := func(name string) bool { return out[name] || slices.Contains(own, name) }
	whole.Properties = inherit(t.Properties, base.Properties, gone)
	whole.Measurements = inherit(t.Measurements, base.Measurements, gone)
	whole.Signals = inherit(t.Signals, base.Signals, gone)
	whole.Controls = inherit(t.Controls, base.Controls, gone)
	whole.Adjustments = inherit(t.Adjustments, base.Adjustments, gone)
	whole.Calculations = inherit(t.Calculations, base.Calculations, gone)
	whole.Policies = inherit(t.Policies, base.Policies, func(name string) bool {
		_, own := t.Policies[name]
		return own || out[name]
	})
	whole.Alarms = inherit(t.Alarms, base.Alarms, func(id string) bool {
		if _, own := t.Alarms[id]; own || out[id] {
			return true
		}
		return out[base.Alarms[id].Point] || out[base.Alarms[id].Reference]
	})
	for id, a := range whole.Alarms {
		if _, own := t.Alarms[id]; !own && a.Enable != nil && a.Enable.Model == "" && out[a.Enable.Point] {
			a.Enable = nil
			whole.Alarms[id] = a
		}
	}
	if whole.Title == "" {
		whole.Title = base.Title
	}
	if whole.Description == "" {
		whole.Description = base.Description
	}
	return whole, unknown
}

func inherit[T any](own, base map[string]T, gone func(string) bool) map[string]T {
	all := maps.Clone(own)
	for name, v := range base {
		if gone(name) {
			continue
		}
		if all == nil {
			all = map[string]T{}
		}
		all[name] = v
	}
	return all
}

// templateNames returns the names of points, calculations and properties.
func templateNames(t model.Template) []string {
	names := slices.Collect(maps.Keys(t.Properties))
	for _, k := range model.Kinds() {
		names = slices.AppendSeq(names, maps.Keys(t.Points(k)))
	}
	return slices.AppendSeq(names, maps.Keys(t.Calculations))
}

// kindOf returns the kind that a template gives a name, or else k.
func kindOf(t *model.Template, name string, k model.Kind) model.Kind {
	if t == nil {
		return k
	}
	for _, other := range model.Kinds() {
		if _, ok := t.Points(other)[name]; ok && other.Writable() == k.Writable() {
			return other
		}
	}
	return k
}
