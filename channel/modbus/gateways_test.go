package modbus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/modbus/server"
)

// polled is a unit that is polled as the runner does it.
type polled struct {
	*driver
	dead   bool
	rounds atomic.Int32
	writes sync.Mutex  // one Write at a time
	times  []time.Time // of the rounds
}

// run connects and reads until ctx ends, and waits longer after each failure.
func (p *polled) run(ctx context.Context) {
	pause := 50 * time.Millisecond
	for ctx.Err() == nil {
		if p.Connect(ctx) == nil {
			for {
				samples, err := p.Read(ctx)
				if err != nil {
					break
				}
				if len(samples) == len(p.items) { // else it is what was written
					p.rounds.Add(1)
					p.times = append(p.times, time.Now())
				}
				pause = 50 * time.Millisecond
			}
		}
		_ = p.Close(context.Background())
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, 30*time.Second)
	}
}

// 100 units behind 4 gateways, of which every tenth is dead: they answer nothing,
// or the gateway says so. The live ones are polled and operated all the same.
// With VOLTAGE_LONG=1 it is a minute at a scan time of 1 s; the log has figures.
func TestDeadUnitsBehindGateways(t *testing.T) {
	t.Parallel()
	scan, rounds := 250*time.Millisecond, int32(16)
	if os.Getenv("VOLTAGE_LONG") == "1" {
		scan, rounds = time.Second, 60
	}
	var units []*polled
	var attempts [100]atomic.Int32
	for gateway := range 4 {
		ids := make([]byte, 25)
		for k := range ids {
			ids[k] = byte(k + 1)
		}
		dev := newDevice(t, ids...)
		isDead := func(unit int) bool { return (25*gateway+unit)%10 == 0 }
		dev.faults(func(r server.Request) server.Action {
			n := 25*gateway + int(r.Unit)
			switch {
			case !isDead(int(r.Unit)):
				return server.Action{}
			case n%20 == 0:
				attempts[n-1].Add(1)
				return server.Action{Exception: server.GatewayTargetFailed}
			}
			attempts[n-1].Add(1)
			return server.Action{Ignore: true}
		})
		bus := NewBus(dev.address)
		for _, id := range ids {
			s := setup(point("a", "holding:1"), point("b", "holding:100"), point("c", "input:1"), control("w", "holding:150"))
			s.ID, s.Scan, s.Timeout = fmt.Sprintf("%d-%d", gateway, id), scan, time.Second
			units = append(units, &polled{driver: open(t, bus.Unit(int(id)), s), dead: isDead(int(id))})
		}
	}
	var live []*polled
	for _, u := range units {
		if !u.dead {
			live = append(live, u)
		}
	}
	require.Len(t, live, 90)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	var running sync.WaitGroup
	for _, u := range units {
		running.Go(func() { u.run(ctx) })
	}
	median := func() int32 {
		var all []int32
		for _, u := range live {
			all = append(all, u.rounds.Load())
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	// The first request to a unit that was never heard may take all its time.
	require.Eventually(t, func() bool {
		for k, u := range units {
			if u.dead && attempts[k].Load() < 3 {
				return false
			}
		}
		return median() >= 4
	}, 2*time.Minute, time.Millisecond)
	first := median()
	steady := time.Now().Add(2 * scan) // what was held up before that is made up for by then
	var mu sync.Mutex
	var latencies []time.Duration
	for range 4 {
		running.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				u := live[rand.IntN(len(live))]
				u.writes.Lock()
				start := time.Now()
				_, err := write(u.driver, "w", 1)
				took := time.Since(start)
				u.writes.Unlock()
				if err == nil {
					mu.Lock()
					latencies = append(latencies, took)
					mu.Unlock()
				} else if ctx.Err() == nil {
					assert.NoError(t, err)
				}
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	require.Eventually(t, func() bool { return median() >= first+rounds }, 2*time.Minute, 10*time.Millisecond)
	took := time.Since(began)
	cancel()
	running.Wait()

	half := median() / 2
	for _, u := range live {
		assert.Greater(t, u.rounds.Load(), half, "%s is read as often as the others", u.name)
	}
	var most int32
	for n := range attempts {
		most = max(most, attempts[n].Load())
		assert.LessOrEqual(t, attempts[n].Load(), first+rounds, "unit %d is tried less and less", n+1)
	}
	assert.Positive(t, most)

	slices.Sort(latencies)
	require.NotEmpty(t, latencies)
	var deviations []time.Duration
	for _, u := range live {
		for k := 2; k < len(u.times); k++ { // the first round is off the grid
			if u.times[k-1].After(steady) {
				deviations = append(deviations, (u.times[k].Sub(u.times[k-1]) - scan).Abs())
			}
		}
	}
	slices.Sort(deviations)
	at := func(all []time.Duration, share float64) time.Duration {
		return all[int(share*float64(len(all)-1))].Round(10 * time.Microsecond)
	}
	t.Logf("%s at a scan time of %s: %d commands, latency p50 %s p99 %s max %s; period deviation p50 %s p99 %s max %s; rounds %d of %.0f due; attempts on a dead unit at most %d",
		took.Round(time.Millisecond), scan, len(latencies), at(latencies, 0.5), at(latencies, 0.99), at(latencies, 1),
		at(deviations, 0.5), at(deviations, 0.99), at(deviations, 1), median(), took.Seconds()/scan.Seconds(), most)
}
