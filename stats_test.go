package voltage_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/internal/demo"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// The engine shows what its script calls came to, and leaves it on the store.
func TestScriptStatistics(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		site := storetest.Site(t)
		eng, err := voltage.NewEngine(voltage.Config{Site: site, Store: scripts.StoreConfig{Client: client},
			Models: demo.Models(), Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		metrics := func() string {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil)
			r.RemoteAddr = "127.0.0.1:50000"
			eng.Handler().ServeHTTP(w, r)
			return w.Body.String()
		}
		require.NotContains(t, metrics(), "voltage_script_calls_total{")
		require.NoError(t, eng.Start(t.Context()))
		require.Contains(t, metrics(), `voltage_script_calls_total{script="site_config",version="`)
		require.NoError(t, eng.Stop(context.Background()))
		plane, err := scripts.New(client, scripts.Options{Site: site})
		require.NoError(t, err)
		stored, err := plane.StoredStats(t.Context(), "site_config")
		require.NoError(t, err)
		require.GreaterOrEqual(t, stored.Calls, int64(len(demo.Models())))
		require.Zero(t, stored.Errors)
		require.False(t, strings.HasPrefix(stored.Versions[0].Version, "sha:"))
	})
}
