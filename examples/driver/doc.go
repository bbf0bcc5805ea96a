// Command driver shows how to write a driver of one's own for Voltage.
//
// The device is a small climate sensor that speaks lines of text over TCP:
//
//	→ READ temperature      ← 23.5
//	→ READ noise            ← ERR no such value
//	→ WRITE target 21       ← OK
//	→ WRITE target 99       ← ERR out of range
//
// driver.go is the driver, all of it. driver_test.go runs the conformance suite
// on it, which is the quickest way to a driver that the engine can rely on.
// sensor.go is the device, simulated, so that the program runs by itself:
//
//	go run ./examples/driver
//
// prints what it reads for three seconds and writes a setpoint meanwhile. With
// -address HOST:PORT it talks to another device of this kind.
package main
