package luabox

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// CommandProfile is what one Redis command cost in a run.
type CommandProfile struct {
	// Command is its name in capitals.
	Command string
	// Calls is how often it was called, Args the number of arguments of all calls.
	Calls, Args int
	// Errors is how many calls were answered with an error.
	Errors int
	// Total and Max are times on the scratch store; see [Call].
	Total, Max time.Duration
}

// Profile sums up calls by command, the most expensive first.
func Profile(calls []Call) []CommandProfile {
	byName := map[string]*CommandProfile{}
	for _, c := range calls {
		if len(c.Args) == 0 {
			continue
		}
		name := strings.ToUpper(c.Args[0])
		p := byName[name]
		if p == nil {
			p = &CommandProfile{Command: name}
			byName[name] = p
		}
		p.Calls++
		p.Args += len(c.Args) - 1
		if c.Err != "" {
			p.Errors++
		}
		p.Total += c.Duration
		p.Max = max(p.Max, c.Duration)
	}
	list := make([]CommandProfile, 0, len(byName))
	for _, p := range byName {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b CommandProfile) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Command, b.Command))
	})
	return list
}
