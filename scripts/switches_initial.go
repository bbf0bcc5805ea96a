package scripts

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// SetInitialSyncModes writes the modes of a configuration, by channel id and
// under "*" for all others: only those of channels to which nothing on the store
// applies yet. So what was chosen at run time, for a channel or for all, stays
// chosen when an engine starts again.
func (p *Plane) SetInitialSyncModes(ctx context.Context, modes map[string]SyncMode) error {
	if len(modes) == 0 {
		return nil
	}
	initial := map[string]string{}
	for channel, m := range modes {
		m, err := ParseSyncMode(string(m))
		if err != nil {
			return err
		}
		if channel != allChannels {
			if err := model.CheckID("channel", channel); err != nil {
				return err
			}
		}
		initial[channel] = string(m)
	}
	set := func(tx *redis.Tx) error {
		stored, err := tx.HGetAll(ctx, p.keys.syncModes()).Result()
		if err != nil {
			return err
		}
		if _, all := stored[allChannels]; all {
			return nil // it applies to every channel
		}
		var fresh []any
		for _, channel := range slices.Sorted(maps.Keys(initial)) {
			if _, known := stored[channel]; !known {
				fresh = append(fresh, channel, initial[channel])
			}
		}
		if len(fresh) == 0 {
			return nil
		}
		_, err = tx.TxPipelined(ctx, func(tx redis.Pipeliner) error {
			tx.HSet(ctx, p.keys.syncModes(), fresh...)
			tx.Publish(ctx, p.keys.scriptChanged(), "sync")
			return nil
		})
		return err
	}
	var err error
	for range 10 {
		if err = p.client.Watch(ctx, set, p.keys.syncModes()); !errors.Is(err, redis.TxFailedErr) {
			break
		}
	}
	if err != nil {
		return storeError("writing sync:modes", err)
	}
	return p.followSwitches(ctx)
}
