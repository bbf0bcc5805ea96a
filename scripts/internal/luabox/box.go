package luabox

import (
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// The limits of one call. They are far above what a script of the data plane
// needs and far below what would hurt a small gateway.
const (
	// DefaultTime is how long a script may run when its context has no deadline.
	DefaultTime = 5 * time.Second
	// MaxText is the longest script text in bytes.
	MaxText = 1 << 20
	// MaxBytes is how many bytes of text a script may make altogether, and how
	// much it may make the live heap of this process grow, where [Options] do not
	// say otherwise.
	MaxBytes = 64 << 20
	// MaxCalls is how often a script may call Redis.
	MaxCalls = 100_000

	callDepth    = 1024     // Lua frames; a multiple of what the embedded store allows
	pcallDepth   = 199      // what LUAI_MAXCCALLS leaves for them in Redis
	registrySize = 1024 * 4 // values; 16 bytes each on 64 bit
	registryMax  = 1024 * 128
	chunk        = "user_script" // what Redis calls a script in its messages
)

// Script is the text to run.
type Script struct {
	// Name stands in errors, such as "data_sync"; it may be empty.
	Name string
	// Text is the composed script, as Redis would get it.
	Text string
}

// Status is a status reply, such as OK for SET: what Lua sees as {ok = "OK"}.
type Status string

// ReplyError is an error reply inside an array.
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// Call is one redis.call or redis.pcall that a script made.
type Call struct {
	// Protected tells redis.pcall from redis.call.
	Protected bool
	// Args are the command and its arguments, as Redis would get them.
	Args []string
	// Reply is nil, int64, string, [Status] or []any of these and [ReplyError].
	// It is nil where Err is set.
	Reply any
	// Err is the error reply; empty when there was none.
	Err string
	// Duration is how long the scratch store took, without the copying of keys
	// from the source. It says what the parts of a script cost compared with each
	// other, not what Redis would need.
	Duration time.Duration
	// Writes tells that the command is one that may change the data or, like
	// PUBLISH, reach somebody.
	Writes bool
	// Line is the line of the script's text that made the call.
	Line int
}

// Run runs a script in this process as Redis would run it with these KEYS and
// ARGV. Its commands go to the store; nil stands for an empty one of this call
// alone. The reply is nil, int64, string, [Status] or []any of these and
// [ReplyError]. calls is what the script did, also when it failed.
//
// The script is ended by ctx, or after [DefaultTime] where that has no deadline,
// whatever it does; nothing of it is left behind then.
//
// An error that the script raised, or an error reply that it returned, is an
// [*Error]. So are [ErrSyntax], [ErrTime], [ErrMemory], [ErrCommand] and
// [ErrStore], which a script cannot catch.
func Run(ctx context.Context, script Script, keys, args []string, store *Store) (reply any, calls []Call, err error) {
	reply, calls, err = run(ctx, script, keys, args, store)
	if err != nil && script.Name != "" {
		err = fmt.Errorf("script %s: %w", script.Name, err)
	}
	return reply, calls, err
}

func run(ctx context.Context, script Script, keys, args []string, store *Store) (reply any, calls []Call, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTime)
		defer cancel()
	}
	if store == nil {
		if store, err = NewStore(Options{}); err != nil {
			return nil, nil, err
		}
		defer func() { err = errors.Join(err, store.Close(ctx)) }()
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	proto, err := store.compiled(script.Text)
	if err != nil {
		return nil, nil, err
	}
	store.clock = nil
	b := newBox(ctx, store)
	defer b.close()
	reply, err = b.run(proto, keys, args)
	return reply, b.calls, err
}

// box is the Lua world of one call.
type box struct {
	lua    *lua.LState
	ctx    context.Context
	cancel context.CancelFunc
	store  *Store
	calls  []Call

	stopped *Error // why the script must end; it cannot catch this

	steps  uint64 // instructions
	bytes  int64  // text made so far
	limit  int64  // of that
	made   uint64 // bytes of tables made otherwise than one instruction at a time
	pcalls int    // depth
	base   uint64 // live heap before
	sample [1]metrics.Sample

	readonly   map[*lua.LTable]bool
	null       *lua.LUserData // cjson.null
	raised     lua.LValue     // the error object that was raised last …
	raisedLine int            // … and where
	random     random
}

func newBox(ctx context.Context, store *Store) *box {
	b := &box{store: store, limit: store.options.Memory, readonly: map[*lua.LTable]bool{}, random: newRandom(0)}
	b.ctx, b.cancel = context.WithCancel(ctx)
	b.sample[0].Name = "/gc/heap/live:bytes"
	b.base = b.live()
	b.lua = lua.NewState(lua.Options{
		SkipOpenLibs:     true,
		CallStackSize:    callDepth,
		RegistrySize:     registrySize,
		RegistryMaxSize:  registryMax,
		RegistryGrowStep: registrySize,
	})
	b.lua.SetContext(&meter{Context: b.ctx, box: b})
	return b
}

func (b *box) close() {
	b.cancel()
	b.lua.Close()
}

func (b *box) run(proto *lua.FunctionProto, keys, args []string) (reply any, err error) {
	if ctxErr := b.ctx.Err(); ctxErr != nil {
		return nil, b.timeIsOver()
	}
	defer func() { // what the Lua machine itself may panic with outside of PCall
		if r := recover(); r != nil {
			reply, err = nil, b.failure(fmt.Errorf("%v", r))
		}
	}()
	fn := b.lua.NewFunctionFromProto(proto)
	fn.Env = b.world(keys, args)
	b.lua.Push(fn)
	if err := b.lua.PCall(0, 1, nil); err != nil {
		return nil, b.failure(err)
	}
	reply, err = b.toReply(b.lua.Get(-1), 0)
	if b.stopped != nil {
		return nil, b.stopped
	}
	return reply, err
}

// failure makes an Error of what the Lua machine reported.
func (b *box) failure(err error) error {
	if b.stopped != nil {
		return b.stopped
	}
	var raised *lua.ApiError
	if !errors.As(err, &raised) {
		return &Error{Message: err.Error()}
	}
	switch v := raised.Object.(type) {
	case *lua.LTable:
		e := &Error{Message: "an error that is a table without a text in err, which ends the whole server in Redis 7.0"}
		if s, ok := v.RawGetString("err").(lua.LString); ok {
			e = &Error{Message: string(s)}
		}
		if b.raised == v {
			e.Line = b.raisedLine
		}
		return e
	default:
		e := atLine(tostring(v))
		if e.Line == 0 && b.raised == v {
			e.Line = b.raisedLine
		}
		return e
	}
}

// atLine takes "user_script:12: text" apart.
func atLine(message string) *Error {
	rest, ok := strings.CutPrefix(message, chunk+":")
	if ok {
		digits, text, found := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(digits); found && err == nil {
			return &Error{Line: line, Message: text}
		}
	}
	return &Error{Message: message}
}

// line is the line of the script's text that is being executed.
func (b *box) line() int {
	for level := 0; ; level++ {
		d, ok := b.lua.GetStack(level)
		if !ok {
			return 0
		}
		d.CurrentLine = -1
		if _, err := b.lua.GetInfo("l", d, lua.LNil); err == nil && d.CurrentLine > 0 {
			return d.CurrentLine
		}
	}
}

// stop ends the script for good: from now on every instruction fails, also
// behind a pcall. It does not return.
func (b *box) stop(cause error, format string, args ...any) {
	b.note(&Error{Message: fmt.Sprintf(format, args...), causes: []error{cause}})
	b.lua.RaiseError("%s", b.stopped.Message)
}

func (b *box) note(e *Error) {
	if b.stopped == nil {
		e.Line = b.line()
		b.stopped = e
	}
	b.cancel()
}

func (b *box) timeIsOver() *Error {
	return &Error{Message: ErrTime.Error(), causes: []error{ErrTime, b.ctx.Err()}}
}

// meter is the context of the Lua machine, which asks it for Done before every
// instruction: the one place where a script that allocates without end can be
// seen.
type meter struct {
	context.Context
	box *box
}

const stepsPerLook = 1024

func (m *meter) Done() <-chan struct{} {
	b := m.box
	b.steps++
	if b.steps%stepsPerLook == 0 {
		b.look()
	}
	return m.Context.Done()
}

// Err is what the machine raises once Done is closed.
func (m *meter) Err() error {
	b := m.box
	if b.stopped == nil {
		b.note(b.timeIsOver())
	}
	return b.stopped.causes[0]
}

// look ends the script when the process has grown too much and the script has
// done enough to be the reason: other goroutines allocate too.
func (b *box) look() {
	const most = 256 // bytes that one instruction can keep
	if b.stopped != nil || b.steps*most+b.made+uint64(b.bytes) < uint64(b.limit) {
		return
	}
	if b.live() > b.base+uint64(b.limit) {
		b.note(&Error{Message: ErrMemory.Error(), causes: []error{ErrMemory}})
	}
}

// live is what the last garbage collection left. A heap that grows has one
// whenever it has doubled.
func (b *box) live() uint64 {
	metrics.Read(b.sample[:])
	if b.sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return b.sample[0].Value.Uint64()
}

// charge counts text before it is made.
func (b *box) charge(n int64) {
	b.bytes += n
	if b.bytes > b.limit {
		b.stop(ErrMemory, "%v: more than %d bytes of text", ErrMemory, b.limit)
	}
}

// tick is for loops in Go that a script may make long.
func (b *box) tick() {
	b.steps++
	if b.steps%stepsPerLook == 0 && b.ctx.Err() != nil {
		if b.stopped == nil {
			b.note(b.timeIsOver())
		}
		b.lua.RaiseError("%s", b.stopped.Message)
	}
}
