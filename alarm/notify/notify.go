// Package notify tells people and other systems of alarms: it takes what waits in
// notification:queue, finds the targets by the routes, and delivers to each at
// least once, whatever dies in between. How a target is reached is a Sender's
// affair; those of Voltage are in the packages below this one, and a program links
// those that it imports.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
)

// Defaults and bounds of a Config.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultRate        = 60 // messages a minute
	DefaultMaxAge      = 24 * time.Hour
	DefaultMaxAttempts = 300
	// MaxTargets and MaxRoutes bound what one message can become.
	MaxTargets = 32
	MaxRoutes  = 200
	maxTimeout = 10 * time.Minute
	maxAge     = 30 * 24 * time.Hour
	maxRate    = 6000
	maxSteps   = 10 // of an escalation
)

// Sender delivers messages to one target. Send is called by one goroutine at a
// time, except for tests, which may come in between. It returns nil only when
// the target has taken the message, gives up when ctx ends, and may be called
// again with a message that was delivered before: the ID is the same then. An
// error that wraps ErrPermanent will be the same next time; after any other one
// the message is sent again later, not before what RetryAfter says. A Sender that is
// an io.Closer is closed at the end.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// ErrPermanent: the target will not take this message, however often it is sent.
var ErrPermanent = errors.New("refused for good")

// ErrNotDelivered: the target of a test did not take it; the error has the reason.
var ErrNotDelivered = errors.New("not delivered")

// Permanent marks an error as one that will be the same next time.
func Permanent(err error) error { return fmt.Errorf("%w: %w", ErrPermanent, err) }

// retryAfter is an error with the time after which the target wants to be asked again.
type retryAfter struct {
	error
	after time.Duration
}

func (r *retryAfter) Unwrap() error { return r.error }

// RetryAfter says when the target wants to be asked again. More than an hour
// counts as an hour.
func RetryAfter(err error, d time.Duration) error { return &retryAfter{err, d} }

// Setup is what a Factory gets. Every field is filled in.
type Setup struct {
	// ID is the target's id, Site the name of the site, which may be empty, and
	// Engine that of the engine.
	ID, Site, Engine string
	Log              *slog.Logger
	Clock            model.Clock
}

// Factory makes the Sender of one target. It checks all settings and does no I/O,
// save that it may read files that the settings name. Errors wrap
// model.ErrInvalid and name what is wrong.
type Factory func(Setup) (Sender, error)

// Kind makes a sender known to configuration files, where targets say "sender:
// NAME" and keep the settings in a section of that name. alarm/notify/all gathers
// those of Voltage.
type Kind struct {
	// Name is how a file names the sender, such as "smtp".
	Name string
	// Open makes the Factory. It decodes the settings as channel.Kind's does.
	Open func(decode func(any) error) (Factory, error)
	// Texts makes a Texts of the templates of a file. A Kind has either Open or
	// Texts, and of those with Texts there is one at most.
	Texts func(subject, body string) (Texts, error)
}

// Texts makes the subject and the text of a message for people. It is called
// from several goroutines.
type Texts interface {
	Render(m Message) (subject, body string, err error)
}

// Config says who is told of what. The zero value tells nobody: then nothing is
// taken from the queue. All engines of a site that tell anybody must have the
// same.
type Config struct {
	Targets []Target
	Routes  []Route
	// MaxAge is after how long a message that does not get through is given up.
	// Zero means a day; from a minute to 30 days.
	MaxAge time.Duration
	// MaxAttempts is after how many attempts it is given up. Zero means 300, for
	// which a target has to be down for about a day.
	MaxAttempts int
}

// Target is somebody who can be told.
type Target struct {
	// ID names the target. Required.
	ID string
	// Sender reaches it. Required.
	Sender Factory
	// Language is that of its texts, English or Chinese. Empty means English.
	Language Language
	// Rate is how many messages a minute it gets one by one. Those above wait and
	// come together in one when the minute is over; critical ones do not wait.
	// Zero means 60, negative any number.
	Rate int
	// Timeout bounds one attempt. Zero means 30 s; at most 10 minutes.
	Timeout time.Duration
	// Texts are the target's own. Nil means those of this package, in its language.
	Texts Texts
}

// Route says which messages go to which targets. A message goes to the targets of
// all routes that it matches, to each once.
type Route struct {
	// Severity is the least. Empty means any.
	Severity model.Severity
	// Types are those of the messages, TypeAlarm and TypeNotification or what other
	// programs write. Empty means these two.
	Types []string
	// Models are ids of models; a trailing * stands for any rest. Empty means all,
	// and also messages of no model.
	Models []string
	// Transitions are those of alarms. Empty means what wants attention: raised,
	// reraised, and the end of a suppression while the alarm is active.
	Transitions []model.AlarmTransition
	// Targets are ids. Required.
	Targets []string
	// Language overrides that of the targets. Empty leaves it.
	Language Language
	// Escalate tells others of alarms that wanted attention and were not
	// acknowledged in time.
	Escalate []Escalation
}

// Escalation is one step: an alarm that is still active and unacknowledged after
// a time goes to further targets.
type Escalation struct {
	// After counts from the message that wanted attention. Up to 30 days.
	After   time.Duration
	Targets []string
}

// Empty reports whether nobody is to be told.
func (c Config) Empty() bool { return len(c.Targets) == 0 }

// WithDefaults returns the configuration with zero values filled in.
func (c Config) WithDefaults() Config {
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = DefaultMaxAttempts
	}
	c.Targets = slices.Clone(c.Targets)
	for i := range c.Targets {
		t := &c.Targets[i]
		if t.Language == "" {
			t.Language = English
		}
		if t.Rate == 0 {
			t.Rate = DefaultRate
		}
		if t.Timeout == 0 {
			t.Timeout = DefaultTimeout
		}
		if t.Texts == nil {
			t.Texts = builtIn{}
		}
	}
	return c
}

// Validate returns every fault, each naming what and where and wrapping
// model.ErrInvalid. It does not ask the senders; their Factories do that.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: notifications: "+format, append([]any{model.ErrInvalid}, args...)...))
	}
	if c.MaxAge != 0 && (c.MaxAge < time.Minute || c.MaxAge > maxAge) {
		bad("max_age %s: want 1m to %s", c.MaxAge, maxAge)
	}
	if c.MaxAttempts < 0 || c.MaxAttempts > 1e6 {
		bad("max_attempts %d: want 1 to 1000000", c.MaxAttempts)
	}
	if len(c.Targets) > MaxTargets {
		bad("targets: %d: at most %d", len(c.Targets), MaxTargets)
	}
	if len(c.Routes) > MaxRoutes {
		bad("routes: %d: at most %d", len(c.Routes), MaxRoutes)
	}
	known := map[string]bool{}
	for _, t := range c.Targets {
		if err := t.validate(); err != nil {
			bad("%w", err)
		}
		if known[t.ID] {
			bad("target %s is there twice", t.ID)
		}
		known[t.ID] = true
	}
	for i, r := range c.Routes {
		if err := r.validate(known); err != nil {
			bad("route %d: %w", i+1, err)
		}
	}
	return errors.Join(errs...)
}

func (t Target) validate() error {
	if err := model.CheckID("target", t.ID); err != nil {
		return err
	}
	switch {
	case t.Sender == nil:
		return fmt.Errorf("target %s: sender: nothing to send with", t.ID)
	case t.Language != "" && !t.Language.valid():
		return fmt.Errorf("target %s: language %.20q: want en or zh", t.ID, t.Language)
	case t.Rate > maxRate:
		return fmt.Errorf("target %s: rate %d: want up to %d messages a minute", t.ID, t.Rate, maxRate)
	case t.Timeout != 0 && (t.Timeout < 100*time.Millisecond || t.Timeout > maxTimeout):
		return fmt.Errorf("target %s: timeout %s: want 100ms to %s", t.ID, t.Timeout, maxTimeout)
	}
	return nil
}

// validate checks a route. known are the targets that there are.
func (r Route) validate(known map[string]bool) error {
	targets := func(list []string) error {
		if len(list) == 0 {
			return errors.New("targets: missing")
		}
		for _, id := range list {
			if !known[id] {
				return fmt.Errorf("targets: there is no target %.80q", id)
			}
		}
		return nil
	}
	if r.Severity != "" && !r.Severity.Valid() {
		return fmt.Errorf("severity %.20q: want low, medium, high or critical", r.Severity)
	}
	if r.Language != "" && !r.Language.valid() {
		return fmt.Errorf("language %.20q: want en or zh", r.Language)
	}
	for _, t := range r.Types {
		if !model.ValidID(t) {
			return fmt.Errorf("types: %.40q: want names such as alarm and notification", t)
		}
	}
	for _, m := range r.Models {
		if stem := strings.TrimSuffix(m, "*"); m == "" || stem != "" && !model.ValidID(stem) {
			return fmt.Errorf("models: %.80q: want ids, perhaps with a * at the end", m)
		}
	}
	for _, t := range r.Transitions {
		if !slices.Contains(transitions, t) {
			return fmt.Errorf("transitions: %.40q: want some of %s", t, joined(transitions))
		}
	}
	if err := targets(r.Targets); err != nil {
		return err
	}
	if len(r.Escalate) > maxSteps {
		return fmt.Errorf("escalate: %d steps: at most %d", len(r.Escalate), maxSteps)
	}
	for _, step := range r.Escalate {
		if step.After < time.Second || step.After > maxAge {
			return fmt.Errorf("escalate: after %s: want 1s to %s", step.After, maxAge)
		}
		if err := targets(step.Targets); err != nil {
			return fmt.Errorf("escalate: %w", err)
		}
	}
	return nil
}

func joined[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}
