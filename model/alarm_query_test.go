package model_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func TestAlarmQuery(t *testing.T) {
	t.Parallel()
	raised := time.UnixMilli(1_790_000_000_000)
	a := model.Alarm{ID: "7", Model: "bms1", Point: "temperature", Rule: "hot", Severity: model.High,
		Status: model.AlarmActive, Suppression: model.Shelved, Raised: raised}
	over := a
	over.Status = model.AlarmClosed
	for name, c := range map[string]struct {
		query        model.AlarmQuery
		open, closed bool
	}{
		"everything open":       {model.AlarmQuery{}, true, false},
		"closed ones too":       {model.AlarmQuery{Closed: true}, true, true},
		"only closed ones":      {model.AlarmQuery{States: []model.AlarmStatus{model.AlarmClosed}}, false, true},
		"another state":         {model.AlarmQuery{States: []model.AlarmStatus{model.AlarmLatched}}, false, false},
		"another state, closed": {model.AlarmQuery{States: []model.AlarmStatus{model.AlarmLatched}, Closed: true}, false, true},
		"severity":              {model.AlarmQuery{Severities: []model.Severity{model.Low, model.High}}, true, false},
		"another severity":      {model.AlarmQuery{Severities: []model.Severity{model.Low}}, false, false},
		"suppression":           {model.AlarmQuery{Suppressions: []model.Suppression{"", model.Shelved}}, true, false},
		"not suppressed":        {model.AlarmQuery{Suppressions: []model.Suppression{""}}, false, false},
		"model, point and rule": {model.AlarmQuery{Model: "bms1", Point: "temperature", Rule: "hot"}, true, false},
		"another model":         {model.AlarmQuery{Model: "bms2"}, false, false},
		"another point":         {model.AlarmQuery{Point: "soc"}, false, false},
		"another rule":          {model.AlarmQuery{Rule: "cold"}, false, false},
		"from then on":          {model.AlarmQuery{From: raised}, true, false},
		"later":                 {model.AlarmQuery{From: raised.Add(1)}, false, false},
		"before then":           {model.AlarmQuery{To: raised}, false, false},
		"before a later time":   {model.AlarmQuery{To: raised.Add(1)}, true, false},
	} {
		require.NoError(t, c.query.Validate(), name)
		require.Equal(t, c.open, c.query.Matches(a), name)
		require.Equal(t, c.closed, c.query.Matches(over), name)
	}
	for want, q := range map[string]model.AlarmQuery{
		`state "open"`:       {States: []model.AlarmStatus{"open"}},
		`severity "urgent"`:  {Severities: []model.Severity{"urgent"}},
		`suppression "gone"`: {Suppressions: []model.Suppression{"gone"}},
		`model`:              {Model: "a:b"},
		`point`:              {Point: "a|b"},
		`rule`:               {Rule: " "},
		`after "x"`:          {After: "x"},
		`after "01"`:         {After: "01"},
		`limit 1001`:         {Limit: 1001},
		`limit -1`:           {Limit: -1},
		`to `:                {From: raised, To: raised},
	} {
		err := q.Validate()
		require.ErrorIs(t, err, model.ErrInvalid, want)
		require.ErrorContains(t, err, want)
	}
}

func TestAlarmJournalQuery(t *testing.T) {
	t.Parallel()
	e := model.AlarmEvent{Alarm: "7", Model: "bms1", Point: "temperature", Rule: "hot"}
	require.True(t, model.AlarmJournalQuery{}.Matches(e))
	require.True(t, model.AlarmJournalQuery{Alarm: "7", Model: "bms1", Point: "temperature", Rule: "hot"}.Matches(e))
	for want, q := range map[string]model.AlarmJournalQuery{
		"alarm": {Alarm: "8"}, "model": {Model: "x"}, "point": {Point: "x"}, "rule": {Rule: "x"},
	} {
		require.NoError(t, q.Validate())
		require.False(t, q.Matches(e), want)
	}
	for want, q := range map[string]model.AlarmJournalQuery{
		`alarm "x"`: {Alarm: "x"}, `after "1-x"`: {After: "1-x"}, "model": {Model: ":"}, "limit": {Limit: -1},
	} {
		require.ErrorContains(t, q.Validate(), want)
	}
	for position, good := range map[string]bool{"0": true, "1790000000000-3": true, "": false, "-1": false, "1-": false, "1-2-3": false, "12345678901234567890": false} {
		require.Equal(t, good, model.JournalPosition(position), position)
	}
}

func TestCheckAlarm(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"1", "1234567890123456789", model.AlarmRef("bms1", "temperature", "hot")} {
		require.NoError(t, model.CheckAlarm(s), s)
	}
	for _, s := range []string{"", "x", "a:b", "a:b:c:d", "a:b:", "a b:c:d", "12345678901234567890", "-1"} {
		require.ErrorIs(t, model.CheckAlarm(s), model.ErrInvalid, s)
	}
}

func TestAlarmEventRow(t *testing.T) {
	t.Parallel()
	e := model.AlarmEvent{Position: "1-0", Time: time.UnixMilli(1_790_000_000_123), Transition: model.TransitionRaised, Alarm: "7", Model: "bms1",
		Point: "temperature", Rule: "hot", Severity: model.High, Status: model.AlarmActive, Value: -3.5, Threshold: 60, Message: "=1+1", By: "@ann", Comment: "ok"}
	require.Equal(t, []string{"1-0", "2026-09-21T14:13:20.123Z", "", "raised", "7", "bms1", "temperature", "hot",
		"high", "active", "", "-3.500000", "60.000000", "'=1+1", "'@ann", "ok"}, e.Row())
	require.Len(t, e.Row(), len(model.AlarmEventColumns()))
}
