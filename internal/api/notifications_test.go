package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

func (s *fakeSite) Notifications(context.Context) (model.Notifications, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panics {
		panic("boom")
	}
	return model.Notifications{Queue: 3, Dropped: 2, DeadLetters: 1, Targets: []model.NotificationTarget{
		{ID: "ops", Pending: 1, PendingBySeverity: map[model.Severity]int{model.High: 1}, Sent: 7, LastSuccess: start},
		{ID: "down", Failed: 4, LastError: "no route", LastErrorAt: start, RetryAt: start}}}, s.failing("Notifications")
}

func (s *fakeSite) DeadNotifications(context.Context) ([]model.DeadNotification, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panics {
		panic("boom")
	}
	return []model.DeadNotification{{ID: "1-a", Time: start, Target: "ops", Reason: "400 Bad Request", Attempts: 1, Message: json.RawMessage(`{"type":"alarm"}`)},
		{ID: "2-b", Time: start, Reason: "not a JSON object", Message: json.RawMessage(`"x"`)}}, s.failing("DeadNotifications")
}

func (s *fakeSite) RetryNotifications(_ context.Context, ids ...string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panics {
		panic("boom")
	}
	return max(len(ids), 1), s.failing("RetryNotifications")
}

func (s *fakeSite) TestNotification(_ context.Context, target string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panics {
		panic("boom")
	}
	switch target {
	case "down":
		return "target down: not delivered: no route", nil
	case "none":
		return "", fmt.Errorf("target none: %w", scripts.ErrNotFound)
	}
	return "", s.failing("TestNotification")
}

func TestNotificationRoutes(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newFakeSite(), nil)
	w := do(h, "GET", "/notifications", "")
	require.Equal(t, http.StatusOK, w.Code)
	var n model.Notifications
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &n))
	require.EqualValues(t, 7, n.Targets[0].Sent)
	require.Equal(t, http.StatusOK, do(h, "POST", "/notifications/ops/test", "").Code)
	w = do(h, "POST", "/notifications/down/test", "")
	require.Equal(t, http.StatusBadGateway, w.Code)
	require.Contains(t, w.Body.String(), "no route")
	require.Equal(t, http.StatusNotFound, do(h, "POST", "/notifications/none/test", "").Code)
	w = do(h, "GET", "/notifications/dead", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), `"reason":"400 Bad Request"`)
	w = do(h, "POST", "/notifications/dead/retry", `{"ids":["1-a","2-b"]}`)
	require.JSONEq(t, `{"retried":2}`, w.Body.String())
	text := do(h, "GET", "/metrics", "").Body.String()
	for _, line := range []string{"voltage_notifications_queued 3", "voltage_notifications_dropped_total 2", "voltage_notifications_dead_letters 1",
		`voltage_notification_sent_total{target="ops"} 7`, `voltage_notification_failed_total{target="down"} 4`, `voltage_notification_pending{target="ops"} 1`} {
		require.Contains(t, text, line+"\n")
	}
}
