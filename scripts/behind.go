package scripts

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// A store may go back to older data: in a fail-over to a replica that did not
// have the last moments yet, or after a crash with what the disk had. Two things
// tell: a mapping:version, and the number of a channel's last batch, that are
// lower than they were. Then definitions are put back, and everything that does
// not change any more is sent again.

// behind is what is known of that.
type behind struct {
	pending atomic.Bool  // definitions have to be put back
	falls   atomic.Int64 // how often the store went back

	mu       sync.Mutex
	channels map[string]*storedBatch
}

// storedBatch is the last batch of a lease that the store has acknowledged.
type storedBatch struct {
	epoch  string
	number atomic.Int64
}

// fell notes that the store went back.
func (b *behind) fell() {
	b.pending.Store(true)
	b.falls.Add(1)
}

// watch keeps an eye on the batches of a lease, the channel's newest.
func (b *behind) watch(l Lease) *storedBatch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.channels == nil {
		b.channels = map[string]*storedBatch{}
	}
	s := &storedBatch{epoch: l.Epoch}
	b.channels[l.Channel] = s
	return s
}

// list returns what is watched, with the numbers of this moment.
func (b *behind) list() (channels []string, last []*storedBatch, numbers []int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for channel, s := range b.channels {
		if n := s.number.Load(); n > 0 {
			channels, last, numbers = append(channels, channel), append(last, s), append(numbers, n)
		}
	}
	return channels, last, numbers
}

// catchUp finds out whether the store went back, and puts definitions back that
// it lost by that.
func (p *Plane) catchUp(ctx context.Context) error {
	if _, inside := ctx.Value(restoringKey{}).(restoring); inside {
		return nil // everything is being put back
	}
	if p.plan.Load() != nil {
		if _, err := p.freshPlan(ctx); err != nil {
			return err
		}
	}
	if err := p.lostBatches(ctx); err != nil {
		return err
	}
	if !p.behind.pending.Load() {
		return nil
	}
	p.log.Warn("the store went back to older data, as in a fail-over; restoring this program's definitions", "site", p.options.Site)
	if p.options.Restore != nil {
		if err := p.options.Restore(ctx); err != nil {
			return err
		}
	}
	p.behind.pending.Store(false)
	return nil
}

// lostBatches compares the last batches that were acknowledged with those that
// the store knows of. A channel that another engine owns by now is not ours to
// judge.
func (p *Plane) lostBatches(ctx context.Context) error {
	channels, last, numbers := p.behind.list()
	if len(channels) == 0 {
		return nil
	}
	pipe := p.client.Pipeline()
	fences := make([]*redis.SliceCmd, len(channels))
	for i, channel := range channels {
		fences[i] = pipe.HMGet(ctx, p.keys.channelPart(channel, "fence"), "epoch", "batch")
	}
	_, _ = pipe.Exec(ctx) // each command's own error is looked at
	fell := false
	for i := range channels {
		f, err := fences[i].Result()
		if err != nil {
			if isAnswer(err) {
				continue
			}
			return storeError("reading the last batch of channel "+channels[i], err)
		}
		epoch, _ := f[0].(string)
		text, _ := f[1].(string)
		n, err := strconv.ParseInt(text, 10, 64)
		if epoch == last[i].epoch && err == nil && n < numbers[i] {
			fell = true
			// said once: a channel may never write again, as one that was given back
			last[i].number.CompareAndSwap(numbers[i], n)
		}
	}
	if fell {
		p.behind.fell()
	}
	return nil
}

// olderMapping reports whether a mapping:version is older than one that was seen
// before. Both are numbers that only grow.
func olderMapping(now, before string) bool {
	if now == "" {
		return before != ""
	}
	b, err := strconv.ParseInt(before, 10, 64)
	if err != nil {
		return false
	}
	n, err := strconv.ParseInt(now, 10, 64)
	return err == nil && n < b
}
