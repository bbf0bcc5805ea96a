package voltage

import (
	"encoding"
	"errors"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
)

// loadRaw is a part of the file that is decoded later.
type loadRaw struct {
	node *yaml.Node
	line int
}

// loadFields are the keys of a struct.
type loadFields struct {
	names  []string // in the order of the struct
	byName map[string][]int
	rest   []int           // the inline map for all other keys; nil without
	tables map[string]bool // names of lists that may be CSV files; see channel.Kind
}

func (l *loader) fieldsOf(t reflect.Type) *loadFields {
	if f, ok := l.fields[t]; ok {
		return f
	}
	f := &loadFields{byName: map[string][]int{}, tables: map[string]bool{}}
	f.collect(t, nil, 0)
	l.fields[t] = f
	return f
}

func (f *loadFields) collect(t reflect.Type, prefix []int, depth int) {
	for i := range t.NumField() {
		field := t.Field(i)
		index := append(prefix[:len(prefix):len(prefix)], i)
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		inline := strings.Contains(options, "inline") || field.Anonymous && name == ""
		switch {
		case name == "-":
		case inline && field.Type == reflect.TypeFor[map[string]loadRaw]():
			f.rest = index
		case inline && field.Type.Kind() == reflect.Struct && depth < loadMaxDepth:
			f.collect(field.Type, index, depth+1)
		case !field.IsExported() || inline:
		default:
			if name == "" {
				name = strings.ToLower(field.Name)
			}
			if _, ok := f.byName[name]; !ok {
				f.names = append(f.names, name)
				f.byName[name] = index
				f.tables[name] = field.Tag.Get("load") == "table"
			}
		}
	}
}

// decode reads a node into v and reports what does not fit, field by field.
// Scalars are taken as they are written, so that an id may be a bare number and
// "no" is not false. expand replaces ${NAME}.
func (l *loader) decode(n *yaml.Node, v reflect.Value, p loadPath, line int, expand bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if len(p) > loadMaxDepth {
		l.at(p[:4], line, "nested too deeply, or it contains itself")
		return
	}
	if !l.spend(p, line, 0) {
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		l.at(p, line, "tags (!name) are not used; text that begins with ! needs quotes")
		return
	}
	if v.Type() == reflect.TypeFor[loadRaw]() {
		v.Set(reflect.ValueOf(loadRaw{n, line}))
		return
	}
	switch v.Addr().Interface().(type) {
	case yaml.Unmarshaler, interface{ UnmarshalYAML(func(any) error) error }:
		l.decodeForeign(n, v, p, line, expand)
		return
	case encoding.TextUnmarshaler:
		l.decodeScalar(n, v, p, line, expand)
		return
	}
	null := loadNull(n)
	switch kind := v.Kind(); kind {
	case reflect.Pointer:
		// A section that is there but empty is there: it must not switch to a default.
		if null && v.Type().Elem().Kind() != reflect.Struct {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		l.decode(n, v.Elem(), p, line, expand)
	case reflect.Struct, reflect.Map:
		if null {
			return
		}
		if n.Kind != yaml.MappingNode {
			l.at(p, line, "want a section with keys, not %s", loadKindName(n))
			return
		}
		if kind == reflect.Struct {
			l.decodeStruct(n, v, p, expand)
		} else {
			l.decodeMap(n, v, p, expand)
		}
	case reflect.Slice:
		if null {
			return
		}
		if n.Kind != yaml.SequenceNode {
			l.at(p, line, "want a list, not %s", loadKindName(n))
			return
		}
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			at := item.Line
			if item.Kind == yaml.AliasNode {
				at = item.Alias.Line
			}
			if loadNull(item) {
				l.at(p.with(i), at, "empty list item")
				continue
			}
			l.decode(item, list.Index(i), p.with(i), at, expand)
		}
		v.Set(list)
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		l.decodeScalar(n, v, p, line, expand)
	default:
		l.decodeForeign(n, v, p, line, expand)
	}
}

func loadKindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

func (l *loader) decodeStruct(n *yaml.Node, v reflect.Value, p loadPath, expand bool) {
	fields := l.fieldsOf(v.Type())
	expand = expand || v.Type() == reflect.TypeFor[loadStore]()
	for _, pair := range l.pairs(n, p, true) {
		at := p.with(pair.key)
		if index, ok := fields.byName[pair.key]; ok {
			field := v.FieldByIndex(index)
			if !fields.tables[pair.key] || !l.table(pair, field, at, expand) {
				l.decode(pair.value, field, at, pair.line, expand)
			}
			continue
		}
		if fields.rest == nil {
			l.at(at, pair.line, "unknown key%s", loadSuggest(pair.key, fields.names))
			continue
		}
		rest := v.FieldByIndex(fields.rest)
		if rest.IsNil() {
			rest.Set(reflect.MakeMap(rest.Type()))
		}
		value := pair.value
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		rest.SetMapIndex(reflect.ValueOf(pair.key), reflect.ValueOf(loadRaw{value, pair.line}))
	}
}

func (l *loader) decodeMap(n *yaml.Node, v reflect.Value, p loadPath, expand bool) {
	t := v.Type()
	m := reflect.MakeMap(t)
	for _, pair := range l.pairs(n, p, true) {
		at := p.with(pair.key)
		key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if err := loadSet(key, pair.key); err != nil {
			l.at(at, pair.line, "key %s", err)
			continue
		}
		l.decode(pair.value, value, at, pair.line, expand)
		m.SetMapIndex(key, value)
	}
	v.Set(m)
}

func (l *loader) decodeScalar(n *yaml.Node, v reflect.Value, p loadPath, line int, expand bool) {
	if n.Kind != yaml.ScalarNode {
		l.at(p, line, "want a single value, not %s", loadKindName(n))
		return
	}
	if loadNull(n) {
		return
	}
	text := n.Value
	if expand {
		var err error
		if text, err = l.expand(text, p); err != nil {
			l.at(p, line, "%s", err)
			return
		}
	}
	err := loadSet(v, text)
	switch {
	case err == nil && v.Type() == reflect.TypeFor[channel.Path]():
		v.SetString(l.relative(text))
	case err == nil:
	case text != n.Value:
		// The variable's value must not show, and may be hidden in any form.
		l.at(p, line, "%.80q: the value does not fit here: want %s", n.Value, loadWant(v))
	case expand && loadSensitive(p):
		l.at(p, line, "the value does not fit here: want %s", loadWant(v))
	default:
		_, told := loadLocate(loadText(err), []string{p[len(p)-1:].String()})
		l.at(p, line, "%s", told)
	}
}

// decodeForeign leaves a value to the YAML package: types with a decoder of
// their own, and those that decode does not know.
func (l *loader) decodeForeign(n *yaml.Node, v reflect.Value, p loadPath, line int, expand bool) {
	before := l.count()
	plain := l.plain(n, p, line, expand)
	if plain == nil || l.count() > before {
		return
	}
	if err := plain.Decode(v.Addr().Interface()); err != nil {
		text := err.Error()
		var types *yaml.TypeError
		if errors.As(err, &types) { // its message quotes values
			text = "the value does not fit here: want a " + v.Type().String()
		}
		l.at(p, line, "%s", l.redact(text))
	}
}

// plain returns a copy without aliases and merges, with ${NAME} replaced; nil
// when there is nothing to decode.
func (l *loader) plain(n *yaml.Node, p loadPath, line int, expand bool) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if len(p) > loadMaxDepth {
		l.at(p[:4], line, "nested too deeply, or it contains itself")
		return nil
	}
	if !l.spend(p, line, 0) {
		return nil
	}
	c := &yaml.Node{Kind: n.Kind, Style: n.Style, Tag: n.Tag, Value: n.Value, Line: n.Line, Column: n.Column}
	switch n.Kind {
	case yaml.MappingNode:
		for _, pair := range l.pairs(n, p, true) {
			value := l.plain(pair.value, p.with(pair.key), pair.line, expand)
			if value == nil {
				return nil
			}
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: pair.key, Line: pair.line}
			c.Content = append(c.Content, key, value)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			value := l.plain(item, p.with(i), item.Line, expand)
			if value == nil {
				return nil
			}
			c.Content = append(c.Content, value)
		}
	case yaml.ScalarNode:
		if !expand {
			break
		}
		text, err := l.expand(n.Value, p)
		if err != nil {
			l.at(p, line, "%s", err)
			return nil
		}
		if text != n.Value && loadPlain(n) {
			c.Tag = "" // is a number now, perhaps
		}
		c.Value = text
	}
	return c
}
