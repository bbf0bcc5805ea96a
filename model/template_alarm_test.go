package model

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTemplateAlarmRules(t *testing.T) {
	t.Parallel()
	value := func(_, expression string) float64 {
		v, _ := strconv.ParseFloat(expression, 64) // nothing is zero
		return v
	}
	a := TemplateAlarm{Point: "p", Operator: OutOfRange, Threshold: "1", High: "9", Hysteresis: "0.5", OnDelay: time.Second, OffDelay: time.Minute, Latch: true,
		Enable: &TemplateEnable{Point: "running", Operator: Equal, Threshold: "1"}, Severity: High, Message: "m", Disabled: true}
	want := AlarmRule{ID: "r", Model: "m", Point: "p", Operator: OutOfRange, Threshold: 1, High: 9, Hysteresis: 0.5, OnDelay: time.Second, OffDelay: time.Minute, Latch: true,
		Enable: &AlarmEnable{Point: "running", Operator: Equal, Threshold: 1}, Severity: High, Message: "m", Disabled: true}
	lacks := func(names ...string) func(string) bool {
		return func(name string) bool {
			for _, n := range names {
				if n == name {
					return true
				}
			}
			return false
		}
	}
	rules, err := a.Rules("r", "m", value, lacks())
	require.NoError(t, err)
	require.Equal(t, []AlarmRule{want}, rules)
	rules, err = a.Rules("r", "m", value, lacks("p"))
	require.NoError(t, err)
	require.Empty(t, rules, "nothing is watched")

	always := want
	always.Enable = nil
	rules, err = a.Rules("r", "m", value, lacks("running"))
	require.NoError(t, err)
	require.Equal(t, []AlarmRule{always}, rules, "an alarm is not lost with its condition")
	a.Enable.Model, want.Enable.Model = "other", "other"
	rules, err = a.Rules("r", "m", value, lacks("running"))
	require.NoError(t, err)
	require.Equal(t, []AlarmRule{want}, rules, "of another model")

	dev := TemplateAlarm{Point: "p", Operator: Deviation, Threshold: "5", Reference: "x", Count: 2, Window: time.Minute}
	rules, err = dev.Rules("r", "m", value, lacks())
	require.NoError(t, err)
	require.Equal(t, []AlarmRule{{ID: "r", Model: "m", Point: "p", Operator: Deviation, Threshold: 5, Reference: "x", Count: 2, Window: time.Minute}}, rules)
	rules, err = dev.Rules("r", "m", value, lacks("x"))
	require.NoError(t, err)
	require.Empty(t, rules, "nothing to compare with")
	dev.Reference = "other:x"
	rules, err = dev.Rules("r", "m", value, lacks("x"))
	require.NoError(t, err)
	require.Len(t, rules, 1)

	set := TemplateAlarm{Point: "p", Limits: &TemplateLimits{HiHi: "9", Lo: "1"}, Hysteresis: "0.5"}
	rules, err = set.Rules("r", "m", value, lacks())
	require.NoError(t, err)
	require.Equal(t, []AlarmRule{{ID: "r_hihi", Model: "m", Point: "p", Operator: Above, Threshold: 9, Hysteresis: 0.5, Severity: Critical},
		{ID: "r_lo", Model: "m", Point: "p", Operator: Below, Threshold: 1, Hysteresis: 0.5, Severity: High}}, rules)
	set.Limits.Hi = "10"
	_, err = set.Rules("r", "m", value, lacks())
	require.EqualError(t, err, "alarm rule r of m:p: invalid: limits: hi 10: is not below hihi 9")
	a.High = "0"
	_, err = a.Rules("r", "m", value, lacks())
	require.ErrorIs(t, err, ErrInvalid)
}

func TestTemplateAlarmValidate(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]TemplateAlarm{
		"":                                                       {Point: "p", Operator: Rate, Threshold: "rated", Enable: &TemplateEnable{Model: "m", Point: "any", Operator: Equal, Threshold: "1"}},
		`point "x": there is no such point`:                      {Point: "x", Operator: Change},
		`point "rated": there is no such point`:                  {Point: "rated", Operator: Change},
		`reference "x": there is no such point`:                  {Point: "p", Operator: Deviation, Threshold: "1", Reference: "x"},
		`enable "x": there is no such point`:                     {Point: "p", Operator: Change, Enable: &TemplateEnable{Point: "x", Operator: Equal, Threshold: "1"}},
		"the threshold of enable is missing":                     {Point: "p", Operator: Change, Enable: &TemplateEnable{Point: "q", Operator: Equal}},
		`enable with operator "~"`:                               {Point: "p", Operator: Change, Enable: &TemplateEnable{Point: "q", Operator: "~", Threshold: "1"}},
		"the threshold is missing":                               {Point: "p", Operator: Above},
		"the upper limit, high, is missing":                      {Point: "p", Operator: InRange, Threshold: "-5"},
		"high 2: is for in_range and out_of_range":               {Point: "p", Operator: Above, Threshold: "1", High: "5"},
		`operator "": want one of`:                               {Point: "p"},
		"limits do not go with operator":                         {Point: "p", Operator: Above, Limits: &TemplateLimits{Hi: "1"}},
		"limits: want one or more of":                            {Point: "p", Limits: &TemplateLimits{}},
		"window 0s: a count needs a time to look back":           {Point: "p", Limits: &TemplateLimits{HiHi: "1", Hi: "1", Lo: "1", LoLo: "1"}, Count: 3},
		`operator offline: "offline" is for the model "channel"`: {Point: "p", Operator: IsOffline},
		`severity "x": want low, medium, high or critical`:       {Point: "p", Operator: Change, Severity: "x"},
	} {
		template := Template{Name: "t", Measurements: map[string]TemplatePoint{"p": {}, "q": {}}, Properties: map[string]Property{"rated": {}}, Alarms: map[string]TemplateAlarm{"a": a}}
		err := template.Validate()
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrInvalid, want)
		require.ErrorContains(t, err, "template t: ", want)
		require.ErrorContains(t, err, want)
	}
}
