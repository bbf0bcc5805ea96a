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
// A client gets a snapshot of all models, open alarms and channels, and then
// what changes: "values" (at most every 200 ms, only what changed, the latest
// value wins when the client is slow), "alarm" and "command" (every transition,
// none left out: a client that falls too far behind is disconnected), "channel",
// and a "heartbeat". When messages may have been lost on the way from the store,
// a new snapshot follows. An event that comes near a snapshot may be contained in
// it already. The client may send
//
//	{"subscribe":{"models":["pcs1","bms1"]}}
//
// to receive the values of these models only; "models":null means all again. It
// is answered with a snapshot.
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
