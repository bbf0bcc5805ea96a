package channel

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"
)

// Class is one scan class of a channel and the points that have it.
type Class struct {
	// Name is the class's name; empty for that of the channel's Scan.
	Name string
	// Period is the time from one round to the next; 0 for ScanOnce and ScanDemand.
	Period time.Duration
	// Points are the places of its points in Setup.Points.
	Points []int
}

// Title returns Name, or ScanDefault where there is none.
func (c Class) Title() string { return cmp.Or(c.Name, ScanDefault) }

// Classes returns the scan classes in the order in which they go ahead of each
// other: ScanDemand, which is always there, those with a period, the shortest
// first, and ScanOnce. Classes without points are left out, save ScanDemand.
func (s Setup) Classes() []Class {
	classes := []Class{{Name: ScanDemand}}
	places := map[string]int{ScanDemand: 0}
	for i, p := range s.Points {
		at, known := places[p.Scan]
		if !known {
			at = len(classes)
			places[p.Scan] = at
			classes = append(classes, Class{Name: p.Scan, Period: s.Period(p)})
		}
		classes[at].Points = append(classes[at].Points, i)
	}
	rank := func(c Class) int {
		switch {
		case c.Name == ScanDemand:
			return 0
		case c.Period > 0:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(classes, func(a, b Class) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Period, b.Period), cmp.Compare(a.Name, b.Name))
	})
	return classes
}

// Timetable says which scan class a polling driver serves next. It is given the
// time and keeps no clock. Its methods may not be called at the same time.
//
// Every class with a period has a round at once after Start and then keeps to a
// grid, which is shifted by a part of the period that follows from the class and
// the device, so that many devices are not asked in the same instant. Rounds
// that were missed are left out. A class that is due goes ahead of the rest of a
// round of the classes after it; but when a round has ended, one request of
// another class is let through, so that a class which cannot keep its period
// does not hold up the others for ever.
type Timetable struct {
	slots []slot
	turn  uint64 // counts what was picked
	ended int    // the class whose round has just ended, or -1
}

// slot is a class in a timetable.
type slot struct {
	period, shift time.Duration
	due           time.Time // of the next round; zero for none
	grid          time.Time // where the first step of the grid is; zero once it was taken
	begun         bool      // a round is under way
	turn          uint64    // when it was picked last
}

// NewTimetable returns the timetable of classes, which go ahead of each other in
// their order. The device's name makes the shift of the grids; without one there
// is none, and the first round is on the grid.
func NewTimetable(device string, classes []Class) *Timetable {
	t := &Timetable{slots: make([]slot, len(classes)), ended: -1}
	for i, c := range classes {
		t.slots[i] = slot{period: c.Period, shift: shift(device, c)}
	}
	return t
}

// shift returns more than 0 and at most the period.
func shift(device string, c Class) time.Duration {
	if c.Period <= 0 || device == "" {
		return max(c.Period, 0)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(device + "\x00" + c.Name)) // never fails
	x := h.Sum64()
	x ^= x >> 32 // names that differ in the end alone differ in few of the high bits
	x *= 0x9e3779b97f4a7c15
	return 1 + time.Duration((x>>1)%uint64(c.Period))
}

// Start begins anew, as after a connect: the classes with a period, and those
// whose places are given, are due at once, and no round is under way.
func (t *Timetable) Start(now time.Time, once ...int) {
	t.ended = -1
	for i := range t.slots {
		s := &t.slots[i]
		s.begun, s.due, s.grid = false, time.Time{}, time.Time{}
		if s.period > 0 {
			s.due, s.grid = now, now.Add(s.shift)
		}
	}
	for _, i := range once {
		t.slots[i].due = now
	}
}

// Pick returns the place of the class whose next request is to be sent now: one
// with a round under way, or one that is due and whose round begins with that.
// ok is false when there is none.
func (t *Timetable) Pick(now time.Time) (class int, ok bool) {
	class = -1
	for i := range t.slots {
		if s := &t.slots[i]; !s.begun && (s.due.IsZero() || s.due.After(now)) {
			continue
		}
		if t.ended < 0 {
			class = i
			break
		}
		// One request of who waits longest, before the class that had its round.
		if class < 0 || class == t.ended || i != t.ended && t.slots[i].turn < t.slots[class].turn {
			class = i
		}
	}
	t.ended = -1
	if class < 0 {
		return 0, false
	}
	s := &t.slots[class]
	t.turn++
	s.turn = t.turn
	if !s.begun {
		s.begun = true
		s.step(now)
	}
	return class, true
}

// step sets the time of the round after the one that begins now.
func (s *slot) step(now time.Time) {
	switch {
	case s.period <= 0:
		s.due = time.Time{}
		return
	case !s.grid.IsZero():
		s.due, s.grid = s.grid, time.Time{}
	default:
		s.due = s.due.Add(s.period)
	}
	if late := now.Sub(s.due); late >= 0 {
		s.due = s.due.Add((late/s.period + 1) * s.period)
	}
}

// Begun reports whether a round of the class is under way.
func (t *Timetable) Begun(class int) bool { return t.slots[class].begun }

// End ends the round of a class.
func (t *Timetable) End(class int) { t.slots[class].begun, t.ended = false, class }

// Ask has a class be due at a time, or earlier if it is.
func (t *Timetable) Ask(class int, at time.Time) {
	if s := &t.slots[class]; s.due.IsZero() || at.Before(s.due) {
		s.due = at
	}
}

// Wait returns how long it is until a class is due, at most its period; ok is
// false when none ever is.
func (t *Timetable) Wait(now time.Time) (wait time.Duration, ok bool) {
	for i := range t.slots {
		s := &t.slots[i]
		switch {
		case s.begun:
			return 0, true
		case s.due.IsZero():
			continue
		case s.period > 0 && s.due.Sub(now) > s.period:
			s.due = now.Add(s.period) // the clock was set back
		}
		if w := max(s.due.Sub(now), 0); !ok || w < wait {
			wait, ok = w, true
		}
	}
	if wait > 0 {
		t.ended = -1 // nobody waits
	}
	return wait, ok
}
