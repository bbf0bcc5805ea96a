// Package api is the engine's HTTP side: the JSON routes, the WebSocket at /ws,
// the metrics and the live page at /.
//
// The handler does no work of its own on values, alarms or commands. It asks a
// [Site], which the engine is, and it is told by the engine what changed.
//
// # Routes
//
// All routes stand in one table (routes.go), from which the mux is built and
// against which the description at /openapi.json is tested. Errors are RFC 9457
// problem details throughout. Times are RFC 3339, except a value's "ts", which
// is in milliseconds since 1970 as in the store.
//
// # WebSocket
//
// The protocol is in docs/api.md and, as ServerMessage and ClientMessage, in
// openapi.json. A client gets a snapshot and then what changes. Of a value the latest
// wins when the client is slow; alarms and commands are all told, and a client that
// falls too far behind with them is sent away with a code that says so (outbox.go).
// What changed is encoded once for all who follow it. A client that comes back is
// given what it missed from the journals (resume.go).
//
// The hub reads what the engine says has changed, at most every Config.Interval and
// never more than half of the time.
//
// Nothing is read from the store for the WebSocket while nobody is connected.
//
// # Who may ask
//
// Package auth says who asks, the table of routes which role is needed. Whatever
// changes something, and every attempt that is denied, goes to the log and to the
// audit journal of the site. Beside that the handler refuses the browser of somebody
// who may, driven by a foreign web page (guard.go).
package api
