package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// latency is how long a sample takes to an alarm and a command to its
// confirmation, in a whole engine: without other load, and at half of the batch
// path's measured maximum.
type latency struct {
	Idle   latencies `json:"idle"`
	Loaded latencies `json:"half_load"`
}

// latencies were measured under one load.
type latencies struct {
	// Asked is the load that was pushed, Stored what reached the store, in
	// points a second. Waiting is how many samples waited at the end, Lost how
	// many were dropped, Refused how many batches Push did not take.
	Asked   float64 `json:"asked_points_per_second"`
	Stored  float64 `json:"stored_points_per_second"`
	Waiting int64   `json:"waiting"`
	Lost    int64   `json:"lost"`
	Refused int64   `json:"refused_batches"`
	// CPU is this process's, engine, load and probes together, as a part of one CPU.
	CPU      float64      `json:"process_cpu"`
	Alarms   distribution `json:"sample_to_on_alarm_ms"`
	Commands distribution `json:"post_to_verified_ms"`
}

// Names of the probes' own channels and models.
const (
	probeSensor = "probe-sensor"
	probeDevice = "probe-device"
	probeLimit  = 100.0
	probePoints = 1000 // so that none raises its alarm five times within a minute

	probeTimeout = 5 * time.Second
	probePause   = 10 * time.Millisecond // at most, at random, so that probes do not march with the load
	idleShare    = 5                     // the idle run has this part of the probes
	latencyTime  = 20                    // the most time for all probes, in lengths of a measurement
)

// latency measures on an engine of its own, beside maximum/2 points a second.
func (b *bench) latency(ctx context.Context, maximum float64) (_ *latency, err error) {
	d := newDefinitions(b.channels)
	b.say("latency: starting an engine with %d points …", d.size())
	l, err := b.startEngine(ctx, scripts.StoreConfig{URL: b.url}, d, "-engine", historyBytes)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stop(ctx)) }()
	var result latency
	limit := latencyTime * b.slice()
	b.say("latency: idle …")
	if result.Idle, err = l.measure(ctx, 0, b.probes/idleShare+1, limit/idleShare); err != nil {
		return nil, err
	}
	b.say("latency: at %.0f points/s …", maximum/2)
	err = l.under(ctx, maximum/2, func() (err error) {
		result.Loaded, err = l.measure(ctx, maximum/2, b.probes, limit)
		return err
	})
	return &result, err
}

// loadedEngine is an engine with what is needed to load and probe it.
type loadedEngine struct {
	engine  *voltage.Engine
	d       *definitions
	feeds   []*feed
	events  chan alarm.Event // of the probe's point
	alarms  int              // alarm probes so far
	posts   int
	post    *poster
	refused atomic.Int64 // batches of the load
}

func (b *bench) startEngine(ctx context.Context, store scripts.StoreConfig, d *definitions, site string, history int64) (*loadedEngine, error) {
	engine, err := voltage.NewEngine(voltage.Config{
		Site: b.name + site, Store: store, HTTP: voltage.HTTP{Listen: "127.0.0.1:0"},
		HistoryQueue: history, Log: b.log, Models: d.models, Alarms: d.alarms,
	})
	if err != nil {
		return nil, err
	}
	l := &loadedEngine{engine: engine, d: d, events: make(chan alarm.Event, 16)}
	var errs []error
	for c, id := range d.channels {
		errs = append(errs, engine.RegisterChannel(channel.Config{ID: id, Points: d.points[c]}))
		l.feeds = append(l.feeds, newFeed(d.points[c], nil))
	}
	errs = append(errs,
		l.sensor(),
		engine.RegisterChannel(channel.Config{ID: probeDevice, Driver: virtual.New(),
			Points: []model.Point{{ID: "1", Name: "setpoint", Kind: model.Control, Address: "setpoint:0", ReadBack: true}}}),
		engine.RegisterModel(model.Instance{ID: probeDevice, Controls: map[string]string{"setpoint": probeDevice + ":1"}}))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	engine.OnAlarm(func(ctx context.Context, ev alarm.Event) {
		if ev.Model != probeSensor {
			return
		}
		select {
		case l.events <- ev:
		case <-ctx.Done():
		}
	})
	if err := engine.Start(ctx); err != nil {
		return nil, err
	}
	l.post = newPoster("http://" + engine.Addr() + "/models/" + probeDevice + "/control/setpoint")
	return l, nil
}

// sensor defines the points of the alarm probes.
func (l *loadedEngine) sensor() error {
	c := channel.Config{ID: probeSensor}
	m := model.Instance{ID: probeSensor, Measurements: map[string]string{}}
	var errs []error
	for p := range probePoints {
		id := strconv.Itoa(p)
		c.Points = append(c.Points, model.Point{ID: id})
		m.Measurements["t"+id] = probeSensor + ":" + id
		errs = append(errs, l.engine.RegisterAlarm(alarm.Rule{ID: "high", Model: probeSensor, Point: "t" + id, Operator: model.Above, Threshold: probeLimit}))
	}
	return errors.Join(append(errs, l.engine.RegisterChannel(c), l.engine.RegisterModel(m))...)
}

func (l *loadedEngine) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return l.engine.Stop(ctx)
}

// under calls f while the load is pushed.
func (l *loadedEngine) under(ctx context.Context, load float64, f func() error) error {
	ctx, stop := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		l.load(ctx, load)
	}()
	defer func() {
		stop()
		<-loaded
	}()
	return f()
}

// measure sends alarm and command probes, beside a load that its caller pushes.
func (l *loadedEngine) measure(ctx context.Context, load float64, probes int, limit time.Duration) (r latencies, err error) {
	r.Asked = load
	// Probes that are not counted: connections, first polls, a steady load.
	warm := time.Now().Add(limit / 20)
	few := min(probes, 1000)/20 + 1
	if _, err := l.probeAlarms(ctx, few, warm); err != nil {
		return r, err
	}
	if _, err := l.probeCommands(ctx, few, warm); err != nil {
		return r, err
	}
	_, storedBefore, lostBefore, err := l.counters(ctx)
	if err != nil {
		return r, err
	}
	start, cpu := time.Now(), processCPU()
	until := start.Add(limit)
	alarms := make(chan error, 1)
	go func() {
		var err error
		r.Alarms, err = l.probeAlarms(ctx, probes, until)
		alarms <- err
	}()
	r.Commands, err = l.probeCommands(ctx, probes, until)
	if err := errors.Join(err, <-alarms); err != nil {
		return r, err
	}
	took := time.Since(start).Seconds()
	r.CPU = (processCPU() - cpu).Seconds() / took
	samples, stored, lost, err := l.counters(ctx)
	if err != nil {
		return r, err
	}
	r.Stored, r.Lost = float64(stored-storedBefore)/took, lost-lostBefore
	r.Refused = l.refused.Load()
	r.Waiting = max(0, samples-stored-lost)
	return r, nil
}

// counters sums up the channels of the load.
func (l *loadedEngine) counters(ctx context.Context) (samples, stored, lost int64, err error) {
	states, err := l.engine.Channels(ctx)
	for _, s := range states {
		if s.ID != probeSensor && s.ID != probeDevice {
			samples, stored, lost = samples+s.Samples, stored+s.Stored, lost+s.Lost
		}
	}
	return samples, stored, lost, err
}

// load pushes batches of 500, channel by channel, at an even pace. It does not
// wait for the engine: what is late is caught up with.
func (l *loadedEngine) load(ctx context.Context, pointsPerSecond float64) {
	interval := time.Duration(pointsPerChannel / pointsPerSecond * float64(time.Second))
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		timer.Reset(time.Until(start.Add(time.Duration(n) * interval)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		c := n % len(l.feeds)
		if err := l.engine.Push(ctx, l.d.channels[c], l.feeds[c].next()...); err != nil {
			l.feeds[c].turn-- // it takes all samples or none
			if ctx.Err() == nil {
				l.refused.Add(1)
			}
		}
	}
}

// probeAlarms pushes samples that cross the threshold, of one point after the other,
// all up and then all down, and waits for each one's event. One point alone would
// be held as chattering.
func (l *loadedEngine) probeAlarms(ctx context.Context, probes int, until time.Time) (distribution, error) {
	return probe(ctx, probes, until, func(ctx context.Context) error {
		point := strconv.Itoa(l.alarms % probePoints)
		value := probeLimit + 1 + float64(l.alarms)/1000 // no two events are alike
		if l.alarms/probePoints%2 == 1 {
			value -= 2 + 2*float64(l.alarms)/1000
		}
		l.alarms++
		if err := l.engine.Push(ctx, probeSensor, model.Sample{Point: point, Value: value}); err != nil {
			return err
		}
		for {
			select {
			case ev := <-l.events:
				if model.FormatValue(ev.Value) == model.FormatValue(value) {
					return nil
				}
			case <-ctx.Done():
				return fmt.Errorf("a sample crossed its threshold and OnAlarm was not called: %w", ctx.Err())
			}
		}
	})
}

// probeCommands gives commands over HTTP; each must end verified.
func (l *loadedEngine) probeCommands(ctx context.Context, probes int, until time.Time) (distribution, error) {
	return probe(ctx, probes, until, func(ctx context.Context) error {
		l.posts++
		return l.post.command(ctx, float64(l.posts))
	})
}

func (l *latency) text(b *bytes.Buffer) {
	fmt.Fprintln(b, "\nLatency in a whole engine, ms")
	table(b, func(w io.Writer) {
		fmt.Fprintln(w, "LOAD\tPROBE\tPROBES\tP50\tP99\tMAX\t")
		l.Idle.text(w, "idle", false)
		l.Loaded.text(w, fmt.Sprintf("%.0f points/s", l.Loaded.Asked), true)
	})
	x := l.Loaded
	fmt.Fprintf(b, "Load asked %.0f points/s, stored %.0f points/s, waiting at the end %d, lost %d, batches refused %d; this process used %.2f CPUs (idle: %.2f)\n",
		x.Asked, x.Stored, x.Waiting, x.Lost, x.Refused, x.CPU, l.Idle.CPU)
	if x.Stored < 0.95*x.Asked {
		fmt.Fprintln(b, "The engine did NOT keep up with the load: the latencies are those of an overloaded engine.")
	}
}

func (x latencies) text(w io.Writer, load string, judged bool) {
	for _, p := range []struct {
		name string
		distribution
	}{{"sample → OnAlarm", x.Alarms}, {"POST → verified", x.Commands}} {
		word := ""
		if judged {
			word = verdict("aim p99 <", aimLatency, p.P99, p.P99 < aimLatency && p.Failed == 0)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%.2f\t%.2f\t%.2f\t%s\n", load, p.name, p.Probes, p.P50, p.P99, p.Max, word)
		if p.Failed > 0 {
			fmt.Fprintf(w, "%s\t%s\t%d FAILED\t\t\t\t%s\n", load, p.name, p.Failed, p.Failure)
		}
	}
}
