package api

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
)

// maxEvents is how many alarms and commands wait for a client that does not
// read. One that misses more is disconnected: when it comes back it gets a
// snapshot, which is better than a gap that it does not know of.
const maxEvents = 1000

var errSlow = errors.New("the client does not read fast enough")

// maxReplies is how many answers wait for a client that does not read.
const maxReplies = 100

// message is what a client receives: an object with the type, a number, and the
// members of body, which is a JSON object.
type message struct {
	kind string
	body []byte
	// position is the place of an alarm's or command's event in its journal.
	position string
}

// frame returns the message as text.
func (m message) frame(seq int64) []byte {
	b := make([]byte, 0, len(m.body)+len(m.kind)+40)
	b = append(append(b, `{"type":"`...), m.kind...)
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

// pending are the changes of a model that wait for a client: one that is shared with
// other clients, or several that were put together for this one.
type pending struct {
	shared *change
	own    map[string]json.RawMessage
}

// outbox holds what a client has not been sent yet. It never blocks who puts
// something in, and its size is bounded: of a value, a channel, an error and a
// snapshot only the latest is kept; alarms and commands are all kept, up to
// maxEvents.
type outbox struct {
	wake chan struct{} // has an element when there may be something to take

	mu       sync.Mutex
	over     bool // the client is too slow: nothing is kept any more
	started  bool // the first snapshot was taken
	resuming bool // nothing is taken before it is known what was missed
	replies  []message
	state    []byte
	events   []message // those before state
	after    []message // those after state
	held     bool      // a snapshot is being made
	later    []message // those that came since it is
	replayed []message // what was missed: right after the first snapshot
	channels map[string][]byte
	changes  map[string]*pending
	failure  []byte
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), channels: map[string][]byte{}, changes: map[string]*pending{}}
}

func (o *outbox) unlock() {
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// giveUp forgets everything: the client is sent away.
func (o *outbox) giveUp() {
	o.over = true
	o.replies, o.state, o.events, o.after, o.later, o.replayed, o.failure = nil, nil, nil, nil, nil, nil, nil
	o.channels, o.changes = nil, nil
}

// event returns false when the client is too far behind.
func (o *outbox) event(m message) bool {
	o.mu.Lock()
	defer o.unlock()
	switch {
	case o.over:
		return false
	case len(o.events)+len(o.after)+len(o.later) >= maxEvents:
		o.giveUp()
		return false
	case o.held:
		o.later = append(o.later, m)
	case o.state != nil:
		o.after = append(o.after, m)
	default:
		o.events = append(o.events, m)
	}
	return true
}

// reply returns false when the client asks without reading the answers.
func (o *outbox) reply(m message) bool {
	o.mu.Lock()
	defer o.unlock()
	if o.over || len(o.replies) >= maxReplies {
		o.giveUp()
		return false
	}
	o.replies = append(o.replies, m)
	return true
}

// resume lets the client have what it missed, and told, which says how much of it
// that is. Events that came meanwhile and stand there are left out.
func (o *outbox) resume(missed []message, told []byte) {
	o.mu.Lock()
	defer o.unlock()
	last := map[string]string{}
	for _, m := range missed {
		last[m.kind] = m.position
	}
	known := func(m message) bool { return last[m.kind] != "" && !newer(m.position, last[m.kind]) }
	o.events = slices.DeleteFunc(o.events, known)
	o.after = slices.DeleteFunc(o.after, known)
	o.later = slices.DeleteFunc(o.later, known)
	o.resuming = false
	if !o.over {
		o.replayed = append([]message{{kind: "resumed", body: told}}, missed...)
	}
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
	if !o.over {
		o.channels[id] = body
	}
}

// values takes what changed in a model; of these names only, where there are any.
func (o *outbox) values(ch *change, names map[string]struct{}) {
	values := ch.values
	if names != nil {
		if values = only(values, names); len(values) == 0 {
			return
		}
	}
	o.mu.Lock()
	defer o.unlock()
	if o.over {
		return
	}
	p := o.changes[ch.model]
	switch {
	case p == nil && names == nil:
		o.changes[ch.model] = &pending{shared: ch}
	case p == nil:
		o.changes[ch.model] = &pending{own: maps.Clone(values)}
	case p.own == nil:
		p.own, p.shared = maps.Clone(p.shared.values), nil
		fallthrough
	default:
		maps.Copy(p.own, values)
	}
}

// snapshot replaces all values and channels that were to be sent.
func (o *outbox) snapshot(body []byte) {
	o.mu.Lock()
	defer o.unlock()
	if o.over {
		return
	}
	o.events = append(o.events, o.after...) // older than this snapshot
	o.after, o.later, o.held = o.later, nil, false
	o.state, o.failure = body, nil
	clear(o.channels)
	clear(o.changes)
}

func (o *outbox) fail(body []byte) {
	o.mu.Lock()
	defer o.unlock()
	if !o.over {
		o.failure = body
	}
}

// take empties the outbox. A snapshot comes before all else at first, for a
// client has nothing that events could belong to; later it comes after the
// events that are older than it.
func (o *outbox) take() []message {
	o.mu.Lock()
	messages := o.replies
	state, failure := o.state, o.failure
	o.replies, o.failure = nil, nil
	var channels map[string][]byte
	var changes map[string]*pending
	if !o.resuming && !o.over {
		o.state = nil
		if state != nil && !o.started {
			messages, state = append(messages, message{kind: "snapshot", body: state}), nil
			o.started = true
		}
		if o.started {
			messages = append(append(messages, o.replayed...), o.events...)
			if state != nil {
				messages = append(messages, message{kind: "snapshot", body: state})
			}
			messages = append(messages, o.after...)
			channels, changes = o.channels, o.changes
			o.replayed, o.after = nil, nil
			o.events, o.channels, o.changes = nil, map[string][]byte{}, map[string]*pending{}
		}
	}
	o.mu.Unlock()

	for _, body := range channels {
		messages = append(messages, message{kind: "channel", body: body})
	}
	if body, err := valuesBody(changes); err != nil {
		failure = errorBody("values cannot be written as JSON")
	} else if body != nil {
		messages = append(messages, message{kind: "values", body: body})
	}
	if failure != nil {
		messages = append(messages, message{kind: "error", body: failure})
	}
	return messages
}

// valuesBody puts the changes of all models into one message: for many clients the
// number of messages costs more than their size.
func valuesBody(changes map[string]*pending) ([]byte, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	body := []byte(`{"values":{`)
	for id, p := range changes {
		ch := p.shared
		if ch == nil {
			var err error
			if ch, err = newChange(id, p.own); err != nil {
				return nil, err
			}
		}
		body = append(append(body, ch.text...), ',')
	}
	body[len(body)-1] = '}'
	return append(body, '}'), nil
}
