package modbus

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// thinkTime is what a device takes to begin its answer, for estimates.
const thinkTime = 5 * time.Millisecond

// Advise implements channel.Adviser.
func (d *driver) Advise() []channel.Advice {
	list := d.adviseOverlaps()
	for i, p := range d.setup.Points {
		a := d.items[i]
		if text := adviseLabels(p, a.address); text != "" {
			list = append(list, channel.Advice{Point: p.ID, Field: "labels", Text: text})
		}
		if a.checks != nil {
			for _, b := range []struct {
				field string
				value *float64
			}{{"min", p.Min}, {"max", p.Max}} {
				if b.value != nil && !a.checks.within(*b.value) {
					list = append(list, channel.Advice{Point: p.ID, Field: b.field,
						Text: fmt.Sprintf("%v is outside of the address's range=, so that it could be written and not be read back", *b.value)})
				}
			}
		}
	}
	return append(list, d.advisePeriods()...)
}

// Plausible implements channel.Adviser.
func (d *driver) Plausible(point string) (lo, hi float64, ok bool) {
	i, ok := d.index[point]
	if !ok || d.items[i].checks == nil {
		return 0, 0, false
	}
	c := d.items[i].checks
	return c.min, c.max, !math.IsInf(c.min, 0) || !math.IsInf(c.max, 0)
}

// adviseLabels says that a state is a bare number.
func adviseLabels(p model.Point, a address) string {
	if p.Kind != model.Signal || len(p.Labels) > 0 || p.Text || a.space.bits() || a.typ.truth() {
		return ""
	}
	for word := range strings.FieldsFuncSeq(strings.ToLower(p.Title()), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		switch word { // whole words: a model is no mode
		case "state", "status", "mode":
			return "missing: say what its numbers mean"
		}
	}
	return ""
}

// adviseOverlaps finds points that share registers otherwise than as parts of
// one.
func (d *driver) adviseOverlaps() []channel.Advice {
	order := make([]int, len(d.items)) // the points by address
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareItems(d.items[a], d.items[b]) })
	var list []channel.Advice
	for n, i := range order {
		b := d.items[i]
		// Those before it that reach so far, no further back than the longest type.
		for k := n - 1; k >= 0; k-- {
			a := d.items[order[k]]
			if a.space != b.space || int(a.start)+maxText <= int(b.start) {
				break
			}
			if a.end() <= int(b.start) {
				continue
			}
			first, second := d.setup.Points[min(i, order[k])], d.setup.Points[max(i, order[k])]
			if text := overlap(a.address, b.address, first, second); text != "" {
				list = append(list, channel.Advice{Point: second.ID, Field: "address", Text: text})
			}
		}
	}
	return list
}

// overlap says what is odd about two points that share a register.
func overlap(a, b address, first, second model.Point) string {
	switch {
	case a.start != b.start || a.width() != b.width():
		return fmt.Sprintf("overlaps point %s, %s, in part", first.ID, first.Address)
	case a.typ.partial() || b.typ.partial():
		return ""
	case a.typ != b.typ || a.wordSwap != b.wordSwap || a.byteSwap != b.byteSwap:
		return fmt.Sprintf("is read as another type than by point %s, %s", first.ID, first.Address)
	case first.Kind.Writable() != second.Kind.Writable():
		return "" // what is set, and what it is
	}
	return fmt.Sprintf("is that of point %s too", first.ID)
}

// advisePeriods finds scan classes that a serial line has no time for, even if
// this unit is alone on it.
func (d *driver) advisePeriods() []channel.Advice {
	if d.line.char == 0 || d.member.mute {
		return nil
	}
	classes := map[time.Duration][]item{}
	for i, p := range d.setup.Points {
		if period := d.setup.Period(p); period > 0 {
			classes[period] = append(classes[period], d.items[i])
		}
	}
	var list []channel.Advice
	share := 0.0
	for _, period := range slices.Sorted(maps.Keys(classes)) {
		var sum planSum
		plan := makePlan(classes[period], d.opts.limits)
		for k := range plan {
			sum.add(d, &plan[k])
		}
		need := sum.wire + time.Duration(sum.requests)*thinkTime
		share += need.Seconds() / period.Seconds()
		if share > 1 {
			list = append(list, channel.Advice{Text: fmt.Sprintf(
				"a round of what is read every %s takes %s at %d baud, and with what is read more often the line is busy %.0f %% of the time: read less, or less often",
				period, need.Round(time.Millisecond), d.opts.line.serial.baud, 100*share)})
		}
	}
	return list
}
