package notify

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func TestBuiltInTexts(t *testing.T) {
	t.Parallel()
	for _, m := range Samples() {
		subject, body, err := (builtIn{}).Render(m)
		require.NoError(t, err)
		require.NotContains(t, subject, "\n")
		require.NotContains(t, subject+body, "%!")
		w := texts[m.Language]
		switch m.Type {
		case TypeAlarm:
			require.Contains(t, body, w.transition[m.Transition])
			require.Contains(t, body, w.status[m.Status])
		case TypeTest:
			require.Contains(t, body, w.testText)
		}
	}
	for _, l := range []Language{English, Chinese} {
		for _, s := range model.Severities() {
			require.NotEmpty(t, texts[l].severity[s])
		}
		for _, s := range model.AlarmStatuses() {
			require.NotEmpty(t, texts[l].status[s])
		}
		for _, tr := range transitions {
			require.NotEmpty(t, texts[l].transition[tr])
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(`{"type":"alarm","alarm_id":"1","value":"61.200000","timestamp":"1767225600000","severity":"high"}`)
	f.Add(`{"type":"notification","message":"a","value":1e3,"threshold":"0x10","severity":"odd","other":[{}]}`)
	f.Add(`{"type":"x","id":"` + strings.Repeat("a", 100) + "\"}\x00")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMessage(text)
		raw := rawMessage(text)
		require.True(t, json.Valid(raw))
		if err != nil {
			return
		}
		b, err := json.Marshal(m)
		require.NoError(t, err)
		require.True(t, json.Valid(b))
		_, _, err = (builtIn{}).Render(m)
		require.NoError(t, err)
		stored, again, err := parseWork(work{Target: "a", Message: raw}.text())
		require.NoError(t, err)
		require.Equal(t, "a", stored.Target)
		require.Equal(t, m.Type, again.Type)
		require.Equal(t, m.Time.UnixMilli(), again.Time.UnixMilli())
	})
}
