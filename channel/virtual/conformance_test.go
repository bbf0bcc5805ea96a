package virtual

import (
	"testing"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	path := recording(t, "time,power\n0,12\n")
	setpoint := model.Point{ID: "10", Kind: model.Control, Address: "setpoint:0", ReadBack: true}
	plain := model.Point{ID: "11", Kind: model.Adjustment, Address: "setpoint:7"}
	bad := func(address string) model.Point { return model.Point{ID: "bad1", Address: address} }
	for _, refuses := range []bool{false, true} {
		h := channeltest.Harness{
			Start: func(testing.TB) channeltest.Peer {
				device := NewDevice()
				device.SetRefuse(refuses)
				device.SetQuality("20", model.Invalid)
				return channeltest.Peer{
					Factory: New(On(device)),
					Stop:    func() { device.SetOffline(true) },
					Restart: func() { device.SetOffline(false) },
					Freeze:  func() { device.SetSilent(true) },
					Held:    device.Setpoint,
				}
			},
			Points: []channeltest.Expect{
				{Point: model.Point{ID: "1", Address: "constant:50", Scale: 0.1, Offset: 1}, Value: 6},
				{Point: model.Point{ID: "2", Address: "sine:0:5:1s"}, Any: true},
				{Point: model.Point{ID: "3", Address: "ramp:-3:3:2s"}, Any: true},
				{Point: model.Point{ID: "4", Address: "random_walk:5:1:0:10"}, Value: 5, Tolerance: 5},
				{Point: model.Point{ID: "5", Kind: model.Signal, Address: "toggle"}, Any: true},
				{Point: model.Point{ID: "6", Address: "csv:" + path + ":power"}, Value: 12},
				{Point: model.Point{ID: "7", Text: true, Address: "text:a:b"}, Text: "a:b"},
			},
			Unreadable:   []model.Point{{ID: "20", Address: "constant:1"}},
			BadAddresses: []model.Point{bad(""), bad("sine"), bad("follow:99"), bad("csv:x"), bad("setpoint:1")},
		}
		if refuses {
			h.Refused = []channel.Write{{Point: setpoint, Value: 1}}
			t.Run("refusing", func(t *testing.T) { t.Parallel(); channeltest.Run(t, h) })
			continue
		}
		h.Writes = []channel.Write{{Point: setpoint, Value: 1.5}, {Point: setpoint, Value: -2}, {Point: plain, Value: 3}}
		channeltest.Run(t, h)
	}
}
