package voltage

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/voltageems/voltage/model"
)

// loadModel is a model in the file.
type loadModel struct {
	ID           string            `yaml:"id"`
	Name         string            `yaml:"name"`
	Disabled     bool              `yaml:"disabled"`
	Channel      string            `yaml:"channel"`
	Alarms       *bool             `yaml:"alarms"`
	Measurements map[string]string `yaml:"measurements"`
	Signals      map[string]string `yaml:"signals"`
	Controls     map[string]string `yaml:"controls"`
	Adjustments  map[string]string `yaml:"adjustments"`

	Policies     map[string]model.ControlPolicy `yaml:"policies"`
	Template     string                         `yaml:"template"`
	Parent       string                         `yaml:"parent"`
	Properties   map[string]float64             `yaml:"properties"`
	Calculations map[string]loadRaw             `yaml:"calculations"`
}

func (m loadModel) instance() model.Instance {
	return model.Instance{
		ID: m.ID, Name: m.Name, Disabled: m.Disabled, Measurements: m.Measurements,
		Signals: m.Signals, Controls: m.Controls, Adjustments: m.Adjustments, Policies: m.Policies,
	}
}

// loadNames are the names of a model's points.
type loadNames struct {
	kinds map[string]model.Kind
	// incomplete is set when names are missing that the file perhaps defines.
	incomplete bool
}

// loadBindingKey is the key of the bindings of a kind.
func loadBindingKey(k model.Kind) string { return k.String() + "s" }

func (l *loader) buildModels(list []loadModel) []model.Instance {
	l.models = map[string]*loadNames{}
	var out []model.Instance
	for i, m := range list {
		p := loadPath{"models", i}
		skip := l.unfit(p, reflect.TypeFor[loadModel](), "id")
		if !slices.Contains(skip, "id") {
			l.once(p, "model", m.ID)
			// The bindings are checked one by one below.
			loadCheck(l, m, loadModel{ID: "model"}, nil,
				func(m loadModel) error { return model.Instance{ID: m.ID}.Validate() },
				func(_, text string) { l.fail(p.with("id"), "%s", strings.TrimPrefix(text, "model: ")) })
		}
		inst := m.instance()
		names := &loadNames{kinds: map[string]model.Kind{}, incomplete: l.brokenUnder(p)}
		bound := map[string]bool{} // points that have a name of their own
		for _, k := range model.Kinds() {
			l.checkBindings(p.with(loadBindingKey(k)), k, inst.Bindings(k), names, bound)
		}
		t := l.modelTemplate(p, m, names)
		l.bindTable(&inst, t.plain(), names, bound)
		if m.Channel != "" && !slices.Contains(skip, "channel") {
			l.bindChannel(p, m.Channel, &inst, t.plain(), names, bound)
			l.profileAlarms(p, m, inst)
		}
		l.complete(p, m, t, &inst, names)
		if _, ok := l.models[m.ID]; !ok {
			l.models[m.ID] = names
		}
		l.checkPolicies(p.with("policies"), m.Policies, names)
		out = append(out, inst)
	}
	for i, m := range list { // when the names of all models are known
		for name, policy := range m.Policies {
			for j, lock := range policy.Interlocks {
				l.checkName(loadPath{"models", i, "policies", name, "interlocks", j, "point"}, lock.Model, lock.Point, loadAnyKind, "point")
			}
		}
	}
	l.checkTree(out)
	return out
}

// checkPolicies checks the policies of a model's controls.
func (l *loader) checkPolicies(p loadPath, policies map[string]model.ControlPolicy, names *loadNames) {
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		at := p.with(name)
		if l.brokenUnder(at) {
			continue
		}
		if k, ok := names.kinds[name]; !ok && !names.incomplete {
			l.fail(at, "the model has no such control or adjustment%s", loadNearest(name, names.kinds))
		} else if ok && !k.Writable() {
			l.fail(at, "%s is a %s: policies are for controls and adjustments", name, k)
		}
		if err := policies[name].Validate(); err != nil {
			l.fail(at, "%s", loadText(err))
		}
	}
}

// checkBindings checks the bindings of one kind. Channels that the file does
// not have may be another engine's or the program's own, so they are accepted.
func (l *loader) checkBindings(p loadPath, k model.Kind, bindings map[string]string, names *loadNames, bound map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(bindings)) {
		at := p.with(name)
		if !model.ValidID(name) {
			l.fail(at, "the name may have 1 to %d of A-Z a-z 0-9 _ . -", model.MaxIDLength)
			continue
		}
		if other, ok := names.kinds[name]; ok {
			l.fail(at, "the name is both a %s and a %s", other, k)
		}
		names.kinds[name] = k
		if l.isBroken(at) {
			continue
		}
		ref, err := model.ParseRef(bindings[name])
		if err != nil {
			l.fail(at, "%.140q: want channel:point, such as \"1001:1\"", bindings[name])
			continue
		}
		bound[bindings[name]] = true
		t, ok := l.channels[ref.Owner]
		if !ok {
			continue
		}
		i, ok := t.index[ref.Name]
		switch {
		case !ok && !t.incomplete:
			l.fail(at, "channel %s has no point %s%s", ref.Owner, ref.Name, loadNearest(ref.Name, t.index))
		case ok && k.Writable() && !t.points[i].Kind.Writable() && !t.broken[i]:
			l.fail(at, "point %s of channel %s is a %s and cannot be written", ref.Name, ref.Owner, t.points[i].Kind)
		}
	}
}

// bindChannel binds every point of a channel under its own name, except those
// points and names that are bound already.
func (l *loader) bindChannel(p loadPath, id string, inst *model.Instance, template *model.Template, names *loadNames, bound map[string]bool) {
	t, ok := l.channels[id]
	if !ok {
		l.fail(p.with("channel"), "the file has no channel %.40q%s", id, loadNearest(id, l.channels))
		names.incomplete = true
		return
	}
	names.incomplete = names.incomplete || t.incomplete
	from := map[string]string{} // name → point that gave it
	var maps [4]map[string]string
	for i, point := range t.points {
		if first, ok := t.index[point.ID]; !ok || first != i {
			continue
		}
		ref := model.Ref{Owner: id, Name: point.ID}.String()
		name := loadName(point)
		if bound[ref] {
			continue
		}
		if other, ok := from[name]; ok {
			l.fail(p.with("channel"), "points %s and %s of channel %s both get the name %s: rename one, or bind it under a name of its own", other, point.ID, id, name)
			continue
		}
		if _, ok := names.kinds[name]; ok {
			continue // the file's own binding of this name wins
		}
		from[name] = point.ID
		k := kindOf(template, name, point.Kind)
		if maps[k] == nil {
			maps[k] = map[string]string{}
		}
		maps[k][name] = ref
	}
	for _, k := range model.Kinds() {
		for name := range maps[k] {
			names.kinds[name] = k
		}
	}
	inst.Measurements = loadJoin(inst.Measurements, maps[model.Measurement])
	inst.Signals = loadJoin(inst.Signals, maps[model.Signal])
	inst.Controls = loadJoin(inst.Controls, maps[model.Control])
	inst.Adjustments = loadJoin(inst.Adjustments, maps[model.Adjustment])
}

func loadJoin(to, from map[string]string) map[string]string {
	if to == nil {
		return from
	}
	maps.Copy(to, from)
	return to
}

// loadName turns a point's name into an id: what an id cannot have becomes "_".
// A name of which nothing remains gives way to the point's id.
func loadName(p model.Point) string {
	name := p.Title()
	if model.ValidID(name) {
		return name
	}
	var b strings.Builder
	for _, r := range name {
		switch c := string(r); {
		case model.ValidID(c):
			b.WriteString(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "_"):
			b.WriteByte('_')
		}
		if b.Len() >= model.MaxIDLength {
			break
		}
	}
	name = strings.Trim(b.String(), "_")
	if name == "" {
		return p.ID
	}
	return name
}

// loadNearest suggests a key that is close to word.
func loadNearest[T any](word string, m map[string]T) string {
	text := loadSuggest(word, slices.Sorted(maps.Keys(m)))
	if strings.HasPrefix(text, "; ") {
		return text
	}
	return "" // a list of hundreds of names helps nobody
}

// checkName reports a name that a model of the file does not have. Other
// models may be another engine's or the program's own.
func (l *loader) checkName(p loadPath, id, name string, suits func(model.Kind) bool, what string) {
	m, ok := l.models[id]
	if !ok || m.incomplete || l.isBroken(p) || name == "" {
		return
	}
	if k, ok := m.kinds[name]; !ok {
		l.fail(p, "model %s has no %s %.64q%s", id, what, name, loadNearest(name, m.kinds))
	} else if !suits(k) {
		l.fail(p, "%s of model %s is a %s, not a %s", name, id, k, what)
	}
}

func loadAnyKind(model.Kind) bool { return true }

func (l *loader) buildRules(list []model.Rule) []model.Rule {
	condition := model.Condition{Model: "model", Point: "point", Operator: model.Above}
	action := model.Action{Type: model.ActionNotification, Model: "model", Control: "control", Message: "message"}
	whole := model.Rule{ID: "rule", Conditions: []model.Condition{condition}, Actions: []model.Action{action}}
	for i, r := range list {
		p := loadPath{"rules", i}
		skip := l.unfit(p, reflect.TypeFor[model.Rule](), "id", "conditions", "actions")
		// Conditions and actions are checked one by one below.
		only := whole
		only.ID = r.ID
		loadCheck(l, only, whole, skip, model.Rule.Validate, func(field, text string) { l.fail(p.field(field), "%s", text) })
		if r.ID != "" {
			l.once(p, "rule", r.ID)
		}
		for _, f := range []struct {
			name string
			n    int
		}{{"conditions", len(r.Conditions)}, {"actions", len(r.Actions)}} {
			if (f.n < 1 || f.n > 32) && !slices.Contains(skip, f.name) {
				l.fail(p.with(f.name), "%d: want 1 to 32", f.n)
			}
		}
		for j, c := range r.Conditions {
			at := p.with("conditions", j)
			l.checkRulePart(at, func(report func(string, string)) {
				skip := l.unfit(at, reflect.TypeFor[model.Condition](), "model", "point", "operator", "threshold")
				loadCheck(l, c, condition, skip, func(c model.Condition) error {
					r := whole
					r.Conditions = []model.Condition{c}
					return r.Validate()
				}, report)
			})
			l.checkName(at.with("point"), c.Model, c.Point, loadAnyKind, "point")
		}
		for j, a := range r.Actions {
			at := p.with("actions", j)
			l.checkRulePart(at, func(report func(string, string)) {
				if a.Message == "" && len(loadActionNeeds(a.Type)) == 1 {
					a.Message = action.Message // what an unknown type needs is unknown
				}
				loadCheck(l, a, action, l.unfit(at, reflect.TypeFor[model.Action](), loadActionNeeds(a.Type)...), func(a model.Action) error {
					r := whole
					r.Actions = []model.Action{a}
					return r.Validate()
				}, report)
			})
			if a.Type == model.ActionControl {
				l.checkName(at.with("control"), a.Model, a.Control, model.Kind.Writable, "control")
			}
		}
	}
	return list
}

// checkRulePart runs a check whose messages name a place in a rule that is not
// the file's.
func (l *loader) checkRulePart(p loadPath, check func(report func(field, text string))) {
	if l.isBroken(p) {
		return
	}
	check(func(field, text string) {
		text = strings.TrimPrefix(text, "rule rule: ")
		text = strings.TrimPrefix(text, "condition 1: ")
		text = strings.TrimPrefix(text, "action 1: ")
		l.fail(p.field(field), "%s", text)
	})
}

func loadActionNeeds(t model.ActionType) []string {
	switch t {
	case model.ActionControl:
		return []string{"type", "model", "control", "value"}
	case model.ActionAlarm, model.ActionNotification:
		return []string{"type", "message"}
	}
	return []string{"type"}
}
