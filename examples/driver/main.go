package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/voltageems/voltage"
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

// run has an engine read the sensor until ctx ends. It prints the values and
// gives one command.
func run(ctx context.Context, out io.Writer, address string) error {
	if address == "" {
		s, err := startSensor()
		if err != nil {
			return err
		}
		defer s.stop()
		address = s.address
	}
	eng, err := voltage.NewEngine(voltage.Config{
		Channels: []channel.Config{office(address)},
		Models: []model.Instance{{ID: "room",
			Measurements: map[string]string{"temperature": "office:temperature", "humidity": "office:humidity", "noise": "office:noise"},
			Controls:     map[string]string{"target": "office:target"}}},
	})
	if err != nil {
		return err
	}
	if err := eng.Start(ctx); err != nil {
		return err
	}
	defer eng.Stop(context.WithoutCancel(ctx))
	given := false
	for tick := time.Tick(500 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
		values, err := eng.Values(ctx, "room")
		if err != nil || len(values) < 4 {
			continue // nothing was read yet
		}
		for _, name := range []string{"temperature", "humidity", "noise", "target"} {
			v := values[name]
			fmt.Fprintf(out, "%s %.1f %s %s   ", name, v.Value, v.Unit, v.Quality)
		}
		fmt.Fprintln(out)
		if !given && values["target"].Quality == model.Good {
			given = true
			r, err := eng.Control(ctx, model.Command{Model: "room", Control: "target", Value: 27})
			fmt.Fprintln(out, "command target", r.Value, r.State, err)
		}
	}
}

// office is the channel: a driver of one's own beside the engine's names.
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
