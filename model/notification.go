package model

import (
	"encoding/json"
	"time"
)

// DeadNotification is a notification that was given up. It is kept in
// notification:dead, where it can be looked at and sent again.
type DeadNotification struct {
	// ID tells it from the others of the list.
	ID string `json:"id"`
	// Time is when it was given up.
	Time time.Time `json:"time"`
	// Target is whom it did not reach; empty where nobody could make sense of it.
	Target string `json:"target,omitempty"`
	// Reason says why it was given up, Attempts how often it was tried.
	Reason   string `json:"reason"`
	Attempts int    `json:"attempts"`
	// Message is what stood in notification:queue: JSON, or any text as a JSON string.
	Message json.RawMessage `json:"message"`
	// Language is that in which it was to be sent; empty for the target's.
	Language string `json:"language,omitempty"`
}

// NotificationTarget says how one target of notifications is doing, as the engine
// sees it that was asked.
type NotificationTarget struct {
	ID string `json:"id"`
	// Pending is how many messages wait for it, escalations that are not due among them.
	Pending int `json:"pending"`
	// PendingBySeverity splits Pending; severities of which none wait are left out.
	PendingBySeverity map[Severity]int `json:"pending_by_severity,omitempty"`
	// Sent, Failed, Dead and Dropped count since the engine started: messages that
	// the target took, attempts that failed, messages given up, and messages that
	// were lost because too many waited.
	Sent    int64 `json:"sent"`
	Failed  int64 `json:"failed"`
	Dead    int64 `json:"dead"`
	Dropped int64 `json:"dropped"`
	// DeadLetters is how many given up for it are kept on the store, by any engine.
	DeadLetters int `json:"dead_letters"`
	// LastSuccess and LastErrorAt are zero where there was none; LastError is what
	// failed last.
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// RetryAt is when it is tried again; zero while nothing is wrong with it.
	RetryAt time.Time `json:"retry_at,omitzero"`
}

// Notifications is the state of a site's notifications.
type Notifications struct {
	// Queue is how many messages wait in notification:queue.
	Queue int64 `json:"queue"`
	// Dropped is how many were ever lost to the caps of the queue, of the targets
	// and of the dead letters, on the whole site.
	Dropped int64 `json:"dropped"`
	// DeadLetters is how many are kept.
	DeadLetters int64 `json:"dead_letters"`
	// Unrouted counts the messages since the engine started that no route wanted.
	Unrouted int64 `json:"unrouted"`
	// Targets are those of the engine that was asked, in the order of its configuration.
	Targets []NotificationTarget `json:"targets"`
}
