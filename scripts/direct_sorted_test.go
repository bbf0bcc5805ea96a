package scripts_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// Without Lua too, a batch runs the delays that are over, also where the store's
// clock is the only one.
func TestDirectTimers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w, h := newDirectWorld(t, client)
		ctx := t.Context()
		require.NoError(t, w.PutAlarmRule(ctx, model.AlarmRule{ID: "late", Model: "m2", Point: "v15", Operator: model.Above, Threshold: 5, OnDelay: time.Second}))
		w.now += 10 // the rule's change is looked at with the next batch
		w.write(t, sample("15", 6))
		due := float64(w.now + 1000)
		timer := func() float64 { return client.ZScore(ctx, w.prefix+"timers", "alarm:m2:v15:late").Val() }
		require.InDelta(t, due, timer(), 0)
		w.now += 999
		w.write(t, sample("18", 1))
		require.Equal(t, "1|"+fmt.Sprint(w.now+1)+"|||normal|"+fmt.Sprint(w.now-999)+"|||||", w.hash(t, "alarm:state")["m2:v15:late"])
		w.now++
		h.set(nil, nil)
		w.write(t, sample("18", 2))
		require.Equal(t, 1, h.execs)
		require.Contains(t, w.hash(t, "alarm:state")["m2:v15:late"], "|1|active|")
		require.Zero(t, timer())

		// a timer that is far ahead on the store's clock stays, one that is over goes
		p, err := scripts.New(client, scripts.Options{Site: w.Site(), HistoryBytes: 1 << 20, Restore: w.define})
		require.NoError(t, err)
		require.NoError(t, p.Prepare(ctx))
		require.NoError(t, client.ZAdd(ctx, w.prefix+"timers", redis.Z{Score: 9e15, Member: "alarm:m2:v15:late"}, redis.Z{Score: 5, Member: "alarm:m2:v16:late"}).Err())
		lease, err := p.Acquire(ctx, "1001", "engine", time.Hour)
		require.NoError(t, err)
		_, warnings, err := p.NewWriter(lease, w.points).Write(ctx, []model.Sample{sample("18", 3)}, false)
		require.NoError(t, err)
		require.Empty(t, warnings)
		left, err := client.ZRange(ctx, w.prefix+"timers", 0, -1).Result()
		require.NoError(t, err)
		require.Equal(t, []string{"alarm:m2:v15:late"}, left)
	})
}

// The oldest closed alarms go when there are too many, in either mode.
func TestClosedAlarmsAreBounded(t *testing.T) {
	t.Parallel()
	for _, mode := range []scripts.SyncMode{scripts.SyncLua, scripts.SyncDirect} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
				w, _ := newDirectWorld(t, client)
				ctx := t.Context()
				require.NoError(t, w.SetSyncMode(ctx, mode, nil, scripts.Change{By: "test"}))
				old := make([]redis.Z, 10_000)
				for i := range old {
					old[i] = redis.Z{Score: float64(i), Member: fmt.Sprint(1_000_000 + i)}
				}
				require.NoError(t, client.ZAdd(ctx, w.prefix+"alarm:closed", old...).Err())
				require.NoError(t, client.HSet(ctx, w.prefix+"alarm:1000000", "id", "1000000").Err())
				require.NoError(t, client.HSet(ctx, w.prefix+"alarm:1000002", "id", "1000002").Err())
				w.write(t, sample("6", 60), sample("9", 60))
				for _, id := range []string{"1", "2"} {
					_, err := w.Acknowledge(ctx, id, "ann", "")
					require.NoError(t, err)
				}
				w.now += 1000
				w.write(t, sample("6", 20), sample("9", 20))
				require.EqualValues(t, 10_000, client.ZCard(ctx, w.prefix+"alarm:closed").Val())
				require.Equal(t, []string{"1000002"}, client.ZRange(ctx, w.prefix+"alarm:closed", 0, 0).Val())
				require.Empty(t, w.hash(t, "alarm:1000000"))
				require.NotEmpty(t, w.hash(t, "alarm:1000002"))
				require.NotEmpty(t, w.hash(t, "alarm:1"))
			})
		})
	}
}
