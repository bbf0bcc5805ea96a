package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/voltageems/voltage/scripts"
)

// openTime is how long the store may take to answer at first.
const openTime = 10 * time.Second

// withPlane runs f with the site on the store that -redis names. The plane is
// not prepared: that would activate this build's scripts.
func (c *call) withPlane(ctx context.Context, f func(*scripts.Plane) error) (err error) {
	log := slog.New(slog.DiscardHandler) // what it would say comes as an error or is printed
	opening, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	store, err := scripts.OpenStore(opening, scripts.StoreConfig{URL: c.redis}, log)
	if errors.Is(err, scripts.ErrStoreConfig) {
		return usageError("%v", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	p, err := scripts.New(store.Client, scripts.Options{Site: c.site, Log: log})
	if err != nil {
		return usageError("%v", err)
	}
	return f(p)
}

// own returns a script of this build.
func own(name string) (scripts.Script, error) {
	all, err := scripts.Scripts()
	if err != nil {
		return scripts.Script{}, err
	}
	return find(all, name, "this build")
}

func find(all []scripts.Script, name, where string) (scripts.Script, error) {
	var names []string
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return scripts.Script{}, fmt.Errorf("%s has no script %.64q: there are %s", where, name, strings.Join(names, ", "))
}

// chosen returns the script that -folder, -file or -version names, and whether
// one of them does. p is nil without a store.
func (c *call) chosen(ctx context.Context, p *scripts.Plane, name string) (s scripts.Script, ok bool, err error) {
	switch err := c.exclusive("folder", "file", "version"); {
	case err != nil:
		return s, false, err
	case c.folder != "":
		all, err := composeFolder(c.folder)
		if err != nil {
			return s, false, err
		}
		s, err = find(all, name, c.folder)
		return s, true, err
	case c.file != "":
		s, err := readScript(c.file)
		if err == nil && s.Name != name {
			err = fmt.Errorf("%s is the script %s, not %s", c.file, s.Name, name)
		}
		return s, true, err
	case c.version != "":
		if p == nil {
			return s, false, usageError("-version needs the store that has it: -redis")
		}
		s, err := stored(ctx, p, name, c.version)
		return s, true, err
	}
	return s, false, nil
}

func composeFolder(folder string) ([]scripts.Script, error) {
	if info, err := os.Stat(folder); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder", folder)
	}
	all, err := scripts.ComposeFolder(os.DirFS(folder))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", folder, err)
	}
	return all, nil
}

func readScript(file string) (scripts.Script, error) {
	f, err := os.Open(file)
	if err != nil {
		return scripts.Script{}, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, scripts.MaxScript+1))
	if err != nil {
		return scripts.Script{}, err
	}
	s, err := scripts.ParseScript(string(text))
	if err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// stored returns a version that the store has; its digest may be left out where
// the number is enough.
func stored(ctx context.Context, p *scripts.Plane, name, version string) (scripts.Script, error) {
	if version != "" && !strings.Contains(version, "+") {
		st, err := p.ScriptState(ctx, name)
		if err != nil {
			return scripts.Script{}, err
		}
		known := slices.Concat([]string{st.Active}, st.History)
		for v := range st.Refused {
			known = append(known, v)
		}
		for _, v := range st.Canary {
			known = append(known, v)
		}
		slices.Sort(known)
		known = slices.DeleteFunc(slices.Compact(known), func(v string) bool { return !strings.HasPrefix(v, version+"+") })
		if len(known) > 1 {
			return scripts.Script{}, fmt.Errorf("script %s: version %s is one of %s", name, version, strings.Join(known, ", "))
		}
		if len(known) == 1 {
			version = known[0]
		}
	}
	return p.ScriptSource(ctx, name, version)
}

// active returns what runs on the store: the active version, or this build's
// where none is.
func active(ctx context.Context, p *scripts.Plane, name string) (scripts.Script, error) {
	s, err := p.ScriptSource(ctx, name, "")
	if errors.Is(err, scripts.ErrNotFound) {
		return own(name)
	}
	return s, err
}

// mustBeActive returns the active version, for a call that writes: on a site that
// has none no engine ever ran, and a -site with a slip of the pen would come to be.
func mustBeActive(ctx context.Context, c *call, p *scripts.Plane, name string) (scripts.Script, error) {
	s, err := p.ScriptSource(ctx, name, "")
	if !errors.Is(err, scripts.ErrNotFound) {
		return s, err
	}
	if s, err = own(name); err == nil {
		err = fmt.Errorf("script %s: no version is active on the site %q, as if no engine had ever run there: is -site right? Nothing was run", name, c.site)
	}
	return s, err
}

// prefix is what every key of the site begins with.
func (c *call) prefix() string {
	if c.site == "" {
		return ""
	}
	return "{" + c.site + "}:"
}

func (c *call) printJSON(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table prints rows whose cells are separated by tabs. What other programs wrote into
// the store may command a terminal; here it does not.
func (c *call) table(rows ...string) {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Map(func(r rune) rune {
			if r != '\t' && !strconv.IsPrint(r) {
				return utf8.RuneError
			}
			return r
		}, row))
	}
	_ = w.Flush() // run reports what could not be written
}

// when prints a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func or(s, missing string) string {
	if s == "" {
		return missing
	}
	return s
}

// sortedKeys are the keys of a map in their order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
