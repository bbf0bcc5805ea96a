package voltage_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// engineEnv makes this test binary an engine: "site|redis URL|device|command id".
const engineEnv = "VOLTAGE_TEST_ENGINE"

// TestEngineProcess is no test but the engine that TestKilledEngine kills. It
// gives one command and says what became of it.
func TestEngineProcess(t *testing.T) {
	settings := os.Getenv(engineEnv)
	if settings == "" {
		t.Skip("it is the engine of TestKilledEngine")
	}
	part := strings.Split(settings, "|")
	eng, err := operatedSite(t, scripts.StoreConfig{URL: part[1]}, part[0], modbus.TCP(part[2], modbus.Unit(1)), (&modbusDevice{}).address)
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	defer eng.Stop(context.Background())
	eventually(t, "online", func() bool {
		list, err := eng.Channels(t.Context())
		return err == nil && list[0].State == model.ChannelOnline
	})
	if part[3] != "" {
		r, err := eng.Control(t.Context(), model.Command{ID: part[3], Model: "pcs", Control: "plain", Value: 5, Timeout: time.Minute})
		fmt.Println("command", r.State, err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it ends it
}

// process is an engine in a process of its own.
type process struct {
	cmd  *exec.Cmd
	stop func()
	mu   sync.Mutex
	out  bytes.Buffer
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func startProcess(t *testing.T, site, store, device, command string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^TestEngineProcess$", "-test.v")}
	p.cmd.Env = append(os.Environ(), engineEnv+"="+strings.Join([]string{site, store, device, command}, "|"))
	in, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			p.out.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
		}
	}()
	p.stop = sync.OnceFunc(func() {
		_ = in.Close()
		_ = p.cmd.Process.Kill()
		<-read
		_ = p.cmd.Wait()
	})
	t.Cleanup(p.stop)
	return p
}

// gate is a proxy in front of a Redis that acts when a script operation passes.
type gate struct {
	listener net.Listener
	to       string
	op       []byte
	after    bool        // when it was answered, before the answer goes on
	act      func() bool // reports whether it did, which it does once
	claims   atomic.Bool // claims do not pass: the engine would be faster than its death
}

func newGate(t *testing.T, to, op string, after bool, act func()) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{listener: l, to: to, op: fmt.Appendf(nil, "\r\n%s\r\n", op), after: after}
	var once sync.Once
	g.act = func() (did bool) {
		once.Do(func() {
			act()
			g.claims.Store(false)
			did = true
		})
		return did
	}
	var open sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { g.pass(ctx, c) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		open.Wait()
	})
	return g
}

func (g *gate) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	store, err := (&net.Dialer{}).DialContext(ctx, "tcp", g.to)
	if err != nil {
		return
	}
	defer store.Close()
	defer context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = store.Close()
	})()
	var mu sync.Mutex
	passed := false // the operation is on its way
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		defer client.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := store.Read(b)
			if n > 0 {
				mu.Lock()
				acts := passed && g.after
				mu.Unlock()
				if acts && g.act() {
					return
				}
				if _, err := client.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if n > 0 {
			if g.claims.Load() && bytes.Contains(b[:n], []byte("\r\nclaim\r\n")) {
				break
			}
			if bytes.Contains(b[:n], g.op) {
				g.claims.Store(g.after && bytes.Contains(g.op, []byte("submit")))
				if !g.after && g.act() {
					break // it does not get there
				}
				mu.Lock()
				passed = true
				mu.Unlock()
			}
			if _, err := store.Write(b[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = store.Close()
	<-answered
}

// steps are where something dies on the way of a command.
type step struct {
	op    string // of the script; empty: at the device
	after bool
	// what becomes of the command when the engine dies there, and how often the
	// device acts
	want  string
	acted int
}

var steps = []step{
	{"submit", false, "none", 0},
	{"submit", true, "executed ", 1},
	{"claim", false, "executed ", 1},
	{"claim", true, "unknown owner_lost", 0},
	{"", false, "unknown owner_lost", 0},
	{"", true, "unknown owner_lost", 1},
	{"finish", false, "unknown owner_lost", 1},
	{"finish", true, "executed ", 1},
}

func (s step) String() string {
	when := map[bool]string{false: "before ", true: "after "}[s.after]
	if s.op == "" {
		return when + "the device acts"
	}
	return when + s.op
}

// TestKilledEngine kills the engine (kill -9) at each step of a command. The next
// engine never executes it a second time, and what is said of it is true.
func TestKilledEngine(t *testing.T) {
	t.Parallel()
	store := storetest.Redis(t)
	u, err := url.Parse(store)
	require.NoError(t, err)
	client := storetest.Client(t, store)
	rounds := 1
	if os.Getenv("VOLTAGE_LONG") == "1" {
		rounds = 20
	}
	for _, s := range steps {
		t.Run(s.String(), func(t *testing.T) {
			for range rounds {
				site, d := storetest.Site(t), newModbusDevice(t)
				var first *process
				ready, dead := make(chan struct{}), make(chan struct{})
				kill := sync.OnceFunc(func() {
					<-ready
					_ = first.cmd.Process.Kill()
					close(dead)
				})
				through := u.Host
				if s.op != "" {
					through = newGate(t, u.Host, s.op, s.after, kill).listener.Addr().String()
				} else {
					d.at(s.after, kill)
				}
				first = startProcess(t, site, strings.Replace(store, u.Host, through, 1), d.addr.String(), "c1")
				close(ready)
				select {
				case <-dead:
				case <-time.After(time.Minute):
					t.Fatalf("the engine was not killed: %s", first.text())
				}
				first.stop()
				d.at(false, nil)
				d.at(true, nil)

				plane, err := scripts.New(client, scripts.Options{Site: site, Log: testLog(t)})
				require.NoError(t, err)
				owner := func() string {
					_, owner, err := plane.ChannelStatus(t.Context(), "dev")
					if err != nil {
						return ""
					}
					return owner
				}
				killed := owner()
				second := startProcess(t, site, store, d.addr.String(), "")
				taken := func() bool { now := owner(); return now != "" && now != killed }
				state := func() string {
					r, err := plane.Command(t.Context(), "c1")
					if err != nil {
						return "none"
					}
					return fmt.Sprint(r.State, " ", r.Reason)
				}
				for end := time.After(time.Minute); !taken() || state() != s.want; {
					select {
					case <-time.After(20 * time.Millisecond):
					case <-end:
						t.Fatalf("%s: the command is %q and not %q; the engine said:\n%s", s, state(), s.want, second.text())
					}
				}
				require.Equal(t, s.acted, d.acted(plainAt))
				second.stop()
				require.Equal(t, s.acted, d.acted(plainAt))
				require.Equal(t, s.want, state())
			}
		})
	}
}

// at has f called when a write arrives: before the device acts, and then the
// request is lost, or after that.
func (d *modbusDevice) at(after bool, f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case after:
		d.after = f
	case f == nil:
		d.intercept = nil
	default:
		d.intercept = func(write bool) server.Action {
			if !write {
				return server.Action{}
			}
			f()
			return server.Action{Ignore: true, Disconnect: true}
		}
	}
}

// TestKilledRedis kills Redis at each step, and the device's connection. Whatever
// becomes of the command is true, and it is executed once at most.
func TestKilledRedis(t *testing.T) {
	t.Parallel()
	rounds := 1
	if os.Getenv("VOLTAGE_LONG") == "1" {
		rounds = 20
	}
	own := storetest.Own(t, "--appendonly", "yes", "--appendfsync", "always")
	u, err := url.Parse(own.URL)
	require.NoError(t, err)
	for _, s := range steps {
		t.Run(s.String(), func(t *testing.T) {
			for range rounds {
				d, restarted := newModbusDevice(t), make(chan struct{})
				site := storetest.Site(t)
				crash := sync.OnceFunc(func() {
					own.Kill()
					own.Restart()
					close(restarted)
				})
				through := u.Host
				if s.op != "" {
					through = newGate(t, u.Host, s.op, s.after, crash).listener.Addr().String()
				} else {
					d.at(s.after, crash)
				}
				eng, err := operatedSite(t, scripts.StoreConfig{URL: strings.Replace(own.URL, u.Host, through, 1)}, site, d.driver(), d.address)
				require.NoError(t, err)
				require.NoError(t, eng.Start(t.Context()))
				eventually(t, "online", func() bool {
					list, err := eng.Channels(t.Context())
					return err == nil && list[0].State == model.ChannelOnline
				})
				given, err := eng.Control(t.Context(), model.Command{ID: "c1", Model: "pcs", Control: "plain", Value: 5, Timeout: 10 * time.Second})
				told := err == nil
				<-restarted
				plane, err := scripts.New(storetest.Client(t, own.URL), scripts.Options{Site: site, Log: testLog(t)})
				require.NoError(t, err)
				var r model.CommandResult
				require.Eventually(t, func() bool {
					r, err = plane.Command(t.Context(), "c1")
					return r.State.Final() || err != nil && !told
				}, time.Minute, 20*time.Millisecond, "%s: %+v", s, r)
				d.at(false, nil)
				d.at(true, nil)
				require.NoError(t, eng.Stop(context.Background()))
				acted := d.acted(plainAt)
				require.LessOrEqual(t, acted, 1)
				require.Equal(t, r.State.OK(), acted == 1 && r.State != model.CommandUnknown, "%s: acted %d: %+v", s, acted, r)
				if told { // success was reported: then it is so
					require.True(t, given.State.OK())
					require.Equal(t, 1, acted)
				}
			}
		})
	}
}

// TestKilledDevice breaks the device's connection before and after it acted: it
// is not asked a second time.
func TestKilledDevice(t *testing.T) {
	t.Parallel()
	for _, control := range []string{"plain", "power"} { // without and with read-back
		for name, c := range map[string]struct {
			action server.Action
			acted  int
		}{
			"before it acts": {server.Action{Ignore: true, Disconnect: true}, 0},
			"after it acted": {server.Action{Drop: true, Disconnect: true}, 1},
		} {
			t.Run(control+" "+name, func(t *testing.T) {
				t.Parallel()
				d := newModbusDevice(t)
				var writes int // under the lock of d
				d.intercept = func(write bool) server.Action {
					if !write {
						return server.Action{}
					}
					d.mu.Lock()
					defer d.mu.Unlock()
					writes++
					return c.action
				}
				eng, err := operatedSite(t, scripts.StoreConfig{}, storetest.Site(t), d.driver(), d.address)
				require.NoError(t, err)
				require.NoError(t, eng.Start(t.Context()))
				defer func() { require.NoError(t, eng.Stop(context.Background())) }()
				require.NoError(t, eng.Push(t.Context(), "own", model.Sample{Point: "soc", Value: 50}))
				eventually(t, "online", func() bool {
					list, err := eng.Channels(t.Context())
					v, failed := eng.Values(t.Context(), "pcs")
					return err == nil && failed == nil && list[0].State == model.ChannelOnline && v["soc"].Value == 50
				})
				r, err := eng.Control(t.Context(), model.Command{Model: "pcs", Control: control, Value: 5, Timeout: time.Minute})
				require.ErrorIs(t, err, voltage.ErrUnknown, "%+v", r)
				eventually(t, "connected again", func() bool {
					list, err := eng.Channels(t.Context())
					return err == nil && list[0].Reconnects > 0 && list[0].State == model.ChannelOnline
				})
				require.Equal(t, c.acted, d.acted(plainAt)+d.acted(verifiedAt))
				d.mu.Lock()
				defer d.mu.Unlock()
				require.Equal(t, 1, writes)
			})
		}
	}
}
