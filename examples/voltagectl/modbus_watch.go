package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

// change is one line of watch.
type change struct {
	Time    time.Time     `json:"time"`
	Latency time.Duration `json:"latency_ns,omitempty"`
	*reading
	Failure string `json:"failure,omitempty"` // of the whole round
}

func runModbusWatch(ctx context.Context, c *call) error {
	list, err := c.allPlaces(c.names)
	if err != nil {
		return err
	}
	d := &c.device
	if d.every < time.Millisecond || d.count < 0 {
		return usageError("-every %s -n %d: want at least 1ms, and 0 or more times", d.every, d.count)
	}
	b, err := c.bus()
	if err != nil {
		return err
	}
	w := &watch{call: c, bus: b, list: list, before: make([]string, len(list))}
	defer w.hangUp()
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for n := 1; ; n++ {
		if err := w.round(ctx); err != nil {
			return err
		}
		if n == d.count {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil // Ctrl-C is how it ends
		}
	}
	if w.failed {
		return fmt.Errorf("the last reading failed")
	}
	return nil
}

type watch struct {
	*call
	bus    *modbus.Bus
	list   []place
	unit   *unit    // nil while there is no connection
	before []string // what was shown last, by place
	last   string   // the last failure that was shown
	failed bool     // the last round failed
}

func (w *watch) hangUp() {
	if w.unit != nil {
		_ = w.unit.Close(context.Background())
		w.unit = nil
	}
}

// round reads once and prints what is new. The error is that of a wrong command
// line.
func (w *watch) round(ctx context.Context) error {
	start := time.Now()
	readings, err := w.read(ctx)
	latency := time.Since(start)
	if ctx.Err() != nil {
		return nil
	}
	w.failed = err != nil
	if err != nil {
		w.hangUp()
		if errors.Is(err, errUsage) {
			return err
		}
		if text := err.Error(); text != w.last {
			w.last = text
			return w.print(change{Time: start, Failure: text})
		}
		return nil
	}
	w.last = ""
	for i := range readings {
		now := readings[i].shown()
		if readings[i].Error != "" {
			now = readings[i].Error
		}
		if now == w.before[i] {
			continue
		}
		if err := w.print(change{Time: start, Latency: latency, reading: &readings[i]}, w.before[i], now); err != nil {
			return err
		}
		w.before[i] = now
	}
	return nil
}

func (w *watch) read(ctx context.Context) ([]reading, error) {
	if w.unit == nil {
		u, err := w.open(ctx, w.bus, w.device.unit, points(w.list, model.Measurement))
		if err != nil {
			return nil, err
		}
		w.unit = u
	}
	return w.unit.readOnce(ctx, w.list)
}

func (w *watch) print(ch change, values ...string) error {
	if w.json {
		return json.NewEncoder(w.out).Encode(ch)
	}
	at := ch.Time.Format("15:04:05.000")
	var err error
	switch {
	case ch.reading == nil:
		_, err = fmt.Fprintf(w.out, "%s  %s\n", at, ch.Failure)
	case values[0] == "":
		_, err = fmt.Fprintf(w.out, "%s  %s  %s  (%s)\n", at, ch.Address, values[1], span(ch.Latency))
	default:
		_, err = fmt.Fprintf(w.out, "%s  %s  %s → %s  (%s)\n", at, ch.Address, values[0], values[1], span(ch.Latency))
	}
	return err
}
