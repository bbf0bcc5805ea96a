package reference

import (
	"errors"
	"fmt"
)

// Store answers Redis commands. The reply is nil, a string (also for a status
// such as OK), an int64 or a []any of these. An error reply of Redis is an
// *Error; any other error means that the store cannot be reached, and ends the
// run at once.
type Store interface {
	Call(args ...string) (any, error)
}

// Error is an error reply of Redis, or what a script that fails would answer.
type Error struct {
	// Text is the reply without the leading "-", such as "WRONGTYPE Operation …".
	Text string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Script says which script runs.
type Script struct {
	// Name is the script's name, such as "data_sync".
	Name string
	// Version is the version that must be the active one, or on trial for the
	// channel, else the reply is INACTIVE. Empty: any version may be active.
	Version string
}

// ErrUnknown is returned for a script that has no counterpart here.
var ErrUnknown = errors.New("no such script")

// Run does what a script does, with the script's KEYS and ARGV. The reply is the
// script's, a code first. An *Error is a script that failed, or a Redis error
// that the script lets through; what was written before stays, as it does with
// the script.
func Run(s Store, script Script, keys, args []string) ([]string, error) {
	f, ok := scripts[script.Name]
	if !ok {
		return nil, fmt.Errorf("%w: %.64q", ErrUnknown, script.Name)
	}
	r := &run{store: s, script: script, argv: args}
	if len(keys) > 0 {
		r.prefix = keys[0][:max(len(keys[0])-len("anchor"), 0)]
	}
	var reply []string
	if err := guarded(func() { reply = f(r) }); err != nil {
		return nil, err
	}
	return reply, nil
}

var scripts = map[string]func(*run) []string{
	"data_sync":     (*run).dataSync,
	"alarm_check":   (*run).alarmCheckScript,
	"alarm_desk":    (*run).alarmDesk,
	"alarm_tick":    (*run).alarmTick,
	"rule_engine":   (*run).ruleEngine,
	"command":       (*run).command,
	"channel_owner": (*run).channelOwner,
	"site_config":   (*run).siteConfig,
}

// run is one call of one script.
type run struct {
	store  Store
	script Script
	prefix string
	argv   []string
	hinted bool // that the alarm journal has grown
}

// failure is what an error of the Lua is here: a panic that protect and Run
// catch. It is an *Error, or the error of a store that cannot be reached.
type failure struct{ err error }

// fail is the Lua's error().
func fail(format string, args ...any) {
	panic(failure{&Error{"ERR user_script: " + fmt.Sprintf(format, args...)}})
}

// guarded runs f and returns the failure that ended it.
func guarded(f func()) (err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case failure:
			err = e.err
		default:
			panic(e)
		}
	}()
	f()
	return nil
}

// protect is the Lua's pcall. A store that cannot be reached goes through.
func protect(f func()) *Error {
	err := guarded(f)
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	panic(failure{err})
}

// call is redis.call: an error reply ends the script.
func (r *run) call(args ...string) any {
	reply, err := r.store.Call(args...)
	if err != nil {
		panic(failure{err})
	}
	return reply
}

// pcall is redis.pcall: an error reply is handed back.
func (r *run) pcall(args ...string) (any, *Error) {
	reply, err := r.store.Call(args...)
	if err == nil {
		return reply, nil
	}
	if e, ok := err.(*Error); ok {
		return nil, e
	}
	panic(failure{err})
}

// text is a call whose reply is a text or nothing.
func (r *run) text(args ...string) (string, bool) { return text(r.call(args...)) }

// integer is a call whose reply is a number.
func (r *run) integer(args ...string) int64 { return integer(r.call(args...)) }

// list is a call whose reply is a list.
func (r *run) list(args ...string) []any {
	l, ok := r.call(args...).([]any)
	if !ok {
		fail("%s: the reply is no list", args[0])
	}
	return l
}

func text(reply any) (string, bool) {
	s, ok := reply.(string)
	return s, ok
}

func integer(reply any) int64 {
	n, ok := reply.(int64)
	if !ok {
		fail("the reply %v is no number", reply)
	}
	return n
}

// at is the i-th text of a list, counted from 0.
func at(list []any, i int) (string, bool) {
	if i >= len(list) {
		return "", false
	}
	return text(list[i])
}

// or is the i-th text of a list, or what stands for a missing one.
func or(list []any, i int, missing string) string {
	if s, ok := at(list, i); ok {
		return s
	}
	return missing
}

// opt is ARGV[i], counted from 1 as in the Lua.
func (r *run) opt(i int) (string, bool) {
	if i < 1 || i > len(r.argv) {
		return "", false
	}
	return r.argv[i-1], true
}

// arg is ARGV[i] where the script cannot do without.
func (r *run) arg(i int) string {
	s, ok := r.opt(i)
	if !ok {
		fail("argument %d is missing", i)
	}
	return s
}

// args are ARGV[first..last].
func (r *run) args(first, last int) []string {
	if last < first {
		return nil
	}
	if first < 1 || last > len(r.argv) {
		fail("arguments %d to %d are missing", first, last)
	}
	return r.argv[first-1 : last]
}

// key is a key of the site.
func (r *run) key(parts ...string) string {
	n := len(r.prefix)
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n)
	b = append(b, r.prefix...)
	for _, p := range parts {
		b = append(b, p...)
	}
	return string(b)
}
