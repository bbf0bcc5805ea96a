package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ledger reads the history stream as it goes and checks every value in it
// against what was pushed: the turns of each point, one after the other, each
// once.
type ledger struct {
	client redis.UniversalClient
	key    string
	places map[string]int // "model:name" → channel × pointsPerChannel + place in it
	turns  []int64        // by the same: the last turn that was read
	counts map[string]int64

	// Read is how many of the load's values the stream had. Missing are turns
	// that it passed over, Repeated those that came again or too late, Wrong what
	// was never pushed.
	Read     int64 `json:"read"`
	Missing  int64 `json:"missing"`
	Repeated int64 `json:"repeated"`
	Wrong    int64 `json:"wrong"`
	// Gaps are entries whose cumulative count does not follow from the one before.
	Gaps int64 `json:"count_gaps"`
}

func newLedger(client redis.UniversalClient, site string, d *definitions) *ledger {
	l := &ledger{client: client, key: "{" + site + "}:hissrv:queue", places: map[string]int{}, turns: make([]int64, d.size()), counts: map[string]int64{}}
	for c := range d.channels {
		for p := range d.points[c] {
			m, name := d.nameOf(c, p)
			l.places[m+":"+name] = c*pointsPerChannel + p
		}
	}
	return l
}

const (
	ledgerEntries = 64
	ledgerWait    = 100 * time.Millisecond
)

// follow reads until ctx ends and the stream is read to the end.
func (l *ledger) follow(ctx context.Context) error {
	io := context.WithoutCancel(ctx)
	position := "0"
	for {
		over := ctx.Err() != nil
		result, err := l.client.XRead(io, &redis.XReadArgs{Streams: []string{l.key, position}, Count: ledgerEntries, Block: ledgerWait}).Result()
		switch {
		case errors.Is(err, redis.Nil):
			if over {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("reading the history: %w", err)
		}
		for _, entry := range result[0].Messages {
			l.entry(entry.Values)
			position = entry.ID
		}
		// what is checked goes, so that the stream never reaches its bound
		if err := l.client.XTrimMinID(io, l.key, position).Err(); err != nil {
			return fmt.Errorf("trimming the history: %w", err)
		}
	}
}

func (l *ledger) entry(values map[string]any) {
	text := func(name string) string { s, _ := values[name].(string); return s }
	lines := int64(0)
	for line := range strings.SplitSeq(strings.TrimSuffix(text("points"), "\n"), "\n") {
		lines++
		name, value, _ := strings.Cut(line, "\t")
		at, ok := l.places[name]
		if !ok {
			continue // a probe's
		}
		l.Read++
		place := at % pointsPerChannel
		v, err := strconv.ParseFloat(value, 64) // fails where a quality follows, which was not pushed either
		turn := turnOf(v, place)
		if err != nil || turn < 1 || valueOf(turn, place) != v {
			l.Wrong++
			continue
		}
		switch last := l.turns[at]; {
		case turn <= last:
			l.Repeated++
			continue
		case turn > last+1:
			l.Missing += turn - last - 1
		}
		l.turns[at] = turn
	}
	count, err := strconv.ParseInt(text("count"), 10, 64)
	channel := text("channel")
	if err != nil || count != l.counts[channel]+lines {
		l.Gaps++
	}
	l.counts[channel] = count
}

// close counts what was pushed and never came.
func (l *ledger) close(feeds []*feed) {
	for at, last := range l.turns {
		l.Missing += max(feeds[at/pointsPerChannel].turn-last, 0)
	}
}
