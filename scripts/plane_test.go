package scripts_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

var sites atomic.Int64

// testSite is a Plane on a site of its own with one channel, one model and a
// lease on the channel.
type testSite struct {
	*scripts.Plane
	client redis.UniversalClient
	prefix string
	now    *atomic.Int64
	lease  scripts.Lease
	points []model.Point
}

func (s *testSite) key(name string) string { return s.prefix + name }

func (s *testSite) hash(t *testing.T, name string) map[string]string {
	t.Helper()
	h, err := s.client.HGetAll(t.Context(), s.key(name)).Result()
	require.NoError(t, err)
	return h
}

const start int64 = 1_790_000_000_000

func newSite(t *testing.T, client redis.UniversalClient) *testSite {
	t.Helper()
	return namedSite(t, client, fmt.Sprintf("%s-%d", "test", sites.Add(1)))
}

func namedSite(t *testing.T, client redis.UniversalClient, site string) *testSite {
	t.Helper()
	now := &atomic.Int64{}
	now.Store(start)
	s := &testSite{client: client, prefix: "{" + site + "}:", now: now}
	var err error
	s.Plane, err = scripts.New(client, scripts.Options{Site: site, Now: func() time.Time { return time.UnixMilli(now.Load()) },
		HistoryBytes: 1 << 20, Restore: s.define})
	require.NoError(t, err)
	s.points = []model.Point{
		{ID: "1", Name: "active power", Unit: "kW"},
		{ID: "2", Name: "temperature", Unit: "°C"},
		{ID: "3", Kind: model.Signal},
		{ID: "4", Kind: model.Control, Min: new(-100.0), Max: new(100.0), Step: 0.5, Unit: "kW"},
		{ID: "5", Text: true},
	}
	require.NoError(t, s.Prepare(t.Context()))
	require.NoError(t, s.define(t.Context()))
	s.lease, err = s.Acquire(t.Context(), "1001", "engine", time.Minute)
	require.NoError(t, err)
	return s
}

func (s *testSite) define(ctx context.Context) error {
	if err := s.PutPoints(ctx, "1001", s.points); err != nil {
		return err
	}
	return s.PutModel(ctx, model.Instance{ID: "pcs1",
		Measurements: map[string]string{"active_power": "1001:1", "temperature": "1001:2", "serial": "1001:5"},
		Signals:      map[string]string{"running": "1001:3"},
		Controls:     map[string]string{"power_setpoint": "1001:4"},
		Policies:     map[string]model.ControlPolicy{"power_setpoint": {Queue: true}}})
}

func sample(point string, value float64) model.Sample {
	return model.Sample{Point: point, Value: value}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testBatch)
}

func testBatch(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	w := s.NewWriter(s.lease, s.points)
	_, warnings, err := w.Write(t.Context(), []model.Sample{sample("1", 12.5), sample("3", 1), sample("4", -0.0000001),
		{Point: "5", Text: "A,B%"}, {Point: "2", Value: 21, Time: time.UnixMilli(start - 5)}}, false)
	require.NoError(t, err)
	require.Empty(t, warnings)

	require.Equal(t, map[string]string{"1": "12.500000", "2": "21.000000"}, s.hash(t, "comsrv:1001:m"))
	require.Equal(t, map[string]string{"3": "1.000000"}, s.hash(t, "comsrv:1001:s"))
	require.Equal(t, map[string]string{"4": "0.000000"}, s.hash(t, "comsrv:1001:c"))
	require.Equal(t, map[string]string{"5": "A,B%"}, s.hash(t, "comsrv:1001:text"))
	require.Equal(t, map[string]string{"2": fmt.Sprint(start - 5)}, s.hash(t, "comsrv:1001:ts"))
	require.Equal(t, map[string]string{"active_power": "12.500000", "temperature": "21.000000"}, s.hash(t, "modsrv:pcs1:measurement"))
	require.Equal(t, map[string]string{"running": "1.000000"}, s.hash(t, "modsrv:pcs1:signal"))
	require.Equal(t, map[string]string{"power_setpoint": "0.000000"}, s.hash(t, "modsrv:pcs1:control"))

	values, err := s.Values(t.Context(), "pcs1")
	require.NoError(t, err)
	require.Equal(t, model.Value{Value: 12.5, Unit: "kW", Time: time.UnixMilli(start)}, values["active_power"])
	require.Equal(t, model.Value{Text: "A,B%", Time: time.UnixMilli(start)}, values["serial"])
	require.Equal(t, time.UnixMilli(start-5), values["temperature"].Time)

	// a sample older than the stored one is history alone
	_, _, err = w.Write(t.Context(), []model.Sample{{Point: "2", Value: 7, Time: time.UnixMilli(start - 500)}}, false)
	require.NoError(t, err)
	require.Equal(t, "21.000000", s.hash(t, "comsrv:1001:m")["2"])
	entries, err := client.XRange(t.Context(), s.key("hissrv:queue"), "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, "6", entries[1].Values["count"])
	require.Equal(t, fmt.Sprintf("pcs1:temperature\t7.000000\t%d\n", start-500), entries[1].Values["points"])
	require.Equal(t, fmt.Sprint(start), entries[0].Values["time"])
}

func TestDeviceTimesThatCannotBeTrue(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testDeviceTimesThatCannotBeTrue)
}

func testDeviceTimesThatCannotBeTrue(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	w := s.NewWriter(s.lease, s.points)
	at := func(v float64, ms int64) {
		t.Helper()
		_, _, err := w.Write(t.Context(), []model.Sample{{Point: "1", Value: v, Time: time.UnixMilli(ms)}}, false)
		require.NoError(t, err)
	}
	stored := func() string { return s.hash(t, "modsrv:pcs1:measurement")["active_power"] }
	at(1, start)
	at(2, start+2*time.Hour.Milliseconds()) // far ahead
	require.Equal(t, "2.000000", stored())
	at(3, start+1)
	require.Equal(t, "3.000000", stored())
	at(4, 1000) // a clock that begins at 1970
	require.Equal(t, "4.000000", stored())
	at(5, start-5) // an old one: history alone
	require.Equal(t, "4.000000", stored())
	_, _, err := w.Write(t.Context(), []model.Sample{{Point: "1", Quality: model.Offline}}, false)
	require.NoError(t, err)
	at(6, start-4) // the device came back with another clock
	require.Equal(t, "6.000000", stored())
}

func TestQuality(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testQuality)
}

func testQuality(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	w := s.NewWriter(s.lease, s.points)
	write := func(samples ...model.Sample) {
		t.Helper()
		_, warnings, err := w.Write(t.Context(), samples, false)
		require.NoError(t, err)
		require.Empty(t, warnings)
	}
	write(sample("1", 1), model.Sample{Point: "2", Quality: model.Offline})
	s.now.Add(1000)
	write(model.Sample{Point: "1", Quality: model.Offline})
	require.Equal(t, map[string]string{"1": "offline", "2": "offline"}, s.hash(t, "comsrv:1001:quality"))
	values, err := s.Values(t.Context(), "pcs1")
	require.NoError(t, err)
	require.Equal(t, model.Value{Value: 1, Quality: model.Offline, Unit: "kW", Time: time.UnixMilli(start)}, values["active_power"])
	require.True(t, values["temperature"].Time.IsZero())
	require.Equal(t, model.Offline, values["temperature"].Quality)
	write(sample("1", 2), sample("2", 3))
	require.Empty(t, s.hash(t, "comsrv:1001:quality"))
	require.Empty(t, s.hash(t, "modsrv:pcs1:quality"))
}

func TestBatchIsFencedAndIdempotent(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testBatchIsFencedAndIdempotent)
}

func testBatchIsFencedAndIdempotent(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	hook := &dropReplies{}
	single, ok := client.(*redis.Client)
	if !ok {
		t.Skip("the replies of a cluster are not dropped here")
	}
	lossy := redis.NewClient(single.Options())
	t.Cleanup(func() { lossy.Close() })
	lossy.AddHook(hook)
	other, err := scripts.New(lossy, scripts.Options{Site: strings.Trim(s.prefix, "{}:"), HistoryBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, other.Prepare(t.Context()))

	w := other.NewWriter(s.lease, s.points)
	for i := range 20 {
		hook.drop.Store(int64(i % 3)) // the first tries of every call are done, and their replies lost
		_, _, err := w.Write(t.Context(), []model.Sample{sample("1", float64(i))}, false)
		require.NoError(t, err)
	}
	require.Positive(t, hook.dropped.Load())
	n, err := client.XLen(t.Context(), s.key("hissrv:queue")).Result()
	require.NoError(t, err)
	require.EqualValues(t, 20, n)

	second, err := s.Acquire(t.Context(), "1001", "engine", time.Minute)
	require.NoError(t, err)
	require.NotEqual(t, s.lease.Epoch, second.Epoch)
	_, _, err = w.Write(t.Context(), []model.Sample{sample("1", 99)}, false)
	require.ErrorIs(t, err, scripts.ErrFenced)
	require.Equal(t, "19.000000", s.hash(t, "comsrv:1001:m")["1"])
	require.ErrorIs(t, s.Renew(t.Context(), s.lease, time.Minute), scripts.ErrFenced)
	_, err = s.Acquire(t.Context(), "1001", "other", time.Minute)
	require.ErrorIs(t, err, scripts.ErrHeld)
	require.NoError(t, s.Release(t.Context(), second))
	_, err = s.Acquire(t.Context(), "1001", "other", time.Minute)
	require.NoError(t, err)
}

// dropReplies loses the replies of script calls after they were executed.
type dropReplies struct{ drop, dropped atomic.Int64 }

func (h *dropReplies) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *dropReplies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (h *dropReplies) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "evalsha" && err == nil && h.drop.Add(-1) >= 0 {
			h.dropped.Add(1)
			cmd.SetErr(fmt.Errorf("connection reset by the test"))
			return cmd.Err()
		}
		return err
	}
}

func TestMappingChangesAreFollowed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testMappingChangesAreFollowed)
}

func testMappingChangesAreFollowed(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	w := s.NewWriter(s.lease, s.points)
	_, _, err := w.Write(t.Context(), []model.Sample{sample("1", 1)}, false)
	require.NoError(t, err)
	require.NoError(t, s.PutModel(t.Context(), model.Instance{ID: "site", Measurements: map[string]string{"battery": "1001:1"}}))
	stale, _, err := w.Write(t.Context(), []model.Sample{sample("1", 2)}, false)
	require.NoError(t, err)
	require.True(t, stale)
	require.Equal(t, "2.000000", s.hash(t, "modsrv:site:measurement")["battery"])
	require.Equal(t, "2.000000", s.hash(t, "modsrv:pcs1:measurement")["active_power"])

	// another program changes the mapping without a word
	require.NoError(t, client.HSet(t.Context(), s.key("mapping:c2m"), "1001:2", "weather:air").Err())
	_, err = s.Reconcile(t.Context())
	require.NoError(t, err)
	_, _, err = w.Write(t.Context(), []model.Sample{sample("2", 20)}, false)
	require.NoError(t, err)
	require.Equal(t, "20.000000", s.hash(t, "modsrv:weather:measurement")["air"])

	require.NoError(t, s.DropModel(t.Context(), "site"))
	require.Equal(t, "pcs1:active_power", s.hash(t, "mapping:c2m")["1001:1"])
	require.ErrorIs(t, s.DropModel(t.Context(), "site"), scripts.ErrNotFound)
}

func TestLostDataIsRestored(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testLostDataIsRestored)
}

func testLostDataIsRestored(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	w := s.NewWriter(s.lease, s.points)
	_, _, err := w.Write(t.Context(), []model.Sample{sample("1", 1)}, false)
	require.NoError(t, err)
	require.NoError(t, client.ScriptFlush(t.Context()).Err())
	_, _, err = w.Write(t.Context(), []model.Sample{sample("1", 2)}, false)
	require.NoError(t, err)
	require.Equal(t, "2.000000", s.hash(t, "modsrv:pcs1:measurement")["active_power"])

	// all keys of the site, as FLUSHALL would, but other tests share the store
	keys := keysOf(t, client, s.prefix)
	require.NotEmpty(t, keys)
	require.NoError(t, client.Del(t.Context(), keys...).Err())
	_, _, err = w.Write(t.Context(), []model.Sample{sample("1", 3)}, false)
	require.ErrorIs(t, err, scripts.ErrFenced)
	require.Equal(t, "pcs1:active_power", s.hash(t, "mapping:c2m")["1001:1"])
	s.now.Add(1)
	lease, err := s.Acquire(t.Context(), "1001", "engine", time.Minute)
	require.NoError(t, err)
	require.Greater(t, lease.Epoch, s.lease.Epoch)
	w = s.NewWriter(lease, s.points)
	_, _, err = w.Write(t.Context(), []model.Sample{sample("1", 3)}, false)
	require.NoError(t, err)
	require.Equal(t, "3.000000", s.hash(t, "modsrv:pcs1:measurement")["active_power"])
}

func TestUpdateMessages(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testUpdateMessages)
}

func testUpdateMessages(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	ctx, cancel := context.WithCancel(t.Context())
	updates, ready, done := make(chan model.Update, 10), make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		s.Listen(ctx, scripts.Listener{Update: func(u model.Update) { updates <- u }, Alarms: func() {}, Commands: func() {},
			Control: func(string) {}, Connected: func() { ready <- struct{}{} }})
	}()
	<-ready
	w := s.NewWriter(s.lease, s.points)
	_, _, err := w.Write(t.Context(), []model.Sample{sample("1", 1), {Point: "5", Text: "a,b:c%2C"}, {Point: "2", Quality: model.Stale}}, false)
	require.NoError(t, err)
	require.Equal(t, model.Update{Model: "pcs1", Points: []model.PointUpdate{{Name: "active_power", Value: "1.000000"},
		{Name: "serial", Value: "a,b:c%2C"}, {Name: "temperature"}}}, <-updates)
	cancel()
	<-done
}

func TestCluster(t *testing.T) {
	t.Parallel()
	store, err := scripts.OpenStore(t.Context(), scripts.StoreConfig{URL: "redis-cluster://" + strings.Join(storetest.Cluster(t), ",")}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { store.Close(context.Background()) })
	for name, test := range map[string]func(*testing.T, redis.UniversalClient){
		"batch": testBatch, "quality": testQuality, "mapping": testMappingChangesAreFollowed, "updates": testUpdateMessages,
		"lost data": testLostDataIsRestored, "alarms": testAlarmLife, "rules": testRuleActsOnceWhenItBecomesTrue,
		"commands": testCommandLife, "foreign": testBadThingsOfOthersCostThemselvesAlone,
	} {
		t.Run(name, func(t *testing.T) { // on several sites, so on several nodes
			test(t, store.Client)
			test(t, store.Client)
			test(t, store.Client)
		})
	}
}

// keysOf lists every key of a site, on a cluster too.
func keysOf(t *testing.T, client redis.UniversalClient, prefix string) []string {
	t.Helper()
	var node redis.Cmdable = client
	if cluster, ok := client.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(t.Context(), prefix+"anchor")
		require.NoError(t, err)
		node = master
	}
	keys, err := node.Keys(t.Context(), prefix+"*").Result()
	require.NoError(t, err)
	return keys
}
