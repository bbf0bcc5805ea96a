package luabox

import (
	"math"

	lua "github.com/yuin/gopher-lua"
)

// random is the generator of Redis (drand48). Here it starts anew for every
// script, so that a run can be repeated.
type random uint64

func newRandom(seed int32) random { return random(uint64(uint32(seed))<<16 | 0x330E) }

func (r *random) next() int32 {
	*r = (*r*0x5DEECE66D + 0xB) & (1<<48 - 1)
	return int32(*r >> 17)
}

func (b *box) mathRandom(l *lua.LState) int {
	r := float64(b.random.next()%math.MaxInt32) / math.MaxInt32
	low, high := 1, 0
	switch l.GetTop() {
	case 0:
		l.Push(lua.LNumber(r))
		return 1
	case 1:
		high = b.integer(1, "random")
	case 2:
		low, high = b.integer(1, "random"), b.integer(2, "random")
	default:
		b.fail("wrong number of arguments")
	}
	if low > high {
		b.badArgument(l.GetTop(), "random", "interval is empty")
	}
	l.Push(lua.LNumber(math.Floor(r*float64(high-low+1)) + float64(low)))
	return 1
}

func (b *box) mathRandomSeed(*lua.LState) int {
	b.random = newRandom(int32(int64(b.integer(1, "randomseed"))))
	return 0
}
