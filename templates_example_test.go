package voltage_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/model"
)

func ExampleLoadTemplates() {
	lib, err := voltage.LoadTemplates()
	if err != nil {
		fmt.Println(err)
		return
	}
	m, alarms, err := lib.Instance(model.Instance{
		ID: "pcs1", Template: "pcs", Properties: map[string]float64{"rated_power": 50},
		Measurements: map[string]string{"active_power": "1003:4", "temperature": "1003:12"},
		Controls:     map[string]string{"power_setpoint": "1003:1"},
	})
	if err != nil {
		fmt.Println(err) // everything that is wrong with the instance
		return
	}
	limits := m.Points["power_setpoint"]
	fmt.Println(*limits.Min, *limits.Max, limits.Unit)
	fmt.Println(slices.Sorted(maps.Keys(m.Calculations)))
	fmt.Println(alarms[0].Point, alarms[0].Operator, alarms[0].Threshold)
	// Output:
	// -50 50 kW
	// [charged_energy discharged_energy load_factor]
	// temperature > 80
}
