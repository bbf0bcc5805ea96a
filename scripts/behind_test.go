package scripts_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// A channel that never writes again, as one that was given back just before the
// fail-over, is no reason to put definitions back every few seconds.
func TestLostBatchIsSaidOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		restored := 0
		p := s.another(t, scripts.Options{Restore: func(ctx context.Context) error { restored++; return nil }})
		w := p.NewWriter(s.lease, s.points)
		for i := range 3 {
			_, _, err := w.Write(t.Context(), []model.Sample{sample("1", float64(i))}, false)
			require.NoError(t, err)
		}
		fence := s.key("comsrv:1001:fence")
		require.NoError(t, client.HSet(t.Context(), fence, "batch", "2").Err())
		for range 3 {
			_, err := p.Reconcile(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, 1, restored)
		require.True(t, w.Stale())
		require.False(t, w.Stale())
		require.NoError(t, client.HSet(t.Context(), fence, "batch", "1").Err())
		_, err := p.Reconcile(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, restored, "further back")
		require.True(t, w.Stale())
	})
}

// Only who claimed a command can finish it.
func TestNobodyFinishesWhatWasNotClaimed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		_, err := s.Submit(t.Context(), model.Command{ID: "c1", Model: "pcs1", Control: "power_setpoint", Value: 5})
		require.NoError(t, err)
		for _, token := range []string{"", "t"} {
			r, err := s.Finish(t.Context(), "c1", token, model.CommandExecuted, "", "", nil)
			require.ErrorIs(t, err, scripts.ErrConflict)
			require.Equal(t, model.CommandQueued, r.State)
		}
	})
}
