package api

import (
	"context"
	"net/http"
	"time"

	"github.com/voltageems/voltage/model"
)

// notificationRoutes are those about notifications.
func (h *Handler) notificationRoutes() []route {
	return []route{
		{method: "GET", path: "/notifications", id: "notifications", role: viewer, serve: h.notifications},
		{method: "POST", path: "/notifications/{id}/test", id: "testNotification", role: operator, serve: h.testNotification},
		{method: "GET", path: "/notifications/dead", id: "deadNotifications", role: viewer, serve: h.deadNotifications},
		{method: "POST", path: "/notifications/dead/retry", id: "retryNotifications", role: operator, serve: h.retryNotifications},
	}
}

// notifier is the part of Site that is about notifications; see voltage.Engine.
type notifier interface {
	Notifications(ctx context.Context) (model.Notifications, error)
	DeadNotifications(ctx context.Context) ([]model.DeadNotification, error)
	RetryNotifications(ctx context.Context, ids ...string) (int, error)
	// TestNotification sends a test through a target. failure is what the target
	// answered, "" when it took it; err is that it could not be tried.
	TestNotification(ctx context.Context, target string) (failure string, err error)
}

func (h *Handler) notifications(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	s, err := h.site.Notifications(ctx)
	if err != nil {
		return err
	}
	s.Targets = list(s.Targets)
	return h.ok(w, s)
}

// testTimeout bounds a test, which waits for a server that may be far away.
const testTimeout = 45 * time.Second

func (h *Handler) testNotification(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), testTimeout)
	defer cancel()
	id, err := pathID(r, "id", "target")
	if err != nil {
		return err
	}
	if err := readBody(w, r, true, map[string]any{}); err != nil {
		return err
	}
	accessOf(r).target = id
	failure, err := h.site.TestNotification(ctx, id)
	if err != nil {
		return err
	}
	if failure != "" {
		return problemf(http.StatusBadGateway, "%s", failure)
	}
	return h.ok(w, map[string]string{"status": "sent"})
}

func (h *Handler) deadNotifications(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	dead, err := h.site.DeadNotifications(ctx)
	if err != nil {
		return err
	}
	return h.ok(w, map[string]any{"dead": list(dead)})
}

func (h *Handler) retryNotifications(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := limited(r)
	defer cancel()
	var ids []string
	if err := readBody(w, r, true, map[string]any{"ids": &ids}); err != nil {
		return err
	}
	for _, id := range ids {
		if err := model.CheckID("dead notification", id); err != nil {
			return err
		}
	}
	n, err := h.site.RetryNotifications(ctx, ids...)
	if err != nil {
		return err
	}
	return h.ok(w, map[string]int{"retried": n})
}

// notifications writes how the notifications are doing.
func (m *metricsText) notifications(n model.Notifications) {
	m.family("voltage_notifications_queued", "gauge", "Notifications that nobody has taken yet.")
	m.sample("voltage_notifications_queued", float64(n.Queue))
	m.family("voltage_notifications_dead_letters", "gauge", "Notifications that were given up and are kept.")
	m.sample("voltage_notifications_dead_letters", float64(n.DeadLetters))
	m.family("voltage_notifications_dropped_total", "counter", "Notifications of the site that were lost because too many waited.")
	m.sample("voltage_notifications_dropped_total", float64(n.Dropped))
	m.family("voltage_notifications_unrouted_total", "counter", "Notifications that no route of this process wanted.")
	m.sample("voltage_notifications_unrouted_total", float64(n.Unrouted))
	m.family("voltage_notification_pending", "gauge", "Notifications that wait for a target.")
	for _, t := range n.Targets {
		m.sample("voltage_notification_pending", float64(t.Pending), "target", t.ID)
	}
	for _, counter := range []struct {
		name, help string
		of         func(model.NotificationTarget) int64
	}{
		{"sent", "Notifications that the target took.", func(t model.NotificationTarget) int64 { return t.Sent }},
		{"failed", "Attempts that failed.", func(t model.NotificationTarget) int64 { return t.Failed }},
		{"dead", "Notifications that were given up.", func(t model.NotificationTarget) int64 { return t.Dead }},
		{"dropped", "Notifications that were lost because too many waited for the target.", func(t model.NotificationTarget) int64 { return t.Dropped }},
	} {
		name := "voltage_notification_" + counter.name + "_total"
		m.family(name, "counter", counter.help)
		for _, t := range n.Targets {
			m.sample(name, float64(counter.of(t)), "target", t.ID)
		}
	}
}
