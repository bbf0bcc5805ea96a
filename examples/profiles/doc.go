// Package profiles holds device profiles to use and to start from: those of the
// simulated site, and of a few devices whose registers were compared in at least
// two public sources. docs/modbus.md shows how to write one.
//
//	go run ./examples/voltagectl profile lint examples/profiles/*.yaml
package profiles
