package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/voltageems/voltage/scripts"
)

// listed is one row of list.
type listed struct {
	Name    string               `json:"name"`
	Version string               `json:"version"`
	SHA     string               `json:"sha"`
	Purpose string               `json:"purpose"`
	State   *scripts.ScriptState `json:"state,omitempty"`
	Calls   int64                `json:"calls,omitempty"`
	Errors  int64                `json:"errors,omitempty"`
}

func runList(ctx context.Context, c *call) error {
	all, err := scripts.Scripts()
	if err != nil {
		return err
	}
	var rows []listed
	for _, s := range all {
		m, err := s.Manifest()
		if err != nil {
			return err
		}
		rows = append(rows, listed{Name: s.Name, Version: s.Version, SHA: s.SHA, Purpose: m.Purpose})
	}
	if c.redis != "" {
		return c.withPlane(ctx, func(p *scripts.Plane) error { return c.listStates(ctx, p, rows) })
	}
	if c.json {
		return c.printJSON(rows)
	}
	text := []string{"SCRIPT\tVERSION\tPURPOSE"}
	for _, r := range rows {
		text = append(text, r.Name+"\t"+r.Version+"\t"+r.Purpose)
	}
	c.table(text...)
	return nil
}

// listStates adds what the store knows.
func (c *call) listStates(ctx context.Context, p *scripts.Plane, rows []listed) error {
	states, err := p.ScriptStates(ctx)
	if err != nil {
		return err
	}
	text := []string{"SCRIPT\tACTIVE\tSINCE\tCALLS\tERRORS\tREMARKS"}
	for i := range rows {
		j := slices.IndexFunc(states, func(st scripts.ScriptState) bool { return st.Name == rows[i].Name })
		if j < 0 {
			continue
		}
		stats, err := p.StoredStats(ctx, rows[i].Name)
		if err != nil {
			return err
		}
		rows[i].State, rows[i].Calls, rows[i].Errors = &states[j], stats.Calls, stats.Errors
		st := states[j]
		text = append(text, fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%s", st.Name, or(st.Active, "none"), when(st.Activated), stats.Calls, stats.Errors, remarks(st)))
	}
	if c.json {
		return c.printJSON(rows)
	}
	c.table(text...)
	return nil
}

// remarks says what is unusual about a script, in short.
func remarks(st scripts.ScriptState) string {
	var list []string
	if st.Active != "" && st.Active != st.Own {
		list = append(list, "this build has "+st.Own+against(st.Own, st.Active))
	}
	trials := map[string]int{}
	for _, version := range st.Canary {
		trials[version]++
	}
	for _, version := range sortedKeys(trials) {
		list = append(list, fmt.Sprintf("%s is on trial for %s", version, counted(trials[version], "channel")))
	}
	if n := len(st.Refused); n > 0 {
		list = append(list, counted(n, "version")+" refused")
	}
	return or(strings.Join(list, "; "), "-")
}

// against says how one version stands to another.
func against(version, other string) string {
	switch order, err := scripts.CompareVersions(version, other); {
	case err != nil:
		return ""
	case order > 0:
		return ", which is newer"
	case order < 0:
		return ", which is older"
	}
	return ", another text of the same number"
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// shown is what show knows.
type shown struct {
	Manifest scripts.Manifest     `json:"manifest"`
	State    *scripts.ScriptState `json:"state,omitempty"`
}

func runShow(ctx context.Context, c *call) error {
	name := c.names[0]
	if c.redis == "" {
		s, err := c.chosenOr(ctx, nil, name)
		if err != nil {
			return err
		}
		return c.show(s, nil)
	}
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		s, err := c.chosenOr(ctx, p, name)
		if err != nil {
			return err
		}
		st, err := p.ScriptState(ctx, name)
		if err != nil {
			return err
		}
		return c.show(s, &st)
	})
}

// chosenOr returns the script that a flag names, else the active one of the
// store, else, without a store, this build's.
func (c *call) chosenOr(ctx context.Context, p *scripts.Plane, name string) (scripts.Script, error) {
	s, ok, err := c.chosen(ctx, p, name)
	switch {
	case ok || err != nil:
		return s, err
	case p == nil:
		return own(name)
	}
	return active(ctx, p, name)
}

func (c *call) show(s scripts.Script, st *scripts.ScriptState) error {
	m, err := s.Manifest()
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(shown{m, st})
	}
	fmt.Fprint(c.out, m)
	if st == nil {
		return nil
	}
	fmt.Fprintf(c.out, "\non the store:\n")
	rows := []string{"  active\t" + or(st.Active, "none"), "  since\t" + when(st.Activated), "  this build\t" + or(st.Own, "none")}
	for i, v := range st.History {
		rows = append(rows, []string{"  before", "  "}[min(i, 1)]+"\t"+v)
	}
	for _, channel := range sortedKeys(st.Canary) {
		rows = append(rows, "  on trial\t"+st.Canary[channel]+" for channel "+channel)
	}
	for _, v := range sortedKeys(st.Refused) {
		rows = append(rows, "  refused\t"+v+": "+st.Refused[v])
	}
	c.table(rows...)
	return nil
}

func runDump(ctx context.Context, c *call) error {
	dump := func(p *scripts.Plane) error {
		s, err := c.chosenOr(ctx, p, c.names[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(c.out, s.Text)
		return err
	}
	if c.redis == "" {
		return dump(nil)
	}
	return c.withPlane(ctx, dump)
}
