package scripts_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// aclUsers starts a server of the test's own with all files of docs/acl, in which
// each user gets the password "password", and a client of everything.
func aclUsers(t *testing.T) (server *storetest.Server, all redis.UniversalClient) {
	t.Helper()
	files, err := filepath.Glob("../docs/acl/*.acl")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var users strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(file), ".acl")
		require.Regexp(t, `^user plant-a-`+name+` on resetpass [^\n]+\n$`, string(text), "one user to a file, who cannot log in before a password is set")
		users.WriteString(strings.Replace(string(text), " resetpass ", " resetpass >password ", 1))
	}
	path := filepath.Join(t.TempDir(), "users.acl")
	require.NoError(t, os.WriteFile(path, []byte(users.String()), 0o600))
	server = storetest.Own(t, "--aclfile", path)
	return server, storetest.Client(t, server.URL)
}

// as returns a client that is logged in as one of the users.
func as(t *testing.T, server *storetest.Server, service string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(server.URL)
	require.NoError(t, err)
	o.Username, o.Password, o.MaxRetries, o.ContextTimeoutEnabled, o.DisableIdentity = "plant-a-"+service, "password", -1, true, true
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// denied returns what the server refused to its users since the last call.
func denied(t *testing.T, all redis.UniversalClient) []any {
	t.Helper()
	log, err := all.Do(t.Context(), "ACL", "LOG").Slice()
	require.NoError(t, err)
	require.NoError(t, all.Do(t.Context(), "ACL", "LOG", "RESET").Err())
	return log
}

// refused checks that a user may not give commands.
func refused(t *testing.T, all, client redis.UniversalClient, commands ...string) {
	t.Helper()
	defer denied(t, all)
	for _, command := range commands {
		var args []any
		for _, word := range strings.Fields(command) {
			args = append(args, word)
		}
		require.ErrorContains(t, client.Do(t.Context(), args...).Err(), "NOPERM", command)
	}
}

// nobody's business of any service.
var forbidden = []string{"FLUSHALL", "FLUSHDB", "CONFIG SET maxmemory 1", "KEYS *", "SHUTDOWN", "ACL WHOAMI", "DEBUG SLEEP 0", "MONITOR", "SAVE",
	"CLIENT LIST", "GET {plant-b}:model:a", "SET {plant-b}:model:a 1", "SET elsewhere 1", "PUBLISH {plant-b}:alarm:new 1", "CONFIG GET requirepass", "RANDOMKEY", "DBSIZE", "REPLICAOF no one", "SWAPDB 0 1", "EVAL return 0"}

// The engine's user may do all that an engine does: start, listen, store samples in
// every way, change scripts, keep account. And no more.
func TestEngineUser(t *testing.T) {
	t.Parallel()
	server, all := aclUsers(t)
	s, ctx := namedSite(t, as(t, server, "engine"), "plant-a"), t.Context()
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
		_, _, err := w.Write(ctx, []model.Sample{sample("1", float64(i))}, false)
		require.NoError(t, err, m)
	}
	require.NoError(t, s.FollowScripts(ctx))
	_, err := s.Reconcile(ctx)
	require.NoError(t, err)
	require.Empty(t, denied(t, all), "nothing was denied")
	require.NoError(t, s.FlushStats(ctx))
	log := denied(t, all)
	require.Len(t, log, 1, "lua-time-limit is asked for once")
	require.Contains(t, log[0], "config|get")
	_, err = s.RollbackScript(ctx, "data_sync", byTest)
	require.NoError(t, err)
	require.NoError(t, s.Audit(ctx, model.AuditEntry{Action: "test"}))
	_, err = s.AuditJournal(ctx, "", 10)
	require.NoError(t, err)
	_, err = s.Submit(ctx, model.Command{ID: "c1", Model: "pcs1", Control: "power_setpoint", Value: 1})
	require.NoError(t, err)
	_, err = s.OpenAlarms(ctx)
	require.NoError(t, err)
	require.Empty(t, denied(t, all), "nothing was denied")
	refused(t, all, as(t, server, "engine"), forbidden...)
}

// Who reads the site for a dashboard sees its values and records, and changes nothing.
func TestReaderUser(t *testing.T) {
	t.Parallel()
	server, all := aclUsers(t)
	s, ctx := namedSite(t, all, "plant-a"), t.Context()
	w := s.NewWriter(s.lease, s.points)
	_, _, err := w.Write(ctx, []model.Sample{sample("1", 5)}, false)
	require.NoError(t, err)
	client := as(t, server, "reader")
	p, err := scripts.New(client, scripts.Options{Site: "plant-a"})
	require.NoError(t, err)
	values, err := p.Values(ctx, "pcs1")
	require.NoError(t, err)
	require.NotEmpty(t, values)
	_, err = p.ChannelValues(ctx, s.lease.Channel)
	require.NoError(t, err)
	models, err := p.Models(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, models)
	_, err = p.OpenAlarms(ctx)
	require.NoError(t, err)
	_, err = p.AlarmJournal(ctx, "", 10)
	require.NoError(t, err)
	_, err = p.CommandJournal(ctx, "", 10)
	require.NoError(t, err)
	sub := client.PSubscribe(ctx, "{plant-a}:modsrv:*:update")
	_, err = sub.Receive(ctx)
	require.NoError(t, err)
	require.NoError(t, sub.Close())
	require.Empty(t, denied(t, all), "nothing was denied")
	refused(t, all, client, forbidden...)
	refused(t, all, client, "HSET {plant-a}:modsrv:pcs1:measurement active_power 1", "XADD {plant-a}:cmd:1001:queue * id 1", "DEL {plant-a}:alarm:active",
		"PUBLISH {plant-a}:alarm:new 1", "EVALSHA 0123456789012345678901234567890123456789 0", "XRANGE {plant-a}:audit:journal - +", "GET {plant-a}:lua:sha:data_sync")
}

// Who takes a queue has that queue alone, and cannot put anything into it.
func TestQueueUsers(t *testing.T) {
	t.Parallel()
	server, all := aclUsers(t)
	s, ctx := namedSite(t, all, "plant-a"), t.Context()
	for service, queue := range map[string]string{"history": "hissrv:queue", "cloud": "cloud:queue"} {
		queue = s.key(queue)
		require.NoError(t, all.XAdd(ctx, &redis.XAddArgs{Stream: queue, Values: []any{"v", "1"}}).Err())
		client := as(t, server, service)
		require.NoError(t, client.XGroupCreate(ctx, queue, "group", "0").Err())
		streams, err := client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "group", Consumer: "one", Streams: []string{queue, ">"}, Count: 10}).Result()
		require.NoError(t, err)
		require.Len(t, streams[0].Messages, 1)
		_, _, err = client.XAutoClaim(ctx, &redis.XAutoClaimArgs{Stream: queue, Group: "group", Consumer: "two", Start: "0"}).Result()
		require.NoError(t, err)
		require.NoError(t, client.XAck(ctx, queue, "group", streams[0].Messages[0].ID).Err())
		require.NoError(t, client.HGetAll(ctx, s.key("point:"+s.lease.Channel)).Err())
		if service == "cloud" {
			require.NoError(t, client.XRange(ctx, s.key("alarm:journal"), "-", "+").Err())
		}
		require.Empty(t, denied(t, all), "nothing was denied")
		refused(t, all, client, forbidden...)
		refused(t, all, client, "XADD "+queue+" * v 1", "XTRIM "+queue+" MAXLEN 0", "DEL "+queue, "HSET {plant-a}:model:pcs1 a 1",
			"HGETALL {plant-a}:modsrv:pcs1:measurement", "XADD {plant-a}:cmd:1001:queue * id 1", "PUBLISH {plant-a}:cmd:1001:control 1:1")
	}
}

// Who sends notifications takes them and reads alarms, and acknowledges none.
func TestNotifierUser(t *testing.T) {
	t.Parallel()
	server, all := aclUsers(t)
	s, ctx := namedSite(t, all, "plant-a"), t.Context()
	require.NoError(t, all.LPush(ctx, s.key("notification:queue"), "{}").Err())
	client := as(t, server, "notifier")
	p, err := scripts.New(client, scripts.Options{Site: "plant-a"})
	require.NoError(t, err)
	gone, own := p.NotificationSender("gone", time.Minute), p.NotificationSender("own", time.Minute)
	require.NoError(t, gone.Alive(ctx))
	taken, err := gone.Take(ctx, 5)
	require.NoError(t, err)
	require.Equal(t, []string{"{}"}, taken)
	require.NoError(t, gone.Settle(ctx, scripts.NotificationChange{Put: map[string]string{"1": "a"}, Done: []string{"2"}}))
	require.NoError(t, gone.Leave(ctx))
	require.NoError(t, own.Alive(ctx))
	adopted, err := own.Adopt(ctx)
	require.NoError(t, err)
	require.True(t, adopted)
	taken, err = own.Take(ctx, 5)
	require.NoError(t, err)
	require.NoError(t, own.Settle(ctx, scripts.NotificationChange{Taken: taken, Dropped: 1, Dead: []model.DeadNotification{{ID: "a", Message: []byte("1")}}}))
	require.NoError(t, own.Work(ctx, func(string, string) {}))
	_, err = own.WorkOf(ctx, "1")
	require.NoError(t, err)
	_, _, _, err = p.NotificationCounts(ctx)
	require.NoError(t, err)
	require.NoError(t, p.DeadNotifications(ctx, func(model.DeadNotification, string) {}))
	_, err = p.Alarm(ctx, "1")
	require.ErrorIs(t, err, scripts.ErrNotFound)
	require.NoError(t, client.SMembers(ctx, s.key("alarm:active")).Err())
	require.NoError(t, client.XRange(ctx, s.key("alarm:journal"), "-", "+").Err())
	sub := client.Subscribe(ctx, s.key("alarm:new"))
	_, err = sub.Receive(ctx)
	require.NoError(t, err)
	require.NoError(t, sub.Close())
	require.Empty(t, denied(t, all), "nothing was denied")
	refused(t, all, client, forbidden...)
	refused(t, all, client, "LPUSH {plant-a}:notification:queue x", "HSET {plant-a}:alarm:1 status closed", "DEL {plant-a}:notification:queue",
		"HGETALL {plant-a}:modsrv:pcs1:measurement", "XADD {plant-a}:cmd:1001:queue * id 1")
}
