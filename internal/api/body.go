package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// The largest request bodies, in bytes: usually, and where one holds a script.
const (
	maxBody       = 64 << 10
	maxScriptBody = 300 << 10
)

// readBody is readBodyUpTo for the usual size.
func readBody(w http.ResponseWriter, r *http.Request, optional bool, fields map[string]any) error {
	return readBodyUpTo(maxBody, w, r, optional, fields)
}

// readBodyUpTo reads a JSON object into the variables that fields points to, by
// field name. It is stricter than encoding/json, for a request may move power:
// names are case-sensitive, and a field that is unknown or given twice is
// refused instead of guessed at. With optional, no body at all is accepted.
func readBodyUpTo(limit int64, w http.ResponseWriter, r *http.Request, optional bool, fields map[string]any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return problemf(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", tooLarge.Limit)
		}
		return problemf(http.StatusBadRequest, "the body could not be read")
	}
	if len(body) == 0 && optional {
		return nil
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return problemf(http.StatusUnsupportedMediaType, "send the body as Content-Type: application/json")
	}
	return decodeObject(body, fields)
}

func decodeObject(body []byte, fields map[string]any) error {
	known := "the fields are " + strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
	if len(fields) == 1 {
		known = "the only field is " + slices.Collect(maps.Keys(fields))[0]
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return problemf(http.StatusBadRequest, "the body is not a JSON object: %s", known)
	}
	seen := make(map[string]bool, len(fields))
	for d.More() {
		t, err := d.Token()
		name, isName := t.(string)
		if err != nil || !isName {
			return problemf(http.StatusBadRequest, "the body is not well-formed JSON")
		}
		target, ok := fields[name]
		if !ok {
			return problemf(http.StatusBadRequest, "field %.40q is unknown: %s", name, known)
		}
		if seen[name] {
			return problemf(http.StatusBadRequest, "field %q is given twice", name)
		}
		seen[name] = true
		if err := d.Decode(target); err != nil {
			var wrong *json.UnmarshalTypeError
			if errors.As(err, &wrong) {
				return problemf(http.StatusBadRequest, "field %q: %s is not %s", name, wrong.Value, kindName(wrong))
			}
			return problemf(http.StatusBadRequest, "field %q: the body is not well-formed JSON", name)
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return problemf(http.StatusBadRequest, "the body is not well-formed JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return problemf(http.StatusBadRequest, "there is more than one JSON object in the body")
	}
	return nil
}

// kindName says what was wanted, in the words of JSON.
func kindName(e *json.UnmarshalTypeError) string {
	switch name := e.Type.Kind().String(); {
	case name == "string":
		return "a string"
	case strings.HasPrefix(name, "float"):
		return "a number that can be stored"
	case strings.HasPrefix(name, "int"):
		return "a whole number"
	case name == "bool":
		return "true or false"
	case name == "slice":
		return "a list"
	default:
		return "an object"
	}
}
