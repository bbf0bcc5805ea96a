package virtual_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
)

func ExampleNew() {
	setpoint := model.Point{ID: "2", Kind: model.Control, Address: "setpoint:0", Unit: "kW", ReadBack: true}
	device := virtual.NewDevice()
	// The engine does this with channel.Config{Driver: virtual.New(...)}.
	driver, err := virtual.New(virtual.On(device))(channel.Setup{
		ID: "1001",
		Points: []model.Point{
			{ID: "1", Address: "constant:2305", Scale: 0.1, Unit: "V"},
			setpoint,
			{ID: "3", Address: "follow:2", Unit: "kW"},
		},
		Scan: 10 * time.Millisecond, Timeout: time.Second, Log: slog.Default(), Clock: model.SystemClock,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := driver.Connect(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer driver.Close(ctx)

	outcome, err := driver.(channel.Writer).Write(ctx, channel.Write{Point: setpoint, Value: 50})
	fmt.Println(outcome.Result, err)
	samples, err := driver.Read(ctx)
	for _, s := range samples {
		fmt.Println(s.Point, model.FormatValue(s.Value), s.Quality)
	}
	fmt.Println(err)

	device.SetOffline(true)
	_, err = driver.Read(ctx)
	fmt.Println(err)
	// Output:
	// confirmed <nil>
	// 1 230.500000 good
	// 2 50.000000 good
	// 3 50.000000 good
	// <nil>
	// channel 1001: not connected: the virtual device went offline
}
