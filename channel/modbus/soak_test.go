package modbus

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// Two units on a bus are polled and operated while a third of the requests
// meets a fault. No good sample is ever wrong, and in the end all is well.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	rounds := 150
	if os.Getenv("VOLTAGE_LONG") == "1" {
		rounds = 20000
	}
	dev := newDevice(t, 1, 2)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(5, 6))
	dev.faults(func(server.Request) server.Action {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(3) > 0 {
			return server.Action{}
		}
		at, value := r.IntN(1<<16), byte(r.IntN(256))
		return []server.Action{
			{Drop: true}, {Ignore: true}, {Duplicate: true}, {Truncate: 1 + r.IntN(8)}, {WrongTransaction: true},
			{Disconnect: true}, {Drop: true, Disconnect: true}, {Exception: server.Exception(1 + r.IntN(11))},
			{Delay: time.Duration(r.IntN(40)) * time.Millisecond},
			// Any byte of the header, or the byte count; in the data no receiver could tell.
			{Rewrite: func(f []byte) []byte { f[at%min(9, len(f))] ^= value; return f }},
			{Rewrite: func(f []byte) []byte { return append(f, value, value) }},
		}[r.IntN(11)]
	})
	bus := NewBus(dev.address)
	var running sync.WaitGroup
	for u := 1; u <= 2; u++ {
		written := control("w", "holding:150")
		s := setup(point("a", "holding:1"), point("b", "holding:50:int32"), point("c", "input:100"), point("d", "coil:7"), written)
		s.Timeout = 25 * time.Millisecond
		want := map[string]float64{"a": 1, "b": 50<<16 | 51, "c": 100, "d": 1, "w": 150}
		d := open(t, bus.Unit(u), s)
		running.Go(func() {
			for range rounds {
				samples, err := d.Read(context.Background())
				if err != nil {
					if !assert.ErrorIs(t, err, channel.ErrNotConnected) {
						return
					}
					_ = d.Close(context.Background())
					_ = d.Connect(context.Background())
					continue
				}
				for _, got := range samples {
					if got.Quality == model.Good && !assert.Equal(t, want[got.Point], got.Value, got.Point) {
						return
					}
				}
			}
		})
		running.Go(func() {
			for range rounds / 5 {
				out, err := write(d, "w", 150)
				assert.Equal(t, out.Result == channel.Done, err == nil, "%v, %v", out, err)
			}
		})
		t.Cleanup(func() {
			dev.faults(nil)
			_ = d.Close(context.Background())
			d.setup.Timeout = 10 * time.Second
			// What the last fault left in the stream may cost one connection.
			require.Eventually(t, func() bool {
				if d.Connect(context.Background()) != nil {
					return false
				}
				_, err := d.Read(context.Background())
				return err == nil
			}, 10*time.Second, time.Millisecond)
			for id, v := range want {
				assert.Equal(t, good(id, v), read(t, d)[id])
			}
			_ = d.Close(context.Background())
		})
	}
	running.Wait()
}
