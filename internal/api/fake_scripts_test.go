package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/voltageems/voltage/scripts"
)

// fakeScripts has one script, data_sync of this build.
type fakeScripts struct {
	mu    sync.Mutex
	state *scripts.ScriptState
	texts map[string]scripts.Script // by version
	modes map[string]scripts.SyncMode
	last  scripts.Change
	named []string         // the channels of the last change
	errs  map[string]error // what one method answers
	wait  bool             // VerifyScript waits for the end of its context
	busy  chan struct{}    // told when VerifyScript waits
	under int              // calls of VerifyScript that wait
	most  int              // the most at once
}

func (s *fakeSite) ScriptStore() (ScriptStore, error) {
	if err := s.errs["ScriptStore"]; err != nil {
		return nil, err
	}
	f := &s.scripts
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == nil {
		own := ownScript()
		f.state = &scripts.ScriptState{Name: own.Name, Own: own.Version, Active: own.Version, SHA: own.SHA, Activated: start,
			History: []string{"1.0.0+00000001"}, Canary: map[string]string{}}
		f.texts = map[string]scripts.Script{own.Version: own, "1.0.0+00000001": {Name: own.Name, Version: "1.0.0+00000001", Text: "return 1\n"}}
		f.modes = map[string]scripts.SyncMode{"*": scripts.SyncLua}
	}
	return f, nil
}

// ownScript is data_sync of this build.
func ownScript() scripts.Script {
	all, err := scripts.Scripts()
	if err != nil {
		panic(err)
	}
	return all[slices.IndexFunc(all, func(s scripts.Script) bool { return s.Name == "data_sync" })]
}

// begin returns what the method is to answer. The caller holds mu.
func (f *fakeScripts) begin(method, name string) error {
	if err := f.errs[method]; err != nil {
		return err
	}
	if name != "" && name != f.state.Name {
		return fmt.Errorf("script %q: %w", name, scripts.ErrNotFound)
	}
	return nil
}

func (f *fakeScripts) ScriptStates(context.Context) ([]scripts.ScriptState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []scripts.ScriptState{*f.state}, f.begin("ScriptStates", "")
}

func (f *fakeScripts) ScriptState(_ context.Context, name string) (scripts.ScriptState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *f.state, f.begin("ScriptState", name)
}

func (f *fakeScripts) ScriptSource(_ context.Context, name, version string) (scripts.Script, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if version == "" {
		version = f.state.Active
	}
	s, ok := f.texts[version]
	if !ok {
		return s, fmt.Errorf("script %q version %q: %w", name, version, scripts.ErrNotFound)
	}
	return s, f.begin("ScriptSource", name)
}

func (f *fakeScripts) ScriptJournal(_ context.Context, after string, limit int) ([]scripts.ScriptEvent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var events []scripts.ScriptEvent
	for _, ev := range []scripts.ScriptEvent{
		{Position: "1-0", Time: start, Script: "data_sync", Event: "activated", Version: "1.0.0+00000001", By: "start"},
		{Position: "2-0", Time: start, Script: "data_sync", Event: "activated", Version: "1.1.0+00000002", Before: "1.0.0+00000001", By: "anna"},
	} {
		if ev.Position > after && len(events) < limit {
			events = append(events, ev)
		}
	}
	return events, f.begin("ScriptJournal", "")
}

func (f *fakeScripts) StoredStats(_ context.Context, name string) (scripts.ScriptStats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return scripts.ScriptStats{Script: name, Calls: 100, Errors: 2, Slow: 1, Points: 1000, Total: 200 * time.Millisecond, Max: 50 * time.Millisecond,
		Last: start, Refused: map[string]int64{"FENCED": 3}, Histogram: []scripts.StatsBucket{{UpTo: time.Millisecond, Calls: 90}, {UpTo: 10 * time.Millisecond, Calls: 99}},
		Versions: []scripts.ScriptStats{{Version: "1.1.0+00000002", Calls: 60}}}, f.begin("StoredStats", name)
}

func (f *fakeScripts) VerifyScript(ctx context.Context, s scripts.Script) error {
	f.mu.Lock()
	wait, err := f.wait, f.begin("VerifyScript", s.Name)
	f.under++
	f.most = max(f.most, f.under)
	f.mu.Unlock()
	if wait {
		f.busy <- struct{}{}
		<-ctx.Done()
		err = ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under--
	return err
}

func (f *fakeScripts) ActivateScript(_ context.Context, s scripts.Script, c scripts.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.state.Active = c, s.Version
	return f.begin("ActivateScript", s.Name)
}

func (f *fakeScripts) RollbackScript(_ context.Context, name string, c scripts.Change) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.state.Active = c, f.state.History[0]
	return f.state.Active, f.begin("RollbackScript", name)
}

func (f *fakeScripts) CanaryScript(_ context.Context, s scripts.Script, channels []string, c scripts.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.named = c, channels
	for _, id := range channels {
		f.state.Canary[id] = s.Version
	}
	return f.begin("CanaryScript", s.Name)
}

func (f *fakeScripts) EndCanary(_ context.Context, name string, c scripts.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = c
	clear(f.state.Canary)
	return f.begin("EndCanary", name)
}

func (f *fakeScripts) Share(_ context.Context, percent int) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("Share", ""); err != nil || percent == 1 {
		return nil, err
	}
	return []string{"1001", "1003"}, nil
}

func (f *fakeScripts) SyncModes(context.Context) (map[string]scripts.SyncMode, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.modes), f.begin("SyncModes", "")
}

func (f *fakeScripts) SetSyncMode(_ context.Context, m scripts.SyncMode, channels []string, c scripts.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last, f.named = c, channels
	if len(channels) == 0 {
		f.modes = map[string]scripts.SyncMode{"*": m}
	}
	for _, id := range channels {
		f.modes[id] = m
	}
	return f.begin("SetSyncMode", "")
}
