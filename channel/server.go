package channel

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/voltageems/voltage/model"
)

// Northbound is what a server towards the outside (Modbus, IEC 60870-5-104, …)
// sees of the site: it shows values and passes commands on. The engine
// implements it. All methods may be called from any goroutine.
type Northbound interface {
	// Values returns the current values of a model's points, by name; a point
	// that never had a good value has the zero Time.
	Values(ctx context.Context, modelID string) (map[string]model.Value, error)
	// ChannelValues returns the current values of a channel's points, by id.
	ChannelValues(ctx context.Context, channelID string) (map[string]model.Value, error)
	// Watch calls fn, on the caller's goroutine, for every change of a value or
	// quality of any model until ctx ends, and returns ctx's error. An Update
	// without a model says that changes were missed: read again what is shown.
	// The first one comes at once, as nothing was read yet.
	Watch(ctx context.Context, fn func(model.Update)) error
	// Control gives a command and waits for its final state, at most until
	// shortly after its deadline. The error is nil only when the device certainly
	// took it.
	Control(ctx context.Context, c model.Command) (model.CommandResult, error)
}

// Server shows the site to another system over a protocol of its own.
type Server interface {
	// Serve binds and serves until ctx ends, and then returns nil within a
	// second with everything closed. Any other return is a failure; the engine
	// calls Serve again, later and later.
	Serve(ctx context.Context, n Northbound) error
}

// ServerSetup is what a ServerFactory gets. Every field is filled in.
type ServerSetup struct {
	// ID is the server's id.
	ID    string
	Log   *slog.Logger
	Clock model.Clock
}

// ServerFactory makes a server. It checks all settings and does no I/O. Errors
// wrap model.ErrInvalid and name what is wrong.
type ServerFactory func(ServerSetup) (Server, error)

// ServerConfig describes a server.
type ServerConfig struct {
	// ID names the server. Required.
	ID string
	// Name is for people and defaults to ID.
	Name string
	// Server makes it. Required.
	Server ServerFactory
	// Disabled servers are known and checked, but not run.
	Disabled bool
}

// Validate returns a model.ErrInvalid that says what is wrong. It does not ask
// the server; its ServerFactory does that.
func (c ServerConfig) Validate() error {
	if err := model.CheckID("server", c.ID); err != nil {
		return err
	}
	if c.Server == nil {
		return fmt.Errorf("%w: server %s: nothing to serve with", model.ErrInvalid, c.ID)
	}
	return nil
}
