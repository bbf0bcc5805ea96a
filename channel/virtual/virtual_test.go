package virtual

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
)

// rig is a connected driver and what turns it.
type rig struct {
	t      *testing.T
	clock  *channeltest.Clock
	device *Device
	*driver
}

func setup(clock model.Clock, points ...model.Point) channel.Setup {
	return channel.Setup{
		ID: "v1", Points: points, Scan: time.Second, Timeout: 5 * time.Second,
		Log: slog.New(slog.DiscardHandler), Clock: clock,
	}
}

func connect(t *testing.T, points ...model.Point) *rig {
	t.Helper()
	r := &rig{t: t, clock: channeltest.NewClock(t), device: NewDevice()}
	d, err := New(On(r.device))(setup(r.clock, points...))
	require.NoError(t, err)
	r.driver = d.(*driver)
	require.NoError(t, r.Connect(t.Context()))
	return r
}

// round returns the values of the round that is due.
func (r *rig) round() []float64 {
	r.t.Helper()
	samples, err := r.Read(r.t.Context())
	require.NoError(r.t, err)
	values := make([]float64, len(samples))
	for i, s := range samples {
		require.Equal(r.t, model.Good, s.Quality, s.Point)
		values[i] = s.Value
	}
	return values
}

// step turns the clock and returns the round after that.
func (r *rig) step(d time.Duration) []float64 {
	r.t.Helper()
	r.clock.Advance(d)
	return r.round()
}

// reading reads in another goroutine.
func (r *rig) reading() <-chan error {
	out := make(chan error, 1)
	go func() {
		_, err := r.Read(context.Background())
		out <- err
	}()
	return out
}

func point(id, address string) model.Point { return model.Point{ID: id, Address: address} }

func control(id, address string) model.Point {
	return model.Point{ID: id, Address: address, Kind: model.Control}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	path := recording(t, "time,power,soc\n0,1,10\n2,2,20\n3,3,30\n")
	for address, want := range map[string][]float64{ // each second
		"constant:5":                {5, 5, 5, 5, 5},
		"sine:10:2:4":               {10, 12, 10, 8, 10},
		"sine:10:2:4:90":            {12, 10, 8, 10, 12},
		"ramp:0:8:4":                {0, 2, 4, 6, 0},
		"ramp:8:0:4":                {8, 6, 4, 2, 8},
		"square:4":                  {1, 1, 0, 0, 1},
		"square:4:25":               {1, 0, 0, 0, 1},
		"square:4:0":                {0, 0, 0, 0, 0},
		"square:4:100":              {1, 1, 1, 1, 1},
		"toggle":                    {0, 1, 0, 1, 0},
		"random_walk:3:0":           {3, 3, 3, 3, 3},
		"csv:" + path + ":power":    {1, 1, 2, 3, 3},
		"csv:" + path + ":soc":      {10, 10, 20, 30, 30},
		"csv:" + path + ":soc:loop": {10, 10, 20, 30, 10},
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			r := connect(t, point("1", address))
			got := r.round()
			for range len(want) - 1 {
				got = append(got, r.step(time.Second)...)
			}
			require.InDeltaSlice(t, want, got, 1e-9)
		})
	}
}

func TestRandomWalk(t *testing.T) {
	t.Parallel()
	walk := func(seed uint64, id, address string) []float64 {
		clock := channeltest.NewClock(t)
		d, err := New(Seed(seed))(setup(clock, point(id, address)))
		require.NoError(t, err)
		require.NoError(t, d.Connect(t.Context()))
		var out []float64
		for range 200 {
			s, err := d.Read(t.Context())
			require.NoError(t, err)
			out = append(out, s[0].Value)
			clock.Advance(time.Second)
		}
		return out
	}
	first := walk(0, "1", "random_walk:5:1:4:6")
	require.Equal(t, first, walk(0, "1", "random_walk:5:1:4:6"), "the same again")
	require.NotEqual(t, first, walk(1, "1", "random_walk:5:1:4:6"), "another seed")
	require.NotEqual(t, first, walk(0, "2", "random_walk:5:1:4:6"), "another point")
	require.Equal(t, 5.0, first[0])
	for i := 1; i < len(first); i++ {
		require.InDelta(t, first[i-1], first[i], 1)
		require.InDelta(t, 5, first[i], 1)
	}
}

func TestPacing(t *testing.T) {
	t.Parallel()
	r := connect(t, point("1", "ramp:0:1000:1000s"))
	require.Equal(t, []float64{0}, r.round(), "the first round is due at once")

	second := r.reading()
	r.clock.BlockUntil(1)
	r.clock.Advance(999 * time.Millisecond)
	select {
	case err := <-second:
		require.FailNow(t, "a round before its time", "%v", err)
	default:
	}
	r.clock.Advance(time.Millisecond)
	require.NoError(t, <-second)

	// A late round does not move those after it.
	require.InDeltaSlice(t, []float64{2.7}, r.step(1700*time.Millisecond), 1e-9)
	require.InDeltaSlice(t, []float64{3}, r.step(300*time.Millisecond), 1e-9)

	// Rounds that were missed are left out, and the grid stays.
	require.InDeltaSlice(t, []float64{10.5}, r.step(7500*time.Millisecond), 1e-9)
	next := r.reading()
	r.clock.BlockUntil(1)
	r.clock.Advance(500 * time.Millisecond)
	require.NoError(t, <-next)
}

func TestPointsInTheirUnits(t *testing.T) {
	t.Parallel()
	limited := model.Point{ID: "3", Address: "constant:1e15", Scale: 10}
	r := connect(t,
		model.Point{ID: "1", Address: "constant:1234", Scale: 0.1, Offset: -10},
		model.Point{ID: "2", Address: "setpoint:100", Scale: 0.5, Kind: model.Adjustment},
		limited,
		model.Point{ID: "4", Address: "text:a:b", Text: true},
	)
	samples, err := r.Read(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 113.4, samples[0].Value, 1e-9)
	require.Equal(t, 50.0, samples[1].Value)
	require.Equal(t, model.Sample{Point: "3", Quality: model.Overflow}, samples[2])
	require.Equal(t, model.Sample{Point: "4", Text: "a:b"}, samples[3])
}

func TestGapInARecording(t *testing.T) {
	t.Parallel()
	r := connect(t, point("1", "csv:"+recording(t, "t,p\n0,1\n1,\n2,3\n")+":p"))
	require.Equal(t, []float64{1}, r.round())
	r.clock.Advance(time.Second)
	samples, err := r.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, model.Bad, samples[0].Quality)
	require.Equal(t, []float64{3}, r.step(time.Second))
}

func TestSetpointAndFollow(t *testing.T) {
	t.Parallel()
	p := control("sp", "setpoint:10")
	p.ReadBack = true
	r := connect(t, p, point("now", "follow:sp"), point("slow", "follow:sp:2"),
		model.Point{ID: "kilo", Address: "follow:sp", Scale: 0.001})
	require.Equal(t, []float64{10, 10, 10, 0.01}, r.round())

	out, err := r.Write(t.Context(), channel.Write{Point: p, Value: 5})
	require.NoError(t, err)
	require.Equal(t, channel.Confirmed, out.Result)
	require.Equal(t, 5.0, *out.ReadBack)
	held, ok := r.device.Setpoint("sp")
	require.True(t, ok)
	require.Equal(t, 5.0, held)
	require.InDeltaSlice(t, []float64{5, 5, 8, 0.005}, r.step(time.Second), 1e-9)
	require.InDeltaSlice(t, []float64{5, 5, 6, 0.005}, r.step(time.Second), 1e-9)
	require.InDeltaSlice(t, []float64{5, 5, 5, 0.005}, r.step(time.Second), 1e-9)

	p.ReadBack = false
	out, err = r.Write(t.Context(), channel.Write{Point: p, Value: 6})
	require.NoError(t, err)
	require.Equal(t, channel.Outcome{Result: channel.Done}, out)
	require.InDeltaSlice(t, []float64{6, 6, 6, 0.006}, r.step(time.Second), 1e-9)

	// The device keeps its setpoints through connections and drivers.
	require.NoError(t, r.Close(t.Context()))
	other, err := New(On(r.device))(setup(r.clock, p))
	require.NoError(t, err)
	require.NoError(t, other.Connect(t.Context()))
	samples, err := other.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, 6.0, samples[0].Value)
}

func TestWritesThatCannotBe(t *testing.T) {
	t.Parallel()
	p := control("sp", "setpoint:10")
	r := connect(t, p, point("1", "constant:1"))
	out, err := r.Write(t.Context(), channel.Write{Point: point("1", "constant:1"), Value: 5})
	require.ErrorContains(t, err, "point 1: not a setpoint")
	require.Equal(t, channel.Refused, out.Result)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	out, err = r.Write(ended, channel.Write{Point: p, Value: 5})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, channel.NotSent, out.Result)

	var zero float64
	out, err = r.Write(t.Context(), channel.Write{Point: p, Value: 1 / zero})
	require.ErrorIs(t, err, model.ErrInvalid)
	require.Equal(t, channel.NotSent, out.Result)
	held, _ := r.device.Setpoint("sp")
	require.Equal(t, 10.0, held)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	p := control("sp", "setpoint:10")
	r := connect(t, p, point("1", "constant:1"))
	r.round()

	r.device.SetQuality("1", model.Invalid)
	r.clock.Advance(time.Second)
	samples, err := r.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, model.Good, samples[0].Quality)
	require.Equal(t, model.Invalid, samples[1].Quality)
	r.device.SetQuality("1", model.Good)
	require.Equal(t, []float64{10, 1}, r.step(time.Second))

	r.device.SetRefuse(true)
	out, err := r.Write(t.Context(), channel.Write{Point: p, Value: 5})
	require.ErrorContains(t, err, "point sp: the virtual device refused 5")
	require.Equal(t, channel.Refused, out.Result)
	r.device.SetRefuse(false)

	// A device that answers nothing acts all the same, and stays connected.
	r.device.SetSilent(true)
	reading := r.reading() // waits for its round, then for the answer
	r.clock.BlockUntil(1)
	r.clock.Advance(time.Second)
	written := make(chan channel.Outcome, 1)
	go func() {
		out, err := r.Write(context.Background(), channel.Write{Point: p, Value: 6})
		if err != nil {
			written <- out
		}
	}()
	r.clock.BlockUntil(2)
	r.clock.Advance(5 * time.Second)
	err = <-reading
	require.ErrorContains(t, err, "did not answer within 5s")
	require.NotErrorIs(t, err, channel.ErrNotConnected)
	require.Equal(t, channel.Sent, (<-written).Result)
	r.device.SetSilent(false)
	require.Equal(t, []float64{6, 1}, r.step(time.Second))

	// A connection that broke stays broken, also when the device is back soon.
	reading = r.reading()
	r.device.SetOffline(true)
	r.device.SetOffline(false)
	require.ErrorIs(t, <-reading, channel.ErrNotConnected)
	_, err = r.Read(t.Context())
	require.ErrorIs(t, err, channel.ErrNotConnected)
	require.NoError(t, r.Close(t.Context()))
	r.device.SetOffline(true)
	require.ErrorContains(t, r.Connect(t.Context()), "offline")
	r.device.SetOffline(false)
	require.NoError(t, r.Connect(t.Context()))
	require.Equal(t, []float64{6, 1}, r.round())
}

func TestOfflineEndsAWriteWithoutAnswer(t *testing.T) {
	t.Parallel()
	p := control("sp", "setpoint:10")
	r := connect(t, p)
	r.device.SetSilent(true)
	type result struct {
		out channel.Outcome
		err error
	}
	written := make(chan result, 1)
	go func() {
		out, err := r.Write(context.Background(), channel.Write{Point: p, Value: 6})
		written <- result{out, err}
	}()
	r.clock.BlockUntil(1)
	r.device.SetOffline(true)
	got := <-written
	require.Equal(t, channel.Sent, got.out.Result)
	require.ErrorIs(t, got.err, channel.ErrNotConnected)
}

func TestFactoryNamesEveryPoint(t *testing.T) {
	t.Parallel()
	_, err := New()(setup(model.SystemClock,
		point("p1", "sine:1"),
		control("p2", "constant:1"),
		point("p3", "setpoint:1"),
		point("p4", "text:x"),
		model.Point{ID: "p5", Address: "constant:1", Text: true},
		point("p6", "follow:p1"),
		point("p7", "follow:p8"),
		point("p8", "constant:1"),
		control("p9", "setpoint:1"),
	))
	require.ErrorIs(t, err, model.ErrInvalid)
	for _, want := range []string{
		`point p1: address "sine:1": want sine:`,
		`point p2: address "constant:1": a control needs setpoint:INITIAL`,
		`point p3: address "setpoint:1": setpoint is for controls`,
		`point p4: address "text:x": text is for points with text set`,
		`point p5: address "constant:1": a text point needs text:TEXT`,
		`point p6: address "follow:p1": the channel has no setpoint "p1"`,
		`point p7: address "follow:p8": the channel has no setpoint "p8"`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "p9")

	s := setup(model.SystemClock)
	s.Scan = 0
	_, err = New()(s)
	require.ErrorContains(t, err, "scan 0s")
}

func TestConnectNamesTheFile(t *testing.T) {
	t.Parallel()
	path := recording(t, "t,p\n0,x\n")
	d, err := New()(setup(model.SystemClock, point("7", "csv:"+path+":p")))
	require.NoError(t, err, "the Factory does no I/O")
	err = d.Connect(t.Context())
	require.ErrorContains(t, err, "channel v1: point 7: "+path+`:2: column "p": "x" is not a number`)
	require.NoError(t, os.WriteFile(path, []byte("t,p\n0,8\n"), 0o600))
	require.NoError(t, d.Connect(t.Context()), "the file is read anew")
	samples, err := d.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, 8.0, samples[0].Value)
}

func TestChannelWithoutPoints(t *testing.T) {
	t.Parallel()
	r := connect(t)
	reading := r.reading()
	require.NoError(t, r.Close(t.Context()))
	require.ErrorIs(t, <-reading, channel.ErrNotConnected)
}

func TestKind(t *testing.T) {
	t.Parallel()
	k := Kind()
	require.Equal(t, "virtual", k.Name)
	for _, section := range []string{"", "seed: 7"} {
		f, err := k.Open(func(into any) error { return yaml.Unmarshal([]byte(section), into) })
		require.NoError(t, err)
		_, err = f(setup(model.SystemClock, point("1", "toggle")))
		require.NoError(t, err)
	}
	wrong := errors.New("line 3: unknown field")
	_, err := k.Open(func(any) error { return wrong })
	require.ErrorIs(t, err, wrong)
}

// TestSteadyStateAllocatesNothingPerPoint reads rounds that are all due.
func TestSteadyStateAllocatesNothingPerPoint(t *testing.T) {
	r := connect(t, many(t, 100)...)
	ctx := t.Context()
	allocs := testing.AllocsPerRun(100, func() {
		r.clock.Advance(time.Second)
		if _, err := r.Read(ctx); err != nil {
			t.Error(err)
		}
	})
	require.Zero(t, allocs)
}

// many returns n points of all signals.
func many(t testing.TB, n int) []model.Point {
	addresses := []string{
		"constant:1", "sine:1:2:3", "ramp:1:2:3", "random_walk:1:2", "square:3", "toggle", "follow:sp:2",
		"csv:" + recording(t, "t,p\n0,1\n1,\n2,3\n") + ":p:loop",
	}
	points := []model.Point{control("sp", "setpoint:1")}
	for i := range n {
		points = append(points, point(string(rune('a'+i%26))+time.Duration(i).String(), addresses[i%len(addresses)]))
	}
	return points
}

func BenchmarkRead(b *testing.B) {
	clock := channeltest.NewClock(b)
	d, err := New()(setup(clock, many(b, 1000)...))
	require.NoError(b, err)
	require.NoError(b, d.Connect(b.Context()))
	b.ReportAllocs()
	for b.Loop() {
		clock.Advance(time.Second)
		if _, err := d.Read(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
