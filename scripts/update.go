package scripts

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// Bounds of what is kept about versions.
const (
	// versionsKept is how many earlier versions of a script a rollback can go
	// back through; the sources of older ones are removed.
	versionsKept = 10
	// scriptJournal is the number of entries of lua:journal.
	scriptJournal = 1000
	// MaxScript is the longest text of a script, in bytes.
	MaxScript = 256 << 10
)

// Change says who changes scripts, and why; both go to the script journal.
type Change struct {
	// By is who asked: a person, a program, "auto".
	By string
	// Reason is free text of at most 500 bytes.
	Reason string
}

// ScriptState is what is known of one script on the store.
type ScriptState struct {
	Name string `json:"name"`
	// Own is the version of this program, empty for a script that only the
	// store has.
	Own string `json:"own,omitempty"`
	// Active is the version that every engine runs.
	Active string `json:"active"`
	SHA    string `json:"sha"`
	// Activated is when, zero where nobody knows.
	Activated time.Time `json:"activated,omitzero"`
	// Canary is the version on trial for each channel.
	Canary map[string]string `json:"canary,omitempty"`
	// History are the versions that were active before, the newest first.
	History []string `json:"history,omitempty"`
	// Refused are the versions that were rolled back, and why. No engine
	// activates them by itself.
	Refused map[string]string `json:"refused,omitempty"`
}

// ScriptEvent is one entry of the script journal.
type ScriptEvent struct {
	Position string    `json:"position"`
	Time     time.Time `json:"time"`
	Script   string    `json:"script"`
	// Event is activated, rolled_back, canary, canary_ended, canary_refused, or
	// sync: channels changed their SyncMode, which the reason names.
	Event string `json:"event"`
	// Version is empty for sync.
	Version string `json:"version"`
	Before  string `json:"before,omitempty"`
	By      string `json:"by,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// ScriptStates returns the state of every script of this program, by name.
func (p *Plane) ScriptStates(ctx context.Context) ([]ScriptState, error) {
	var list []ScriptState
	for _, name := range slices.Sorted(maps.Keys(p.scripts)) {
		st, err := p.ScriptState(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, st)
	}
	return list, nil
}

// ScriptState returns the state of one script. ErrNotFound where neither this
// program nor the store has it.
func (p *Plane) ScriptState(ctx context.Context, name string) (ScriptState, error) {
	st := ScriptState{Name: name}
	if s, ok := p.scripts[name]; ok {
		st.Own = s.own.Version
	}
	if err := model.CheckID("script", name); err != nil {
		return st, err
	}
	pipe := p.client.Pipeline()
	version, sha := pipe.Get(ctx, p.keys.scriptVersion(name)), pipe.Get(ctx, p.keys.scriptSHA(name))
	since, canary := pipe.Get(ctx, p.keys.scriptSince(name)), pipe.HGetAll(ctx, p.keys.scriptCanary(name))
	history, refused := pipe.LRange(ctx, p.keys.scriptHistory(name), 0, versionsKept), pipe.HGetAll(ctx, p.keys.scriptRefused(name))
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return st, storeError("reading the versions of script "+name, err)
	}
	st.Active, st.SHA, st.Activated = version.Val(), sha.Val(), millis(since.Val())
	if st.Active == "" && st.Own == "" {
		return st, fmt.Errorf("script %.64q: %w", name, ErrNotFound)
	}
	st.Canary, st.History, st.Refused = canary.Val(), history.Val(), refused.Val()
	return st, nil
}

// ScriptSource returns a version of a script as the store has it; "" is the
// active one.
func (p *Plane) ScriptSource(ctx context.Context, name, version string) (Script, error) {
	if err := model.CheckID("script", name); err != nil {
		return Script{}, err
	}
	if version == "" {
		var err error
		if version, err = p.client.Get(ctx, p.keys.scriptVersion(name)).Result(); err != nil && !isNil(err) {
			return Script{}, storeError("reading the version of "+name, err)
		}
	}
	text, err := p.client.Get(ctx, p.keys.scriptSource(name, version)).Result()
	if isNil(err) {
		return Script{}, fmt.Errorf("script %.64q version %.40q: %w", name, version, ErrNotFound)
	}
	if err != nil {
		return Script{}, storeError("reading the source of "+name, err)
	}
	return newScript(name, version, text), nil
}

// ActivateScript verifies a script and makes it the active one, for all engines
// of the site at once: it is loaded on every node first, then one transaction
// makes the switch, and from then on calls of the version before are refused
// without effect and repeated with this one. Its version must be newer than the
// active one, or one that was active before.
//
// A major version that this program does not know is refused (ErrVersion), as is
// a script that does not pass VerifyScript.
func (p *Plane) ActivateScript(ctx context.Context, s Script, c Change) error {
	return p.activateIf(ctx, s, c, func(st ScriptState) error {
		if st.Active == s.Version || slices.Contains(st.History, s.Version) {
			return nil
		}
		return newer(s, st.Active)
	})
}

func (p *Plane) activateIf(ctx context.Context, s Script, c Change, allowed func(ScriptState) error) error {
	if err := p.admit(ctx, s, c); err != nil {
		return err
	}
	before, err := p.switchScript(ctx, s, "activated", c, allowed)
	if err != nil {
		return err
	}
	p.log.Warn("script activated", "site", p.options.Site, "script", s.Name, "version", s.Version, "before", before, "by", c.By, "reason", c.Reason)
	return nil
}

// newer returns nil when the script may follow the active version.
func newer(s Script, active string) error {
	if active == "" {
		return nil
	}
	order, err := compareVersions(s.Version, active)
	if err != nil {
		return err
	}
	if order <= 0 {
		return fmt.Errorf("%w: script %s: version %s is not newer than %s, which is active: raise @version", ErrConflict, s.Name, s.Version, active)
	}
	return nil
}

// UpdateScript is ActivateScript for programs that act by themselves, such as one
// that watches a folder: ErrConflict also where the version was rolled back, while
// it was verified at the latest.
func (p *Plane) UpdateScript(ctx context.Context, s Script, c Change) error {
	return p.activateIf(ctx, s, c, func(st ScriptState) error { return newerAndWelcome(s, st) })
}

// newerAndWelcome is newer, and nil only where the version was not rolled back.
func newerAndWelcome(s Script, st ScriptState) error {
	if why, refused := st.Refused[s.Version]; refused && st.Active != "" {
		return fmt.Errorf("%w: script %s: version %s was rolled back: %s", ErrConflict, s.Name, s.Version, why)
	}
	return newer(s, st.Active)
}

// admit is everything that a script has to pass before it may run on the site's
// data.
func (p *Plane) admit(ctx context.Context, s Script, c Change) error {
	if !model.PlainText(c.By, 64) || !model.PlainText(c.Reason, 500) {
		return fmt.Errorf("%w: script %s: want plain text of at most 64 bytes for a name, 500 for a reason", model.ErrInvalid, s.Name)
	}
	own, ok := p.scripts[s.Name]
	if !ok {
		return notCalled(s.Name)
	}
	if err := sameMajor(s.Name, s.Version, own.own.Version); err != nil {
		return err
	}
	return p.VerifyScript(ctx, s)
}

// sameMajor refuses a version with another contract.
func sameMajor(name, theirs, ours string) error {
	a, err := parseVersion(theirs)
	if err != nil {
		return err
	}
	b, err := parseVersion(ours)
	if err != nil {
		return err
	}
	if a[0] != b[0] {
		return fmt.Errorf("%w: script %s is version %s, this program calls %d.x", ErrVersion, name, theirs, b[0])
	}
	return nil
}

// RollbackScript makes the version that was active before the active one again,
// and refuses the one that is active now from being activated by an engine that
// starts. It returns the version that is active afterwards. ErrConflict where
// there is none to go back to.
func (p *Plane) RollbackScript(ctx context.Context, name string, c Change) (string, error) {
	st, err := p.ScriptState(ctx, name)
	if err != nil {
		return "", err
	}
	return p.rollback(ctx, name, st.Active, c)
}

// rollback goes back from one version; where another one is active meanwhile,
// somebody did it already.
func (p *Plane) rollback(ctx context.Context, name, bad string, c Change) (string, error) {
	st, err := p.ScriptState(ctx, name)
	if err != nil {
		return "", err
	}
	if st.Active != bad {
		return st.Active, nil
	}
	for _, version := range st.History {
		if version == bad || st.Refused[version] != "" {
			continue
		}
		if own, ok := p.scripts[name]; ok && sameMajor(name, version, own.own.Version) != nil {
			continue // this program could not call it
		}
		s, err := p.ScriptSource(ctx, name, version)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		if err := p.load(ctx, &s); err != nil {
			return "", err
		}
		_, err = p.switchScript(ctx, s, "rolled_back", c, func(st ScriptState) error {
			if st.Active != bad {
				return errOvertaken
			}
			return nil
		})
		if errors.Is(err, errOvertaken) {
			st, err := p.ScriptState(ctx, name)
			return st.Active, err
		}
		if err != nil {
			return "", err
		}
		p.log.Error("script rolled back", "site", p.options.Site, "script", name, "version", s.Version, "from", bad, "by", c.By, "reason", c.Reason)
		return s.Version, nil
	}
	return "", fmt.Errorf("%w: script %s: there is no version before %s", ErrConflict, name, bad)
}

var errOvertaken = errors.New("another version became active meanwhile")

// switchScript stores a script that is loaded and makes it the active one, if
// allowed agrees to the state of that moment. It returns the version before.
func (p *Plane) switchScript(ctx context.Context, s Script, event string, c Change, allowed func(ScriptState) error) (before string, err error) {
	watched := []string{p.keys.scriptVersion(s.Name), p.keys.scriptHistory(s.Name), p.keys.scriptRefused(s.Name), p.keys.scriptCanary(s.Name)}
	var sent int64
	change := func(tx *redis.Tx) error {
		sent = 0
		st, err := p.ScriptState(ctx, s.Name)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := allowed(st); err != nil {
			return err
		}
		before = st.Active
		history := slices.DeleteFunc(slices.Clone(st.History), func(v string) bool { return v == s.Version || v == before })
		if before != "" && before != s.Version {
			history = slices.Insert(history, 0, before)
		}
		at, err := p.storeTime(ctx, tx)
		if err != nil {
			return err
		}
		sent = at.UnixMilli()
		now, onTrial := at.UnixMilli(), slices.Collect(maps.Values(st.Canary))
		_, err = tx.TxPipelined(ctx, func(tx redis.Pipeliner) error {
			tx.Set(ctx, p.keys.scriptSource(s.Name, s.Version), s.Text, 0)
			tx.SAdd(ctx, p.keys.scriptLoaded(s.Version), s.Name)
			tx.Set(ctx, p.keys.scriptSHA(s.Name), s.SHA, 0)
			tx.Set(ctx, p.keys.scriptVersion(s.Name), s.Version, 0)
			tx.Set(ctx, p.keys.scriptSince(s.Name), now, 0)
			tx.Del(ctx, p.keys.scriptHistory(s.Name))
			for i, v := range history {
				if i < versionsKept {
					tx.RPush(ctx, p.keys.scriptHistory(s.Name), v)
				} else if !slices.Contains(onTrial, v) {
					tx.Del(ctx, p.keys.scriptSource(s.Name, v))
					tx.SRem(ctx, p.keys.scriptLoaded(v), s.Name)
				}
			}
			tx.HDel(ctx, p.keys.scriptRefused(s.Name), s.Version)
			if event == "rolled_back" {
				tx.HSet(ctx, p.keys.scriptRefused(s.Name), before, c.Reason+" ("+c.By+")")
				if slices.Contains(onTrial, before) {
					tx.Del(ctx, p.keys.scriptCanary(s.Name))
				}
			}
			p.journalScript(ctx, tx, ScriptEvent{Script: s.Name, Event: event, Version: s.Version, Before: before, By: c.By, Reason: c.Reason}, now)
			return nil
		})
		return err
	}
	err = p.watch(ctx, change, watched...)
	if err != nil && sent != 0 && !isAnswer(err) {
		// The answer was lost. Who goes back by hand would repeat it, and go back twice.
		if st, e := p.ScriptState(ctx, s.Name); e == nil && st.Active == s.Version && st.Activated.UnixMilli() == sent {
			err = nil
		}
	}
	switch {
	case errors.Is(err, errOvertaken), errors.Is(err, ErrConflict), errors.Is(err, ErrVersion):
		return "", err
	case err != nil:
		return "", storeError("activating "+s.Name, err)
	}
	if a, ok := p.scripts[s.Name]; ok {
		since := time.Time{}
		if before != "" {
			since = p.localTime()
		}
		a.adopt(&s, since)
	}
	return before, nil
}

// journalScript records a change and tells every engine.
func (p *Plane) journalScript(ctx context.Context, tx redis.Pipeliner, e ScriptEvent, now int64) {
	tx.XAdd(ctx, &redis.XAddArgs{Stream: p.keys.scriptJournal(), MaxLen: scriptJournal, Approx: true, Values: []any{
		"time", now, "script", e.Script, "event", e.Event, "version", e.Version, "before", e.Before, "by", e.By, "reason", e.Reason}})
	tx.Publish(ctx, p.keys.scriptChanged(), e.Script)
}

// ScriptJournal returns what happened to scripts after a position; "" is the
// oldest kept.
func (p *Plane) ScriptJournal(ctx context.Context, after string, limit int) ([]ScriptEvent, error) {
	entries, err := p.read(ctx, p.keys.scriptJournal(), after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]ScriptEvent, len(entries))
	for i, e := range entries {
		get := func(name string) string { return text(e.Values, name) }
		list[i] = ScriptEvent{Position: e.ID, Time: millis(get("time")), Script: get("script"), Event: get("event"),
			Version: get("version"), Before: get("before"), By: get("by"), Reason: get("reason")}
	}
	return list, nil
}

// CanaryScript puts a version of data_sync on trial: it is verified as
// ActivateScript does and then used for some channels only. Every other script
// serves more than one channel, and every other channel goes on with the active
// version. Errors of the trial end it (see Options.Probation).
func (p *Plane) CanaryScript(ctx context.Context, s Script, channels []string, c Change) error {
	if s.Name != "data_sync" {
		return fmt.Errorf("%w: script %s: only data_sync can be put on trial, other scripts belong to no channel", model.ErrInvalid, s.Name)
	}
	if len(channels) == 0 {
		return fmt.Errorf("%w: script %s: a trial needs a channel", model.ErrInvalid, s.Name)
	}
	for _, id := range channels {
		if err := model.CheckID("channel", id); err != nil {
			return err
		}
	}
	known, err := p.Channels(ctx)
	if err != nil {
		return err
	}
	for _, id := range channels {
		if !slices.Contains(known, id) { // it would be tried for ever, without a call
			return fmt.Errorf("channel %s: %w", id, ErrNotFound)
		}
	}
	if err := p.admit(ctx, s, c); err != nil {
		return err
	}
	err = p.watch(ctx, func(tx *redis.Tx) error {
		active, err := tx.Get(ctx, p.keys.scriptVersion(s.Name)).Result()
		if err != nil && !isNil(err) {
			return err
		}
		if active == s.Version {
			return fmt.Errorf("%w: script %s: version %s is active already", ErrConflict, s.Name, s.Version)
		}
		at, err := p.storeTime(ctx, tx)
		if err != nil {
			return err
		}
		return p.putOnTrial(ctx, tx, s, channels, c, at.UnixMilli())
	}, p.keys.scriptVersion(s.Name))
	switch {
	case errors.Is(err, ErrConflict):
		return err
	case err != nil:
		return storeError("putting "+s.Name+" on trial", err)
	}
	p.log.Warn("script on trial", "site", p.options.Site, "script", s.Name, "version", s.Version, "channels", channels, "by", c.By)
	return p.followSwitches(ctx)
}

// watch runs a transaction, again where somebody else changed the keys meanwhile.
func (p *Plane) watch(ctx context.Context, change func(*redis.Tx) error, keys ...string) (err error) {
	for range 10 {
		if err = p.client.Watch(ctx, change, keys...); !errors.Is(err, redis.TxFailedErr) {
			break
		}
	}
	return err
}

func (p *Plane) putOnTrial(ctx context.Context, tx *redis.Tx, s Script, channels []string, c Change, now int64) error {
	_, err := tx.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.Set(ctx, p.keys.scriptSource(s.Name, s.Version), s.Text, 0)
		tx.SAdd(ctx, p.keys.scriptLoaded(s.Version), s.Name)
		tx.Del(ctx, p.keys.scriptCanary(s.Name))
		for _, id := range channels {
			tx.HSet(ctx, p.keys.scriptCanary(s.Name), id, s.Version)
		}
		tx.HDel(ctx, p.keys.scriptRefused(s.Name), s.Version)
		about, _ := json.Marshal(channels)
		p.journalScript(ctx, tx, ScriptEvent{Script: s.Name, Event: "canary", Version: s.Version, By: c.By,
			Reason: strings.TrimSpace(c.Reason + " for channels " + string(about))}, now)
		return nil
	})
	return err
}

// EndCanary ends a trial: its channels go back to the active version. Nothing
// happens where there is none.
func (p *Plane) EndCanary(ctx context.Context, name string, c Change) error {
	return p.endCanary(ctx, name, "canary_ended", "", c)
}

// endCanary ends the trial of a version ("" any). A refused one is remembered.
func (p *Plane) endCanary(ctx context.Context, name, event, version string, c Change) error {
	var found string
	err := p.watch(ctx, func(tx *redis.Tx) error {
		found = ""
		canary, err := p.client.HGetAll(ctx, p.keys.scriptCanary(name)).Result()
		if err != nil {
			return err
		}
		for _, v := range canary {
			if version == "" || v == version {
				found = v
			}
		}
		if found == "" {
			return nil
		}
		at, err := p.storeTime(ctx, tx)
		if err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(tx redis.Pipeliner) error {
			tx.Del(ctx, p.keys.scriptCanary(name))
			if event == "canary_refused" {
				tx.HSet(ctx, p.keys.scriptRefused(name), found, c.Reason+" ("+c.By+")")
			}
			p.journalScript(ctx, tx, ScriptEvent{Script: name, Event: event, Version: found, By: c.By, Reason: c.Reason}, at.UnixMilli())
			return nil
		})
		return err
	}, p.keys.scriptCanary(name))
	if err != nil {
		return storeError("ending the trial of "+name, err)
	}
	if found == "" {
		return p.followSwitches(ctx)
	}
	p.log.Warn("script is not on trial any more", "site", p.options.Site, "script", name, "version", found, "event", event, "by", c.By, "reason", c.Reason)
	return p.followSwitches(ctx)
}

// Share returns so many percent (1 to 100) of the site's channels, rounded up.
// Which ones has nothing to do with the order of their names and stays the same:
// a larger share has the channels of a smaller one.
func (p *Plane) Share(ctx context.Context, percent int) ([]string, error) {
	if percent < 1 || percent > 100 {
		return nil, fmt.Errorf("%w: %d percent of the channels: want 1 to 100", model.ErrInvalid, percent)
	}
	channels, err := p.Channels(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(channels, func(a, b string) int {
		x, y := sha1.Sum([]byte(a)), sha1.Sum([]byte(b))
		return bytes.Compare(x[:], y[:])
	})
	return channels[:(len(channels)*percent+99)/100], nil
}
