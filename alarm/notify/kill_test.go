package notify_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/alarm/notify/webhook"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// senderEnv makes this test binary a sender: "site|redis host|webhook|id".
const senderEnv = "VOLTAGE_TEST_SENDER"

// TestSenderProcess is no test but the sender that TestKilledSender kills.
func TestSenderProcess(t *testing.T) {
	settings := os.Getenv(senderEnv)
	if settings == "" {
		t.Skip("it is the sender of TestKilledSender")
	}
	part := strings.Split(settings, "|")
	client := redis.NewClient(&redis.Options{Addr: part[1], MaxRetries: -1, DisableIdentity: true, PoolSize: 4})
	plane, err := scripts.New(client, scripts.Options{Site: part[0]})
	require.NoError(t, err)
	target := func(id string) notify.Target {
		return notify.Target{ID: id, Sender: webhook.New(webhook.Config{URL: part[2] + "/" + id}), Rate: -1}
	}
	n, err := notify.New(notify.Config{Targets: []notify.Target{target("a"), target("b")}, Routes: []notify.Route{{Targets: []string{"a", "b"}}}},
		notify.Options{Site: part[0], Lease: 500 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	go n.Run(t.Context(), plane, part[3])
	_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it ends it
}

// startSender returns what kills the sender, and whether it was.
func startSender(t *testing.T, site, store, hook, id string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSenderProcess$")
	cmd.Env = append(os.Environ(), senderEnv+"="+strings.Join([]string{site, store, hook, id}, "|"))
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	})
	t.Cleanup(kill)
	return kill
}

// counter is a proxy in front of Redis that acts at the step-th request: before
// it gets there, or when it was answered and the answer is on its way.
type counter struct {
	addr  string
	acted chan struct{}
}

func newCounter(t *testing.T, to string, step int64, after bool, act func()) *counter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &counter{addr: l.Addr().String(), acted: make(chan struct{})}
	var count atomic.Int64
	once := sync.OnceFunc(func() {
		act()
		close(c.acted)
	})
	var open sync.WaitGroup
	open.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer client.Close()
				store, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer store.Close()
				var due atomic.Bool
				open.Go(func() {
					defer client.Close()
					b := make([]byte, 64<<10)
					for {
						n, err := store.Read(b)
						if n > 0 && due.Load() {
							once()
							return
						}
						if _, bad := client.Write(b[:n]); err != nil || bad != nil {
							return
						}
					}
				})
				b := make([]byte, 64<<10)
				for {
					n, err := client.Read(b)
					if n > 0 && count.Add(1) == step {
						if !after {
							once()
							return
						}
						due.Store(true)
					}
					if _, bad := store.Write(b[:n]); err != nil || bad != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Wait()
	})
	return c
}

// hook is a receiver of webhooks.
type hook struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string]map[string]int // target → message → how often
	at  func()                    // called with the next message, before it is answered
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{got: map[string]map[string]int{"/a": {}, "/b": {}}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m notify.Message
		if json.NewDecoder(r.Body).Decode(&m) != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got[r.URL.Path][m.ID]++
		if h.at != nil {
			h.at()
			h.at = nil
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) missing(ids []string) (list []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for target, got := range h.got {
		for _, id := range ids {
			if got[id] == 0 {
				list = append(list, target+" "+id)
			}
		}
	}
	return list
}

// TestKilledSender kills the sender (kill -9) at each of its first requests to the
// store, and while a target has a message in its hands. Every message reaches each
// target.
func TestKilledSender(t *testing.T) {
	t.Parallel()
	store := storetest.Redis(t)
	u, err := url.Parse(store)
	require.NoError(t, err)
	client, site, h := storetest.Client(t, store), storetest.Site(t), newHook(t)
	var ids []string
	push := func(n int) {
		for range n {
			id := fmt.Sprintf("%d-1", len(ids)+1)
			ids = append(ids, id)
			require.NoError(t, client.LPush(t.Context(), "{"+site+"}:notification:queue", alarmText(id)).Err())
		}
	}
	steps := int64(24)
	if os.Getenv("VOLTAGE_LONG") == "1" {
		steps = 200
	}
	for step := int64(1); step <= steps; step++ {
		for _, after := range []bool{false, true} {
			push(3)
			var kill func()
			ready := make(chan struct{})
			c := newCounter(t, u.Host, step, after, func() {
				<-ready
				kill()
			})
			kill = startSender(t, site, c.addr, h.URL, fmt.Sprintf("s%d%v", step, after))
			close(ready)
			select {
			case <-c.acted:
			case <-time.After(time.Minute): // it gives signs of life, and so comes to every step
				t.Fatalf("the sender did not come to its request %d", step)
			}
		}
	}
	for range 5 { // while it waits for the answer of a target
		push(3)
		var kill func()
		died := make(chan struct{})
		h.mu.Lock()
		kill = startSender(t, site, u.Host, h.URL, fmt.Sprintf("h%d", len(ids)))
		h.at = func() {
			kill()
			close(died)
		}
		h.mu.Unlock()
		select {
		case <-died:
		case <-time.After(time.Minute):
			t.Fatal("nothing came")
		}
	}
	startSender(t, site, u.Host, h.URL, "last")
	require.Eventually(t, func() bool { return len(h.missing(ids)) == 0 }, time.Minute, 10*time.Millisecond, "each message reaches each target")
	prefix := "{" + site + "}:notification:"
	require.Eventually(t, func() bool {
		senders, err := client.SCard(t.Context(), prefix+"senders").Result()
		left, failed := client.Exists(t.Context(), prefix+"queue", prefix+"processing:last", prefix+"work:last").Result()
		return err == nil && failed == nil && senders == 1 && left == 0
	}, time.Minute, 10*time.Millisecond, "and nothing is left of those that died")
	h.mu.Lock()
	defer h.mu.Unlock()
	again := 0
	for _, got := range h.got {
		for _, n := range got {
			again += n - 1
		}
	}
	t.Logf("%d messages to two targets, %d repetitions", len(ids), again)
}

// TestKilledStore kills Redis again and again under a sender that lives.
func TestKilledStore(t *testing.T) {
	t.Parallel()
	own := storetest.Own(t, "--appendonly", "yes", "--appendfsync", "always")
	client, site, h := storetest.Client(t, own.URL), storetest.Site(t), newHook(t)
	plane, err := scripts.New(client, scripts.Options{Site: site})
	require.NoError(t, err)
	n, err := notify.New(notify.Config{Targets: []notify.Target{{ID: "a", Sender: webhook.New(webhook.Config{URL: h.URL + "/a"}), Rate: -1}, {ID: "b", Sender: webhook.New(webhook.Config{URL: h.URL + "/b"}), Rate: -1}},
		Routes: []notify.Route{{Targets: []string{"a", "b"}}}}, notify.Options{Lease: time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(t.Context(), plane, "one")
	}()
	t.Cleanup(func() { <-done })
	var ids []string
	for range 5 {
		for range 50 {
			id := fmt.Sprintf("%d-1", len(ids)+1)
			require.NoError(t, client.LPush(t.Context(), "{"+site+"}:notification:queue", alarmText(id)).Err())
			ids = append(ids, id)
		}
		n.Wake()
		first := ids[len(ids)-50]
		require.Eventually(t, func() bool { return len(h.missing([]string{first})) == 0 }, time.Minute, time.Millisecond)
		own.Kill()
		own.Restart()
	}
	require.Eventually(t, func() bool { return len(h.missing(ids)) == 0 }, time.Minute, 10*time.Millisecond)
}
