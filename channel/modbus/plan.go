package modbus

import (
	"cmp"
	"slices"
)

// item is one point in the plan.
type item struct {
	address
	sample         int // index of the point, and of its sample
	factor, offset float64
	trend          *trend // of points with a limit of their rate, else nil
}

func (i item) end() int { return int(i.start) + i.width() }

// span is one read request and the items that it brings, in rising order.
type span struct {
	space space
	start int
	count int // registers, or bits of coils and discretes
	items []item
	quiet int // how often in turn it was not answered, though the unit answers others
	trial     // in the round under way
}

// trial is what became of a span in a round so far.
type trial struct {
	origin int  // its place in the class's plan, or -1
	tries  int  // after the first
	alone  bool // it goes without others
	lost   bool // its answer was missing among those to others that went with it
}

// limits bound the spans of a plan.
type limits struct {
	maxRead int // registers in one request; 16 times as many bits
	maxGap  int // registers that may be read for nothing between two items
}

// For coils and discretes a register's worth is 16 bits.
func (l limits) in(s space) (size, gap int) {
	if s.bits() {
		return l.maxRead * 16, l.maxGap * 16
	}
	return l.maxRead, l.maxGap
}

// makePlan returns the fewest requests that read every item within the limits:
// it goes through each table in rising order and lets a request grow while the
// next item is near enough and fits in. Items are never cut in two. The spans
// share one sorted copy of items.
func makePlan(items []item, l limits) []span {
	items = slices.Clone(items)
	slices.SortStableFunc(items, compareItems)
	var plan []span
	for first := 0; first < len(items); {
		size, gap := l.in(items[first].space)
		start, end := int(items[first].start), items[first].end()
		next := first + 1
		for ; next < len(items); next++ {
			i := items[next]
			if i.space != items[first].space || int(i.start)-end > gap || max(end, i.end())-start > size {
				break
			}
			end = max(end, i.end())
		}
		plan = append(plan, newSpan(items[first:next]))
		first = next
	}
	return plan
}

func compareItems(a, b item) int {
	return cmp.Or(cmp.Compare(a.space, b.space), cmp.Compare(a.start, b.start), cmp.Compare(a.width(), b.width()))
}

// newSpan returns the request that reads just the items, which are sorted and
// of one space.
func newSpan(items []item) span {
	s := span{space: items[0].space, start: int(items[0].start), items: items}
	for _, i := range items {
		s.count = max(s.count, i.end()-s.start)
	}
	return s
}

// split cuts a span in two of about as many different addresses each. It
// returns nil when the span is one address, though maybe of several points
// (bits of one register).
func (s span) split() []span {
	var cuts []int
	for k := 1; k < len(s.items); k++ {
		if a, b := s.items[k-1], s.items[k]; a.start != b.start || a.width() != b.width() {
			cuts = append(cuts, k)
		}
	}
	if len(cuts) == 0 {
		return nil
	}
	cut := cuts[len(cuts)/2]
	return []span{newSpan(s.items[:cut:cut]), newSpan(s.items[cut:])}
}
