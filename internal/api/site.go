package api

import (
	"context"

	"github.com/voltageems/voltage/model"
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
	// Models returns every model, the disabled ones as well.
	Models(ctx context.Context) ([]model.Instance, error)
	// Values returns a model's values by point name. A value with a zero Time
	// was never good.
	Values(ctx context.Context, id string) (map[string]model.Value, error)
	// Control submits a command and waits for its final state, or until its
	// deadline: then it returns the state so far and no error.
	Control(ctx context.Context, c model.Command) (model.CommandResult, error)
	// Submit submits a command and does not wait.
	Submit(ctx context.Context, c model.Command) (model.CommandResult, error)
	// Command returns a command's record.
	Command(ctx context.Context, id string) (model.CommandResult, error)
	// Cancel takes back a command that was not sent yet.
	Cancel(ctx context.Context, id, by string) (model.CommandResult, error)
	// Alarms returns every open alarm.
	Alarms(ctx context.Context) ([]model.Alarm, error)
	// Alarm returns one alarm, also a closed one while its record is kept.
	Alarm(ctx context.Context, id string) (model.Alarm, error)
	// AlarmJournal returns up to limit transitions after a position; "" is the
	// oldest that is kept.
	AlarmJournal(ctx context.Context, after string, limit int) ([]model.AlarmEvent, error)
	// Acknowledge and CloseAlarm return the alarm as it is afterwards.
	Acknowledge(ctx context.Context, id, by, comment string) (model.Alarm, error)
	CloseAlarm(ctx context.Context, id, by, comment string) (model.Alarm, error)
	// Points returns the definitions of a model's points by point name, for
	// labels of states and limits of commands. Points that are not defined (yet)
	// are left out. It does no I/O.
	Points(modelID string) map[string]model.Point
}
