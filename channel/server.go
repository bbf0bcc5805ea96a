package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/voltageems/voltage/model"
)

// ErrNoModel: there is no such model on the site, or not any more.
var ErrNoModel = errors.New("no such model")

// Northbound is what a server towards the outside (Modbus, IEC 60870-5-104, …)
// sees of the site: it shows values and passes commands on. The engine
// implements it. All methods may be called from any goroutine.
type Northbound interface {
	// Values returns the current values of a model's points, by name; a point
	// that never had a good value has the zero Time. The error wraps ErrNoModel
	// where there is no such model.
	Values(ctx context.Context, modelID string) (map[string]model.Value, error)
	// ChannelValues returns the current values of a channel's points, by id; none
	// where there is no such channel. Time is set only for points whose device
	// gives one.
	ChannelValues(ctx context.Context, channelID string) (map[string]model.Value, error)
	// Models returns the site's models, by which a server tells what its settings
	// name and the site does not have.
	Models(ctx context.Context) ([]model.Instance, error)
	// Watch calls fn, on the caller's goroutine, for every change of a value or
	// quality of any model until ctx or the run of the site ends, and returns the error
	// that says which. A slow fn loses the oldest changes. An Update
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
	ID string
	// Report says what is wrong while the server runs and does not keep it from
	// running, such as settings that name a point that the site does not have.
	// Each call replaces what the one before said; none means that all is well.
	Report func(problems ...string)
	Log    *slog.Logger
	Clock  model.Clock
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

// Title returns Name, or ID where there is no name.
func (c ServerConfig) Title() string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
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

// NewServer makes the server. It does no I/O. Errors name the server; a
// ServerFactory that panics is an error too. A nil report is nobody who listens.
func (c ServerConfig) NewServer(log *slog.Logger, clock model.Clock, report func(problems ...string)) (s Server, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("%w: server %s: making it panicked: %v", model.ErrInvalid, c.ID, p)
		}
	}()
	if report == nil {
		report = func(...string) {}
	}
	s, err = c.Server(ServerSetup{ID: c.ID, Report: report, Log: log.With("server", c.ID), Clock: clock})
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", c.ID, err)
	}
	if s == nil {
		return nil, fmt.Errorf("%w: server %s: the factory made no server", model.ErrInvalid, c.ID)
	}
	return s, nil
}
