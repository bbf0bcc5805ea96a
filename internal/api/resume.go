package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/voltageems/voltage/model"
)

const (
	// maxReplay is how many transitions a journal gives a client that comes back;
	// whoever missed more begins anew.
	maxReplay = 500
	// maxResumes is how many clients read journals at once: after a restart all of
	// them come back together.
	maxResumes = 4
)

// emptyJournal is the end of a journal in which nothing is yet.
const emptyJournal = "0"

// resume is where a client that was here before has stopped; empty for a journal
// that it does not follow up.
type resume struct{ alarms, commands string }

func (s resume) asked() bool { return s != resume{} }

func parseResume(query url.Values) (resume, error) {
	s := resume{query.Get("after_alarms"), query.Get("after_commands")}
	for name, position := range map[string]string{"after_alarms": s.alarms, "after_commands": s.commands} {
		if position != "" && !validPosition(position) {
			return s, problemf(http.StatusBadRequest, "%s=%.50q: want the position of an event", name, position)
		}
	}
	return s, nil
}

// replay reads what a client missed. What cannot be read is a gap that the client is
// told of, as is a journal that does not reach back so far.
func (b *hub) replay(ctx context.Context, s resume) (messages []message, told []byte) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	select {
	case b.resumes <- struct{}{}:
		defer func() { <-b.resumes }()
	case <-ctx.Done():
	}
	state := map[string]string{}
	add := func(kind, after string, read func() ([]message, error)) {
		if after == "" {
			return
		}
		events, err := read()
		switch {
		case err != nil:
			b.log.Warn("what a WebSocket client missed cannot be read", "journal", kind, "error", err)
			state[kind+"s"] = "gap"
		case after != emptyJournal && (len(events) == 0 || events[0].position != after) || len(events) > maxReplay+1:
			state[kind+"s"] = "gap" // trimmed, another journal, or too much
		default:
			state[kind+"s"] = "complete"
			if after != emptyJournal {
				events = events[1:]
			}
			messages = append(messages, events...)
		}
	}
	add("alarm", s.alarms, func() ([]message, error) {
		events, err := b.site.AlarmJournal(ctx, previous(s.alarms), maxReplay+2)
		return encode("alarm", events, err, func(ev model.AlarmEvent) string { return ev.Position })
	})
	add("command", s.commands, func() ([]message, error) {
		events, err := b.site.CommandJournal(ctx, previous(s.commands), maxReplay+2)
		return encode("command", events, err, func(ev model.CommandEvent) string { return ev.Position })
	})
	told, _ = json.Marshal(state) // texts always encode
	return messages, told
}

// encode makes messages of a journal's entries.
func encode[T any](kind string, events []T, err error, position func(T) string) ([]message, error) {
	if err != nil {
		return nil, err
	}
	messages := make([]message, len(events))
	for i, ev := range events {
		body, err := json.Marshal(map[string]any{"event": ev})
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", kind, position(ev), err)
		}
		messages[i] = message{kind, body, position(ev)}
	}
	return messages, nil
}

// previous returns the position before, so that reading after it begins with the
// entry itself: that it is still there shows that nothing between is missing.
func previous(position string) string {
	ms, seq := splitPosition(position)
	switch {
	case seq > 0:
		seq--
	case ms > 0:
		ms, seq = ms-1, math.MaxUint64
	}
	return strconv.FormatUint(ms, 10) + "-" + strconv.FormatUint(seq, 10)
}

// newer reports whether a position comes after another.
func newer(a, b string) bool {
	am, as := splitPosition(a)
	bm, bs := splitPosition(b)
	return am > bm || am == bm && as > bs
}

// splitPosition reads a valid position; "" is before all others.
func splitPosition(position string) (ms, seq uint64) {
	first, second, _ := strings.Cut(position, "-")
	ms, _ = strconv.ParseUint(first, 10, 64)
	seq, _ = strconv.ParseUint(second, 10, 64)
	return ms, seq
}
