package scripts_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// impose makes a script active past everything that would refuse it, as a
// program with faulty scripts of its own would.
func (w *modeWorld) impose(t *testing.T, s scripts.Script) {
	t.Helper()
	ctx := t.Context()
	w.source(t, s)
	require.NoError(t, w.client.Set(ctx, w.prefix+"lua:sha:"+s.Name, s.SHA, 0).Err())
	require.NoError(t, w.client.Set(ctx, w.prefix+"lua:version:"+s.Name, s.Version, 0).Err())
	require.NoError(t, w.FollowScripts(ctx))
}

func (w *modeWorld) source(t *testing.T, s scripts.Script) {
	t.Helper()
	require.NoError(t, w.client.Set(t.Context(), w.prefix+"lua:source:"+s.Name+":"+s.Version, s.Text, 0).Err())
}

// shadowed waits until every batch is compared, which were so many at least.
func (w *modeWorld) shadowed(t *testing.T, batches int64) []scripts.Difference {
	t.Helper()
	require.Eventually(t, func() bool { return w.ShadowStats().Waiting == 0 }, 20*time.Second, time.Millisecond)
	require.GreaterOrEqual(t, w.ShadowStats().Compared, batches)
	list, err := w.Differences(t.Context(), "", 100)
	require.NoError(t, err)
	return list
}

// The honest script differs in nothing.
func TestShadowFindsNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, nil)
		for i, e := range modeEvents(seeded(t), long(30, 400), true) {
			w.happen(t, e, scripts.SyncShadow)
			require.Empty(t, w.shadowed(t, int64(i+1)), "batch %d: %v", i, e)
		}
		require.Zero(t, w.ShadowStats().Skipped+w.ShadowStats().Differences)
	})
}

// A script that does something else is found out, and what it did is named.
func TestShadowFindsFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, old, new, what, lua string }{
		{"hysteresis", "return tonumber(stored(limit + by))", "return limit",
			"Go does not make a write", "transition cleared"},
		{"record", "'value', a.record.value,\n", "'value', a.record.threshold,\n", "other arguments of HSET {", "value 50.000000"},
		{"more", "redis.call('PUBLISH', P .. 'alarm:new', a.id)", "redis.call('PUBLISH', P .. 'alarm:new', a.id)\n    redis.call('SET', P .. 'more', a.id)",
			"Go does not make a write", "SET {"},
		{"order", "  redis.call('SADD', P .. 'alarm:active', a.id)\n  alarm_to(now, 'raised', a, 'active')",
			"  alarm_to(now, 'raised', a, 'active')\n  redis.call('SADD', P .. 'alarm:active', a.id)", "earlier than Go", "XADD {"},
		{"answer", "local report, total = { 'OK' }, nil", "local report, total = { 'OK', 'by the way' }, nil", "not the same length", "by the way"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
				w := newWorld(t, client, nil)
				ctx := t.Context()
				w.impose(t, variant(t, "data_sync", "1.9.0", test.old, test.new))
				require.NoError(t, w.SetSyncMode(ctx, scripts.SyncShadow, nil, scripts.Change{}))
				for _, v := range []float64{60, 47, 1} { // v7: above 50 with a hysteresis of 5
					_, _, err := w.writer.Write(ctx, []model.Sample{sample("7", v)}, false)
					require.NoError(t, err)
				}
				list := w.shadowed(t, 3)
				require.NotEmpty(t, list)
				all := fmt.Sprintf("%+v", list)
				require.True(t, slices.ContainsFunc(list, func(d scripts.Difference) bool {
					return strings.Contains(d.What, test.what) && strings.Contains(d.Lua, test.lua)
				}), all)
				for _, d := range list {
					require.Equal(t, "1001", d.Channel)
					require.Contains(t, d.Version, "1.9.0+")
					require.Equal(t, start, d.Time.UnixMilli())
				}
				require.EqualValues(t, len(list), w.ShadowStats().Differences)
			})
		})
	}
}

// A version on trial that differs is on trial no more.
func TestShadowEndsATrial(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, nil)
		ctx := t.Context()
		bad := variant(t, "data_sync", "1.9.0", "'value', a.record.value,\n", "'value', a.record.threshold,\n")
		w.source(t, bad)
		require.NoError(t, client.HSet(ctx, w.prefix+"lua:canary:data_sync", "1001", bad.Version).Err())
		require.NoError(t, w.SetSyncMode(ctx, scripts.SyncShadow, nil, scripts.Change{}))
		w.write(t, sample("7", 60))
		require.NotEmpty(t, w.shadowed(t, 1))
		st, err := w.ScriptState(ctx, "data_sync")
		require.NoError(t, err)
		require.Empty(t, st.Canary)
		require.Contains(t, st.Refused[bad.Version], "in shadow mode it differs")
		w.write(t, sample("7", 1), sample("6", 70)) // with the active version
		require.Len(t, w.shadowed(t, 2), 1)
		require.Equal(t, "70.000000", w.hash(t, "alarm:2")["value"])
	})
}

// A script that fails does so in shadow mode as it does without, and one that the
// store has lost is put back.
func TestShadowFailsAsThePlainScript(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		w := newWorld(t, client, nil)
		ctx := t.Context()
		w.impose(t, variant(t, "data_sync", "1.9.0", "local report, total = { 'OK' }, nil",
			"local report, total = { 'OK' }, nil\n  if ARGV[8] == '2' then return ARGV[nil].x end"))
		var errs []string
		for _, mode := range []scripts.SyncMode{scripts.SyncLua, scripts.SyncShadow} {
			require.NoError(t, w.SetSyncMode(ctx, mode, nil, scripts.Change{}))
			w.write(t, sample("7", 1))
			_, _, err := w.writer.Write(ctx, []model.Sample{sample("7", 1), sample("6", 2)}, false)
			var fault *scripts.ScriptError
			require.ErrorAs(t, err, &fault)
			require.ErrorIs(t, err, scripts.ErrScript)
			require.Equal(t, "data_sync.lua", fault.File)
			errs = append(errs, err.Error())
		}
		require.Equal(t, errs[0], errs[1])
		for _, s := range w.Stats() {
			if s.Script == "data_sync" {
				require.EqualValues(t, 2, s.Errors)
				require.Len(t, s.Versions, 1)
			}
		}
		require.NoError(t, client.ScriptFlush(ctx).Err())
		w.write(t, sample("7", 3))
		require.Equal(t, "3.000000", w.hash(t, "modsrv:m1:measurement")["v7"])
	})
}

// slowPipes holds up what stores differences.
type slowPipes struct {
	began, release chan struct{}
}

func (h *slowPipes) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *slowPipes) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *slowPipes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "xadd" {
			select {
			case h.began <- struct{}{}:
			default:
			}
			<-h.release
		}
		return next(ctx, cmds)
	}
}

// A comparison that does not keep up skips batches and says so; the batches
// themselves do not wait.
func TestShadowSkips(t *testing.T) {
	t.Parallel()
	client := storetest.Embedded(t)
	h := &slowPipes{make(chan struct{}, 1), make(chan struct{})}
	client.AddHook(h)
	w := newWorld(t, client, nil)
	w.impose(t, variant(t, "data_sync", "1.9.0", "'value', a.record.value,\n", "'value', a.record.threshold,\n"))
	require.NoError(t, w.SetSyncMode(t.Context(), scripts.SyncShadow, nil, scripts.Change{}))
	w.write(t, sample("7", 1))
	w.shadowed(t, 1)
	w.write(t, sample("7", 60))
	<-h.began
	for range 20 {
		w.write(t, sample("6", 1))
	}
	require.EqualValues(t, 4, w.ShadowStats().Skipped)
	close(h.release)
	w.shadowed(t, 17)
}
