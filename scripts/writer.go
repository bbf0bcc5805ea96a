package scripts

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
)

// MaxBatch is the most samples in one call of Writer.Write.
const MaxBatch = 500

// Writer sends the samples of one owned channel through data_sync. It is for
// one goroutine. In steady state it allocates nothing per point.
type Writer struct {
	p      *Plane
	lease  Lease
	index  map[string]int // point id → place in points
	points []writerPoint
	places []int // of the samples of the batch being written, in points
	batch  int64 // number of the last batch
	timed  bool  // the device times that are stored are known
	falls  int64 // behind.falls that this writer knows
	stored *storedBatch

	plan   *plan
	digest uint64
	build  builder
	direct *direct // nil until the channel goes without Lua
}

// writerPoint is a point with everything that a batch needs of it.
type writerPoint struct {
	id     string
	kind   model.Kind
	text   bool
	judged bool // alarm rules compare its values
	routes []writerRoute
	// the last usable value that is stored, and of the batch being built
	stored lastValue
	lastValue
	final  int // place of the last sample in the batch that is not late
	usable int // and of the last of those with a usable value
	// the newest device time that is stored, and that of the batch being built
	at, building time.Time
	// the quality that is stored, and whether that is certain
	quality model.Quality
	settled bool
}

type lastValue struct {
	lastNumber float64
	lastText   string // of a text point
	known      bool
}

// writerRoute is a route with its strings made once.
type writerRoute struct {
	target int // place in builder.models
	place  int // of the name in the target's names
	name   string
	kind   model.Kind
	alarms []writerAlarm
	// rules of other points that look at this one
	dependents []writerAlarm
	rules      []string
	packed     string // "model:name", the name in the history and cloud queues
}

// NewWriter returns the Writer for a channel that was acquired. The points are
// the channel's; samples of others are refused. All writers of one lease belong
// to one Plane, one after the other: a batch of one that is older than the last
// is taken for a repetition.
func (p *Plane) NewWriter(l Lease, points []model.Point) *Writer {
	w := &Writer{p: p, lease: l, falls: p.behind.falls.Load(), stored: p.behind.watch(l), index: make(map[string]int, len(points)), points: make([]writerPoint, len(points))}
	for i, pt := range points {
		w.index[pt.ID] = i
		w.points[i] = writerPoint{id: pt.ID, kind: pt.Kind, text: pt.Text}
	}
	return w
}

// Write stores samples (and clears device times that cannot be true): the channel's values, the models', update messages,
// alarms, rules and the queues, in one atomic step. A refresh repeats values
// that did not change: it is not history and runs no rules.
//
// It returns only when the samples are stored (nil), when another engine owns
// the channel or the data was lost (ErrFenced: acquire again and send
// everything), or when ctx ends; over a broken connection it repeats the same
// batch, which has no second effect. stale is true when the definitions had
// changed: then everything has to be sent again as a refresh, for values that
// did not change may have new targets. warnings name what was left out.
func (w *Writer) Write(ctx context.Context, samples []model.Sample, refresh bool) (stale bool, warnings []string, err error) {
	if len(samples) == 0 {
		return false, nil, nil
	}
	if len(samples) > MaxBatch {
		return false, nil, fmt.Errorf("%w: channel %s: %d samples in a batch: at most %d", model.ErrInvalid, w.lease.Channel, len(samples), MaxBatch)
	}
	latest := w.p.localTime().Add(deviceAhead)
	w.places = w.places[:0]
	next := 0 // samples mostly come in the order of the points, which saves looking them up
	for i := range samples {
		s := &samples[i]
		place, err := w.check(s, next)
		if err != nil {
			return false, nil, err
		}
		next = place + 1
		w.places = append(w.places, place)
		if !s.Time.IsZero() && (s.Time.Before(deviceEpoch) || s.Time.After(latest)) {
			s.Time = time.Time{} // a clock that was never set, or is far ahead, tells nothing
		}
	}
	w.batch = w.p.batches.Add(1)
	s := w.p.scripts["data_sync"]
	defer func() {
		if err != nil { // nobody knows whether it was stored after all
			w.unsettle()
			w.timed = false
		}
	}()
	doubt := false // whether a try went out of which nobody knows what became
	for attempt, remapped, broken := 0, 0, 0; ; {
		if w.plan == nil || !w.timed {
			changed, err := w.ready(ctx)
			if err != nil {
				if !pause(ctx, backoff(broken)) {
					return stale, nil, err
				}
				broken++
				continue
			}
			stale = changed || stale
		}
		if attempt+remapped+broken > 0 {
			w.unsettle()
		}
		known := w.p.generation.Load()
		generation := *known
		script := w.p.scriptFor(s, w.lease.Channel)
		args := w.build.args(w, script, known, samples, refresh)
		reply, again, err := w.send(ctx, s, script, args, len(samples), attempt, generation)
		fault := err
		if fault == nil && !again && (len(reply) == 0 || reply[0] != "MAPPING") {
			fault = codeError("data_sync", reply)
		}
		switch {
		case fault != nil && attempt < repairs && isFault(reply, fault) && w.p.judge(ctx, s, script, fault, attempt):
			attempt++
			w.batch = w.p.batches.Add(1) // this number may be taken, by what the script did before it failed
		case err != nil:
			if ctx.Err() != nil || isAnswer(err) || errors.Is(err, errReply) {
				return stale, nil, err
			}
			w.p.log.Warn("storing samples failed; repeating", "channel", w.lease.Channel, "error", err)
			var answer redis.Error
			if !errors.As(err, &answer) {
				doubt = true // it may have been done: the same number tells
			} else if !doubt {
				w.batch = w.p.batches.Add(1) // it may have been done in part, before the error
			}
			if !pause(ctx, backoff(broken)) {
				return stale, nil, err
			}
			broken++
			attempt = 0 // lost scripts are repaired again after a pause
		case again:
			attempt++
		case len(reply) > 0 && reply[0] == "MAPPING" && remapped < 100:
			remapped++
			pl, err := w.p.loadPlan(ctx, w.plan)
			if err != nil {
				w.p.log.Warn("reading the definitions failed; repeating", "channel", w.lease.Channel, "error", err)
				if !pause(ctx, backoff(remapped)) {
					return stale, nil, err
				}
				continue
			}
			stale = w.resolve(pl) || stale
		default:
			if err := codeError("data_sync", reply); err != nil {
				return stale, nil, fmt.Errorf("channel %s: %w", w.lease.Channel, err)
			}
			w.stored.number.Store(w.batch)
			for i := range samples {
				pt := w.at(i)
				pt.at, pt.stored = pt.building, pt.lastValue
			}
			if len(reply) > 1 {
				warnings = reply[1:]
			}
			return stale, warnings, nil
		}
	}
}

// send carries out one batch in the way of the channel, which may change from
// one batch to the next: the fence counts them all.
func (w *Writer) send(ctx context.Context, s *activeScript, script *Script, args []any, points, attempt int, generation string) (reply []string, again bool, err error) {
	switch w.p.switches.Load().mode(w.lease.Channel) {
	case SyncDirect:
		return w.sendDirect(ctx, s, args, points, attempt, generation)
	case SyncShadow:
		return w.sendShadow(ctx, s, script, args, points, attempt, generation)
	}
	return w.p.send(ctx, s, script, args, points, attempt, generation, false)
}

// Stale reports whether definitions changed in a way that gives values of this
// channel other targets, so that everything has to be sent again as a refresh.
// It costs no call; Reconcile and whoever asks for values learn of changes.
//
// So it has when the store went back to older data, as in a fail-over: nobody
// knows which values it has lost.
func (w *Writer) Stale() bool {
	if n := w.p.behind.falls.Load(); n != w.falls {
		w.falls = n
		for i := range w.points {
			w.points[i].settled = false
		}
		return true
	}
	pl := w.p.plan.Load()
	return w.plan != nil && pl != nil && pl != w.plan && w.resolve(pl)
}

// Device times outside of these bounds are those of a clock that is not set: a
// time far ahead would make every later sample look old, and so would every
// sample of a clock that fell back to its beginning.
const deviceAhead = time.Hour

var deviceEpoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

var errForeignPoint = errors.New("no such point in the channel")

// check returns the place of the sample's point, which is perhaps guess.
func (w *Writer) check(s *model.Sample, guess int) (int, error) {
	i, ok := guess, guess < len(w.points) && w.points[guess].id == s.Point
	if !ok {
		i, ok = w.index[s.Point]
	}
	if !ok {
		return 0, fmt.Errorf("channel %s: sample of point %.80q: %w", w.lease.Channel, s.Point, errForeignPoint)
	}
	if s.Quality.Usable() && !w.points[i].text && !model.Storable(s.Value) {
		return 0, fmt.Errorf("%w: channel %s: sample of point %s: value %v cannot be stored", model.ErrInvalid, w.lease.Channel, s.Point, s.Value)
	}
	return i, nil
}

// at returns the point of the i-th sample of the batch.
func (w *Writer) at(i int) *writerPoint { return &w.points[w.places[i]] }

// resolve works out the routes of every point, and reports whether they differ
// from those before.
func (w *Writer) resolve(pl *plan) bool {
	w.plan = pl
	routes := pl.routes[w.lease.Channel]
	h := fnv.New64a()
	w.build.reset(w.p, w.lease.Channel)
	for i := range w.points {
		pt := &w.points[i]
		pt.routes, pt.judged = nil, false
		for _, r := range routes[pt.id] {
			fmt.Fprintln(h, pt.id, r.model, r.name, r.kind, r.rules)
			names := pl.names[r.model]
			wr := writerRoute{target: w.build.target(w.p, r.model, names), name: r.name, kind: r.kind, rules: r.rules, packed: r.model + ":" + r.name}
			wr.place, _ = slices.BinarySearch(names, r.name)
			for _, a := range r.alarms {
				alarm, enable := newWriterAlarm(a), a.Enable
				a.Enable = nil // its address says nothing
				fmt.Fprintln(h, a, enable)
				if !pt.text || alarm.quality { // a text has nothing to compare
					wr.alarms = append(wr.alarms, alarm)
				}
				pt.judged = pt.judged || !pt.text
			}
			for _, a := range r.dependents {
				if !pt.text {
					wr.dependents = append(wr.dependents, newWriterAlarm(a))
				}
			}
			pt.routes = append(pt.routes, wr)
		}
		pt.settled = false
	}
	before := w.digest
	w.digest = h.Sum64()
	return before != 0 && before != w.digest
}

// ready learns what a batch is built on: the definitions, unless they are known,
// and the device times. It reports whether routes changed.
func (w *Writer) ready(ctx context.Context) (changed bool, err error) {
	pl, err := w.p.currentPlan(ctx)
	if err != nil {
		return false, err
	}
	if err := w.deviceTimes(ctx); err != nil {
		return false, err
	}
	w.timed = true
	return w.plan == nil && w.resolve(pl), nil
}

// deviceTimes learns which device times the owner before has stored, so that
// older samples are not taken for newer ones.
func (w *Writer) deviceTimes(ctx context.Context) error {
	h, err := w.p.client.HGetAll(ctx, w.p.keys.channelPart(w.lease.Channel, "ts")).Result()
	if err != nil && !isAnswer(err) {
		return storeError("reading the device times of channel "+w.lease.Channel, err)
	}
	for id, ms := range h {
		if i, ok := w.index[id]; ok {
			w.points[i].at = millis(ms)
		}
	}
	return nil
}

// unsettle forgets the stored quality of the batch's points: after a failed try
// nobody knows it.
func (w *Writer) unsettle() {
	for i := range w.places {
		w.at(i).settled = false
	}
}
