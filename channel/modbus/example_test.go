package modbus_test

import (
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

func ExampleTCP() {
	_ = channel.Config{
		ID:     "1001",
		Driver: modbus.TCP("192.168.1.10:502", modbus.Unit(1)),
		Points: []model.Point{
			{ID: "1", Name: "active_power", Address: "holding:100:float32", Scale: 0.1, Unit: "kW"},
			{ID: "2", Name: "running", Kind: model.Signal, Address: "holding:102:bit0"},
			{ID: "3", Name: "power_setpoint", Kind: model.Control, Address: "holding:200:int16", Unit: "kW", ReadBack: true},
		},
	}
}

func ExampleNewBus() {
	gateway := modbus.NewBus("192.168.1.20:502", modbus.Delay(5*time.Millisecond))
	for unit, id := range map[int]string{1: "meter1", 2: "meter2"} {
		_ = channel.Config{
			ID:     id,
			Driver: gateway.Unit(unit, modbus.MaxRead(60)),
			Points: []model.Point{{ID: "1", Address: "input:0:float32:CDAB", Unit: "V"}},
		}
	}
}

func ExampleNewRTUBus() {
	line := modbus.NewRTUBus("/dev/ttyUSB0", modbus.Baud(9600), modbus.Parity("none"))
	for unit, id := range map[int]string{1: "meter1", 2: "meter2"} {
		_ = channel.Config{
			ID:     id,
			Driver: line.Unit(unit),
			Points: []model.Point{{ID: "1", Address: "input:0:float32", Unit: "V"}},
		}
	}
}

func ExampleTLS() {
	_ = channel.Config{
		ID: "1001",
		Driver: modbus.TLS("192.168.1.10", modbus.TLSConfig{
			CAFile: "/etc/gateway/plant-ca.pem", CertFile: "/etc/gateway/cert.pem", KeyFile: "/etc/gateway/key.pem",
			ServerName: "pcs1.plant",
		}),
		Points: []model.Point{{ID: "1", Name: "active_power", Address: "holding:100:float32", Unit: "kW"}},
	}
}

func ExamplePartWrites() {
	_ = channel.Config{
		ID:     "1001",
		Driver: modbus.TCP("192.168.1.10", modbus.PartWrites(modbus.PartsMask)),
		Points: []model.Point{
			{ID: "1", Name: "start", Kind: model.Control, Address: "holding:40:bit0", ReadBack: true},
			{ID: "2", Name: "mode", Kind: model.Adjustment, Address: "holding:40:bits4-7"},
		},
	}
}
