package runner

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

var day = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testQueue(n int) *queue {
	points, index := make([]model.Point, n), map[string]int{}
	for i := range points {
		points[i].ID = fmt.Sprint(i)
		index[points[i].ID] = i
	}
	return newQueue(points, index)
}

func put(t testing.TB, q *queue, samples ...model.Sample) intake {
	in, ok := q.put(day, samples)
	require.True(t, ok)
	return in
}

func texts(samples []model.Sample) (list []string) {
	for _, s := range samples {
		text := fmt.Sprintf("%s=%v", s.Point, s.Value)
		if s.Quality != model.Good {
			text = s.Point + " " + s.Quality.String()
		}
		list = append(list, text)
	}
	return list
}

// all takes everything; refreshes are marked with a star.
func all(q *queue) (list []string) {
	for {
		batch, refresh, _ := q.take(nil)
		if len(batch) == 0 {
			return list
		}
		q.done()
		for _, text := range texts(batch) {
			if refresh {
				text = "*" + text
			}
			list = append(list, text)
		}
	}
}

func TestQueuePassesChangesInOrder(t *testing.T) {
	t.Parallel()
	q := testQueue(3)
	put(t, q, sample("0", 1), sample("1", 5), sample("0", 1), sample("0", 2), sample("0", 1))
	require.Equal(t, []string{"0=1", "1=5", "0=2", "0=1"}, all(q))
	put(t, q, sample("0", 1), sample("1", 5))
	require.Empty(t, all(q))
	put(t, q, model.Sample{Point: "0", Value: 1, Quality: model.Uncertain}, model.Sample{Point: "1", Quality: model.Invalid, Value: math.NaN()},
		model.Sample{Point: "1", Quality: model.Invalid, Value: 9})
	require.Equal(t, []string{"0 uncertain", "1 invalid"}, all(q))
	put(t, q, sample("1", 5))
	require.Equal(t, []string{"1=5"}, all(q), "the same value, good again")
}

func TestQueueCleansWhatCannotBeStored(t *testing.T) {
	t.Parallel()
	q := testQueue(5)
	put(t, q, sample("0", math.NaN()), sample("1", math.Inf(1)), sample("2", -1e300), model.Sample{Point: "3", Value: 1, Quality: 77})
	require.Equal(t, []string{"0 invalid", "1 overflow", "2 overflow", "3 bad"}, all(q))
	in := put(t, q, sample("x", 1), sample("y", 1))
	require.Equal(t, "x", in.foreign)
	require.Empty(t, put(t, q, sample("x", 1)).foreign, "said once")
	require.Empty(t, all(q))
}

func TestQueueLateSamplesAreHistory(t *testing.T) {
	t.Parallel()
	q := testQueue(1)
	at := func(v float64, seconds int) model.Sample {
		return model.Sample{Point: "0", Value: v, Time: day.Add(time.Duration(seconds) * time.Second)}
	}
	put(t, q, at(1, 10), at(2, 5), at(2, 5), at(1, 11))
	require.Equal(t, []string{"0=1", "0=2", "0=2"}, all(q))
	q.refresh()
	require.Equal(t, []string{"*0=1"}, all(q), "the newest is what is known")
}

func TestQueueOverflow(t *testing.T) {
	t.Parallel()
	q := testQueue(3)
	put(t, q, sample("2", 42))
	lost, spilled := 0, 0
	for i := range q.limit + 10 {
		in := put(t, q, sample(fmt.Sprint(i%2), float64(i)))
		lost += in.lost
		if in.spilled {
			spilled++
		}
	}
	require.Equal(t, 11, lost)
	require.Equal(t, 1, spilled, "said once")
	list := all(q)
	require.Len(t, list, q.limit+3)
	require.Equal(t, "0=10", list[0], "the oldest went")
	require.ElementsMatch(t, []string{fmt.Sprintf("*0=%d", q.limit+8), fmt.Sprintf("*1=%d", q.limit+9), "*2=42"},
		list[q.limit:], "and a refresh tells what is true now")
	require.Nil(t, q.waiting, "the space is given back")
}

func TestQueueRefreshDoesNotOvertake(t *testing.T) {
	t.Parallel()
	q := testQueue(1200)
	for i := range 1200 {
		put(t, q, sample(fmt.Sprint(i), 1))
	}
	require.Len(t, all(q), 1200)
	q.refresh()
	put(t, q, sample("0", 2), sample("1100", 2))
	batch, refresh, _ := q.take(nil)
	require.True(t, refresh, "changes do not starve it")
	require.Len(t, batch, scripts.MaxBatch)
	require.NotContains(t, texts(batch), "0=2", "what waits as a change is not repeated before it")
	batch, refresh, _ = q.take(nil)
	require.False(t, refresh, "nor does it hold up changes")
	require.Equal(t, []string{"0=2", "1100=2"}, texts(batch))
	q.done()
	q.refresh() // in the middle of one: again from the start
	list := all(q)
	require.Contains(t, list, "*1100=2")
	require.Contains(t, list, "*0=2")
	require.Len(t, list, 1200-scripts.MaxBatch-1+1200)
}

func TestQueueSilence(t *testing.T) {
	t.Parallel()
	q := testQueue(2)
	q.begin(day)
	put(t, q, sample("0", 1))
	left, marked, _ := q.silent(day.Add(2*time.Second), 3*time.Second, model.Stale)
	require.Equal(t, time.Second, left)
	require.False(t, marked)
	_, marked, _ = q.silent(day.Add(3*time.Second), 3*time.Second, model.Stale)
	require.True(t, marked)
	_, marked, _ = q.silent(day.Add(4*time.Second), 3*time.Second, model.Stale)
	require.True(t, marked)
	q.mark(model.Offline)
	q.mark(model.Offline)
	q.silent(day.Add(9*time.Second), 3*time.Second, model.Stale)
	require.Equal(t, []string{"0=1", "0 stale", "1 stale", "0 offline", "1 offline"}, all(q))
}

func TestQueueSuccessor(t *testing.T) {
	t.Parallel()
	q := testQueue(3)
	put(t, q, sample("0", 1))
	require.Equal(t, []string{"0=1"}, all(q))
	put(t, q, sample("1", 1), sample("1", 2))
	batch, _, _ := q.take(nil) // not stored
	put(t, q, sample("1", 3))
	n := q.successor()
	require.Len(t, batch, 2)
	_, ok := q.put(day, []model.Sample{sample("2", 1)})
	require.False(t, ok)
	_, _, over := q.take(nil)
	require.True(t, over)
	n.begin(day)
	require.Equal(t, []string{"1=1", "1=2", "1=3", "0=1"}, all(n), "what was not stored, then the rest of what is known")
	put(t, n, sample("1", 3))
	require.Empty(t, all(n))

	put(t, n, sample("1", 4))
	require.Equal(t, 1, n.forget())
	n.begin(day)
	require.Empty(t, all(n))
	put(t, n, sample("1", 4))
	n.finish()
	_, ok = n.put(day, []model.Sample{sample("2", 1)})
	require.False(t, ok)
	require.Equal(t, []string{"1=4", "0 offline", "1 offline", "2 offline"}, all(n))
	_, _, over = n.take(nil)
	require.True(t, over)
}

func TestQueueAllocatesNothingInSteadyState(t *testing.T) {
	q := testQueue(400)
	samples := make([]model.Sample, 400)
	buf := make([]model.Sample, 0, scripts.MaxBatch)
	v := 0.0
	step := func() {
		v++
		for i := range samples {
			samples[i] = sample(q.points[i].ID, v)
		}
		q.put(day, samples)
		buf, _, _ = q.take(buf[:0])
		q.done()
	}
	step()
	require.Zero(t, testing.AllocsPerRun(100, step))
	require.Len(t, buf, 400)
}
