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

// A third of the requests meets a fault. A write that is Done or Confirmed has
// been carried out, one that was refused or not sent has not, and the rest of a
// register of which a part is written never changes.
func TestWritesUnderRandomFaults(t *testing.T) {
	t.Parallel()
	rounds := 60
	if os.Getenv("VOLTAGE_LONG") == "1" {
		rounds = 5000
	}
	for name, rtu := range map[string]bool{"tcp": false, "rtu": true} {
		for _, how := range []string{PartsMask, PartsRewrite} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				dev := newDeviceOf(t, rtu, 1)
				faults := newFaults(rtu)
				transport := TCP
				if rtu {
					transport = RTUOverTCP
				}
				part, whole, long := control("part", "holding:60:bits4-7"), control("whole", "holding:61"), control("long", "holding:62:int32")
				part.ReadBack, long.ReadBack = true, true
				s := setup(part, whole, long)
				s.Timeout, s.Clock = 25*time.Millisecond, &hasty{Clock: model.SystemClock, now: time.Now()}
				d := connected(t, transport(dev.address, PartWrites(how), ReadWrite()), s)
				held := func() map[string]float64 {
					at := func(n uint16) float64 {
						v, _ := dev.units[1].Register(server.HoldingRegister, n)
						return float64(v)
					}
					require.EqualValues(t, 60&^0xF0, int(at(60))&^0xF0, "the rest of the register")
					return map[string]float64{"part": float64(int(at(60)) >> 4 & 15), "whole": at(61), "long": at(62)*65536 + at(63)}
				}
				certain, never := 0, map[[2]any]bool{}
				for n := range rounds {
					// Each value is there once, save those of the part, which has 16.
					id, value := s.Points[n%3].ID, float64(1000+n)
					if id == "part" {
						value = float64(n / 3 % 16)
					}
					dev.faults(faults.next)
					out, err := write(d, id, value)
					dev.faults(nil)
					switch out.Result {
					case channel.Done, channel.Confirmed:
						certain++
						require.Equal(t, value, held()[id], "%s %s, %v", id, out.Result, err)
					case channel.NotSent, channel.Refused:
						require.Error(t, err)
						never[[2]any{id, value}] = id != "part"
					}
					for id, v := range held() {
						require.False(t, never[[2]any{id, v}], "%s has %v, which was refused or not sent", id, v)
					}
					d.line.mu.Lock()
					lost := d.line.conn == nil
					d.line.mu.Unlock()
					if lost {
						_ = d.Close(context.Background())
						// What lies in the old connection is carried out before.
						require.Eventually(t, func() bool { return dev.connections() == 0 }, 10*time.Second, time.Millisecond)
						require.NoError(t, d.Connect(context.Background()))
					}
				}
				assert.Positive(t, certain)
			})
		}
	}
}

// faults are random ones of a third of the requests.
type faults struct {
	mu  sync.Mutex
	r   *rand.Rand
	rtu bool
}

func newFaults(rtu bool) *faults { return &faults{r: rand.New(rand.NewPCG(9, 10)), rtu: rtu} }

func (f *faults) next(server.Request) server.Action {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.r.IntN(3) > 0 {
		return server.Action{}
	}
	at, value := f.r.IntN(1<<16), byte(1+f.r.IntN(255))
	all := []server.Action{
		{Drop: true}, {Ignore: true}, {Duplicate: true}, {Truncate: 1 + f.r.IntN(8)}, {Disconnect: true},
		{Drop: true, Disconnect: true}, {Exception: server.Exception(1 + f.r.IntN(11))},
		{Delay: time.Duration(f.r.IntN(60)) * time.Millisecond},
		// Nothing but the checksum of RTU tells these.
		{Rewrite: func(f []byte) []byte { f[at%len(f)] ^= value; return f }},
		{Rewrite: func(f []byte) []byte { return append([]byte{value, byte(at)}, f...) }},
	}
	if !f.rtu {
		all = all[:8]
	}
	return all[f.r.IntN(len(all))]
}
