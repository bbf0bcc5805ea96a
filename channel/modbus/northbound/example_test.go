package northbound_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/northbound"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
)

// A site whose converter is shown to a control system, which may set its power.
func Example() {
	ctx := context.Background()
	address := make(chan net.Addr, 1)
	eng, err := voltage.NewEngine(voltage.Config{
		Log: slog.New(slog.DiscardHandler),
		Channels: []channel.Config{{ID: "1001", Driver: virtual.New(), Points: []model.Point{
			{ID: "1", Address: "follow:2", Unit: "kW"},
			{ID: "2", Kind: model.Control, Address: "setpoint:50", Unit: "kW"},
		}}},
		Models: []model.Instance{{ID: "pcs1", Measurements: map[string]string{"power": "1001:1"}, Controls: map[string]string{"power_setpoint": "1001:2"}}},
		Servers: []channel.ServerConfig{{ID: "scada", Server: northbound.TCP("127.0.0.1:0", northbound.Map{
			{Address: "input:0:int32", Model: "pcs1", Point: "power", Scale: 0.001}, // in W
			{Address: "input:2", Model: "pcs1", Point: "power", Field: northbound.FieldQuality},
			{Address: "holding:0:int16", Model: "pcs1", Point: "power_setpoint", Scale: 0.1, Write: true},
		}, northbound.Bound(func(a net.Addr) { address <- a }))}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := eng.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}

	// The control system, here with the driver of package modbus.
	scada, err := modbus.TCP((<-address).String())(channel.Setup{ID: "scada", Scan: 100 * time.Millisecond, Timeout: time.Second,
		Points: []model.Point{{ID: "power", Address: "input:0:int32 na=0x80000000"}}, Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := scada.Connect(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for { // the first values come in moments
		samples, err := scada.Read(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		if samples[0].Quality == model.Good {
			fmt.Println(samples[0].Value, "W")
			break
		}
	}
	fmt.Println(scada.Close(ctx), eng.Stop(ctx))
	// Output:
	// 50000 W
	// <nil> <nil>
}
