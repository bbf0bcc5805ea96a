package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/voltageems/voltage/model"
)

// ErrNotConnected tells the runner that the connection is gone: it closes the
// driver, waits (longer after each failure, with jitter) and connects again.
// No other error makes it reconnect. Drivers wrap it with the cause.
var ErrNotConnected = errors.New("not connected")

// Driver talks to one device. The runner calls Connect, then Read again and
// again, then Close, and the same in turn after ErrNotConnected; never two of
// them at a time.
type Driver interface {
	// Connect makes the connection, or finds out that it cannot. It gives up
	// when ctx ends. A failed Connect leaves nothing behind; Close may follow.
	Connect(ctx context.Context) error

	// Read blocks until there are samples, polled or spontaneous, and returns
	// them; the slice is the runner's until the next Read. A driver that polls
	// paces itself by Setup.Scan and Setup.Clock. A point that cannot be read
	// while others can is a sample of bad quality, not an error. An error that
	// wraps ErrNotConnected means that the connection is gone; any other is
	// reported, and Read is called again. After ctx ends it returns promptly.
	Read(ctx context.Context) ([]model.Sample, error)

	// Close ends the connection and everything that Connect started. It may be
	// called at any time, also twice, also while a Write is under way, which
	// it ends.
	Close(ctx context.Context) error
}

// Writer is implemented by drivers whose device can be operated.
type Writer interface {
	// Write writes one value and reports how far it came. It is called
	// beside Read, from another goroutine, one call at a time; the driver
	// serves it between two requests of Read, ahead of what Read still has to
	// do. It never repeats a request by which the device may have acted.
	Write(ctx context.Context, w Write) (Outcome, error)
}

// Selector is implemented by Writers whose devices can have a point reserved
// before it is operated (select-before-operate).
type Selector interface {
	// Select has the device reserve the point of w, whose definition asks for
	// that, for the Write of the same value that follows at once. No device acts by
	// it. Done means that it is selected, and only then Write is called; Refused,
	// NotSent and Sent mean what they mean for Write. It is called as Write is, and
	// never beside it. A selection that no Write follows runs out in the device.
	Select(ctx context.Context, w Write) (Outcome, error)
}

// Demander is implemented by drivers that can read points when they are asked
// to, whatever their scan class.
type Demander interface {
	// Demand has the points of the given ids read as soon as possible: a Read
	// that waits for its time returns with them. It does not wait itself and
	// may be called from any goroutine. Ids that the channel does not have are
	// an error that wraps model.ErrInvalid, and nothing is read then. What is
	// not read when the connection ends is forgotten.
	Demand(points ...string) error
}

// Planner is implemented by polling drivers that can say what they ask the
// device for.
type Planner interface {
	// Plan describes, for people, the requests of each scan class with all points,
	// as they are before anything was learned of the device. It does no I/O.
	Plan() string
}

// Explainer is implemented by polling drivers that know why a point has no
// usable value.
type Explainer interface {
	// Explain returns why the last Read that asked for the point brought no value
	// of it; nil where it did, where nothing was read yet, and where the device's
	// value itself is the reason, which the sample's quality tells. It does no I/O
	// and is not called while Read is under way.
	Explain(point string) error
}

// Write is one value on its way to the device.
type Write struct {
	// Point is the point's definition, as the channel's configuration has it.
	Point model.Point
	// Value is in the point's unit, finite and within the point's limits.
	Value float64
}

// Result says how far a Write came. The zero value is NotSent.
type Result uint8

// The results, in rising order of what is known.
const (
	NotSent   Result = iota // no byte left: trying again later is safe
	Refused                 // the device answered that it will not, and did nothing
	Sent                    // sent, and not known whether the device acted
	Done                    // the device acknowledged it
	Confirmed               // and the value read back is the value written
)

// String returns the result's name.
func (r Result) String() string {
	switch r {
	case NotSent:
		return "not sent"
	case Refused:
		return "refused"
	case Sent:
		return "sent"
	case Done:
		return "done"
	case Confirmed:
		return "confirmed"
	}
	return fmt.Sprintf("result(%d)", uint8(r))
}

// Outcome is what a Write achieved. The error beside it tells why the result is
// NotSent, Refused or Sent, or why a read-back that was asked for is missing.
type Outcome struct {
	Result Result
	// ReadBack is the value that the device reported after the write, in the
	// point's unit; nil where it was not read.
	ReadBack *float64
}

// Setup is what a Factory gets: the channel's configuration and its
// surroundings. Every field is filled in.
type Setup struct {
	// ID is the channel's id.
	ID string
	// Points are valid and unique, in the order of the configuration.
	Points []model.Point
	// Scan is the time from one polling round to the next.
	Scan time.Duration
	// Scans are the further scan classes; see Period. Nil is allowed.
	Scans map[string]time.Duration
	// Timeout bounds one request to the device.
	Timeout time.Duration
	// Log has the channel's id with every record already.
	Log *slog.Logger
	// Clock is what the driver takes the time from, and waits by.
	Clock model.Clock
}

// Period returns the time from one round to the next in which the point is
// read, or 0 when it is read once (ScanOnce) or on demand (ScanDemand).
func (s Setup) Period(p model.Point) time.Duration { return period(s.Scan, s.Scans, p.Scan) }

// Factory makes the driver of one channel. It checks the points' addresses and
// the driver's own settings, all of them, and does no I/O, save that it may read
// files that the settings name, such as certificates, to check them. Errors name
// the point and what is wrong with it.
type Factory func(Setup) (Driver, error)

// Path is the name of a file or folder in the settings of a Kind. A configuration
// file may have it relative to its own folder; decode makes it complete.
type Path string

// Kind makes a driver, or a server, known to configuration files, where channels
// say "driver: NAME" and servers "server: NAME", and keep the settings in a
// section of that name. A package offers its kinds as values or functions;
// channel/all gathers those of Voltage.
type Kind struct {
	// Name is how a file names the driver, such as "modbus-tcp". A driver and a
	// server may have the same name.
	Name string
	// Open makes the Factory of a driver. It decodes the settings section into a
	// struct of the driver's own, with yaml tags, by calling decode once, and
	// returns the Factory. decode refuses unknown fields and names the line. A nil
	// section decodes to nothing. A list of structs with the tag load:"table" may
	// also be given as the name of a CSV file, whose columns are the structs' fields.
	Open func(decode func(any) error) (Factory, error)
	// Serve is what Open is, for a server. A Kind has either Open or Serve. A
	// message that begins with the key of a table and "row N: " is reported where
	// that row stands, the first being 1.
	Serve func(decode func(any) error) (ServerFactory, error)
	// Profile is Open for the settings in a device profile, which do not say where
	// the device is: its Factory checks points, and its drivers advise and plan and
	// are never connected. Nil means that profiles are not checked with this kind.
	Profile func(decode func(any) error) (Factory, error)
}
