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

func TestAlarmLife(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testAlarmLife)
}

func testAlarmLife(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	ctx := t.Context()
	require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "hot", Model: "pcs1", Point: "temperature",
		Operator: model.Above, Threshold: 60, Hysteresis: 5, Severity: model.High, Message: "too hot"}))
	w := s.NewWriter(s.lease, s.points)
	write := func(v float64) {
		t.Helper()
		s.now.Add(1000)
		_, warnings, err := w.Write(ctx, []model.Sample{sample("2", v)}, false)
		require.NoError(t, err)
		require.Empty(t, warnings)
	}
	open := func() []model.Alarm {
		t.Helper()
		list, err := s.OpenAlarms(ctx)
		require.NoError(t, err)
		return list
	}
	write(60)
	require.Empty(t, open())
	write(61)
	write(62)
	_, _, err := w.Write(ctx, []model.Sample{{Point: "2", Quality: model.Offline}}, false)
	require.NoError(t, err)
	list := open()
	require.Len(t, list, 1)
	a := list[0]
	require.Equal(t, model.Alarm{ID: a.ID, Model: "pcs1", Point: "temperature", Rule: "hot", Severity: model.High,
		Status: model.AlarmActive, Message: "too hot", Value: 61, Threshold: 60, Operator: model.Above, Quality: "offline", Raised: time.UnixMilli(start + 2000), Count: 1}, a)
	write(56) // within the hysteresis
	require.Equal(t, model.AlarmActive, open()[0].Status)
	write(55)
	require.Equal(t, model.AlarmCleared, open()[0].Status)
	write(70) // again, before anybody took note: the same record
	require.Len(t, open(), 1)
	require.EqualValues(t, 2, open()[0].Count)

	a, err = s.Acknowledge(ctx, a.ID, "anna", "on my way")
	require.NoError(t, err)
	require.Equal(t, model.AlarmAcknowledged, a.Status)
	_, err = s.Acknowledge(ctx, a.ID, "bert", "me too")
	require.NoError(t, err)
	write(40)
	require.Empty(t, open())
	a, err = s.Alarm(ctx, a.ID)
	require.NoError(t, err)
	require.Equal(t, model.AlarmClosed, a.Status)
	require.Equal(t, "anna", a.AcknowledgedBy)

	write(61) // a new one; now it returns first and is acknowledged then
	write(40)
	second := open()[0]
	require.NotEqual(t, a.ID, second.ID)
	second, err = s.Acknowledge(ctx, second.ID, "anna", "")
	require.NoError(t, err)
	require.Equal(t, model.AlarmClosed, second.Status)
	require.Empty(t, open())

	journal, err := s.AlarmJournal(ctx, "", 100)
	require.NoError(t, err)
	var steps []model.AlarmTransition
	for _, ev := range journal {
		steps = append(steps, ev.Transition)
	}
	require.Equal(t, []model.AlarmTransition{"raised", "cleared", "reraised", "acknowledged", "cleared", "raised", "cleared", "acknowledged"}, steps)
	rest, err := s.AlarmJournal(ctx, journal[6].Position, 100)
	require.NoError(t, err)
	require.Len(t, rest, 1)
	n, err := client.LLen(ctx, s.key("notification:queue")).Result()
	require.NoError(t, err)
	require.EqualValues(t, 8, n, "routes decide which transitions are worth a message")
	_, err = s.Acknowledge(ctx, "999", "anna", "")
	require.ErrorIs(t, err, scripts.ErrNotFound)
}

func TestOneBatchWithManySamplesOfOnePoint(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testOneBatchWithManySamplesOfOnePoint)
}

func testOneBatchWithManySamplesOfOnePoint(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	require.NoError(t, s.PutAlarmRule(t.Context(), model.AlarmRule{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.AboveOrEqual, Threshold: 60}))
	w := s.NewWriter(s.lease, s.points)
	_, warnings, err := w.Write(t.Context(), []model.Sample{sample("2", 70), sample("2", 10), sample("2", 71), sample("2", 11)}, false)
	require.NoError(t, err)
	require.Empty(t, warnings)
	list, err := s.OpenAlarms(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, model.AlarmCleared, list[0].Status)
	require.EqualValues(t, 2, list[0].Count)
}

func TestBadThingsOfOthersCostThemselvesAlone(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testBadThingsOfOthersCostThemselvesAlone)
}

func testBadThingsOfOthersCostThemselvesAlone(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	ctx := t.Context()
	require.NoError(t, client.HSet(ctx, s.key("alarm:rules:pcs1:temperature"), "broken", "{", "nothing", `{"operator":">"}`,
		"odd", `{"operator":"~","threshold":1}`, "text", `{"operator":">","threshold":"60","severity":null}`).Err())
	require.NoError(t, client.HSet(ctx, s.key("rule:bad"), "conditions", "[", "actions", "x").Err())
	require.NoError(t, client.HSet(ctx, s.key("mapping:c2m"), "1001:3", "pcs1:running,nonsense,:").Err())
	require.NoError(t, client.Set(ctx, s.key("modsrv:pcs1:signal"), "not a hash", 0).Err())
	problems, err := s.Reconcile(ctx)
	require.NoError(t, err)
	require.Len(t, problems, 6, problems)
	w := s.NewWriter(s.lease, s.points)
	_, warnings, err := w.Write(ctx, []model.Sample{sample("1", 1), sample("2", 61), sample("3", 1)}, false)
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "modsrv:pcs1:signal")
	require.Equal(t, "61.000000", s.hash(t, "modsrv:pcs1:measurement")["temperature"])
	list, err := s.OpenAlarms(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "text", list[0].Rule)
	require.Equal(t, model.Medium, list[0].Severity)
}

func TestRuleActsOnceWhenItBecomesTrue(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testRuleActsOnceWhenItBecomesTrue)
}

func testRuleActsOnceWhenItBecomesTrue(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	ctx := t.Context()
	require.NoError(t, s.PutRule(ctx, model.Rule{ID: "stop", Conditions: []model.Condition{
		{Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60},
		{Model: "pcs1", Point: "running", Operator: model.Equal, Threshold: 1},
	}, Actions: []model.Action{{Type: model.ActionControl, Model: "pcs1", Control: "power_setpoint", Value: 0},
		{Type: model.ActionAlarm, Severity: model.Critical, Message: "stopped"}, {Type: model.ActionNotification, Message: "stopped"}}}))
	w := s.NewWriter(s.lease, s.points)
	write := func(samples ...model.Sample) {
		t.Helper()
		_, warnings, err := w.Write(ctx, samples, false)
		require.NoError(t, err)
		require.Empty(t, warnings)
	}
	executions := func() int64 {
		stats, err := s.RuleStats(ctx, "stop")
		require.NoError(t, err)
		return stats.Executions
	}
	write(sample("2", 70))
	require.Zero(t, executions()) // running is unknown: nothing to decide on
	write(sample("2", 71), sample("3", 1))
	write(sample("2", 72))
	require.EqualValues(t, 1, executions())
	write(model.Sample{Point: "2", Quality: model.Offline})
	write(sample("3", 1))
	require.EqualValues(t, 1, executions()) // held
	write(sample("2", 10))
	write(sample("2", 80))
	require.EqualValues(t, 2, executions())
	queue, err := s.Queue(ctx, "1001", "")
	require.NoError(t, err)
	require.Len(t, queue, 2)
	c, err := s.Command(ctx, queue[0].Command)
	require.NoError(t, err)
	require.Equal(t, "rule:stop", c.Origin)
	list, err := s.OpenAlarms(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
	_, err = s.CloseAlarm(ctx, list[0].ID, "anna", "fixed")
	require.NoError(t, err)
	ran, notes, err := s.RunRule(ctx, "stop")
	require.NoError(t, err)
	require.True(t, ran)
	require.Len(t, notes, 1)
	require.EqualValues(t, 3, executions())
}

func TestCommandLife(t *testing.T) {
	t.Parallel()
	storetest.Each(t, testCommandLife)
}

func testCommandLife(t *testing.T, client redis.UniversalClient) {
	s := newSite(t, client)
	ctx := t.Context()
	submit := func(id string, value float64) model.CommandResult {
		t.Helper()
		r, err := s.Submit(ctx, model.Command{ID: id, Model: "pcs1", Control: "power_setpoint", Value: value, Timeout: 5 * time.Second})
		require.NoError(t, err)
		return r
	}
	r := submit("a", 50)
	require.Equal(t, model.CommandQueued, r.State)
	require.Equal(t, "1001", r.Channel)
	require.Equal(t, time.UnixMilli(start+5000), r.Deadline)
	require.Equal(t, map[string]string{"4": "50.000000"}, s.hash(t, "cmd:1001:control"))
	require.Equal(t, r, submit("a", 50)) // the same id again
	first, err := s.Submit(ctx, model.Command{ID: "a", Model: "pcs1", Control: "power_setpoint", Value: 60})
	require.ErrorIs(t, err, scripts.ErrConflict)
	require.Equal(t, 50.0, first.Value)

	queue, err := s.Queue(ctx, "1001", "")
	require.NoError(t, err)
	require.Len(t, queue, 1)
	r, err = s.Claim(ctx, s.lease, queue[0], "t1")
	require.NoError(t, err)
	require.Equal(t, model.CommandExecuting, r.State)
	_, err = s.Claim(ctx, s.lease, queue[0], "t1")
	require.NoError(t, err) // a lost reply
	_, err = s.Claim(ctx, s.lease, queue[0], "t2")
	require.ErrorIs(t, err, scripts.ErrConflict)
	_, err = s.Finish(ctx, "a", "t2", model.CommandVerified, "", "", nil)
	require.ErrorIs(t, err, scripts.ErrConflict)
	r, err = s.Finish(ctx, "a", "t1", model.CommandVerified, "", "", new(50.0))
	require.NoError(t, err)
	require.Equal(t, 50.0, *r.ReadBack)
	queue, err = s.Queue(ctx, "1001", "")
	require.NoError(t, err)
	require.Empty(t, queue)

	for name, c := range map[string]struct {
		control string
		value   float64
		reason  string
	}{"max": {"power_setpoint", 100.5, "limit"}, "min": {"power_setpoint", -101, "limit"}, "step": {"power_setpoint", 0.3, "step"},
		"unbound": {"nothing", 1, "no_mapping"}} {
		r, err := s.Submit(ctx, model.Command{ID: name, Model: "pcs1", Control: c.control, Value: c.value})
		require.NoError(t, err)
		require.Equal(t, model.CommandRejected, r.State, name)
		require.Equal(t, c.reason, r.Reason, name)
	}
	r, err = s.Submit(ctx, model.Command{ID: "k1", Key: "once", Model: "pcs1", Control: "power_setpoint", Value: 1})
	require.NoError(t, err)
	r2, err := s.Submit(ctx, model.Command{ID: "k2", Key: "once", Model: "pcs1", Control: "power_setpoint", Value: 1})
	require.NoError(t, err)
	require.Equal(t, r.ID, r2.ID)
	_, err = s.Submit(ctx, model.Command{ID: "k3", Key: "once", Model: "pcs1", Control: "power_setpoint", Value: 2})
	require.ErrorIs(t, err, scripts.ErrConflict)
	r, err = s.Cancel(ctx, "k1", "anna")
	require.NoError(t, err)
	require.Equal(t, model.CommandCancelled, r.State)
	_, err = s.Cancel(ctx, "a", "anna")
	require.ErrorIs(t, err, scripts.ErrConflict)
	_, err = s.Command(ctx, "none")
	require.ErrorIs(t, err, scripts.ErrNotFound)

	submit("late", 1)
	_, err = s.Expire(ctx, "late")
	require.ErrorIs(t, err, scripts.ErrConflict)
	queue, err = s.Queue(ctx, "1001", "")
	require.NoError(t, err)
	s.now.Add(5001)
	r, err = s.Claim(ctx, s.lease, queue[0], "t3")
	require.ErrorIs(t, err, scripts.ErrConflict)
	require.Equal(t, model.CommandExpired, r.State)

	submit("torn", 1) // claimed by an owner that dies
	queue, err = s.Queue(ctx, "1001", "")
	require.NoError(t, err)
	_, err = s.Claim(ctx, s.lease, queue[0], "t4")
	require.NoError(t, err)
	lease, err := s.Acquire(ctx, "1001", "engine", time.Minute)
	require.NoError(t, err)
	_, err = s.Claim(ctx, s.lease, queue[0], "t4")
	require.ErrorIs(t, err, scripts.ErrFenced)
	r, err = s.Claim(ctx, lease, queue[0], "t5")
	require.ErrorIs(t, err, scripts.ErrConflict)
	require.Equal(t, model.CommandUnknown, r.State)
	r, err = s.Finish(ctx, "torn", "t4", model.CommandVerified, "", "", nil) // who executed it may still tell
	require.NoError(t, err)
	require.Equal(t, model.CommandVerified, r.State)

	require.NoError(t, s.Release(ctx, lease))
	r = submit("nobody", 1)
	require.Equal(t, "channel_stopped", r.Reason)
	m := model.Instance{ID: "pcs1", Disabled: true, Controls: map[string]string{"power_setpoint": "1001:4"}}
	require.NoError(t, s.PutModel(ctx, m))
	require.Equal(t, "disabled", submit("off", 1).Reason)

	journal, err := s.CommandJournal(ctx, "", 100)
	require.NoError(t, err)
	var torn []model.CommandState
	for _, ev := range journal {
		if ev.ID == "torn" {
			torn = append(torn, ev.State)
		}
	}
	require.Equal(t, []model.CommandState{"queued", "executing", "unknown", "verified"}, torn)
	ttl, err := client.TTL(ctx, s.key("command:a")).Result()
	require.NoError(t, err)
	require.InDelta(t, (24 * time.Hour).Seconds(), ttl.Seconds(), 60)
}

// The form that people and other programs call, without a site and without KEYS
// as it is printed, here with a site for the tests share the store.
func TestByHand(t *testing.T) {
	t.Parallel()
	text, err := scripts.Dump("data_sync")
	require.NoError(t, err)
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		ctx := t.Context()
		p := "{" + storetest.Site(t) + "}:"
		call := func(args ...any) []string {
			t.Helper()
			reply, err := client.Eval(ctx, text, []string{p + "anchor"}, args...).StringSlice()
			require.NoError(t, err)
			return reply
		}
		require.Equal(t, []string{"OK"}, call("c2m", "1001", "10001", "25.123456"))
		require.Equal(t, "25.123456", client.HGet(ctx, p+"comsrv:1001:m", "10001").Val())
		require.NoError(t, client.HSet(ctx, p+"mapping:c2m", "1001:10001", "pcs1:temperature").Err())
		require.NoError(t, client.HSet(ctx, p+"alarm:rules:pcs1:temperature", "hot", `{"operator":">","threshold":60}`).Err())
		require.Equal(t, []string{"OK", "pcs1:temperature = 70.000000", "alarm hot of pcs1:temperature raised"}, call("c2m", "1001", "10001", "70"))
		require.Equal(t, []string{"OK", "pcs1:temperature = 71.000000"}, call("c2m", "1001", "10001", "71"))
		for _, bad := range []string{"nan", "inf", "1e3", "0x10", "", "abc", "--1"} {
			require.Equal(t, "INVALID", call("c2m", "1001", "10001", bad)[0], bad)
		}
		require.NoError(t, client.HSet(ctx, p+"mapping:m2c", "pcs1:power_setpoint", "1001:20001").Err())
		reply := call("m2c", "pcs1", "power_setpoint", "50")
		require.Equal(t, "OK", reply[0], fmt.Sprint(reply))
		require.Equal(t, "50.000000", client.HGet(ctx, p+"cmd:1001:control", "20001").Val())
		require.Equal(t, "INVALID", call("what")[0])
		require.Equal(t, "INVALID", call("m2c", "pcs1")[0])
	})
}

func TestNothingOfOneSiteTouchesAnother(t *testing.T) {
	t.Parallel()
	list, err := scripts.Scripts()
	require.NoError(t, err)
	require.Len(t, list, 9)
	for _, s := range list {
		require.Len(t, s.SHA, 40)
		require.Regexp(t, `^\d+\.\d+\.\d+\+[0-9a-f]{8}$`, s.Version)
		for _, forbidden := range []string{"goto ", "cmsgpack", "struct.", "bit.", "os.", "EVALSHA'", "#!"} {
			require.NotContains(t, s.Text, forbidden, s.Name)
		}
	}
	_, err = scripts.Dump("none")
	require.ErrorIs(t, err, scripts.ErrNotFound)
	_, err = scripts.New(redis.NewClusterClient(&redis.ClusterOptions{}), scripts.Options{})
	require.ErrorIs(t, err, model.ErrInvalid)
}
