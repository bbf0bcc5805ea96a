package reference

import (
	"math"
	"strconv"
)

// now is the Lua's now_ms: Unix milliseconds as text, the given time in tests,
// else the clock of the store.
func (r *run) now(given string) string {
	if given != "" {
		return given
	}
	t := r.list("TIME")
	seconds, micros := mustNumber(or(t, 0, "")), mustNumber(or(t, 1, ""))
	ms := strconv.Itoa(int(math.Floor(micros / 1000)))
	for len(ms) < 3 {
		ms = "0" + ms
	}
	return whole(seconds) + ms
}

// nowArg is now of ARGV[i], which may be missing.
func (r *run) nowArg(i int) string {
	given, _ := r.opt(i)
	return r.now(given)
}

// guardOptional is guard where the generation, at a place in ARGV, may be missing.
func (r *run) guardOptional(generation int) []string {
	if _, given := r.opt(generation); !given {
		generation = 0
	}
	return r.guard(generation, 0)
}

// guard returns the refusal of a caller that belongs to other data, or of a
// script that is not the active one. generation and channel are places in ARGV,
// 0 for a caller by hand, who gives none.
func (r *run) guard(generation, channel int) []string {
	want, given := "", true
	if generation > 0 {
		want, given = r.opt(generation)
	}
	head := r.list("MGET", r.key("site:generation"), r.key("lua:version:", r.script.Name), r.key("anchor"))
	if have, ok := at(head, 0); !given || want != "" && (!ok || have != want) {
		return []string{"GENERATION", have}
	}
	active, ok := at(head, 1)
	if !ok || r.script.Version == "" || active == r.script.Version {
		return nil
	}
	if id, ok := r.opt(channel); ok {
		if trial, _ := r.text("HGET", r.key("lua:canary:", r.script.Name), id); trial == r.script.Version {
			return nil
		}
	}
	return []string{"INACTIVE", active}
}
