package virtual

import (
	"sync"

	"github.com/voltageems/voltage/model"
)

// Device is what the driver talks to in place of a real device. It keeps what
// was written, also while nobody is connected, and it has faults. Several
// channels may share one, as two controllers do that stand by for each other;
// their points of the same id are the same setpoint. It is safe for concurrent
// use.
type Device struct {
	mu      sync.Mutex
	offline bool
	refuse  bool
	silent  bool
	breaks  int                      // how often connections broke
	quality map[string]model.Quality // of the points that have one by force
	held    map[string]float64       // setpoints in their unit
	writes  map[string]int           // how often a write to each was acted on
	chosen  map[string]float64       // points that are selected, and for what value
	changed chan struct{}            // closed, and replaced, when who waits has to look again
}

// NewDevice returns a device without faults, for On.
func NewDevice() *Device {
	return &Device{
		quality: map[string]model.Quality{},
		held:    map[string]float64{},
		writes:  map[string]int{},
		chosen:  map[string]float64{},
		changed: make(chan struct{}),
	}
}

// SetOffline breaks every connection and lets new ones fail, until it is
// called with false.
func (d *Device) SetOffline(offline bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if offline && !d.offline {
		d.breaks++
		clear(d.chosen)
	}
	d.offline = offline
	d.wake()
}

// SetSilent lets the device take requests and act on them but answer nothing:
// Read gives an error after each Timeout, and Write ends as Sent.
func (d *Device) SetSilent(silent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = silent
	d.wake()
}

// SetRefuse lets the device refuse every write.
func (d *Device) SetRefuse(refuse bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = refuse
}

// SetQuality gives a point a quality in place of its own. Good takes it back.
func (d *Device) SetQuality(point string, q model.Quality) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q == model.Good {
		delete(d.quality, point)
		return
	}
	d.quality[point] = q
}

// Setpoint returns what a point with a setpoint address holds, in the point's
// unit, and whether there is such a point.
func (d *Device) Setpoint(point string) (float64, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.held[point]
	return v, ok
}

// Writes returns how often the device acted on a write to a point.
func (d *Device) Writes(point string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes[point]
}

// wake is called with the lock held.
func (d *Device) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// initial gives a setpoint its first value, unless it has one.
func (d *Device) initial(point string, value float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.held[point]; !ok {
		d.held[point] = value
	}
}

// state is how the device stands at one moment.
type state struct {
	offline bool
	silent  bool
	breaks  int
	changed <-chan struct{}
}

func (d *Device) state() state {
	d.mu.Lock()
	defer d.mu.Unlock()
	return state{offline: d.offline, silent: d.silent, breaks: d.breaks, changed: d.changed}
}

// answer is what became of a write in the device.
type answer uint8

const (
	unreachable answer = iota
	refused
	unanswered // acted on
	done
)

// write writes on a connection that was made after the given number of breaks.
// With selected the point has to be selected for that value.
func (d *Device) write(breaks int, point string, value float64, selected bool) answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	chosen, ok := d.chosen[point]
	if a, taken := d.take(breaks); !taken {
		return a
	}
	delete(d.chosen, point)
	if selected && (!ok || chosen != value) {
		return d.answer(refused)
	}
	d.held[point] = value
	d.writes[point]++
	return d.answer(done)
}

// choose selects a point for a value.
func (d *Device) choose(breaks int, point string, value float64) answer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a, taken := d.take(breaks); !taken {
		return a
	}
	d.chosen[point] = value
	return d.answer(done)
}

// take reports whether the device takes a request, else what it answers. The
// lock is held.
func (d *Device) take(breaks int) (a answer, taken bool) {
	switch {
	case d.offline || d.breaks != breaks:
		return unreachable, false
	case d.refuse:
		return d.answer(refused), false
	}
	return done, true
}

// answer is what arrives of an answer. The lock is held.
func (d *Device) answer(a answer) answer {
	if d.silent {
		return unanswered
	}
	return a
}

// sample fills one round into out.
func (d *Device) sample(t float64, signals []signal, out []model.Sample) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range signals {
		out[i] = signals[i].sample(t, d.held)
		if q, ok := d.quality[out[i].Point]; ok {
			out[i].Quality = q
		}
	}
}
