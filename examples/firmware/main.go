// Command firmware is the least that a controller needs: one Modbus device, one
// model, one alarm, embedded in the maker's own program.
package main

import (
	"context"
	"log"
	"os/signal"
	"syscall"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	eng, err := voltage.NewEngine(voltage.Config{
		Channels: []channel.Config{{ID: "1001", Driver: modbus.TCP("192.168.1.10:502", modbus.Unit(1)), Points: []model.Point{
			{ID: "1", Address: "input:6:int16", Scale: 0.1, Unit: "°C"},
			{ID: "2", Address: "holding:0:int16", Scale: 0.1, Unit: "kW", Kind: model.Control, Min: new(-100.0), Max: new(100.0), ReadBack: true}}}},
		Models: []model.Instance{{ID: "pcs1", Measurements: map[string]string{"temperature": "1001:1"}, Controls: map[string]string{"power_setpoint": "1001:2"}}},
		Alarms: []alarm.Rule{{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60, Hysteresis: 5}},
		HTTP:   voltage.HTTP{Listen: "127.0.0.1:8080"},
	})
	if err != nil {
		log.Fatal(err)
	}
	eng.OnAlarm(func(ctx context.Context, ev alarm.Event) {
		if ev.Transition == model.TransitionRaised { // stop the converter, and say so if that is not certain
			if _, err := eng.Control(ctx, model.Command{Model: "pcs1", Control: "power_setpoint", Value: 0}); err != nil {
				log.Print(err)
			}
		}
	})
	if err := eng.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
