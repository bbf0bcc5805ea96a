package virtual

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
)

func TestScanClasses(t *testing.T) {
	t.Parallel()
	clock := channeltest.NewClock(t)
	s := setup(clock,
		model.Point{ID: "slow", Address: "constant:1", Scan: "slow"},
		model.Point{ID: "serial", Address: "constant:2", Scan: channel.ScanOnce},
		model.Point{ID: "plain", Address: "constant:3"},
		model.Point{ID: "asked", Address: "constant:4", Scan: channel.ScanDemand},
		model.Point{ID: "set", Address: "setpoint:5", Kind: model.Control, Scan: "slow"},
		model.Point{ID: "walk", Address: "toggle", Scan: channel.ScanDemand},
	)
	s.Scans = map[string]time.Duration{"slow": 10 * time.Second}
	made, err := New()(s)
	require.NoError(t, err)
	d := made.(*driver)
	require.ErrorIs(t, d.Demand("asked"), channel.ErrNotConnected)
	read := func(want ...string) []model.Sample {
		t.Helper()
		samples, err := d.Read(t.Context())
		require.NoError(t, err)
		var got []string
		for _, s := range samples {
			got = append(got, s.Point)
		}
		require.Equal(t, want, got)
		return samples
	}
	require.NoError(t, d.Connect(t.Context()))
	read("plain")
	read("slow", "set")
	read("serial")
	for range 9 {
		clock.Advance(time.Second)
		read("plain")
	}
	require.NoError(t, d.Demand("asked", "serial", "walk"))
	require.ErrorIs(t, d.Demand("asked", "nobody"), model.ErrInvalid)
	require.Equal(t, 0.0, read("asked", "walk", "serial")[1].Value)
	require.NoError(t, d.Demand("walk"))
	require.Equal(t, 1.0, read("walk")[0].Value, "it goes on")

	out, err := d.Write(t.Context(), channel.Write{Point: s.Points[4], Value: 7})
	require.NoError(t, err)
	require.Equal(t, channel.Done, out.Result)
	require.Equal(t, 7.0, read("set")[0].Value, "not only after ten seconds")
	clock.Advance(time.Second)
	read("slow", "set") // after a round another class is let through
	read("plain")
}

// What was asked for while another class had its turn is not forgotten when more
// is asked for.
func TestDemandsAddUp(t *testing.T) {
	t.Parallel()
	s := setup(channeltest.NewClock(t),
		model.Point{ID: "a", Address: "constant:1", Scan: channel.ScanDemand},
		model.Point{ID: "b", Address: "constant:2", Scan: channel.ScanDemand}, model.Point{ID: "c", Address: "constant:3"})
	made, err := New()(s)
	require.NoError(t, err)
	d := made.(*driver)
	require.NoError(t, d.Connect(t.Context()))
	read := func() (ids []string) {
		t.Helper()
		samples, err := d.Read(t.Context())
		require.NoError(t, err)
		for _, s := range samples {
			ids = append(ids, s.Point)
		}
		return ids
	}
	require.NoError(t, d.Demand("b"))
	require.Equal(t, []string{"b"}, read())
	require.NoError(t, d.Demand("b"))
	require.Equal(t, []string{"c"}, read(), "its turn after a round of demands")
	require.NoError(t, d.Demand("a", "b"))
	require.Equal(t, []string{"b", "a"}, read())

	require.NoError(t, d.Demand("b"))
	require.NoError(t, d.Close(t.Context()))
	require.NoError(t, d.Connect(t.Context()))
	require.Equal(t, []string{"c"}, read(), "what was asked for before the connect is forgotten")
}
