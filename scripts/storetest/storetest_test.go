package storetest_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts/storetest"
)

func TestEach(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		ctx := context.Background()
		key := "{" + storetest.Site(t) + "}:k"
		require.NoError(t, client.Set(ctx, key, "v", 0).Err())
		got, err := client.Eval(ctx, "return redis.call('GET', KEYS[1])", []string{key}).Text()
		require.NoError(t, err)
		require.Equal(t, "v", got)
	})
}

func TestRedisIsShared(t *testing.T) {
	t.Parallel()
	require.Equal(t, storetest.Redis(t), storetest.Redis(t))
}

func TestOwnServerGoesAndComesBack(t *testing.T) {
	t.Parallel()
	s := storetest.Own(t, "--appendonly", "yes", "--appendfsync", "always")
	require.NotEqual(t, storetest.Redis(t), s.URL)
	client := storetest.Client(t, s.URL)
	ctx := context.Background()
	require.NoError(t, client.Set(ctx, "kept", "1", 0).Err())

	s.Kill()
	require.Error(t, client.Ping(ctx).Err())
	s.Restart()
	require.Equal(t, "1", storetest.Client(t, s.URL).Get(ctx, "kept").Val())

	s.Pause()
	paused, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, storetest.Client(t, s.URL).Ping(paused).Err())
	s.Resume()
	require.NoError(t, storetest.Client(t, s.URL).Ping(ctx).Err())
	s.Stop()
}
