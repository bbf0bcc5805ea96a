package main

import (
	"context"
	"fmt"
	"time"

	"github.com/voltageems/voltage/scripts"
)

func runStats(ctx context.Context, c *call) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		var names []string
		if len(c.names) == 1 {
			names = c.names
		} else {
			all, err := scripts.Scripts()
			if err != nil {
				return err
			}
			for _, s := range all {
				names = append(names, s.Name)
			}
		}
		var list []scripts.ScriptStats
		for _, name := range names {
			s, err := p.StoredStats(ctx, name)
			if err != nil {
				return err
			}
			list = append(list, s)
		}
		if c.json {
			return c.printJSON(list)
		}
		rows := []string{"SCRIPT\tCALLS\tERRORS\tLOST\tSLOW\tMEAN\tP50\tP99\tMAX\tPER POINT\tLAST"}
		for _, s := range list {
			rows = append(rows, fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s", s.Script, s.Calls, s.Errors, s.Lost, s.Slow,
				span(s.Mean()), span(s.Quantile(0.5)), span(s.Quantile(0.99)), span(s.Max), span(s.PerPoint()), when(s.Last)))
		}
		c.table(rows...)
		if len(c.names) == 1 {
			c.statsOf(list[0])
		}
		return nil
	})
}

// statsOf prints what one script's statistics have besides.
func (c *call) statsOf(s scripts.ScriptStats) {
	if len(s.Versions) > 0 {
		fmt.Fprintln(c.out)
		rows := []string{"VERSION\tCALLS\tERRORS\tLAST"}
		for _, v := range s.Versions {
			rows = append(rows, fmt.Sprintf("%s\t%d\t%d\t%s", v.Version, v.Calls, v.Errors, when(v.Last)))
		}
		c.table(rows...)
	}
	if len(s.Refused) > 0 {
		fmt.Fprintln(c.out)
		rows := []string{"ANSWERED\tCALLS"}
		for _, code := range sortedKeys(s.Refused) {
			rows = append(rows, fmt.Sprintf("%s\t%d", code, s.Refused[code]))
		}
		c.table(rows...)
	}
	if s.Calls > 0 {
		fmt.Fprintln(c.out)
		rows := []string{"AT MOST\tCALLS\tSHARE"}
		for _, b := range s.Histogram {
			rows = append(rows, fmt.Sprintf("%s\t%d\t%.1f %%", span(b.UpTo), b.Calls, 100*float64(b.Calls)/float64(s.Calls)))
			if b.Calls == s.Calls {
				break // so are all longer ones
			}
		}
		c.table(rows...)
	}
}

// span prints a duration with three digits or so.
func span(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < 100*time.Microsecond:
		return fmt.Sprintf("%.3g µs", float64(d)/1e3)
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

// pageSize is how many entries of a stream are read at once.
const pageSize = 500

// last reads a stream to its end and returns the last entries.
func last[E any](limit int, read func(after string, limit int) ([]E, error), position func(E) string) ([]E, error) {
	if limit < 1 {
		return nil, usageError("-n is at least 1")
	}
	var list []E
	for after := ""; ; {
		more, err := read(after, pageSize)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
		if len(more) < pageSize {
			return list[max(0, len(list)-limit):], nil
		}
		after = position(more[len(more)-1])
	}
}

func runJournal(ctx context.Context, c *call) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		events, err := last(c.limit, func(after string, n int) ([]scripts.ScriptEvent, error) { return p.ScriptJournal(ctx, after, n) },
			func(e scripts.ScriptEvent) string { return e.Position })
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(append([]scripts.ScriptEvent{}, events...))
		}
		rows := []string{"TIME\tSCRIPT\tEVENT\tVERSION\tBEFORE\tBY\tREASON"}
		for _, e := range events {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", when(e.Time), e.Script, e.Event, or(e.Version, "-"), or(e.Before, "-"), or(e.By, "-"), or(e.Reason, "-")))
		}
		c.table(rows...)
		return nil
	})
}

func runDifferences(ctx context.Context, c *call) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		found, err := last(c.limit, func(after string, n int) ([]scripts.Difference, error) { return p.Differences(ctx, after, n) },
			func(d scripts.Difference) string { return d.Position })
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(append([]scripts.Difference{}, found...))
		}
		if len(found) == 0 {
			fmt.Fprintln(c.out, "no differences")
		}
		for _, d := range found {
			fmt.Fprintf(c.out, "%s  channel %s, data_sync %s: %s\n", when(d.Time), d.Channel, d.Version, d.What)
			if d.Lua != "" {
				fmt.Fprintf(c.out, "    Lua  %s\n", d.Lua)
			}
			if d.Go != "" {
				fmt.Fprintf(c.out, "    Go   %s\n", d.Go)
			}
		}
		return nil
	})
}
