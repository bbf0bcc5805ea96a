// Package demo is the configuration of the simulated storage site: the channels,
// models, alarms, rules and servers with which the example programs and the engine's own
// tests run internal/simsite. examples/allinone/site.yaml is the same as a file.
package demo

import (
	"strconv"
	"time"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/northbound"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/internal/simsite"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/rule"
)

// Scan is how often the demo polls its devices.
const Scan = 500 * time.Millisecond

// Weather is the id of the channel that has no device behind it.
const Weather = "1005"

// ChannelID returns the channel of a device of the simulated site.
func ChannelID(device string) string {
	for i, d := range simsite.Devices() {
		if d == device {
			return strconv.Itoa(1001 + i)
		}
	}
	return ""
}

// ModelID returns the model of a device of the simulated site, such as "pcs1".
func ModelID(device string) string { return device + "1" }

// Points returns the point table of a device. Ids count from 1.
func Points(device string) []model.Point {
	var points []model.Point
	for _, e := range simsite.Map() {
		if e.Device == device {
			p := e.Point(strconv.Itoa(len(points) + 1))
			if p.Name == "active_power_setpoint" {
				p.Name = "power_setpoint"
			}
			points = append(points, p)
		}
	}
	return points
}

// Channels returns a channel for each device, whose address addr tells, and one
// with simulated weather.
func Channels(addr func(device string) string) []channel.Config {
	var list []channel.Config
	names := map[string]string{simsite.DeviceMeter: "Grid meter", simsite.DevicePV: "PV inverter",
		simsite.DevicePCS: "Battery converter", simsite.DeviceBMS: "Battery"}
	for i, device := range simsite.Devices() {
		list = append(list, channel.Config{ID: ChannelID(device), Name: names[device], Scan: Scan, Points: Points(device),
			Driver: modbus.TCP(addr(device), modbus.Unit(i+1), modbus.ConnectTimeout(time.Second))})
	}
	return append(list, channel.Config{ID: Weather, Name: "Weather", Scan: Scan, Driver: virtual.New(), Points: []model.Point{
		{ID: "1", Name: "ambient_temperature", Unit: "°C", Address: "random_walk:20:0.1:-10:40"},
		{ID: "2", Name: "wind_speed", Unit: "m/s", Address: "sine:5:3:60s"},
	}})
}

// Models returns a model for each channel, which binds every point under its
// name, and one that shows the site at a glance.
func Models() []model.Instance {
	site := model.Instance{ID: "site", Name: "Site", Measurements: map[string]string{}}
	var list []model.Instance
	for _, c := range Channels(func(string) string { return "127.0.0.1:502" }) {
		m := model.Instance{ID: c.ID, Name: c.Name, Measurements: map[string]string{}, Signals: map[string]string{},
			Controls: map[string]string{}, Adjustments: map[string]string{}}
		for _, device := range simsite.Devices() {
			if ChannelID(device) == c.ID {
				m.ID = ModelID(device)
			}
		}
		if c.ID == Weather {
			m.ID = "weather1"
		}
		for _, p := range c.Points {
			source := model.Ref{Owner: c.ID, Name: p.ID}.String()
			m.Bindings(p.Kind)[p.Name] = source
			if short, ok := glance[m.ID+"."+p.Name]; ok {
				site.Measurements[short] = source
			}
		}
		list = append(list, m)
	}
	return append([]model.Instance{site}, list...)
}

// glance names what the site's model shows.
var glance = map[string]string{
	"meter1.active_power":  "grid_power",
	"pv1.active_power":     "pv_power",
	"pcs1.active_power":    "battery_power",
	"bms1.soc":             "state_of_charge",
	"bms1.temperature_max": "battery_temperature",
}

// Alarms returns the demo's alarm rules.
func Alarms() []alarm.Rule {
	rules := []alarm.Rule{
		{ID: "over_temperature", Model: "bms1", Point: "temperature_max", Operator: model.Above, Threshold: 60,
			Hysteresis: 10, Severity: model.High, Message: "Battery too hot"},
		{ID: "low_charge", Model: "bms1", Point: "soc", Operator: model.Below, Threshold: 5, Hysteresis: 2,
			Severity: model.Medium, Message: "Battery nearly empty"},
	}
	heat := model.AlarmLimits{HiHi: new(39.0), Hi: new(35.0)}
	rules = append(rules, heat.Rules(alarm.Rule{ID: "heat", Model: "weather1", Point: "ambient_temperature", Hysteresis: 2, OnDelay: time.Minute,
		Severity: model.Low, Message: "Hot outside"})...)
	for _, c := range Channels(func(string) string { return "127.0.0.1:502" }) {
		rules = append(rules, alarm.Rule{ID: "offline", Model: model.AlarmModelChannel, Point: c.ID, Operator: model.IsOffline,
			OnDelay: 30 * time.Second, Severity: model.High})
	}
	return rules
}

// Rules returns the demo's rules.
func Rules() []rule.Rule {
	return []rule.Rule{{ID: "protect_battery", Name: "Stop the converter when the battery is too hot",
		Conditions: []rule.Condition{{Model: "bms1", Point: "temperature_max", Operator: model.Above, Threshold: 62}},
		Actions:    []rule.Action{{Type: model.ActionControl, Model: "pcs1", Control: "power_setpoint", Value: 0}}}}
}

// Servers returns the demo's server: what a control room or a panel needs, over
// Modbus TCP.
func Servers(listen string) []channel.ServerConfig {
	return []channel.ServerConfig{{ID: "scada", Name: "Control room", Server: northbound.TCP(listen, northbound.Map{
		{Address: "input:0:int32", Model: "site", Point: "grid_power", Scale: 0.001},
		{Address: "input:2:int32", Model: "site", Point: "pv_power", Scale: 0.001},
		{Address: "input:4:int32", Model: "site", Point: "battery_power", Scale: 0.001},
		{Address: "input:6:uint16", Model: "site", Point: "state_of_charge", Scale: 0.1},
		{Address: "input:7:int16", Model: "site", Point: "battery_temperature", Scale: 0.1},
		{Address: "input:8:uint16", Model: "site", Point: "battery_power", Field: northbound.FieldQuality},
		{Address: "input:9:uint16", Model: "site", Point: "battery_power", Field: northbound.FieldAge},
		{Address: "holding:0:int16", Model: "pcs1", Point: "power_setpoint", Scale: 0.1, Write: true},
	})}}
}
