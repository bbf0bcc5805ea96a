package voltage_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// definitions notes which definitions the store was given, in order.
type definitions struct {
	loser
	mu   sync.Mutex
	list []string
}

func (d *definitions) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); cmd.Name() == "evalsha" && len(args) > 7 && (args[4] == "points" || args[4] == "model") {
			d.mu.Lock()
			d.list = append(d.list, fmt.Sprint(args[4], " ", args[7]))
			d.mu.Unlock()
		}
		return next(ctx, cmd)
	}
}

// A model takes commands as soon as it is in the store: its limits are there before.
func TestLimitsBeforeTheModel(t *testing.T) {
	t.Parallel()
	client := storetest.Embedded(t)
	seen := &definitions{}
	client.AddHook(seen)
	cfg := pcsSite(t)
	m := cfg.Models[0]
	cfg.Models, cfg.Store = nil, scripts.StoreConfig{Client: client}
	eng := startEngine(t, cfg)
	narrow := 50.0
	m.Points["power_setpoint"] = model.PointInfo{Kind: model.Control, Max: &narrow}
	seen.mu.Lock()
	seen.list = nil
	seen.mu.Unlock()
	require.NoError(t, eng.RegisterModel(m))
	seen.mu.Lock()
	defer seen.mu.Unlock()
	points, defined := slices.Index(seen.list, "points 1"), slices.Index(seen.list, "model pcs1")
	require.GreaterOrEqual(t, points, 0, seen.list)
	require.Greater(t, defined, points, seen.list)
}
