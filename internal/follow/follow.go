// Package follow reads a journal of the store from a position, without gaps.
package follow

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// page is how many entries are read at a time.
const page = 200

// poll is how long to wait when no hint comes: hints may be lost.
const poll = time.Second

// Journal is a stream of entries. Positions are Redis stream ids, "ms-sequence",
// which grow; "" is before the first.
type Journal[T any] struct {
	Read     func(ctx context.Context, after string, limit int) ([]T, error)
	Position func(T) string
	// End is the position of the newest entry, "0" for an empty journal.
	End func(ctx context.Context) (string, error)
	// Generation tells the data apart from what was there before a loss.
	Generation func() string
}

// Follow calls fn for every entry after a position, in order, until ctx ends.
// Reading fails quietly and is tried again: the engine reports that the store is
// away. wake hints that there is something new.
func (j Journal[T]) Follow(ctx context.Context, after string, wake <-chan struct{}, fn func(T)) {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	generation := j.Generation()
	for ctx.Err() == nil {
		entries, err := j.Read(ctx, after, page)
		if err == nil {
			for _, e := range entries {
				if ctx.Err() != nil {
					return
				}
				fn(e)
				after = j.Position(e)
			}
			if len(entries) > 0 {
				generation = j.Generation()
			}
			if len(entries) == page {
				continue
			}
		}
		timer.Reset(poll)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
			if err == nil && len(entries) == 0 {
				after = j.restart(ctx, after, generation)
			}
		}
	}
}

// Resume returns where a reader goes on that has stored a position, perhaps long
// ago: behind that, and where that is not kept any more, with the oldest that is. A
// journal that ends before the position is not the one that was read, and all of
// it counts as new.
func (j Journal[T]) Resume(ctx context.Context, position string) (string, error) {
	end, err := j.End(ctx)
	if err != nil {
		return "", err
	}
	if before(end, position) {
		return "", nil
	}
	return position, nil
}

// restart returns where to go on. A journal that ends before the position is not
// the one that was read: after a loss everything in it is new, and a clock that
// was set back would hide it; in a store that went back to older data, what is
// left of it was seen.
func (j Journal[T]) restart(ctx context.Context, after, generation string) string {
	end, err := j.End(ctx)
	if err != nil || !before(end, after) {
		return after
	}
	if j.Generation() != generation {
		return ""
	}
	return end
}

// before compares positions.
func before(a, b string) bool {
	am, as := parts(a)
	bm, bs := parts(b)
	return am < bm || am == bm && as < bs
}

func parts(position string) (ms, sequence uint64) {
	m, s, _ := strings.Cut(position, "-")
	ms, _ = strconv.ParseUint(m, 10, 64) // what cannot be read is the beginning
	sequence, _ = strconv.ParseUint(s, 10, 64)
	return ms, sequence
}
