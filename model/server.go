package model

import "time"

// ServerStatus says how a server towards other systems is doing.
type ServerStatus struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Serving is true while the server runs; false while it is disabled, ended,
	// or waits to be run again after a failure.
	Serving bool `json:"serving"`
	// Since is when Serving began to be what it is; zero when it never ran.
	Since time.Time `json:"since,omitzero"`
	// Failures counts the ends that nobody asked for, since the engine started.
	Failures int64 `json:"failures"`
	// LastError is the last of them, and LastErrorAt its time.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Problems are what the server reports of its settings.
	Problems []string `json:"problems,omitempty"`
}
