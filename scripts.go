package voltage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// ScriptConfig says which scripts an engine runs, and how.
type ScriptConfig struct {
	// Folder has scripts in the layout of scripts/lua: <name>.lua and
	// include/<name>.lua. Those that are newer than the active ones are verified and
	// activated for the whole site, soon after the start and again when a file
	// changes. What is not accepted changes nothing and is in Engine.Problems.
	// Empty means none.
	Folder string
	// Updates lets the HTTP API change scripts and sync modes. There is no
	// authentication yet: whoever reaches the port can then run code in the store.
	Updates bool
	// Sync are the ways in which values are stored, by channel id, and under "*"
	// for all that have none of their own. They are written only for channels to
	// which no mode on the store applies yet: what was chosen at run time stays.
	// Empty means scripts.SyncLua.
	Sync map[string]scripts.SyncMode
	// Probation is how long a script that became active is rolled back by itself
	// when it fails. Zero means an hour, negative never.
	Probation time.Duration
	// Slow is how long a script call may take before it is counted as slow and
	// warned about. Zero means 100 ms, negative never.
	Slow time.Duration
}

func (c ScriptConfig) validate() error {
	var errs []error
	for _, channel := range slices.Sorted(maps.Keys(c.Sync)) {
		if err := checkSync(channel, c.Sync[channel]); err != nil {
			errs = append(errs, fmt.Errorf("scripts: sync: %w", err))
		}
	}
	return errors.Join(errs...)
}

func checkSync(channel string, m scripts.SyncMode) error {
	if channel != "*" {
		if err := model.CheckID("channel", channel); err != nil {
			return err
		}
	}
	_, err := scripts.ParseSyncMode(string(m))
	return err
}

// Scripts returns the state of every script of this program, by name.
func (e *Engine) Scripts(ctx context.Context) ([]scripts.ScriptState, error) {
	if _, ok := e.running(); !ok {
		return nil, ErrNotRunning
	}
	return e.plane.ScriptStates(ctx)
}

// ActivateScript verifies a script, such as one that scripts.ComposeFolder or
// scripts.ParseScript made, and makes it the active one for all engines of the
// site, without losing a sample. scripts.ErrRefused says what is wrong with it,
// scripts.ErrConflict that it is not newer than the active one.
func (e *Engine) ActivateScript(ctx context.Context, s scripts.Script, c scripts.Change) error {
	if _, ok := e.running(); !ok {
		return ErrNotRunning
	}
	return e.plane.ActivateScript(ctx, s, c)
}

// RollbackScript makes the version before the active one active again, and
// returns it. scripts.ErrConflict where there is none.
func (e *Engine) RollbackScript(ctx context.Context, name string, c scripts.Change) (version string, err error) {
	if _, ok := e.running(); !ok {
		return "", ErrNotRunning
	}
	return e.plane.RollbackScript(ctx, name, c)
}

// SetSyncMode changes how the values of channels are stored, of all channels
// where none is named, at run time.
func (e *Engine) SetSyncMode(ctx context.Context, m scripts.SyncMode, channels []string, c scripts.Change) error {
	if _, ok := e.running(); !ok {
		return ErrNotRunning
	}
	return e.plane.SetSyncMode(ctx, m, channels, c)
}

// scriptsChanged is the hint that something about the scripts changed.
func (e *Engine) scriptsChanged() {
	select {
	case e.scriptHint <- struct{}{}:
	default: // somebody will look anyway
	}
}

// followScripts takes notice of changes of the scripts, when told and every few
// seconds. It has a goroutine of its own: neither the subscription nor the
// reconciliation waits for it.
func (e *Engine) followScripts(ctx context.Context) {
	failing := false
	for {
		err := e.plane.FollowScripts(ctx)
		if ctx.Err() != nil {
			return
		}
		away := errors.Is(err, scripts.ErrStore) || errors.Is(err, context.DeadlineExceeded)
		if away && !failing {
			e.log.Warn("the scripts are not followed; repeating", "error", err)
		}
		if failing = away; !away {
			var found []string
			if err != nil {
				found = []string{err.Error()}
			}
			e.problems.set(e.log, problemScripts, found)
		}
		select {
		case <-ctx.Done():
			return
		case <-e.scriptHint:
		case <-e.cfg.Clock.After(reconcilePeriod):
		}
	}
}
