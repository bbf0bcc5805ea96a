//go:build linux

package soak

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// fault is what happens to a request or its answer.
type fault int

const (
	none fault = iota
	// Of requests.
	requestLost
	requestLate
	requestCut
	requestGarbage // before it
	exception      // in place of carrying it out
	// Of answers.
	lost
	late
	overtaken // late, and later answers go ahead; TCP only
	cut
	cutAndClosed
	split
	splitLong // with pauses
	twice
	foreignUnit
	wrongLength
	wrongFunction
	wrongTransaction // TCP only
	corrupt          // RTU only, where the checksum tells
	garbageBefore
	garbageAfter
	garbageInstead
	halfClosed
	reset
	stall
	faults
)

var faultNames = [...]string{
	"none", "request lost", "request late", "request cut", "request garbage", "exception", "lost", "late", "overtaken", "cut",
	"cut and closed", "split", "split long", "twice", "foreign unit", "wrong length", "wrong function", "wrong transaction",
	"corrupt", "garbage before", "garbage after", "garbage instead", "half closed", "reset", "stall",
}

func (f fault) String() string { return faultNames[f] }

// dice chooses faults.
type dice struct {
	rtu bool
	// With several requests under way the next answer would make a cut one whole.
	pipelined bool
	timeout   time.Duration // of the drivers' requests

	mu     sync.Mutex
	r      *rand.Rand
	rate   float64 // how many requests meet a fault, 0 to 1
	favour fault   // every other fault is this one; none for no favour
	calm   bool    // no faults
	counts [faults]int
}

// weather changes the rate and the favour.
func (d *dice) weather() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calm = false
	d.rate = []float64{0.02, 0.1, 0.3, 0.6}[d.r.IntN(4)]
	d.favour = fault(d.r.IntN(int(faults)))
	return fmt.Sprintf("%g of the requests meet a fault, often %q", d.rate, d.favour)
}

func (d *dice) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calm = true
}

// report returns how often each fault was.
func (d *dice) report() (text string, missing []fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for f := none + 1; f < faults; f++ {
		if d.possible(f) && d.counts[f] == 0 {
			missing = append(missing, f)
		}
		text += fmt.Sprintf("%s %d, ", f, d.counts[f])
	}
	return text, missing
}

func (d *dice) possible(f fault) bool {
	if d.rtu {
		return f != overtaken && f != wrongTransaction
	}
	return f != corrupt && (f != cut || !d.pipelined)
}

// roll returns the fault of one request.
func (d *dice) roll() fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calm || d.r.Float64() >= d.rate {
		return none
	}
	f := d.favour
	if f == none || d.r.IntN(2) == 0 {
		f = 1 + fault(d.r.IntN(int(faults)-1))
	}
	if (f == stall || f == reset || f == halfClosed) && d.r.IntN(3) > 0 || !d.possible(f) {
		f = none
	}
	d.counts[f]++
	return f
}

func (d *dice) int(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

func (d *dice) bytes(most int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := make([]byte, 1+d.r.IntN(most))
	for k := range b {
		b[k] = byte(d.r.IntN(256))
	}
	return b
}

// lateness is from just below the timeout to several times of it.
func (d *dice) lateness() time.Duration {
	return d.timeout*9/10 + time.Duration(d.int(int(d.timeout*5/2)))
}

// refusal returns an exception as the answer to a request.
func (d *dice) refusal(request []byte) (answer []byte, code byte) {
	codes := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	code = byte(1 + d.int(255))
	if d.int(8) > 0 {
		code = codes[d.int(len(codes))]
	}
	if d.rtu {
		return seal([]byte{request[0], request[1] | 0x80, code, 0, 0}), code
	}
	answer = append(slices.Clone(request[:header]), request[header]|0x80, code)
	answer[4], answer[5] = 0, 3
	return answer, code
}

// forge returns the answer with a fault in what it says. With RTU, where
// nothing but its name tells an answer from another, a right checksum is only
// put under names that no request of the drivers has.
func (d *dice) forge(f fault, answer []byte) []byte {
	b := slices.Clone(answer)
	if !d.rtu {
		switch f {
		case foreignUnit:
			b[6] ^= byte(1 + d.int(255))
		case wrongFunction:
			b[header] ^= byte(1 + d.int(255))
		case wrongTransaction:
			b[0] ^= 0x40
		case wrongLength:
			switch n := 1 + d.int(3); d.int(4) {
			case 0: // the header says less than comes
				b[5] -= byte(n)
			case 1: // or more
				b[5] += byte(n)
			case 2: // the count of bytes is wrong, or the echo
				b[header+1] += byte(n)
			case 3: // all agree on a length that nobody asked for
				b = append(b, make([]byte, 2*n)...)
				b[header+1] += byte(2 * n)
				binary.BigEndian.PutUint16(b[4:], uint16(len(b)-header+1))
			}
		}
		return b
	}
	right := d.int(2) == 0
	switch f {
	case corrupt: // up to 16 bits that lie together, which the checksum always finds
		at := d.int(len(b) - 1)
		v := uint16(1 + d.int(1<<16-1))
		b[at] ^= byte(v >> 8)
		b[at+1] ^= byte(v)
		return b
	case foreignUnit:
		if b[0] ^= 1; right {
			b[0] = byte(100 + d.int(100))
		}
	case wrongFunction:
		if b[1] ^= byte(1 + d.int(7)); right {
			b[1] = []byte{7, 8, 17, 20, 24, 43, 65}[d.int(7)]
		}
	case wrongLength:
		if b[2] += byte(1 + 2*d.int(3)); right && b[1] <= 4 {
			n := 33 + 2*d.int(20) // odd, and longer than any answer with bits
			b = append([]byte{b[0], b[1], byte(n)}, make([]byte, n+2)...)
		}
	}
	if right {
		return seal(b)
	}
	return b
}
