package voltage_test

import (
	"fmt"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel/modbus"
)

// A firmware that has no site file makes a channel, a model and its alarms from a
// device profile.
func ExampleLoadProfile() {
	heatPump, err := voltage.LoadProfile("testdata/loadconfig/profile.yaml", modbus.Kinds()...)
	if err != nil {
		fmt.Println(err) // every fault with file, line and field
		return
	}
	var cfg voltage.Config
	for i, address := range []string{"192.168.1.21", "192.168.1.22"} {
		id, name := fmt.Sprint(1001+i), fmt.Sprint("heat_pump_", i+1)
		ch, err := heatPump.Channel(id, "modbus-tcp", map[string]any{"address": address, "unit": 1})
		if err != nil {
			fmt.Println(err)
			return
		}
		cfg.Channels = append(cfg.Channels, ch)
		cfg.Models = append(cfg.Models, heatPump.Instance(name, id))
		cfg.Alarms = append(cfg.Alarms, heatPump.Rules(name)...)
	}
	eng, err := voltage.NewEngine(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cfg.Models[1].Controls, cfg.Alarms[1].Model, cfg.Alarms[1].Message, eng != nil)
	// Output: map[setpoint:1002:3] heat_pump_2 Supply too hot true
}

func ExampleLintProfile() {
	for _, finding := range voltage.LintProfile("testdata/loadconfig/profile.yaml", modbus.Kinds()...) {
		fmt.Println(finding) // file:line: warning: what is probably wrong
	}
	// Output:
}
