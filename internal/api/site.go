package api

import (
	"context"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Site is what the handler shows and operates; the engine implements it. Errors
// that wrap scripts.ErrNotFound, model.ErrInvalid, scripts.ErrConflict or
// scripts.ErrStore become the matching HTTP status; all others are a 500.
// Methods are called from many goroutines at once and return when ctx ends.
type Site interface {
	// Name is the site's name, for people.
	Name() string
	// Ready returns nil when the store answers and the engine runs.
	Ready(ctx context.Context) error
	// Channels returns the state of every channel.
	Channels(ctx context.Context) ([]model.ChannelStatus, error)
	// ChannelValues returns a channel's values by point id.
	ChannelValues(ctx context.Context, id string) (map[string]model.Value, error)
	// Demand has points of a channel be read now, all when none are named. It does
	// not wait for that.
	Demand(channelID string, points ...string) error
	// Models returns every model, the disabled ones as well.
	Models(ctx context.Context) ([]model.Instance, error)
	// EnableModel lets commands to a model or refuses them, and returns it as it is
	// then. scripts.ErrConflict where its definition keeps it disabled.
	EnableModel(ctx context.Context, id string, enabled bool) (model.Instance, error)
	// Values returns a model's values by point name. A value with a zero Time
	// was never good.
	Values(ctx context.Context, id string) (map[string]model.Value, error)
	// ValuesOf returns the values of several models at once, by model and name;
	// models that do not exist are not in it.
	ValuesOf(ctx context.Context, ids ...string) (map[string]map[string]model.Value, error)
	// Cached returns what build makes, or what it made before while that is true.
	// The bytes are the caller's. It fails only where build does.
	Cached(ctx context.Context, a scripts.Answer, build func() ([]byte, error)) ([]byte, error)
	// Control submits a command and waits for its final state, or until its
	// deadline: then it returns the state so far and no error.
	Control(ctx context.Context, c model.Command) (model.CommandResult, error)
	// Await waits as Control does for a command that was submitted with that timeout.
	// It never gives it again, whatever the store has lost.
	Await(ctx context.Context, r model.CommandResult, timeout time.Duration) (model.CommandResult, error)
	// Submit submits a command and does not wait.
	Submit(ctx context.Context, c model.Command) (model.CommandResult, error)
	// Command returns a command's record.
	Command(ctx context.Context, id string) (model.CommandResult, error)
	// Cancel takes back a command that was not sent yet.
	Cancel(ctx context.Context, id, by string) (model.CommandResult, error)
	// CommandJournal returns up to limit transitions after a position; "" is the
	// oldest that is kept.
	CommandJournal(ctx context.Context, after string, limit int) ([]model.CommandEvent, error)
	// Alarms returns every open alarm.
	Alarms(ctx context.Context) ([]model.Alarm, error)
	// AlarmJournal returns up to limit transitions after a position; "" is the
	// oldest that is kept.
	AlarmJournal(ctx context.Context, after string, limit int) ([]model.AlarmEvent, error)
	// JournalEnds returns the positions of the newest alarm and command transitions,
	// "0" where there is none.
	JournalEnds(ctx context.Context) (alarms, commands string, err error)
	// AlarmStore is what else there is to know and to do about alarms. It fails while
	// the engine does not run.
	AlarmStore() (AlarmStore, error)
	// Points returns the definitions of a model's points by point name, for
	// labels of states and limits of commands. Points that are not defined (yet)
	// are left out. It does no I/O.
	Points(modelID string) map[string]model.Point
	// Servers returns the state of the servers towards other systems that this
	// process runs. It does no I/O.
	Servers() []model.ServerStatus
	// Audit appends entries to the audit journal.
	Audit(ctx context.Context, entries ...model.AuditEntry) error
	// AuditJournal returns up to limit entries after a position; "" is the oldest
	// that is kept.
	AuditJournal(ctx context.Context, after string, limit int) ([]model.AuditEntry, error)
	notifier
	// ScriptStats returns what the script calls of this process came to, by script.
	// It does no I/O.
	ScriptStats() []scripts.ScriptStats
	// ScriptStore is what there is to know and to change about scripts. It fails
	// while the engine does not run.
	ScriptStore() (ScriptStore, error)
}

// AlarmStore is the part of *scripts.Plane that people use to look at alarms and to do
// something about them; see there. An alarm is named by its id, or as model.AlarmRef
// names that of a rule.
type AlarmStore interface {
	Alarm(ctx context.Context, id string) (model.Alarm, error)
	QueryAlarms(ctx context.Context, q model.AlarmQuery) ([]model.Alarm, error)
	AlarmCounts(ctx context.Context) (model.AlarmCounts, error)
	AlarmJournalRange(ctx context.Context, q model.AlarmJournalQuery) ([]model.AlarmEvent, error)
	UnannouncedAlarms(ctx context.Context) ([]model.Unannounced, error)

	Acknowledge(ctx context.Context, id, by, comment string) (model.Alarm, error)
	AcknowledgeMany(ctx context.Context, ids []string, by, comment string) (changed int, err error)
	AcknowledgeAll(ctx context.Context, q model.AlarmQuery, by, comment string) (changed int, err error)
	CloseAlarm(ctx context.Context, id, by, comment string) (model.Alarm, error)
	ResetAlarm(ctx context.Context, id, by, comment string) (model.Alarm, error)
	Shelve(ctx context.Context, alarm, by, reason string, d time.Duration) (model.Alarm, error)
	Unshelve(ctx context.Context, alarm, by, comment string) (model.Alarm, error)
	OutOfService(ctx context.Context, alarm, by, reason string) (model.Alarm, error)
	InService(ctx context.Context, alarm, by, comment string) (model.Alarm, error)

	AllAlarmRules(ctx context.Context) (rules []model.AlarmRule, problems []string, err error)
	AlarmRule(ctx context.Context, modelID, point, id string) (model.AlarmRule, error)
	PutAlarmRule(ctx context.Context, r model.AlarmRule) error
	DropAlarmRule(ctx context.Context, modelID, point, id string) error
}

// ScriptStore is the part of *scripts.Plane that knows and changes the scripts
// of the site; see there.
type ScriptStore interface {
	ScriptStates(ctx context.Context) ([]scripts.ScriptState, error)
	ScriptState(ctx context.Context, name string) (scripts.ScriptState, error)
	ScriptSource(ctx context.Context, name, version string) (scripts.Script, error)
	ScriptJournal(ctx context.Context, after string, limit int) ([]scripts.ScriptEvent, error)
	StoredStats(ctx context.Context, name string) (scripts.ScriptStats, error)
	VerifyScript(ctx context.Context, s scripts.Script) error
	ActivateScript(ctx context.Context, s scripts.Script, c scripts.Change) error
	RollbackScript(ctx context.Context, name string, c scripts.Change) (string, error)
	CanaryScript(ctx context.Context, s scripts.Script, channels []string, c scripts.Change) error
	EndCanary(ctx context.Context, name string, c scripts.Change) error
	Share(ctx context.Context, percent int) ([]string, error)
	SyncModes(ctx context.Context) (map[string]scripts.SyncMode, error)
	SetSyncMode(ctx context.Context, m scripts.SyncMode, channels []string, c scripts.Change) error
}
