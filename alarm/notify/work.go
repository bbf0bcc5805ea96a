package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// work is a message on its way to one target, as it is stored.
type work struct {
	Target   string   `json:"target"`
	Language Language `json:"language,omitempty"`
	// Created and Due are Unix ms.
	Created  int64  `json:"created"`
	Due      int64  `json:"due"`
	Attempts int    `json:"attempts,omitempty"`
	Error    string `json:"error,omitempty"`
	// Escalation is after what time an alarm that is not acknowledged goes to the
	// target; empty for messages that go at once.
	Escalation string          `json:"escalation,omitempty"`
	Message    json.RawMessage `json:"message"`
}

func (w work) text() string {
	b, err := json.Marshal(w)
	if err != nil { // the message was valid JSON when it came
		panic(err)
	}
	return string(b)
}

// parseWork reads stored work and its message.
func parseWork(text string) (work, Message, error) {
	var w work
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return w, Message{}, err
	}
	m, err := parseMessage(string(w.Message))
	return w, m, err
}

// item is what a target remembers of work; the rest is read when it is sent.
type item struct {
	id         string
	seq        int64 // the order in which it came
	created    time.Time
	due        time.Time
	rank       int
	alarm      string
	escalation bool
	busy       bool // being sent: nobody else touches it
}

// newItem remembers work. Its times go with those of now from here on, evenly, so
// that nothing waits or is given up because somebody sets the machine's clock. Of
// what was stored before that, nothing waits longer than it could have to.
func newItem(id string, w work, m Message, now time.Time) *item {
	at := func(ms int64) time.Time { return now.Add(time.UnixMilli(ms).Sub(now)) }
	most := mostRetryAfter
	if after, err := time.ParseDuration(w.Escalation); err == nil {
		most = max(most, after)
	}
	due := at(w.Due)
	if due.Sub(now) > most {
		due = now.Add(most)
	}
	return &item{id: id, created: at(w.Created), due: due, rank: rank(m.Severity), alarm: m.Alarm, escalation: w.Escalation != ""}
}

// workID tells the work of a message for a target from all other; it is the same
// when the message is distributed again.
func workID(m Message, target string) string { return m.ID + "|" + target }

// escalationID is the same for every message of an alarm: the step waits once.
func escalationID(m Message, target string, after time.Duration) string {
	return fmt.Sprintf("escalation|%s|%s|%s", m.Alarm, target, after)
}

// deadLetter makes one.
func deadLetter(now time.Time, target, reason string, attempts int, language Language, raw json.RawMessage) model.DeadNotification {
	sum := sha256.Sum256([]byte(target + "\x00" + string(raw)))
	return model.DeadNotification{ID: fmt.Sprintf("%d-%s", now.UnixMilli(), hex.EncodeToString(sum[:6])), Time: now, Target: target,
		Reason: cut(reason, 500), Attempts: attempts, Message: raw, Language: string(language)}
}

// cut bounds a text of others.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + " …"
}

// change is what is settled together.
type change = scripts.NotificationChange
