package channeltest_test

import (
	"testing"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
)

// A driver's test starts a simulated device for each check and says what the
// device holds. The driver in examples/driver has one with a device on TCP.
func ExampleRun() {
	_ = func(t *testing.T) { // func TestConformance(t *testing.T)
		setpoint := model.Point{ID: "2", Kind: model.Control, Address: "setpoint:0", ReadBack: true}
		channeltest.Run(t, channeltest.Harness{
			Start: func(tb testing.TB) channeltest.Peer {
				device := virtual.NewDevice() // what has to be ended goes into tb.Cleanup
				return channeltest.Peer{
					Factory: virtual.New(virtual.On(device)),
					Stop:    func() { device.SetOffline(true) },
					Restart: func() { device.SetOffline(false) },
					Freeze:  func() { device.SetSilent(true) },
					Held:    device.Setpoint,
				}
			},
			Points: []channeltest.Expect{
				{Point: model.Point{ID: "1", Address: "constant:2305", Scale: 0.1}, Value: 230.5},
			},
			Writes:       []channel.Write{{Point: setpoint, Value: 50}, {Point: setpoint, Value: 0}},
			BadAddresses: []model.Point{{ID: "3", Address: "nonsense"}},
		})
	}
}

// A test drives code that waits in steps of two: BlockUntil, then Advance.
func ExampleClock() {
	_ = func(t *testing.T) {
		clock := channeltest.NewClock(t)
		ticked := make(chan time.Time)
		go func() { ticked <- <-clock.After(time.Minute) }()
		clock.BlockUntil(1)
		clock.Advance(time.Minute)
		<-ticked
	}
}
