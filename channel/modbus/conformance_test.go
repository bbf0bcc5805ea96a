package modbus_test

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/internal/testcert"
	"github.com/voltageems/voltage/model"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	factories := map[string]func(string) channel.Factory{
		"tcp": func(address string) channel.Factory { return modbus.TCP(address, modbus.Unit(3)) },
		"bus": func(address string) channel.Factory { return modbus.NewBus(address).Unit(3) },
	}
	factories["rtu over tcp"] = func(address string) channel.Factory { return modbus.RTUOverTCP(address, modbus.Unit(3)) }
	for name, factory := range factories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			channeltest.Run(t, harness(factory, server.Config{RTU: name == "rtu over tcp"}))
		})
	}
	t.Run("tls", func(t *testing.T) {
		t.Parallel()
		ca := testcert.NewCA(t)
		device, client := ca.Issue(t, testcert.Spec{Hosts: []string{"127.0.0.1"}}), ca.Issue(t, testcert.Spec{})
		files := modbus.TLSConfig{CAFile: ca.File, CertFile: client.CertFile, KeyFile: client.KeyFile}
		factory := func(address string) channel.Factory { return modbus.TLS(address, files, modbus.Unit(3)) }
		secure := &tls.Config{Certificates: []tls.Certificate{device.Certificate}, ClientCAs: ca.Pool}
		channeltest.Run(t, harness(factory, server.Config{TLS: secure}))
	})
}

func harness(factory func(address string) channel.Factory, base server.Config) channeltest.Harness {
	setpoint := model.Point{ID: "setpoint", Kind: model.Control, Address: "holding:20:int16", Scale: 0.1, ReadBack: true}
	breaker := model.Point{ID: "breaker", Kind: model.Control, Address: "coil:7"}
	refused := model.Point{ID: "refused", Kind: model.Adjustment, Address: "holding:21"}
	return channeltest.Harness{
		Start: func(tb testing.TB) channeltest.Peer { return newPeer(tb, factory, base) },
		Points: []channeltest.Expect{
			{Point: model.Point{ID: "power", Address: "holding:10:float32"}, Value: 1.5},
			{Point: model.Point{ID: "voltage", Address: "input:3:uint16", Scale: 0.1}, Value: 230.1},
			{Point: model.Point{ID: "running", Kind: model.Signal, Address: "discrete:3"}, Value: 1},
			{Point: model.Point{ID: "serial", Text: true, Address: "40031:string4"}, Text: "SN-12"},
			{Point: model.Point{ID: "mode", Kind: model.Signal, Address: "holding:34:bits4-7 na=0xF"}, Value: 5},
		},
		Unreadable: []model.Point{{ID: "missing", Address: "holding:11000:int32"}, {ID: "near", Address: "holding:13"}},
		BadAddresses: []model.Point{
			{ID: "no_space", Address: "4001"}, {ID: "no_type", Address: "holding:1:int24"},
			{ID: "read_only", Kind: model.Control, Address: "input:1"}, {ID: "empty"},
		},
		Writes: []channel.Write{
			{Point: setpoint, Value: -12.5}, {Point: setpoint, Value: 300}, {Point: breaker, Value: 1}, {Point: breaker, Value: 0},
		},
		Refused: []channel.Write{{Point: refused, Value: 5}},
	}
}

func newPeer(tb testing.TB, factory func(string) channel.Factory, base server.Config) channeltest.Peer {
	var frozen atomic.Bool
	memory := &server.Memory{}
	memory.SetRegisters(server.HoldingRegister, 10, 0x3FC0, 0)
	memory.SetRegisters(server.HoldingRegister, 20, 0, 77)
	memory.SetRegisters(server.HoldingRegister, 30, 'S'<<8|'N', '-'<<8|'1', '2'<<8, 0, 0xFF5F)
	memory.SetRegisters(server.InputRegister, 3, 2301)
	memory.SetBits(server.DiscreteInput, 3, true)
	memory.SetBits(server.Coil, 7, false)
	intercept := func(r server.Request) server.Action {
		if r.Function == 6 && r.Address == 21 {
			return server.Action{Exception: server.IllegalValue}
		}
		return server.Action{Ignore: frozen.Load()}
	}
	var mu sync.Mutex
	var srv *server.Server
	address := "127.0.0.1:0"
	start := func() {
		cfg := base
		cfg.Units, cfg.Intercept = map[byte]server.Handler{3: memory}, intercept
		next, err := server.New(cfg)
		if err != nil {
			tb.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for {
			bound, err := next.Listen(context.Background(), address)
			if err == nil {
				address = bound.String()
				break
			}
			if time.Now().After(deadline) {
				tb.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		srv = next
	}
	stop := func() {
		mu.Lock()
		defer mu.Unlock()
		if err := srv.Close(context.Background()); err != nil && !errors.Is(err, server.ErrClosed) {
			tb.Error(err)
		}
	}
	start()
	tb.Cleanup(stop)
	return channeltest.Peer{
		Factory: factory(address), Stop: stop, Restart: start,
		Freeze: func() { frozen.Store(true) },
		Held: func(point string) (float64, bool) {
			switch point {
			case "setpoint":
				raw, ok := memory.Register(server.HoldingRegister, 20)
				return float64(int16(raw)) / 10, ok
			case "breaker":
				on, ok := memory.Bit(server.Coil, 7)
				if on {
					return 1, ok
				}
				return 0, ok
			case "refused":
				raw, ok := memory.Register(server.HoldingRegister, 21)
				return float64(raw), ok
			}
			return 0, false
		},
	}
}
