package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm/alarmtest"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/scripts"
)

// alarmTestCommand runs files of tests.
func alarmTestCommand() command {
	return command{name: "test", names: []string{"FILE…"}, many: true, run: runAlarmTest,
		brief: "runs tests of alarm rules, written as plain text",
		detail: "Runs files as docs/alarm-tests.md describes them: which values come when, and which\n" +
			"alarms must then be open. A file may name the configuration whose rules are tested.\n" +
			"It works in this process, with a clock of its own, and needs no store."}
}

// mostTestFile bounds a file of tests, in bytes.
const mostTestFile = 2 << 20

func runAlarmTest(ctx context.Context, c *call) (err error) {
	if c.redis != "" || c.site != "" {
		return usageError("tests run in this process: leave -redis and -site away")
	}
	passed, failed := 0, 0
	list, faults := []alarmtest.Result{}, []error{}
	for _, name := range c.names {
		results, err := runAlarmFile(ctx, name)
		if err != nil {
			faults = append(faults, err)
		}
		list = append(list, results...)
		for _, r := range results {
			if len(r.Failures) == 0 {
				passed++
				continue
			}
			failed++
			if c.json {
				continue
			}
			fmt.Fprintf(c.out, "test %q\n", r.Test)
			for _, f := range r.Failures {
				fmt.Fprintln(c.out, f)
			}
		}
	}
	if c.json {
		faults = append(faults, c.printJSON(list))
	} else if passed > 0 {
		fmt.Fprintf(c.out, "%s passed\n", counted(passed, "test"))
	}
	if failed > 0 {
		faults = append(faults, fmt.Errorf("%s failed", counted(failed, "test")))
	}
	return errors.Join(faults...)
}

// runAlarmFile runs the tests of one file on a store in this process.
func runAlarmFile(ctx context.Context, name string) (results []alarmtest.Result, err error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(in, mostTestFile))
	if err != nil {
		return nil, err
	}
	f, err := alarmtest.Parse(name, text)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler) // what it would say is in the results
	store, err := scripts.OpenStore(ctx, scripts.StoreConfig{Embedded: true}, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	n := 0
	return f.Run(ctx, alarmtest.Options{
		Open: func(now func() time.Time) (*scripts.Plane, error) {
			n++
			return scripts.New(store.Client, scripts.Options{Site: fmt.Sprintf("test%d", n), Now: now, Log: log})
		},
		Load: func(path string) (alarmtest.Definitions, error) {
			if !filepath.IsAbs(path) {
				path = filepath.Join(filepath.Dir(name), path)
			}
			cfg, err := voltage.LoadConfig(path, all.Kinds()...)
			return alarmtest.Definitions{Models: cfg.Models, Alarms: cfg.Alarms}, err
		},
	})
}
