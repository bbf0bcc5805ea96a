package northbound_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/northbound"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

const patience = 20 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 10*time.Millisecond, what)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(testWriter{t}, nil)) }

// siteMap shows the site of startSite.
var siteMap = northbound.Map{
	{Address: "input:0:float32", Model: "pcs1", Point: "power"},
	{Address: "input:2:uint16", Model: "pcs1", Point: "power", Field: northbound.FieldQuality},
	{Address: "input:3:uint16", Model: "pcs1", Point: "power", Field: northbound.FieldAge},
	{Address: "input:4:string4", Model: "pcs1", Point: "state"},
	{Address: "discrete:0", Model: "pcs1", Point: "running"},
	{Address: "input:10:int32:CDAB", Channel: "push", Point: "1", Scale: 0.001},
	{Address: "holding:0:int16 range=-3000..3000", Model: "pcs1", Point: "setpoint", Scale: 0.1, Write: true},
	{Address: "holding:1:int32", Model: "pcs1", Point: "limit", Write: true},
	{Address: "coil:0", Model: "pcs1", Point: "start", Write: true},
	{Address: "holding:10", Model: "off1", Point: "setpoint", Write: true},
}

// site is a site with a virtual device, a channel whose samples are pushed, and
// a server.
type site struct {
	*voltage.Engine
	device *virtual.Device
	mu     sync.Mutex
	addr   string
}

func (s *site) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// bound is the option by which the site learns its address.
func (s *site) bound() northbound.Option {
	return northbound.Bound(func(a net.Addr) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.addr = a.String()
	})
}

func startSite(t *testing.T, store scripts.StoreConfig, server func(s *site) channel.ServerFactory) *site {
	t.Helper()
	s := &site{}
	min, max := -200.0, 200.0
	device := virtual.NewDevice()
	s.device = device
	cfg := voltage.Config{Site: storetest.Site(t), Store: store, Log: testLog(t),
		Channels: []channel.Config{
			{ID: "pcs", Driver: virtual.New(virtual.On(device)), Scan: 50 * time.Millisecond, Points: []model.Point{
				{ID: "1", Address: "follow:4:100000"},
				{ID: "2", Kind: model.Signal, Address: "constant:1"},
				{ID: "3", Address: "text:ready", Text: true},
				{ID: "4", Kind: model.Control, Address: "setpoint:12.5", Min: &min, Max: &max, ReadBack: true},
				{ID: "5", Kind: model.Adjustment, Address: "setpoint:100000"},
				{ID: "6", Kind: model.Control, Address: "setpoint:0"},
			}},
			{ID: "push", Points: []model.Point{{ID: "1"}}},
		},
		Models: []model.Instance{
			{ID: "pcs1", Measurements: map[string]string{"power": "pcs:1", "state": "pcs:3"}, Signals: map[string]string{"running": "pcs:2"},
				Controls: map[string]string{"setpoint": "pcs:4", "start": "pcs:6"}, Adjustments: map[string]string{"limit": "pcs:5"}},
			{ID: "off1", Disabled: true, Controls: map[string]string{"setpoint": "pcs:6"}},
		},
		Servers: []channel.ServerConfig{{ID: "scada", Server: server(s)}},
	}
	var err error
	s.Engine, err = voltage.NewEngine(cfg)
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	return s
}

// clientPoints are the site as a client's driver reads it.
var clientPoints = []model.Point{
	{ID: "power", Address: "input:0:float32"},
	{ID: "quality", Address: "input:2"},
	{ID: "age", Address: "input:3 na=0xFFFF"},
	{ID: "state", Address: "input:4:string4", Text: true},
	{ID: "running", Kind: model.Signal, Address: "discrete:0"},
	{ID: "pushed", Address: "input:10:int32:CDAB na=0x80000000", Scale: 0.001},
	{ID: "setpoint", Kind: model.Control, Address: "holding:0:int16", Scale: 0.1},
	{ID: "limit", Kind: model.Adjustment, Address: "holding:1:int32"},
	{ID: "start", Kind: model.Control, Address: "coil:0"},
	{ID: "disabled", Kind: model.Control, Address: "holding:10 na=0xFFFF"},
}

// client is the driver of package modbus.
type client struct {
	t *testing.T
	channel.Driver
	now map[string]model.Sample
}

func connect(t *testing.T, factory channel.Factory, points []model.Point) *client {
	t.Helper()
	d, err := factory(channel.Setup{ID: "client", Points: points, Scan: 10 * time.Millisecond, Timeout: 10 * time.Second,
		Log: testLog(t), Clock: model.SystemClock})
	require.NoError(t, err)
	require.NoError(t, d.Connect(t.Context()))
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return &client{t, d, map[string]model.Sample{}}
}

// sees reads until the points are as ok wants them.
func (c *client) sees(what string, ok func(now map[string]model.Sample) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for {
		samples, err := c.Read(ctx)
		require.NoError(c.t, err, what)
		for _, s := range samples {
			c.now[s.Point] = s
		}
		if ok(c.now) {
			return
		}
	}
}

func (c *client) write(point string, value float64) (channel.Outcome, error) {
	for _, p := range clientPoints {
		if p.ID == point {
			return c.Driver.(channel.Writer).Write(c.t.Context(), channel.Write{Point: p, Value: value})
		}
	}
	c.t.Fatal("no such point")
	return channel.Outcome{}, nil
}

func stores(t *testing.T, test func(t *testing.T, store scripts.StoreConfig)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, scripts.StoreConfig{})
	})
	t.Run("managed", func(t *testing.T) {
		t.Parallel()
		storetest.Redis(t) // skips without the binary
		test(t, scripts.StoreConfig{Managed: &scripts.Managed{Persistence: scripts.PersistNone}})
	})
}

func TestSite(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig) {
		s := startSite(t, store, func(s *site) channel.ServerFactory { return northbound.TCP("127.0.0.1:0", siteMap, s.bound()) })
		eventually(t, "bound", func() bool { return s.address() != "" })
		eventually(t, "a sample is taken", func() bool {
			return s.Push(t.Context(), "push", model.Sample{Point: "1", Value: -1.25}) == nil
		})
		c := connect(t, modbus.TCP(s.address()), clientPoints)
		good := func(now map[string]model.Sample, point string, v float64) bool {
			return now[point].Quality == model.Good && now[point].Value == v
		}
		c.sees("all values", func(now map[string]model.Sample) bool {
			return good(now, "power", 12.5) && good(now, "quality", 0) && good(now, "age", 0) && now["state"].Text == "ready" && good(now, "running", 1) &&
				good(now, "pushed", -1.25) && good(now, "setpoint", 12.5) && good(now, "limit", 100000)
		})

		// A write goes through to the device, and what the device makes of it comes back.
		var mu sync.Mutex
		var events []model.CommandEvent
		s.OnCommand(func(_ context.Context, ev model.CommandEvent) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, ev)
		})
		out, err := c.write("setpoint", -50.5)
		require.NoError(t, err)
		require.Equal(t, channel.Done, out.Result)
		c.sees("the new power", func(now map[string]model.Sample) bool {
			return good(now, "power", -50.5) && good(now, "setpoint", -50.5)
		})
		eventually(t, "the journal has it", func() bool {
			mu.Lock()
			defer mu.Unlock()
			for _, ev := range events {
				if ev.Control == "setpoint" && ev.State == model.CommandVerified && ev.Origin == "modbus:scada" && ev.User == "127.0.0.1" {
					return true
				}
			}
			return false
		})
		_, err = c.write("limit", 70000)
		require.NoError(t, err)
		_, err = c.write("start", 1)
		require.NoError(t, err)

		// What the site refuses is refused.
		var ex *modbus.Exception
		out, err = c.write("setpoint", 250)
		require.ErrorAs(t, err, &ex)
		assert.EqualValues(t, 3, ex.Code, "above the point's maximum")
		assert.Equal(t, channel.Refused, out.Result)
		_, err = c.write("disabled", 1)
		require.ErrorAs(t, err, &ex)
		assert.EqualValues(t, 4, ex.Code)

		// A device that is away is not shown.
		s.device.SetOffline(true)
		c.sees("not available", func(now map[string]model.Sample) bool {
			return now["power"].Quality == model.Invalid && good(now, "quality", float64(model.Offline)) && good(now, "pushed", -1.25)
		})
		out, err = c.write("setpoint", 1)
		require.ErrorAs(t, err, &ex)
		assert.EqualValues(t, 4, ex.Code, "not connected")
		assert.Equal(t, channel.Refused, out.Result)
		s.device.SetOffline(false)
		c.sees("back again", func(now map[string]model.Sample) bool { return good(now, "power", -50.5) && good(now, "quality", 0) })

		// The end of the engine ends the connection.
		require.NoError(t, s.Stop(context.Background()))
		_, err = c.Read(t.Context())
		require.ErrorIs(t, err, channel.ErrNotConnected)
	})
}

// A port that is taken keeps nothing else from running, and is served as soon
// as it is free.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := taken.Addr().String()
	s := startSite(t, scripts.StoreConfig{}, func(*site) channel.ServerFactory { return northbound.TCP(address, siteMap) })
	eventually(t, "the problem is told", func() bool {
		for _, p := range s.Problems() {
			if strings.Contains(p, "server scada: listen tcp "+address) && strings.Contains(p, "address already in use") {
				return true
			}
		}
		return false
	})
	require.NoError(t, taken.Close())
	eventually(t, "no problem any more", func() bool { return len(s.Problems()) == 0 })
	c := connect(t, modbus.TCP(address), clientPoints)
	c.sees("values", func(now map[string]model.Sample) bool { return now["power"].Value == 12.5 })
}

// What the map names and the site does not have is told, and shown as bad.
func TestUnknownPoints(t *testing.T) {
	t.Parallel()
	m := append(northbound.Map{
		{Address: "input:100", Model: "nobody", Point: "power"},
		{Address: "input:101", Model: "pcs1", Point: "voltage"},
		{Address: "holding:102", Model: "pcs1", Point: "power", Write: true},
		{Address: "input:103", Model: "pcs1", Point: "state"},
		{Address: "input:104", Channel: "pcs", Point: "99"},
		{Address: "input:105", Channel: "pcs", Point: "99", Field: northbound.FieldQuality},
	}, siteMap...)
	s := startSite(t, scripts.StoreConfig{}, func(s *site) channel.ServerFactory {
		return northbound.TCP("127.0.0.1:0", m, s.bound(), northbound.Stale(time.Second), northbound.Refresh(100*time.Millisecond))
	})
	want := []string{
		"server scada: map row 1: model nobody, point power: there is no such model",
		"server scada: map row 2: model pcs1, point voltage: the model has no such point",
		"server scada: map row 3: model pcs1, point power: it is written by clients, and a measurement cannot be",
		"server scada: map row 4: model pcs1, point state: it is text, and the address input:103:uint16:AB is of a number",
		"server scada: map row 5: channel pcs, point 99: there is no such point, or it never had a value",
		"server scada: map row 6: channel pcs, point 99: there is no such point, or it never had a value",
	}
	eventually(t, "all problems", func() bool {
		found := 0
		for _, p := range s.Problems() {
			for _, w := range want {
				if p == w {
					found++
				}
			}
		}
		return found == len(want)
	})
	c := connect(t, modbus.TCP(s.address()), []model.Point{{ID: "1", Address: "input:100 na=0xFFFF"}, {ID: "2", Address: "input:105"}, {ID: "3", Address: "input:103 na=0xFFFF"}})
	c.sees("bad", func(now map[string]model.Sample) bool {
		return now["1"].Quality == model.Invalid && now["3"].Quality == model.Invalid && now["2"].Value == float64(model.Bad)
	})
}

// A store that is gone: after the time in stale nothing is shown as good.
func TestStoreGone(t *testing.T) {
	t.Parallel()
	redis := storetest.Own(t)
	s := startSite(t, scripts.StoreConfig{URL: redis.URL}, func(s *site) channel.ServerFactory {
		return northbound.TCP("127.0.0.1:0", siteMap, s.bound(), northbound.Stale(time.Second), northbound.WriteTimeout(time.Second))
	})
	eventually(t, "bound", func() bool { return s.address() != "" })
	c := connect(t, modbus.TCP(s.address()), clientPoints)
	good := func(now map[string]model.Sample) bool {
		return now["power"].Quality == model.Good && now["power"].Value == 12.5 && now["quality"].Value == 0
	}
	c.sees("values", good)
	redis.Pause()
	c.sees("not available", func(now map[string]model.Sample) bool {
		return now["power"].Quality == model.Invalid && now["quality"].Value == float64(model.Stale) && now["running"].Quality != model.Good
	})
	var ex *modbus.Exception
	out, err := c.write("setpoint", 1)
	require.ErrorAs(t, err, &ex)
	assert.EqualValues(t, 5, ex.Code, "nobody knows whether the store took the command")
	assert.Equal(t, channel.Sent, out.Result)
	redis.Resume()
	c.sees("back again", good)
}

// A device that takes the command and does not answer: not a success, and not a
// failure either. Other clients do not wait for it.
func TestSlowDevice(t *testing.T) {
	t.Parallel()
	s := startSite(t, scripts.StoreConfig{}, func(s *site) channel.ServerFactory { return northbound.TCP("127.0.0.1:0", siteMap, s.bound()) })
	eventually(t, "bound", func() bool { return s.address() != "" })
	writer, reader := connect(t, modbus.TCP(s.address()), clientPoints), connect(t, modbus.TCP(s.address()), clientPoints)
	reader.sees("values", func(now map[string]model.Sample) bool { return now["power"].Value == 12.5 })
	s.device.SetSilent(true)
	done := make(chan error, 1)
	go func() {
		_, err := writer.write("start", 1)
		done <- err
	}()
	var ex *modbus.Exception
	for {
		reader.sees("values", func(map[string]model.Sample) bool { return true })
		select {
		case err := <-done:
			require.ErrorAs(t, err, &ex)
			require.EqualValues(t, 5, ex.Code)
			return
		default:
		}
	}
}

func TestRTUOverTCP(t *testing.T) {
	t.Parallel()
	m := northbound.Map{{Unit: 7, Address: "input:0:float32", Model: "pcs1", Point: "power"}, {Unit: 7, Address: "holding:0:int16", Model: "pcs1", Point: "setpoint", Write: true}}
	s := startSite(t, scripts.StoreConfig{}, func(s *site) channel.ServerFactory { return northbound.RTUOverTCP("127.0.0.1:0", m, s.bound()) })
	eventually(t, "bound", func() bool { return s.address() != "" })
	c := connect(t, modbus.RTUOverTCP(s.address(), modbus.Unit(7)), []model.Point{clientPoints[0], {ID: "setpoint", Kind: model.Control, Address: "holding:0:int16"}})
	c.sees("a value", func(now map[string]model.Sample) bool { return now["power"].Value == 12.5 })
	_, err := c.write("setpoint", 20)
	require.NoError(t, err)
	c.sees("the new value", func(now map[string]model.Sample) bool { return now["power"].Value == 20 })
}

// What the site is changed to while a client reads is what it sees; nothing of before
// stays good.
func TestSiteChanges(t *testing.T) {
	t.Parallel()
	s := startSite(t, scripts.StoreConfig{}, func(s *site) channel.ServerFactory { return northbound.TCP("127.0.0.1:0", siteMap, s.bound()) })
	eventually(t, "bound", func() bool { return s.address() != "" })
	c := connect(t, modbus.TCP(s.address()), clientPoints)
	good := func(now map[string]model.Sample, v float64) bool {
		return now["power"].Quality == model.Good && now["power"].Value == v && now["quality"].Value == 0
	}
	bad := func(now map[string]model.Sample) bool {
		return now["power"].Quality == model.Invalid && now["quality"].Value > float64(model.Substituted) && now["state"].Text == "" && now["running"].Quality != model.Good
	}
	c.sees("values", func(now map[string]model.Sample) bool { return good(now, 12.5) })

	pcs := model.Instance{ID: "pcs1", Measurements: map[string]string{"power": "pcs:5"}} // no state, no running
	require.NoError(t, s.RegisterModel(pcs))
	c.sees("another point under the same name", func(now map[string]model.Sample) bool {
		return good(now, 100000) && now["state"].Text == "" && now["running"].Quality != model.Good
	})
	var ex *modbus.Exception
	_, err := c.write("setpoint", 1)
	require.ErrorAs(t, err, &ex)
	require.EqualValues(t, 4, ex.Code, "it is no control any more")

	require.NoError(t, s.RemoveModel("pcs1"))
	c.sees("no model", bad)
	require.NoError(t, s.RegisterModel(pcs))
	c.sees("the model again", func(now map[string]model.Sample) bool { return good(now, 100000) })
	require.NoError(t, s.RemoveChannel("pcs"))
	c.sees("no channel", bad)
}

// A server that is replaced or removed while a write is under way ends at once, and
// the client hears nothing, for nobody knows.
func TestServerGoesDuringAWrite(t *testing.T) {
	t.Parallel()
	s := startSite(t, scripts.StoreConfig{}, func(s *site) channel.ServerFactory { return northbound.TCP("127.0.0.1:0", siteMap, s.bound()) })
	eventually(t, "bound", func() bool { return s.address() != "" })
	address := s.address()
	s.device.SetSilent(true)
	for _, change := range []func() error{
		func() error {
			return s.RegisterServer(channel.ServerConfig{ID: "scada", Server: northbound.TCP(address, siteMap)})
		},
		func() error { return s.RemoveServer("scada") },
	} {
		eventually(t, "served", func() bool {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
		c := connect(t, modbus.TCP(address), clientPoints)
		var mu sync.Mutex
		under := false
		s.OnCommand(func(_ context.Context, ev model.CommandEvent) {
			mu.Lock()
			defer mu.Unlock()
			under = under || ev.State == model.CommandExecuting
		})
		done := make(chan error, 1)
		go func() {
			out, err := c.write("start", 1)
			if err == nil || out.Result == channel.Done || out.Result == channel.Refused {
				t.Errorf("%v %v: want not known", out, err)
			}
			done <- err
		}()
		eventually(t, "under way", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return under
		})
		require.NoError(t, change())
		<-done
	}
	_, err := net.Dial("tcp", address)
	require.Error(t, err)
}
