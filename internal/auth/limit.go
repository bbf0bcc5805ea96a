package auth

import (
	"container/list"
	"sync"
	"time"

	"github.com/voltageems/voltage/model"
)

// maxCounted is how many addresses and names are counted at once. Who was not seen
// for longest is forgotten first.
const maxCounted = 4096

// Limiter is a token bucket for each of many: burst tokens at most, of which rate
// come back every second. It is bounded, and safe for use by many goroutines.
type Limiter struct {
	clock       model.Clock
	rate, burst float64

	mu     sync.Mutex
	counts map[string]*list.Element
	order  *list.List // of *count, the latest first
}

type count struct {
	who  string
	left float64
	at   time.Time
}

// NewLimiter returns a full Limiter. Rate must be above zero.
func NewLimiter(clock model.Clock, rate, burst float64) *Limiter {
	return &Limiter{clock: clock, rate: rate, burst: burst, counts: map[string]*list.Element{}, order: list.New()}
}

// Take takes a token. When there is none it returns how long it takes until there is.
func (l *Limiter) Take(who string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.of(who)
	if c.left < 1 {
		return l.until(c)
	}
	c.left--
	return 0
}

// wait returns how long it takes until there is a token, and takes none.
func (l *Limiter) wait(who string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.counts[who]; !ok {
		return 0
	}
	if c := l.of(who); c.left < 1 {
		return l.until(c)
	}
	return 0
}

func (l *Limiter) until(c *count) time.Duration {
	return max(time.Duration((1-c.left)/l.rate*float64(time.Second)), time.Millisecond)
}

// of returns the count of somebody as it is now. The caller holds mu.
func (l *Limiter) of(who string) *count {
	now := l.clock.Now()
	e, ok := l.counts[who]
	if !ok {
		if l.order.Len() >= maxCounted {
			last := l.order.Back()
			delete(l.counts, last.Value.(*count).who)
			l.order.Remove(last)
		}
		e = l.order.PushFront(&count{who, l.burst, now})
		l.counts[who] = e
	}
	l.order.MoveToFront(e)
	c := e.Value.(*count)
	if passed := now.Sub(c.at); passed > 0 { // a clock that was set back gives nothing
		c.left = min(l.burst, c.left+passed.Seconds()*l.rate)
	}
	c.at = now
	return c
}
