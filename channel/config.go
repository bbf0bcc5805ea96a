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
	// Timeout bounds one request to the device. Zero means 1 s.
	Timeout time.Duration
	// Stale is how long the channel may be silent before its points turn
	// stale. Zero means 3 scans, but at least 100 ms; negative means never,
	// which suits devices that speak only on change, and is the default for
	// channels without a driver.
	Stale time.Duration
	// Refresh is how often every value is written again although it did not
	// change. Zero means 1 minute.
	Refresh time.Duration
	// Points are the channel's points.
	Points []model.Point
	// Disabled channels are known but not run.
	Disabled bool
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
		c.Stale = max(3*c.Scan, 100*time.Millisecond)
		if c.Driver == nil {
			c.Stale = -1
		}
	}
	return c
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
	d, err = c.Driver(Setup{ID: c.ID, Points: points, Scan: c.Scan, Timeout: c.Timeout, Log: log.With("channel", c.ID), Clock: clock})
	if err != nil {
		return nil, fmt.Errorf("channel %s: %w", c.ID, err)
	}
	if d == nil {
		return nil, fmt.Errorf("%w: channel %s: the factory made no driver", model.ErrInvalid, c.ID)
	}
	return d, nil
}
