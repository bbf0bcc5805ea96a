package voltage_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// A firmware that is told of every alarm, whatever stops it and for how long, keeps
// the position of the last one that it dealt with in a file.
func ExampleEngine_OnAlarmFrom() {
	folder, err := os.MkdirTemp("", "firmware")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "alarms.position")

	eng, err := voltage.NewEngine(voltage.Config{
		Channels: []channel.Config{{ID: "sensors", Points: []model.Point{{ID: "1", Unit: "°C"}}}},
		Models:   []model.Instance{{ID: "cabinet", Measurements: map[string]string{"temperature": "sensors:1"}}},
		Alarms:   []alarm.Rule{{ID: "hot", Model: "cabinet", Point: "temperature", Operator: model.Above, Threshold: 60}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	position, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Println(err)
		return
	}
	dealt := make(chan struct{})
	err = eng.OnAlarmFrom(string(position), func(ctx context.Context, ev alarm.Event) {
		fmt.Println(ev.Model, ev.Rule, ev.Transition) // … what the firmware does about it …
		// Only now, and so that a power cut leaves the old file or the new one. After
		// one in between, the same transition comes again.
		next := file + ".new"
		err := os.WriteFile(next, []byte(ev.Position), 0o600)
		if err == nil {
			err = os.Rename(next, file)
		}
		if err != nil {
			fmt.Println(err)
		}
		close(dealt)
	})
	if err != nil { // the file holds something else: report it, and begin with the oldest
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if err := eng.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer eng.Stop(ctx)
	if err := eng.Push(ctx, "sensors", model.Sample{Point: "1", Value: 61}); err != nil {
		fmt.Println(err)
		return
	}
	<-dealt
	// Output: cabinet hot raised
}
