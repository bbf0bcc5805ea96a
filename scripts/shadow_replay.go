package scripts

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/voltageems/voltage/internal/reference"
)

// compare lets the Go evaluator do the same batch on what the script read.
func (j *shadowed) compare() (found []Difference) {
	r := replay{calls: j.calls, used: make([]bool, len(j.calls))}
	reply, err := r.run(reference.Script{Name: j.script.Name, Version: j.script.Version}, j.keys, j.args)
	if !errors.Is(err, errDiverged) {
		r.finish(j.reply, reply, err)
	}
	return r.found[:min(len(r.found), 10)]
}

// replay is a store that answers with what the script was answered.
type replay struct {
	calls []TracedCall
	used  []bool
	next  int // the first that is not used
	last  int // of the writes that are used, the one that the script made last
	found []Difference
}

// errDiverged ends the evaluation where the script has no answer for it.
var errDiverged = errors.New("the script made no such call")

func (r *replay) run(script reference.Script, keys, args []string) (reply []string, err error) {
	defer func() {
		if e := recover(); e != nil { // a check must not end the program
			err = fmt.Errorf("the Go evaluator failed: %v", e)
		}
	}()
	return reference.Run(r, script, keys, args)
}

// Call implements reference.Store.
func (r *replay) Call(args ...string) (any, error) {
	for i := r.next; i < len(r.calls); i++ {
		if !r.used[i] && reference.Same(args, r.calls[i].Args) {
			return r.take(i)
		}
	}
	if isWrite(args) {
		for i := r.next; i < len(r.calls); i++ {
			if c := r.calls[i].Args; !r.used[i] && len(args) > 1 && len(c) > 1 && c[0] == args[0] && c[1] == args[1] {
				lua, evaluated := aside(c, args)
				r.differs("other arguments of "+args[0]+" "+args[1], lua, evaluated)
				return r.take(i)
			}
		}
	}
	r.differs("the script does not make a call that Go makes", "", brief(args))
	return nil, errDiverged
}

// take answers with the reply of the i-th call.
func (r *replay) take(i int) (any, error) {
	c := &r.calls[i]
	r.used[i] = true
	for r.next < len(r.used) && r.used[r.next] {
		r.next++
	}
	if isWrite(c.Args) {
		if i < r.last {
			r.differs("the script makes a write earlier than Go", brief(c.Args), "after "+brief(r.calls[r.last].Args))
		}
		r.last = max(r.last, i)
	}
	if c.Err != "" {
		return nil, &reference.Error{Text: c.Err}
	}
	return c.Reply, nil
}

func (r *replay) differs(what, lua, evaluated string) {
	r.found = append(r.found, Difference{What: what, Lua: lua, Go: evaluated})
}

// finish compares what is left: writes that Go did not make, and the answers.
func (r *replay) finish(lua, evaluated []string, err error) {
	for i, c := range r.calls {
		if !r.used[i] && isWrite(c.Args) {
			r.differs("Go does not make a write that the script makes", brief(c.Args), "")
		}
	}
	if err != nil {
		r.differs("Go fails", brief(lua), err.Error())
		return
	}
	if len(lua) != len(evaluated) {
		r.differs("the answers have not the same length", brief(lua), brief(evaluated))
		return
	}
	for i := range lua {
		if !sameLine(lua[i], evaluated[i]) {
			r.differs("the answers differ", brief(lua[i:i+1]), brief(evaluated[i:i+1]))
		}
	}
}

// places are where in a script an error within an answer was made.
var places = regexp.MustCompile(`(: )(?:(?:@?user_script|<string>)?: ?\d+: )+`)

// sameLine compares two lines of an answer. What Lua itself says of a fault, with
// the line where it is, Go says in other words.
func sameLine(lua, evaluated string) bool {
	if lua == evaluated || places.ReplaceAllString(lua, "$1") == evaluated {
		return true
	}
	before, _, isFault := strings.Cut(evaluated, "ERR user_script:")
	return isFault && strings.HasPrefix(lua, before)
}

// isWrite reports whether a command changes anything or tells anybody.
func isWrite(args []string) bool {
	switch args[0] {
	case "GET", "MGET", "HGET", "HMGET", "HLEN", "HGETALL", "HEXISTS", "EXISTS", "SISMEMBER", "TIME", "TYPE", "LLEN", "XRANGE", "XREVRANGE",
		"HKEYS", "HVALS", "ZCARD", "ZRANGE", "ZRANGEBYSCORE":
		return false
	}
	return true
}

// brief shows a call, or an answer, in at most about 300 bytes.
func brief(args []string) string {
	line := showArgs(args[:min(len(args), 40)])
	if len(line) > 300 || len(args) > 40 {
		line = strings.ToValidUTF8(line[:min(len(line), 300)], "") + "…"
	}
	return line
}

// aside shows two calls of one command from where they begin to differ.
func aside(a, b []string) (string, string) {
	i := 2
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	from := max(i-1, 2) // the field before a value
	cut := func(args []string) string {
		list := slices.Clone(args[:2])
		if from > 2 {
			list = append(list, "…")
		}
		return brief(append(list, args[min(from, len(args)):min(from+6, len(args))]...))
	}
	return cut(a), cut(b)
}
