package runner

import (
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// queue is the ordered way of samples from the reader, the watch and Push to
// the sender, and the change filter at its entrance. A refresh repeats values
// that are not waiting anyway, so that it never overtakes a change.
type queue struct {
	points []model.Point
	index  map[string]int // point id → place in points
	limit  int            // the most samples that wait
	ready  chan struct{}  // something changed for the sender
	scans  *scans         // told what arrives; nil for a channel without scan classes

	mu      sync.Mutex
	states  []pointState
	waiting []model.Sample // in order, from head on
	head    int
	flying  []model.Sample // with the sender
	arrived time.Time      // when samples last came
	marked  bool           // all points were marked since
	foreign bool           // a sample of an unknown point was seen
	spilled bool           // samples were dropped since the queue was last empty
	turn    bool           // the refresh is next, so that changes do not starve it
	next    int            // the refresh goes on with this point; -1: there is none
	again   bool           // another refresh was asked for
	batch   uint64         // number of the last batch of changes
	closing bool           // nothing is accepted any more
	closed  bool           // another queue took over
}

// intake says what became of samples that were put in.
type intake struct {
	lost    int    // changes that had to be dropped for them
	spilled bool   // the first ones since the queue was empty
	foreign string // the first sample's point that the channel has not
}

func newQueue(points []model.Point, index map[string]int) *queue {
	return &queue{
		points: points, index: index, limit: max(20*len(points), 10000), ready: make(chan struct{}, 1),
		states: make([]pointState, len(points)), next: -1,
	}
}

// put takes samples. It reports false when the queue takes none any more.
func (q *queue) put(now time.Time, samples []model.Sample) (in intake, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing || q.closed {
		return in, false
	}
	next := 0 // samples mostly come in the order of the points, which saves looking them up
	class := -1
	for i := range samples {
		at, known := next, next < len(q.points) && q.points[next].ID == samples[i].Point
		if !known {
			at, known = q.index[samples[i].Point]
		}
		next = at + 1
		if !known {
			if !q.foreign {
				q.foreign, in.foreign = true, samples[i].Point
			}
			continue
		}
		q.add(at, samples[i], &in)
		q.arrived, q.marked = now, false
		if q.scans != nil {
			class = q.scans.arrived(at, class, now)
		}
	}
	return in, true
}

// silent marks all points when no samples came for limit. It returns how long
// it is until then, and whether they are marked.
func (q *queue) silent(now time.Time, limit time.Duration, quality model.Quality) (left time.Duration, marked bool, in intake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left = q.arrived.Add(limit).Sub(now)
	if left > 0 || q.closing || q.closed {
		return left, false, in
	}
	if !q.marked {
		q.markAll(quality, &in)
	}
	return limit, true, in
}

// begin starts a session: what waits stays, and everything that is known and
// does not wait goes again, as a change.
func (q *queue) begin(now time.Time) (in intake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.arrived, q.marked = now, false
	for i := range q.states {
		if st := &q.states[i]; st.known && st.waiting == 0 {
			s := q.current(i)
			st.known = false
			q.add(i, s, &in)
		}
	}
	return in
}

// current is the sample that repeats what is known of a point.
func (q *queue) current(i int) model.Sample {
	st := &q.states[i]
	s := model.Sample{Point: q.points[i].ID, Quality: st.quality}
	if st.quality.Usable() {
		s.Value, s.Text, s.Time = st.value, st.text, st.time
	}
	return s
}

// take moves up to a batch of samples into buf. refresh is whether they repeat
// what was sent. over is true when the queue is closing and nothing is left.
func (q *queue) take(buf []model.Sample) (batch []model.Sample, refresh, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return buf, false, true
	}
	left := len(q.waiting) - q.head
	if q.next >= 0 && (q.turn || left == 0) {
		q.turn = false
		if buf = q.repeat(buf); len(buf) > 0 {
			return buf, true, false
		}
	}
	if left == 0 {
		return buf, false, q.closing
	}
	q.batch++
	next := 0 // as in put
	for _, s := range q.waiting[q.head:min(len(q.waiting), q.head+scripts.MaxBatch)] {
		at := next
		if at >= len(q.points) || q.points[at].ID != s.Point {
			at = q.index[s.Point]
		}
		next = at + 1
		st := &q.states[at]
		if st.batch == q.batch && st.sent != s.Quality {
			break // a batch knows one quality of a point
		}
		st.batch, st.sent = q.batch, s.Quality
		st.waiting--
		buf = append(buf, s)
	}
	n := len(buf)
	clear(q.waiting[q.head : q.head+n])
	q.head += n
	q.turn = true
	if q.head == len(q.waiting) {
		q.emptied()
	}
	q.flying = buf
	return buf, false, false
}

// emptied makes the space usable again, or gives it back after an outage.
func (q *queue) emptied() {
	q.waiting, q.head = q.waiting[:0], 0
	if cap(q.waiting) > max(4096, 4*len(q.points)) {
		q.waiting = nil
	}
	if q.spilled {
		q.spilled = false
		q.askRefresh()
	}
}

// repeat fills buf with the next values of the refresh.
func (q *queue) repeat(buf []model.Sample) []model.Sample {
	for q.next >= 0 && len(buf) < scripts.MaxBatch {
		if q.next == len(q.states) {
			if !q.again {
				q.next = -1
				break
			}
			q.next, q.again = 0, false
			if len(buf) > 0 {
				break // what is in buf already is not to be in it twice
			}
			continue
		}
		if st := &q.states[q.next]; st.known && st.waiting == 0 {
			buf = append(buf, q.current(q.next))
		}
		q.next++
	}
	return buf
}

// refresh asks for everything to be repeated.
func (q *queue) refresh() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.askRefresh()
	signal(q.ready)
}

func (q *queue) askRefresh() {
	switch {
	case q.closing:
	case q.next < 0:
		q.next = 0
	case q.next > 0:
		q.again = true
	}
}

// done says that the batch is stored, or given up.
func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flying = nil
}

// forget drops everything that waits and that is known, and returns how many
// changes are lost by that.
func (q *queue) forget() (lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lost = len(q.waiting) - q.head
	q.waiting, q.head, q.next, q.again, q.spilled = nil, 0, -1, false, false
	clear(q.states)
	return lost
}

// finish marks all points offline and takes nothing any more.
func (q *queue) finish() (in intake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closing && !q.closed {
		q.markAll(model.Offline, &in)
		q.closing, q.next, q.again = true, -1, false
	}
	signal(q.ready)
	return in
}

// left returns how many changes are not stored.
func (q *queue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) - q.head + len(q.flying)
}

// successor ends the queue and returns another one that begins with what this
// one knows and did not store. What was with the sender comes first: if it was
// stored after all, the store has it twice.
func (q *queue) successor() *queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := newQueue(q.points, q.index)
	n.closing, n.batch, n.scans = q.closing, q.batch, q.scans
	n.states, q.states = q.states, make([]pointState, len(q.points))
	n.waiting = append(append(n.waiting, q.flying...), q.waiting[q.head:]...)
	for i := range q.flying {
		n.states[q.index[q.flying[i].Point]].waiting++
	}
	n.foreign, n.spilled = q.foreign, q.spilled
	q.closed, q.waiting, q.head, q.flying = true, nil, 0, nil
	signal(q.ready)
	return n
}
