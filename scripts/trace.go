package scripts

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The traced form of a script is the script itself inside a function, between
// these two pieces. In it "redis" is a table whose call and pcall note every
// call; everything else of redis is reached through it. The answer is one text,
// whatever the script answers: numbers would be truncated on their way to Go,
// and a nil would cut an array short.
//
// Positions come from error(), which puts the caller's into a message: debug is
// not there. How many levels up the script is differs between the stores, so the
// first that lies below this piece is taken. __LAST__ is this piece's last line.
//
// os.clock is missing on most servers and stands still on the embedded store;
// TIME is taken instead, which stands still from Redis 7.2 on.
const (
	traceHead = `-- from trace
local redis, trace_end = (function(native)
  local pcall, error, type, tostring, select = pcall, error, type, tostring, select
  local format, match, concat = string.format, string.match, table.concat
  local calls = {}

  local function put(out, v)
    local t = type(v)
    if t == 'string' then
      out[#out + 1] = 's' .. format('%d', #v) .. ':' .. v
    elseif t == 'number' and v == v and v < 1e300 and v > -1e300 then
      out[#out + 1] = 'i' .. format('%.0f', v < 0 and math.ceil(v) or math.floor(v)) .. ':'
    elseif v == true then
      out[#out + 1] = 'i1:'
    elseif t ~= 'table' then
      out[#out + 1] = 'n:'
    elseif v.err then
      put(out, tostring(v.err))
      out[#out] = 'e' .. out[#out]
    elseif v.ok then
      put(out, tostring(v.ok))
    else
      local n = 0
      while v[n + 1] ~= nil do n = n + 1 end
      out[#out + 1] = 'a' .. format('%d', n) .. ':'
      for i = 1, n do put(out, v[i]) end
    end
  end
  local function encode(v)
    local out = {}
    put(out, v)
    return concat(out)
  end

  local function time()
    local t = native.call('TIME')
    return t[1] * 1e6 + t[2]
  end
  local clock, os = time, rawget(_G, 'os')
  if os and os.clock then
    local first = os.clock()
    for _ = 1, 1000 do
      if os.clock() ~= first then
        clock = function() return os.clock() * 1e6 end
        break
      end
    end
  end

  local function line()
    for level = 3, 12 do
      local _, at = pcall(error, '', level)
      local n = tonumber(match(at, ':(%d+): $') or '0')
      if n > __LAST__ then return n end
    end
    return 0
  end

  local function noting(name)
    return function(...)
      local began = clock()
      local ok, reply = pcall(native.pcall, ...)
      local micros, at = clock() - began, line()
      if not ok then reply = { err = type(reply) == 'table' and reply.err or tostring(reply) } end
      local args = { ... }
      for i = 1, select('#', ...) do
        args[i] = type(args[i]) == 'number' and format('%.17g', args[i]) or tostring(args[i])
      end
      -- as text at once: the script may change the reply
      calls[#calls + 1] = encode({ name, micros, at, args, reply or false })
      if type(reply) == 'table' and reply.err and (name == 'call' or not ok) then error(reply.err, 0) end
      return reply
    end
  end

  local began = clock()
  local shadow = setmetatable({ call = noting('call'), pcall = noting('pcall') }, { __index = native })
  return shadow, function(ok, reply)
    local moved, failure = clock() ~= began, ''
    if not ok then
      failure = tostring(type(reply) == 'table' and reply.err or reply)
      reply = false
    end
    return encode({ 'trace1', ok and 1 or 0, failure, moved and 1 or 0 }) .. encode(reply or false) ..
      'a' .. format('%d', #calls) .. ':' .. concat(calls)
  end
end)(redis)
local function trace_body()
`
	traceTail = `-- from trace
end
return trace_end(pcall(trace_body))
`
)

var traceHeadLines = strings.Count(traceHead, "\n")

// Traced returns a form of the same script and version that does the same and
// answers, as one text, its reply and every redis.call with arguments, reply and
// time; decodeTrace reads it. Errors of the script are in the answer too, so that
// the calls before them are not lost. Source and Manifest work on it.
func (s Script) Traced() Script {
	first, body, ok := strings.Cut(s.Text, "\n")
	if !ok || !firstLine.MatchString(first) { // no text of ours
		first, body = "-- from trace", s.Text
	}
	if body != "" && !strings.HasSuffix(body, "\n") {
		body += "\n"
	}
	if line, _, _ := strings.Cut(body, "\n"); !markerLine.MatchString(line) {
		body = "-- from " + s.Name + ".lua\n" + body
	}
	head := strings.Replace(traceHead, "__LAST__", strconv.Itoa(traceHeadLines+1), 1)
	return newScript(s.Name, s.Version, first+"\n"+head+body+traceTail)
}

// Trace is one run of a script with everything that it asked of the store.
type Trace struct {
	// Script, Version and Args are what was run.
	Script, Version string
	Args            []string
	// Reply is the script's answer, nil where Err is set.
	Reply []string
	// Err is the error that ended the script, a *ScriptError; nil where it
	// answered. What the calls before it wrote stays written.
	Err error
	// Calls are in the order of time.
	Calls []TracedCall
	// Elapsed is how long the caller waited for the answer.
	Elapsed time.Duration
}

// TracedCall is one redis.call or redis.pcall of a script.
type TracedCall struct {
	// File and Line are where the script makes it. File is empty where that is
	// not known: where nothing is left of a caller after "return redis.call(…)".
	File string
	Line int
	// Protected is true for redis.pcall, whose errors the script sees itself.
	Protected bool
	// Args are the command and its arguments.
	Args []string
	// Reply is nil, a string, an int64 or an []any of these. A status such as OK
	// is a string.
	Reply any
	// Err is the store's error, empty where there was none.
	Err string
	// Micros is the time that the call took, in µs, or -1 where no clock moves
	// inside a script of this store (Redis 7.2 and 7.3).
	Micros int64
}

// Trace runs the script that is active on the store, for real, and returns what
// it did. args are those of a form of its manifest. It may be called by hand
// only: nothing is repaired, nothing is tried twice. The error is that of the
// store; one of the script is in the trace.
func (p *Plane) Trace(ctx context.Context, script string, args ...string) (Trace, error) {
	s, err := p.activeOnStore(ctx, script)
	if err != nil {
		return Trace{}, err
	}
	t := Trace{Script: s.Name, Version: s.Version, Args: args}
	traced := s.Traced()
	argv := make([]any, len(args))
	for i, a := range args {
		argv[i] = a
	}
	var keys []string
	if p.keys != "" {
		keys = []string{p.anchor}
	}
	began := time.Now()
	reply, err := p.client.Eval(ctx, traced.Text, keys, argv...).Result()
	t.Elapsed = time.Since(began)
	if err != nil {
		return t, scriptError(&traced, err)
	}
	t.Reply, t.Calls, err = decodeTrace(&traced, reply)
	var failed *ScriptError
	if errors.As(err, &failed) {
		t.Err, err = err, nil
	}
	return t, err
}

// activeOnStore reads the script that is active on the store; where none is,
// this build's.
func (p *Plane) activeOnStore(ctx context.Context, name string) (Script, error) {
	known, ok := p.scripts[name]
	if !ok {
		return Script{}, fmt.Errorf("%w: script %.64q", ErrNotFound, name)
	}
	version, err := p.client.Get(ctx, p.keys.scriptVersion(name)).Result()
	if isNil(err) || err == nil && version == known.own.Version {
		return known.own, nil
	}
	if err != nil {
		return Script{}, storeError("reading the version of "+name, err)
	}
	text, err := p.client.Get(ctx, p.keys.scriptSource(name, version)).Result()
	if isNil(err) {
		return Script{}, fmt.Errorf("%w: script %s is active as %s, whose source is not on the store", ErrVersion, name, version)
	}
	if err != nil {
		return Script{}, storeError("reading the source of "+name, err)
	}
	return newScript(name, version, text), nil
}

// String returns the trace as a page of plain text, for a terminal: what was
// called, then one line for each call with its place, time, arguments and reply,
// then the answer.
func (t Trace) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\n", t.Script, t.Version, showArgs(t.Args))
	width := 0
	for _, c := range t.Calls {
		width = max(width, len(c.at()))
	}
	for i, c := range t.Calls {
		took, protected := "    ? µs", ""
		if c.Micros >= 0 {
			took = fmt.Sprintf("%5d µs", c.Micros)
		}
		if c.Protected {
			protected = " (pcall)"
		}
		reply := showReply(c.Reply)
		if c.Err != "" {
			reply = "error: " + c.Err
		}
		fmt.Fprintf(&b, "%3d  %-*s %s  %s%s → %s\n", i+1, width, c.at(), took, showArgs(c.Args), protected, reply)
	}
	if t.Err != nil {
		fmt.Fprintf(&b, "failed: %v\n", t.Err)
	} else {
		fmt.Fprintf(&b, "answer: %s\n", showArgs(t.Reply))
	}
	fmt.Fprintf(&b, "%d calls; the caller waited %d µs\n", len(t.Calls), t.Elapsed.Microseconds())
	return b.String()
}

func (c TracedCall) at() string {
	if c.File == "" {
		return "?"
	}
	return c.File + ":" + strconv.Itoa(c.Line)
}

var plainText = regexp.MustCompile(`^[A-Za-z0-9_.:{}|*+~<>=/-]+$`)

// showArgs writes texts as one would type them; all but plain ones are quoted.
func showArgs(args []string) string {
	parts := make([]string, len(args))
	for i, a := range args {
		if plainText.MatchString(a) {
			parts[i] = a
		} else {
			parts[i] = strconv.Quote(a)
		}
	}
	return strings.Join(parts, " ")
}

// showReply writes a reply as redis-cli does, on one line.
func showReply(v any) string {
	switch v := v.(type) {
	case nil:
		return "(nil)"
	case string:
		return strconv.Quote(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = showReply(v[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}
