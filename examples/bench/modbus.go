package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// modbusReport is what it costs to poll Modbus devices: at full speed beside a
// plain loop, and at the load of a busy site.
type modbusReport struct {
	// Rates are at full speed; a point is a register.
	Rates  rows    `json:"rates"`
	Ratios []ratio `json:"ratios"`
	// Loads are at loadRegisters a second.
	Loads []modbusLoad `json:"loads"`
	// Heap and Redis are bytes for each 1,000 points of the running engine.
	Heap  int64 `json:"heap_bytes_per_1000_points"`
	Redis int64 `json:"redis_bytes_per_1000_points"`
}

// modbusLoad is a load and what it cost.
type modbusLoad struct {
	Changing string `json:"changing"`
	// Registers a second that were polled, and the part of the rounds that were
	// due and came.
	Registers float64 `json:"registers_per_second"`
	Rounds    float64 `json:"part_of_rounds"`
	Stored    float64 `json:"stored_points_per_second"`
	Lost      int64   `json:"lost"`
	// CPU as a part of one core.
	Engine  float64 `json:"engine_cpu"`
	Redis   float64 `json:"redis_cpu"`
	Devices float64 `json:"devices_cpu"`
	// Update is from the device's answer to the message on the model's channel.
	Update distribution `json:"register_to_update_ms"`
	Goals  []goal       `json:"goals"`
}

const (
	loadScan      = 100 * time.Millisecond
	loadRegisters = deviceCount * deviceRegisters * int(time.Second/loadScan)

	aimPolledTenth  = 0.20 // of a core, engine and Redis
	aimPolledAll    = 0.40
	aimPolledUpdate = 3.0 // ms, 99th percentile
)

// The ways to poll, as the report has them.
const (
	wayGoburrow = "goburrow/modbus, a plain loop, nothing stored"
	wayDriver   = "driver alone, nothing stored"
	wayPipeline = "driver alone, 8 requests at a time"
	wayPolled   = "engine into Redis, all changing"
	wayPolled10 = "engine into Redis, a tenth changing"
)

// modbus measures polling.
func (b *bench) modbus(ctx context.Context) (_ *modbusReport, err error) {
	b.say("modbus: starting %d devices of %d registers …", 2*deviceCount, deviceRegisters)
	d, err := startDevices(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	p := &polled{b: b, d: d}
	if err := p.start(ctx, "-modbus"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop(ctx)) }()
	for _, every := range []int{1, 10} {
		if err := p.define(every); err != nil {
			return nil, err
		}
	}
	var r modbusReport
	for _, l := range []struct {
		every    int
		changing string
		cpu      float64
	}{{10, "a tenth", aimPolledTenth}, {1, "all", aimPolledAll}} {
		b.say("modbus: %d registers/s, %s changing …", loadRegisters, l.changing)
		load, err := p.load(ctx, l.every)
		if err != nil {
			return nil, err
		}
		load.Changing = l.changing
		used := load.Engine + load.Redis
		load.Goals = []goal{{"cores, engine and Redis: aim <", l.cpu, used < l.cpu && load.Rounds > 0.95}}
		if l.every > 1 {
			load.Goals = append(load.Goals, goal{"register → update, p99 ms: aim <", aimPolledUpdate, load.Update.P99 < aimPolledUpdate})
		}
		r.Loads = append(r.Loads, *load)
	}
	b.say("modbus: full speed …")
	if r.Rates, err = b.rounds(ctx, p.ways(), b.slice(), redisCPU(b.store.Client)); err != nil {
		return nil, err
	}
	r.compare()
	r.Heap, r.Redis, err = (&polled{b: b, d: d}).memory(ctx)
	return &r, err
}

func (r *modbusReport) compare() {
	loop := r.Rates.get(wayGoburrow)
	for _, way := range []string{wayDriver, wayPipeline, wayPolled, wayPolled10} {
		row := r.Rates.get(way)
		all := make([]float64, len(row.client)) // engine and Redis
		for i := range all {
			all[i] = row.client[i] + row.redis[i]
		}
		r.Ratios = append(r.Ratios, newRatio("registers/s for each core, "+way+" : plain loop", loop.client, all))
	}
}

// polled is an engine that polls the devices.
type polled struct {
	b      *bench
	d      *devices
	engine *voltage.Engine

	mu      sync.Mutex
	taken   samples // latencies, while they are wanted
	wanted  bool
	unclean error
}

// polledID is the id of a device's channel and model.
func polledID(every, n int) string { return fmt.Sprintf("device-%d-%d", every, n+1) }

// polledPoints are the points of a device: the time stamp, and a register each.
func polledPoints() []model.Point {
	points := []model.Point{{ID: "0", Name: "stamp", Address: "holding:0:int64"}}
	for n := stampRegisters; n < deviceRegisters; n++ {
		points = append(points, model.Point{ID: strconv.Itoa(n), Name: "value_" + strconv.Itoa(n), Address: fmt.Sprintf("holding:%d:int16", n)})
	}
	return points
}

// start starts an engine without definitions.
func (p *polled) start(ctx context.Context, site string) (err error) {
	p.engine, err = voltage.NewEngine(voltage.Config{Site: p.b.name + site, Store: scripts.StoreConfig{URL: p.b.url}, Log: p.b.log})
	if err != nil {
		return err
	}
	p.engine.OnUpdate(func(_ context.Context, u model.Update) { p.updated(u) })
	return p.engine.Start(ctx)
}

func (p *polled) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return p.engine.Stop(ctx)
}

// define registers the channels of a group, none of which runs, and a model for
// each.
func (p *polled) define(every int) error {
	if err := p.poll(every, 0); err != nil {
		return err
	}
	for n := range deviceCount {
		id := polledID(every, n)
		m := model.Instance{ID: id, Measurements: map[string]string{}}
		for _, point := range polledPoints() {
			m.Measurements[point.Name] = id + ":" + point.ID
		}
		if err := p.engine.RegisterModel(m); err != nil {
			return err
		}
	}
	return nil
}

// poll has the devices of a group polled with a period; 0 ends it.
func (p *polled) poll(every int, scan time.Duration) error {
	for n, address := range p.d.Groups[strconv.Itoa(every)] {
		c := channel.Config{ID: polledID(every, n), Driver: modbus.TCP(address, modbus.MaxRead(deviceBlock)), Scan: scan,
			Stale: time.Minute, Points: polledPoints(), Disabled: scan == 0}
		if err := p.engine.RegisterChannel(c); err != nil {
			return err
		}
	}
	return nil
}

// updated takes the latency of an update that brings a device's stamp.
func (p *polled) updated(u model.Update) {
	now := time.Now().UnixMicro() - p.d.Base
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wanted {
		return
	}
	if u.Model == "" {
		p.unclean = errors.New("updates were missed")
		return
	}
	for _, point := range u.Points {
		if point.Name != "stamp" {
			continue
		}
		stamp, err := strconv.ParseFloat(point.Value, 64)
		if err != nil {
			p.unclean = err
			return
		}
		p.taken.add(time.Duration(now-int64(stamp)) * time.Microsecond)
	}
}

// want begins or ends the taking of latencies and returns those that were taken.
func (p *polled) want(on bool) (samples, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.taken
	p.wanted, p.taken = on, nil
	return taken, p.unclean
}

// counters sums up the channels of a group.
func (p *polled) counters(ctx context.Context, every int) (c model.ChannelStatus, err error) {
	list, err := p.engine.Channels(ctx)
	for _, s := range list {
		for n := range deviceCount {
			if s.ID == polledID(every, n) {
				c.Reads, c.Samples, c.Stored, c.Lost = c.Reads+s.Reads, c.Samples+s.Samples, c.Stored+s.Stored, c.Lost+s.Lost
				if s.LastError != "" {
					c.LastError = s.ID + ": " + s.LastError
				}
			}
		}
	}
	if err == nil && c.LastError != "" {
		err = errors.New(c.LastError)
	}
	return c, err
}

// load polls a group with loadScan and measures.
func (p *polled) load(ctx context.Context, every int) (_ *modbusLoad, err error) {
	if err := p.poll(every, loadScan); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.poll(every, 0)) }()
	if err := sleep(ctx, max(p.b.slice(), 5*loadScan)); err != nil { // connections, first values
		return nil, err
	}
	runtime.GC()
	before, err := p.costs(ctx, every)
	if err != nil {
		return nil, err
	}
	if _, err := p.want(true); err != nil {
		return nil, err
	}
	if err := sleep(ctx, max(13*p.b.slice(), 5*loadScan)); err != nil {
		return nil, err
	}
	taken, err := p.want(false)
	if err != nil {
		return nil, err
	}
	after, err := p.costs(ctx, every)
	if err != nil {
		return nil, err
	}
	took := after.at.Sub(before.at)
	rate := func(now, then int64) float64 { return float64(now-then) / took.Seconds() }
	l := &modbusLoad{
		Registers: rate(after.Reads, before.Reads) * deviceRegisters,
		Stored:    rate(after.Stored, before.Stored),
		Lost:      after.Lost - before.Lost,
		Engine:    (after.engine - before.engine).Seconds() / took.Seconds(),
		Redis:     (after.redis - before.redis).Seconds() / took.Seconds(),
		Devices:   (after.devices - before.devices).Seconds() / took.Seconds(),
		Update:    taken.distribution(),
	}
	l.Rounds = l.Registers / float64(loadRegisters)
	return l, nil
}

// costs are counters and CPU times at one point of time.
type costs struct {
	model.ChannelStatus
	at                     time.Time
	engine, redis, devices time.Duration
}

func (p *polled) costs(ctx context.Context, every int) (c costs, err error) {
	var errs [3]error
	c.ChannelStatus, errs[0] = p.counters(ctx, every)
	c.redis, errs[1] = wholeRedisCPU(ctx, p.b.store.Client)
	c.devices, errs[2] = p.d.cpu()
	c.engine, c.at = processCPU(), time.Now()
	return c, errors.Join(errs[:]...)
}

// wholeRedisCPU is the CPU time of all threads of the server.
func wholeRedisCPU(ctx context.Context, client redis.UniversalClient) (time.Duration, error) {
	info, err := infoOf(ctx, client, "cpu")
	if err != nil {
		return 0, err
	}
	return infoCPU(info, "used_cpu_user", "used_cpu_sys")
}

// memory is what a running engine takes for the points of a group, more than
// one that has none.
func (p *polled) memory(ctx context.Context) (live, store int64, err error) {
	if err := p.start(ctx, "-modbus-memory"); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.stop(ctx)) }()
	before := heap()
	used, err := p.b.usedMemory(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := p.define(1); err != nil {
		return 0, 0, err
	}
	if err := p.poll(1, loadScan); err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, 10*loadScan); err != nil {
		return 0, 0, err
	}
	if store, err = p.b.usedMemory(ctx); err != nil {
		return 0, 0, err
	}
	points := int64(deviceCount * len(polledPoints()))
	return (heap() - before) * 1000 / points, (store - used) * 1000 / points, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (r *modbusReport) text(b *bytes.Buffer) {
	fmt.Fprintf(b, "\nModbus TCP, near full speed, %d devices of %d registers, %d in a request, loopback; a point is a register, the devices' own CPU is not counted\n",
		deviceCount, deviceRegisters, deviceBlock)
	r.Rates.text(b, true)
	table(b, func(w io.Writer) {
		for _, x := range r.Ratios {
			fmt.Fprintf(w, "%s\t%s\t%s\n", x.Name, x.figure.format("%.2f"), x.verdicts())
		}
	})
	fmt.Fprintf(b, "\nModbus TCP at %d registers/s: every device each %s\n", loadRegisters, loadScan)
	table(b, func(w io.Writer) {
		fmt.Fprintln(w, "CHANGING\tREGISTERS/S\tSTORED/S\tLOST\tENGINE CORES\tREDIS\tDEVICES\tREGISTER → UPDATE ms P50\tP99\tMAX\t")
		for _, l := range r.Loads {
			fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%d\t%.3f\t%.3f\t%.3f\t%.2f\t%.2f\t%.2f\t", l.Changing, l.Registers, l.Stored, l.Lost,
				l.Engine, l.Redis, l.Devices, l.Update.P50, l.Update.P99, l.Update.Max)
			for i, g := range l.Goals {
				measured := l.Engine + l.Redis
				if i == 1 {
					measured = l.Update.P99
				}
				fmt.Fprintf(w, "%s; ", verdict(g.Name, g.Value, measured, g.Met))
			}
			fmt.Fprintln(w)
		}
	})
	fmt.Fprintf(b, "Memory for each 1,000 points of a running engine: Go heap %.2f MB, Redis %.2f MB\n", float64(r.Heap)/1e6, float64(r.Redis)/1e6)
}
