// Package virtual is a driver without a device, for tests, demonstrations and
// the days before the device is there.
//
// The Address of each point is a signal:
//
//	constant:VALUE                        always the same
//	sine:MEAN:AMPLITUDE:PERIOD[:PHASE]    PHASE in degrees
//	ramp:FROM:TO:PERIOD                   rises (or falls) and begins again
//	random_walk:START:STEP[:MIN:MAX]      up to ±STEP away each round
//	square:PERIOD[:DUTY]                  1 for DUTY percent of the period (50), then 0
//	toggle                                0 and 1 in turn, each round
//	csv:FILE:COLUMN[:loop]                replays a recording
//	text:TEXT                             for points with Text set
//	setpoint:INITIAL                      for controls and adjustments: holds what was written
//	follow:POINT[:RATE]                   goes after a setpoint, by at most RATE a second
//
// A PERIOD is a duration such as "90s" or a number of seconds, from 1 ms to ten
// years. Signals run on Setup.Clock from the first Connect, through every later
// connection. With the same seed, channel and clock they are the same again.
//
// A signal is the device's number, so a point's Scale and Offset apply to it.
// A setpoint is written and kept in the point's unit, and follow takes it from
// there.
//
// # Scan classes
//
// Each scan class is read by its own period, beginning with a round at once
// after Connect; those of points read once and on demand as everywhere. A point
// of a class with more than a second between its rounds is read again right
// after it was written.
//
// # Recordings
//
// A CSV file has a header line that names the columns. The first column is the
// time, in seconds or as RFC 3339, rising from row to row; the recording begins
// with its first row. Values hold until the next row, and an empty cell makes
// the point bad while it lasts. After the last row its values stay, or with
// "loop" the recording begins again after as long as the row before it took.
// A file may have 32 MiB. It is read at each Connect, relative to the working
// directory, and an error names file, line and column.
//
// # Faults
//
// A Device is the handle by which tests disturb the driver: take it offline,
// let it refuse or not answer, give its points a quality. It also tells what
// was written.
package virtual
