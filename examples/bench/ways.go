package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// The names of the ways, as the report has them.
const (
	wayPoint        = "1 per point: HSET + EVALSHA"
	wayBatch        = "2 batch, history"
	wayBatchPlain   = "2 batch, no history"
	wayBatchMany    = "2 batch, history, parallel"
	wayBatchTenth   = "2 batch of a tenth, history"
	wayDirect       = "2 batch, history, direct"
	wayDirectTenth  = "2 batch of a tenth, history, direct"
	wayShadow       = "2 batch, history, shadow"
	wayPipe         = "3 pipeline without Lua, history"
	wayPipePlain    = "3 pipeline without Lua, no history"
	wayPipeTenth    = "3 pipeline of a tenth, history"
	wayBare         = "3 bare HSET of the raw hash"
	historyMaxCount = 500 // entries of the pipeline's stream: about historyBytes
)

// way is one way to write points.
type way struct {
	name string
	// allocations says that the way's allocations per point are of interest.
	allocations bool
	// run writes until a point of time and returns how many points it wrote.
	run func(ctx context.Context, until time.Time) (points int64, err error)
}

// repeat calls step, which writes n points, until the time is over.
func repeat(ctx context.Context, until time.Time, n int, step func(turn int) error) (points int64, err error) {
	for turn := 0; time.Now().Before(until); turn++ {
		if err := ctx.Err(); err != nil {
			return points, err
		}
		if err := step(turn); err != nil {
			return points, err
		}
		points += int64(n)
	}
	return points, nil
}

// perPoint is the obvious way: for each point one HSET, then one EVALSHA of
// data_sync's single-point form, each waited for.
func (b *bench) perPoint(client redis.UniversalClient, d *definitions, site string) (way, error) {
	list, err := scripts.Scripts()
	if err != nil {
		return way{}, err
	}
	var sha string
	for _, s := range list {
		if s.Name == "data_sync" {
			sha = s.SHA
		}
	}
	anchor := []string{"{" + site + "}:anchor"}
	const step = 20 // points between two looks at the clock
	feeds := make([]*feed, len(d.channels))
	raw := make([]string, len(d.channels))
	for c := range feeds {
		feeds[c], raw[c] = newFeed(d.points[c], nil), "{"+site+"}:comsrv:"+d.channels[c]+":m"
	}
	run := func(ctx context.Context, until time.Time) (int64, error) {
		at := 0 // place in the channel's points
		c := 0
		samples := feeds[0].next()
		return repeat(ctx, until, step, func(int) error {
			for _, s := range samples[at : at+step] {
				value := model.FormatValue(s.Value)
				if err := client.HSet(ctx, raw[c], s.Point, value).Err(); err != nil {
					return err
				}
				reply, err := client.EvalSha(ctx, sha, anchor, "c2m", d.channels[c], s.Point, value).StringSlice()
				if err != nil {
					return err
				}
				if len(reply) != 2 || reply[0] != "OK" {
					return fmt.Errorf("c2m of %s:%s answered %q, want OK and one target", d.channels[c], s.Point, reply)
				}
			}
			if at += step; at == len(samples) {
				at, c = 0, (c+1)%len(feeds)
				samples = feeds[c].next()
			}
			return nil
		})
	}
	return way{name: wayPoint, run: run}, nil
}

// batches are the Writers of all channels of a site.
type batches struct {
	plane   *scripts.Plane
	writers []*scripts.Writer
	feeds   [][]*feed // by channel; each batch is the next one's
	turns   []int     // by channel
}

func newBatches(ctx context.Context, p *scripts.Plane, d *definitions) (*batches, error) {
	b := &batches{plane: p}
	for c, id := range d.channels {
		lease, err := p.Acquire(ctx, id, "bench", leaseTime)
		if err != nil {
			return nil, err
		}
		b.writers = append(b.writers, p.NewWriter(lease, d.points[c]))
	}
	return b.of(d, true), nil
}

// of has the same Writers for batches of all points, or of every tenth.
func (b *batches) of(d *definitions, all bool) *batches {
	o := &batches{plane: b.plane, writers: b.writers, turns: make([]int, len(b.writers))}
	for c := range b.writers {
		var feeds []*feed
		for _, places := range partsOf(d.points[c], all) {
			feeds = append(feeds, newFeed(d.points[c], places))
		}
		o.feeds = append(o.feeds, feeds)
	}
	return o
}

// write sends one batch of a channel.
func (b *batches) write(ctx context.Context, channel int) error {
	feeds := b.feeds[channel]
	b.turns[channel]++
	_, warnings, err := b.writers[channel].Write(ctx, feeds[b.turns[channel]%len(feeds)].next(), false)
	if err == nil && len(warnings) > 0 {
		err = fmt.Errorf("data_sync left out %q", warnings[0])
	}
	return err
}

func (b *batches) once(ctx context.Context) error {
	for c := range b.writers {
		if err := b.write(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// size is how many points a batch has.
func (b *batches) size() int { return len(b.feeds[0][0].places) }

func (b *batches) way(name string) way {
	return way{name: name, allocations: true, run: func(ctx context.Context, until time.Time) (int64, error) {
		return repeat(ctx, until, b.size(), func(turn int) error { return b.write(ctx, turn%len(b.writers)) })
	}}
}

// parallel shares the channels out to n goroutines.
func (b *batches) parallel(name string, n int) way {
	all := len(b.writers)
	n = min(n, all)
	return way{name: name, allocations: true, run: func(ctx context.Context, until time.Time) (int64, error) {
		points, errs := make([]int64, n), make([]error, n)
		var group sync.WaitGroup
		for g := range n {
			group.Go(func() {
				own := (all - g + n - 1) / n // channels g, g+n, g+2n, …
				points[g], errs[g] = repeat(ctx, until, pointsPerChannel, func(turn int) error { return b.write(ctx, g+turn%own*n) })
			})
		}
		group.Wait()
		var sum int64
		for g := range n {
			if errs[g] != nil {
				return 0, errs[g]
			}
			sum += points[g]
		}
		return sum, nil
	}}
}
