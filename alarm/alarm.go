// Package alarm is the alarm desk: what stands open, what happened, and what a
// person does about it. Detection is not here but in the scripts, in the same
// atomic step that stores the value.
//
// The types are those of package model under shorter names.
package alarm

import (
	"context"

	"github.com/voltageems/voltage/internal/follow"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// The vocabulary of package model.
type (
	Rule       = model.AlarmRule       // when a point is in alarm
	Alarm      = model.Alarm           // one abnormal condition from beginning to end
	Event      = model.AlarmEvent      // one transition of one alarm
	Status     = model.AlarmStatus     // where an alarm stands
	Transition = model.AlarmTransition // a step in its life
)

// Desk is the operator's view of a site's alarms.
type Desk struct{ plane *scripts.Plane }

// NewDesk returns the desk of a site.
func NewDesk(p *scripts.Plane) *Desk { return &Desk{plane: p} }

// Open returns every alarm that is not closed, oldest first.
func (d *Desk) Open(ctx context.Context) ([]Alarm, error) { return d.plane.OpenAlarms(ctx) }

// Get returns one alarm, also a closed one for 30 days. scripts.ErrNotFound
// when there is none.
func (d *Desk) Get(ctx context.Context, id string) (Alarm, error) { return d.plane.Alarm(ctx, id) }

// Acknowledge takes note of an alarm for a person. An alarm whose value has
// returned to normal is closed by it; one that was acknowledged stays so.
func (d *Desk) Acknowledge(ctx context.Context, id, by, comment string) (Alarm, error) {
	return d.plane.Acknowledge(ctx, id, by, comment)
}

// Close ends an alarm by hand whatever the value is, for alarms that nothing
// else will end. If its condition still holds, the next sample raises a new one.
func (d *Desk) Close(ctx context.Context, id, by, comment string) (Alarm, error) {
	return d.plane.CloseAlarm(ctx, id, by, comment)
}

// Journal returns up to limit transitions after a position; "" is the oldest
// that is kept.
func (d *Desk) Journal(ctx context.Context, after string, limit int) ([]Event, error) {
	return d.plane.AlarmJournal(ctx, after, limit)
}

// Follow calls fn for every transition after a position, in order, until ctx
// ends. It reads the journal, so nothing is missed while the store or fn is
// slow; wake hints that there is something new.
func (d *Desk) Follow(ctx context.Context, after string, wake <-chan struct{}, fn func(Event)) {
	follow.Journal[Event]{Read: d.plane.AlarmJournal, Position: func(e Event) string { return e.Position },
		End: d.plane.AlarmJournalEnd, Generation: d.plane.Generation}.Follow(ctx, after, wake, fn)
}

// End returns the position of the newest transition.
func (d *Desk) End(ctx context.Context) (string, error) { return d.plane.AlarmJournalEnd(ctx) }
