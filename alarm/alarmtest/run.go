package alarmtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// tick is how often an engine lets time have its effect.
const tick = 100 * time.Millisecond

// epoch is when every test begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Definitions are what a configuration says that alarms depend on.
type Definitions struct {
	Models []model.Instance
	Alarms []model.AlarmRule
}

// Options say what tests run on.
type Options struct {
	// Open returns the data plane of an empty site, whose scripts have their time
	// from now (scripts.Options.Now). Each test has a site of its own. Required.
	Open func(now func() time.Time) (*scripts.Plane, error)
	// Load reads the configuration that a file of tests names. Nil refuses such
	// files.
	Load func(path string) (Definitions, error)
	// Changed leaves out samples that repeat the value and quality before them, as an
	// engine does. The result of a test does not depend on it.
	Changed bool
}

// Result is what became of a test.
type Result struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Test string `json:"test"`
	// Failures say what was not as expected, each with file and line, and what was
	// there instead. Nil means that the test passed.
	Failures []string `json:"failures,omitempty"`
}

// Run runs every test of the file. The error is about the store or the
// configuration; what a test finds is in its result.
func (f *File) Run(ctx context.Context, o Options) ([]Result, error) {
	var site Definitions
	if f.config != "" {
		if o.Load == nil {
			return nil, fmt.Errorf("%w: %s: config %s: configurations are not read here", model.ErrInvalid, f.name, f.config)
		}
		var err error
		if site, err = o.Load(f.config); err != nil {
			return nil, fmt.Errorf("%s: config: %w", f.name, err)
		}
	}
	results := make([]Result, 0, len(f.tests))
	for _, t := range f.tests {
		r := &run{file: f, test: t, changed: o.Changed, rules: map[string]model.AlarmRule{}, channels: map[string]*line{}, places: map[model.Ref]place{}}
		failed, err := r.run(ctx, o, site)
		if err != nil {
			return results, fmt.Errorf("%s:%d: test %q: %w", f.name, max(r.line, t.line), t.name, err)
		}
		results = append(results, Result{File: f.name, Line: t.line, Test: t.name, Failures: failed})
	}
	return results, nil
}

// run is one test that runs.
type run struct {
	file    *File
	test    *test
	changed bool
	plane   *scripts.Plane
	now     time.Time
	line    int // of the event

	rules    map[string]model.AlarmRule // by model:point:rule, those that were ever there
	channels map[string]*line
	places   map[model.Ref]place
	touched  bool // a channel's state changed since the last tick

	journal  string // position up to which it was looked at
	notified int    // how many notifications were looked at
	problems []fact
	failed   []string
}

// place is where the values of a model's point come from.
type place struct{ channel, point string }

// line is a channel.
type line struct {
	id     string
	points []model.Point
	lease  scripts.Lease
	writer *scripts.Writer // nil while nobody owns the channel
	last   map[string]model.Sample
}

func (r *run) run(ctx context.Context, o Options, site Definitions) (failed []string, err error) {
	r.now = epoch
	if r.plane, err = o.Open(func() time.Time { return r.now }); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx, site); err != nil {
		return nil, err
	}
	events := r.test.ordered()
	for len(events) > 0 {
		at := epoch.Add(events[0].at)
		if err := r.ticks(ctx, at, false); err != nil {
			return nil, err
		}
		r.now = at
		n := slices.IndexFunc(events, func(e event) bool { return e.at != events[0].at })
		if n < 0 {
			n = len(events)
		}
		if err := r.moment(ctx, events[:n]); err != nil {
			return nil, err
		}
		events = events[n:]
	}
	for _, p := range r.problems {
		r.fail(r.test.line, "a problem that no line expects: %s", p.head[0])
	}
	return r.failed, nil
}

// moment lets happen what is at one time: definitions, samples, actions, the tick,
// and last what is checked.
func (r *run) moment(ctx context.Context, events []event) error {
	var batches []string // channels
	samples := map[string][]model.Sample{}
	flush := func() error {
		for _, id := range batches {
			if err := r.write(ctx, r.channels[id], samples[id], false); err != nil {
				return err
			}
		}
		batches, samples = nil, map[string][]model.Sample{}
		return nil
	}
	ticked := false
	for _, e := range events {
		if s, ok := e.what.(sampleEvent); ok && e.phase == phaseValue {
			at := r.places[s.point]
			if _, ok := samples[at.channel]; !ok {
				batches = append(batches, at.channel)
			}
			samples[at.channel] = append(samples[at.channel], r.sample(s))
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if e.phase == phaseCheck && !ticked {
			if err := r.ticks(ctx, r.now, true); err != nil {
				return err
			}
			ticked = true
		}
		r.line = e.line
		if err := r.happen(ctx, e); err != nil {
			return err
		}
	}
	if err := flush(); err != nil || ticked {
		return err
	}
	return r.ticks(ctx, r.now, true)
}

// ticks makes those ticks that have something to do, up to a time, or also at it.
func (r *run) ticks(ctx context.Context, to time.Time, with bool) error {
	for range maxEvents {
		due, err := r.plane.AlarmTimer(ctx)
		if err != nil {
			return err
		}
		switch {
		case r.touched:
			due = r.now
		case due.IsZero():
			return nil
		case due.Before(r.now):
			due = r.now
		}
		at := epoch.Add((due.Sub(epoch) + tick - 1).Truncate(tick))
		if at.After(to) || at.Equal(to) && !with {
			return nil
		}
		r.now, r.touched = at, false
		_, problems, err := r.plane.AlarmTick(ctx, r.plane.OfflineChannels()...)
		if err != nil {
			return err
		}
		r.complain(problems)
	}
	return errors.New("the timers have no end")
}

// prepare makes the site: models, channels, and the rules of the configuration.
func (r *run) prepare(ctx context.Context, site Definitions) error {
	if err := r.plane.Prepare(ctx); err != nil {
		return err
	}
	models := map[string]model.Instance{}
	for _, m := range site.Models {
		models[m.ID] = bare(m)
	}
	configured := len(site.Models) > 0
	for _, ref := range sortedRefs(r.test.points) {
		m, known := models[ref.Owner]
		if configured && (!known || !bound(m, ref.Name)) {
			return fmt.Errorf("%w: the configuration has no point %s", model.ErrInvalid, ref)
		}
		if configured {
			continue
		}
		m.ID = ref.Owner
		if m.Measurements == nil {
			m.Measurements = map[string]string{}
		}
		m.Measurements[ref.Name] = model.Ref{Owner: cmp.Or(r.test.channels[ref], plainChan), Name: strconv.Itoa(len(r.places) + 1)}.String()
		models[ref.Owner] = m
		r.places[ref] = place{}
	}
	if configured && len(r.test.channels) > 0 {
		return fmt.Errorf("%w: points: the configuration says where they come from", model.ErrInvalid)
	}
	for _, e := range r.test.events { // also those without points
		if c, ok := e.what.(channelEvent); ok {
			r.channel(c.id)
		}
	}
	ids := make([]string, 0, len(models))
	for id, m := range models {
		ids = append(ids, id)
		for _, k := range model.Kinds() {
			for name, source := range m.Bindings(k) {
				at, err := model.ParseRef(source)
				if err != nil {
					return err
				}
				r.places[model.Ref{Owner: id, Name: name}] = place{at.Owner, at.Name}
				c := r.channel(at.Owner)
				if !slices.ContainsFunc(c.points, func(p model.Point) bool { return p.ID == at.Name }) {
					c.points = append(c.points, model.Point{ID: at.Name, Kind: k})
				}
			}
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		if err := r.plane.PutModel(ctx, models[id]); err != nil {
			return err
		}
	}
	for _, id := range sortedKeys(r.channels) {
		c := r.channels[id]
		slices.SortFunc(c.points, func(a, b model.Point) int { return cmp.Compare(a.ID, b.ID) })
		if err := r.plane.PutPoints(ctx, id, c.points); err != nil {
			return err
		}
		if err := r.turn(ctx, c, "online"); err != nil {
			return err
		}
	}
	for _, rule := range site.Alarms {
		if err := r.plane.PutAlarmRule(ctx, rule); err != nil {
			return err
		}
		r.rules[refOf(rule)] = rule
	}
	return r.reconcile(ctx)
}

// bare is a model with nothing but its bindings, those of calculations too.
func bare(m model.Instance) model.Instance {
	b := model.Instance{ID: m.ID, Measurements: clone(m.Measurements), Signals: clone(m.Signals), Controls: m.Controls, Adjustments: m.Adjustments}
	for name, c := range m.Calculations {
		to := b.Measurements
		if c.Signal {
			to = b.Signals
		}
		to[name] = model.Ref{Owner: model.CalculationChannel(m.ID), Name: name}.String()
	}
	return b
}

func clone(m map[string]string) map[string]string {
	c := make(map[string]string, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

func bound(m model.Instance, name string) bool {
	return slices.ContainsFunc(model.Kinds(), func(k model.Kind) bool { return has(m.Bindings(k), name) })
}

func (r *run) channel(id string) *line {
	c := r.channels[id]
	if c == nil {
		c = &line{id: id, last: map[string]model.Sample{}}
		r.channels[id] = c
	}
	return c
}

func (r *run) sample(s sampleEvent) model.Sample {
	m := model.Sample{Point: r.places[s.point].point, Value: s.value, Quality: s.quality}
	if s.timed {
		m.Time = r.now.Add(s.device)
	}
	return m
}

// write stores samples as the owner of a channel does. Where the definitions have
// changed everything is sent again.
func (r *run) write(ctx context.Context, c *line, samples []model.Sample, refresh bool) error {
	if c.writer == nil {
		return nil // nobody reads it
	}
	for _, s := range samples {
		before, known := c.last[s.Point]
		c.last[s.Point] = s
		if r.changed && !refresh && known && before.Value == s.Value && before.Quality == s.Quality && s.Time.IsZero() {
			samples = slices.DeleteFunc(slices.Clone(samples), func(o model.Sample) bool { return o == s })
		}
	}
	for some := range slices.Chunk(samples, scripts.MaxBatch) {
		stale, warnings, err := c.writer.Write(ctx, some, refresh)
		if err != nil {
			return err
		}
		r.complain(warnings)
		if stale && !refresh {
			if err := r.refresh(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) refresh(ctx context.Context, c *line) error {
	var all []model.Sample
	for _, id := range sortedKeys(c.last) {
		all = append(all, c.last[id])
	}
	return r.write(ctx, c, all, true)
}

// happen carries out one event.
func (r *run) happen(ctx context.Context, e event) error {
	switch what := e.what.(type) {
	case sampleEvent:
		return r.write(ctx, r.channels[r.places[what.point].channel], []model.Sample{r.sample(what)}, false)
	case ruleEvent:
		r.rules[refOf(what.rule)] = what.rule
		put := func() error { return r.plane.PutAlarmRule(ctx, what.rule) }
		if what.text != "" {
			put = func() error {
				return r.plane.PutAlarmRuleText(ctx, what.rule.Model, what.rule.Point, what.rule.ID, what.text)
			}
		}
		if err := put(); err != nil {
			return err
		}
		return r.reconcile(ctx)
	case dropEvent:
		rule, ok := r.rules[r.ref(what.rule)]
		if !ok {
			r.fail(e.line, "drop: there is no rule %s", what.rule)
			return nil
		}
		if err := r.plane.DropAlarmRule(ctx, rule.Model, rule.Point, rule.ID); err != nil {
			return err
		}
		return r.reconcile(ctx)
	case channelEvent:
		return r.turn(ctx, r.channel(what.id), what.state)
	case refreshEvent:
		for _, id := range sortedKeys(r.channels) {
			if err := r.refresh(ctx, r.channels[id]); err != nil {
				return err
			}
		}
		return nil
	case deskEvent:
		return r.desk(ctx, e.line, what)
	case *check:
		return r.check(ctx, e.at, what)
	}
	return nil
}

// leaseTime is longer than any test takes, for leases end by the store's own clock.
const leaseTime = 24 * time.Hour

// turn gives a channel another state. One that is offline tells so of its points.
func (r *run) turn(ctx context.Context, c *line, state string) error {
	r.touched = true
	status := []scripts.Field{{Name: "state", Value: state}}
	if state == "stopped" || state == "lost" {
		if c.writer == nil {
			return nil
		}
		c.writer = nil
		if state == "lost" {
			status = nil
		}
		return r.plane.Release(ctx, c.lease, status...)
	}
	if c.writer == nil {
		lease, err := r.plane.Acquire(ctx, c.id, "alarmtest", leaseTime)
		if err != nil {
			return err
		}
		c.lease, c.writer = lease, r.plane.NewWriter(lease, c.points)
	}
	if err := r.plane.Renew(ctx, c.lease, leaseTime, status...); err != nil {
		return err
	}
	if state != string(model.ChannelOffline) {
		return nil
	}
	var gone []model.Sample
	for _, p := range c.points {
		gone = append(gone, model.Sample{Point: p.ID, Quality: model.Offline})
	}
	return r.write(ctx, c, gone, false)
}

func (r *run) desk(ctx context.Context, at int, e deskEvent) (err error) {
	alarm := r.ref(e.alarm)
	switch e.op {
	case "ack":
		_, err = r.plane.Acknowledge(ctx, alarm, e.by, e.comment)
	case "close":
		_, err = r.plane.CloseAlarm(ctx, alarm, e.by, e.comment)
	case "reset":
		_, err = r.plane.ResetAlarm(ctx, alarm, e.by, e.comment)
	case "shelve":
		_, err = r.plane.Shelve(ctx, alarm, e.by, e.comment, e.until)
	case "unshelve":
		_, err = r.plane.Unshelve(ctx, alarm, e.by, e.comment)
	case "out_of_service":
		_, err = r.plane.OutOfService(ctx, alarm, e.by, e.comment)
	case "in_service":
		_, err = r.plane.InService(ctx, alarm, e.by, e.comment)
	}
	refusal := errors.Is(err, scripts.ErrNotFound) || errors.Is(err, scripts.ErrConflict) || errors.Is(err, model.ErrInvalid)
	switch {
	case err != nil && !refusal:
		return err
	case err != nil && !e.refused:
		r.fail(at, "%s %s: %v", e.op, e.alarm, err)
	case err == nil && e.refused:
		r.fail(at, "%s %s was not refused", e.op, e.alarm)
	}
	return nil
}

// reconcile has other changes of the definitions be noticed, as an engine does every
// five seconds.
func (r *run) reconcile(ctx context.Context) error {
	problems, err := r.plane.Reconcile(ctx)
	if err != nil {
		return err
	}
	known := func(p string) bool {
		return slices.ContainsFunc(r.problems, func(f fact) bool { return f.head[0] == p })
	}
	r.complain(slices.DeleteFunc(slices.Clone(problems), known))
	return nil
}

func (r *run) complain(problems []string) {
	for _, p := range problems {
		r.problems = append(r.problems, fact{head: []string{p}, keys: map[string]string{}})
	}
}

func (r *run) fail(line int, format string, args ...any) {
	r.failed = append(r.failed, fmt.Sprintf("%s:%d: ", r.file.name, line)+fmt.Sprintf(format, args...))
}

// ref is what the desk knows an alarm by: model:point:rule of a rule, else as it is.
func (r *run) ref(name string) string {
	for ref, rule := range r.rules {
		if rule.ID == name && r.label(ref) == name {
			return ref
		}
	}
	return name
}

// label is what a line calls a rule: its id where no other rule has the same.
func (r *run) label(ref string) string {
	id := ref[strings.LastIndexByte(ref, ':')+1:]
	for other := range r.rules {
		if other != ref && strings.HasSuffix(other, ":"+id) {
			return ref
		}
	}
	return id
}

func refOf(r model.AlarmRule) string { return model.AlarmRef(r.Model, r.Point, r.ID) }

// check compares what is with what is expected.
func (r *run) check(ctx context.Context, at time.Duration, c *check) error {
	var got []fact
	var err error
	switch c.kind {
	case "eval":
		got, err = r.open(ctx)
		slices.SortStableFunc(c.want, func(a, b fact) int { return cmp.Compare(a.head[0], b.head[0]) })
	case "journal":
		got, err = r.transitions(ctx)
	case "notified":
		got, err = r.notifications(ctx)
	case "problems":
		got, r.problems = r.problems, nil
	}
	if err != nil {
		return err
	}
	if diff := compare(c.kind, c.want, got); diff != "" {
		what := map[string]string{"eval": "open alarms", "journal": "transitions", "notified": "notifications", "problems": "problems"}[c.kind]
		r.fail(c.line, "%s %s: the %s are others (- expected, + found):\n%s", c.kind, at, what, diff)
	}
	return nil
}

// since is a time of the test.
func since(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Sub(epoch).String()
}

func (r *run) open(ctx context.Context) ([]fact, error) {
	list, err := r.plane.OpenAlarms(ctx)
	if err != nil {
		return nil, err
	}
	facts := make([]fact, len(list))
	for i, a := range list {
		keys := map[string]string{}
		set := func(key, value string) {
			if value != "" {
				keys[key] = value
			}
		}
		if a.Count != 1 {
			set("count", strconv.FormatInt(a.Count, 10))
		}
		if a.Chattering {
			set("chattering", "yes")
		}
		set("suppression", string(a.Suppression))
		set("quality", a.Quality)
		facts[i] = fact{
			head: []string{r.label(model.AlarmRef(a.Model, a.Point, a.Rule)), string(a.Status), number(a.Value)}, keys: keys,
			more: map[string]string{
				"count": "1", "until": since(a.ShelvedUntil), "reason": a.Reason, "suppressed_by": a.SuppressedBy, "severity": string(a.Severity),
				"message": a.Message, "threshold": number(a.Threshold), "high": number(a.High), "operator": string(a.Operator),
				"comment": a.Comment, "acknowledged_by": a.AcknowledgedBy, "raised": since(a.Raised), "cleared": since(a.Cleared),
				"acknowledged": since(a.Acknowledged), "device": since(a.DeviceTime),
			},
		}
	}
	slices.SortStableFunc(facts, func(a, b fact) int { return cmp.Compare(a.head[0], b.head[0]) })
	return facts, nil
}

// atOnce is how many transitions are read in one go.
const atOnce = 1000

func (r *run) transitions(ctx context.Context) (facts []fact, err error) {
	for {
		list, err := r.plane.AlarmJournal(ctx, r.journal, atOnce)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			f := fact{head: []string{since(e.Time), string(e.Transition), r.label(model.AlarmRef(e.Model, e.Point, e.Rule))}, keys: map[string]string{},
				more: map[string]string{"status": string(e.Status), "severity": string(e.Severity), "message": e.Message,
					"threshold": number(e.Threshold), "by": e.By, "comment": e.Comment, "device": since(e.DeviceTime)}}
			if e.Alarm != "" {
				f.head = append(f.head, number(e.Value))
			}
			if e.Suppression != "" {
				f.keys["suppression"] = string(e.Suppression)
			}
			facts, r.journal = append(facts, f), e.Position
		}
		if len(list) < atOnce {
			return facts, nil
		}
	}
}

// notification is what the queue has of an alarm.
type notification struct {
	Transition string `json:"transition"`
	Model      string `json:"model_id"`
	Point      string `json:"point_name"`
	Rule       string `json:"rule_id"`
	Severity   string `json:"severity"`
	Status     string `json:"status"`
	Value      string `json:"value"`
	Threshold  string `json:"threshold"`
	Operator   string `json:"operator"`
	Message    string `json:"message"`
	Timestamp  string `json:"timestamp"`
	By         string `json:"by"`
}

func (r *run) notifications(ctx context.Context) (facts []fact, err error) {
	list, err := r.plane.WaitingNotifications(ctx, maxEvents)
	if err != nil {
		return nil, err
	}
	for _, text := range list[min(r.notified, len(list)):] {
		var n notification
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			return nil, fmt.Errorf("notification %s: %w", text, err)
		}
		ms, err := strconv.ParseInt(n.Timestamp, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("notification %s: timestamp: %w", text, err)
		}
		plain := func(s string) string {
			if v, err := strconv.ParseFloat(s, 64); err == nil {
				return number(v)
			}
			return s
		}
		facts = append(facts, fact{
			head: []string{since(time.UnixMilli(ms).UTC()), n.Transition, r.label(model.AlarmRef(n.Model, n.Point, n.Rule)), plain(n.Value)},
			keys: map[string]string{},
			more: map[string]string{"status": n.Status, "severity": n.Severity, "message": n.Message, "threshold": plain(n.Threshold), "operator": n.Operator, "by": n.By},
		})
	}
	r.notified = len(list)
	return facts, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func sortedRefs(m map[model.Ref]bool) []model.Ref {
	list := make([]model.Ref, 0, len(m))
	for r := range m {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b model.Ref) int { return cmp.Compare(a.String(), b.String()) })
	return list
}
