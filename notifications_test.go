package voltage_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/alarm/notify/webhook"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// TestEngineNotifies goes the whole way: a sample, an alarm, a webhook, and its
// escalation, which acknowledging would have stopped.
func TestEngineNotifies(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func(t *testing.T) scripts.StoreConfig{
		"embedded": func(*testing.T) scripts.StoreConfig { return scripts.StoreConfig{} },
		"redis":    func(t *testing.T) scripts.StoreConfig { return scripts.StoreConfig{URL: storetest.Redis(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var got []notify.Message
			status := http.StatusOK
			hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var m notify.Message
				if json.NewDecoder(r.Body).Decode(&m) != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, m)
				w.WriteHeader(status)
			}))
			t.Cleanup(hook.Close)
			messages := func() []notify.Message {
				mu.Lock()
				defer mu.Unlock()
				return got
			}
			eng, err := voltage.NewEngine(voltage.Config{
				Site: storetest.Site(t), Store: store(t), Log: testLog(t),
				Channels: []channel.Config{{ID: "own", Points: []model.Point{{ID: "t"}}}},
				Models:   []model.Instance{{ID: "bms1", Measurements: map[string]string{"temperature": "own:t"}}},
				Alarms:   []alarm.Rule{{ID: "hot", Model: "bms1", Point: "temperature", Operator: model.Above, Threshold: 60, Severity: model.Critical, Message: "too hot"}},
				Notifications: notify.Config{Targets: []notify.Target{{ID: "ops", Sender: webhook.New(webhook.Config{URL: hook.URL})}},
					Routes: []notify.Route{{Targets: []string{"ops"}, Escalate: []notify.Escalation{{After: time.Second, Targets: []string{"ops"}}}}}},
			})
			require.NoError(t, err)
			require.ErrorIs(t, eng.TestNotification(t.Context(), "ops"), voltage.ErrNotRunning)
			require.NoError(t, eng.Start(t.Context()))
			defer func() { require.NoError(t, eng.Stop(context.Background())) }()

			require.NoError(t, eng.TestNotification(t.Context(), "ops"))
			require.Equal(t, notify.TypeTest, messages()[0].Type)
			require.ErrorIs(t, eng.TestNotification(t.Context(), "none"), scripts.ErrNotFound)

			require.NoError(t, eng.Push(t.Context(), "own", model.Sample{Point: "t", Value: 61.5}))
			eventually(t, "the alarm and its escalation", func() bool { return len(messages()) == 3 })
			first, second := messages()[1], messages()[2]
			require.Equal(t, []any{"bms1", "temperature", model.Critical, json.Number("61.500000"), "too hot", model.TransitionRaised, model.AlarmActive},
				[]any{first.Model, first.Point, first.Severity, first.Value, first.Message, first.Transition, first.Status})
			require.Equal(t, first.ID+"-escalation-1s", second.ID)
			require.Equal(t, "1s", second.Escalation)
			s, err := eng.Notifications(t.Context())
			require.NoError(t, err)
			require.Equal(t, int64(2), s.Targets[0].Sent)

			mu.Lock()
			status = http.StatusBadRequest
			mu.Unlock()
			w := httptest.NewRecorder()
			r := httptest.NewRequest("POST", "/notifications/ops/test", strings.NewReader(""))
			r.RemoteAddr = "127.0.0.1:1"
			r.Host = "127.0.0.1"
			eng.Handler().ServeHTTP(w, r)
			require.Equal(t, http.StatusBadGateway, w.Code, w.Body)
			require.Contains(t, w.Body.String(), "400 Bad Request")
			require.True(t, errors.Is(eng.TestNotification(t.Context(), "ops"), notify.ErrNotDelivered))
			_, err = eng.RetryNotifications(t.Context(), "none")
			require.ErrorIs(t, err, scripts.ErrNotFound)
			dead, err := eng.DeadNotifications(t.Context())
			require.NoError(t, err)
			require.Empty(t, dead)
		})
	}
}

// An engine without targets shows what there is and leaves it alone.
func TestEngineWithoutTargets(t *testing.T) {
	t.Parallel()
	eng, err := voltage.NewEngine(voltage.Config{Log: testLog(t)})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	defer func() { require.NoError(t, eng.Stop(context.Background())) }()
	s, err := eng.Notifications(t.Context())
	require.NoError(t, err)
	require.Empty(t, s.Targets)
	_, err = eng.RetryNotifications(t.Context())
	require.ErrorIs(t, err, scripts.ErrConflict)
	require.ErrorIs(t, eng.TestNotification(t.Context(), "ops"), scripts.ErrNotFound)
}
