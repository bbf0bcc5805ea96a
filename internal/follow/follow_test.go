package follow

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// journal is a stream in memory.
type journal struct {
	mu         sync.Mutex
	entries    []string
	generation string
}

func (j *journal) set(generation string, entries ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.generation, j.entries = generation, entries
}

func (j *journal) source() Journal[string] {
	return Journal[string]{
		Read: func(_ context.Context, after string, limit int) (list []string, err error) {
			j.mu.Lock()
			defer j.mu.Unlock()
			for _, e := range j.entries {
				if before(after, e) && len(list) < limit {
					list = append(list, e)
				}
			}
			return list, nil
		},
		Position: func(e string) string { return e },
		End: func(context.Context) (string, error) {
			j.mu.Lock()
			defer j.mu.Unlock()
			if len(j.entries) == 0 {
				return "0", nil
			}
			return j.entries[len(j.entries)-1], nil
		},
		Generation: func() string {
			j.mu.Lock()
			defer j.mu.Unlock()
			return j.generation
		},
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	j := &journal{}
	j.set("a", "5-0", "10-1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, wake, done := make(chan string, 100), make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		j.source().Follow(ctx, "5-0", wake, func(e string) { got <- e })
	}()
	require.Equal(t, "10-1", <-got)
	j.set("a", "5-0", "10-1", "10-2")
	wake <- struct{}{}
	require.Equal(t, "10-2", <-got)
	// the data was lost and the clock set back: all of it is new
	j.set("b", "3-0", "4-0")
	require.Equal(t, "3-0", <-got)
	require.Equal(t, "4-0", <-got)
	cancel()
	<-done
}

func TestRestart(t *testing.T) {
	t.Parallel()
	j := &journal{}
	j.set("a", "5-0", "7-3")
	s := j.source()
	require.Equal(t, "7-3", s.restart(t.Context(), "7-3", "a"))
	require.Equal(t, "7-3", s.restart(t.Context(), "7-12", "a"), "a store that went back: what is left was seen")
	require.Empty(t, s.restart(t.Context(), "7-12", "before"), "data that was lost: what is there is new")
	require.Equal(t, "2-0", s.restart(t.Context(), "2-0", "before"))
}

func TestResume(t *testing.T) {
	t.Parallel()
	j := &journal{}
	s := j.source()
	resume := func(position string) string {
		t.Helper()
		from, err := s.Resume(t.Context(), position)
		require.NoError(t, err)
		return from
	}
	require.Empty(t, resume("5-0"), "an empty journal")
	j.set("a", "5-0", "7-3")
	require.Empty(t, resume(""))
	require.Equal(t, "1-0", resume("1-0"), "older than what is kept")
	require.Equal(t, "7-3", resume("7-3"))
	require.Empty(t, resume("7-4"), "another journal: all of it is new")
	s.End = func(context.Context) (string, error) { return "", context.DeadlineExceeded }
	_, err := s.Resume(t.Context(), "5-0")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
