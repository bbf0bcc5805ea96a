package main

import (
	"errors"
	"flag"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// alarmFlags are the flags of alarm commands.
type alarmFlags struct {
	states, severities, suppressions string
	model, point, rule, id           string
	from, to                         string
	closed, newest, all, csv         bool
	comment                          string
	period                           time.Duration
	most                             int
}

func (a *alarmFlags) add(fs *flag.FlagSet, name string) {
	switch name {
	case "state":
		fs.StringVar(&a.states, name, "", "only in these `states`, separated by commas: active, acknowledged, cleared, latched, closed")
	case "severity":
		fs.StringVar(&a.severities, name, "", "only of these `severities`: low, medium, high, critical")
	case "suppression":
		fs.StringVar(&a.suppressions, name, "", "only with these `suppressions`: shelved, out_of_service, suppressed, none")
	case "model":
		fs.StringVar(&a.model, name, "", "only of this `model`")
	case "point":
		fs.StringVar(&a.point, name, "", "only of points of this `name`")
	case "rule":
		fs.StringVar(&a.rule, name, "", "only of rules with this `id`")
	case "alarm":
		fs.StringVar(&a.id, name, "", "only of the alarm with this `id`")
	case "from":
		fs.StringVar(&a.from, name, "", "only since this `time`")
	case "to":
		fs.StringVar(&a.to, name, "", "only before this `time`")
	case "closed":
		fs.BoolVar(&a.closed, name, false, "closed ones as well")
	case "newest":
		fs.BoolVar(&a.newest, name, false, "the newest first")
	case "all":
		fs.BoolVar(&a.all, name, false, "all that the other flags select")
	case "csv":
		fs.BoolVar(&a.csv, name, false, "print CSV")
	case "comment":
		fs.StringVar(&a.comment, name, "", "a `text` for the journal")
	case "for":
		fs.DurationVar(&a.period, name, 0, "for this `time`, such as 30m or 8h")
	case "most":
		fs.IntVar(&a.most, "n", 0, "how `many` at most; 0 is what fits the output")
	}
}

// query is what the flags select.
func (c *call) query() (q model.AlarmQuery, err error) {
	a := c.alarm
	q = model.AlarmQuery{Closed: a.closed, Newest: a.newest, Model: a.model, Point: a.point, Rule: a.rule}
	for _, s := range list(a.states) {
		q.States = append(q.States, model.AlarmStatus(s))
	}
	for _, s := range list(a.severities) {
		q.Severities = append(q.Severities, model.Severity(s))
	}
	for _, s := range list(a.suppressions) {
		if s == "none" {
			s = ""
		}
		q.Suppressions = append(q.Suppressions, model.Suppression(s))
	}
	if q.From, q.To, err = a.times(time.Now()); err != nil {
		return q, err
	}
	return q, wrong(q.Validate())
}

// times are -from and -to.
func (a alarmFlags) times(now time.Time) (from, to time.Time, err error) {
	if from, err = parseTime("from", a.from, now); err == nil {
		to, err = parseTime("to", a.to, now)
	}
	return from, to, err
}

// parseTime reads a time as people write it, in the time zone of this machine.
func parseTime(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(strings.TrimPrefix(text, "-")); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError("-%s %q: want a time, such as 2026-11-26 or 2026-11-26T08:00, or how long ago, such as 24h", name, text)
}

// wrong makes what is wrong with a request what is wrong with the command line.
func wrong(err error) error {
	if !errors.Is(err, model.ErrInvalid) {
		return err
	}
	return usageError("%s", strings.ReplaceAll(err.Error(), "invalid: ", ""))
}
