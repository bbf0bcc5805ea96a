package scripts

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
)

// errNullInList is for what the scripts cannot read on every store.
var errNullInList = errors.New("a null in a list")

// exactFields returns a JSON object with those fields alone that v, a pointer to a
// struct, has by exactly this name, as the scripts see it: encoding/json takes
// "Operator" for "operator". So it does with the objects in it.
func exactFields(text []byte, v any) ([]byte, error) {
	if strings.Contains(string(text), "null") {
		var whole any
		if err := json.Unmarshal(text, &whole); err != nil {
			return nil, err
		}
		if nullInList(whole) {
			return nil, errNullInList
		}
	}
	return exactly(text, reflect.TypeOf(v).Elem())
}

func exactly(text []byte, t reflect.Type) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	kept := map[string]json.RawMessage{}
	for i := range t.NumField() {
		field := t.Field(i)
		name := field.Tag.Get("json")
		value, given := all[name]
		if !given {
			continue
		}
		if of := field.Type; of.Kind() == reflect.Pointer && string(value) != "null" {
			inner, err := exactly(value, of.Elem())
			if err != nil {
				return nil, errors.New(name + ": " + err.Error())
			}
			value = inner
		}
		kept[name] = value
	}
	return json.Marshal(kept)
}

func nullInList(v any) bool {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if e == nil || nullInList(e) {
				return true
			}
		}
	case map[string]any:
		for _, e := range v {
			if nullInList(e) {
				return true
			}
		}
	}
	return false
}
