package model

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sound returns a rule of an operator with no more than it needs.
func sound(o Operator) AlarmRule {
	r := AlarmRule{ID: "r", Model: "m", Point: "p", Operator: o}
	switch o {
	case InRange, OutOfRange:
		r.Threshold, r.High = 10, 20
	case Deviation:
		r.Threshold, r.Reference = 5, "other:x"
	case Rate:
		r.Threshold = 2
	case IsOffline:
		r.Model = AlarmModelChannel
	}
	return r
}

func TestAlarmOperators(t *testing.T) {
	t.Parallel()
	for _, o := range AlarmOperators() {
		require.NoError(t, sound(o).Validate(), o)
	}
	for _, o := range Operators() {
		require.True(t, o.Valid(), o)
		require.True(t, o.TakesThreshold(), o)
	}
	for _, o := range []Operator{InRange, OutOfRange, Deviation, Rate, BitSet, BitClear} {
		require.False(t, o.Valid(), "rules know the comparisons alone: %s", o)
		require.True(t, o.TakesThreshold(), o)
	}
	for _, o := range []Operator{Change, IsStale, BadQuality, IsOffline} {
		require.False(t, o.Valid(), o)
		require.False(t, o.TakesThreshold(), o)
	}
}

// Every condition takes what goes with it and refuses, by name, what does not.
func TestAlarmRuleValidate(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	enable := func(e AlarmEnable) *AlarmEnable { return &e }
	running := AlarmEnable{Point: "running", Operator: Equal, Threshold: 1}
	for _, c := range []struct {
		name   string
		o      Operator
		change func(*AlarmRule)
		want   string // part of the message; empty where it is accepted
	}{
		{"no id", Above, func(r *AlarmRule) { r.ID = "" }, "alarm rule: the id is empty"},
		{"id", Above, func(r *AlarmRule) { r.ID = "a:b" }, `alarm rule: id "a:b"`},
		{"bar", Above, func(r *AlarmRule) { r.ID = "a|b" }, `alarm rule: id "a|b"`},
		{"no model", Above, func(r *AlarmRule) { r.Model = "" }, "alarm rule r: model: the id is empty"},
		{"point", Above, func(r *AlarmRule) { r.Point = "a b" }, `alarm rule r: point: id "a b"`},
		{"operator", "~", func(*AlarmRule) {}, `alarm rule r of m:p: operator "~": want one of > >=`},
		{"no operator", "", func(*AlarmRule) {}, `operator "": want one of`},
		{"threshold", Above, func(r *AlarmRule) { r.Threshold = nan }, "threshold NaN: not a number that can be stored"},
		{"large threshold", Above, func(r *AlarmRule) { r.Threshold = 1e16 }, "threshold 1e+16"},
		{"any threshold", Change, func(r *AlarmRule) { r.Threshold = -7 }, ""},
		{"hysteresis", Above, func(r *AlarmRule) { r.Hysteresis = 2 }, ""},
		{"negative hysteresis", Below, func(r *AlarmRule) { r.Hysteresis = -2 }, "hysteresis -2: want zero or more"},
		{"no number for hysteresis", Below, func(r *AlarmRule) { r.Hysteresis = inf }, "hysteresis +Inf"},
		{"hysteresis without meaning", BitSet, func(r *AlarmRule) { r.Hysteresis = 2 }, ""},
		{"severity", Above, func(r *AlarmRule) { r.Severity = "dire" }, `severity "dire": want low, medium, high or critical`},
		{"message", Above, func(r *AlarmRule) { r.Message = strings.Repeat("x", 501) }, "message of 501 bytes: at most 500"},
		{"longest message", Above, func(r *AlarmRule) { r.Message = strings.Repeat("x", 500) }, ""},

		{"range of nothing", OutOfRange, func(r *AlarmRule) { r.High = 9 }, "high 9: want a number that is not below the threshold"},
		{"range of one value", InRange, func(r *AlarmRule) { r.High = 10 }, ""},
		{"open range", InRange, func(r *AlarmRule) { r.High = inf }, "high +Inf"},
		{"high of a comparison", Above, func(r *AlarmRule) { r.High = 9 }, "high 9: is for in_range and out_of_range"},
		{"half of the range", OutOfRange, func(r *AlarmRule) { r.Hysteresis = 5 }, ""},
		{"half of a range of decimals", OutOfRange, func(r *AlarmRule) { r.Threshold, r.High, r.Hysteresis = 0.2, 0.3, 0.05 }, ""},
		{"more than half of the range", OutOfRange, func(r *AlarmRule) { r.Hysteresis = 5.1 }, "hysteresis 5.1: leaves nothing of the range to come back to"},
		{"around the range", InRange, func(r *AlarmRule) { r.Hysteresis = 50 }, ""},

		{"deviation of the same model", Deviation, func(r *AlarmRule) { r.Reference = "x" }, ""},
		{"deviation from nothing", Deviation, func(r *AlarmRule) { r.Reference = "" }, `reference "": want a point of the same model, or model:point`},
		{"deviation from three", Deviation, func(r *AlarmRule) { r.Reference = "a:b:c" }, `reference "a:b:c"`},
		{"deviation from itself", Deviation, func(r *AlarmRule) { r.Reference = "p" }, "reference p: is the point itself"},
		{"deviation from itself by its full name", Deviation, func(r *AlarmRule) { r.Reference = "m:p" }, "reference m:p: is the point itself"},
		{"deviation from a rule", Deviation, func(r *AlarmRule) { r.Reference = "rule:p" }, `reference "rule:p"`},
		{"signed deviation", Deviation, func(r *AlarmRule) { r.Threshold = -1 }, "threshold -1: a deviation has no sign"},
		{"any deviation", Deviation, func(r *AlarmRule) { r.Threshold = 0 }, ""},
		{"deviation that never clears", Deviation, func(r *AlarmRule) { r.Hysteresis = 6 }, "hysteresis 6: is more than the threshold"},
		{"reference of a comparison", Above, func(r *AlarmRule) { r.Reference = "x" }, `reference "x": is for deviation`},

		{"rate of zero", Rate, func(r *AlarmRule) { r.Threshold = 0 }, "threshold 0: want more than zero units a second"},
		{"rate that is stored as zero", Rate, func(r *AlarmRule) { r.Threshold = 1e-7 }, "threshold 1e-07: want more than zero units a second"},
		{"rate over a minute", Rate, func(r *AlarmRule) { r.Window = time.Minute }, ""},
		{"rate that never clears", Rate, func(r *AlarmRule) { r.Hysteresis = 3 }, "hysteresis 3: is more than the threshold"},
		{"rate that is counted", Rate, func(r *AlarmRule) { r.Count, r.Window = 3, time.Minute }, "count 3: does not go with delays or rate"},

		{"highest bit", BitSet, func(r *AlarmRule) { r.Threshold = 52 }, ""},
		{"bit too high", BitSet, func(r *AlarmRule) { r.Threshold = 53 }, "threshold 53: want the number of a bit, 0 to 52"},
		{"half a bit", BitClear, func(r *AlarmRule) { r.Threshold = 0.5 }, "threshold 0.5: want the number of a bit"},
		{"negative bit", BitClear, func(r *AlarmRule) { r.Threshold = -1 }, "threshold -1: want the number of a bit"},

		{"offline of a model", IsOffline, func(r *AlarmRule) { r.Model = "m" }, `operator offline: "offline" is for the model "channel"`},
		{"stale channel", IsStale, func(r *AlarmRule) { r.Model = AlarmModelChannel }, "operator stale"},
		{"model of rules", Above, func(r *AlarmRule) { r.Model = AlarmModelRule }, "model rule: is for the alarms that rules raise"},

		{"delays", Above, func(r *AlarmRule) { r.OnDelay, r.OffDelay = time.Second, MaxAlarmDelay }, ""},
		{"negative delay", Above, func(r *AlarmRule) { r.OnDelay = -time.Second }, "on_delay -1s: want 0 to 720h, in whole milliseconds"},
		{"long delay", Above, func(r *AlarmRule) { r.OffDelay = MaxAlarmDelay + time.Millisecond }, "off_delay 720h0m0.001s"},
		{"fine delay", Above, func(r *AlarmRule) { r.OffDelay = 1500 * time.Microsecond }, "off_delay 1.5ms"},
		{"delayed change", Change, func(r *AlarmRule) { r.OnDelay = time.Second }, "on_delay 1s: a change is over at once"},
		{"change that stays", Change, func(r *AlarmRule) { r.OffDelay = time.Minute }, ""},
		{"delayed offline", IsOffline, func(r *AlarmRule) { r.OnDelay = time.Minute }, ""},

		{"count", Above, func(r *AlarmRule) { r.Count, r.Window = MaxAlarmCount, time.Hour }, ""},
		{"count of one", Above, func(r *AlarmRule) { r.Count = 1 }, ""},
		{"count of changes", Change, func(r *AlarmRule) { r.Count, r.Window = 2, time.Hour }, ""},
		{"large count", Above, func(r *AlarmRule) { r.Count, r.Window = MaxAlarmCount+1, time.Hour }, "count 51: want 2 to 50"},
		{"negative count", Above, func(r *AlarmRule) { r.Count = -1 }, "count -1: want 2 to 50"},
		{"count without a window", Above, func(r *AlarmRule) { r.Count = 3 }, "window 0s: a count needs a time to look back"},
		{"window without a count", Above, func(r *AlarmRule) { r.Window = time.Hour }, "window 1h0m0s: is for rate, and with a count"},
		{"long window", Rate, func(r *AlarmRule) { r.Window = 2 * MaxAlarmDelay }, "window 1440h0m0s"},
		{"count and delay", Above, func(r *AlarmRule) { r.Count, r.Window, r.OnDelay = 3, time.Hour, time.Second }, "count 3: does not go with delays"},
		{"count and off-delay", Above, func(r *AlarmRule) { r.Count, r.Window, r.OffDelay = 3, time.Hour, time.Second }, "count 3: does not go with delays"},

		{"enable", Below, func(r *AlarmRule) { r.Enable = &running }, ""},
		{"enable of another model", Below, func(r *AlarmRule) {
			r.Enable = enable(AlarmEnable{Model: "pcs1", Point: "running", Operator: NotEqual})
		}, ""},
		{"enable by its own point", Below, func(r *AlarmRule) { r.Enable = enable(AlarmEnable{Point: "p", Operator: Above}) }, ""},
		{"enable without a point", Below, func(r *AlarmRule) { r.Enable = enable(AlarmEnable{Operator: Above}) }, `enable "" of "": want a point`},
		{"enable by something else", Below, func(r *AlarmRule) { r.Enable = enable(AlarmEnable{Point: "p", Operator: IsStale}) }, `enable with operator "stale": want one of > >= < <= == !=`},
		{"enable by no number", Below, func(r *AlarmRule) {
			r.Enable = enable(AlarmEnable{Point: "p", Operator: Above, Threshold: nan})
		}, "enable with threshold NaN"},
		{"enable of a channel", IsOffline, func(r *AlarmRule) { r.Enable = &running }, "enable running of channel: want a point of a model"},
		{"enable of a channel by a model", IsOffline, func(r *AlarmRule) {
			r.Enable = enable(AlarmEnable{Model: "pcs1", Point: "running", Operator: Equal})
		}, ""},
	} {
		r := sound(c.o)
		c.change(&r)
		err := r.Validate()
		if c.want == "" {
			require.NoError(t, err, c.name)
			continue
		}
		require.ErrorIs(t, err, ErrInvalid, c.name)
		require.ErrorContains(t, err, c.want, c.name)
	}
}

// The stored form has whole milliseconds, and nothing that says nothing.
func TestAlarmRuleJSON(t *testing.T) {
	t.Parallel()
	full := AlarmRule{ID: "r", Model: "m", Point: "p", Operator: OutOfRange, Threshold: 1, High: 9, Hysteresis: 0.5,
		OnDelay: 10 * time.Second, OffDelay: 1500 * time.Millisecond, Count: 0, Latch: true,
		Enable: &AlarmEnable{Model: "pcs1", Point: "running", Operator: Equal, Threshold: 1}, Severity: High, Message: "text", Disabled: true}
	toZero := sound(InRange)
	toZero.Threshold, toZero.High = -10, 0
	counted := sound(Deviation)
	counted.Count, counted.Window = 3, time.Hour
	for _, c := range []struct {
		rule AlarmRule
		want string
	}{
		{sound(Above), `{"id":"r","model_id":"m","point_name":"p","operator":">","threshold":0}`},
		{toZero, `{"id":"r","model_id":"m","point_name":"p","operator":"in_range","threshold":-10,"high":0}`},
		{full, `{"id":"r","model_id":"m","point_name":"p","operator":"out_of_range","threshold":1,"high":9,"hysteresis":0.5,"on_delay_ms":10000,"off_delay_ms":1500,
			"latch":true,"enable":{"model_id":"pcs1","point_name":"running","operator":"==","threshold":1},"severity":"high","message":"text","disabled":true}`},
		{counted, `{"id":"r","model_id":"m","point_name":"p","operator":"deviation","threshold":5,"reference":"other:x","count":3,"window_ms":3600000}`},
	} {
		text, err := json.Marshal(c.rule)
		require.NoError(t, err)
		require.JSONEq(t, c.want, string(text))
		var back AlarmRule
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, c.rule, back)
		again, err := json.Marshal(&c.rule) // pointers and lists are written alike
		require.NoError(t, err)
		require.Equal(t, string(text), string(again))
	}
	for _, bad := range []string{
		`{"id":"r","on_delay_ms":-1}`, `{"id":"r","off_delay_ms":2592000001}`, `{"id":"r","window_ms":9223372036854775807}`,
		`{"id":"r","on_delay_ms":1.5}`, `{"id":"r","on_delay_ms":"10s"}`, `{"id":"r","latch":1}`, `{"id":"r","enable":"x"}`, `[]`,
	} {
		before := sound(Above)
		r := before
		require.Error(t, json.Unmarshal([]byte(bad), &r), bad)
		require.Equal(t, before, r, "what cannot be read changes nothing: %s", bad)
	}
	err := json.Unmarshal([]byte(`{"id":"r","off_delay_ms":2592000001}`), new(AlarmRule))
	require.EqualError(t, err, "invalid: alarm rule \"r\": off_delay_ms 2592000001: want 0 to 2592000000")
}

func TestAlarmRuleDefaults(t *testing.T) {
	t.Parallel()
	r := sound(Rate).WithDefaults()
	require.Equal(t, Medium, r.Severity)
	require.Equal(t, DefaultRateWindow, r.Window)
	require.NoError(t, r.Validate())
	own := sound(Rate)
	own.Window, own.Severity = time.Minute, Low
	require.Equal(t, own, own.WithDefaults())
	require.Zero(t, sound(Above).WithDefaults().Window)
}

func TestAlarmRulePoints(t *testing.T) {
	t.Parallel()
	r := sound(Deviation)
	require.Equal(t, Ref{"other", "x"}, r.ReferencePoint())
	r.Reference = "x"
	require.Equal(t, Ref{"m", "x"}, r.ReferencePoint())
	r.Enable = &AlarmEnable{Point: "running"}
	require.Equal(t, Ref{"m", "running"}, r.EnablePoint())
	r.Enable.Model = "pcs1"
	require.Equal(t, Ref{"pcs1", "running"}, r.EnablePoint())
}

// Alarms have these ids for what is no model.
func TestReservedModels(t *testing.T) {
	t.Parallel()
	for _, id := range []string{AlarmModelChannel, AlarmModelRule} {
		require.EqualError(t, Instance{ID: id}.Validate(), "invalid: model: the id "+id+" is reserved: alarms of what is no model have it")
	}
	require.EqualError(t, Instance{ID: "enabled"}.Validate(), "invalid: model: the id enabled is reserved")
	require.NoError(t, Instance{ID: "channel1"}.Validate())
}
