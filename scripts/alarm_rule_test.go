package scripts

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// What Voltage writes is read as it was.
func TestStoredAlarmRules(t *testing.T) {
	t.Parallel()
	base := model.AlarmRule{ID: "r", Model: "m", Point: "p", Severity: model.Medium}
	with := func(change func(*model.AlarmRule)) model.AlarmRule {
		r := base
		change(&r)
		return r
	}
	for _, r := range []model.AlarmRule{
		with(func(r *model.AlarmRule) {
			r.Operator, r.Threshold, r.Hysteresis, r.Message = model.Above, 60.5, 2, "hot"
		}),
		with(func(r *model.AlarmRule) { r.Operator, r.Threshold, r.High, r.Latch = model.OutOfRange, -5, 60, true }),
		with(func(r *model.AlarmRule) { r.Operator, r.High = model.InRange, 1 }),
		with(func(r *model.AlarmRule) { r.Operator, r.Threshold, r.Reference = model.Deviation, 5, "other:x" }),
		with(func(r *model.AlarmRule) { r.Operator, r.Threshold, r.Window = model.Rate, 5, time.Minute }),
		with(func(r *model.AlarmRule) { r.Operator, r.OffDelay = model.Change, time.Minute }),
		with(func(r *model.AlarmRule) { r.Operator, r.Threshold = model.BitSet, 3 }),
		with(func(r *model.AlarmRule) { r.Operator, r.OnDelay, r.Disabled = model.IsStale, 10*time.Second, true }),
		with(func(r *model.AlarmRule) {
			r.Model, r.Operator, r.OffDelay = "channel", model.IsOffline, model.MaxAlarmDelay
		}),
		with(func(r *model.AlarmRule) {
			r.Operator, r.Count, r.Window = model.Below, 3, time.Hour
			r.Enable = &model.AlarmEnable{Model: "pcs1", Point: "running", Operator: model.Equal, Threshold: 1}
		}),
	} {
		text, err := json.Marshal(r)
		require.NoError(t, err)
		got, err := parseAlarmRule(r.Model, r.Point, r.ID, string(text))
		require.NoError(t, err, string(text))
		require.Equal(t, r, got)
	}
}

// A rule of a channel waits unless it says otherwise.
func TestOfflineDelays(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		`{"operator":"offline"}`:                                          model.DefaultOfflineDelay,
		`{"operator":"offline","on_delay_ms":null}`:                       model.DefaultOfflineDelay,
		`{"operator":"offline","on_delay_ms":0}`:                          0,
		`{"operator":"offline","on_delay_ms":"500"}`:                      500 * time.Millisecond,
		`{"operator":"offline","on_delay_ms":0,"count":3,"window_ms":60}`: 0,
	} {
		r, err := parseAlarmRule("channel", "1001", "r", text)
		require.NoError(t, err, text)
		require.Equal(t, want, r.OnDelay, text)
	}
	_, err := parseAlarmRule("channel", "1001", "r", `{"operator":"offline","count":3,"window_ms":60}`)
	require.ErrorContains(t, err, "count 3: does not go with delays or rate")
}

// Others write it as their language suits them.
func TestForeignAlarmRules(t *testing.T) {
	t.Parallel()
	base := model.AlarmRule{ID: "r", Model: "m", Point: "p", Operator: model.Above, Threshold: 60, Severity: model.Medium}
	for text, change := range map[string]func(*model.AlarmRule){
		`{"operator":">","threshold":"60"}`:   func(*model.AlarmRule) {},
		`{"operator":">","threshold":"+60."}`: func(*model.AlarmRule) {},
		`{"operator":">","threshold":6e1}`:    func(*model.AlarmRule) {},
		`{"operator":">","threshold":60,"id":"else","model_id":"x","point_name":"y","unit":"kW"}`:               func(*model.AlarmRule) {},
		`{"operator":">","threshold":60.00000049}`:                                                              func(*model.AlarmRule) {},
		`{"operator":">","threshold":60,"severity":null,"message":null,"enable":null,"high":null,"count":null}`: func(*model.AlarmRule) {},
		`{"operator":">","threshold":60,"count":1,"window_ms":"0","high":0,"reference":""}`:                     func(r *model.AlarmRule) { r.Count = 1 },
		`{"operator":">","threshold":60,"count":"3","window_ms":"60000","latch":true}`: func(r *model.AlarmRule) {
			r.Count, r.Window, r.Latch = 3, time.Minute, true
		},
		`{"operator":">","threshold":60,"on_delay_ms":"1500","off_delay_ms":2592000000}`: func(r *model.AlarmRule) {
			r.OnDelay, r.OffDelay = 1500*time.Millisecond, model.MaxAlarmDelay
		},
		`{"operator":">","threshold":60,"enable":{"point_name":"running","operator":"==","threshold":"1","note":"x"}}`: func(r *model.AlarmRule) {
			r.Enable = &model.AlarmEnable{Point: "running", Operator: model.Equal, Threshold: 1}
		},
		`{"operator":"change"}`: func(r *model.AlarmRule) { r.Operator, r.Threshold = model.Change, 0 },
		`{"operator":"stale","threshold":-1,"hysteresis":3}`: func(r *model.AlarmRule) {
			r.Operator, r.Threshold, r.Hysteresis = model.IsStale, -1, 3
		},
		`{"operator":"rate","threshold":60}`: func(r *model.AlarmRule) { r.Operator, r.Window = model.Rate, time.Second },
		`{"operator":"in_range","threshold":-60}`: func(r *model.AlarmRule) {
			r.Operator, r.Threshold = model.InRange, -60
		},
		`{"operator":"in_range","threshold":60,"high":"70"}`: func(r *model.AlarmRule) {
			r.Operator, r.High = model.InRange, 70
		},
		`{"operator":"bit_clear","threshold":"7.0"}`: func(r *model.AlarmRule) { r.Operator, r.Threshold = model.BitClear, 7 },
	} {
		want := base
		change(&want)
		got, err := parseAlarmRule("m", "p", "r", text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestMalformedAlarmRules(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{`:                                 "unexpected end of JSON input",
		`[]`:                                "cannot unmarshal array",
		`{"threshold":1}`:                   `operator "": want one of`,
		`{"operator":"~","threshold":1}`:    `operator "~": want one of`,
		`{"operator":5,"threshold":1}`:      "operator",
		`{"operator":">"}`:                  "no threshold",
		`{"operator":">","threshold":null}`: "no threshold",
		`{"operator":">","threshold":"x"}`:  `"x" is not a number`,
		// what the script does not take for a number
		`{"operator":">","threshold":"1e3"}`:                                                       `"1e3" is not a number`,
		`{"operator":">","threshold":" 5"}`:                                                        `" 5" is not a number`,
		`{"operator":">","threshold":"nan"}`:                                                       `"nan" is not a number`,
		`{"operator":">","threshold":1e300}`:                                                       "not a number that can be stored",
		`{"operator":">","threshold":true}`:                                                        "not a number",
		`{"operator":"in_range","threshold":1}`:                                                    "high 0: want a number that is not below the threshold",
		`{"operator":">","threshold":1,"high":2}`:                                                  "high 2: is for in_range and out_of_range",
		`{"operator":">","threshold":1,"reference":"x"}`:                                           "is for deviation",
		`{"operator":">","threshold":1,"window_ms":5}`:                                             "is for rate, and with a count",
		`{"operator":"in_range","threshold":1,"high":0}`:                                           "high 0: want a number that is not below the threshold",
		`{"operator":"deviation","threshold":1}`:                                                   `reference ""`,
		`{"operator":"deviation","threshold":1,"reference":5}`:                                     "reference",
		`{"operator":"rate","threshold":0.0000001}`:                                                "want more than zero units a second",
		`{"operator":"bit_set","threshold":64}`:                                                    "want the number of a bit",
		`{"operator":"offline"}`:                                                                   `"offline" is for the model "channel"`,
		`{"operator":">","threshold":1,"on_delay_ms":-1}`:                                          "on_delay_ms -1: want a whole number from 0 to 2592000000",
		`{"operator":">","threshold":1,"off_delay_ms":1.5}`:                                        "off_delay_ms 1.5: want a whole number",
		`{"operator":">","threshold":1,"window_ms":1e300}`:                                         "window_ms 1e+300: want a whole number",
		`{"operator":">","threshold":1,"on_delay_ms":"10s"}`:                                       `"10s" is not a number`,
		`{"operator":">","threshold":1,"count":51}`:                                                "count 51: want a whole number from 0 to 50",
		`{"operator":">","threshold":1,"count":3}`:                                                 "window 0s: a count needs a time to look back",
		`{"operator":">","threshold":1,"latch":1}`:                                                 "latch",
		`{"operator":">","threshold":1,"latch":"true"}`:                                            "latch",
		`{"operator":">","threshold":1,"disabled":"yes"}`:                                          "disabled",
		`{"operator":">","threshold":1,"severity":"urgent"}`:                                       "severity",
		`{"operator":">","threshold":1,"severity":2}`:                                              "severity",
		`{"operator":">","threshold":1,"message":7}`:                                               "message",
		`{"Operator":">","threshold":1}`:                                                           `operator "": want one of`,
		`{"operator":">","Threshold":1}`:                                                           "no threshold",
		`{"operator":">","threshold":1,"x":{"y":[1,null]}}`:                                        "a null in a list",
		`{"operator":">","threshold":1,"enable":{"Point_name":"p","operator":"==","threshold":1}}`: "enable",
		`{"operator":">","threshold":1,"enable":{"point_name":"p","model_id":"channel","operator":"==","threshold":1}}`: "enable",
		`{"operator":"deviation","threshold":1,"reference":"p"}`:                                                        "is the point itself",
		`{"operator":"deviation","threshold":1,"reference":"rule:x"}`:                                                   "reference",
		`{"operator":"deviation","threshold":1,"reference":"a:b:c"}`:                                                    "reference",
		`{"operator":"rate","threshold":"0.0000001"}`:                                                                   "want more than zero units a second",
		`{"operator":">","threshold":1,"enable":true}`:                                                                  "enable",
		`{"operator":">","threshold":1,"enable":{"operator":"=="}}`:                                                     "no threshold of enable",
		`{"operator":">","threshold":1,"enable":{"operator":"==","threshold":1}}`:                                       "enable",
		`{"operator":">","threshold":1,"enable":{"point_name":"a:b","operator":"==","threshold":1}}`:                    `"a:b"`,
		`{"operator":">","threshold":1,"enable":{"point_name":"p","operator":"stale","threshold":1}}`:                   "enable with operator",
		`{"operator":">","threshold":1,"enable":{"point_name":"p","operator":"==","threshold":1e300}}`:                  "enable with threshold",
		`{"operator":">","threshold":1,"enable":{"model_id":7,"point_name":"p","operator":"==","threshold":1}}`:         "model_id",
	} {
		_, err := parseAlarmRule("m", "p", "r", text)
		require.ErrorIs(t, err, model.ErrInvalid, text)
		require.ErrorContains(t, err, "alarm rule", text)
		require.ErrorContains(t, err, "m:p", text)
		require.ErrorContains(t, err, want, text)
	}
}
