package voltage_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// A point that is read only on demand has no value before it is asked for.
func TestDemand(t *testing.T) {
	t.Parallel()
	eng, err := voltage.NewEngine(voltage.Config{Site: storetest.Site(t), Log: testLog(t),
		Channels: []channel.Config{
			{ID: "1", Driver: virtual.New(), Scan: 50 * time.Millisecond, Scans: map[string]time.Duration{"slow": time.Hour}, Points: []model.Point{
				{ID: "1", Address: "constant:1"},
				{ID: "2", Address: "constant:2", Scan: channel.ScanDemand},
				{ID: "3", Address: "constant:3", Scan: channel.ScanDemand},
				{ID: "4", Address: "constant:4", Scan: "slow"},
			}},
			{ID: "2", Points: []model.Point{{ID: "1"}}},
		}})
	require.NoError(t, err)
	require.ErrorIs(t, eng.Demand("1"), voltage.ErrNotRunning)
	require.NoError(t, eng.Start(t.Context()))
	defer eng.Stop(context.Background())
	value := func(id string) float64 {
		values, err := eng.ChannelValues(t.Context(), "1")
		require.NoError(t, err)
		return values[id].Value
	}
	eventually(t, "the slow class is read at once", func() bool { return value("4") == 4 })
	require.Zero(t, value("2"))
	require.NoError(t, eng.Demand("1", "2"))
	eventually(t, "point 2", func() bool { return value("2") == 2 })
	require.Zero(t, value("3"))

	post := func(path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		eng.Handler().ServeHTTP(w, r)
		return w
	}
	require.Equal(t, http.StatusAccepted, post("/channels/1/read", "").Code)
	eventually(t, "all points", func() bool { return value("3") == 3 })

	require.ErrorIs(t, eng.Demand("1", "5"), model.ErrInvalid)
	require.ErrorIs(t, eng.Demand("9"), scripts.ErrNotFound)
	require.ErrorIs(t, eng.Demand("2"), scripts.ErrConflict, "no driver")
	for path, want := range map[string]int{"/channels/9/read": 404, "/channels/2/read": 409, "/channels/1/read?": 400} {
		require.Equal(t, want, post(path, `{"points":["5"]}`).Code, path)
	}
	channels, err := eng.Channels(t.Context())
	require.NoError(t, err)
	require.Contains(t, channels[0].LastScans, "slow")
	require.Contains(t, channels[0].LastScans, channel.ScanDefault)
}
