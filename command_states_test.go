package voltage_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// operated is a device that counts how often it acted.
type operated interface {
	driver() channel.Factory
	address(register int) string
	// acted is how often it acted on writes to a register.
	acted(register int) int
	// refuse has it refuse writes.
	refuse(bool)
	// hold has it act on writes and answer nothing until the returned function is
	// called, which says whether the connection is lost by that.
	hold() (release func() (broken bool))
	// die takes it away for good.
	die()
}

type virtualDevice struct{ *virtual.Device }

func (d virtualDevice) driver() channel.Factory { return virtual.New(virtual.On(d.Device)) }
func (d virtualDevice) address(int) string      { return "setpoint:0" }
func (d virtualDevice) acted(register int) int  { return d.Writes(fmt.Sprint(register)) }
func (d virtualDevice) refuse(on bool)          { d.SetRefuse(on) }
func (d virtualDevice) die()                    { d.SetOffline(true) }
func (d virtualDevice) hold() func() bool {
	d.SetSilent(true)
	return func() bool { // an answer that was missed does not come any more
		d.SetOffline(true)
		d.SetSilent(false)
		d.SetOffline(false)
		return true
	}
}

// modbusDevice is a device behind Modbus TCP.
type modbusDevice struct {
	*server.Memory
	addr   net.Addr
	server *server.Server

	mu        sync.Mutex
	counts    map[int]int
	refused   bool
	held      chan struct{}
	intercept func(write bool) server.Action // before it acts
	after     func()                         // after it acted, before it answers
}

func newModbusDevice(t *testing.T) *modbusDevice {
	t.Helper()
	d := &modbusDevice{Memory: &server.Memory{}, counts: map[int]int{}}
	d.SetRegisters(server.HoldingRegister, 0, make([]uint16, 20)...)
	var err error
	d.server, err = server.New(server.Config{Units: map[byte]server.Handler{1: d}, Intercept: func(r server.Request) server.Action {
		d.mu.Lock()
		refused, intercept := d.refused, d.intercept
		d.mu.Unlock()
		write := r.Function == 6 || r.Function == 16
		if intercept != nil {
			return intercept(write)
		}
		if write && refused {
			return server.Action{Exception: server.IllegalValue}
		}
		return server.Action{}
	}})
	require.NoError(t, err)
	d.addr, err = d.server.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(d.die)
	return d
}

// WriteRegisters implements server.Handler.
func (d *modbusDevice) WriteRegisters(ctx context.Context, table server.Table, address uint16, values []uint16) error {
	err := d.Memory.WriteRegisters(ctx, table, address, values)
	d.mu.Lock()
	d.counts[int(address)]++
	held, after := d.held, d.after
	d.mu.Unlock()
	if after != nil {
		after()
	}
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
		}
	}
	return err
}

func (d *modbusDevice) driver() channel.Factory {
	return modbus.TCP(d.addr.String(), modbus.Unit(1))
}
func (d *modbusDevice) address(register int) string { return fmt.Sprintf("holding:%d", register) }
func (d *modbusDevice) acted(register int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[register]
}
func (d *modbusDevice) refuse(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = on
}
func (d *modbusDevice) hold() func() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := make(chan struct{})
	d.held = held
	return func() bool {
		d.mu.Lock()
		d.held = nil
		d.mu.Unlock()
		close(held)
		return false
	}
}
func (d *modbusDevice) die() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = d.server.Close(ctx)
}

// The registers of the device.
const (
	verifiedAt = 9 // is read back
	plainAt    = 8
	modeAt     = 7
)

// operatedSite is a site with one device, and a channel of the maker's own.
func operatedSite(t *testing.T, store scripts.StoreConfig, site string, driver channel.Factory, address func(int) string) (*voltage.Engine, error) {
	point := func(register int) model.Point {
		return model.Point{ID: fmt.Sprint(register), Kind: model.Control, Address: address(register)}
	}
	power, mode := point(verifiedAt), point(modeAt)
	power.ReadBack, power.Min, power.Max, power.Step = true, new(0.0), new(100.0), 5
	mode.Enum, mode.Labels = true, map[int]string{0: "off", 1: "on"}
	return voltage.NewEngine(voltage.Config{Site: site, Store: store, Log: testLog(t), Lease: 2 * time.Second,
		Channels: []channel.Config{
			{ID: "dev", Driver: driver, Scan: 50 * time.Millisecond, Timeout: 30 * time.Second, Stale: -1, Points: []model.Point{power, point(plainAt), mode}},
			{ID: "own", Points: []model.Point{{ID: "soc"}}},
		},
		Models: []model.Instance{
			{ID: "pcs", Measurements: map[string]string{"soc": "own:soc"}, Controls: map[string]string{"power": "dev:9", "plain": "dev:8", "mode": "dev:7"},
				Policies: map[string]model.ControlPolicy{"power": {Interlocks: []model.Interlock{{Model: "pcs", Point: "soc", Operator: model.Below, Threshold: 10}}}}},
			{ID: "off", Disabled: true, Controls: map[string]string{"power": "dev:9"}},
		}})
}

// TestCommandStates walks every final state of a command.
func TestCommandStates(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, store scripts.StoreConfig, _ *storetest.Server) {
		t.Run("virtual", func(t *testing.T) { t.Parallel(); testCommandStates(t, store, virtualDevice{virtual.NewDevice()}) })
		t.Run("modbus", func(t *testing.T) { t.Parallel(); testCommandStates(t, store, newModbusDevice(t)) })
	})
}

func testCommandStates(t *testing.T, store scripts.StoreConfig, d operated) {
	eng, err := operatedSite(t, store, storetest.Site(t), d.driver(), d.address)
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	defer func() { require.NoError(t, eng.Stop(context.Background())) }()
	ctx := t.Context()
	push := func(soc float64, q model.Quality) {
		t.Helper()
		require.NoError(t, eng.Push(ctx, "own", model.Sample{Point: "soc", Value: soc, Quality: q}))
		eventually(t, "soc", func() bool {
			v, err := eng.Values(ctx, "pcs")
			return err == nil && v["soc"].Quality == q && (q != model.Good || v["soc"].Value == soc)
		})
	}
	online := func() {
		t.Helper()
		eventually(t, "online", func() bool {
			list, err := eng.Channels(ctx)
			return err == nil && len(list) > 0 && list[0].State == model.ChannelOnline
		})
	}
	free := func(release func() bool) {
		t.Helper()
		list, err := eng.Channels(ctx)
		require.NoError(t, err)
		before := list[0].Reconnects
		if release() {
			eventually(t, "connected again", func() bool {
				list, err := eng.Channels(ctx)
				return err == nil && list[0].Reconnects > before
			})
		}
		online()
	}
	push(50, model.Good)
	online()
	all := func() int { return d.acted(verifiedAt) + d.acted(plainAt) + d.acted(modeAt) }
	number := 0
	command := func(control string, value float64, timeout time.Duration) model.Command {
		number++
		return model.Command{ID: fmt.Sprint("c", number), Model: "pcs", Control: control, Value: value, Timeout: timeout, Origin: "test", User: "ann"}
	}
	check := func(name string, c model.Command, want string, kind error, acts int) model.CommandResult {
		t.Helper()
		before := all()
		r, err := eng.Control(ctx, c)
		require.Equal(t, want, fmt.Sprint(r.State, " ", r.Reason), "%s: %s %v", name, r.Detail, err)
		if kind == nil {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, kind, name)
		}
		require.Equal(t, before+acts, all(), name)
		return r
	}
	long := 5 * time.Minute
	first := command("power", 50, long)
	r := check("verified", first, "verified ", nil, 1)
	require.Equal(t, 50.0, *r.ReadBack)
	require.Equal(t, r, check("duplicate", first, "verified ", nil, 0))
	check("executed", command("plain", 3, long), "executed ", nil, 1)
	check("labelled", command("mode", 1, long), "executed ", nil, 1)
	keyed := command("plain", 4, long)
	keyed.Key = "once"
	check("keyed", keyed, "executed ", nil, 1)
	keyed.ID = "other"
	require.NotEqual(t, "other", check("the key again", keyed, "executed ", nil, 0).ID)
	keyed.Value = 5
	_, err = eng.Control(ctx, keyed)
	require.ErrorIs(t, err, scripts.ErrConflict, "the key of another command")

	disabled := command("power", 50, long)
	disabled.Model = "off"
	check("disabled", disabled, "rejected disabled", voltage.ErrRejected, 0)
	check("no such control", command("nothing", 1, long), "rejected no_mapping", voltage.ErrRejected, 0)
	check("above", command("power", 105, long), "rejected limit", voltage.ErrRejected, 0)
	check("below", command("power", -5, long), "rejected limit", voltage.ErrRejected, 0)
	check("step", command("power", 52, long), "rejected step", voltage.ErrRejected, 0)
	check("enum", command("mode", 2, long), "rejected enum", voltage.ErrRejected, 0)
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		_, err := eng.Control(ctx, command("power", v, long))
		require.ErrorIs(t, err, model.ErrInvalid)
	}
	push(5, model.Good)
	check("interlock", command("power", 50, long), "rejected interlock", voltage.ErrRejected, 0)
	push(50, model.Good)
	push(0, model.Bad)
	check("interlock on a bad value", command("power", 50, long), "rejected interlock", voltage.ErrRejected, 0)
	push(50, model.Good)

	d.refuse(true)
	check("exception", command("plain", 6, long), "failed refused", voltage.ErrFailed, 0)
	d.refuse(false)

	// while the device is busy with one command, others wait
	release := d.hold()
	busy, acted := command("plain", 7, long), d.acted(plainAt)
	ended := make(chan model.CommandResult, 1)
	go func() {
		r, _ := eng.Control(ctx, busy)
		ended <- r
	}()
	eventually(t, "busy", func() bool {
		r, err := eng.Command(ctx, busy.ID)
		return err == nil && r.State == model.CommandExecuting && d.acted(plainAt) > acted
	})
	check("expired", command("mode", 0, 2*time.Second), "expired timeout", voltage.ErrExpired, 0)
	older, newer := command("power", 10, long), command("power", 15, long)
	replaced := make(chan error, 1)
	go func() {
		_, err := eng.Control(ctx, older)
		replaced <- err
	}()
	eventually(t, "queued", func() bool { r, err := eng.Command(ctx, older.ID); return err == nil && r.State == model.CommandQueued })
	r, err = eng.Submit(ctx, newer)
	require.NoError(t, err)
	require.Equal(t, model.CommandQueued, r.State)
	require.ErrorIs(t, <-replaced, voltage.ErrGone)
	r, err = eng.Command(ctx, older.ID)
	require.NoError(t, err)
	require.Equal(t, "superseded superseded by "+newer.ID, fmt.Sprint(r.State, " ", r.Reason, " ", r.Detail))
	r, err = eng.Cancel(ctx, newer.ID, "ann")
	require.NoError(t, err)
	require.Equal(t, "cancelled cancelled by ann", fmt.Sprint(r.State, " ", r.Reason, " ", r.Detail))
	_, err = eng.Cancel(ctx, busy.ID, "ann")
	require.ErrorIs(t, err, scripts.ErrConflict, "it is under way")
	require.Equal(t, 1, d.acted(verifiedAt), "neither was executed")
	free(release)
	require.Contains(t, []model.CommandState{model.CommandExecuted, model.CommandUnknown}, (<-ended).State)
	_, err = eng.Cancel(ctx, busy.ID, "ann")
	require.ErrorIs(t, err, scripts.ErrConflict, "it is over")
	check("the next", command("power", 20, long), "verified ", nil, 1)

	// the device acts and does not say so before the command's time is over
	release = d.hold()
	before := d.acted(plainAt)
	late := command("plain", 8, 4*time.Second)
	r, err = eng.Control(ctx, late)
	require.Equal(t, "unknown timeout", fmt.Sprint(r.State, " ", r.Reason), r.Detail)
	require.ErrorIs(t, err, voltage.ErrUnknown)
	require.Equal(t, before+1, d.acted(plainAt))
	free(release)
	check("and again the next", command("power", 25, long), "verified ", nil, 1)

	d.die()
	eventually(t, "offline", func() bool {
		list, err := eng.Channels(ctx)
		return err == nil && list[0].State != model.ChannelOnline
	})
	check("dead link", command("plain", 9, long), "failed not_connected", voltage.ErrFailed, 0)
}

// However often a reply of the store gets lost, a command is executed once and
// what is said of it is true.
func TestCommandsAndLostReplies(t *testing.T) {
	t.Parallel()
	d := virtualDevice{virtual.NewDevice()}
	client := storetest.Client(t, storetest.Own(t).URL)
	net := &loser{}
	client.AddHook(net)
	eng, err := operatedSite(t, scripts.StoreConfig{Client: client}, storetest.Site(t), d.driver(), d.address)
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	defer func() { require.NoError(t, eng.Stop(context.Background())) }()
	require.NoError(t, eng.Push(t.Context(), "own", model.Sample{Point: "soc", Value: 50}))
	eventually(t, "it works", func() bool {
		_, err := eng.Control(t.Context(), model.Command{Model: "pcs", Control: "power", Value: 5})
		return err == nil
	})
	var given atomic.Int64
	for _, op := range []string{"time", "submit", "claim", "finish", "xread", "hgetall", "renew", "publish"} {
		for _, n := range []int64{1, 2, 6} {
			before := d.acted(verifiedAt)
			net.lose(op, n)
			c := model.Command{ID: fmt.Sprint("c", given.Add(1)), Model: "pcs", Control: "power", Value: 5 * float64(given.Load()%20), Timeout: time.Minute}
			r, err := eng.Control(t.Context(), c)
			for err != nil && r.ID == "" { // the store did not say whether it took the command: asked again, it says so
				net.lose("", 0)
				r, err = eng.Control(t.Context(), c)
			}
			require.NoError(t, err, "%s %d: %+v", op, n, r)
			require.Equal(t, model.CommandVerified, r.State, "%s %d", op, n)
			require.Equal(t, before+1, d.acted(verifiedAt), "%s %d", op, n)
		}
	}
}
