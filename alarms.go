package voltage

import (
	"context"
	"errors"
	"time"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/model"
)

// The engine's part of the alarm desk. Operations name an alarm by its id, or its
// rule as alarm.Ref does; package alarm says what they do, and which errors they
// wrap. All are for the whole site, also for what other engines define.

// Alarms returns every alarm that is not closed, oldest first.
func (e *Engine) Alarms(ctx context.Context) ([]alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.desk.Open(ctx)
}

// QueryAlarms returns the selected alarms, open and closed ones, page by page.
func (e *Engine) QueryAlarms(ctx context.Context, q alarm.Query) ([]alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.desk.Query(ctx, q)
}

// AlarmCounts returns how many alarms there are, by status, severity and
// suppression.
func (e *Engine) AlarmCounts(ctx context.Context) (alarm.Counts, error) {
	if _, ok := e.running(); !ok {
		return alarm.Counts{}, ErrNotRunning
	}
	return e.desk.Counts(ctx)
}

// Alarm returns one alarm, also a closed one for 30 days; scripts.ErrNotFound when
// there is none.
func (e *Engine) Alarm(ctx context.Context, id string) (alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return e.desk.Get(ctx, id)
}

// AlarmJournal returns up to limit transitions after a position; "" is the oldest
// that is kept.
func (e *Engine) AlarmJournal(ctx context.Context, after string, limit int) ([]alarm.Event, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.desk.Journal(ctx, after, limit)
}

// AlarmJournalRange returns the selected transitions, page by page, in order or
// from the last one back.
func (e *Engine) AlarmJournalRange(ctx context.Context, q alarm.JournalQuery) ([]alarm.Event, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.desk.JournalRange(ctx, q)
}

// Acknowledge takes note of an alarm for a person; scripts.ErrNotFound when
// there is no such alarm.
func (e *Engine) Acknowledge(ctx context.Context, which, by, comment string) (alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return e.desk.Acknowledge(ctx, which, by, comment)
}

// AcknowledgeMany takes note of alarms by their ids and returns how many changed;
// those that do not exist are left out.
func (e *Engine) AcknowledgeMany(ctx context.Context, ids []string, by, comment string) (changed int, err error) {
	if _, ok := e.running(); !ok {
		return 0, ErrNotRunning
	}
	return e.desk.AcknowledgeMany(ctx, ids, by, comment)
}

// AcknowledgeAll takes note of all open alarms that a query selects.
func (e *Engine) AcknowledgeAll(ctx context.Context, q alarm.Query, by, comment string) (changed int, err error) {
	if _, ok := e.running(); !ok {
		return 0, ErrNotRunning
	}
	return e.desk.AcknowledgeAll(ctx, q, by, comment)
}

// CloseAlarm ends an alarm by hand whatever the value is.
func (e *Engine) CloseAlarm(ctx context.Context, which, by, comment string) (alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return e.desk.Close(ctx, which, by, comment)
}

// ResetAlarm ends a latched alarm; scripts.ErrConflict for one in another state.
func (e *Engine) ResetAlarm(ctx context.Context, which, by, comment string) (alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return e.desk.Reset(ctx, which, by, comment)
}

// ShelveAlarm keeps an alarm from being told for a time, a minute to seven days. The
// reason is required.
func (e *Engine) ShelveAlarm(ctx context.Context, which, by, reason string, period time.Duration) (alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return e.desk.Shelve(ctx, which, by, reason, period)
}

// UnshelveAlarm ends the shelving.
func (e *Engine) UnshelveAlarm(ctx context.Context, which, by, comment string) (alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return e.desk.Unshelve(ctx, which, by, comment)
}

// AlarmOutOfService keeps an alarm from being told until AlarmInService. The reason
// is required.
func (e *Engine) AlarmOutOfService(ctx context.Context, which, by, reason string) (alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return e.desk.OutOfService(ctx, which, by, reason)
}

// AlarmInService takes back AlarmOutOfService.
func (e *Engine) AlarmInService(ctx context.Context, which, by, comment string) (alarm.Alarm, error) {
	if _, ok := e.running(); !ok {
		return alarm.Alarm{}, ErrNotRunning
	}
	return e.desk.InService(ctx, which, by, comment)
}

// UnannouncedAlarms returns the rules that are shelved or out of service, whether
// an alarm of theirs is open or not.
func (e *Engine) UnannouncedAlarms(ctx context.Context) ([]alarm.Unannounced, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.desk.Unannounced(ctx)
}

// AlarmRules returns every rule of the site, whoever stored it; problems name the
// malformed ones, which nobody goes by.
func (e *Engine) AlarmRules(ctx context.Context) (rules []alarm.Rule, problems []string, err error) {
	if _, ok := e.running(); !ok {
		return nil, nil, ErrNotRunning
	}
	return e.desk.Rules(ctx)
}

// AlarmRule returns one rule of the site; scripts.ErrNotFound when there is none.
func (e *Engine) AlarmRule(ctx context.Context, modelID, point, id string) (alarm.Rule, error) {
	if _, ok := e.running(); !ok {
		return alarm.Rule{}, ErrNotRunning
	}
	return e.desk.Rule(ctx, modelID, point, id)
}

// PutAlarmRule stores a rule on the site. Unlike one of RegisterAlarm it is not part
// of this engine: it stays when the engine's configuration has it no more, it is
// gone when the store loses its data, and a registered one of the same model, point
// and id takes its place at the next start.
func (e *Engine) PutAlarmRule(ctx context.Context, r alarm.Rule) error {
	if _, ok := e.running(); !ok {
		return ErrNotRunning
	}
	if err := e.desk.PutRule(ctx, r); err != nil {
		return err
	}
	e.rulesChanged(ctx)
	return nil
}

// DropAlarmRule removes a rule from the site; scripts.ErrNotFound when there is
// none. An alarm that it raised stays until it is closed. A registered one is back
// at the next start.
func (e *Engine) DropAlarmRule(ctx context.Context, modelID, point, id string) error {
	if _, ok := e.running(); !ok {
		return ErrNotRunning
	}
	if _, err := e.desk.Rule(ctx, modelID, point, id); err != nil && !errors.Is(err, model.ErrInvalid) {
		return err
	}
	if err := e.desk.DropRule(ctx, modelID, point, id); err != nil {
		return err
	}
	e.rulesChanged(ctx)
	return nil
}

// rulesChanged has changed rules taken notice of at once.
func (e *Engine) rulesChanged(ctx context.Context) {
	if err := e.plane.Reload(ctx); err != nil {
		e.log.Warn("changed alarm rules take effect within seconds", "error", err)
	}
	e.redefined()
}
