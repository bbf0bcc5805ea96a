package scripts_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// The ACL user of docs/store.md may do all that an engine does: start, listen,
// store samples in every way, change scripts.
func TestDocumentedUserSuffices(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/store.md")
	require.NoError(t, err)
	found := regexp.MustCompile(`ACL SETUSER plant-a on >password ([^\n\\]*(?:\\\n[^\n\\]*)*)`).FindSubmatch(page)
	require.NotNil(t, found)
	server := storetest.Own(t)
	admin := storetest.Client(t, server.URL)
	rules := []any{"ACL", "SETUSER", "plant-a", "on", ">password"}
	for _, rule := range strings.Fields(strings.ReplaceAll(string(found[1]), "\\\n", " ")) {
		rules = append(rules, rule)
	}
	require.NoError(t, admin.Do(t.Context(), rules...).Err())
	o, err := redis.ParseURL(server.URL)
	require.NoError(t, err)
	o.Username, o.Password, o.MaxRetries, o.ContextTimeoutEnabled, o.DisableIdentity = "plant-a", "password", -1, true, true
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })

	s, ctx := namedSite(t, client, "plant-a"), t.Context()
	listening, stop := context.WithCancel(ctx)
	subscribed, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		s.Listen(listening, scripts.Listener{Update: func(model.Update) {}, Control: func(string) {}, Alarms: func() {}, Commands: func() {},
			Scripts: func() {}, Connected: func() {
				select {
				case subscribed <- struct{}{}:
				default:
				}
			}})
	}()
	select {
	case <-subscribed:
	case <-time.After(time.Minute):
		t.Error("the user may not subscribe")
	}
	stop()
	<-done
	require.NoError(t, s.ActivateScript(ctx, variant(t, "data_sync", "1.9.0", "", ""), byTest))
	w := s.NewWriter(s.lease, s.points)
	for i, m := range []scripts.SyncMode{scripts.SyncLua, scripts.SyncDirect, scripts.SyncShadow} {
		require.NoError(t, s.SetSyncMode(ctx, m, nil, byTest))
		_, _, err = w.Write(ctx, []model.Sample{sample("1", float64(i))}, false)
		require.NoError(t, err, m)
	}
	require.NoError(t, s.FollowScripts(ctx))
	_, err = s.Reconcile(ctx)
	require.NoError(t, err)
	require.NoError(t, s.FlushStats(ctx))
	_, err = s.RollbackScript(ctx, "data_sync", byTest)
	require.NoError(t, err)
	log, err := admin.Do(ctx, "ACL", "LOG").Slice()
	require.NoError(t, err)
	require.Empty(t, log, "nothing was denied")
}
