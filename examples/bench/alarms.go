package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// alarmReport is what alarm rules cost, with one rule on every point: on the Redis,
// and on the embedded store.
type alarmReport struct {
	Redis    alarmFigures `json:"redis"`
	Embedded alarmFigures `json:"embedded"`
}

// alarmFigures are those of one store.
type alarmFigures struct {
	Costs  rows    `json:"costs"`
	Ratios []ratio `json:"ratios"`
	// Load is half of the points a second that were reached with a rule on every
	// point, under which the latency was measured.
	Load    float64      `json:"load_points_per_second"`
	Rules   alarmLatency `json:"latency"`
	Without alarmLatency `json:"latency_without_rules"` // on the points of the load
	Floods  []flood      `json:"floods"`
}

// alarmLatency is how long samples take to OnAlarm, and what became of the load
// beside them.
type alarmLatency struct {
	Stored  float64      `json:"stored_points_per_second"`
	Waiting int64        `json:"waiting"`
	Lost    int64        `json:"lost"`
	Latency distribution `json:"sample_to_on_alarm_ms"`
}

// flood is one time that every point of the site came into alarm at once.
type flood struct {
	Alarms int `json:"alarms"`
	// Seen is until OnAlarm had been told of all, Journalled until the journal had
	// them (zero where nobody else can look into the store), in seconds from the
	// first Push.
	Seen       float64 `json:"seen_s"`
	Journalled float64 `json:"journalled_s,omitempty"`
	// Cleared is the same for their end, after all were acknowledged.
	Cleared float64 `json:"cleared_s"`
	// Redis and Heap are the bytes in use before, while all stand, and after.
	Redis [3]int64 `json:"redis_bytes"`
	Heap  [3]int64 `json:"heap_bytes"`
}

// The ways of the costs. Each is a batch of 500 points without history, all of which
// change.
const (
	wayNoRules  = "no alarm rules on the site"
	wayBeside   = "no rule on the point, others have one"
	wayNormal   = "a rule on each, normal"
	wayNormalIn = "a rule on each, normal, another stands"
	wayStanding = "a rule on each, in alarm"
	wayPending  = "a rule on each, delay pending"
)

// aims of the alarms.
const (
	aimBeside = 1.05            // cost of a point without a rule, in units of that on a site without rules
	aimFlood  = 3.0             // seconds until 10,000 alarms are journalled and seen
	floods    = 3               // on the Redis: each leaves as many closed records as there are points
	floodTime = 5 * time.Minute // the most that one may take
)

// alarms fills in the report, as far as it comes.
func (b *bench) alarms(ctx context.Context, r *alarmReport) (err error) {
	if err := b.alarmsOn(ctx, b.store.Client, scripts.StoreConfig{URL: b.url}, redisCPU(b.store.Client), &r.Redis); err != nil {
		return err
	}
	store, err := scripts.OpenStore(ctx, scripts.StoreConfig{Embedded: true}, b.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	none := func(context.Context) (time.Duration, error) { return 0, nil }
	if err := b.alarmsOn(ctx, store.Client, scripts.StoreConfig{Embedded: true}, none, &r.Embedded); err != nil {
		return fmt.Errorf("embedded store: %w", err)
	}
	return nil
}

func (b *bench) alarmsOn(ctx context.Context, client redis.UniversalClient, store scripts.StoreConfig, cpu func(context.Context) (time.Duration, error), f *alarmFigures) (err error) {
	if f.Costs, err = b.alarmCosts(ctx, client, cpu); err != nil {
		return err
	}
	f.compare()
	f.Load = f.Costs.get(wayNormalIn).Points.Median / 2
	rule := model.AlarmRule{Operator: model.Above, Threshold: alarmThreshold}
	if f.Without, err = b.alarmLatency(ctx, store, f.Load, b.withRules(b.channels, rule)); err != nil {
		return err
	}
	if f.Rules, err = b.alarmLatency(ctx, store, f.Load, b.withRules(0, rule)); err != nil {
		return err
	}
	f.Floods, err = b.alarmFloods(ctx, store)
	return err
}

// withRules are the definitions of a site with this rule on every point of the
// channels from one on.
func (b *bench) withRules(first int, r model.AlarmRule) *definitions {
	d := newDefinitions(b.channels)
	d.alarms = nil
	for c := first; c < len(d.channels); c++ {
		for p := range d.points[c] {
			r.ID = "high"
			r.Model, r.Point = d.nameOf(c, p)
			d.alarms = append(d.alarms, r)
		}
	}
	return d
}

// alarmCosts measures what a point costs with a rule in each state, and without.
func (b *bench) alarmCosts(ctx context.Context, client redis.UniversalClient, cpu func(context.Context) (time.Duration, error)) (rows, error) {
	half := (b.channels + 1) / 2
	never := model.AlarmRule{Operator: model.Above, Threshold: alarmThreshold}
	always := model.AlarmRule{Operator: model.Above, Threshold: -alarmThreshold}
	delayed := always
	delayed.OnDelay = time.Hour
	var ways []way
	for _, x := range []struct {
		name  string
		first int // channel with rules
		rule  model.AlarmRule
		only  int  // channels that are written; 0 means all
		other bool // one alarm stands, of a point that no batch has
	}{
		{wayNoRules, b.channels, never, 0, false},
		{wayBeside, half, always, half, true},
		{wayNormal, 0, never, 0, false},
		{wayNormalIn, 0, never, 0, true},
		{wayStanding, 0, always, 0, false},
		{wayPending, 0, delayed, 0, false},
	} {
		site := fmt.Sprintf("%s-alarms%d", b.name, len(ways))
		b.say("alarms: defining a site of %d points: %s …", b.channels*pointsPerChannel, x.name)
		p, err := b.newPlane(ctx, client, site, 0)
		if err != nil {
			return nil, err
		}
		d := b.withRules(x.first, x.rule)
		if err := d.put(ctx, p); err != nil {
			return nil, err
		}
		if x.other {
			if err := standing(ctx, p); err != nil {
				return nil, err
			}
		}
		if err := settle(ctx, p); err != nil {
			return nil, err
		}
		all, err := newBatches(ctx, p, d)
		if err != nil {
			return nil, err
		}
		if err := all.once(ctx); err != nil {
			return nil, err
		}
		if x.only > 0 {
			all.writers, all.feeds, all.turns = all.writers[:x.only], all.feeds[:x.only], all.turns[:x.only]
		}
		ways = append(ways, all.way(x.name))
	}
	return b.rounds(ctx, ways, b.slice(), cpu)
}

// settle has the rules judged that were just defined, as an engine does: batches
// would do it otherwise.
func settle(ctx context.Context, p *scripts.Plane) error {
	for more := true; more; {
		var err error
		if more, _, err = p.AlarmTick(ctx); err != nil {
			return err
		}
	}
	return nil
}

// standing raises an alarm of a point of its own.
func standing(ctx context.Context, p *scripts.Plane) error {
	points := []model.Point{{ID: "1"}}
	if err := errors.Join(p.PutPoints(ctx, "other", points),
		p.PutModel(ctx, model.Instance{ID: "other", Measurements: map[string]string{"value": "other:1"}}),
		p.PutAlarmRule(ctx, model.AlarmRule{ID: "high", Model: "other", Point: "value", Operator: model.Above})); err != nil {
		return err
	}
	lease, err := p.Acquire(ctx, "other", "bench", leaseTime)
	if err != nil {
		return err
	}
	if _, _, err := p.NewWriter(lease, points).Write(ctx, []model.Sample{{Point: "1", Value: 1}}, false); err != nil {
		return err
	}
	if open, err := p.OpenAlarms(ctx); err != nil || len(open) != 1 {
		return fmt.Errorf("%d alarms stand, want one: %w", len(open), err)
	}
	return nil
}

func (f *alarmFigures) compare() {
	base := f.Costs.get(wayNoRules)
	for _, name := range []string{wayBeside, wayNormal, wayNormalIn, wayStanding, wayPending} {
		r := f.Costs.get(name)
		cost, than := r.redis, base.redis
		if base.Redis.Median == 0 {
			cost, than = r.client, base.client // the store is in this process
		}
		x := newRatio("CPU, "+name+" : no rules", cost, than)
		if name == wayBeside {
			x = x.atMost("aim", aimBeside)
		}
		f.Ratios = append(f.Ratios, x)
	}
}

// alarmLatency probes a whole engine beside a load on these points.
func (b *bench) alarmLatency(ctx context.Context, store scripts.StoreConfig, load float64, d *definitions) (f alarmLatency, err error) {
	b.say("alarms: latency at %.0f points/s with %d rules …", load, len(d.alarms))
	l, err := b.startEngine(ctx, store, d, fmt.Sprintf("-alarms-engine%d", len(d.alarms)), 0)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, l.stop(ctx)) }()
	if err := rest(ctx, len(d.alarms)+probePoints); err != nil {
		return f, err
	}
	err = l.under(ctx, load, func() error {
		limit := latencyTime * b.slice()
		if _, err := l.probeAlarms(ctx, b.probes/20+1, time.Now().Add(limit/20)); err != nil {
			return err
		}
		_, before, lost, err := l.counters(ctx)
		if err != nil {
			return err
		}
		start := time.Now()
		if f.Latency, err = l.probeAlarms(ctx, b.probes, start.Add(limit)); err != nil {
			return err
		}
		took := time.Since(start).Seconds()
		samples, stored, gone, err := l.counters(ctx)
		f.Stored, f.Lost, f.Waiting = float64(stored-before)/took, gone-lost, max(0, samples-stored-gone)
		return err
	})
	return f, err
}

// rest gives an engine that has just started the time to judge so many rules that
// were not there before.
func rest(ctx context.Context, rules int) error {
	select {
	case <-time.After(time.Duration(rules) * time.Second / 2000):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// alarmFloods lets every point come into alarm at once, several times: each time all
// are acknowledged and end.
func (b *bench) alarmFloods(ctx context.Context, store scripts.StoreConfig) (list []flood, err error) {
	d := b.withRules(0, model.AlarmRule{Operator: model.Above, Threshold: alarmThreshold})
	site := b.name + "-flood"
	b.say("alarms: %d at once …", len(d.alarms))
	engine, err := voltage.NewEngine(voltage.Config{Site: site, Store: store, Log: b.log, Models: d.models, Alarms: d.alarms})
	if err != nil {
		return nil, err
	}
	for c, id := range d.channels {
		if err := engine.RegisterChannel(channel.Config{ID: id, Points: d.points[c]}); err != nil {
			return nil, err
		}
	}
	var raised, cleared atomic.Int64
	told := make(chan struct{}, 1)
	engine.OnAlarm(func(_ context.Context, ev alarm.Event) {
		switch ev.Transition {
		case model.TransitionRaised:
			raised.Add(1)
		case model.TransitionCleared:
			cleared.Add(1)
		}
		select {
		case told <- struct{}{}:
		default:
		}
	})
	if err := engine.Start(ctx); err != nil {
		return nil, err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, engine.Stop(stopping))
	}()
	if err := rest(ctx, len(d.alarms)); err != nil {
		return nil, err
	}
	size := int64(len(d.alarms))
	until := func(n *atomic.Int64, want int64) error {
		limited, cancel := context.WithTimeout(ctx, floodTime)
		defer cancel()
		for n.Load() < want {
			select {
			case <-told:
			case <-limited.Done():
				return fmt.Errorf("OnAlarm was told of %d of %d transitions: %w", n.Load(), want, limited.Err())
			}
		}
		return nil
	}
	push := func(value float64) error {
		var errs []error
		for c, id := range d.channels {
			all := make([]model.Sample, len(d.points[c]))
			for p := range all {
				all[p] = model.Sample{Point: d.points[c][p].ID, Value: value}
			}
			errs = append(errs, engine.Push(ctx, id, all...))
		}
		return errors.Join(errs...)
	}
	used := func() (int64, error) {
		if store.Embedded {
			return 0, nil // it is in the heap
		}
		return b.usedMemory(ctx)
	}
	times := int64(floods)
	if store.Embedded {
		times = 1
	}
	for n := int64(1); n <= times; n++ {
		f := flood{Alarms: int(size)}
		if f.Redis[0], err = used(); err != nil {
			return list, err
		}
		f.Heap[0] = heap()
		start := time.Now()
		journalled := make(chan float64, 1)
		if store.Embedded {
			journalled <- 0
		} else {
			go func() { journalled <- b.journalled(ctx, site, size*(3*n-2), start) }()
		}
		if err := push(2 * alarmThreshold); err != nil {
			return list, err
		}
		if err := until(&raised, n*size); err != nil {
			return list, err
		}
		f.Seen, f.Journalled = time.Since(start).Seconds(), <-journalled
		f.Heap[1] = heap()
		if f.Redis[1], err = used(); err != nil {
			return list, err
		}
		if done, err := engine.AcknowledgeAll(ctx, alarm.Query{}, "bench", ""); err != nil || int64(done) != size {
			return list, fmt.Errorf("%d of %d alarms were acknowledged: %w", done, size, err)
		}
		start = time.Now()
		if err := push(0); err != nil {
			return list, err
		}
		if err := until(&cleared, n*size); err != nil {
			return list, err
		}
		f.Cleared = time.Since(start).Seconds()
		f.Heap[2] = heap()
		if f.Redis[2], err = used(); err != nil {
			return list, err
		}
		list = append(list, f)
	}
	return list, nil
}

// journalled waits until the journal of a site has so many entries, which at the
// third flood is near its bound, and returns how long that took; zero where it did
// not come to that.
func (b *bench) journalled(ctx context.Context, site string, entries int64, start time.Time) float64 {
	limited, cancel := context.WithTimeout(ctx, floodTime)
	defer cancel()
	for {
		n, err := b.store.Client.XLen(limited, "{"+site+"}:alarm:journal").Result()
		if err != nil {
			return 0
		}
		if n >= entries {
			return time.Since(start).Seconds()
		}
		select {
		case <-limited.Done():
			return 0
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (r *alarmReport) text(b *bytes.Buffer, rounds int) {
	for _, s := range []struct {
		name  string
		f     *alarmFigures
		redis bool
	}{{"on the Redis", &r.Redis, true}, {"on the embedded store, whose CPU time and memory are the client's", &r.Embedded, false}} {
		fmt.Fprintf(b, "\nAlarms, %s: median (min–max) of %d rounds\n", s.name, rounds)
		s.f.Costs.text(b, s.redis)
		table(b, func(w io.Writer) {
			for _, x := range s.f.Ratios {
				fmt.Fprintf(w, "%s\t%s\t%s\n", x.Name, x.figure.format("%.2f"), x.verdicts())
			}
		})
		fmt.Fprintf(b, "sample → OnAlarm at %.0f points/s\n", s.f.Load)
		s.f.Without.text(b, "no rules on these points", false)
		s.f.Rules.text(b, "a rule on each", true)
		for i, x := range s.f.Floods {
			took := max(x.Seen, x.Journalled)
			fmt.Fprintf(b, "%d alarms at once, %d: seen by OnAlarm after %.2f s%s; %s; cleared after %.2f s\n  memory before, while they stand, after: %s\n",
				x.Alarms, i+1, x.Seen, map[bool]string{true: fmt.Sprintf(", journalled after %.2f s", x.Journalled)}[s.redis],
				verdict("aim <", aimFlood, took, took < aimFlood), x.Cleared, x.memory(s.redis))
		}
	}
}

func (l alarmLatency) text(b *bytes.Buffer, name string, judged bool) {
	d, word := l.Latency, ""
	if judged {
		word = "; " + verdict("aim p99 <", aimLatency, d.P99, d.P99 < aimLatency && d.Failed == 0)
	}
	fmt.Fprintf(b, "  %s: p50 %.2f ms, p99 %.2f, most %.2f of %d; stored %.0f points/s, waiting %d, lost %d%s\n",
		name, d.P50, d.P99, d.Max, d.Probes, l.Stored, l.Waiting, l.Lost, word)
	if d.Failed > 0 {
		fmt.Fprintf(b, "  %d FAILED: %s\n", d.Failed, d.Failure)
	}
}

func (f flood) memory(redis bool) string {
	list := func(name string, bytes [3]int64) string {
		parts := make([]string, len(bytes))
		for i, n := range bytes {
			parts[i] = fmt.Sprintf("%.1f", float64(n)/1e6)
		}
		return name + " " + strings.Join(parts, ", ") + " MB"
	}
	parts := []string{list("heap", f.Heap)}
	if redis {
		parts = slices.Insert(parts, 0, list("Redis", f.Redis))
	}
	return strings.Join(parts, "; ")
}
