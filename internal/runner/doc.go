// Package runner runs one channel: it owns it, connects its driver, reads
// samples, sends what changed, marks what is not known any more, executes
// commands and stops cleanly.
//
// A Runner lives in sessions, one for each lease of the channel. Within a
// session several goroutines share the work: the reader (connect, read,
// reconnect), the watch over silence, the sender, the command lane, and the
// keeper and the guard of the lease. Samples pass from the reader, the watch
// and Push to the sender through one ordered queue, which is also the change
// filter. The session ends with the lease: when the store says that the channel
// has another owner, when the lease is about to run out by the runner's own
// clock, or when Run is told to end.
//
// Two kinds of time are used. Everything that belongs to the channel (lease,
// scans, silence, backoff, deadlines of commands) goes by Config.Clock. What
// only keeps foreign code and the network from holding up an end goes by the
// machine's clock.
package runner
