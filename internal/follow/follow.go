// Package follow reads a stream of the store from a position, without gaps.
package follow

import (
	"context"
	"time"
)

// page is how many entries are read at a time.
const page = 200

// poll is how long to wait when no hint comes: hints may be lost.
const poll = time.Second

// Stream calls fn for every entry after a position, in order, until ctx ends.
// Reading fails quietly and is tried again: the store's owner reports that it is
// away. wake hints that there is something new.
func Stream[T any](ctx context.Context, after string, wake <-chan struct{},
	read func(ctx context.Context, after string, limit int) ([]T, error), position func(T) string, fn func(T)) {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for ctx.Err() == nil {
		entries, err := read(ctx, after, page)
		if err == nil {
			for _, e := range entries {
				if ctx.Err() != nil {
					return
				}
				fn(e)
				after = position(e)
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
		}
	}
}
