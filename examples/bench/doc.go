// Command bench measures the data path on a real Redis: how many points a second
// it takes, what they cost Redis and the program, how much memory they need, and
// how long a sample takes to an alarm and a command to its confirmation. It also
// changes the script that stores values again and again under load, and checks
// that no value is lost or repeated.
//
//	go run ./examples/bench                       starts redis-server or valkey-server from PATH
//	go run ./examples/bench -redis redis://127.0.0.1:6379
//	go run ./examples/bench -only update
//	go run ./examples/bench -only ws
//	go run ./examples/bench -only alarms
//	go run ./examples/bench -json > result.json
//
// All ways are measured in one run, in turns (A B C A B C …), so that a machine
// that is busy for a moment is busy for all of them. docs/benchmarks.md says what
// each figure means. On a Redis of yours, bench writes under site names of its
// own and removes them at the end.
package main
