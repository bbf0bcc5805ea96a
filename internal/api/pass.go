package api

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/voltageems/voltage/model"
)

// pass reads what is marked and hands it out. What could not be read stays
// marked.
func (b *hub) pass() (err error) {
	b.mu.Lock()
	dirty, all := b.dirty, b.again || b.failing
	b.dirty, b.again, b.told = map[string]struct{}{}, false, map[string]model.ChannelStatus{}
	// Only those that are here before the reading begins are served by it: of
	// what happens from now on they are told.
	waiting := map[*client]request{}
	for c := range b.clients {
		if all || c.wants {
			waiting[c] = c.request()
		}
	}
	b.mu.Unlock()
	full := all || b.fullDue || b.cache == nil

	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
		if err == nil {
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.again = b.again || all
		for c := range waiting {
			c.out.release()
		}
		for id := range dirty {
			b.dirty[id] = struct{}{}
		}
	}()
	ctx, cancel := context.WithTimeout(b.active, readTimeout)
	defer cancel()
	return b.serve(ctx, dirty, waiting, full)
}

// serve reads the dirty models, or all, and hands out the changes, and snapshots
// to those who wait for one.
func (b *hub) serve(ctx context.Context, dirty map[string]struct{}, waiting map[*client]request, full bool) error {
	now, changes, redefined, err := b.cache.read(ctx, b.site, dirty, full || len(waiting) > 0, full)
	if err != nil {
		return err
	}
	var channels []model.ChannelStatus
	if full || redefined || len(waiting) > 0 {
		if channels, err = b.site.Channels(ctx); err != nil {
			return err
		}
		channels = slices.Clone(list(channels)) // it is changed below
	}
	if redefined && b.cache != nil {
		b.mu.Lock()
		for c := range b.clients {
			waiting[c] = c.request()
		}
		b.mu.Unlock()
	}
	var alarms []model.Alarm
	if len(waiting) > 0 {
		if alarms, err = b.site.Alarms(ctx); err != nil {
			return err
		}
	}
	first := b.cache == nil
	b.cache, b.fullDue = now, false
	b.mu.Lock()
	for i, s := range channels {
		if later, ok := b.told[s.ID]; ok {
			channels[i] = later
		}
	}
	b.mu.Unlock()
	// Encoded outside of the lock, for the callbacks must not wait for that.
	maker := snapshotMaker{hub: b, alarms: alarms, channels: channels}
	snapshots := make(map[*client][]byte, len(waiting))
	for c, r := range waiting {
		if snapshots[c], err = maker.make(r.models); err != nil {
			return err
		}
	}
	b.deliver(waiting, snapshots, changes, channels, first)
	return nil
}

// deliver hands out snapshots to those who wait for one, and the changes to the
// others. Channels is nil when they were not read.
func (b *hub) deliver(waiting map[*client]request, snapshots map[*client][]byte,
	changes map[string]map[string]json.RawMessage, channels []model.ChannelStatus, first bool,
) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.clients {
		if r, ok := waiting[c]; ok {
			c.out.snapshot(snapshots[c])
			c.wants = c.asked != r.nth // it asked again meanwhile
			continue
		}
		for id, values := range changes {
			if c.follows(id) {
				c.out.values(id, values)
			}
		}
	}
	b.sendChannels(channels, first)
}

// sendChannels hands out the channels that are not as they were at the last
// reading: between changes of state only the counters move, and nobody calls.
// The caller holds mu.
func (b *hub) sendChannels(channels []model.ChannelStatus, first bool) {
	if channels == nil {
		return
	}
	before := b.channels
	b.channels = make(map[string]model.ChannelStatus, len(channels))
	for _, s := range channels {
		b.channels[s.ID] = s
		if !first && !reflect.DeepEqual(before[s.ID], s) {
			b.sendChannel(s)
		}
	}
	// What was told since the reading began is newer than what was read.
	for _, s := range b.told {
		b.sendChannel(s)
	}
}
