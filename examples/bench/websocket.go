package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/voltageems/voltage/scripts"
)

// webSockets is how soon values reach many WebSocket clients, a part of which never
// reads: from Push until a client has the message. Load, engine and clients share
// this machine.
type webSockets struct {
	Clients int `json:"clients"`
	Deaf    int `json:"clients_that_never_read"`
	Points  int `json:"points"`
	// Changes is how many values changed a second, Models how many times a second the
	// changed values of a model of 100 reached a client, all clients together.
	Changes float64      `json:"changes_per_second"`
	Models  float64      `json:"models_per_second"`
	Refused int64        `json:"refused_batches"`
	CPU     float64      `json:"process_cpu"` // as a part of one CPU, clients included
	Heap    int64        `json:"heap_growth_bytes"`
	Values  distribution `json:"push_to_client_ms"`
	Goal    goal         `json:"goal"`
	Gone    int64        `json:"readers_sent_away"`
}

const (
	socketChannels = 10 // of 500 points, each of which changes once a second
	deafShare      = 20 // one of so many clients never reads
	aimSockets     = 100.0
)

func (b *bench) webSockets(ctx context.Context) (_ *webSockets, err error) {
	d := newDefinitions(min(b.channels, socketChannels))
	b.say("WebSocket: %d clients on %d points …", b.clients, d.size())
	l, err := b.startEngine(ctx, scripts.StoreConfig{URL: b.url}, d, "-ws", 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stop(ctx)) }()
	for c := range d.channels { // so that the snapshots have all
		if err := l.engine.Push(ctx, d.channels[c], l.feeds[c].next()...); err != nil {
			return nil, err
		}
	}
	s := &sockets{d: d, pushed: make([]sync.Map, len(d.channels)), ready: make(chan struct{}, b.clients)}
	result := &webSockets{Clients: b.clients, Deaf: b.clients / deafShare, Points: d.size()}
	before := heap()
	clients, stop := context.WithCancel(ctx)
	defer stop()
	if err := s.connect(clients, "ws://"+l.engine.Addr()+"/ws", b.clients, result.Deaf); err != nil {
		return nil, err
	}
	for range b.clients - result.Deaf {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	began, used := time.Now(), processCPU()
	s.push(ctx, l, began.Add(latencyTime*b.slice()))
	took := time.Since(began).Seconds()
	result.CPU = (processCPU() - used).Seconds() / took
	result.Changes = float64(s.batches) * pointsPerChannel / took
	result.Refused = l.refused.Load()
	select { // the last ones are under way
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	result.Heap, result.Gone = heap()-before, s.gone.Load()
	stop()
	s.wg.Wait()
	result.Models = float64(len(s.late)) / took
	result.Values = s.late.distribution()
	result.Goal = goal{Name: "target <", Value: aimSockets, Met: result.Values.Probes > 0 && result.Values.P99 < aimSockets && result.Gone == 0}
	return result, nil
}

// sockets are the clients.
type sockets struct {
	d       *definitions
	pushed  []sync.Map // by channel: when a turn was pushed
	batches int
	ready   chan struct{} // has an element for each client with its first snapshot
	gone    atomic.Int64
	wg      sync.WaitGroup

	mu   sync.Mutex
	late samples
}

// connect opens the clients, the first of which never read.
func (s *sockets) connect(ctx context.Context, url string, clients, deaf int) error {
	for i := range clients {
		conn, _, err := websocket.Dial(ctx, url, nil)
		if err != nil {
			return err
		}
		conn.SetReadLimit(64 << 20)
		s.wg.Go(func() {
			defer func() { _ = conn.CloseNow() }()
			if i < deaf {
				<-ctx.Done()
				return
			}
			mine := s.read(ctx, conn)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.late = append(s.late, mine...)
		})
	}
	return nil
}

func (s *sockets) read(ctx context.Context, conn *websocket.Conn) (mine samples) {
	first := true
	for {
		_, body, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.gone.Add(1)
			}
			return mine
		}
		if first {
			first = false
			s.ready <- struct{}{}
		}
		if bytes.HasPrefix(body, []byte(`{"type":"values"`)) {
			mine = s.times(body, mine)
		}
	}
}

// times adds for each model in a message how long ago its values were pushed, by the
// first of them.
func (s *sockets) times(body []byte, mine samples) samples {
	for rest := body; ; {
		var id, text string
		var ok bool
		if id, rest, ok = between(rest, `"device`, `"`); !ok {
			return mine
		}
		if text, rest, ok = between(rest, `"value_000":{"value":`, `,`); !ok {
			return mine
		}
		channel, number, _ := strings.Cut(id, "-")
		c, err1 := strconv.Atoi(channel)
		m, err2 := strconv.Atoi(number)
		value, err3 := strconv.ParseFloat(text, 64)
		if errors.Join(err1, err2, err3) != nil || c-1001 >= len(s.pushed) {
			continue
		}
		if when, ok := s.pushed[c-1001].Load(turnOf(value, (m-1)*pointsPerModel)); ok {
			mine.add(time.Since(when.(time.Time)))
		}
	}
}

// between returns what stands between two texts, and what comes after it.
func between(body []byte, before, after string) (text string, rest []byte, ok bool) {
	_, rest, ok = bytes.Cut(body, []byte(before))
	found, rest, ok2 := bytes.Cut(rest, []byte(after))
	return string(found), rest, ok && ok2
}

// push changes every value once a second, channel by channel, as devices do that are
// polled on their own, until a time.
func (s *sockets) push(ctx context.Context, l *loadedEngine, until time.Time) {
	interval := time.Second / time.Duration(len(s.d.channels))
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; time.Now().Before(until); n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c := n % len(s.d.channels)
		next := l.feeds[c].next()
		s.pushed[c].Store(l.feeds[c].turn, time.Now())
		if err := l.engine.Push(ctx, s.d.channels[c], next...); err != nil {
			l.refused.Add(1)
			continue
		}
		s.batches++
	}
}

func (r *webSockets) text(b *bytes.Buffer) {
	fmt.Fprintf(b, "\nWebSocket: %d clients, %d of which never read, follow %d points, each changing once a second\n", r.Clients, r.Deaf, r.Points)
	fmt.Fprintf(b, "  Push → client: p50 %.1f ms, p99 %.1f ms, most %.1f ms of %d times the values of a model (%.0f a second; %.0f values a second changed)\n",
		r.Values.P50, r.Values.P99, r.Values.Max, r.Values.Probes, r.Models, r.Changes)
	fmt.Fprintf(b, "  %.2f CPUs, clients included; heap +%.0f MB; %d readers sent away; %d batches refused\n", r.CPU, float64(r.Heap)/1e6, r.Gone, r.Refused)
	fmt.Fprintf(b, "  p99: %s\n", verdict(r.Goal.Name, r.Goal.Value, r.Values.P99, r.Goal.Met))
}
