package luabox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	lua "github.com/yuin/gopher-lua"

	"github.com/voltageems/voltage/scripts/internal/embedded"
)

// Options of a scratch store. The zero value is an empty store.
type Options struct {
	// Source is a store whose keys the scripts see. Each key is copied into the
	// scratch store when a script first touches it, also where it only writes;
	// the source gets nothing but commands that read. It is not closed.
	//
	// Copies of several keys are not of one moment. A stream is copied without
	// its consumer groups, a hash without the expiry of single fields.
	Source redis.UniversalClient
	// Tail is how many of the last entries of a stream are copied; 0 stands for
	// 100. XLEN and the ranges of scripts see these alone.
	Tail int
	// Items is the size of the largest hash, set, list or sorted set that is
	// copied; 0 stands for 100,000. A larger one is an error.
	Items int
	// Now is the time that TIME answers, frozen within one Run as in Redis. nil
	// stands for the source's clock, or this machine's where there is none. Ids of
	// stream entries and expiries follow this machine's clock.
	Now func() time.Time
	// Memory bounds, in bytes, the text that a script may make altogether and the
	// growth of this process's heap that it may cause; 0 stands for [MaxBytes].
	Memory int64
}

// Store is a scratch store: a Redis in memory that only scripts of [Run] and
// [Store.Do] change. Make one with [NewStore]; it keeps its data from one Run to
// the next. It is safe for concurrent use; one Run at a time has it.
type Store struct {
	options Options
	server  *embedded.Server

	mu      sync.Mutex
	conn    net.Conn
	reader  *bufio.Reader
	out     []byte
	err     error // the connection is not usable any more
	touched map[string]bool
	protos  map[string]*lua.FunctionProto // compiled texts, for those that run again and again
	clock   []any                         // TIME of this Run
}

// NewStore starts a scratch store, which has to be closed.
func NewStore(o Options) (*Store, error) {
	if o.Tail <= 0 {
		o.Tail = 100
	}
	if o.Items <= 0 {
		o.Items = 100_000
	}
	if o.Memory <= 0 {
		o.Memory = MaxBytes
	}
	server, err := embedded.New()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	conn, err := server.Dial(context.Background(), "", "")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, errors.Join(err, server.Close(context.Background())))
	}
	return &Store{options: o, server: server, conn: conn, reader: bufio.NewReader(conn), touched: map[string]bool{}, protos: map[string]*lua.FunctionProto{}}, nil
}

// Close ends the store. It waits for a Run that has it. Closing twice is allowed.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.New("closed")
	_ = s.conn.Close()                                // nothing was waiting
	return s.server.Close(context.WithoutCancel(ctx)) // what it waits for is over in a moment
}

// compiled returns a text that was compiled before, or compiles it. s.mu is held.
func (s *Store) compiled(text string) (*lua.FunctionProto, error) {
	proto, ok := s.protos[text]
	if ok {
		return proto, nil
	}
	proto, err := compile(text)
	if err != nil {
		return nil, err
	}
	if len(s.protos) == 32 { // more texts than anybody runs in turns
		clear(s.protos)
	}
	s.protos[text] = proto
	return proto, nil
}

// Do makes one call on the store, as a script would: to prepare it and to look
// at it. The reply is as in [Call]; an error reply is a [ReplyError].
func (s *Store) Do(ctx context.Context, args ...string) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(args) == 0 {
		return nil, fmt.Errorf("%w: no command", ErrCommand)
	}
	cmd, ok := find(args[0])
	if !ok {
		return nil, fmt.Errorf("%w: %.64q is not among the commands that luabox knows", ErrCommand, args[0])
	}
	s.clock = nil
	reply, _, err := s.call(ctx, cmd, args)
	return reply, err
}

// call makes a call after copying the keys that it touches first.
func (s *Store) call(ctx context.Context, cmd command, args []string) (reply any, took time.Duration, err error) {
	if s.options.Source != nil {
		if err := s.copyKeys(ctx, cmd.keysOf(args)); err != nil {
			return nil, 0, err
		}
	}
	start := time.Now()
	switch {
	case cmd.name == "TIME" && len(args) == 1:
		reply, err = s.time(ctx)
	case cmd.name == "PUBLISH" && len(args) == 3:
		reply = int64(0) // nobody must hear it
	default:
		reply, err = s.do(cmd.unblocked(args))
	}
	return reply, time.Since(start), err
}

func (s *Store) time(ctx context.Context) (any, error) {
	if s.clock == nil {
		t := time.Now()
		switch {
		case s.options.Now != nil:
			t = s.options.Now()
		case s.options.Source != nil:
			var err error
			if t, err = s.options.Source.Time(ctx).Result(); err != nil {
				return nil, fmt.Errorf("%w: the source's time: %w", ErrStore, err)
			}
		}
		s.clock = timeReply(t)
	}
	return s.clock, nil
}

// do makes one call on the scratch store itself. It speaks the protocol, since
// a client would hide what Lua sees: whether a text is a status.
func (s *Store) do(args []string) (any, error) {
	if s.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, s.err)
	}
	reply, err := s.exchange(args)
	if _, isReply := err.(ReplyError); err != nil && !isReply {
		s.err = err // what comes next would be the answer to this call
		return nil, fmt.Errorf("%w: %s: %w", ErrStore, args[0], err)
	}
	return reply, err
}

// exchange waits for the answer also when the script's time is over: it is there
// in a moment, and the store stays usable. The deadline is a net.
func (s *Store) exchange(args []string) (any, error) {
	if err := s.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	b := append(s.out[:0], '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	for _, a := range args {
		b = append(b, "\r\n$"...)
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(b, "\r\n"...)
		b = append(b, a...)
	}
	b = append(b, "\r\n"...)
	if s.out = b; cap(b) > 1<<20 {
		s.out = nil
	}
	if _, err := s.conn.Write(b); err != nil {
		return nil, err
	}
	return readReply(s.reader, 0)
}

func readReply(r *bufio.Reader, depth int) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || depth > 10 {
		return nil, fmt.Errorf("malformed reply %.64q", line)
	}
	text := line[1 : len(line)-2]
	switch line[0] {
	case '+':
		return Status(text), nil
	case '-':
		return nil, ReplyError(text)
	case ':':
		return strconv.ParseInt(text, 10, 64)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("malformed reply %.64q", line)
	}
	switch {
	case n < 0:
		return nil, nil
	case line[0] == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(r, b)
		return string(b[:n]), err
	case line[0] == '*':
		list := make([]any, n)
		for i := range list {
			v, err := readReply(r, depth+1)
			if e, isReply := err.(ReplyError); isReply {
				v = e
			} else if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	}
	return nil, fmt.Errorf("malformed reply %.64q", line)
}
