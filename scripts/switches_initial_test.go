package scripts_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

func TestInitialSyncModes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		p, err := scripts.New(client, scripts.Options{Site: storetest.Site(t)})
		require.NoError(t, err)
		ctx := t.Context()
		require.NoError(t, p.Prepare(ctx))
		expect := func(want map[string]scripts.SyncMode) {
			t.Helper()
			got, err := p.SyncModes(ctx)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		type modes = map[string]scripts.SyncMode

		require.NoError(t, p.SetInitialSyncModes(ctx, nil))
		require.NoError(t, p.SetInitialSyncModes(ctx, modes{"1001": scripts.SyncShadow}))
		expect(modes{"*": scripts.SyncLua, "1001": scripts.SyncShadow})
		// A channel that is new in the configuration, and one that was changed at run time.
		require.NoError(t, p.SetSyncMode(ctx, scripts.SyncDirect, []string{"1001"}, byTest))
		require.NoError(t, p.SetInitialSyncModes(ctx, modes{"1001": scripts.SyncShadow, "1002": scripts.SyncShadow, "1003": ""}))
		expect(modes{"*": scripts.SyncLua, "1001": scripts.SyncDirect, "1002": scripts.SyncShadow, "1003": scripts.SyncLua})
		// Whoever chose one mode for all meant all.
		require.NoError(t, p.SetSyncMode(ctx, scripts.SyncLua, nil, byTest))
		require.NoError(t, p.SetInitialSyncModes(ctx, modes{"*": scripts.SyncShadow, "1001": scripts.SyncShadow}))
		expect(modes{"*": scripts.SyncLua})

		require.ErrorIs(t, p.SetInitialSyncModes(ctx, modes{"a b": scripts.SyncLua}), model.ErrInvalid)
		require.ErrorIs(t, p.SetInitialSyncModes(ctx, modes{"1": "quick"}), model.ErrInvalid)
	})
}
