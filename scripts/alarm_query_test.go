package scripts_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// record stores an alarm as the scripts do; fields are names and values.
func (s *testSite) record(t *testing.T, id int, status model.AlarmStatus, fields ...any) {
	t.Helper()
	all := append([]any{"id", id, "model_id", "bms1", "point_name", "temperature", "rule_id", "hot", "value", "61.000000", "threshold", "60.000000",
		"timestamp", start + int64(id)*1000, "status", string(status), "severity", "high", "message", "hot", "count", "1"}, fields...)
	_, err := s.client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.Del(t.Context(), s.key(fmt.Sprint("alarm:", id)))
		pipe.HSet(t.Context(), s.key(fmt.Sprint("alarm:", id)), all...)
		if status == model.AlarmClosed {
			pipe.SRem(t.Context(), s.key("alarm:active"), id)
			pipe.ZAdd(t.Context(), s.key("alarm:closed"), redis.Z{Score: float64(start + int64(id)*2000), Member: id})
		} else {
			pipe.SAdd(t.Context(), s.key("alarm:active"), id)
		}
		return nil
	})
	require.NoError(t, err)
}

func alarmIDs(list []model.Alarm) []int {
	ids := []int{}
	for _, a := range list {
		id, _ := strconv.Atoi(a.ID)
		ids = append(ids, id)
	}
	return ids
}

func TestAlarmRecord(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Embedded(t))
	s.record(t, 7, model.AlarmLatched, "operator", "out_of_range", "high", "80.000000", "device_time", start-5, "quality", "stale", "suppression", "shelved",
		"shelved_until", start+60_000, "reason", "works", "suppressed_by", "ann", "chattering", "1", "cleared_at", start+1, "acknowledged_at", start+2,
		"acknowledged_by", "bob", "comment", "seen", "closed_at", start+3, "count", "4")
	a, err := s.Alarm(t.Context(), "7")
	require.NoError(t, err)
	at := func(ms int64) time.Time { return time.UnixMilli(start + ms) }
	require.Equal(t, model.Alarm{ID: "7", Model: "bms1", Point: "temperature", Rule: "hot", Severity: model.High, Status: model.AlarmLatched, Message: "hot",
		Value: 61, Threshold: 60, Operator: model.OutOfRange, High: 80, Quality: "stale", Suppression: model.Shelved, ShelvedUntil: at(60_000),
		Reason: "works", SuppressedBy: "ann", Chattering: true, DeviceTime: at(-5), Raised: at(7000), Cleared: at(1), Acknowledged: at(2), Closed: at(3),
		AcknowledgedBy: "bob", Comment: "seen", Count: 4}, a)
	s.record(t, 8, model.AlarmActive, "value", "nan", "shelved_until", "0")
	a, err = s.Alarm(t.Context(), "8")
	require.NoError(t, err)
	require.Zero(t, a.Value, "JSON has no word for it")
	require.Zero(t, a.ShelvedUntil)
}

func TestQueryAlarms(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, ctx := newSite(t, client), t.Context()
		query := func(q model.AlarmQuery) []int {
			t.Helper()
			list, err := s.QueryAlarms(ctx, q)
			require.NoError(t, err)
			return alarmIDs(list)
		}
		require.Empty(t, query(model.AlarmQuery{Closed: true}))
		s.record(t, 9, model.AlarmActive, "severity", "critical")
		s.record(t, 10, model.AlarmClosed)
		s.record(t, 11, model.AlarmCleared, "suppression", "shelved")
		s.record(t, 12, model.AlarmLatched, "model_id", "pcs1")
		s.record(t, 100, model.AlarmAcknowledged, "rule_id", "cold")
		// what other programs may have made of it
		require.NoError(t, client.SAdd(ctx, s.key("alarm:active"), "gone", 50, 51).Err())
		require.NoError(t, client.Set(ctx, s.key("alarm:51"), "text", 0).Err())

		require.Equal(t, []int{9, 11, 12, 100}, query(model.AlarmQuery{}))
		require.Equal(t, []int{100, 12, 11, 10, 9}, query(model.AlarmQuery{Closed: true, Newest: true}))
		require.Equal(t, []int{10}, query(model.AlarmQuery{States: []model.AlarmStatus{model.AlarmClosed}}))
		require.Equal(t, []int{9, 10}, query(model.AlarmQuery{States: []model.AlarmStatus{model.AlarmClosed, model.AlarmActive}}))
		require.Equal(t, []int{9}, query(model.AlarmQuery{Severities: []model.Severity{model.Critical}}))
		require.Equal(t, []int{11}, query(model.AlarmQuery{Suppressions: []model.Suppression{model.Shelved}}))
		require.Equal(t, []int{9, 12, 100}, query(model.AlarmQuery{Suppressions: []model.Suppression{""}}))
		require.Equal(t, []int{12}, query(model.AlarmQuery{Model: "pcs1"}))
		require.Equal(t, []int{100}, query(model.AlarmQuery{Rule: "cold"}))
		require.Equal(t, []int{10, 11}, query(model.AlarmQuery{Closed: true, From: time.UnixMilli(start + 10_000), To: time.UnixMilli(start + 12_000)}))
		_, err := s.QueryAlarms(ctx, model.AlarmQuery{Limit: -1})
		require.ErrorIs(t, err, model.ErrInvalid)

		open, err := s.OpenAlarms(ctx)
		require.NoError(t, err)
		require.Equal(t, []int{9, 11, 12, 100}, alarmIDs(open), "as many as can be read")

		c, err := s.AlarmCounts(ctx)
		require.NoError(t, err)
		require.Equal(t, model.AlarmCounts{Open: 4, Closed: 1,
			Statuses:       map[model.AlarmStatus]int{model.AlarmActive: 1, model.AlarmCleared: 1, model.AlarmLatched: 1, model.AlarmAcknowledged: 1},
			Severities:     map[model.Severity]int{model.Critical: 1, model.High: 3},
			Suppressions:   map[model.Suppression]int{model.Shelved: 1},
			Unacknowledged: map[model.Severity]int{model.Critical: 1, model.High: 1}}, c)
	})
}

// Pages are neither repeated nor left out while alarms come, change and close.
func TestQueryAlarmsInPages(t *testing.T) {
	t.Parallel()
	s, ctx := newSite(t, storetest.Embedded(t)), t.Context()
	const n = 2600 // more closed ones than are listed at a time
	for id := 1; id <= n; id++ {
		status := model.AlarmClosed
		if id%4 == 0 {
			status = model.AlarmActive
		}
		s.record(t, id, status)
	}
	for _, newest := range []bool{false, true} {
		q, seen := model.AlarmQuery{Closed: true, Newest: newest, Limit: 700}, []int{}
		for page := 0; ; page++ {
			list, err := s.QueryAlarms(ctx, q)
			require.NoError(t, err)
			seen = append(seen, alarmIDs(list)...)
			if len(list) < q.Limit {
				break
			}
			q.After = list[len(list)-1].ID
			s.record(t, 4*(page+1), model.AlarmClosed) // of those that were open, one on the first page, and
			s.record(t, n-4*page, model.AlarmClosed)   // one on the last
			s.record(t, n+1+page, model.AlarmActive)
		}
		seen = slices.DeleteFunc(seen, func(id int) bool { return id > n })
		want := make([]int, n)
		for i := range want {
			want[i] = i + 1
			if newest {
				want[i] = n - i
			}
		}
		require.Equal(t, want, seen, "newest first: %v", newest)
	}
}

func TestUnannouncedAlarms(t *testing.T) {
	t.Parallel()
	s, ctx := newSite(t, storetest.Embedded(t)), t.Context()
	require.NoError(t, s.client.HSet(ctx, s.key("alarm:shelved"),
		"pcs1:power:high", fmt.Sprintf(`{"kind":"shelved","until":%d,"by":"ann","reason":"works","at":"%d"}`, start+60_000, start),
		"bms1:soc:low", fmt.Sprintf(`{"kind":"out_of_service","until":0,"by":"bob","reason":"broken","at":%d}`, start),
		"bms1:soc:other", `{"kind":"asleep"}`, "odd", `none`).Err())
	list, err := s.UnannouncedAlarms(ctx)
	require.NoError(t, err)
	require.Len(t, list, 4)
	require.Equal(t, model.Unannounced{Model: "bms1", Point: "soc", Rule: "low", Kind: model.OutOfService, By: "bob", Reason: "broken", Since: time.UnixMilli(start)}, list[0])
	require.Equal(t, "other", list[1].Rule)
	require.Contains(t, list[1].Reason, `"asleep"`)
	require.Equal(t, "odd", list[2].Model)
	require.Contains(t, list[2].Reason, "cannot be read")
	require.Equal(t, model.Unannounced{Model: "pcs1", Point: "power", Rule: "high", Kind: model.Shelved, By: "ann", Reason: "works",
		Until: time.UnixMilli(start + 60_000), Since: time.UnixMilli(start)}, list[3])
	c, err := s.AlarmCounts(ctx)
	require.NoError(t, err)
	require.Equal(t, 4, c.Unannounced)
}

func TestAlarmDeskRefuses(t *testing.T) {
	t.Parallel()
	s, ctx := newSite(t, storetest.Embedded(t)), t.Context()
	for _, d := range []time.Duration{0, model.MinShelving - 1, model.MaxShelving + 1} {
		_, err := s.Shelve(ctx, "1", "ann", "works", d)
		require.ErrorIs(t, err, model.ErrInvalid)
		require.ErrorContains(t, err, "want 1m0s to 168h0m0s")
	}
	_, err := s.Shelve(ctx, "1", "ann", " ", time.Hour)
	require.ErrorIs(t, err, model.ErrInvalid)
	require.ErrorContains(t, err, "reason")
	_, err = s.OutOfService(ctx, "a:b:c", "ann", "")
	require.ErrorContains(t, err, "reason")
	_, err = s.ResetAlarm(ctx, "nonsense", "ann", "")
	require.ErrorIs(t, err, scripts.ErrNotFound)
	_, err = s.Unshelve(ctx, "1", "a\nb", "")
	require.ErrorIs(t, err, model.ErrInvalid)
	_, err = s.AcknowledgeMany(ctx, []string{"1", "x"}, "ann", "")
	require.ErrorIs(t, err, model.ErrInvalid)
	n, err := s.AcknowledgeAll(ctx, model.AlarmQuery{States: []model.AlarmStatus{model.AlarmClosed}}, "ann", "")
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestAllAlarmRules(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		s, ctx := newSite(t, client), t.Context()
		require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60}))
		require.NoError(t, s.PutAlarmRule(ctx, model.AlarmRule{ID: "a", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 1, Disabled: true}))
		require.NoError(t, client.HSet(ctx, s.key("alarm:rules:bms1:soc"), "low", `{"operator":"<","threshold":"5"}`, "odd", `{"operator":"<"`).Err())
		require.NoError(t, client.Set(ctx, s.key("alarm:rules:bms1:text"), "no hash", 0).Err())
		rules, problems, err := s.AllAlarmRules(ctx)
		require.NoError(t, err)
		var names []string
		for _, r := range rules {
			names = append(names, model.AlarmRef(r.Model, r.Point, r.ID))
		}
		require.Equal(t, []string{"bms1:soc:low", "pcs1:temperature:a", "pcs1:temperature:hot"}, names)
		require.Len(t, problems, 2)
		require.Contains(t, problems[0], "alarm:rules:bms1:text")
		require.Contains(t, problems[1], `alarm rule "odd" of bms1:soc`)

		r, err := s.AlarmRule(ctx, "bms1", "soc", "low")
		require.NoError(t, err)
		require.Equal(t, model.AlarmRule{ID: "low", Model: "bms1", Point: "soc", Operator: model.Below, Threshold: 5, Severity: model.Medium}, r)
		_, err = s.AlarmRule(ctx, "bms1", "soc", "odd")
		require.ErrorIs(t, err, model.ErrInvalid)
		_, err = s.AlarmRule(ctx, "bms1", "soc", "none")
		require.ErrorIs(t, err, scripts.ErrNotFound)
	})
}
