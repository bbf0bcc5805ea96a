package northbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

const (
	// coalesce is how long after a read of a model the next one begins at the
	// soonest: changes that come in between are read together.
	coalesce = 50 * time.Millisecond
	// checkPeriod is how often the map is compared with the models of the site.
	checkPeriod = 5 * time.Second
	// maxProblems is how many problems are reported one by one.
	maxProblems = 20
)

// refresher keeps an image up to date.
type refresher struct {
	image *image
	north channel.Northbound
	clock model.Clock
	log   *slog.Logger
	told  func(problems ...string)

	began    time.Time
	checked  time.Time
	failing  int // how many sources cannot be read
	problems []string

	mu     sync.Mutex // guards next of the sources
	models map[string][]*source
	wake   chan struct{}
}

func newRefresher(im *image, n channel.Northbound, s channel.ServerSetup) *refresher {
	now := s.Clock.Now()
	r := &refresher{image: im, north: n, clock: s.Clock, log: s.Log, told: s.Report, began: now, checked: now,
		models: map[string][]*source{}, wake: make(chan struct{}, 1)}
	for _, from := range im.sources {
		if from.model != "" { // under its name, and among all
			r.models[from.model] = []*source{from}
			r.models[""] = append(r.models[""], from)
		}
	}
	return r
}

// changed notes that a model is to be read again; all, where it is empty.
func (r *refresher) changed(modelID string) {
	list := r.models[modelID]
	if len(list) == 0 {
		return
	}
	now := r.clock.Now()
	r.mu.Lock()
	for _, s := range list {
		soon := s.begun.Add(coalesce)
		if soon.Before(now) {
			soon = now
		}
		if soon.Before(s.next) {
			s.next = soon
		}
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// due returns the source to be read first, and how long that still is.
func (r *refresher) due() (*source, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.image.sources[0]
	for _, s := range r.image.sources[1:] {
		if s.next.Before(first.next) {
			first = s
		}
	}
	return first, first.next.Sub(r.clock.Now())
}

// run reads until ctx ends. One source after the other, so that the store is
// never asked for everything at once.
func (r *refresher) run(ctx context.Context) {
	for ctx.Err() == nil {
		s, wait := r.due()
		if wait > 0 {
			select {
			case <-ctx.Done():
			case <-r.wake:
			case <-r.clock.After(wait):
			}
			continue
		}
		r.read(ctx, s)
		if now := r.clock.Now(); now.Sub(r.checked) >= checkPeriod && r.failing < len(r.image.sources) {
			r.checked = now
			r.check(ctx, now)
		}
	}
}

// read reads one source. What cannot be read does not keep the others waiting.
func (r *refresher) read(ctx context.Context, s *source) {
	o := r.image.opts
	period := o.refresh
	if s.model != "" {
		period = o.stale / 3 // a sign of life; changes come by Watch
	}
	r.mu.Lock()
	begun := r.clock.Now()
	s.begun, s.next = begun, begun.Add(period)
	r.mu.Unlock()
	bound, cancel := context.WithTimeout(ctx, min(o.stale/2, 5*time.Second))
	defer cancel()
	var values map[string]model.Value
	var err error
	if s.model != "" {
		values, err = r.north.Values(bound, s.model)
	} else {
		values, err = r.north.ChannelValues(bound, s.channel)
	}
	if errors.Is(err, channel.ErrNoModel) {
		err = nil // it is known for certain that there are no values
	}
	if ctx.Err() != nil {
		return
	}
	r.image.set(s, values, begun, err == nil)
	r.mu.Lock()
	if again := r.clock.Now().Add(time.Second); err != nil && s.next.After(again) {
		s.next = again
	}
	r.mu.Unlock()
	r.tell(s, err)
}

// tell logs the first source that cannot be read, and that all can be again.
func (r *refresher) tell(s *source, err error) {
	switch {
	case err != nil && !s.failing:
		s.failing = true
		if r.failing++; r.failing == 1 {
			r.log.Warn("values cannot be read; they are not shown for longer than the time in stale",
				"model", s.model, "channel", s.channel, "stale", r.image.opts.stale, "error", err)
		}
	case err == nil && s.failing:
		s.failing = false
		if r.failing--; r.failing == 0 {
			r.log.Info("values can be read again")
		}
	}
}

// check reports what the map names and the site does not have.
func (r *refresher) check(ctx context.Context, now time.Time) {
	bound, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := r.north.Models(bound)
	if err != nil {
		return // reading values fails as well, and says so
	}
	models := map[string]model.Instance{}
	for _, m := range list {
		models[m.ID] = m
	}
	var problems []string
	r.image.mu.RLock()
	for _, p := range r.image.layout.points {
		if why := r.wrong(p, models, now); why != "" {
			problems = append(problems, p.String()+": "+why)
		}
	}
	r.image.mu.RUnlock()
	if more := len(problems) - maxProblems; more > 0 {
		problems = append(problems[:maxProblems], fmt.Sprintf("the map: %d more rows are like these", more))
	}
	if !slices.Equal(problems, r.problems) {
		r.problems = problems
		r.told(problems...)
	}
}

// wrong says what keeps a row from ever showing something.
func (r *refresher) wrong(p *point, models map[string]model.Instance, now time.Time) string {
	v, known := p.from.values[p.name]
	if p.channel != "" {
		// The definitions of channels are not at hand, so only time tells.
		if !known && now.Sub(r.began) > r.image.opts.stale {
			return "there is no such point, or it never had a value"
		}
	} else {
		m, ok := models[p.model]
		if !ok {
			return "there is no such model"
		}
		kind, bound := model.Measurement, false
		for _, k := range model.Kinds() {
			if _, ok := m.Bindings(k)[p.name]; ok {
				kind, bound = k, true
			}
		}
		switch {
		case !bound:
			return "the model has no such point"
		case p.write && !kind.Writable():
			return fmt.Sprintf("it is written by clients, and a %s cannot be", kind)
		}
	}
	if known && v.Text != "" && p.field == FieldValue && !p.address.Text() {
		return "it is text, and the address " + p.address.String() + " is of a number"
	}
	return ""
}
