package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// candidate is the script that a request brings or names.
type candidate struct {
	source, version string
	change          scripts.Change
}

func (c *candidate) read(w http.ResponseWriter, r *http.Request, which *selection) (err error) {
	fields := map[string]any{"source": &c.source, "version": &c.version}
	if which != nil {
		fields["channels"], fields["percent"] = &which.channels, &which.percent
	}
	if c.change, err = readChange(w, r, false, fields); err != nil {
		return err
	}
	if (c.source == "") == (c.version == "") {
		return problemf(http.StatusBadRequest, `give either "source", the text of a composed script, or "version", one that the store has`)
	}
	if c.version != "" {
		return checkVersion(c.version)
	}
	return nil
}

func (c *candidate) script(ctx context.Context, store ScriptStore, name string) (scripts.Script, error) {
	if c.version != "" {
		return store.ScriptSource(ctx, name, c.version)
	}
	return parseSource(name, c.source)
}

func parseSource(name, source string) (scripts.Script, error) {
	s, err := scripts.ParseScript(source)
	if err == nil && s.Name != name {
		err = problemf(http.StatusBadRequest, "the source is that of script %s, not of %s", s.Name, name)
	}
	return s, err
}

// readChange reads a body with fields, by and reason.
func readChange(w http.ResponseWriter, r *http.Request, optional bool, fields map[string]any) (scripts.Change, error) {
	var c scripts.Change
	all := map[string]any{"by": &c.By, "reason": &c.Reason}
	limit := int64(maxBody)
	for name, target := range fields {
		all[name] = target
		if name == "source" {
			limit = maxScriptBody
		}
	}
	if err := readBodyUpTo(limit, w, r, optional, all); err != nil {
		return c, err
	}
	if !model.PlainText(c.By, 64) || !model.PlainText(c.Reason, 500) {
		return c, problemf(http.StatusBadRequest, `fields "by" and "reason" are plain text of at most 64 and 500 bytes`)
	}
	a := accessOf(r)
	a.detail = strings.TrimPrefix(a.detail+"; "+c.Reason, "; ")
	if c.By = a.user(c.By); c.By == "" {
		c.By = "http"
	}
	return c, nil
}

// selection is which channels a request means.
type selection struct {
	channels optionalList
	percent  *int
}

// optionalList tells an empty list from one that is not given: all channels are
// never meant by a list that somebody forgot to fill.
type optionalList struct {
	given bool
	items []string
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *optionalList) UnmarshalJSON(b []byte) error {
	l.given = true
	return json.Unmarshal(b, &l.items)
}

func (s *selection) given() bool { return s.channels.given || s.percent != nil }

// resolve returns the channels; none means all.
func (s *selection) resolve(ctx context.Context, store ScriptStore) ([]string, error) {
	switch {
	case s.channels.given && s.percent != nil:
		return nil, problemf(http.StatusBadRequest, `give "channels" or "percent", not both`)
	case s.percent != nil:
		channels, err := store.Share(ctx, *s.percent)
		if err == nil && len(channels) == 0 {
			err = problemf(http.StatusConflict, "the site has no channels")
		}
		return channels, err
	case !s.channels.given:
		return nil, nil
	case len(s.channels.items) == 0:
		return nil, problemf(http.StatusBadRequest, `field "channels" is empty`)
	}
	for _, id := range s.channels.items {
		if err := model.CheckID("channel", id); err != nil {
			return nil, err
		}
	}
	return s.channels.items, nil
}
