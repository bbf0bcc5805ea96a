package scripts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// SyncMode is the way in which a channel's batches are carried out.
type SyncMode string

const (
	// SyncLua is the usual way: the active script does it, in one atomic call.
	SyncLua SyncMode = "lua"
	// SyncDirect does the same in Go: it reads what it needs, works out the
	// writes, and makes them in one transaction that fails if anything of what it
	// read has changed meanwhile. The classic way, without Lua.
	SyncDirect SyncMode = "direct"
	// SyncShadow is SyncLua, and every batch is worked out in Go as well, from the
	// same reads; what differs is reported. The script hands back all that it
	// read and wrote for that, so a batch costs Redis four to five times as much:
	// use it for a share of the channels.
	SyncShadow SyncMode = "shadow"
)

// ParseSyncMode reads lua, direct or shadow; "" is lua.
func ParseSyncMode(text string) (SyncMode, error) {
	switch m := SyncMode(text); m {
	case "":
		return SyncLua, nil
	case SyncLua, SyncDirect, SyncShadow:
		return m, nil
	}
	return "", fmt.Errorf("%w: sync mode %.20q: want lua, direct or shadow", model.ErrInvalid, text)
}

// allChannels stands in sync:modes for every channel that has no mode of its own.
const allChannels = "*"

// switches say how each channel's batches go, as the store had it last.
type switches struct {
	canary map[string]*Script // channel → version of data_sync on trial
	modes  map[string]SyncMode
}

// mode returns the way of a channel.
func (s *switches) mode(channel string) SyncMode {
	if m, ok := s.modes[channel]; ok {
		return m
	}
	if m, ok := s.modes[allChannels]; ok {
		return m
	}
	return SyncLua
}

// SyncModes returns the channels that have a mode of their own, and under "*"
// that of all others.
func (p *Plane) SyncModes(ctx context.Context) (map[string]SyncMode, error) {
	stored, err := p.client.HGetAll(ctx, p.keys.syncModes()).Result()
	if err != nil {
		return nil, storeError("reading sync:modes", err)
	}
	modes := map[string]SyncMode{allChannels: SyncLua}
	for channel, text := range stored {
		if m, err := ParseSyncMode(text); err == nil {
			modes[channel] = m
		}
	}
	return modes, nil
}

// SetSyncMode changes the way of channels, for all engines of the site, at run
// time and without losing a sample. Without channels it is that of all: those
// that had one of their own lose it. For a percentage of the channels, see Share.
func (p *Plane) SetSyncMode(ctx context.Context, m SyncMode, channels []string, c Change) error {
	m, err := ParseSyncMode(string(m))
	if err != nil {
		return err
	}
	for _, id := range channels {
		if err := model.CheckID("channel", id); err != nil {
			return err
		}
	}
	about := "all channels"
	if len(channels) > 0 {
		list, _ := json.Marshal(channels)
		about = "channels " + string(list)
	}
	_, err = p.client.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		if len(channels) == 0 {
			tx.Del(ctx, p.keys.syncModes())
			tx.HSet(ctx, p.keys.syncModes(), allChannels, string(m))
		}
		for _, id := range channels {
			tx.HSet(ctx, p.keys.syncModes(), id, string(m))
		}
		p.journalScript(ctx, tx, ScriptEvent{Script: "data_sync", Event: "sync", By: c.By,
			Reason: strings.TrimSpace(c.Reason + " " + string(m) + " for " + about)}, p.localTime().UnixMilli())
		tx.Publish(ctx, p.keys.scriptChanged(), "sync")
		return nil
	})
	if err != nil {
		return storeError("writing sync:modes", err)
	}
	p.log.Warn("sync mode changed", "site", p.options.Site, "mode", m, "channels", channels, "by", c.By, "reason", c.Reason)
	return p.followSwitches(ctx)
}

// FollowScripts takes notice of scripts that became active, of trials and of
// sync modes. A Plane learns of them at its next call anyway; this makes sure
// that it does where it makes none. The engine calls it when it is told of a
// change, and every few seconds.
func (p *Plane) FollowScripts(ctx context.Context) error {
	names := slices.Sorted(maps.Keys(p.scripts))
	wanted := make([]string, len(names))
	for i, name := range names {
		wanted[i] = p.keys.scriptVersion(name)
	}
	versions, err := p.client.MGet(ctx, wanted...).Result()
	if err != nil {
		return storeError("reading the active versions", err)
	}
	var errs []error
	for i, name := range names {
		s := p.scripts[name]
		if v, _ := versions[i].(string); v != "" && v != s.active.Load().Version {
			errs = append(errs, p.follow(ctx, s))
		}
	}
	errs = append(errs, p.followSwitches(ctx))
	return errors.Join(errs...)
}

// followSwitches reads trials and sync modes.
func (p *Plane) followSwitches(ctx context.Context) error {
	pipe := p.client.Pipeline()
	canary, modes := pipe.HGetAll(ctx, p.keys.scriptCanary("data_sync")), pipe.HGetAll(ctx, p.keys.syncModes())
	if _, err := pipe.Exec(ctx); err != nil && !isAnswer(err) {
		return storeError("reading trials and sync modes", err)
	}
	now := &switches{canary: map[string]*Script{}, modes: map[string]SyncMode{}}
	var errs []error
	for channel, text := range modes.Val() {
		m, err := ParseSyncMode(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("sync:modes: channel %.64q: %w", channel, err))
			continue
		}
		now.modes[channel] = m
	}
	s := p.scripts["data_sync"]
	loaded := map[string]*Script{}
	for channel, version := range canary.Val() {
		script, ok := loaded[version]
		if !ok {
			var err error
			if script, err = p.trialScript(ctx, s, version); err != nil {
				errs = append(errs, err)
			}
			loaded[version] = script
		}
		if script != nil {
			now.canary[channel] = script
		}
	}
	p.switches.Store(now)
	return errors.Join(errs...)
}

// scriptFor returns the version that a channel's batches are carried out with:
// the active one, or the one that is on trial for the channel.
func (p *Plane) scriptFor(s *activeScript, channel string) *Script {
	if script := p.switches.Load().canary[channel]; script != nil {
		return script
	}
	return s.active.Load()
}

// trialScript loads a version that is on trial.
func (p *Plane) trialScript(ctx context.Context, s *activeScript, version string) (*Script, error) {
	for _, known := range p.switches.Load().canary {
		if known.Version == version {
			return known, nil
		}
	}
	if err := sameMajor(s.own.Name, version, s.own.Version); err != nil {
		return nil, err
	}
	script, err := p.ScriptSource(ctx, s.own.Name, version)
	if err != nil {
		return nil, err
	}
	if err := p.load(ctx, &script); err != nil {
		return nil, err
	}
	s.stats.learn(script.SHA, script.Version)
	return &script, nil
}
