package api

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// What a template says about a model is shown beside what the device's points say.
func TestModelOfATemplate(t *testing.T) {
	t.Parallel()
	high := 50.0
	site := newFakeSite()
	site.points["pcs2"] = map[string]model.Point{
		"active_power": {Unit: "kW"}, "state": {Kind: model.Signal, Labels: map[int]string{1: "on"}}, "energy": {Unit: "kWh"},
	}
	m := model.Instance{ID: "pcs2", Template: "pcs", Parent: "station1", Properties: map[string]float64{"rated_power": 50},
		Measurements: map[string]string{"active_power": "1:1", "energy": "calc.pcs2:energy"}, Signals: map[string]string{"state": "1:2"},
		Points: map[string]model.PointInfo{
			"active_power": {Unit: "kW", Description: "positive while discharging", Max: &high},
			"state":        {Kind: model.Signal, Labels: map[int]string{0: "of the template"}},
			"setpoint":     {Kind: model.Control, Unit: "kW", Max: &high, Optional: true},
		},
		Calculations: map[string]model.Calculation{"energy": {Expression: "integral(active_power, h)", Unit: "kWh", Description: "computed"}}}
	text, err := json.Marshal(newModelForm(site, m))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"pcs2","name":"pcs2","enabled":true,"template":"pcs","parent":"station1","properties":{"rated_power":50},
		"measurements":{"active_power":"1:1","energy":"calc.pcs2:energy"},"signals":{"state":"1:2"},
		"points":{
			"active_power":{"kind":"measurement","unit":"kW","max":50,"description":"positive while discharging"},
			"state":{"kind":"signal","labels":{"1":"on"}},
			"setpoint":{"kind":"control","unit":"kW","max":50,"unbound":true},
			"energy":{"kind":"measurement","unit":"kWh","description":"computed","expression":"integral(active_power, h)"}}}`, string(text))
}
