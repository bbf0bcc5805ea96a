package voltage

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/internal/runner"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/rule"
	"github.com/voltageems/voltage/scripts"
)

// Defaults of a Config.
const (
	DefaultEngine = "engine"
	DefaultLease  = runner.DefaultLease // 5 s
	DefaultCache  = 5 * time.Second
)

// Config is what an Engine is made of. The zero value is a working engine
// without devices on the embedded store.
type Config struct {
	// Site names the site and keeps its data apart from other sites' on the
	// same store. Empty means bare key names, as other programs know them; a
	// Redis Cluster needs a name.
	Site string
	// Engine names this engine among those of the site, the same at every
	// start. Empty means "engine". What an engine of this name had defined and
	// its configuration has no more is removed at start.
	Engine string
	// Store says where the data lives. The zero value is the embedded store,
	// which keeps nothing across restarts.
	Store scripts.StoreConfig
	// Channels, Models, Alarms and Rules are registered by NewEngine; more can
	// be registered at any time.
	Channels []channel.Config
	Models   []model.Instance
	Alarms   []alarm.Rule
	Rules    []rule.Rule
	// Servers show the site to other systems; more can be registered at any time.
	Servers []channel.ServerConfig
	// Notifications say who is told of alarms. The zero value tells nobody.
	Notifications notify.Config
	// HTTP is the engine's own server; Engine.Handler serves the same elsewhere.
	HTTP HTTP
	// Scripts says which scripts run, and how. The zero value runs those of this
	// build, or newer ones that are active on the site.
	Scripts ScriptConfig
	// Lease is how long a channel stays with an engine that died. Zero means
	// 5 s, the least is 1 s.
	Lease time.Duration
	// HistoryQueue and CloudQueue bound hissrv:queue and cloud:queue, in bytes.
	// Zero means that nothing is appended: there is nobody to read it.
	HistoryQueue int64
	CloudQueue   int64
	// Log is slog.Default() when nil.
	Log *slog.Logger
	// Clock is model.SystemClock when nil.
	Clock model.Clock
}

// WithDefaults returns the configuration with zero values filled in.
func (c Config) WithDefaults() Config {
	if c.Engine == "" {
		c.Engine = DefaultEngine
	}
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	c.HTTP = c.HTTP.withDefaults()
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = model.SystemClock
	}
	c.Store = c.Store.WithDefaults()
	return c
}

// Validate returns every fault of the configuration, each naming what and
// where. It does no I/O.
func (c Config) Validate() error {
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if c.Site != "" {
		add(model.CheckID("site", c.Site))
	}
	if c.Engine != "" {
		add(model.CheckID("engine", c.Engine))
	}
	if c.Lease != 0 && c.Lease < time.Second {
		add(fmt.Errorf("%w: lease %s: want at least 1s", model.ErrInvalid, c.Lease))
	}
	if c.HistoryQueue < 0 || c.CloudQueue < 0 {
		add(fmt.Errorf("%w: queues: want zero or more bytes", model.ErrInvalid))
	}
	add(c.Store.Validate())
	add(c.HTTP.validate())
	add(c.Scripts.validate())
	seen := map[string]bool{}
	once := func(what, id string) {
		if seen[what+id] {
			add(fmt.Errorf("%w: %s %s is there twice", model.ErrInvalid, what, id))
		}
		seen[what+id] = true
	}
	for _, ch := range c.Channels {
		add(ch.Validate())
		if model.IsCalculationChannel(ch.ID) {
			add(errReservedChannel(ch.ID))
		}
		once("channel", ch.ID)
	}
	for _, m := range c.Models {
		add(m.Validate())
		once("model", m.ID)
	}
	add(checkModels(c.Models))
	for _, r := range c.Alarms {
		add(r.Validate())
		once("alarm rule", r.Model+":"+r.Point+":"+r.ID)
	}
	for _, r := range c.Rules {
		add(r.Validate())
		once("rule", r.ID)
	}
	for _, s := range c.Servers {
		add(s.Validate())
		once("server", s.ID)
	}
	add(c.Notifications.Validate())
	return errors.Join(errs...)
}
