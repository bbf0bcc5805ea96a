// Package channel is the contract between Voltage and the drivers of devices.
//
// A driver is small: it connects, it reads samples, it closes, and where the
// device can be operated it writes. Everything else is the runner's: when to
// reconnect, what changed, batching, quality on failure, the command queue,
// ownership. Drivers know nothing of Redis.
//
// Drivers that poll honour the scan classes of Setup.Scans; Setup.Classes and
// Timetable do the reckoning for them.
//
// To write a driver, implement Driver (and Writer), hand out a Factory, and run
// channeltest.Run on it. The driver in examples/driver is a complete one to
// start from.
package channel
