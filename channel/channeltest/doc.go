// Package channeltest is the conformance suite of channel.Driver: what the
// contract promises to the runner, as tests that every driver passes.
//
// A driver's test describes its device in a Harness and calls Run. For each
// check the suite starts a peer of its own (a simulated device on loopback),
// makes a driver with the peer's Factory, and looks at what comes back. What a
// peer cannot do (vanish, fall silent, refuse a write) is left nil, and the
// checks that need it are skipped and say so.
//
// Goroutines that a driver starts are followed by a pprof label, which every
// goroutine hands on to those that it starts, so that a leak is found exactly
// and checks run in parallel. Run the tests with -race: many of the checks are
// there to give the race detector something to see.
//
// The package also has Clock, a model.Clock that a test turns by hand. It
// serves any test of code that takes a model.Clock.
package channeltest
