package scripts

import (
	"fmt"
	"strconv"
	"strings"
)

// decodeTrace reads the answer of a traced script: the script's reply and its
// calls. Where the script failed, the error is a *ScriptError and the calls are
// those before it. A reply that is no array of texts is given as one text. s is
// the traced script, for the places in its source; nil leaves them out.
func decodeTrace(s *Script, reply any) (result []string, calls []TracedCall, err error) {
	if s == nil {
		s = &Script{}
	}
	bad := func(what string) ([]string, []TracedCall, error) {
		return nil, nil, fmt.Errorf("%w %s: the traced script's answer: %s", ErrScript, s.Name, what)
	}
	text, ok := reply.(string)
	if !ok {
		return bad(fmt.Sprintf("want one text, not %T", reply))
	}
	d := traceReader{rest: text}
	head, _ := d.value(0).([]any)
	value := d.value(0)
	list, _ := d.value(0).([]any)
	if d.failed || d.rest != "" || len(head) != 4 || head[0] != "trace1" {
		return bad("malformed")
	}
	for _, item := range list {
		c, ok := tracedCall(s, item, head[3] == int64(1))
		if !ok {
			return bad("malformed call")
		}
		calls = append(calls, c)
	}
	if failure, _ := head[2].(string); head[1] != int64(1) {
		return nil, calls, s.traceFault(failure, list, calls)
	}
	if e, ok := value.(tracedError); ok { // an answer as redis.error_reply makes it
		return nil, calls, s.failed(string(e), 0, nil)
	}
	if items, ok := value.([]any); ok {
		for _, v := range items {
			result = append(result, replyText(v))
		}
		return result, calls, nil
	}
	if value == nil {
		return nil, calls, nil
	}
	return []string{replyText(value)}, calls, nil
}

// tracedCall makes a call of one item of the list.
func tracedCall(s *Script, item any, timed bool) (c TracedCall, ok bool) {
	f, _ := item.([]any)
	if len(f) != 5 {
		return c, false
	}
	micros, ok1 := f[1].(int64)
	line, ok2 := f[2].(int64)
	args, ok3 := f[3].([]any)
	if !ok1 || !ok2 || !ok3 {
		return c, false
	}
	c = TracedCall{Protected: f[0] == "pcall", Reply: f[4], Micros: micros}
	if !timed || micros < 0 {
		c.Micros = -1
	}
	if file, n := s.Source(int(line)); file != "" {
		c.File, c.Line = file, n
	}
	if e, ok := f[4].(tracedError); ok {
		c.Reply = nil
		c.Err, _ = stripPositions(string(e)) // the embedded store names a line of the head
	}
	for _, a := range args {
		c.Args = append(c.Args, replyText(a))
	}
	return c, true
}

// traceFault is the error that ended a traced script. An error of redis.call has
// no position of its own: it is that of the last call, if that is the one.
func (s *Script) traceFault(text string, list []any, calls []TracedCall) error {
	message, line := stripPositions(text)
	if isGlobalFault(message) && !strings.HasPrefix(text, "user_script") {
		line = 0 // of the embedded store's own code
	}
	if file, _ := s.Source(line); file == "" {
		line = 0
	}
	if n := len(calls); line == 0 && n > 0 && calls[n-1].Err == message {
		if last, ok := list[n-1].([]any); ok {
			at, _ := last[2].(int64)
			line = int(at)
		}
	}
	return s.failed(strings.TrimPrefix(message, "ERR "), line, nil)
}

// tracedError is an error reply within a trace.
type tracedError string

// traceReader reads what put in traceHead writes: n:  i<number>:  s<length>:<bytes>
// a<count>:<items>  and es<length>:<bytes> for an error.
type traceReader struct {
	rest   string
	failed bool
}

const traceDepth = 100 // arrays in arrays, far more than any reply has

func (d *traceReader) value(depth int) any {
	head, rest, ok := strings.Cut(d.rest, ":")
	if d.failed || !ok || head == "" || depth > traceDepth {
		d.failed = true
		return nil
	}
	d.rest = rest
	kind, number := head[0], head[1:]
	isError := kind == 'e'
	if isError && number != "" {
		kind, number = number[0], number[1:]
	}
	if kind == 'n' && !isError && number == "" {
		return nil
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		d.failed = true
		return nil
	}
	switch {
	case kind == 's' && n >= 0 && n <= int64(len(d.rest)):
		text := d.rest[:n]
		d.rest = d.rest[n:]
		if isError {
			return tracedError(text)
		}
		return text
	case kind == 'i' && !isError:
		return n
	case kind == 'a' && !isError && n >= 0 && n <= int64(len(d.rest)): // an item is one byte at least
		items := []any{}
		for range n {
			items = append(items, d.value(depth+1))
			if d.failed {
				return nil
			}
		}
		return items
	}
	d.failed = true
	return nil
}

// replyText is a reply's part as text: nothing for nil, arrays in brackets.
func replyText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case tracedError:
		return string(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = replyText(v[i])
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	return fmt.Sprint(v)
}
