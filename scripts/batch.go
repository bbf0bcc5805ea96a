package scripts

import (
	"strconv"
	"unsafe"

	"github.com/voltageems/voltage/model"
)

// builder makes the arguments of data_sync's batch form (lua/data_sync.lua has
// their layout). Everything is kept from batch to batch: argument lists hold
// pointers to strings, and the strings of one batch are cut from one buffer, so
// that a batch costs a handful of allocations however many points it has.
type builder struct {
	all     []any    // the whole call
	buf     []byte   // the texts of all values of the batch
	cuts    []int    // where each text of buf ends
	strings []string // the texts, cut from buf

	channel target
	models  []target
	index   map[string]int // model → place in models
	alarms  []any
	others  []any // items of rules that look at a point of the batch beside their own
	rules   []any
	stale   []any           // cached answers of the batch's models
	seen    map[string]bool // rules, and alarm rules among others, that are in the batch
	queues  []queue

	lines         int // points in each queue
	count, number decimal
}

// textKind is where text points stand beside the four kinds of numbers.
const textKind = 4

// target is what a batch writes to the channel's own keys, or to one model's.
type target struct {
	values  [textKind + 1]list
	stamps  list     // HSET of device times
	times   []any    // names whose time is the time of the call
	names   []string // every name of the model that any point leads to
	current []bool   // by place in names: whether the name gets a value
	others  []any    // names that get none
	cached  string
	quality list // HSET of what is not good
	good    list // HDEL of what is good again
	update  string
	message []byte // "name:value,…"
	text    string // message as an argument
}

// list is the key and the fields of one HSET or HDEL.
type list struct {
	key  string
	args []any
}

// queue is hissrv:queue or cloud:queue.
type queue struct {
	key     string
	limit   int64 // bytes
	mean    int64 // bytes of an entry, to turn the limit into a number of entries
	packed  []byte
	entries decimal
	text    string
}

// reset forgets the models; resolve adds them again.
func (b *builder) reset(p *Plane, channel string) {
	b.models, b.index = nil, map[string]int{}
	b.channel = newTarget(p.keys, func(part string) string { return p.keys.channelPart(channel, part) },
		func(k model.Kind) string { return p.keys.channelValues(channel, k) })
	if b.seen != nil {
		return
	}
	b.seen = map[string]bool{}
	if n := p.options.HistoryBytes; n > 0 {
		b.queues = append(b.queues, queue{key: p.keys.historyQueue(), limit: n})
	}
	if n := p.options.CloudBytes; n > 0 {
		b.queues = append(b.queues, queue{key: p.keys.cloudQueue(), limit: n})
	}
}

func newTarget(k keys, part func(string) string, values func(model.Kind) string) target {
	t := target{stamps: list{key: part("ts")}, quality: list{key: part("quality")}, good: list{key: part("quality")}}
	for _, kind := range model.Kinds() {
		t.values[kind].key = values(kind)
	}
	t.values[textKind].key = part("text")
	return t
}

// target returns the place of a model that has these names.
func (b *builder) target(p *Plane, id string, names []string) int {
	if i, ok := b.index[id]; ok {
		return i
	}
	t := newTarget(p.keys, func(part string) string { return p.keys.modelPart(id, part) },
		func(k model.Kind) string { return p.keys.modelValues(id, k) })
	t.update, t.cached = p.keys.update(id), p.keys.cachedValues(id)
	t.names, t.current = names, make([]bool, len(names))
	b.models = append(b.models, t)
	b.index[id] = len(b.models) - 1
	return len(b.models) - 1
}

// args builds the call. The result holds until the next one is built.
func (b *builder) args(w *Writer, script *Script, generation *string, samples []model.Sample, refresh bool) []any {
	b.clear()
	// First the texts of all values, so that the strings can be cut from one
	// buffer that does not move any more.
	for i := range samples {
		pt := w.at(i)
		pt.building, pt.lastValue = pt.at, pt.stored
	}
	for i := range samples {
		b.text(w, &samples[i], i)
	}
	for i := range samples {
		pt := w.at(i)
		pt.building = pt.at
	}
	if cap(b.strings) < len(b.cuts) {
		b.strings = make([]string, 2*len(b.cuts))
	}
	b.strings = b.strings[:len(b.cuts)]
	// The strings share the buffer, which is written again only for the next
	// batch, after the call with this one is over.
	whole, from := unsafe.String(unsafe.SliceData(b.buf), len(b.buf)), 0
	for i, to := range b.cuts {
		b.strings[i], from = whole[from:to], to
	}
	// Then the lists of fields and values.
	next := 0
	for i := range samples {
		next = b.sample(w, &samples[i], i, next, refresh)
	}
	b.number.set(w.batch)
	b.count.set(int64(b.lines))
	b.all = w.p.head(b.all[:0], script)
	b.all = append(b.all, "batch", w.p.now(), generation, &w.plan.version, &w.lease.Channel, &w.lease.Epoch, &b.number.text, &b.count.text)
	b.sections(&w.lease.Channel)
	return b.all
}

func (b *builder) clear() {
	b.buf, b.cuts, b.alarms, b.rules, b.stale, b.lines = b.buf[:0], b.cuts[:0], b.alarms[:0], b.rules[:0], b.stale[:0], 0
	b.others = b.others[:0]
	clear(b.seen)
	b.channel.clear()
	for i := range b.models {
		b.models[i].clear()
	}
	for i := range b.queues {
		b.queues[i].packed = b.queues[i].packed[:0]
	}
}

func (t *target) clear() {
	for i := range t.values {
		t.values[i].args = t.values[i].args[:0]
	}
	t.stamps.args, t.quality.args, t.good.args = t.stamps.args[:0], t.quality.args[:0], t.good.args[:0]
	t.times, t.message = t.times[:0], t.message[:0]
	clear(t.current)
}

// text appends the texts of one sample: the value (the last one where the
// sample has no usable one), then the device time where there is one, then both
// together where alarm rules judge them.
func (b *builder) text(w *Writer, s *model.Sample, i int) {
	pt := w.at(i)
	if !pt.late(s) {
		pt.final = i
		pt.advance(s)
		if s.Quality.Usable() {
			pt.usable = i
			pt.lastValue = lastValue{s.Value, s.Text, true}
		}
	}
	switch {
	case pt.text && s.Quality.Usable():
		b.buf = append(b.buf, s.Text...)
	case pt.text:
		b.buf = append(b.buf, pt.lastText...)
	case s.Quality.Usable():
		b.buf = model.AppendValue(b.buf, s.Value)
	case pt.known:
		b.buf = model.AppendValue(b.buf, pt.lastNumber)
	}
	b.cuts = append(b.cuts, len(b.buf))
	if !s.Time.IsZero() {
		b.buf = strconv.AppendInt(b.buf, s.Time.UnixMilli(), 10)
		b.cuts = append(b.cuts, len(b.buf))
		if pt.judged && s.Quality.Usable() {
			b.buf = model.AppendValue(b.buf, s.Value)
			b.buf = append(b.buf, '@')
			b.buf = strconv.AppendInt(b.buf, s.Time.UnixMilli(), 10)
			b.cuts = append(b.cuts, len(b.buf))
		}
	}
}

// sample puts one sample into the lists. next is the place of its first text;
// the place of the following sample's is returned.
func (b *builder) sample(w *Writer, s *model.Sample, i, next int, refresh bool) int {
	pt := w.at(i)
	value, at := &b.strings[next], (*string)(nil)
	judged := value
	next++
	if !s.Time.IsZero() {
		at = &b.strings[next]
		next++
		if pt.judged && s.Quality.Usable() {
			judged = &b.strings[next]
			next++
		}
	}
	if pt.late(s) { // what is stored is newer: this one is history
		if !refresh {
			b.queue(pt, value, at, s.Quality)
		}
		return next
	}
	// Quality is stored only while it is not good, and touched only when it
	// changes or when nobody knows what is stored: by the point's last sample,
	// for a HDEL comes after every HSET.
	touch := i == pt.final && (refresh || !pt.settled || pt.quality != s.Quality)
	// Of a point that is in the batch more than once, only the last usable value
	// is stored; messages, alarms and queues have them all.
	store := s.Quality.Usable() && i == pt.usable
	b.channel.add(pt, &pt.id, value, at, s.Quality, store, touch, int(pt.kind))
	for i := range pt.routes {
		r := &pt.routes[i]
		t := &b.models[r.target]
		t.add(pt, &r.name, value, at, s.Quality, store, touch, int(r.kind))
		if store {
			t.current[r.place] = true
			if at == nil {
				t.times = append(t.times, &r.name)
			}
		}
		t.message = appendUpdate(t.message, r.name, *value, pt.text)
		b.alarm(pt, r, judged, s.Quality, touch)
		if refresh {
			continue
		}
		for j := range r.rules {
			if s.Quality.Usable() && !b.seen[r.rules[j]] {
				b.seen[r.rules[j]] = true
				b.rules = append(b.rules, &r.rules[j])
			}
		}
	}
	if !refresh {
		b.queue(pt, value, at, s.Quality)
	}
	// A later sample of the same point in this batch builds on this one.
	pt.advance(s)
	if i == pt.final {
		pt.quality, pt.settled = s.Quality, true
	}
	return next
}

// alarm adds the items of the alarm rules that look at a sample: of the point's
// own with the value, or with the quality where there is no usable value, and of
// those of other points with nothing, for they judge what is stored. What did not
// change the quality is nothing to rules that look at it alone.
func (b *builder) alarm(pt *writerPoint, r *writerRoute, value *string, q model.Quality, touch bool) {
	usable := q.Usable()
	switch {
	case !usable:
		value = judgedQuality(q)
	case pt.text:
		value = &judgeStored
	}
	for j := range r.alarms {
		if a := &r.alarms[j]; touch || usable && !a.quality {
			b.alarms = append(b.alarms, &a.name, value, &a.operator, &a.threshold, &a.hysteresis)
		}
	}
	if !touch && !usable {
		return
	}
	for j := range r.dependents {
		if a := &r.dependents[j]; !b.seen[a.name] {
			b.seen[a.name] = true
			b.others = append(b.others, &a.name, &judgeStored, &a.operator, &a.threshold, &a.hysteresis)
		}
	}
}

// judgeStored is the value of an item that has none.
var judgeStored = ""

// late reports whether the device took the sample before the one that is stored.
func (pt *writerPoint) late(s *model.Sample) bool {
	return !s.Time.IsZero() && s.Time.Before(pt.building)
}

// advance takes the sample's time as the newest. A point that turned bad without
// a time, as when the device is gone, accepts any time afterwards: the device
// may come back with another clock.
func (pt *writerPoint) advance(s *model.Sample) {
	if s.Time.After(pt.building) || s.Time.IsZero() && !s.Quality.Usable() {
		pt.building = s.Time
	}
}

func (b *builder) queue(pt *writerPoint, value, at *string, q model.Quality) {
	b.lines += len(pt.routes)
	for i := range b.queues {
		for j := range pt.routes {
			b.queues[i].packed = appendPacked(b.queues[i].packed, pt.routes[j].packed, *value, at, q, pt.text)
		}
	}
}

func (t *target) add(pt *writerPoint, name, value, at *string, q model.Quality, store, touch bool, kind int) {
	if store {
		if pt.text {
			kind = textKind
		}
		t.values[kind].args = append(t.values[kind].args, name, value)
		if at != nil {
			t.stamps.args = append(t.stamps.args, name, at)
		}
	}
	switch {
	case !touch:
	case q == model.Good:
		t.good.args = append(t.good.args, name)
	default:
		t.quality.args = append(t.quality.args, name, qualityText(q))
	}
}

// The section letters of the batch form.
const (
	sectionSet     = "S"
	sectionDelete  = "D"
	sectionTime    = "T"
	sectionTimeAll = "N"
	sectionStale   = "I"
	sectionPublish = "P"
	sectionQueue   = "X"
	sectionAlarms  = "A"
	sectionRules   = "R"
)

// sections appends what the lists came to: all values first, then alarms and
// rules, and the queues at last: a batch that is made again because the script
// failed on the way (see judge) finds the rest done, but would be queued twice.
func (b *builder) sections(channel *string) {
	b.channel.sections(b)
	for i := range b.models {
		b.models[i].sections(b)
	}
	if n := len(b.stale); n > 0 {
		b.all = append(append(b.all, sectionStale, number64(n)), b.stale...)
	}
	if n := len(b.alarms) + len(b.others); n > 0 {
		b.all = append(append(append(b.all, sectionAlarms, number64(n/5)), b.alarms...), b.others...)
	}
	if n := len(b.rules); n > 0 {
		b.all = append(append(b.all, sectionRules, number64(n)), b.rules...)
	}
	for i := range b.queues {
		q := &b.queues[i]
		if len(q.packed) == 0 {
			continue
		}
		size := int64(len(q.packed)) + 64 // with the entry's own fields
		if q.mean == 0 {
			q.mean = size
		}
		q.mean += (size - q.mean) / 16
		q.entries.set(max(q.limit/max(q.mean, 1), 1))
		q.text = unsafe.String(unsafe.SliceData(q.packed), len(q.packed))
		b.all = append(b.all, sectionQueue, &q.key, &q.entries.text, channel, &q.text)
	}
}

func (t *target) sections(b *builder) {
	for i := range t.values {
		b.section(sectionSet, &t.values[i].key, t.values[i].args, 2)
	}
	t.stampTimes(b)
	b.section(sectionSet, &t.stamps.key, t.stamps.args, 2)
	b.section(sectionSet, &t.quality.key, t.quality.args, 2)
	b.section(sectionDelete, &t.good.key, t.good.args, 1)
	if len(t.message) > 0 {
		b.stale = append(b.stale, &t.cached)
		t.text = unsafe.String(unsafe.SliceData(t.message), len(t.message))
		b.all = append(b.all, sectionPublish, &t.update, &t.text)
	}
}

// stampTimes writes the time of the call for the names that it applies to: once
// for all names of the model where most of them are in the batch, which saves
// half of what a batch writes, with the others as exceptions.
func (t *target) stampTimes(b *builder) {
	if 3*len(t.times) <= 2*len(t.names) {
		b.section(sectionTime, &t.stamps.key, t.times, 1)
		return
	}
	t.others = t.others[:0]
	for i := range t.names {
		if !t.current[i] {
			t.others = append(t.others, &t.names[i])
		}
	}
	b.all = append(append(b.all, sectionTimeAll, &t.stamps.key, number64(len(t.others))), t.others...)
}

func (b *builder) section(letter string, key *string, args []any, width int) {
	if len(args) > 0 {
		b.all = append(append(b.all, letter, key, number64(len(args)/width)), args...)
	}
}

// decimal is a number as an argument. Its text is in digits, and holds until the
// next one is set.
type decimal struct {
	text   string
	digits [20]byte
}

func (d *decimal) set(n int64) {
	d.text = unsafe.String(&d.digits[0], len(strconv.AppendInt(d.digits[:0], n, 10)))
}

// number64 makes an argument of a count without the allocation that boxing a
// larger int would cost for every section.
func number64(n int) any {
	if n < len(smallNumbers) {
		return &smallNumbers[n]
	}
	return strconv.Itoa(n)
}

var smallNumbers = func() (texts [MaxBatch + 1]string) {
	for i := range texts {
		texts[i] = strconv.Itoa(i)
	}
	return texts
}()

var qualityTexts = func() (texts [model.Offline + 1]string) {
	for q := range texts {
		texts[q] = model.Quality(q).String()
	}
	return texts
}()

// judgedQualities are the qualities as the values of alarm items.
var judgedQualities = func() (texts [model.Offline + 1]string) {
	for q := range texts {
		texts[q] = "!" + model.Quality(q).String()
	}
	return texts
}()

func judgedQuality(q model.Quality) *string {
	if int(q) >= len(judgedQualities) {
		q = model.Bad
	}
	return &judgedQualities[q]
}

func qualityText(q model.Quality) *string {
	if int(q) >= len(qualityTexts) {
		q = model.Bad
	}
	return &qualityTexts[q]
}

// appendUpdate appends "name:value" to an update message. In the text of a
// text point, the comma and the per cent sign are written %2C and %25.
func appendUpdate(b []byte, name, value string, text bool) []byte {
	if len(b) > 0 {
		b = append(b, ',')
	}
	b = append(b, name...)
	b = append(b, ':')
	if !text {
		return append(b, value...)
	}
	return appendEscaped(b, value)
}

func appendEscaped(b []byte, value string) []byte {
	for i := range len(value) {
		switch c := value[i]; c {
		case ',':
			b = append(b, "%2C"...)
		case '%':
			b = append(b, "%25"...)
		case '\n':
			b = append(b, "%0A"...)
		case '\t':
			b = append(b, "%09"...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendPacked appends a point of a queue entry, one line each:
// "model:name<TAB>value[<TAB>device time in ms[<TAB>quality]]". An empty time
// means the entry's own. A value that is not usable is the last one before.
func appendPacked(b []byte, name, value string, at *string, q model.Quality, text bool) []byte {
	b = append(b, name...)
	b = append(b, '\t')
	if text {
		b = appendEscaped(b, value)
	} else {
		b = append(b, value...)
	}
	if at != nil || q != model.Good {
		b = append(b, '\t')
		if at != nil {
			b = append(b, *at...)
		}
		if q != model.Good {
			b = append(b, '\t')
			b = append(b, *qualityText(q)...)
		}
	}
	return append(b, '\n')
}
