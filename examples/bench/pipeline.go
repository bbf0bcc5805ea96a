package main

import (
	"context"
	"strconv"
	"time"

	"github.com/voltageems/voltage/model"
)

// pipeline writes what a batch writes with plain commands: the raw hash, and,
// unless it is bare, the models' hashes with their time stamps, the update
// messages and the history entry. It checks nothing: no owner, no version, no
// alarms. The arguments are kept from batch to batch, as the Writer keeps its
// own, so that the client's cost can be compared.
type pipeline struct {
	name string
	// bare is the raw hash alone. all is a batch of all points, else of every
	// tenth. history appends to the stream.
	bare, all, history bool
}

func (l pipeline) way(b *bench, d *definitions, site string) way {
	client := b.store.Client
	pipes := make([][]*pipe, len(d.channels)) // by channel; each batch is the next one's
	for c := range pipes {
		for _, places := range partsOf(d.points[c], l.all) {
			pipes[c] = append(pipes[c], newPipe(d, site, c, places, l))
		}
	}
	size := len(pipes[0][0].feed.places)
	run := func(ctx context.Context, until time.Time) (int64, error) {
		return repeat(ctx, until, size, func(turn int) error {
			c := turn % len(pipes)
			commands := pipes[c][turn/len(pipes)%len(pipes[c])].next()
			p := client.Pipeline()
			for _, args := range commands {
				p.Do(ctx, args...)
			}
			_, err := p.Exec(ctx)
			return err
		})
	}
	return way{name: l.name, allocations: true, run: run}
}

// pipe has the commands of one channel's batch, with pointers to the texts that
// change.
type pipe struct {
	feed     *feed
	commands [][]any
	values   []string // by place in the batch
	names    []string // the same, without the model
	prefixes []string // the same: "model:name\t"
	ends     []int    // the same: where its value ends in buffer
	models   []span
	packed   string
	now      string
	count    string
	total    int64
	buffer   []byte
}

// span is a model's part of the batch, and its update message.
type span struct {
	from, to int
	message  string
}

func newPipe(d *definitions, site string, channel int, places []int, l pipeline) *pipe {
	prefix := "{" + site + "}:"
	points := d.points[channel]
	p := &pipe{feed: newFeed(points, places)}
	n := len(p.feed.places)
	p.values, p.names, p.prefixes, p.ends = make([]string, n), make([]string, n), make([]string, n), make([]int, n)
	set := []any{"HSET", prefix + "comsrv:" + d.channels[channel] + ":m"}
	for i, s := range p.feed.samples {
		set = append(set, s.Point, &p.values[i])
	}
	p.commands = append(p.commands, set)
	if l.bare {
		return p
	}
	each := n / modelsPerChannel
	p.models = make([]span, modelsPerChannel)
	for m := range p.models {
		p.models[m] = span{from: m * each, to: (m + 1) * each}
		id, _ := d.nameOf(channel, m*pointsPerModel)
		set := []any{"HSET", prefix + "modsrv:" + id + ":measurement"}
		key := prefix + "modsrv:" + id + ":ts"
		times := []any{"HSET", key}
		for i := p.models[m].from; i < p.models[m].to; i++ {
			_, p.names[i] = d.nameOf(channel, p.feed.places[i])
			p.prefixes[i] = id + ":" + p.names[i] + "\t"
			set = append(set, p.names[i], &p.values[i])
			times = append(times, p.names[i], &p.now)
		}
		p.commands = append(p.commands, set)
		if l.all { // one time stands for all names of the model, as in the batch
			p.commands = append(p.commands, []any{"DEL", key})
			times = []any{"HSET", key, "*", &p.now}
		}
		p.commands = append(p.commands, times, []any{"PUBLISH", prefix + "modsrv:" + id + ":update", &p.models[m].message})
	}
	if l.history {
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
	if len(p.models) == 0 {
		return p.commands
	}
	p.now = strconv.FormatInt(time.Now().UnixMilli(), 10)
	for m := range p.models {
		b = b[:0]
		for i := p.models[m].from; i < p.models[m].to; i++ {
			if len(b) > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, p.names[i]...), ':'), p.values[i]...)
		}
		p.models[m].message = string(b)
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
