package storetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/voltageems/voltage/scripts/internal/embedded"
	"github.com/voltageems/voltage/scripts/internal/redisproc"
)

const (
	startTimeout  = 20 * time.Second
	startAttempts = 5 // another process may take the free port first
)

// Redis returns the URL of the redis-server that all tests of this test binary
// share. Without the binary the test is skipped (VOLTAGE_CI=1: fails).
func Redis(t testing.TB) (url string) {
	t.Helper()
	return shared(t, "redis-server", os.Getenv("VOLTAGE_CI") == "1")
}

// Valkey is as [Redis] with valkey-server. Without the binary the test is always
// skipped.
func Valkey(t testing.TB) (url string) {
	t.Helper()
	return shared(t, "valkey-server", false)
}

// Each runs f as a subtest on the embedded store, on redis-server and, where it
// is installed, on valkey-server. The client is closed after the subtest. Under
// the race detector, redis-server is enough: the embedded store, which runs Lua in
// this process, is several times slower then, and what talks to it is the same.
func Each(t *testing.T, f func(t *testing.T, client redis.UniversalClient)) {
	t.Helper()
	if _, ok := redisproc.Find("redis-server"); Raced && ok {
		t.Run("redis", func(t *testing.T) { f(t, Client(t, Redis(t))) })
		return
	}
	t.Run("embedded", func(t *testing.T) { f(t, Embedded(t)) })
	t.Run("redis", func(t *testing.T) { f(t, Client(t, Redis(t))) })
	if _, ok := redisproc.Find("valkey-server"); ok {
		t.Run("valkey", func(t *testing.T) { f(t, Client(t, Valkey(t))) })
	}
}

// Embedded returns a client of a new, empty embedded store, made as the engine
// makes it. Both end with the test.
func Embedded(t testing.TB) redis.UniversalClient {
	t.Helper()
	server, err := embedded.New()
	if err != nil {
		t.Fatalf("embedded store: %v", err)
	}
	o := &redis.Options{Addr: "embedded", Dialer: server.Dial}
	tune(o)
	client := redis.NewClient(o)
	t.Cleanup(func() {
		_ = client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			t.Errorf("close embedded store: %v", err)
		}
	})
	return client
}

// Client returns a client for a redis:// or unix:// URL with the settings of the
// engine's own clients. It ends with the test.
func Client(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatalf("test URL: %v", err)
	}
	tune(o)
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func tune(o *redis.Options) {
	o.Protocol = 2
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.ContextTimeoutEnabled = true
	o.DisableIdentity = true
	o.PipelinePoolSize = -1
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// Site returns a site name that no other test of a shared server uses.
func Site(t testing.TB) string {
	t.Helper()
	siteMu.Lock()
	defer siteMu.Unlock()
	siteCount++
	return "test" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(siteCount)
}

var (
	siteMu    sync.Mutex
	siteCount int

	sharedMu      sync.Mutex
	sharedServers = map[string]*Server{}
)

func shared(t testing.TB, name string, must bool) string {
	t.Helper()
	binary := find(t, name, must)
	if runtime.GOOS != "linux" {
		t.Skip("starting servers for tests is supported on Linux only")
	}
	sharedMu.Lock()
	defer sharedMu.Unlock()
	s := sharedServers[name]
	if s == nil || s.proc.Ended() != nil {
		s = &Server{t: t, binary: binary, folder: os.TempDir()}
		if err := s.startFree(); err != nil {
			t.Fatalf("start %s: %v", name, err)
		}
		sharedServers[name] = s
	}
	return s.URL
}

func find(t testing.TB, name string, must bool) string {
	t.Helper()
	binary, ok := redisproc.Find(name)
	if !ok && must {
		t.Fatalf("%s is not on PATH, and VOLTAGE_CI=1 does not allow to skip", name)
	}
	if !ok {
		t.Skipf("%s is not on PATH", name)
	}
	return binary
}

// Server is a server of one test's own, to be stopped and killed at will. Its
// methods are for one goroutine at a time; they fail the test on errors.
type Server struct {
	// URL is the server's address, the same after a restart.
	URL string
	// Addr is "127.0.0.1:port".
	Addr string

	t      testing.TB
	binary string
	folder string
	args   []string
	port   int
	proc   *redisproc.Process
}

// Own starts a redis-server for this test alone. It keeps nothing over a restart
// unless args say so ("--appendonly", "yes"); its data folder ends with the test,
// as does the server. Without the binary as [Redis].
func Own(t testing.TB, args ...string) *Server {
	t.Helper()
	binary := find(t, "redis-server", os.Getenv("VOLTAGE_CI") == "1")
	s := &Server{t: t, binary: binary, folder: t.TempDir(), args: args}
	t.Cleanup(func() {
		if s.proc != nil {
			s.Kill()
		}
	})
	if err := s.startFree(); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	return s
}

// Stop ends the server as an operator would: it saves what it is configured to.
func (s *Server) Stop() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.proc.Stop(ctx); err != nil {
		s.t.Errorf("stop redis-server: %v", err)
	}
}

// Kill ends the server without a chance to save, also when it is paused.
func (s *Server) Kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	<-s.proc.Done()
}

// Pause freezes the server: connections stay open, nothing is answered.
func (s *Server) Pause() { s.t.Helper(); s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.t.Helper(); s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.proc.Signal(sig); err != nil {
		s.t.Errorf("redis-server: %v", err)
	}
}

// Restart starts the server again at the same address, after stopping it if it
// still runs, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.t.Fatalf("restart redis-server: %v", err)
	}
}

// startFree starts the server on a free port.
func (s *Server) startFree() error {
	var err error
	for range startAttempts {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		s.Addr = l.Addr().String()
		s.port = l.Addr().(*net.TCPAddr).Port
		s.URL = "redis://" + s.Addr
		if err = l.Close(); err != nil {
			return err
		}
		if err = s.start(); err == nil {
			return nil
		}
	}
	return err
}

func (s *Server) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	v, err := redisproc.BinaryVersion(ctx, s.binary)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "bind 127.0.0.1\nport %d\ndir \"%s\"\nsave \"\"\nappendonly no\nloglevel notice\n", s.port, s.folder)
	if v.AtLeast(7, 0) {
		b.WriteString("enable-debug-command local\n")
	}
	// What the process itself prints is the sign, not an answer at the port: that
	// could be another server, which took the port first.
	up := make(chan struct{})
	var once sync.Once
	s.proc, err = redisproc.Start(redisproc.Options{
		Binary: s.binary, Config: b.String(), Args: s.args, ParentDeath: syscall.SIGKILL,
		Log: func(line string, _ bool) {
			if strings.Contains(line, "Ready to accept connections") {
				once.Do(func() { close(up) })
			}
		},
	})
	if err != nil {
		return err
	}
	select {
	case <-up:
		return nil
	case <-s.proc.Done():
		return s.proc.Ended()
	case <-ctx.Done():
		_ = s.proc.Signal(syscall.SIGKILL)
		<-s.proc.Done()
		return fmt.Errorf("not ready: %w; its last words: %s", ctx.Err(), s.proc.LastLines())
	}
}
