package model

import "time"

// AuditEntry says who asked for what, and what came of it: a command over the API,
// a change of the configuration over the API or by the program, or an attempt that
// was denied. The commands of rules, servers and programs stand in the command
// journal, with their origin and user.
type AuditEntry struct {
	// Position is the entry's place in the journal; empty before it is stored.
	Position string `json:"position"`
	// Time is when the answer was given, by the clock of the engine's host.
	Time time.Time `json:"time"`
	// Who is the name of the credential, or of the engine whose program made the
	// change. Empty where none was needed or none was accepted.
	Who string `json:"who"`
	// Role is that of the credential; empty where none was accepted.
	Role Role `json:"role"`
	// From is the address that asked, that of a trusted proxy's client included; "go"
	// for the program itself.
	From string `json:"from"`
	// Action is the operation, as openapi.json names it; for the program "register",
	// "remove", "enabled true" or "enabled false".
	Action string `json:"action"`
	// Target is what it was done to, such as "pcs1:power_setpoint"; may be empty.
	Target string `json:"target"`
	// Detail is what was asked for, or why it was denied.
	Detail string `json:"detail"`
	// Result is "ok", the state of a command, "denied", or the reason of a failure.
	Result string `json:"result"`
	// Status is the HTTP status of the answer; 0 for the program.
	Status int `json:"status"`
}
