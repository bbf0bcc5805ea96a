package calc

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// Model is the calculations of one model. It is for one goroutine.
type Model struct {
	id     string
	order  []*calculation // so that each comes after what it needs
	inputs []model.Ref
	env    env
}

type calculation struct {
	name string
	expr *Expr
	// own are the calculations of the same model that this one needs.
	own   []string
	slots [][]int // by reference
	place int     // of the result
}

// Compile parses the calculations of a model. Errors wrap model.ErrInvalid and
// name the calculation; there is one for each that is wrong.
func Compile(m model.Instance) (*Model, error) {
	c := &Model{id: m.ID}
	var errs []error
	all := map[string]*calculation{}
	for _, name := range slices.Sorted(maps.Keys(m.Calculations)) {
		expr, err := Parse(m.Calculations[name].Expression)
		if err != nil {
			errs = append(errs, fmt.Errorf("model %s: calculation %s: %w", m.ID, name, err))
			continue
		}
		k := &calculation{name: name, expr: expr}
		for _, r := range expr.refs {
			if _, ok := m.Calculations[r.Name]; ok && !r.Children && (r.Model == "" || r.Model == m.ID) {
				k.own = append(k.own, r.Name)
			}
		}
		all[name] = k
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := Cycle([]model.Instance{m}); err != nil {
		return nil, err
	}
	done := map[string]bool{}
	var add func(k *calculation)
	add = func(k *calculation) {
		if done[k.name] {
			return
		}
		done[k.name] = true
		for _, name := range k.own {
			add(all[name])
		}
		c.order = append(c.order, k)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		add(all[name])
	}
	return c, nil
}

// Names returns the calculations in the order of Evaluate's results.
func (c *Model) Names() []string {
	names := make([]string, len(c.order))
	for i, k := range c.order {
		names[i] = k.name
	}
	return names
}

// Remembers reports whether a calculation has something to keep over a restart,
// so that it must be evaluated every Tick. every is how often it has to be stored:
// zero means with each evaluation.
func (c *Model) Remembers(name string) (every time.Duration, ok bool) {
	for _, k := range c.order {
		if k.name != name {
			continue
		}
		every = maxSpan
		for _, s := range k.expr.states {
			ok = true
			if s.Kind == "integral" {
				every = 0
			}
			every = min(every, s.span/parts)
		}
	}
	return every, ok
}

// defines reports whether a model has a point of this name.
func defines(m model.Instance, name string) bool {
	if _, ok := m.Calculations[name]; ok {
		return true
	}
	for _, k := range model.Kinds() {
		if _, ok := m.Bindings(k)[name]; ok {
			return true
		}
	}
	return false
}

// made reports whether a model is made of a template, or of one that extends it.
func made(m model.Instance, template string) bool {
	return template == "" || m.Template == template || slices.Contains(m.Bases, template)
}

// meant returns the models that a reference of an expression of m is about.
func meant(r Ref, m model.Instance, models map[string]model.Instance) []model.Instance {
	switch {
	case r.Children:
		var list []model.Instance
		for _, other := range models {
			if other.Parent == m.ID && other.ID != m.ID && made(other, r.Template) {
				list = append(list, other)
			}
		}
		slices.SortFunc(list, func(a, b model.Instance) int { return strings.Compare(a.ID, b.ID) })
		return list
	case r.Model == "" || r.Model == m.ID:
		return []model.Instance{m}
	}
	if other, ok := models[r.Model]; ok {
		return []model.Instance{other}
	}
	return nil
}

// Bind resolves every reference among the models of the site, by id, and returns
// the points to be read, in the order in which Evaluate wants them. problems
// names what is not there; that counts as bad. It may be called again when models
// changed: nothing is forgotten by it.
func (c *Model) Bind(m model.Instance, models map[string]model.Instance) (inputs []model.Ref, problems []string) {
	c.inputs = nil
	var constants []Input
	places := map[model.Ref]int{}
	type target struct {
		kind  byte // 'i' input, 'c' constant, 'r' result
		place int
	}
	wanted := make([][][]target, len(c.order))
	results := map[string]int{}
	for i, k := range c.order {
		results[k.name] = i
	}
	constant := func(v Input) target {
		constants = append(constants, v)
		return target{'c', len(constants) - 1}
	}
	for i, k := range c.order {
		wanted[i] = make([][]target, len(k.expr.refs))
		for j, r := range k.expr.refs {
			for _, other := range meant(r, m, models) {
				property, isProperty := other.Properties[r.Name]
				switch {
				case other.ID == m.ID && slices.Contains(k.own, r.Name):
					wanted[i][j] = append(wanted[i][j], target{'r', results[r.Name]})
				case defines(other, r.Name):
					ref := model.Ref{Owner: other.ID, Name: r.Name}
					if _, ok := places[ref]; !ok {
						places[ref] = len(c.inputs)
						c.inputs = append(c.inputs, ref)
					}
					wanted[i][j] = append(wanted[i][j], target{'i', places[ref]})
				case isProperty:
					wanted[i][j] = append(wanted[i][j], constant(Input{Value: property}))
				}
			}
			if len(wanted[i][j]) == 0 && !r.Children {
				problems = append(problems, fmt.Sprintf("model %s: calculation %s: there is no %s", c.id, k.name, r))
				wanted[i][j] = []target{constant(Input{Quality: model.Bad})}
			}
		}
	}
	offsets := map[byte]int{'i': 0, 'c': len(c.inputs), 'r': len(c.inputs) + len(constants)}
	c.env.values = make([]Input, offsets['r']+len(c.order))
	copy(c.env.values[offsets['c']:], constants)
	for i, k := range c.order {
		k.place = offsets['r'] + i
		k.slots = make([][]int, len(k.expr.refs))
		for j, targets := range wanted[i] {
			for _, t := range targets {
				k.slots[j] = append(k.slots[j], offsets[t.kind]+t.place)
			}
		}
	}
	return slices.Clone(c.inputs), problems
}

// Evaluate computes everything. The inputs are those that Bind named; now is one
// clock for all evaluations of the model. The results are in the order of Names,
// and stand until the next call.
func (c *Model) Evaluate(now time.Time, inputs []Input) []Input {
	copy(c.env.values[:len(c.inputs)], inputs)
	c.env.now = now.UnixMicro()
	for _, k := range c.order {
		c.env.slots = k.slots
		c.env.values[k.place] = k.expr.root.eval(&c.env)
	}
	return c.env.values[len(c.env.values)-len(c.order):]
}

// State returns what a calculation remembers, as text to be stored; empty where
// it remembers nothing.
func (c *Model) State(name string) string {
	for _, k := range c.order {
		if k.name == name && len(k.expr.states) > 0 {
			text, err := json.Marshal(k.expr.states)
			if err != nil { // every number in it is finite
				return ""
			}
			return string(text)
		}
	}
	return ""
}

// Load takes over what State returned. Where the expression has other functions
// now, or the text cannot be true, it begins anew and says so with an error.
func (c *Model) Load(name, text string) error {
	for _, k := range c.order {
		if k.name != name {
			continue
		}
		var list []json.RawMessage
		err := json.Unmarshal([]byte(text), &list)
		if err != nil {
			err = fmt.Errorf("%w: %w", model.ErrInvalid, err)
		}
		if err == nil && len(list) != len(k.expr.states) {
			err = fmt.Errorf("%w: it has %d functions that remember, and %d are stored", model.ErrInvalid, len(k.expr.states), len(list))
		}
		for i := range list {
			if err == nil {
				err = k.expr.states[i].load(string(list[i]))
			}
		}
		if err != nil {
			for _, s := range k.expr.states {
				*s = state{Kind: s.Kind, unit: s.unit, span: s.span}
			}
			return fmt.Errorf("model %s: calculation %s begins anew: %w", c.id, name, err)
		}
	}
	return nil
}

// Continue takes over what other remembers where that is newer than what is known
// here, as after data was lost. other is of the same calculations, and nil is none.
func (c *Model) Continue(other *Model) {
	if other == nil {
		return
	}
	for i, k := range c.order {
		for j, s := range k.expr.states {
			if old := other.order[i].expr.states[j]; old.At > s.At {
				*s = *old
				s.Marks = slices.Clone(old.Marks)
			}
		}
	}
}

// resultOf returns the calculation whose result a point of a model is: its own, or
// that of another whose result is bound to it.
func resultOf(m model.Instance, name string, models map[string]model.Instance) (model.Ref, bool) {
	if _, ok := m.Calculations[name]; ok {
		return model.Ref{Owner: m.ID, Name: name}, true
	}
	for _, k := range model.Kinds() {
		ref, err := model.ParseRef(m.Bindings(k)[name])
		if err != nil {
			continue
		}
		id, ok := model.CalculationModel(ref.Owner)
		if _, has := models[id].Calculations[ref.Name]; ok && has {
			return model.Ref{Owner: id, Name: ref.Name}, true
		}
	}
	return model.Ref{}, false
}

// Cycle returns an error that wraps model.ErrInvalid and names the way where
// calculations of the models need each other in a circle. Expressions that cannot
// be parsed are passed over.
func Cycle(list []model.Instance) error {
	models := make(map[string]model.Instance, len(list))
	for _, m := range list {
		models[m.ID] = m
	}
	const under, done = 1, 2
	state := map[model.Ref]int{}
	var path []string
	var visit func(at model.Ref) []string
	visit = func(at model.Ref) []string {
		switch state[at] {
		case done:
			return nil
		case under:
			i := slices.Index(path, at.String())
			return append(slices.Clone(path[i:]), at.String())
		}
		state[at] = under
		path = append(path, at.String())
		m := models[at.Owner]
		if expr, err := Parse(m.Calculations[at.Name].Expression); err == nil {
			for _, r := range expr.refs {
				for _, other := range meant(r, m, models) {
					result, ok := resultOf(other, r.Name, models)
					if !ok {
						continue
					}
					if circle := visit(result); circle != nil {
						return circle
					}
				}
			}
		}
		path = path[:len(path)-1]
		state[at] = done
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(models)) {
		for _, name := range slices.Sorted(maps.Keys(models[id].Calculations)) {
			if circle := visit(model.Ref{Owner: id, Name: name}); circle != nil {
				return fmt.Errorf("%w: model %s: calculation %s: a circle: %s", model.ErrInvalid, id, name, strings.Join(circle, " needs "))
			}
		}
	}
	return nil
}
