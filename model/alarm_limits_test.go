package model

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAlarmLimits(t *testing.T) {
	t.Parallel()
	base := AlarmRule{ID: "t", Model: "m", Point: "p", Hysteresis: 2, OnDelay: time.Second, Latch: true, Message: "x",
		Enable: &AlarmEnable{Point: "running", Operator: Equal, Threshold: 1}}
	all := AlarmLimits{HiHi: new(70.0), Hi: new(60.0), Lo: new(5.0), LoLo: new(0.0)}
	require.NoError(t, all.Validate())
	want := func(id string, o Operator, threshold float64, s Severity) AlarmRule {
		r := base
		r.ID, r.Operator, r.Threshold, r.Severity = id, o, threshold, s
		return r
	}
	rules := all.Rules(base)
	require.Equal(t, []AlarmRule{want("t_hihi", Above, 70, Critical), want("t_hi", Above, 60, High),
		want("t_lo", Below, 5, High), want("t_lolo", Below, 0, Critical)}, rules)
	for _, r := range rules {
		require.NoError(t, r.Validate())
	}
	rules[0].Enable.Threshold = 9
	require.Equal(t, 1.0, base.Enable.Threshold, "no rule shares its condition with another")

	base.Severity, base.Enable = Low, nil
	require.Equal(t, []AlarmRule{want("t_hi", Above, 60, Low)}, AlarmLimits{Hi: new(60.0)}.Rules(base))
	require.Empty(t, AlarmLimits{}.Rules(base))

	for text, bad := range map[string]AlarmLimits{
		"limits: want one or more of hihi, hi, lo, lolo":      {},
		"limits: hi 70: is not below hihi 70":                 {HiHi: new(70.0), Hi: new(70.0)},
		"limits: lolo 80: is not below hihi 70":               {HiHi: new(70.0), LoLo: new(80.0)},
		"limits: lolo 6: is not below lo 5":                   {HiHi: new(70.0), Lo: new(5.0), LoLo: new(6.0)},
		"limits: lo NaN: not a number that can be stored":     {Lo: new(math.NaN())},
		"limits: hihi 1e+16: not a number that can be stored": {HiHi: new(1e16)},
	} {
		require.EqualError(t, bad.Validate(), "invalid: "+text)
	}
}
