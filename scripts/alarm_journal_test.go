package scripts_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// journalled appends an entry at a position, for an alarm.
func journalled(t *testing.T, client redis.UniversalClient, stream, position, alarm string, at int64) {
	t.Helper()
	require.NoError(t, client.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: position, Values: []any{
		"transition", "raised", "time", at, "alarm", alarm, "model_id", "bms" + alarm, "point_name", "temperature", "rule_id", "hot", "severity", "high",
		"status", "active", "suppression", "shelved", "value", "61.500000", "threshold", "60.000000", "message", "hot", "by", "", "comment", "",
		"device_time", at - 7}}).Err())
}

func TestAlarmJournalRange(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		t.Parallel()
		ctx, name := t.Context(), storetest.Site(t)
		p, err := scripts.New(client, scripts.Options{Site: name}) // with the store's clock
		require.NoError(t, err)
		stream := "{" + name + "}:alarm:journal"
		var all []string
		for i := range 40 { // four in each of ten milliseconds
			position := fmt.Sprintf("%d-%d", start+int64(i/4), i%4)
			all = append(all, position)
			journalled(t, client, stream, position, fmt.Sprint(i%3), start+int64(i/4))
		}
		positions := func(q model.AlarmJournalQuery) []string {
			t.Helper()
			list, err := p.AlarmJournalRange(ctx, q)
			require.NoError(t, err)
			got := []string{}
			for _, e := range list {
				got = append(got, e.Position)
			}
			return got
		}
		backwards := slices.Clone(all)
		slices.Reverse(backwards)
		at := func(ms int64) time.Time { return time.UnixMilli(start + ms) }

		require.Equal(t, all, positions(model.AlarmJournalQuery{}))
		require.Equal(t, backwards, positions(model.AlarmJournalQuery{Newest: true}))
		require.Equal(t, all[8:20], positions(model.AlarmJournalQuery{From: at(2), To: at(5)}))
		require.Equal(t, backwards[20:32], positions(model.AlarmJournalQuery{From: at(2), To: at(5), Newest: true}))
		require.Equal(t, all[10:20], positions(model.AlarmJournalQuery{From: at(2), To: at(5), After: all[9]}))
		require.Equal(t, backwards[25:32], positions(model.AlarmJournalQuery{From: at(2), To: at(5), Newest: true, After: backwards[24]}))
		require.Equal(t, all[8:20], positions(model.AlarmJournalQuery{From: at(2), To: at(5), After: "5"}), "a position before the range")
		require.Equal(t, backwards[20:32], positions(model.AlarmJournalQuery{From: at(2), To: at(5), Newest: true, After: fmt.Sprint(start + 100)}))
		require.Empty(t, positions(model.AlarmJournalQuery{After: all[39]}))
		require.Empty(t, positions(model.AlarmJournalQuery{Newest: true, After: all[0]}))
		require.Empty(t, positions(model.AlarmJournalQuery{Newest: true, After: "0-0"}))
		require.Empty(t, positions(model.AlarmJournalQuery{From: at(100)}))

		one := positions(model.AlarmJournalQuery{Alarm: "1"})
		require.Len(t, one, 13)
		require.Equal(t, one, positions(model.AlarmJournalQuery{Model: "bms1", Point: "temperature", Rule: "hot"}))
		for _, q := range []model.AlarmJournalQuery{{Limit: 7}, {Limit: 7, Newest: true}, {Limit: 2, Alarm: "2"}, {Limit: 2, Alarm: "2", Newest: true}} {
			whole := q
			whole.Limit = 0
			got := []string{}
			for {
				page := positions(q)
				if got = append(got, page...); len(page) < q.Limit {
					break
				}
				q.After = page[len(page)-1]
			}
			require.Equal(t, positions(whole), got)
		}

		list, err := p.AlarmJournalRange(ctx, model.AlarmJournalQuery{Limit: 1})
		require.NoError(t, err)
		require.Equal(t, []model.AlarmEvent{{Position: all[0], Transition: model.TransitionRaised, Time: at(0), DeviceTime: at(-7), Alarm: "0",
			Model: "bms0", Point: "temperature", Rule: "hot", Severity: model.High, Status: model.AlarmActive, Suppression: model.Shelved,
			Value: 61.5, Threshold: 60, Message: "hot"}}, list)
		same, err := p.AlarmJournal(ctx, "", 1)
		require.NoError(t, err)
		require.Equal(t, list, same)
		_, err = p.AlarmJournalRange(ctx, model.AlarmJournalQuery{After: "x"})
		require.ErrorIs(t, err, model.ErrInvalid)
	})
}

// With a clock of its own, positions tell nothing of times.
func TestAlarmJournalRangeOfAnotherClock(t *testing.T) {
	t.Parallel()
	s := newSite(t, storetest.Embedded(t))
	for i := range 1200 { // more than are read at a time
		journalled(t, s.client, s.key("alarm:journal"), fmt.Sprintf("%d-0", i+1), "1", start+int64(i))
	}
	list, err := s.AlarmJournalRange(t.Context(), model.AlarmJournalQuery{From: time.UnixMilli(start + 1100), To: time.UnixMilli(start + 1103)})
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, "1101-0", list[0].Position)
}
