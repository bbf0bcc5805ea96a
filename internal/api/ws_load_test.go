package api

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// Many clients follow many points, each of which changes once a second, and some of
// them never read. The others do not notice, and memory stays bounded. How soon
// values arrive is logged; the machine decides it, not the test.
func TestManyClients(t *testing.T) {
	clients, deaf, models, rounds := 40, 4, 20, 2 // of 50 points each
	if os.Getenv("VOLTAGE_LONG") == "1" {
		clients, deaf, models, rounds = 200, 10, 100, 20
	}
	site := &fakeSite{points: map[string]map[string]model.Point{}, values: map[string]map[string]model.Value{}}
	for i := range models {
		var points []model.Point
		for j := range 50 {
			points = append(points, m(fmt.Sprintf("point_%02d", j), 0, "kW"))
		}
		site.add(fmt.Sprintf("m%d", i), "", i, points...)
	}
	h := newHandler(t, site, func(c *Config) { c.Interval = 0 }) // as in production
	server := serve(t, h)
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before, begun := heap(), time.Now()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var late []time.Duration
	ready := make(chan struct{}, clients)
	for i := range clients {
		conn, _, err := websocket.Dial(ctx, server.URL+"/ws", nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.CloseNow() })
		if i < deaf {
			continue
		}
		conn.SetReadLimit(10 << 20)
		wg.Go(func() {
			var mine []time.Duration
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				late = append(late, mine...)
			}()
			for {
				_, body, err := conn.Read(ctx)
				if err != nil {
					return
				}
				if bytes.HasPrefix(body, []byte(`{"type":"snapshot"`)) {
					ready <- struct{}{}
				}
				if !bytes.HasPrefix(body, []byte(`{"type":"values"`)) {
					continue
				}
				for rest := body; ; { // the first value of each model
					var ok bool
					if _, rest, ok = bytes.Cut(rest, []byte(`"point_00":{"value":`)); !ok {
						break
					}
					number, _, _ := bytes.Cut(rest, []byte(`,`))
					us, err := strconv.ParseFloat(string(number), 64)
					if assert.NoError(t, err) {
						mine = append(mine, time.Since(begun)-time.Duration(us)*time.Microsecond)
					}
				}
			}
		})
	}
	for range clients - deaf {
		<-ready
	}
	tick := time.NewTicker(time.Second / time.Duration(models))
	defer tick.Stop()
	peak := uint64(0)
	for n := range rounds * models {
		<-tick.C
		id := fmt.Sprintf("m%d", n%models)
		now := float64(time.Since(begun).Microseconds())
		site.set(func() {
			for name, v := range site.values[id] {
				v.Value, v.Time = now, time.Now()
				site.values[id][name] = v
			}
		})
		h.Update(model.Update{Model: id})
		if n%(5*models) == models-1 {
			peak = max(peak, heap())
		}
	}
	require.Eventually(t, func() bool { // the last values are with everybody
		for c := range h.hub.all() {
			if c.out.waits() {
				return false
			}
		}
		return true
	}, 20*time.Second, 10*time.Millisecond)
	left := h.hub.count()
	cancel()
	wg.Wait()
	grown := int64(peak) - int64(before)
	assert.Less(t, grown, int64(100<<20), "memory is bounded")
	assert.GreaterOrEqual(t, left, clients-deaf, "nobody who reads was sent away")
	slices.Sort(late)
	require.NotEmpty(t, late)
	at := func(q float64) time.Duration { return late[int(q*float64(len(late)-1))].Round(100 * time.Microsecond) }
	t.Logf("%d clients, %d of them deaf, %d points, one change a second each: %d times the values of a model, p50 %s, p99 %s, most %s, heap +%d MB",
		clients, deaf, 50*models, len(late), at(0.5), at(0.99), at(1), grown>>20)
}

// all returns the clients.
func (b *hub) all() map[*client]struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[*client]struct{}{}
	for c := range b.clients {
		all[c] = struct{}{}
	}
	return all
}

// waits reports whether there are values for a client that does read: one that does
// not has many.
func (o *outbox) waits() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.changes) > 0 && len(o.changes) < 2
}
