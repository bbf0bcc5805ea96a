package notify

import (
	"slices"
	"strings"
)

// matches reports whether the route takes a message.
func (r Route) matches(m Message) bool {
	types := r.Types
	if len(types) == 0 {
		types = []string{TypeAlarm, TypeNotification}
	}
	if !slices.Contains(types, m.Type) || r.Severity != "" && rank(m.Severity) < rank(r.Severity) {
		return false
	}
	if len(r.Models) > 0 && !slices.ContainsFunc(r.Models, func(pattern string) bool {
		stem, open := strings.CutSuffix(pattern, "*")
		return m.Model == stem || open && strings.HasPrefix(m.Model, stem)
	}) {
		return false
	}
	switch {
	case m.Type != TypeAlarm:
		return true
	case len(r.Transitions) == 0:
		return m.attention()
	}
	return slices.Contains(r.Transitions, m.Transition)
}

// knows reports whether a route asks for messages of a type.
func (c Config) knows(kind string) bool {
	return kind == TypeAlarm || kind == TypeNotification || slices.ContainsFunc(c.Routes, func(r Route) bool { return slices.Contains(r.Types, kind) })
}

// leads reports whether a route names a target, at once or as an escalation.
func (c Config) leads(target string) bool {
	return slices.ContainsFunc(c.Routes, func(r Route) bool {
		return slices.Contains(r.Targets, target) || slices.ContainsFunc(r.Escalate, func(e Escalation) bool { return slices.Contains(e.Targets, target) })
	})
}
