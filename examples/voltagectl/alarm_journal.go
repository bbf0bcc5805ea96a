package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// listedEvents is how many transitions journal shows where nobody says how many.
const listedEvents = 20

func runAlarmJournal(ctx context.Context, c *call) error {
	a := c.alarm
	from, to, err := a.times(time.Now())
	if err != nil {
		return err
	}
	q := model.AlarmJournalQuery{From: from, To: to, Alarm: a.id, Model: a.model, Point: a.point, Rule: a.rule}
	if err := wrong(q.Validate()); err != nil {
		return err
	}
	switch {
	case a.most < 0:
		return usageError("-n is at least 0")
	case a.csv && c.json:
		return usageError("-csv and -json exclude each other")
	}
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		w := c.eventWriter()
		if a.most == 0 && (a.csv || c.json) {
			if err := eachEvent(ctx, p, q, w.write); err != nil {
				return err
			}
			return w.end()
		}
		// the last ones: read from the end, printed in their order
		most, last := a.most, []model.AlarmEvent(nil)
		if most == 0 {
			most = listedEvents
		}
		q.Newest = true
		err := eachEvent(ctx, p, q, func(e model.AlarmEvent) error {
			if last = append(last, e); len(last) == most {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		for _, e := range slices.Backward(last) {
			if err := w.write(e); err != nil {
				return err
			}
		}
		return w.end()
	})
}

// errEnough ends eachEvent.
var errEnough = errors.New("enough")

// eachEvent calls f for the selected entries, page by page, until it fails.
func eachEvent(ctx context.Context, p *scripts.Plane, q model.AlarmJournalQuery, f func(model.AlarmEvent) error) error {
	for q.Limit = model.MaxAlarmLimit; ; {
		page, err := p.AlarmJournalRange(ctx, q)
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := f(e); err != nil {
				return err
			}
		}
		if len(page) < q.Limit {
			return nil
		}
		q.After = page[len(page)-1].Position
	}
}

// eventWriter prints transitions one by one, so that an export of all of them
// needs no more memory than a page.
type eventWriter struct {
	write func(model.AlarmEvent) error
	end   func() error
}

func (c *call) eventWriter() eventWriter {
	switch {
	case c.alarm.csv:
		w := csv.NewWriter(c.out)
		_ = w.Write(model.AlarmEventColumns()) // Flush tells
		return eventWriter{func(e model.AlarmEvent) error { return w.Write(e.Row()) }, func() error { w.Flush(); return w.Error() }}
	case c.json:
		before := "["
		return eventWriter{func(e model.AlarmEvent) error {
			text, err := json.Marshal(e)
			if err == nil {
				_, err = fmt.Fprintf(c.out, "%s\n  %s", before, text)
			}
			before = ","
			return err
		}, func() error {
			if before == "[" {
				fmt.Fprint(c.out, "[")
			}
			_, err := fmt.Fprint(c.out, "\n]\n")
			return err
		}}
	}
	rows := []string{"TIME\tTRANSITION\tALARM\tRULE\tSEVERITY\tSTATUS\tVALUE\tBY\tCOMMENT"}
	return eventWriter{func(e model.AlarmEvent) error {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%.6g\t%s\t%s", when(e.Time), e.Transition, or(e.Alarm, "-"), model.AlarmRef(e.Model, e.Point, e.Rule),
			or(string(e.Severity), "-"), or(string(e.Status), "-"), e.Value, or(e.By, "-"), or(e.Comment, "-")))
		return nil
	}, func() error { c.table(rows...); return nil }}
}
