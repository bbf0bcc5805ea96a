package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// listedAlarms is how many list shows where nobody says how many.
const listedAlarms = 100

func runAlarmList(ctx context.Context, c *call) error {
	q, err := c.query()
	if err != nil {
		return err
	}
	most := c.alarm.most
	switch {
	case most < 0:
		return usageError("-n is at least 0")
	case most == 0 && !c.json:
		most = listedAlarms
	}
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		all, more := []model.Alarm{}, false
		for {
			q.Limit = model.MaxAlarmLimit
			page, err := p.QueryAlarms(ctx, q)
			if err != nil {
				return err
			}
			if all = append(all, page...); most > 0 && len(all) > most {
				all, more = all[:most], true
				break
			}
			if len(page) < q.Limit {
				break
			}
			q.After = page[len(page)-1].ID
		}
		if c.json {
			return c.printJSON(all)
		}
		if c.printAlarms(all); more {
			fmt.Fprintf(c.errs, "there are more: -n 0 -json prints all\n")
		}
		return nil
	})
}

func (c *call) printAlarms(all []model.Alarm) {
	rows := []string{"ID\tRAISED\tSEVERITY\tSTATUS\tALARM\tVALUE\tLIMIT\tREMARKS\tMESSAGE"}
	for _, a := range all {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%.6g\t%s\t%s\t%s", or(a.ID, "-"), when(a.Raised), or(string(a.Severity), "-"), or(string(a.Status), "-"),
			model.AlarmRef(a.Model, a.Point, a.Rule), a.Value, limit(a.Operator, a.Threshold, a.High), or(alarmRemarks(a), "-"), or(a.Message, "-")))
	}
	c.table(rows...)
}

// limit prints what was broken.
func limit(op model.Operator, threshold, high float64) string {
	switch {
	case op == model.InRange || op == model.OutOfRange:
		return fmt.Sprintf("%s %.6g…%.6g", op, threshold, high)
	case op == "" || !op.TakesThreshold():
		return or(string(op), "-")
	}
	return fmt.Sprintf("%s %.6g", op, threshold)
}

// alarmRemarks says what is unusual about an alarm, in short.
func alarmRemarks(a model.Alarm) string {
	var list []string
	switch a.Suppression {
	case "":
	case model.Shelved:
		list = append(list, "shelved until "+when(a.ShelvedUntil))
	default:
		list = append(list, strings.ReplaceAll(string(a.Suppression), "_", " "))
	}
	if a.Reason != "" {
		list = append(list, "by "+or(a.SuppressedBy, "somebody")+": "+a.Reason)
	}
	if a.Quality != "" {
		list = append(list, "no value: "+a.Quality)
	}
	if a.Chattering {
		list = append(list, "chattering")
	}
	if a.Count > 1 {
		list = append(list, fmt.Sprintf("%d times", a.Count))
	}
	return strings.Join(list, ", ")
}

func runAlarmCounts(ctx context.Context, c *call) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		n, err := p.AlarmCounts(ctx)
		if err != nil || c.json {
			if err == nil {
				err = c.printJSON(n)
			}
			return err
		}
		rows := []string{fmt.Sprintf("open\t%d", n.Open)}
		for _, s := range model.AlarmStatuses() {
			if s.Open() {
				rows = append(rows, fmt.Sprintf("  %s\t%d", s, n.Statuses[s]))
			}
		}
		for _, s := range model.Severities() {
			rows = append(rows, fmt.Sprintf("  %s\t%d\t%d unacknowledged", s, n.Severities[s], n.Unacknowledged[s]))
		}
		for _, s := range model.Suppressions() {
			rows = append(rows, fmt.Sprintf("  %s\t%d", s, n.Suppressions[s]))
		}
		c.table(append(rows, fmt.Sprintf("  chattering\t%d", n.Chattering), fmt.Sprintf("rules shelved or out of service\t%d", n.Unannounced), fmt.Sprintf("closed, kept\t%d", n.Closed))...)
		return nil
	})
}

func runUnannounced(ctx context.Context, c *call) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		all, err := p.UnannouncedAlarms(ctx)
		if err != nil || c.json {
			if err == nil {
				err = c.printJSON(all)
			}
			return err
		}
		rows := []string{"ALARM\tKIND\tSINCE\tUNTIL\tBY\tREASON"}
		for _, u := range all {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", model.AlarmRef(u.Model, u.Point, u.Rule), or(string(u.Kind), "-"),
				when(u.Since), when(u.Until), or(u.By, "-"), or(u.Reason, "-")))
		}
		c.table(rows...)
		return nil
	})
}

func runAlarmRules(ctx context.Context, c *call) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		rules, problems, err := p.AllAlarmRules(ctx)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(map[string]any{"rules": rules, "problems": append([]string{}, problems...)})
		}
		rows := []string{"RULE\tSEVERITY\tCONDITION\tREMARKS\tMESSAGE"}
		for _, r := range rules {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", model.AlarmRef(r.Model, r.Point, r.ID), r.Severity,
				limit(r.Operator, r.Threshold, r.High), or(ruleRemarks(r), "-"), or(r.Message, "-")))
		}
		c.table(rows...)
		for _, problem := range problems {
			fmt.Fprintf(c.errs, "malformed: %s\n", problem)
		}
		return nil
	})
}

// ruleRemarks is what a rule has besides its limit, in short.
func ruleRemarks(r model.AlarmRule) string {
	var list []string
	add := func(given bool, format string, args ...any) {
		if given {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	add(r.Disabled, "disabled")
	add(r.Reference != "", "from %s", r.Reference)
	add(r.Hysteresis > 0, "hysteresis %.6g", r.Hysteresis)
	add(r.OnDelay > 0, "on after %s", r.OnDelay)
	add(r.OffDelay > 0, "off after %s", r.OffDelay)
	add(r.Count > 1, "%d times in %s", r.Count, r.Window)
	add(r.Operator == model.Rate, "over %s", r.Window)
	add(r.Latch, "latched")
	if e := r.Enable; e != nil {
		add(true, "while %s %s %.6g", r.EnablePoint(), e.Operator, e.Threshold)
	}
	return strings.Join(list, ", ")
}
