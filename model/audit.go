package model

import "time"

// AuditEntry says who asked for what over the API, and what came of it: a
// command, a change of the configuration, or an attempt that was denied.
type AuditEntry struct {
	// Position is the entry's place in the journal; empty before it is stored.
	Position string `json:"position"`
	// Time is when the answer was given, by the clock of the engine's host.
	Time time.Time `json:"time"`
	// Who is the name of the credential. Empty where none was needed or none was
	// accepted.
	Who string `json:"who"`
	// Role is that of the credential; empty where none was accepted.
	Role Role `json:"role"`
	// From is the address that asked, that of a trusted proxy's client included.
	From string `json:"from"`
	// Action is the operation, as openapi.json names it.
	Action string `json:"action"`
	// Target is what it was done to, such as "pcs1:power_setpoint"; may be empty.
	Target string `json:"target"`
	// Detail is what was asked for, or why it was denied.
	Detail string `json:"detail"`
	// Result is "ok", the state of a command, "denied", or the reason of a failure.
	Result string `json:"result"`
	// Status is the HTTP status of the answer.
	Status int `json:"status"`
}
