package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of this package, to be tested with errors.Is.
var (
	// ErrClosed is returned by a server that was closed.
	ErrClosed = errors.New("modbus server: closed")
	// ErrConfig is returned for a configuration that cannot work.
	ErrConfig = errors.New("modbus server: invalid configuration")
)

// Server is a Modbus TCP server. Make it with [New], start it with
// [Server.Listen] or [Server.Serve] and end it with [Server.Close]. Its
// methods may be called from several goroutines.
type Server struct {
	cfg    Config
	tls    *tls.Config     // nil without TLS
	ctx    context.Context // ends with Close; given to handlers
	cancel context.CancelFunc

	mu        sync.Mutex
	units     map[byte]*unit
	listeners map[net.Listener]struct{}
	conns     map[net.Conn]*client
	closed    bool

	running   sync.WaitGroup // accept loops and connections
	drainOnce sync.Once
	drained   chan struct{} // closed when running is empty after Close

	accepted, refused, denied, requests, exceptions atomic.Int64
}

// unit is a handler and the lock that makes FC 22 and 23 one operation: they
// hold it alone, other writes together, and reads do without.
type unit struct {
	Handler
	writing sync.RWMutex
}

// New makes a server. It does no I/O. The error wraps [ErrConfig].
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	cfg.complete()
	s := &Server{
		cfg:       cfg,
		units:     map[byte]*unit{},
		listeners: map[net.Listener]struct{}{},
		conns:     map[net.Conn]*client{},
		drained:   make(chan struct{}),
	}
	for id, h := range cfg.Units {
		s.units[id] = &unit{Handler: h}
	}
	if cfg.TLS != nil {
		s.tls = harden(cfg.TLS)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// SetUnit sets the handler of a unit id from the next request on. A nil
// handler removes the unit.
func (s *Server) SetUnit(id byte, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h == nil {
		delete(s.units, id)
		return
	}
	s.units[id] = &unit{Handler: h}
}

// Listen binds a TCP address ("127.0.0.1:502"; port 0 takes a free one),
// serves it in the background until [Server.Close] and returns the bound
// address. The context bounds the binding only.
func (s *Server) Listen(ctx context.Context, address string) (net.Addr, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("modbus server: listen: %w", err)
	}
	if err := s.adopt(ln); err != nil {
		return nil, err
	}
	go func() { _ = s.accept(ln) }() // accept logs failures itself
	return ln.Addr(), nil
}

// Serve answers the connections of a listener, which it owns from then on and
// closes; with [Config.TLS] the server puts TLS on what it accepts. It returns
// [ErrClosed] after [Server.Close], else the error that
// ended the listener.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.adopt(ln); err != nil {
		return err
	}
	return s.accept(ln)
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.conns)
	s.mu.Unlock()
	return Stats{
		Connections: n,
		Accepted:    s.accepted.Load(),
		Refused:     s.refused.Load(),
		Denied:      s.denied.Load(),
		Requests:    s.requests.Load(),
		Exceptions:  s.exceptions.Load(),
	}
}

// Close closes all listeners and connections and waits until everything that
// the server runs has ended. If the context ends first, because a handler does
// not return, its error is returned. Close may be called again.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for ln := range s.listeners {
		_ = ln.Close() // the accept loop ends either way
	}
	for c := range s.conns {
		_ = c.Close()
	}
	// After the connections, so that a handler that gives up does not get an
	// exception out for a request that may have been executed.
	s.cancel()
	s.mu.Unlock()

	s.drainOnce.Do(func() {
		go func() {
			s.running.Wait()
			close(s.drained)
		}()
	})
	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("modbus server: close: %w", ctx.Err())
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// adopt registers a listener; accept must follow. A closed server closes it.
func (s *Server) adopt(ln net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = ln.Close()
		return ErrClosed
	}
	s.listeners[ln] = struct{}{}
	s.running.Add(1)
	return nil
}

// accept serves a listener until it is closed. Failures that may pass, such as
// too few file descriptors, are retried with a growing pause.
func (s *Server) accept(ln net.Listener) error {
	defer s.running.Done()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
		_ = ln.Close()
	}()
	pause := 5 * time.Millisecond
	for {
		conn, err := ln.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			s.admit(conn)
			continue
		}
		if s.isClosed() {
			return ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("modbus server: accept: %w", err)
		}
		s.cfg.Logger.Warn("modbus server: accept failed", "address", ln.Addr(), "error", err, "retry", pause)
		if !s.wait(pause) {
			return ErrClosed
		}
		pause = min(2*pause, time.Second)
	}
}

// admit starts serving a connection, or closes it where it comes from an address
// that is not allowed or there are too many.
func (s *Server) admit(conn net.Conn) {
	if !s.allowed(conn.RemoteAddr()) {
		_ = conn.Close()
		s.denied.Add(1)
		s.cfg.Logger.Warn("modbus server: address not allowed", "remote", conn.RemoteAddr())
		return
	}
	c := &client{host: host(conn.RemoteAddr())}
	c.last.Store(time.Now().UnixNano())
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = conn.Close()
		return
	}
	var out net.Conn // the one too many
	if len(s.conns) >= s.cfg.MaxConns {
		if out = s.surplus(c.host); out == nil {
			out = conn
		}
		delete(s.conns, out)
		_ = out.Close()
	}
	if out != conn {
		s.conns[conn] = c
		s.running.Add(1)
	}
	s.mu.Unlock()
	if out != nil {
		s.refused.Add(1)
		s.cfg.Logger.Warn("modbus server: too many connections", "remote", out.RemoteAddr(), "limit", s.cfg.MaxConns)
	}
	if out != conn {
		s.accepted.Add(1)
		go s.serveConn(conn, c)
	}
}

// wait pauses; it is false if the server closed meanwhile.
func (s *Server) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
