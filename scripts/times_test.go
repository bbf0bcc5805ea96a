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

// The time of a batch that has most names of a model stands once, and every name
// has the right time nevertheless.
func TestOneTimeForMostNames(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testOneTimeForMostNames)
}

func testOneTimeForMostNames(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	m := model.Instance{ID: "meter", Measurements: map[string]string{}}
	var points []model.Point
	for i := range 9 {
		id := fmt.Sprint(i)
		points = append(points, model.Point{ID: id})
		m.Measurements["v"+id] = "2001:" + id
	}
	points = append(points, model.Point{ID: "setpoint", Kind: model.Control})
	m.Controls = map[string]string{"setpoint": "2001:setpoint"}
	require.NoError(t, s.PutPoints(t.Context(), "2001", points))
	require.NoError(t, s.PutModel(t.Context(), m))
	lease, err := s.Acquire(t.Context(), "2001", "engine", time.Minute)
	require.NoError(t, err)
	w := s.NewWriter(lease, points)
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	want := map[string]time.Time{}
	step := int64(0)
	write := func(samples ...model.Sample) {
		t.Helper()
		step++
		s.now.Store(start + step)
		_, warnings, err := w.Write(t.Context(), samples, false)
		require.NoError(t, err)
		require.Empty(t, warnings)
		values, err := s.Values(t.Context(), "meter")
		require.NoError(t, err)
		for name, when := range want {
			require.Equal(t, when.UnixMilli(), values[name].Time.UnixMilli(), "%s after step %d", name, step)
		}
		require.Len(t, values, len(want))
	}
	all := func() (samples []model.Sample) {
		for i := range 9 {
			samples = append(samples, sample(fmt.Sprint(i), float64(step)))
			want["v"+fmt.Sprint(i)] = at(start + step + 1)
		}
		return samples
	}
	times := func() map[string]string { return s.hash(t, "modsrv:meter:ts") }

	write(all()...)
	require.Equal(t, map[string]string{"*": fmt.Sprint(start + 1), "setpoint": ""}, times(), "the control was never written: no time")

	want["v3"], want["setpoint"] = at(start+2), at(start+2)
	write(sample("3", 5), sample("setpoint", 1))
	require.Len(t, times(), 3)

	// Most of them again: the others keep what they had, the device's own time stands beside.
	samples := all()
	device := at(start - 5000)
	samples[0].Time, want["v0"] = device, device
	samples[1] = model.Sample{Point: "1", Quality: model.Bad}
	want["v1"] = at(start + 1) // when it was last good
	write(samples...)
	require.Equal(t, map[string]string{"*": fmt.Sprint(start + 3), "v0": fmt.Sprint(device.UnixMilli()),
		"v1": fmt.Sprint(start + 1), "setpoint": fmt.Sprint(start + 2)}, times())

	// Of a point that is in the batch more than once the last value and time count.
	want["v0"], want["v2"] = at(start+4), at(start-1000)
	write(model.Sample{Point: "0", Value: 1, Time: at(start - 100)}, sample("0", 2),
		sample("2", 1), model.Sample{Point: "2", Value: 2, Time: at(start - 1000)})
	values, err := s.Values(t.Context(), "meter")
	require.NoError(t, err)
	require.Equal(t, 2.0, values["v0"].Value)
	require.Equal(t, 2.0, values["v2"].Value)
}

// A value whose time nobody knows does not get that of the others.
func TestNoTimeForAForeignValue(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := newSite(t, client)
		m := model.Instance{ID: "meter", Measurements: map[string]string{"a": "2001:1", "b": "2001:2", "c": "2001:3", "d": "2001:4"}}
		points := []model.Point{{ID: "1"}, {ID: "2"}, {ID: "3"}, {ID: "4"}}
		require.NoError(t, s.PutPoints(t.Context(), "2001", points))
		require.NoError(t, s.PutModel(t.Context(), m))
		lease, err := s.Acquire(t.Context(), "2001", "engine", time.Minute)
		require.NoError(t, err)
		w := s.NewWriter(lease, points)
		require.NoError(t, client.HSet(t.Context(), s.key("modsrv:meter:measurement"), "d", "7.000000").Err())
		for _, mode := range []scripts.SyncMode{scripts.SyncLua, scripts.SyncDirect, scripts.SyncShadow} {
			require.NoError(t, s.SetSyncMode(t.Context(), mode, nil, scripts.Change{}))
			for i := range 2 {
				_, warnings, err := w.Write(t.Context(), []model.Sample{sample("1", 1), sample("2", float64(i)), sample("3", 1)}, false)
				require.NoError(t, err)
				require.Empty(t, warnings)
				values, err := s.Values(t.Context(), "meter")
				require.NoError(t, err)
				require.Equal(t, 7.0, values["d"].Value)
				require.True(t, values["d"].Time.IsZero(), "%s %d: %s", mode, i, values["d"].Time)
				require.Equal(t, start, values["a"].Time.UnixMilli())
			}
			require.NoError(t, client.Del(t.Context(), s.key("modsrv:meter:ts")).Err())
		}
		require.Eventually(t, func() bool { return s.ShadowStats().Waiting == 0 }, 10*time.Second, time.Millisecond)
		require.Zero(t, s.ShadowStats().Differences)
	})
}
