package voltage

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/alarm/notify/webhook"
	"github.com/voltageems/voltage/model"
)

// TestNotificationsDocumentation loads the example of docs/notifications.md.
func TestNotificationsDocumentation(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("docs", "notifications.md"))
	require.NoError(t, err)
	m := regexp.MustCompile("(?ms)^<!-- file: site.yaml -->\n```yaml\n(.*?)^```$").FindStringSubmatch(string(data))
	require.NotNil(t, m)
	env := map[string]string{"WEBHOOK_SECRET": "a", "WEBHOOK_TOKEN": "b", "MAIL_PASSWORD": "c", "MQTT_PASSWORD": "d"}
	cfg, err := loadTest(map[string]string{"site.yaml": m[1]}, env)
	require.NoError(t, err)
	n := cfg.Notifications
	require.Len(t, n.Targets, 4)
	assert.Equal(t, []int{-1, 10, 0, 0}, []int{n.Targets[0].Rate, n.Targets[1].Rate, n.Targets[2].Rate, n.Targets[3].Rate})
	assert.Equal(t, notify.Chinese, n.Targets[1].Language)
	assert.Equal(t, time.Minute, n.Targets[3].Timeout)
	subject, body, err := n.Targets[1].Texts.Render(notify.Samples()[0])
	require.NoError(t, err)
	assert.Equal(t, "[critical] plant-a bms1.temperature_max Battery is too hot", subject)
	assert.Contains(t, body, "value 61.2, limit > 60")
	assert.Equal(t, notify.Route{Severity: model.High, Models: []string{"bms*", "pcs1"}, Targets: []string{"service"}, Language: notify.English,
		Escalate: []notify.Escalation{{After: 10 * time.Minute, Targets: []string{"text-message"}}}}, n.Routes[2])
	require.NoError(t, cfg.Validate())
	eng, err := NewEngine(cfg)
	require.NoError(t, err)
	require.NoError(t, eng.Stop(t.Context()))
}

func TestLoadConfigFaultsOfNotifications(t *testing.T) {
	t.Parallel()
	hook := "{id: a, sender: webhook, webhook: {url: 'http://a'}}"
	for section, want := range map[string]string{
		"{max_age: 1s}":      "2: notifications.max_age: 1s: want 1m to 720h0m0s",
		"{max_age: 0s}":      "2: notifications.max_age: 0s: want at least 1m, or nothing for the default",
		"{max_attempts: -1}": "2: notifications.max_attempts: -1: want 1 to 1000000",
		"{target: []}":       "2: notifications.target: unknown key; did you mean targets?",
		"{targets: [{}]}":    "2: notifications.targets[0].id: missing\nsite.yaml:2: notifications.targets[0].sender: missing",
		"{targets: [{id: a, sender: pigeon}]}": "2: notifications.targets[0].sender: unknown sender \"pigeon\": known are exec, mqtt, smtp, webhook; " +
			"the program passes them to LoadConfigWith, such as those of alarm/notify/all",
		"{targets: [{id: 'a b', sender: webhook, webhook: {url: 'http://a'}}]}":                                           "2: notifications.targets[0].id: ",
		"{targets: [{id: a, sender: webhook}]}":                                                                           "2: notifications.targets[0].webhook.url: want http://… or https://…",
		"{targets: [{id: a, sender: webhook, webhook: {ulr: x}}]}":                                                        "2: notifications.targets[0].webhook.ulr: unknown key; did you mean url?",
		"{targets: [{id: a, sender: webhook, smtp: {}, webhook: {url: 'http://a'}}]}":                                     "2: notifications.targets[0].smtp: settings of another sender than this one, webhook",
		"{targets: [{id: a, sender: webhook, webhook: {url: 'http://a'}, rat: 5}]}":                                       "2: notifications.targets[0].rat: unknown key; did you mean rate?",
		"{targets: [{id: a, sender: webhook, webhook: {url: 'http://a'}, rate: 0}]}":                                      "2: notifications.targets[0].rate: \"0\": want messages a minute, or unlimited",
		"{targets: [{id: a, sender: webhook, webhook: {url: 'http://a'}, rate: 60000}]}":                                  "2: notifications.targets[0].rate: 60000: want up to 6000 messages a minute",
		"{targets: [{id: a, sender: webhook, webhook: {url: 'http://a'}, language: fr}]}":                                 "2: notifications.targets[0].language: \"fr\": want en or zh",
		"{targets: [{id: a, sender: webhook, webhook: {url: 'http://a'}, timeout: 0s}]}":                                  "2: notifications.targets[0].timeout: 0s: want a duration above 0, or nothing for the default",
		"{targets: [{id: a, sender: webhook, webhook: {url: '${HOOK}'}}]}":                                                "2: notifications.targets[0].webhook.url: the environment variable HOOK is not set",
		"{targets: [{id: a, sender: smtp, smtp: {server: a, from: x, to: [a@b.c]}}]}":                                     "2: notifications.targets[0].smtp.from: ",
		"{targets: [{id: a, sender: webhook, webhook: {url: 'http://a'}, template: {}}]}":                                 "2: notifications.targets[0].template.subject: missing",
		"{targets: [" + hook + ", " + hook + "]}":                                                                         "2: notifications.targets[1].id: target a is there twice, first on line 2",
		"{targets: [" + hook + "], routes: [{}]}":                                                                         "2: notifications.routes[0].targets: missing",
		"{targets: [" + hook + "], routes: [{targets: [b]}]}":                                                             "2: notifications.routes[0].targets: there is no target \"b\"",
		"{targets: [" + hook + "], routes: [{targets: [a], severity: odd}]}":                                              "2: notifications.routes[0].severity: ",
		"{targets: [" + hook + "], routes: [{targets: [a], escalate: [{targets: [a]}]}]}":                                 "2: notifications.routes[0].escalate: after 0s: want 1s to 720h0m0s",
		"{targets: [" + hook + "], routes: [{targets: [a], transitions: [gone]}]}":                                        "2: notifications.routes[0].transitions: \"gone\": want some of raised",
		"{targets: [{id: a, sender: webhook, webhook: {url: 'http://a'}, template: {subject: '{{.Nothing}}', body: b}}]}": "2: notifications.targets[0].template.subject: ",
	} {
		_, err := loadTest(map[string]string{"site.yaml": "site: a\nnotifications: " + section + "\n"}, nil)
		require.ErrorIs(t, err, model.ErrInvalid, section)
		require.True(t, strings.HasPrefix(err.Error(), "site.yaml:"+want), "%s:\n%v", section, err)
	}
	read := func(string, int64) ([]byte, error) { return nil, os.ErrNotExist }
	yaml := []byte("notifications: {targets: [{id: a, sender: webhook, webhook: {url: 'http://a'}, template: {subject: a, body: b}}]}")
	_, err := loadConfig("site.yaml", yaml, Kinds{}, read, nil)
	require.ErrorContains(t, err, "the program knows no templates")
	require.ErrorContains(t, err, "unknown sender \"webhook\": the program knows none")
	for _, bad := range [][]notify.Kind{{{Name: "x"}}, {webhook.Kind(), webhook.Kind()}, {{Open: webhook.Kind().Open}}} {
		_, err := loadConfig("site.yaml", yaml, Kinds{Senders: bad}, read, nil)
		require.ErrorIs(t, err, model.ErrInvalid)
	}
}
