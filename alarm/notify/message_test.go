package notify

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

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

// What waits is not held up by a clock that is set back, nor given up by one that
// is set forth.
func TestItemsGoEvenly(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ms := now.UnixMilli()
	for name, c := range map[string]struct {
		w    work
		want time.Duration
	}{
		"at once":                    {work{Due: ms}, 0},
		"retry":                      {work{Due: ms + 60_000}, time.Minute},
		"retry, clock set back":      {work{Due: ms + 365*86_400_000}, time.Hour},
		"escalation":                 {work{Due: ms + 600_000, Escalation: "10m0s"}, 10 * time.Minute},
		"escalation, late":           {work{Due: ms + 7_200_000, Escalation: "48h0m0s"}, 2 * time.Hour},
		"escalation, clock set back": {work{Due: ms + 365*86_400_000, Escalation: "48h0m0s"}, 48 * time.Hour},
	} {
		c.w.Created = ms
		i := newItem("a", c.w, Message{}, now)
		require.InDelta(t, c.want.Milliseconds(), i.due.Sub(now).Milliseconds(), 1, name)
		require.Contains(t, i.due.String(), " m=", "%s: the due time is not monotonic", name)
		require.Contains(t, i.created.String(), " m=", "%s: the creation is not monotonic", name)
	}
}

func TestRoutesLeadToTargets(t *testing.T) {
	t.Parallel()
	c := Config{Routes: []Route{{Targets: []string{"a"}}, {Targets: []string{"a"}, Escalate: []Escalation{{Targets: []string{"b"}}}}}}
	require.True(t, c.leads("a"))
	require.True(t, c.leads("b"))
	require.False(t, c.leads("c"))
}

func FuzzParseMessage(f *testing.F) {
	f.Add(`{"type":"alarm","alarm_id":"1","value":"61.200000","timestamp":"1767225600000","severity":"high"}`)
	f.Add(`{"type":"notification","message":"a","value":1e3,"threshold":"0x10","severity":"odd","other":[{}]}`)
	f.Add(`{"type":"alarm","alarm_id":"1","id":"a\r\nB: c","timestamp":"253402300799000"}`)
	f.Add(`{"type":"x","id":"` + strings.Repeat("a", 100) + "\"}\x00")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMessage(text)
		raw := rawMessage(text)
		require.True(t, json.Valid(raw))
		if err != nil {
			return
		}
		require.True(t, model.PlainText(m.ID, maxID))
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
