package runner

import (
	"math"
	"time"

	"github.com/voltageems/voltage/model"
)

// pointState is what was last accepted of a point.
type pointState struct {
	value   float64
	text    string
	quality model.Quality
	known   bool
	time    time.Time // the newest device time
	waiting int       // samples in the queue
	batch   uint64    // the last batch that it was in, and its quality there
	sent    model.Quality
}

// add takes one sample if it says something new. The caller holds mu.
func (q *queue) add(at int, s model.Sample, in *intake) {
	p, st := &q.points[at], &q.states[at]
	s.Point = p.ID // a string that is there anyway, not the driver's
	clean(p, &s)
	if s.Time.IsZero() || !s.Time.Before(st.time) {
		if !s.Time.IsZero() {
			st.time = s.Time
		}
		if st.known && st.quality == s.Quality &&
			(!s.Quality.Usable() || (st.value == s.Value && st.text == s.Text)) {
			return
		}
		if s.Quality.Usable() {
			st.value, st.text = s.Value, s.Text
		}
		st.quality, st.known = s.Quality, true
	} // else it is older than what is known: history, and always sent
	if len(q.waiting)-q.head >= q.limit {
		q.states[q.index[q.waiting[q.head].Point]].waiting--
		q.waiting[q.head] = model.Sample{}
		q.head++
		in.lost++
		in.spilled = in.spilled || !q.spilled
		q.spilled = true
	}
	if q.head > 0 && len(q.waiting) == cap(q.waiting) {
		n := copy(q.waiting, q.waiting[q.head:])
		clear(q.waiting[n:])
		q.waiting, q.head = q.waiting[:n], 0
	}
	q.waiting = append(q.waiting, s)
	st.waiting++
	signal(q.ready)
}

// clean makes of a sample that cannot be stored one of bad quality.
func clean(p *model.Point, s *model.Sample) {
	if s.Quality > model.Offline {
		s.Quality = model.Bad
	}
	switch {
	case p.Text:
		s.Value = 0
	case s.Quality.Usable() && math.IsNaN(s.Value):
		s.Quality = model.Invalid
	case s.Quality.Usable() && !model.Storable(s.Value):
		s.Quality = model.Overflow
	}
	if !p.Text {
		s.Text = ""
	}
	if !s.Quality.Usable() {
		s.Value, s.Text = 0, ""
	}
}

// mark gives all points a bad quality.
func (q *queue) mark(quality model.Quality) (in intake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closing && !q.closed {
		q.markAll(quality, &in)
	}
	return in
}

func (q *queue) markAll(quality model.Quality, in *intake) {
	for i := range q.points {
		q.add(i, model.Sample{Quality: quality}, in)
	}
	q.marked = true
}
