package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

func main() {
	address := flag.String("address", "", "host:port of a sensor; empty simulates one")
	length := flag.Duration("for", 3*time.Second, "how long to run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	if err := run(ctx, os.Stdout, *address); err != nil {
		slog.Error("driver example", "error", err)
	}
}

// run talks to the sensor until ctx ends.
func run(ctx context.Context, out io.Writer, address string) error {
	if address == "" {
		s, err := startSensor()
		if err != nil {
			return err
		}
		defer s.stop()
		address = s.address
	}
	return follow(ctx, out, office(address))
}

// office is the channel as an engine gets it: eng.RegisterChannel(office(…)).
func office(address string) channel.Config {
	return channel.Config{
		ID:     "office",
		Driver: Sensor(address),
		Scan:   500 * time.Millisecond,
		Points: []model.Point{
			{ID: "temperature", Address: "temperature", Unit: "°C"},
			{ID: "humidity", Address: "humidity", Scale: 0.1, Unit: "%"},
			{ID: "noise", Address: "noise", Unit: "dB"}, // which the sensor does not have
			{ID: "target", Address: "target", Kind: model.Control, Unit: "°C", ReadBack: true},
		},
	}
}

// follow does by hand what the engine's runner does for every channel: connect,
// read, and connect again when the connection is gone. It prints the samples
// and writes the target once.
func follow(ctx context.Context, out io.Writer, c channel.Config) error {
	c = c.WithDefaults()
	driver, err := c.Driver(channel.Setup{
		ID: c.ID, Points: c.Points, Scan: c.Scan, Timeout: c.Timeout,
		Log: slog.Default(), Clock: model.SystemClock,
	})
	if err != nil {
		return err
	}
	defer driver.Close(context.WithoutCancel(ctx))
	write := true
	for ctx.Err() == nil {
		if err := driver.Connect(ctx); err != nil {
			fmt.Fprintln(out, err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		for {
			samples, err := driver.Read(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, channel.ErrNotConnected) {
				fmt.Fprintln(out, err)
				_ = driver.Close(ctx)
				break
			}
			for i, s := range samples {
				fmt.Fprintf(out, "%s %.1f %s %s   ", s.Point, s.Value, c.Points[i].Unit, s.Quality)
			}
			fmt.Fprintln(out)
			if write {
				write = false
				target := channel.Write{Point: c.Points[3], Value: 27}
				outcome, err := driver.(channel.Writer).Write(ctx, target)
				fmt.Fprintln(out, "write target", target.Value, outcome.Result, err)
			}
		}
	}
	return nil
}
