package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
)

const (
	// refreshInterval is how often all values are read for the clients even when
	// no update came: it brings new times of unchanged values, channel counters,
	// and whatever a lost message would have brought.
	refreshInterval = 10 * time.Second
	// retryInterval is the wait after a failed read of the store.
	retryInterval = time.Second
	// readTimeout bounds one pass over the store.
	readTimeout = 5 * time.Second
)

// hub keeps the WebSocket clients up to date. The engine's callbacks only leave
// marks and messages; one goroutine, which runs while there are clients, reads
// the values and hands each client what changed.
type hub struct {
	site       Site
	log        *slog.Logger
	clock      model.Clock
	interval   time.Duration
	maxClients int

	active context.Context    // ends when the clients are to be told to go
	end    context.CancelFunc // ends active
	ctx    context.Context    // ends when their time to go is over
	cancel context.CancelFunc // ends ctx and with it active
	wg     sync.WaitGroup     // clients and the goroutine
	wake   chan struct{}
	// resumes has an element for each client that reads the journals.
	resumes chan struct{}

	mu       sync.Mutex
	closing  bool
	reserved int            // clients, and those about to become one
	named    map[string]int // of them, by the name of their credential
	clients  map[*client]struct{}
	running  bool
	dirty    map[string]struct{}            // models to read again
	again    bool                           // everybody needs a snapshot
	told     map[string]model.ChannelStatus // by callbacks since the last pass began

	// These belong to the goroutine.
	cache    *state // nil: nothing read yet
	next     time.Time
	fullDue  bool
	failing  bool
	channels map[string]model.ChannelStatus
}

func newHub(c Config) *hub {
	b := &hub{
		site: c.Site, log: c.Log, clock: c.Clock, interval: c.Interval, maxClients: c.MaxClients,
		wake: make(chan struct{}, 1), resumes: make(chan struct{}, maxResumes), named: map[string]int{}, clients: map[*client]struct{}{},
		dirty: map[string]struct{}{}, told: map[string]model.ChannelStatus{},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.active, b.end = context.WithCancel(b.ctx)
	return b
}

func (b *hub) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// update marks a model as changed.
func (b *hub) update(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.clients) > 0 {
		b.dirty[id] = struct{}{}
		b.poke()
	}
}

// resync gives everybody a snapshot.
func (b *hub) resync() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.clients) > 0 {
		b.again = true
		b.poke()
	}
}

// event hands a message that must not be left out to every client.
func (b *hub) event(kind, position string, event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.clients) == 0 {
		return
	}
	body, err := json.Marshal(map[string]any{"event": event})
	if err != nil {
		b.log.Error("event cannot be written as JSON", "type", kind, "error", err)
		return
	}
	for c := range b.clients {
		if c.sub.tells(kind) && !c.out.event(message{kind, body, position}) {
			b.sendAway(c, errSlow)
		}
	}
}

// channel hands a channel's status to every client.
func (b *hub) channel(s model.ChannelStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.clients) > 0 {
		b.told[s.ID] = s
		b.sendChannel(s)
	}
}

func (b *hub) sendChannel(s model.ChannelStatus) {
	body, err := json.Marshal(map[string]any{"channel": s})
	if err != nil {
		b.log.Error("channel status cannot be written as JSON", "channel", s.ID, "error", err)
		return
	}
	for c := range b.clients {
		if c.sub.channels {
			c.out.channel(s.ID, body)
		}
	}
}

// count returns how many clients there are.
func (b *hub) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.clients)
}

// sendAway ends a client that does not keep up or behave: it gets nothing any more
// but, where that still gets through, the reason. The caller holds mu.
func (b *hub) sendAway(c *client, why error) {
	delete(b.clients, c)
	if c.away.CompareAndSwap(nil, &why) {
		close(c.sent)
	}
}

// reserve takes a place for a client. It is given back by release. Somebody with a
// name gets at most half of all places, so that others find one, too.
func (b *hub) reserve(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return problemf(http.StatusServiceUnavailable, "the engine is being stopped")
	}
	if b.reserved >= b.maxClients {
		return problemf(http.StatusServiceUnavailable, "%d WebSockets are open, and there may be no more", b.maxClients)
	}
	if most := max(1, b.maxClients/2); name != "" && b.named[name] >= most {
		return problemf(http.StatusServiceUnavailable, "%d WebSockets of %s are open, and there may be no more", most, name)
	}
	b.reserved++
	b.named[name]++
	b.wg.Add(1)
	return nil
}

func (b *hub) release(name string) {
	b.mu.Lock()
	b.reserved--
	if b.named[name]--; b.named[name] == 0 {
		delete(b.named, name)
	}
	b.mu.Unlock()
	b.wg.Done()
}

// add lets a client take part; its first message will be a snapshot.
func (b *hub) add(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.wants = true
	c.asked++
	b.clients[c] = struct{}{}
	if !b.running && !b.closing {
		b.running = true
		b.wg.Add(1)
		go b.run()
	}
	b.poke()
}

func (b *hub) remove(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c)
	b.poke() // the goroutine may have nothing left to do
}

// subscribe replaces what a client is told.
func (b *hub) subscribe(c *client, sub *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.sub, c.wants = sub, true
	c.asked++
	b.poke()
}

// close tells every client to go, cuts the connections of those that have not
// gone after grace, and returns when all have ended.
func (b *hub) close(grace time.Duration) {
	b.mu.Lock()
	b.closing = true
	b.end()
	b.mu.Unlock()
	cut := time.AfterFunc(grace, b.cancel)
	b.wg.Wait()
	cut.Stop()
	b.cancel()
}

// kill cuts all connections at once.
func (b *hub) kill() { b.cancel() }

// run reads for the clients until there are none.
func (b *hub) run() {
	defer b.wg.Done()
	refresh := b.clock.After(refreshInterval)
	var retry <-chan time.Time
	for {
		select {
		case <-b.active.Done():
			return
		case <-b.wake:
		case <-retry:
		case <-refresh:
			b.fullDue = true
			refresh = b.clock.After(refreshInterval)
		}
		if b.endIfIdle() {
			return
		}
		if wait := b.next.Sub(b.clock.Now()); wait > 0 {
			select {
			case <-b.active.Done():
				return
			case <-b.clock.After(wait):
			}
		}
		retry = nil
		began := b.clock.Now()
		err := b.pass()
		// However long a reading takes, the store has as much time for others.
		b.next = began.Add(max(b.interval, 2*b.clock.Now().Sub(began)))
		if err != nil {
			b.failed(err)
			b.next = b.clock.Now().Add(retryInterval)
			retry = b.clock.After(retryInterval)
		} else {
			b.failing = false
		}
	}
}

// endIfIdle ends the goroutine's time when there are no clients. What it read is
// forgotten, for nobody will tell it of changes from here on.
func (b *hub) endIfIdle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.clients) > 0 {
		return false
	}
	b.running, b.again, b.failing, b.cache, b.channels = false, false, false, nil, nil
	clear(b.dirty)
	clear(b.told)
	return true
}

// failed tells the clients once that their values are not followed any more.
// They get a snapshot when that is over.
func (b *hub) failed(err error) {
	if b.failing || b.active.Err() != nil {
		return
	}
	b.failing = true
	b.log.Warn("values for the WebSocket clients cannot be read", "error", err)
	p := asProblem(err)
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.clients {
		c.out.fail(errorBody("values cannot be read: " + p.Detail))
	}
}
