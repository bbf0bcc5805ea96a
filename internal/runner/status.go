package runner

import (
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// maxErrorText bounds the text of the last error, in bytes.
const maxErrorText = 300

// status is the channel's status and who is told of its changes.
type status struct {
	clock   model.Clock
	log     *slog.Logger
	notify  func(model.ChannelStatus)
	changed chan struct{} // the state changed, and the store is to know

	order sync.Mutex // held while notify runs, so that it is called in order
	mu    sync.Mutex
	now   model.ChannelStatus
	once  bool   // a connection was made before
	scans *scans // nil for a channel whose points name no scan class
}

func newStatus(ch channel.Config, clock model.Clock, log *slog.Logger, notify func(model.ChannelStatus)) *status {
	return &status{
		clock: clock, log: log, notify: notify, changed: make(chan struct{}, 1),
		scans: newScans(ch),
		now:   model.ChannelStatus{ID: ch.ID, Name: ch.Title(), State: model.ChannelStopped, Since: clock.Now()},
	}
}

func (s *status) get() model.ChannelStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copyLocked()
}

func (s *status) copyLocked() model.ChannelStatus {
	now := s.now
	now.LastScans = s.scans.times()
	return now
}

// set changes the state, and who owns the channel.
func (s *status) set(state model.ChannelState, owner string) {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	same := s.now.State == state && s.now.Owner == owner
	s.now.Owner = owner
	s.mu.Unlock()
	if !same {
		s.enter(state)
	}
}

// move changes the state where it is one of those given, while the channel is
// owned.
func (s *status) move(to model.ChannelState, from ...model.ChannelState) {
	applies := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.now.Owner != "" && slices.Contains(from, s.now.State)
	}
	if !applies() { // the usual case
		return
	}
	s.order.Lock()
	defer s.order.Unlock()
	if applies() {
		s.enter(to)
	}
}

// enter stores a new state and tells it. The caller holds order.
func (s *status) enter(state model.ChannelState) {
	s.mu.Lock()
	if s.now.State != state {
		s.now.State, s.now.Since = state, s.clock.Now()
	}
	now := s.copyLocked()
	s.mu.Unlock()
	s.log.Info("channel "+string(state), "last_error", now.LastError)
	signal(s.changed)
	if s.notify == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("the listener for channel states panicked", "panic", p)
		}
	}()
	s.notify(now)
}

// online notes that the device answers.
func (s *status) online() {
	s.move(model.ChannelOnline, model.ChannelConnecting, model.ChannelOffline)
}

// offline notes that it does not.
func (s *status) offline() {
	s.move(model.ChannelOffline, model.ChannelConnecting, model.ChannelOnline)
}

// connected counts a connection.
func (s *status) connected() {
	s.mu.Lock()
	if s.once {
		s.now.Reconnects++
	}
	s.once = true
	s.mu.Unlock()
	s.online()
}

// scanned counts an answer of the device, or a Push.
func (s *status) scanned(samples int) {
	now := s.clock.Now()
	s.mu.Lock()
	s.now.Reads++
	s.now.Samples += int64(samples)
	s.now.LastScan = now
	s.mu.Unlock()
	s.online()
}

// fail counts a failure.
func (s *status) fail(err error) {
	s.mu.Lock()
	s.now.Errors++
	s.mu.Unlock()
	s.note(err)
}

// note keeps an error as the last one.
func (s *status) note(err error) {
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	now := s.clock.Now()
	s.mu.Lock()
	s.now.LastError, s.now.LastErrorAt = text, now
	s.mu.Unlock()
}

// lose notes why the channel is not owned any more. Whether it is again in a
// moment, or another's, or nobody's, acquiring it will show.
func (s *status) lose(err error) {
	s.note(err)
	s.set(model.ChannelConnecting, "")
}

func (s *status) stored(n int) {
	s.mu.Lock()
	s.now.Stored += int64(n)
	s.mu.Unlock()
}

func (s *status) lost(n int) {
	s.mu.Lock()
	s.now.Lost += int64(n)
	s.mu.Unlock()
}

func (s *status) command() {
	s.mu.Lock()
	s.now.Commands++
	s.mu.Unlock()
}

func (s *status) beat() {
	s.mu.Lock()
	s.now.Beats++
	s.mu.Unlock()
}

// fields returns the status as it is stored.
func (s *status) fields() []scripts.Field { return scripts.StatusFields(s.get()) }
