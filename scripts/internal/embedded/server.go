package embedded

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// ErrClosed is returned by [Server.Dial] once the server is closed.
var ErrClosed = errors.New("embedded store: closed")

const (
	// tickFloor is the shortest time between two moves of the expiry clock.
	tickFloor = 10 * time.Millisecond
	// tickCeiling is the longest time, and so the largest error of an expiry,
	// while clients are sending. It is reached only with some 100,000 keys.
	tickCeiling = time.Second
	// tickShare bounds what the clock may cost: moving it visits (and sorts)
	// every key, so the next move waits this many times the duration of the last.
	tickShare = 50
)

// Server is an in-process Redis without a network. Make one with [New]; it is
// safe for concurrent use.
type Server struct {
	mini *miniredis.Miniredis
	srv  *server.Server
	now  func() time.Time

	mu     sync.RWMutex // held for reading while a connection is added
	closed bool

	start time.Time    // all times below count from here by the monotonic clock
	due   atomic.Int64 // nanoseconds: when the expiry clock is to move next

	tickMu sync.Mutex
	ticked time.Duration // when it was last moved
}

// New starts an empty server. It has no goroutine of its own; each connection
// has three.
func New() (*Server, error) { return newServer(time.Now) }

func newServer(now func() time.Time) (*Server, error) {
	mini := miniredis.NewMiniRedis()
	// The first Dial is what starts a miniredis without a listener.
	first, err := mini.Dial()
	if err != nil {
		return nil, err
	}
	if err := first.Close(); err != nil {
		return nil, err
	}
	s := &Server{mini: mini, srv: mini.Server(), now: now, start: now()}
	s.due.Store(int64(tickFloor))
	return s, nil
}

// Dial opens a connection to the server. Its form is that of a go-redis Dialer;
// context, network and address are not used.
//
// Each write on the connection first moves the expiry clock, if that is due.
// miniredis has a clock of its own (ClockTTL), but that one walks over all keys
// at every single access of a script; this one is bounded to about 2 % of the
// time. The price is precision: a key may expire early or late by up to one
// step, which is 10 ms for a small store and 1 s at the most. TIME is exact.
func (s *Server) Dial(context.Context, string, string) (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	client, srv := newPair(s.now)
	client.beforeWrite = s.tick
	s.srv.ServeConn(srv)
	return client, nil
}

// Close ends all connections and waits for the commands that are running, but
// not longer than ctx allows. Closing twice is allowed.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.mini.Close()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tick moves the expiry clock if it is due. It must not be called from inside a
// command, where miniredis holds its lock.
func (s *Server) tick() {
	now := s.now().Sub(s.start)
	if int64(now) < s.due.Load() || !s.tickMu.TryLock() {
		return // not due, or somebody else is moving it
	}
	defer s.tickMu.Unlock()
	if now <= s.ticked {
		return
	}
	s.mini.FastForward(now - s.ticked)
	s.ticked = now
	cost := s.now().Sub(s.start) - now
	s.due.Store(int64(now + min(max(cost*tickShare, tickFloor), tickCeiling)))
}
