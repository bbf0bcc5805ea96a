package api

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/voltageems/voltage/model"
)

const (
	// maxSubscribed is how many models a client may name, maxPoints how many points.
	maxSubscribed = 1000
	maxPoints     = 5000
	// maxMessageID is the longest id of a client's message, as JSON.
	maxMessageID = 66
)

// subscription is what a client wants to be told. It is replaced, never changed.
type subscription struct {
	all                        bool                           // every model
	models                     map[string]map[string]struct{} // else these, of which nil means all points
	alarms, commands, channels bool
}

// everything is what a client gets that says nothing.
var everything = &subscription{all: true, alarms: true, commands: true, channels: true}

func (s *subscription) whole() bool { return s.all && s.alarms && s.commands && s.channels }

// follows reports whether the client wants the values of a model; of these names
// only, where there are any.
func (s *subscription) follows(id string) (names map[string]struct{}, ok bool) {
	if s.all {
		return nil, true
	}
	names, ok = s.models[id]
	return names, ok
}

// tells reports whether the client wants events of a kind.
func (s *subscription) tells(kind string) bool {
	return kind == "alarm" && s.alarms || kind == "command" && s.commands
}

// only returns the values with these names; nil means all.
func only(values map[string]json.RawMessage, names map[string]struct{}) map[string]json.RawMessage {
	if names == nil {
		return values
	}
	some := make(map[string]json.RawMessage, len(names))
	for name := range names {
		if v, ok := values[name]; ok {
			some[name] = v
		}
	}
	return some
}

// parseMessage reads a client's message. The id, which the answer bears, is known also
// where the rest is wrong, as far as it could be read.
func parseMessage(body []byte) (id json.RawMessage, sub *subscription, err error) {
	var subscribe json.RawMessage
	if err := decodeObject(body, map[string]any{"id": &id, "subscribe": &subscribe}); err != nil {
		return nil, nil, err
	}
	if !validMessageID(id) {
		return nil, nil, problemf(http.StatusBadRequest, `field "id": want a number, or a text of up to 64 bytes`)
	}
	if subscribe == nil {
		return id, nil, problemf(http.StatusBadRequest, `field "subscribe" is missing`)
	}
	sub, err = parseSubscription(subscribe)
	return id, sub, err
}

func validMessageID(id json.RawMessage) bool {
	if len(id) == 0 || bytes.Equal(id, []byte("null")) {
		return true
	}
	c := id[0]
	return len(id) <= maxMessageID && (c == '"' || c == '-' || c >= '0' && c <= '9')
}

func parseSubscription(body []byte) (*subscription, error) {
	s := map[string]map[string]struct{}{}
	sub := &subscription{models: s, alarms: true, commands: true, channels: true}
	var models, points []string
	err := decodeObject(body, map[string]any{"models": &models, "points": &points, "alarms": &sub.alarms, "commands": &sub.commands, "channels": &sub.channels})
	if err != nil {
		return nil, err
	}
	if len(models) > maxSubscribed {
		return nil, problemf(http.StatusBadRequest, "%d models: at most %d", len(models), maxSubscribed)
	}
	if len(points) > maxPoints {
		return nil, problemf(http.StatusBadRequest, "%d points: at most %d", len(points), maxPoints)
	}
	sub.all = models == nil && points == nil
	for _, text := range points {
		ref, err := model.ParseRef(text)
		if err != nil {
			return nil, err
		}
		if s[ref.Owner] == nil {
			s[ref.Owner] = map[string]struct{}{}
		}
		s[ref.Owner][ref.Name] = struct{}{}
	}
	for _, id := range models {
		if err := model.CheckID("model", id); err != nil {
			return nil, err
		}
		s[id] = nil // all of its points
	}
	return sub, nil
}
