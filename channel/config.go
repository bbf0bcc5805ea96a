package channel

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// Defaults of a Config.
const (
	DefaultScan    = time.Second
	DefaultTimeout = time.Second
	DefaultRefresh = time.Minute
	// MinScan keeps a mistyped scan time from overrunning a device.
	MinScan = time.Millisecond
	// ScanOnce and ScanDemand are the scan classes that every channel has: read
	// once after each connect, and read only when asked for. See Demander.
	ScanOnce   = "once"
	ScanDemand = "demand"
	// ScanDefault is what the class of the points that name none is called where
	// it needs a name. No class may have it.
	ScanDefault = "default"
	// MaxPoints bounds one channel. Hashes in Redis are to stay under 1,000
	// fields of one kind; above that the engine warns.
	MaxPoints = 10000
)

// Config describes a channel.
type Config struct {
	// ID names the channel, often a number such as "1001". Required.
	ID string
	// Name is for people and defaults to ID.
	Name string
	// Driver talks to the device. A nil Driver makes a channel whose samples
	// come by Engine.Push.
	Driver Factory
	// Scan is the time from one polling round to the next. Zero means 1 s.
	Scan time.Duration
	// Scans are further scan classes by name, such as "fast" and "slow", each with
	// the time from one round to the next. Points name theirs in Point.Scan.
	Scans map[string]time.Duration
	// Timeout bounds one request to the device. Zero means 1 s.
	Timeout time.Duration
	// Stale is how long the channel may be silent before its points turn
	// stale. Zero means 3 scans of the fastest scan class that a point has, but at
	// least 100 ms; negative means never, which suits devices that speak only on
	// change, and is the default for channels without a driver and for those
	// whose points are all read once or on demand.
	Stale time.Duration
	// Refresh is how often every value is written again although it did not
	// change. Zero means 1 minute.
	Refresh time.Duration
	// Heartbeat feeds the device's own watchdog. Nil means that it has none.
	Heartbeat *Heartbeat
	// Points are the channel's points.
	Points []model.Point
	// Disabled channels are known but not run.
	Disabled bool
}

// Heartbeat writes a value that changes to a point, for as long as the engine is
// healthy: it owns the channel, the store answers, the device is connected and
// samples come. A device that has a watchdog trips by itself when the value stops
// to change; no command journal has the beats, the channel's status counts them.
// A command to the channel holds them up for as long as it is written and read
// back (model.Point.ReadBackTime): the device's time must be longer than that.
type Heartbeat struct {
	// Point is the id of a control or adjustment of the channel. Commands should
	// not go to it.
	Point string `yaml:"point"`
	// Every is the time from one beat to the next, at most a third of the time
	// after which the device trips. From 10 ms to 1 h. Required.
	Every time.Duration `yaml:"every"`
	// Max is where the counter, which begins at 0, starts again, in the point's
	// unit. Zero means that the value toggles between 0 and 1.
	Max int `yaml:"max"`
}

func (h Heartbeat) validate(points []model.Point) error {
	if h.Every < 10*time.Millisecond || h.Every > time.Hour {
		return fmt.Errorf("%w: heartbeat every %s: want 10ms to 1h", model.ErrInvalid, h.Every)
	}
	if h.Max < 0 || h.Max > 1<<31-1 {
		return fmt.Errorf("%w: heartbeat max %d: want 0 to %d", model.ErrInvalid, h.Max, 1<<31-1)
	}
	i := slices.IndexFunc(points, func(p model.Point) bool { return p.ID == h.Point })
	switch {
	case i < 0:
		return fmt.Errorf("%w: heartbeat point %.80q: the channel has no such point", model.ErrInvalid, h.Point)
	case !points[i].Kind.Writable():
		return fmt.Errorf("%w: heartbeat point %s: a %s is not written: want a control or adjustment", model.ErrInvalid, h.Point, points[i].Kind)
	case points[i].ReadBack || points[i].Select:
		return fmt.Errorf("%w: heartbeat point %s: want one without read_back and select: a beat is a single write", model.ErrInvalid, h.Point)
	}
	return nil
}

// Title returns Name, or ID where there is no name.
func (c Config) Title() string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// WithDefaults returns the configuration with zero values filled in.
func (c Config) WithDefaults() Config {
	if c.Scan == 0 {
		c.Scan = DefaultScan
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Refresh == 0 {
		c.Refresh = DefaultRefresh
	}
	if c.Stale == 0 {
		c.Stale = -1
		if fastest := c.fastest(); c.Driver != nil && fastest > 0 {
			c.Stale = max(3*fastest, 100*time.Millisecond)
		}
	}
	return c
}

// fastest returns the shortest time between two rounds of a class that points
// have; 0 when none is read again and again.
func (c Config) fastest() time.Duration {
	if len(c.Points) == 0 {
		return c.Scan
	}
	shortest := time.Duration(0)
	for _, p := range c.Points {
		if d := period(c.Scan, c.Scans, p.Scan); d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	return shortest
}

// period returns the time between two rounds of a scan class; 0 for those that
// have none.
func period(scan time.Duration, scans map[string]time.Duration, class string) time.Duration {
	if class == "" {
		return scan
	}
	return scans[class]
}

// Validate returns a model.ErrInvalid that names the channel and what is wrong
// with it. It does not ask the driver; its Factory does that.
func (c Config) Validate() error {
	if err := model.CheckID("channel", c.ID); err != nil {
		return err
	}
	for _, d := range []struct {
		field string
		value time.Duration
		min   time.Duration
	}{{"scan", c.Scan, MinScan}, {"timeout", c.Timeout, time.Millisecond}, {"refresh", c.Refresh, time.Second}} {
		if d.value != 0 && d.value < d.min {
			return fmt.Errorf("%w: channel %s: %s %s: want at least %s", model.ErrInvalid, c.ID, d.field, d.value, d.min)
		}
	}
	for _, class := range slices.Sorted(maps.Keys(c.Scans)) {
		switch d := c.Scans[class]; {
		case !model.ValidID(class):
			return fmt.Errorf("%w: channel %s: scans %.80q: use 1 to %d of A-Z a-z 0-9 _ . -", model.ErrInvalid, c.ID, class, model.MaxIDLength)
		case class == ScanOnce || class == ScanDemand:
			return fmt.Errorf("%w: channel %s: scans %s: every channel has this scan class, and it has no time", model.ErrInvalid, c.ID, class)
		case class == ScanDefault:
			return fmt.Errorf("%w: channel %s: scans %s: this is the scan class of the points that name none: its time is the channel's scan", model.ErrInvalid, c.ID, class)
		case d < MinScan:
			return fmt.Errorf("%w: channel %s: scans %s %s: want at least %s", model.ErrInvalid, c.ID, class, d, MinScan)
		}
	}
	if len(c.Points) > MaxPoints {
		return fmt.Errorf("%w: channel %s: %d points: at most %d", model.ErrInvalid, c.ID, len(c.Points), MaxPoints)
	}
	seen := make(map[string]bool, len(c.Points))
	for _, p := range c.Points {
		if err := p.Validate(); err != nil {
			return fmt.Errorf("channel %s: %w", c.ID, err)
		}
		if seen[p.ID] {
			return fmt.Errorf("%w: channel %s: point %s is there twice", model.ErrInvalid, c.ID, p.ID)
		}
		seen[p.ID] = true
		if _, known := c.Scans[p.Scan]; p.Scan != "" && p.Scan != ScanOnce && p.Scan != ScanDemand && !known {
			return fmt.Errorf("%w: channel %s: point %s: scan %.80q: want one of the channel's scan classes, %s, %s, or nothing",
				model.ErrInvalid, c.ID, p.ID, p.Scan, ScanOnce, ScanDemand)
		}
	}
	if c.Heartbeat != nil {
		if err := c.Heartbeat.validate(c.Points); err != nil {
			return fmt.Errorf("channel %s: %w", c.ID, err)
		}
	}
	return nil
}

// NewDriver makes the channel's driver, nil for a channel without one. It does
// no I/O. Errors name the channel; a Factory that panics is an error too.
func (c Config) NewDriver(log *slog.Logger, clock model.Clock) (d Driver, err error) {
	if c.Driver == nil {
		return nil, nil
	}
	defer func() {
		if p := recover(); p != nil {
			d, err = nil, fmt.Errorf("%w: channel %s: the driver panicked: %v", model.ErrInvalid, c.ID, p)
		}
	}()
	c = c.WithDefaults()
	points := slices.Clone(c.Points) // the driver may keep them
	for i := range points {
		points[i].Labels = maps.Clone(points[i].Labels)
	}
	d, err = c.Driver(Setup{ID: c.ID, Points: points, Scan: c.Scan, Scans: maps.Clone(c.Scans), Timeout: c.Timeout, Log: log.With("channel", c.ID), Clock: clock})
	if err != nil {
		return nil, fmt.Errorf("channel %s: %w", c.ID, err)
	}
	if d == nil {
		return nil, fmt.Errorf("%w: channel %s: the factory made no driver", model.ErrInvalid, c.ID)
	}
	for _, p := range c.Points {
		if _, ok := d.(Selector); p.Select && !ok { // never operate directly what is to be selected first
			return nil, fmt.Errorf("%w: channel %s: point %s: select: the driver cannot select a point before it operates it", model.ErrInvalid, c.ID, p.ID)
		}
	}
	return d, nil
}
