package voltage

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/voltageems/voltage/model"
)

// alarmRules looks for alarms that can never be.
func (l *linter) alarmRules() {
	for i, a := range l.layout.Alarms {
		p := loadPath{"alarms", i}
		point, ok := l.named(a.Point)
		if !ok {
			continue
		}
		byQuality := a.Limits == nil && (a.Operator == model.IsStale || a.Operator == model.BadQuality)
		if point.Text && !byQuality {
			l.fail(p.with("point"), "%s is a text, which has no number to compare", a.Point)
		}
		if a.Message == "" {
			l.fail(p, "message: missing: say in words what is wrong")
		}
		if a.Hysteresis > 0 && a.Limits == nil && slices.Contains(model.AlarmOperators(), a.Operator) && !a.Operator.TakesHysteresis() {
			l.fail(p.with("hysteresis"), "has no meaning with %s", a.Operator)
		}
		if a.Limits != nil {
			for _, limit := range []struct {
				name  string
				value *float64
			}{{"hihi", a.Limits.HiHi}, {"hi", a.Limits.Hi}, {"lo", a.Limits.Lo}, {"lolo", a.Limits.LoLo}} {
				if limit.value != nil {
					l.outside(p.with("limits", limit.name), a.Point, *limit.value)
				}
			}
		} else {
			l.condition(p, a, point)
		}
		if e := a.Enable; e != nil {
			if other, ok := l.named(e.Point); ok {
				if other.Text {
					l.fail(p.with("enable", "point"), "%s is a text, which has no number to compare", e.Point)
				}
				l.outside(p.with("enable", "threshold"), e.Point, e.Threshold)
			}
		}
		l.timing(p, a, point)
	}
}

// named returns the point of a name, unless it has faults.
func (l *linter) named(name string) (model.Point, bool) {
	id, ok := l.byName[name]
	if !ok || l.table.broken[l.table.index[id]] {
		return model.Point{}, false
	}
	return l.table.points[l.table.index[id]], true
}

// condition looks at the condition of an alarm.
func (l *linter) condition(p loadPath, a loadAlarm, point model.Point) {
	switch a.Operator {
	case model.InRange:
		for lo, hi := range l.plausible(a.Point) {
			if a.High < lo || a.Threshold > hi {
				l.fail(p.with("threshold"), "%v to high, %v, is outside of what the address of %s takes for plausible, %v to %v", a.Threshold, a.High, a.Point, lo, hi)
			}
		}
	case model.OutOfRange:
		for lo, hi := range l.plausible(a.Point) {
			if a.Threshold <= lo && a.High >= hi {
				l.fail(p.with("threshold"), "%v to high, %v, has all that the address of %s takes for plausible, %v to %v", a.Threshold, a.High, a.Point, lo, hi)
			}
		}
	case model.Deviation:
		l.deviation(p, a)
	case model.Rate:
		window := cmp.Or(a.Window, model.DefaultRateWindow)
		for lo, hi := range l.plausible(a.Point) {
			if most := (hi - lo) / window.Seconds(); a.Threshold >= most {
				l.fail(p.with("threshold"), "%v a second: within %s what the address of %s takes for plausible, %v to %v, gives %v at most", a.Threshold, window, a.Point, lo, hi, most)
			}
		}
	case model.BitSet, model.BitClear:
		if point.Factor() != 1 || point.Offset != 0 {
			l.fail(p.with("operator"), "%s: %s has a scale or an offset, so that its bits are not the device's", a.Operator, a.Point)
		}
		for _, hi := range l.plausible(a.Point) {
			if bit := math.Exp2(a.Threshold); a.Operator == model.BitSet && bit > hi {
				l.fail(p.with("threshold"), "bit %v is %v, which is outside of what the address of %s takes for plausible, up to %v", a.Threshold, bit, a.Point, hi)
			}
		}
	default:
		if a.Operator.Valid() {
			l.outside(p.with("threshold"), a.Point, a.Threshold)
		}
	}
}

// deviation looks at an alarm that compares two points.
func (l *linter) deviation(p loadPath, a loadAlarm) {
	other, ok := l.named(a.Reference)
	if !ok {
		return
	}
	switch point, _ := l.named(a.Point); {
	case other.Text:
		l.fail(p.with("reference"), "%s is a text, which has no number to compare", a.Reference)
	case point.Unit != other.Unit:
		l.fail(p.with("reference"), "%s is in %q and %s in %q", a.Point, point.Unit, a.Reference, other.Unit)
	}
	for lo, hi := range l.plausible(a.Point) {
		for otherLo, otherHi := range l.plausible(a.Reference) {
			if most := max(hi-otherLo, otherHi-lo); a.Threshold >= most {
				l.fail(p.with("threshold"), "%v: what the addresses of %s and %s take for plausible differs by %v at most", a.Threshold, a.Point, a.Reference, most)
			}
		}
	}
}

// timing looks for conditions that nobody sees coming true, because the point is
// not read often enough.
func (l *linter) timing(p loadPath, a loadAlarm, point model.Point) {
	every := l.layout.Scan
	if point.Scan != "" {
		every = l.layout.Scans[point.Scan]
	}
	if every <= 0 {
		return // the channel's, or on demand
	}
	window := a.Window
	if a.Operator == model.Rate {
		window = cmp.Or(window, model.DefaultRateWindow)
		if window < every {
			l.fail(p.with("window"), "%s: %s is read every %s, so that no change is seen within it", window, a.Point, every)
		}
		return
	}
	// In between it has to be seen that the condition is over.
	if least := 2 * time.Duration(a.Count-1) * every; a.Count > 1 && window < least {
		l.fail(p.with("window"), "%s: %s is read every %s, so that a count of %d takes %s at least", window, a.Point, every, a.Count, least)
	}
}

// outside reports a number that a value is compared with and never reaches.
func (l *linter) outside(p loadPath, name string, v float64) {
	for lo, hi := range l.plausible(name) {
		if v < lo || v > hi {
			l.fail(p, "%v is outside of what the address of %s takes for plausible, %v to %v", v, name, lo, hi)
		}
	}
}

// plausible yields what the drivers take for plausible values of a point.
func (l *linter) plausible(name string) func(yield func(lo, hi float64) bool) {
	return func(yield func(lo, hi float64) bool) {
		for _, d := range l.advisers {
			if lo, hi, ok := d.Plausible(l.byName[name]); ok && !yield(lo, hi) {
				return
			}
		}
	}
}
