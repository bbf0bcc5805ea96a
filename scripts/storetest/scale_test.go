package storetest_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

func TestSentinelFailsOverAndBack(t *testing.T) {
	t.Parallel()
	f := storetest.Sentinel(t)
	ctx := t.Context()
	first := f.Master
	require.NoError(t, storetest.Client(t, first.URL).Set(ctx, "kept", "1", 0).Err())
	f.CaughtUp()
	f.Cut()
	require.NoError(t, storetest.Client(t, first.URL).Set(ctx, "lost", "1", 0).Err())
	f.Kill()
	f.Promoted()
	require.NotEqual(t, first.Addr, f.Master.Addr)
	c := storetest.Client(t, f.Master.URL)
	require.Equal(t, "1", c.Get(ctx, "kept").Val())
	require.ErrorIs(t, c.Get(ctx, "lost").Err(), redis.Nil)
	require.NoError(t, c.Set(ctx, "later", "1", 0).Err())
	f.Rejoin()
	require.Equal(t, first, f.Replica)
	require.ErrorIs(t, storetest.Client(t, first.URL).Get(ctx, "lost").Err(), redis.Nil)
	f.Kill()
	f.Promoted()
	require.Equal(t, first, f.Master)
	require.Equal(t, "1", storetest.Client(t, first.URL).Get(ctx, "later").Val())
}

func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	n := storetest.StartCluster(t, 1)
	ctx := t.Context()
	key := "{" + n.SiteOn(1) + "}:k"
	require.Equal(t, 1, n.Owner(key))
	require.NoError(t, storetest.Client(t, n.Masters[1].URL).Set(ctx, key, "v", 0).Err())
	require.Error(t, storetest.Client(t, n.Masters[0].URL).Set(ctx, key, "v", 0).Err())
	n.CaughtUp(1)
	n.Masters[1].Kill()
	now := n.Promoted(1)
	require.Equal(t, "v", storetest.Client(t, now.URL).Get(ctx, key).Val())
	n.Masters[1].Restart()
}
