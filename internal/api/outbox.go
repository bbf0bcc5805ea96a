package api

import (
	"encoding/json"
	"errors"
	"strconv"
	"sync"
)

// maxEvents is how many alarms and commands wait for a client that does not
// read. One that misses more is disconnected: when it comes back it gets a
// snapshot, which is better than a gap that it does not know of.
const maxEvents = 1000

var errSlow = errors.New("the client does not read fast enough")

// message is what a client receives: an object with the type, a number, and the
// members of body, which is a JSON object.
type message struct {
	kind string
	body []byte
}

// frame returns the message as text.
func (m message) frame(seq int64) []byte {
	b := append([]byte(`{"type":"`), m.kind...)
	b = append(b, `","seq":`...)
	b = strconv.AppendInt(b, seq, 10)
	if len(m.body) > len(`{}`) {
		b = append(append(b, ','), m.body[1:]...)
	} else {
		b = append(b, '}')
	}
	return b
}

func errorBody(text string) []byte {
	body, _ := json.Marshal(map[string]string{"message": text}) // strings always encode
	return body
}

// outbox holds what a client has not been sent yet. It never blocks who puts
// something in, and its size is bounded: of a value, a channel, an error and a
// snapshot only the latest is kept; alarms and commands are all kept, up to
// maxEvents.
type outbox struct {
	wake chan struct{} // has an element when there may be something to take

	mu       sync.Mutex
	started  bool // the first snapshot was taken
	state    []byte
	events   []message // those before state
	after    []message // those after state
	held     bool      // a snapshot is being made
	later    []message // those that came since it is
	channels map[string][]byte
	changes  map[string]map[string]json.RawMessage
	failure  []byte
}

func newOutbox() *outbox {
	return &outbox{
		wake: make(chan struct{}, 1), channels: map[string][]byte{}, changes: map[string]map[string]json.RawMessage{},
	}
}

func (o *outbox) unlock() {
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// event returns false when the client is too far behind.
func (o *outbox) event(m message) bool {
	o.mu.Lock()
	defer o.unlock()
	if len(o.events)+len(o.after)+len(o.later) >= maxEvents {
		return false
	}
	switch {
	case o.held:
		o.later = append(o.later, m)
	case o.state != nil:
		o.after = append(o.after, m)
	default:
		o.events = append(o.events, m)
	}
	return true
}

// hold keeps events back that come from now on, until the snapshot that is about
// to be made, which may not know of them, or until release.
func (o *outbox) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = true
}

// release gives up waiting for a snapshot.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.unlock()
	if o.state != nil {
		o.after = append(o.after, o.later...)
	} else {
		o.events = append(o.events, o.later...)
	}
	o.held, o.later = false, nil
}

func (o *outbox) channel(id string, body []byte) {
	o.mu.Lock()
	defer o.unlock()
	o.channels[id] = body
}

func (o *outbox) values(id string, values map[string]json.RawMessage) {
	o.mu.Lock()
	defer o.unlock()
	pending := o.changes[id]
	if pending == nil {
		pending = make(map[string]json.RawMessage, len(values))
		o.changes[id] = pending
	}
	for name, v := range values {
		pending[name] = v
	}
}

// snapshot replaces all values and channels that were to be sent.
func (o *outbox) snapshot(body []byte) {
	o.mu.Lock()
	defer o.unlock()
	o.events = append(o.events, o.after...) // older than this snapshot
	o.after, o.later, o.held = o.later, nil, false
	o.state, o.failure = body, nil
	clear(o.channels)
	clear(o.changes)
}

func (o *outbox) fail(body []byte) {
	o.mu.Lock()
	defer o.unlock()
	o.failure = body
}

// take empties the outbox. A snapshot comes before all else at first, for a
// client has nothing that events could belong to; later it comes after the
// events that are older than it.
func (o *outbox) take() []message {
	o.mu.Lock()
	state, failure := o.state, o.failure
	o.state, o.failure = nil, nil
	var messages []message
	if state != nil && !o.started {
		messages, state = append(messages, message{"snapshot", state}), nil
		o.started = true
	}
	var channels map[string][]byte
	var changes map[string]map[string]json.RawMessage
	if o.started {
		messages = append(messages, o.events...)
		if state != nil {
			messages = append(messages, message{"snapshot", state})
		}
		messages = append(messages, o.after...)
		channels, changes = o.channels, o.changes
		o.after = nil
		o.events, o.channels, o.changes = nil, map[string][]byte{}, map[string]map[string]json.RawMessage{}
	}
	o.mu.Unlock()

	for _, body := range channels {
		messages = append(messages, message{"channel", body})
	}
	for id, values := range changes {
		body, err := json.Marshal(struct {
			Model  string                     `json:"model"`
			Values map[string]json.RawMessage `json:"values"`
		}{id, values})
		if err != nil {
			body, failure = nil, errorBody("values of a model cannot be written as JSON")
		}
		if body != nil {
			messages = append(messages, message{"values", body})
		}
	}
	if failure != nil {
		messages = append(messages, message{"error", failure})
	}
	return messages
}
