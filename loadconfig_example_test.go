package voltage_test

import (
	"fmt"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel/all"
)

func ExampleLoadConfig() {
	cfg, err := voltage.LoadConfig("testdata/loadconfig/small.yaml", all.Kinds()...)
	if err != nil {
		fmt.Println(err) // every fault with file, line and field
		return
	}
	fmt.Println(cfg.Site, cfg.Channels[0].Points[0].Unit, cfg.Models[0].Measurements)
	// Output: plant-a kW map[active_power:1001:1]
}
