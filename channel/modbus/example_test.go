package modbus_test

import (
	"fmt"
	"log/slog"
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

// Scan classes, and the requests that come of them.
func Example_scanClasses() {
	cfg := channel.Config{
		ID:     "1001",
		Driver: modbus.TCP("192.168.1.10:502"),
		Scan:   time.Second,
		Scans:  map[string]time.Duration{"fast": 100 * time.Millisecond, "slow": time.Minute},
		Points: []model.Point{
			{ID: "power", Address: "holding:100:float32", Scan: "fast"},
			{ID: "voltage", Address: "holding:110:float32"},
			{ID: "current", Address: "holding:114:float32"},
			{ID: "energy", Address: "holding:200:uint64", Scan: "slow"},
			{ID: "serial", Address: "holding:10:string8", Text: true, Scan: channel.ScanOnce},
			{ID: "log", Address: "holding:900:uint32", Scan: channel.ScanDemand}, // see Engine.Demand
		},
	}
	driver, err := cfg.NewDriver(slog.Default(), model.SystemClock)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(driver.(channel.Planner).Plan())
	// Output:
	// modbus 192.168.1.10:502 unit 1: 6 points
	// class    period  function   addresses  count  in vain  points
	// demand   -       3 holding  900-901    2      0        log
	// fast     100ms   3 holding  100-101    2      0        power
	// default  1s      3 holding  110-115    6      2        voltage current
	// slow     1m0s    3 holding  200-203    4      0        energy
	// once     -       3 holding  10-17      8      0        serial
	// demand: 1 request a round, 2 registers, about 25 bytes
	// fast: 1 request a round, 2 registers, about 25 bytes
	// default: 1 request a round, 6 registers, about 33 bytes
	// slow: 1 request a round, 4 registers, about 29 bytes
	// once: 1 request a round, 8 registers, about 37 bytes
}
