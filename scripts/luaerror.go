package scripts

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ScriptError is a script that failed while it ran, or that the store could not
// compile. It wraps [ErrScript] and the store's own error; where a key holds
// what another program keeps there, it wraps [ErrStore] instead. What it wrote
// before it failed stays written.
type ScriptError struct {
	// Script and Version are the script's.
	Script, Version string
	// File and Line are where it failed: "include/alarm.lua" or "data_sync.lua".
	// File is empty where that is not known; Line is then the line of the composed
	// text, or 0.
	File string
	Line int
	// Message is what Lua or Redis said, without the position.
	Message string

	cause error
}

// Error is such as
// "script data_sync 1.1.0+ab12cd34: include/alarm.lua:45: attempt to index a nil value".
func (e *ScriptError) Error() string {
	at := ""
	switch {
	case e.File != "":
		at = fmt.Sprintf("%s:%d: ", e.File, e.Line)
	case e.Line > 0:
		at = fmt.Sprintf("line %d: ", e.Line)
	}
	return fmt.Sprintf("script %s %s: %s%s", e.Script, e.Version, at, e.Message)
}

// Unwrap returns ErrScript, or ErrStore where it is a key in which another
// program keeps something else, and the store's error.
func (e *ScriptError) Unwrap() []error {
	kind := ErrScript
	if strings.HasPrefix(e.Message, "WRONGTYPE") {
		kind = ErrStore
	}
	if e.cause == nil {
		return []error{kind}
	}
	return []error{kind, e.cause}
}

// How the stores tell that a script failed.
var (
	// Redis 7, Valkey: "ERR user_script:3: text script: <sha>, on @user_script:3."
	runError7 = regexp.MustCompile(`(?s)^(.*) script: [0-9a-f]{40}(?:, on @?user_script:(\d+)\.?)?$`)
	// Redis 6: "ERR Error running script (call to f_<sha>): @user_script:3: user_script:3: text"
	runError6 = regexp.MustCompile(`(?s)^ERR Error running script \(call to f_[0-9a-f]{40}\): (.*)$`)
	// all at SCRIPT LOAD, the embedded store always:
	// "ERR Error compiling script (new function): user_script:3: text"
	compileError = regexp.MustCompile(`(?s)^ERR Error compiling script \(new function\): (.*)$`)

	// "user_script:3: ", "@user_script: 3: " (Redis 6), "<string>:3: ", ":3: " (embedded store)
	position = regexp.MustCompile(`^(?:@?user_script|<string>)?: ?(\d+): `)
	// embedded store: "user_script line:2(column:11) near '=':   syntax error", "user_script at EOF:   …",
	// "compile error near line(3) f: text at line 2"
	parseError = regexp.MustCompile(`(?s)^(?:user_script|<string>) (?:line:(\d+)\(column:\d+\)|at EOF)(?: |:)\s*(.*)$`)
	lateError  = regexp.MustCompile(`(?s)^compile error near line\((\d+)\)[^:]*: (.*?)(?: at line (\d+))?$`)
	traceback  = regexp.MustCompile(`(?s)\s*stack traceback:\s(.*)$`)
	shaTail    = regexp.MustCompile(` script: [0-9a-f]{40}, &c\.$`)
	traceLine  = regexp.MustCompile(`(?:^|\s):(\d+): in (function|main chunk)( <)?`)
)

// scriptError makes the error of loading or calling a script: a *ScriptError
// where the script is at fault, else as storeError: a broken connection, and
// what the store says while it is not ready (LOADING, BUSY, OOM, …).
func scriptError(s *Script, err error) error {
	if errors.Is(err, errReply) {
		return fmt.Errorf("%w %s %s: %w", ErrScript, s.Name, s.Version, err)
	}
	var answer redis.Error
	if err == nil || !errors.As(err, &answer) || !isAnswer(err) {
		return storeError("script "+s.Name, err)
	}
	text := answer.Error()
	if m := runError7.FindStringSubmatch(text); m != nil {
		message, line := stripPositions(strings.TrimPrefix(m[1], "ERR "))
		if line == 0 {
			line, _ = strconv.Atoi(m[2])
		}
		return s.failed(message, line, err)
	}
	if m := runError6.FindStringSubmatch(text); m != nil {
		message, line := stripPositions(m[1])
		return s.failed(message, line, err)
	}
	if m := compileError.FindStringSubmatch(text); m != nil {
		message, line := s.compileFault(m[1])
		return s.failed(message, line, err)
	}
	return storeError("script "+s.Name, err)
}

// failed returns the error at a line of the composed text, 0 where it is not known.
func (s *Script) failed(message string, line int, cause error) *ScriptError {
	message = shaTail.ReplaceAllString(strings.Join(strings.Fields(message), " "), "")
	e := &ScriptError{Script: s.Name, Version: s.Version, Line: line, Message: message, cause: cause}
	if file, n := s.Source(line); file != "" {
		e.File, e.Line = file, n
	}
	return e
}

// stripPositions takes the positions from the beginning of a message. The last
// is the one where it began: those before are of rethrows.
func stripPositions(text string) (message string, line int) {
	for {
		m := position.FindStringSubmatch(text)
		if m == nil {
			return text, line
		}
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
}

// compileFault reads what follows "Error compiling script". The embedded store
// says so of errors at run time too, with a traceback.
func (s *Script) compileFault(text string) (message string, line int) {
	if m := parseError.FindStringSubmatch(text); m != nil {
		line = strings.Count(s.Text, "\n")
		if m[1] != "" {
			line, _ = strconv.Atoi(m[1])
		}
		return m[2], line
	}
	if m := lateError.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		if m[3] != "" {
			line, _ = strconv.Atoi(m[3])
		}
		return m[2], line
	}
	var calls [][]string
	if m := traceback.FindStringSubmatchIndex(text); m != nil {
		calls = traceLine.FindAllStringSubmatch(text[m[2]:m[3]], -1)
		text = text[:m[0]]
	}
	message, line = stripPositions(text)
	if isGlobalFault(message) { // its line is of the store's own code, which calls itself "function <"
		line = 0
		for len(calls) > 0 && calls[0][3] != "" {
			calls = calls[1:]
		}
	}
	if line == 0 && len(calls) > 0 {
		line, _ = strconv.Atoi(calls[0][1])
	}
	return message, line
}

// isGlobalFault reports whether a message is of the embedded store's guard of
// global variables.
func isGlobalFault(message string) bool {
	return strings.HasPrefix(message, "Script attempted to access nonexistent global variable") ||
		strings.HasPrefix(message, "Script attempted to create global variable")
}
