// Package embedded runs miniredis inside the process as a store that can be
// relied on for as long as the process lives.
//
// Out of the box miniredis is a server for unit tests. Two things have to be
// added before an engine can run on it for months:
//
//   - Its expiry clock stands still. [Server] moves it by the time that really
//     passed, whenever a client sends something, so that an idle store costs
//     nothing. See [Server.Dial].
//   - PUBLISH hands a message to each subscriber while holding the lock of the
//     whole store, and a subscriber's connection is written to synchronously. A
//     subscriber that stops reading would therefore freeze every other client.
//     Connections of this package never make the server wait: what a reader has
//     not taken yet is kept in memory, and a reader that takes nothing while a
//     lot is waiting loses its connection (as it would on a Redis server through
//     client-output-buffer-limit). See [ErrSlowReader].
//
// Nothing listens: there is no port, no socket and no password to protect.
package embedded
