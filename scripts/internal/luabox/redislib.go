package luabox

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

func (b *box) redis() *lua.LTable {
	t := b.lua.NewTable()
	b.functions(t, map[string]lua.LGFunction{
		"call":         func(l *lua.LState) int { return b.redisCall(l, false) },
		"pcall":        func(l *lua.LState) int { return b.redisCall(l, true) },
		"log":          b.redisLog,
		"sha1hex":      b.redisSHA1,
		"error_reply":  b.redisErrorReply,
		"status_reply": b.redisStatusReply,
	})
	for i, name := range []string{"LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"} {
		t.RawSetString(name, lua.LNumber(i))
	}
	return t
}

// raise raises a table with the text in err, as redis.call does.
func (b *box) raise(message string) {
	t := b.single("err", message)
	b.raised, b.raisedLine = t, b.line()
	b.lua.Error(t, 1)
}

func (b *box) redisCall(l *lua.LState, protected bool) int {
	fail := func(message string) int {
		if !protected {
			b.raise(message)
		}
		l.Push(b.single("err", message))
		return 1
	}
	n := l.GetTop()
	if n == 0 {
		return fail("ERR Please specify at least one argument for this redis lib call")
	}
	args, size := make([]string, n), int64(0)
	for i := range args {
		switch v := l.Get(i + 1).(type) {
		case lua.LString:
			args[i] = string(v)
		case lua.LNumber:
			args[i] = formatG(float64(v), 17)
		default:
			return fail("ERR Lua redis lib command arguments must be strings or integers")
		}
		size += int64(len(args[i])) + 16
	}
	if len(b.calls) >= MaxCalls {
		b.stop(ErrCommand, "%v: more than %d calls", ErrCommand, MaxCalls)
	}
	b.charge(size)
	name := strings.ToUpper(args[0])
	if forbidden[name] {
		return fail("ERR This Redis command is not allowed from script")
	}
	cmd, ok := commands[name]
	if !ok {
		b.stop(ErrCommand, "%v: %.64q is not among the commands that luabox knows", ErrCommand, args[0])
	}
	reply, took, err := b.store.call(b.ctx, cmd, args)
	c := Call{Protected: protected, Args: args, Duration: took, Writes: cmd.writes, Line: b.line()}
	refused, isReply := err.(ReplyError)
	if err != nil && !isReply {
		if b.ctx.Err() != nil {
			b.note(b.timeIsOver())
		}
		b.stop(ErrStore, "%v", err)
	}
	if isReply {
		c.Err = scriptError(string(refused))
		if strings.HasPrefix(c.Err, "ERR unknown command") || strings.HasPrefix(c.Err, "ERR unknown subcommand") {
			b.stop(ErrCommand, "%v: the scratch store does not have %.64q", ErrCommand, args[0])
		}
		b.calls = append(b.calls, c)
		return fail(c.Err)
	}
	c.Reply = reply
	b.calls = append(b.calls, c)
	b.charge(replySize(reply))
	l.Push(b.toLua(reply))
	return 1
}

// scriptError gives the words that Redis has for scripts.
func scriptError(text string) string {
	if strings.HasPrefix(text, "ERR wrong number of arguments for") {
		return "ERR Wrong number of args calling Redis command from script"
	}
	return text
}

func replySize(reply any) int64 {
	switch r := reply.(type) {
	case string:
		return int64(len(r))
	case []any:
		n := 256 + 16*int64(len(r))
		for _, v := range r {
			n += replySize(v)
		}
		return n
	}
	return 0
}

func (b *box) redisLog(l *lua.LState) int {
	if l.GetTop() < 2 {
		b.raise("ERR redis.log() requires two arguments or more.")
	}
	level, ok := l.Get(1).(lua.LNumber)
	if !ok {
		b.raise("ERR First argument must be a number (log level).")
	}
	if level < 0 || level > 3 {
		b.raise("ERR Invalid debug level.")
	}
	return 0
}

func (b *box) redisSHA1(l *lua.LState) int {
	if l.GetTop() != 1 {
		b.raise("ERR wrong number of arguments")
	}
	s, _ := asText(l.Get(1))
	sum := sha1.Sum([]byte(s))
	l.Push(lua.LString(hex.EncodeToString(sum[:])))
	return 1
}

func (b *box) redisErrorReply(l *lua.LState) int {
	s, ok := l.Get(1).(lua.LString)
	if !ok || l.GetTop() != 1 {
		l.Push(b.single("err", "ERR wrong number or type of arguments"))
		return 1
	}
	text := strings.TrimPrefix(string(s), "-")
	if !strings.Contains(text, " ") {
		text = "ERR " + text
	}
	l.Push(b.single("err", text))
	return 1
}

func (b *box) redisStatusReply(l *lua.LState) int {
	s, ok := l.Get(1).(lua.LString)
	if !ok || l.GetTop() != 1 {
		l.Push(b.single("err", "ERR wrong number or type of arguments"))
		return 1
	}
	l.Push(b.single("ok", string(s)))
	return 1
}

func timeReply(t time.Time) []any {
	return []any{strconv.FormatInt(t.Unix(), 10), strconv.FormatInt(int64(t.Nanosecond()/1000), 10)}
}
