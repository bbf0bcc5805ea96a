package main

import (
	"context"
	"fmt"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// operator does with an alarm what a command line says.
type operator struct {
	*scripts.Plane
	c     *call
	alarm string
}

func (o *operator) reset(ctx context.Context) (model.Alarm, error) {
	return o.ResetAlarm(ctx, o.alarm, o.c.by, o.c.alarm.comment)
}

func (o *operator) close(ctx context.Context) (model.Alarm, error) {
	return o.CloseAlarm(ctx, o.alarm, o.c.by, o.c.alarm.comment)
}

func (o *operator) shelve(ctx context.Context) (model.Alarm, error) {
	return o.Shelve(ctx, o.alarm, o.c.by, o.c.reason, o.c.alarm.period)
}

func (o *operator) unshelve(ctx context.Context) (model.Alarm, error) {
	return o.Unshelve(ctx, o.alarm, o.c.by, o.c.alarm.comment)
}

func (o *operator) outOfService(ctx context.Context) (model.Alarm, error) {
	return o.OutOfService(ctx, o.alarm, o.c.by, o.c.reason)
}

func (o *operator) inService(ctx context.Context) (model.Alarm, error) {
	return o.InService(ctx, o.alarm, o.c.by, o.c.alarm.comment)
}

// desk returns a command that does one thing with one alarm.
func desk(do func(*operator, context.Context) (model.Alarm, error)) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if err := checkAlarms(c.names); err != nil {
			return err
		}
		return c.withDesk(ctx, func(p *scripts.Plane) error {
			a, err := do(&operator{p, c, c.names[0]}, ctx)
			if err != nil {
				return wrong(err)
			}
			if c.json {
				return c.printJSON(a)
			}
			c.printAlarms([]model.Alarm{a})
			return nil
		})
	}
}

// withDesk is withPlane for what writes.
func (c *call) withDesk(ctx context.Context, f func(*scripts.Plane) error) error {
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		if _, err := mustBeActive(ctx, c, p, "alarm_desk"); err != nil {
			return err
		}
		return f(p)
	})
}

func runAlarmAck(ctx context.Context, c *call) error {
	q, err := c.query()
	switch {
	case err != nil:
		return err
	case c.alarm.all && len(c.names) > 0:
		return usageError("%q: -all is without an ALARM", c.names[0])
	case !c.alarm.all && len(c.names) == 0:
		return usageError("ALARM is missing, or -all")
	}
	for _, name := range []string{"state", "severity", "suppression", "model", "point", "rule", "from", "to"} {
		if c.given(name) && !c.alarm.all {
			return usageError("-%s selects alarms together with -all", name)
		}
	}
	if err := checkAlarms(c.names); err != nil {
		return err
	}
	return c.withDesk(ctx, func(p *scripts.Plane) error {
		changed := 0
		if c.alarm.all {
			changed, err = p.AcknowledgeAll(ctx, q, c.by, c.alarm.comment)
		} else {
			changed, err = p.AcknowledgeMany(ctx, c.names, c.by, c.alarm.comment)
		}
		if c.json {
			if printed := c.printJSON(map[string]int{"changed": changed}); err == nil {
				err = printed
			}
			return err
		}
		fmt.Fprintf(c.out, "%s changed\n", counted(changed, "alarm"))
		return err
	})
}

func checkAlarms(names []string) error {
	for _, name := range names {
		if err := wrong(model.CheckAlarm(name)); err != nil {
			return err
		}
	}
	return nil
}
