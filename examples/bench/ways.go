package main

import (
	"context"
	"fmt"
	"strconv"
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
	wayPipe         = "3 pipeline without Lua, history"
	wayPipePlain    = "3 pipeline without Lua, no history"
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
		feeds[c], raw[c] = newFeed(d.points[c]), "{"+site+"}:comsrv:"+d.channels[c]+":m"
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
	writers []*scripts.Writer
	feeds   []*feed
}

func newBatches(ctx context.Context, p *scripts.Plane, d *definitions) (*batches, error) {
	b := &batches{}
	for c, id := range d.channels {
		lease, err := p.Acquire(ctx, id, "bench", leaseTime)
		if err != nil {
			return nil, err
		}
		b.writers = append(b.writers, p.NewWriter(lease, d.points[c]))
		b.feeds = append(b.feeds, newFeed(d.points[c]))
	}
	return b, nil
}

// write sends one batch, all points of one channel.
func (b *batches) write(ctx context.Context, channel int) error {
	_, warnings, err := b.writers[channel].Write(ctx, b.feeds[channel].next(), false)
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

func (b *batches) way(name string) way {
	return way{name: name, allocations: true, run: func(ctx context.Context, until time.Time) (int64, error) {
		return repeat(ctx, until, pointsPerChannel, func(turn int) error { return b.write(ctx, turn%len(b.writers)) })
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

// pipeline writes what a batch writes with plain commands: the raw hash, and,
// unless it is bare, the models' hashes with their time stamps, the update
// messages and the history entry. It checks nothing: no owner, no version, no
// alarms. The arguments are kept from batch to batch, as the Writer keeps its
// own, so that the client's cost can be compared.
func (b *bench) pipeline(d *definitions, site, name string, bare, history bool) way {
	client := b.store.Client
	pipes := make([]*pipe, len(d.channels))
	for c := range pipes {
		pipes[c] = newPipe(d, site, c, bare, history)
	}
	run := func(ctx context.Context, until time.Time) (int64, error) {
		return repeat(ctx, until, pointsPerChannel, func(turn int) error {
			commands := pipes[turn%len(pipes)].next()
			p := client.Pipeline()
			for _, args := range commands {
				p.Do(ctx, args...)
			}
			_, err := p.Exec(ctx)
			return err
		})
	}
	return way{name: name, allocations: true, run: run}
}

// pipe has the commands of one channel's batch, with pointers to the texts that
// change.
type pipe struct {
	feed     *feed
	commands [][]any
	values   []string // by point
	names    []string // by point, without the model
	messages []string // by model
	packed   string
	now      string
	count    string
	total    int64
	prefixes []string // by point: "model:name\t"
	buffer   []byte
	ends     []int // by point: where its value ends in buffer
}

func newPipe(d *definitions, site string, channel int, bare, history bool) *pipe {
	prefix := "{" + site + "}:"
	points := d.points[channel]
	p := &pipe{feed: newFeed(points), values: make([]string, len(points)), names: make([]string, len(points)), prefixes: make([]string, len(points)),
		messages: make([]string, modelsPerChannel), ends: make([]int, len(points))}
	set := []any{"HSET", prefix + "comsrv:" + d.channels[channel] + ":m"}
	for i := range points {
		set = append(set, points[i].ID, &p.values[i])
	}
	p.commands = append(p.commands, set)
	if bare {
		return p
	}
	for m := range modelsPerChannel {
		id, _ := d.nameOf(channel, m*pointsPerModel)
		set := []any{"HSET", prefix + "modsrv:" + id + ":measurement"}
		// the batch has every name of the model, so that one time stands for all
		times := prefix + "modsrv:" + id + ":ts"
		for i := m * pointsPerModel; i < (m+1)*pointsPerModel; i++ {
			_, p.names[i] = d.nameOf(channel, i)
			p.prefixes[i] = id + ":" + p.names[i] + "\t"
			set = append(set, p.names[i], &p.values[i])
		}
		p.commands = append(p.commands, set, []any{"DEL", times}, []any{"HSET", times, "*", &p.now}, []any{"PUBLISH", prefix + "modsrv:" + id + ":update", &p.messages[m]})
	}
	if history {
		p.commands = append(p.commands, []any{"XADD", prefix + "hissrv:queue", "MAXLEN", "~", strconv.Itoa(historyMaxCount), "*",
			"v", "1", "channel", d.channels[channel], "time", &p.now, "count", &p.count, "points", &p.packed})
	}
	return p
}

func (p *pipe) next() [][]any {
	b := p.buffer[:0]
	for i, s := range p.feed.next() {
		b = model.AppendValue(b, s.Value)
		p.ends[i] = len(b)
	}
	all, at := string(b), 0
	for i, end := range p.ends {
		p.values[i], at = all[at:end], end
	}
	p.buffer = b
	if len(p.commands) == 1 {
		return p.commands
	}
	p.now = strconv.FormatInt(time.Now().UnixMilli(), 10)
	for m := range p.messages {
		b = b[:0]
		for i := m * pointsPerModel; i < (m+1)*pointsPerModel; i++ {
			if len(b) > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, p.names[i]...), ':'), p.values[i]...)
		}
		p.messages[m] = string(b)
	}
	b = b[:0]
	for i := range p.values {
		b = append(append(append(b, p.prefixes[i]...), p.values[i]...), '\n')
	}
	p.total += int64(len(p.values))
	p.packed, p.count = string(b), strconv.FormatInt(p.total, 10)
	p.buffer = b
	return p.commands
}
