package scripts_test

import (
	"encoding/json"
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

func workOf(t *testing.T, s *scripts.NotificationSender) map[string]string {
	t.Helper()
	list := map[string]string{}
	require.NoError(t, s.Work(t.Context(), func(id, text string) { list[id] = text }))
	return list
}

func TestNotificationsAreTakenAndSettled(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		site, ctx := storetest.Site(t), t.Context()
		p, err := scripts.New(client, scripts.Options{Site: site})
		require.NoError(t, err)
		queue := "{" + site + "}:notification:queue"
		a, b := p.NotificationSender("a", time.Minute), p.NotificationSender("b", time.Minute)
		taken, err := a.Take(ctx, 10)
		require.NoError(t, err)
		require.Empty(t, taken)
		for i := range 5 {
			require.NoError(t, client.LPush(ctx, queue, fmt.Sprint(i)).Err())
		}
		taken, err = a.Take(ctx, 2)
		require.NoError(t, err)
		require.Equal(t, []string{"0", "1"}, taken, "the oldest first")
		again, err := a.Take(ctx, 2)
		require.NoError(t, err)
		require.Equal(t, taken, again, "until they are settled")
		others, err := b.Take(ctx, 10)
		require.NoError(t, err)
		require.Equal(t, []string{"2", "3", "4"}, others, "each is one sender's")
		require.NoError(t, a.Settle(ctx, scripts.NotificationChange{Taken: taken, Put: map[string]string{"0|x": "w0", "1|x": "w1"}, Dropped: 3,
			Dead: []model.DeadNotification{{ID: "d", Target: "x", Reason: "y", Message: json.RawMessage(`{"a":1}`)}}}))
		require.Equal(t, map[string]string{"0|x": "w0", "1|x": "w1"}, workOf(t, a))
		require.Empty(t, workOf(t, b))
		texts, err := a.WorkOf(ctx, "1|x", "none")
		require.NoError(t, err)
		require.Equal(t, []string{"w1", ""}, texts)
		waiting, dead, dropped, err := p.NotificationCounts(ctx)
		require.NoError(t, err)
		require.Equal(t, []int64{0, 1, 3}, []int64{waiting, dead, dropped})
		var stored string
		require.NoError(t, p.DeadNotifications(ctx, func(d model.DeadNotification, text string) {
			require.Equal(t, "d", d.ID)
			stored = text
		}))
		require.NoError(t, a.Settle(ctx, scripts.NotificationChange{Done: []string{"0|x", "1|x"}, Revive: []string{stored}, Queue: []string{"again"}}))
		require.Empty(t, workOf(t, a))
		waiting, dead, _, err = p.NotificationCounts(ctx)
		require.NoError(t, err)
		require.Equal(t, []int64{1, 0}, []int64{waiting, dead})
	})
}

func TestDeadNotificationsAreBounded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		p, err := scripts.New(client, scripts.Options{Site: storetest.Site(t)})
		require.NoError(t, err)
		s := p.NotificationSender("a", time.Minute)
		var list []model.DeadNotification
		for i := range 1005 {
			list = append(list, model.DeadNotification{ID: fmt.Sprint(i), Message: json.RawMessage(`1`)})
		}
		require.NoError(t, s.Settle(t.Context(), scripts.NotificationChange{Dead: list}))
		_, dead, dropped, err := p.NotificationCounts(t.Context())
		require.NoError(t, err)
		require.Equal(t, []int64{1000, 5}, []int64{dead, dropped})
		var kept []string
		require.NoError(t, p.DeadNotifications(t.Context(), func(d model.DeadNotification, _ string) { kept = append(kept, d.ID) }))
		require.Equal(t, "1004", kept[0], "the newest first")
		require.Equal(t, "5", kept[999])
	})
}

// What a sender leaves is taken over by one other, once it is gone, and not before.
func TestNotificationsAreTakenOver(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		site, ctx := storetest.Site(t), t.Context()
		p, err := scripts.New(client, scripts.Options{Site: site})
		require.NoError(t, err)
		gone, a, b := p.NotificationSender("gone", time.Minute), p.NotificationSender("a", time.Minute), p.NotificationSender("b", time.Minute)
		for _, s := range []*scripts.NotificationSender{gone, a, b} {
			require.NoError(t, s.Alive(ctx))
		}
		put := map[string]string{}
		for i := range 700 { // more than goes in one step
			put[fmt.Sprint(i)] = fmt.Sprint("w", i)
		}
		require.NoError(t, gone.Settle(ctx, scripts.NotificationChange{Put: put}))
		for i := range 5 {
			require.NoError(t, client.LPush(ctx, "{"+site+"}:notification:queue", fmt.Sprint(i)).Err())
		}
		_, err = gone.Take(ctx, 3)
		require.NoError(t, err)
		adopted, err := a.Adopt(ctx)
		require.NoError(t, err)
		require.False(t, adopted, "it lives")
		require.Empty(t, workOf(t, a))

		require.NoError(t, gone.Leave(ctx))
		adopted, err = a.Adopt(ctx)
		require.NoError(t, err)
		require.True(t, adopted)
		require.Equal(t, put, workOf(t, a))
		require.Empty(t, workOf(t, gone))
		taken, err := a.Take(ctx, 10)
		require.NoError(t, err)
		require.Equal(t, []string{"0", "1", "2"}, taken, "in their order")
		adopted, err = b.Adopt(ctx)
		require.NoError(t, err)
		require.False(t, adopted)

		// One that was only slow goes on, and what it makes is found again.
		require.NoError(t, gone.Settle(ctx, scripts.NotificationChange{Put: map[string]string{"late": "w"}}))
		adopted, err = b.Adopt(ctx)
		require.NoError(t, err)
		require.True(t, adopted)
		require.Equal(t, map[string]string{"late": "w"}, workOf(t, b))
		left, err := client.SMembers(ctx, "{"+site+"}:notification:senders").Result()
		require.NoError(t, err)
		slices.Sort(left)
		require.Equal(t, []string{"a", "b"}, left, "what has nothing is forgotten")
	})
}
