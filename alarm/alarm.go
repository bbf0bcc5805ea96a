// Package alarm is the alarm desk: what stands open, what happened, and what a
// person does about it. Detection is not here but in the scripts, in the same
// atomic step that stores the value; delays and shelving end on the store too,
// where Tick has what is due carried out.
//
// An alarm lives as ISA-18.2 has it. It is raised (active), a person takes note of
// it (acknowledged), it returns to normal (cleared, and closed once somebody took
// note), or stays latched until somebody resets it. Beside that it may be
// suppressed: shelved by a person for a time, out of service until that is taken
// back, or by design, by the rule's own enable condition. Nobody is told of a
// suppressed alarm; its record and its journal go on.
//
// Operations name an alarm by its id, or by rule, as Ref does: a rule can be
// shelved or taken out of service while no alarm of it is open. They may be
// repeated: what is so already is no error. An error wraps scripts.ErrNotFound
// where there is no such alarm, scripts.ErrConflict where it is in a state in which
// that cannot be done, and model.ErrInvalid with what is wrong about a request.
//
// The types are those of package model under shorter names.
package alarm

import (
	"context"
	"time"

	"github.com/voltageems/voltage/internal/follow"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// The vocabulary of package model.
type (
	Rule         = model.AlarmRule         // when a point is in alarm
	Alarm        = model.Alarm             // one abnormal condition from beginning to end
	Event        = model.AlarmEvent        // one transition of one alarm
	Status       = model.AlarmStatus       // where an alarm stands
	Transition   = model.AlarmTransition   // a step in its life
	Suppression  = model.Suppression       // why nobody is told of it
	Query        = model.AlarmQuery        // which alarms are wanted
	JournalQuery = model.AlarmJournalQuery // which transitions are wanted
	Counts       = model.AlarmCounts       // how many there are
	Unannounced  = model.Unannounced       // a rule that is shelved or out of service
)

// Ref names a rule's alarm, whether one is open or not.
func Ref(modelID, point, rule string) string { return model.AlarmRef(modelID, point, rule) }

// Desk is the operator's view of a site's alarms.
type Desk struct{ plane *scripts.Plane }

// NewDesk returns the desk of a site.
func NewDesk(p *scripts.Plane) *Desk { return &Desk{plane: p} }

// Open returns every alarm that is not closed, oldest first. There may be as many
// as there are rules; Query reads them in pages.
func (d *Desk) Open(ctx context.Context) ([]Alarm, error) { return d.plane.OpenAlarms(ctx) }

// Query returns the selected alarms, open and closed ones, by id: in the order in
// which they were raised, or the other way round. The next page begins after the
// last id of this one; a page that is not full is the last.
func (d *Desk) Query(ctx context.Context, q Query) ([]Alarm, error) {
	return d.plane.QueryAlarms(ctx, q)
}

// Counts returns how many alarms there are, by status, severity and suppression.
func (d *Desk) Counts(ctx context.Context) (Counts, error) { return d.plane.AlarmCounts(ctx) }

// Get returns one alarm, also a closed one for 30 days. scripts.ErrNotFound
// when there is none.
func (d *Desk) Get(ctx context.Context, id string) (Alarm, error) { return d.plane.Alarm(ctx, id) }

// Acknowledge takes note of an alarm for a person. An alarm whose value has
// returned to normal is closed by it; a latched one still waits for its reset; one
// that was acknowledged stays so.
func (d *Desk) Acknowledge(ctx context.Context, alarm, by, comment string) (Alarm, error) {
	return d.plane.Acknowledge(ctx, alarm, by, comment)
}

// AcknowledgeMany is Acknowledge for many, by their ids, and returns how many
// changed. Those that do not exist are left out. What was done before an error
// stays done.
func (d *Desk) AcknowledgeMany(ctx context.Context, ids []string, by, comment string) (changed int, err error) {
	return d.plane.AcknowledgeMany(ctx, ids, by, comment)
}

// AcknowledgeAll is AcknowledgeMany for all open alarms that a query selects, as
// they are now. Its Limit and After do not count.
func (d *Desk) AcknowledgeAll(ctx context.Context, q Query, by, comment string) (changed int, err error) {
	return d.plane.AcknowledgeAll(ctx, q, by, comment)
}

// Close ends an alarm by hand whatever the value is, for alarms that nothing
// else will end. If its condition still holds, a new one is raised.
func (d *Desk) Close(ctx context.Context, alarm, by, comment string) (Alarm, error) {
	return d.plane.CloseAlarm(ctx, alarm, by, comment)
}

// Reset ends a latched alarm. scripts.ErrConflict for one in another state.
func (d *Desk) Reset(ctx context.Context, alarm, by, comment string) (Alarm, error) {
	return d.plane.ResetAlarm(ctx, alarm, by, comment)
}

// Shelve keeps a rule's alarm from being told for a time, a minute to seven days,
// after which it is told again by itself if it still holds. The reason is required.
// To shelve it once more is to change reason and time. Where no alarm is open, the
// answer has no ID.
func (d *Desk) Shelve(ctx context.Context, alarm, by, reason string, period time.Duration) (Alarm, error) {
	return d.plane.Shelve(ctx, alarm, by, reason, period)
}

// Unshelve ends the shelving.
func (d *Desk) Unshelve(ctx context.Context, alarm, by, comment string) (Alarm, error) {
	return d.plane.Unshelve(ctx, alarm, by, comment)
}

// OutOfService keeps a rule's alarm from being told until InService. The reason is
// required.
func (d *Desk) OutOfService(ctx context.Context, alarm, by, reason string) (Alarm, error) {
	return d.plane.OutOfService(ctx, alarm, by, reason)
}

// InService takes back OutOfService.
func (d *Desk) InService(ctx context.Context, alarm, by, comment string) (Alarm, error) {
	return d.plane.InService(ctx, alarm, by, comment)
}

// Unannounced returns the rules that are shelved or out of service, whether an
// alarm of theirs is open or not.
func (d *Desk) Unannounced(ctx context.Context) ([]Unannounced, error) {
	return d.plane.UnannouncedAlarms(ctx)
}

// Rule returns one stored rule. scripts.ErrNotFound when there is none,
// model.ErrInvalid with what is wrong when it is malformed.
func (d *Desk) Rule(ctx context.Context, modelID, point, id string) (Rule, error) {
	return d.plane.AlarmRule(ctx, modelID, point, id)
}

// Rules returns every stored rule, whoever wrote it. problems name the malformed
// ones, which nobody goes by.
func (d *Desk) Rules(ctx context.Context) (rules []Rule, problems []string, err error) {
	return d.plane.AllAlarmRules(ctx)
}

// PutRule stores a rule, in place of the one of the same model, point and id. It
// is judged at once with the value that is stored.
func (d *Desk) PutRule(ctx context.Context, r Rule) error { return d.plane.PutAlarmRule(ctx, r) }

// DropRule removes a rule. An alarm that it raised stays until it is closed.
func (d *Desk) DropRule(ctx context.Context, modelID, point, id string) error {
	return d.plane.DropAlarmRule(ctx, modelID, point, id)
}

// Journal returns up to limit transitions after a position; "" is the oldest
// that is kept.
func (d *Desk) Journal(ctx context.Context, after string, limit int) ([]Event, error) {
	return d.plane.AlarmJournal(ctx, after, limit)
}

// JournalRange returns the selected transitions, in order or from the last one
// back. The next page begins after the last position of this one; a page that is
// not full is the last. The last 100,000 or so are kept.
func (d *Desk) JournalRange(ctx context.Context, q JournalQuery) ([]Event, error) {
	return d.plane.AlarmJournalRange(ctx, q)
}

// Follow calls fn for every transition after a position, in order, until ctx
// ends. It reads the journal, so nothing is missed while the store or fn is
// slow; wake hints that there is something new.
func (d *Desk) Follow(ctx context.Context, after string, wake <-chan struct{}, fn func(Event)) {
	d.journal().Follow(ctx, after, wake, fn)
}

// Resume returns where to follow the journal from for a reader that has stored the
// position of what it read last: there, or at the beginning where the journal is
// not the one that was read.
func (d *Desk) Resume(ctx context.Context, position string) (string, error) {
	return d.journal().Resume(ctx, position)
}

func (d *Desk) journal() follow.Journal[Event] {
	return follow.Journal[Event]{Read: d.plane.AlarmJournal, Position: func(e Event) string { return e.Position },
		End: d.plane.AlarmJournalEnd, Generation: d.plane.Generation}
}

// End returns the position of the newest transition.
func (d *Desk) End(ctx context.Context) (string, error) { return d.plane.AlarmJournalEnd(ctx) }
