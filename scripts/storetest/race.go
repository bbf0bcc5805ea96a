//go:build race

package storetest

// Raced says that the race detector is at work.
const Raced = true
