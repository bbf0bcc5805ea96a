package modbus

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/model"
)

// scanned gives a point a scan class.
func scanned(class string, p model.Point) model.Point {
	p.Scan = class
	return p
}

// classed is setup with classes, by the test's clock.
func classed(t testing.TB, points ...model.Point) (channel.Setup, *channeltest.Clock) {
	clock := channeltest.NewClock(t)
	s := setup(points...)
	s.Scan, s.Clock = time.Second, clock
	s.Scans = map[string]time.Duration{"fast": 100 * time.Millisecond, "slow": time.Minute}
	return s, clock
}

// round1 is what one Read returned.
type round1 struct {
	samples []model.Sample
	err     error
}

// reads begins a Read.
func reads(d *driver) <-chan round1 {
	out := make(chan round1, 1)
	go func() {
		samples, err := d.Read(context.Background())
		out <- round1{slices.Clone(samples), err}
	}()
	return out
}

// ids returns the points of one Read, which must succeed.
func ids(t testing.TB, r round1) []string {
	t.Helper()
	require.NoError(t, r.err)
	var out []string
	for _, s := range r.samples {
		out = append(out, s.Point)
	}
	return out
}

func addresses(requests []server.Request) []int {
	var out []int
	for _, r := range requests {
		out = append(out, int(r.Address))
	}
	return out
}

func TestClassesAtConnect(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s, clock := classed(t, scanned("slow", point("s", "holding:1")), point("a", "holding:2"), scanned("fast", point("f", "holding:3")),
		scanned(channel.ScanOnce, point("o", "holding:4")), scanned(channel.ScanDemand, point("d", "holding:5")), scanned("slow", point("t", "holding:60")))
	d := connected(t, TCP(dev.address), s)
	for _, want := range [][]string{{"f"}, {"a"}, {"s", "t"}, {"o"}} {
		assert.ElementsMatch(t, want, ids(t, <-reads(d)))
	}
	assert.Equal(t, []int{3, 2, 1, 60, 4}, addresses(dev.requests()), "one plan for each class")
	// For a second only the fast one is read, and the default once.
	seen := map[string]int{}
	for range 10 {
		clock.Advance(100 * time.Millisecond)
		for {
			if wait, ok := d.table.Wait(clock.Now()); !ok || wait > 0 {
				break
			}
			for _, id := range ids(t, <-reads(d)) {
				seen[id]++
			}
		}
	}
	assert.Equal(t, map[string]int{"f": 10, "a": 1}, seen)

	require.NoError(t, d.Close(context.Background()))
	require.NoError(t, d.Connect(context.Background()))
	dev.requests()
	for range 4 {
		require.NoError(t, (<-reads(d)).err)
	}
	assert.ElementsMatch(t, []int{3, 2, 1, 60, 4}, addresses(dev.requests()), "all again after a connect, also what is read once")
}

// A fast class that becomes due is the next request, whatever a slow round still
// has to do, and the slow round goes on where it was.
func TestFastGoesAheadOfTheRestOfASlowRound(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	points := []model.Point{scanned("fast", point("f", "coil:1"))}
	for n := range 10 {
		points = append(points, scanned("slow", point(fmt.Sprint(n), fmt.Sprintf("holding:%d", 10*n))))
	}
	s, clock := classed(t, points...)
	d := connected(t, TCP(dev.address), s)
	require.Equal(t, []string{"f"}, ids(t, <-reads(d)))
	dev.faults(func(r server.Request) server.Action {
		if r.Function == 3 && r.Address%20 == 0 {
			clock.Advance(100 * time.Millisecond) // while this request is under way
		}
		return server.Action{}
	})
	for range 5 {
		assert.Equal(t, []string{"f"}, ids(t, <-reads(d)))
	}
	assert.Len(t, ids(t, <-reads(d)), 10)
	var order []byte
	for _, r := range dev.requests() {
		order = append(order, r.Function)
	}
	assert.Equal(t, []byte{1, 3, 1, 3, 3, 1, 3, 3, 1, 3, 3, 1, 3, 3, 1, 3}, order)
}

func TestOnceIsAskedForUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s, clock := classed(t, point("a", "coil:1"), scanned(channel.ScanOnce, point("o", "holding:4")), scanned(channel.ScanOnce, point("p", "holding:50")),
		scanned(channel.ScanOnce, point("none", "holding:500")))
	s.Timeout = time.Second
	dev.faults(func(r server.Request) server.Action { return server.Action{Ignore: r.Address == 50} })
	d := connected(t, TCP(dev.address), s)
	require.Equal(t, []string{"a"}, ids(t, <-reads(d)))
	first := <-reads(d)
	require.NoError(t, first.err)
	assert.ElementsMatch(t, []model.Sample{good("o", 4), bad("p", model.Bad), bad("none", model.Invalid)}, first.samples)
	absent := 0
	asked := func(seconds int) (n int) {
		for range seconds {
			clock.Advance(time.Second)
			for {
				if wait, _ := d.table.Wait(clock.Now()); wait > 0 {
					break
				}
				require.NoError(t, (<-reads(d)).err)
			}
		}
		for _, r := range dev.requests() {
			assert.NotEqual(t, uint16(4), r.Address, "what was answered is not asked for again")
			switch r.Address {
			case 50:
				n++
			case 500:
				absent++
			}
		}
		return n
	}
	dev.requests()
	assert.Equal(t, 3, asked(10), "less and less: after 1, 3 and 7 s")
	dev.faults(nil)
	assert.Equal(t, 1, asked(10))
	assert.Equal(t, good("p", 50), d.samples[d.items[d.index["p"]].sample])
	assert.Zero(t, asked(100), "once it is there")
	assert.Equal(t, 3, absent, "what the device does not have, rarely: after 15, 35 and 75 s")
}

func TestDemand(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s, clock := classed(t, scanned("slow", point("s", "holding:1")), scanned(channel.ScanDemand, point("d", "holding:5")),
		scanned(channel.ScanDemand, point("e", "holding:6")), scanned(channel.ScanOnce, point("o", "input:9")))
	d := open(t, TCP(dev.address), s)
	require.ErrorIs(t, d.Demand("d"), channel.ErrNotConnected)
	require.NoError(t, d.Connect(context.Background()))
	require.NoError(t, (<-reads(d)).err)
	require.NoError(t, (<-reads(d)).err)
	dev.requests()

	waiting := reads(d)
	clock.BlockUntil(1)
	require.NoError(t, d.Demand("d"))
	assert.Equal(t, []model.Sample{good("d", 5)}, (<-waiting).samples, "a Read that waits returns with it")
	require.NoError(t, d.Demand("e", "o", "d", "e"))
	require.NoError(t, d.Demand("s"))
	assert.ElementsMatch(t, []model.Sample{good("s", 1), good("d", 5), good("e", 6), good("o", 9)}, (<-reads(d)).samples, "of any class, in one round")
	assert.Len(t, dev.requests(), 1+2, "merged as all are")

	err := d.Demand("d", "nobody", "none")
	require.ErrorIs(t, err, model.ErrInvalid)
	require.ErrorContains(t, err, `point "nobody"`)
	require.ErrorContains(t, err, `point "none"`)
	require.NoError(t, d.Demand())

	// What is not read before the end of the connection is forgotten.
	require.NoError(t, d.Demand("d"))
	require.NoError(t, d.Close(context.Background()))
	require.ErrorIs(t, d.Demand("d"), channel.ErrNotConnected)
	require.NoError(t, d.Connect(context.Background()))
	assert.Equal(t, []string{"s"}, ids(t, <-reads(d)))

	mute := open(t, RTUOverTCP(dev.address, Unit(0)), setup(control("x", "holding:1")))
	require.ErrorIs(t, mute.Demand("x"), model.ErrInvalid)
}

// What is written to a point of a slow class is read soon after.
func TestWriteIsFollowed(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s, clock := classed(t, point("a", "coil:2"), scanned("slow", control("s", "holding:1")), scanned(channel.ScanDemand, control("d", "holding:50")),
		scanned("fast", control("f", "holding:100")))
	d := connected(t, TCP(dev.address), s)
	for range 3 {
		require.NoError(t, (<-reads(d)).err)
	}
	for _, id := range []string{"s", "d"} {
		waiting := reads(d)
		clock.BlockUntil(1)
		_, err := write(d, id, 77)
		require.NoError(t, err)
		assert.Equal(t, []model.Sample{good(id, 77)}, (<-waiting).samples)
	}
	// A class that is read within a second brings it by itself.
	dev.requests()
	_, err := write(d, "f", 78)
	require.NoError(t, err)
	waiting := reads(d)
	clock.BlockUntil(1)
	assert.Len(t, dev.requests(), 1, "the write")
	clock.Advance(100 * time.Millisecond)
	assert.Equal(t, []model.Sample{good("f", 78)}, (<-waiting).samples)
}

// A value of before a write is not returned, also when the write comes between
// the requests of one round.
func TestNoValueOfBeforeAWrite(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s, _ := classed(t, scanned("slow", control("w", "holding:1")), scanned("slow", point("x", "holding:50")), scanned("slow", point("y", "holding:100")))
	d := connected(t, TCP(dev.address), s)
	var once atomic.Bool
	dev.faults(func(r server.Request) server.Action {
		if r.Function == 3 && r.Address == 50 && !once.Swap(true) {
			dev.units[1].SetRegisters(server.HoldingRegister, 1, 99)
			d.wrote(0) // as a Write does that had the line before this request
			return server.Action{Exception: server.DeviceFailure}
		}
		if once.Load() && r.Address == 1 {
			return server.Action{Exception: server.DeviceFailure}
		}
		return server.Action{}
	})
	got := <-reads(d)
	require.NoError(t, got.err)
	assert.Equal(t, []model.Sample{bad("w", model.Bad)}, got.samples, "it could not be read again: known to be unknown")
	got = <-reads(d)
	require.NoError(t, got.err)
	assert.ElementsMatch(t, []model.Sample{bad("w", model.Bad), bad("x", model.Bad), good("y", 100)}, got.samples)
}

func TestRateCountsFromThePeriodOfTheClass(t *testing.T) {
	t.Parallel()
	s, _ := classed(t, scanned("slow", point("s", "holding:1:int16 rate=1")), point("a", "holding:2:int16 rate=1"),
		scanned("fast", point("f", "holding:3:int16 rate=1")))
	d := open(t, TCP("127.0.0.1:1"), s)
	assert.Equal(t, time.Minute, d.items[0].trend.least)
	assert.Equal(t, time.Second, d.items[1].trend.least)
	assert.Equal(t, 100*time.Millisecond, d.items[2].trend.least)
}

// A unit that answers one class is not dead because of another.
func TestSilentClassOfALiveUnit(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s, clock := classed(t, scanned("fast", point("f", "input:1")), scanned("fast", point("g", "input:100")), point("a", "holding:2"))
	s.Timeout = time.Second
	d := connected(t, TCP(dev.address), s)
	require.NoError(t, (<-reads(d)).err)
	require.NoError(t, (<-reads(d)).err)
	dev.faults(func(r server.Request) server.Action {
		return server.Action{Ignore: r.Function == 4 && r.Address == 100}
	})
	for range 4 {
		clock.Advance(100 * time.Millisecond)
		require.NoError(t, (<-reads(d)).err)
	}
	assert.Equal(t, bad("g", model.Bad), d.samples[d.items[1].sample])
	assert.Equal(t, good("f", 1), d.samples[d.items[0].sample])
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for retries, want := range map[int]model.Sample{0: bad("b", model.Bad), 2: bad("b", model.Bad), 3: good("b", 50)} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			t.Parallel()
			dev := newDevice(t, 1)
			s := setup(point("a", "holding:1"), point("b", "holding:50"), point("c", "holding:100"), control("w", "holding:150"))
			s.Timeout = time.Second
			d := connected(t, TCP(dev.address, Retries(retries)), s)
			read(t, d)
			var lost atomic.Int32
			dev.faults(func(r server.Request) server.Action {
				return server.Action{Drop: r.Function == 6 || r.Address == 50 && lost.Add(1) <= 3}
			})
			assert.Equal(t, want, read(t, d)["b"])
			assert.EqualValues(t, min(retries+1, 4), lost.Load())
			dev.requests()
			out, err := write(d, "w", 1)
			require.ErrorIs(t, err, ErrTimeout)
			assert.Equal(t, channel.Sent, out.Result)
			assert.Len(t, dev.requests(), 1, "a write is never repeated")
		})
	}
}

// An exception is an answer: it is not asked for again.
func TestNoRetryOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	d := connected(t, TCP(dev.address, Retries(5)), setup(point("a", "holding:1"), point("b", "holding:50")))
	read(t, d)
	dev.requests()
	dev.faults(func(r server.Request) server.Action {
		if r.Address == 50 {
			return server.Action{Exception: server.GatewayTargetFailed}
		}
		return server.Action{}
	})
	assert.Equal(t, bad("b", model.Bad), read(t, d)["b"])
	assert.Len(t, dev.requests(), 2)
}

func TestRetriesBeforeAUnitIsDead(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	s := setup(point("a", "holding:1"))
	s.Timeout = 100 * time.Millisecond // nothing is answered
	d := connected(t, TCP(dev.address, Retries(2)), s)
	dev.faults(func(server.Request) server.Action { return server.Action{Ignore: true} })
	_, err := d.Read(context.Background())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	assert.Len(t, dev.requests(), 3)
}

func TestConnectDelay(t *testing.T) {
	t.Parallel()
	dev := newDevice(t, 1)
	const pause = 150 * time.Millisecond
	d := connected(t, TCP(dev.address, ConnectDelay(pause)), setup(point("a", "holding:1")))
	assert.True(t, d.line.rests())
	began := time.Now()
	read(t, d)
	read(t, d)
	took := time.Since(began)
	assert.False(t, d.line.rests())
	assert.Greater(t, took, pause/2, "the connect is not long ago")
	requests := dev.requests()
	require.Len(t, requests, 2)

	// The end of the session ends the pause.
	d = connected(t, TCP(dev.address, ConnectDelay(time.Minute)), setup(point("a", "holding:1")))
	reading := reads(d)
	require.NoError(t, d.Close(context.Background()))
	require.ErrorIs(t, (<-reading).err, channel.ErrNotConnected)
}
