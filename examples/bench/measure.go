package main

import (
	"bufio"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// figure is the median and the range of several rounds.
type figure struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func figureOf(values []float64) figure {
	if len(values) == 0 {
		return figure{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return figure{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// row is what was measured of one way, round by round.
type row struct {
	Way string `json:"way"`
	// Points a second.
	Points figure `json:"points_per_second"`
	// Redis and Client are CPU µs a point; zero where they cannot be told.
	Redis  figure `json:"redis_cpu_us_per_point"`
	Client figure `json:"client_cpu_us_per_point"`
	// Allocations a point, and bytes of them.
	Allocations *figure `json:"allocations_per_point,omitempty"`
	Bytes       *figure `json:"allocated_bytes_per_point,omitempty"`

	points, redis, client []float64 // by round, for ratios within a round
}

type rows []*row

func (r rows) get(way string) *row {
	for _, row := range r {
		if row.Way == way {
			return row
		}
	}
	return &row{}
}

// rounds measures ways in turns: A B C A B C …
func (b *bench) rounds(ctx context.Context, ways []way, slice time.Duration, redisCPU func(context.Context) (time.Duration, error)) (rows, error) {
	list := make(rows, len(ways))
	allocations, bytes := make([][]float64, len(ways)), make([][]float64, len(ways))
	for i, w := range ways {
		list[i] = &row{Way: w.name}
		// unmeasured: connections, buffers, resolved mappings and caches
		if _, err := w.run(ctx, time.Now().Add(slice/4)); err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	for round := range b.options.rounds {
		b.say("round %d of %d …", round+1, b.options.rounds)
		for i, w := range ways {
			m, err := measure(ctx, w, slice, redisCPU)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			r := list[i]
			r.points = append(r.points, float64(m.points)/m.took.Seconds())
			r.redis = append(r.redis, m.perPoint(m.redis))
			r.client = append(r.client, m.perPoint(m.client))
			allocations[i] = append(allocations[i], float64(m.allocations)/float64(m.points))
			bytes[i] = append(bytes[i], float64(m.bytes)/float64(m.points))
		}
	}
	for i, w := range ways {
		r := list[i]
		r.Points, r.Redis, r.Client = figureOf(r.points), figureOf(r.redis), figureOf(r.client)
		if w.allocations {
			a, n := figureOf(allocations[i]), figureOf(bytes[i])
			r.Allocations, r.Bytes = &a, &n
		}
	}
	return list, nil
}

// measured is one measurement of one way.
type measured struct {
	points        int64
	took          time.Duration
	redis, client time.Duration // CPU time
	allocations   uint64
	bytes         uint64
}

func (m measured) perPoint(cpu time.Duration) float64 {
	return float64(cpu) / float64(time.Microsecond) / float64(m.points)
}

// measure runs one way. Nothing else runs in this process meanwhile, so its CPU
// time is the way's, garbage collection included.
func measure(ctx context.Context, w way, slice time.Duration, redisCPU func(context.Context) (time.Duration, error)) (m measured, err error) {
	runtime.GC() // what the way before left is not this one's to collect
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	redisBefore, err := redisCPU(ctx)
	if err != nil {
		return m, err
	}
	clientBefore, start := processCPU(), time.Now()
	if m.points, err = w.run(ctx, start.Add(slice)); err != nil {
		return m, err
	}
	m.took = time.Since(start)
	m.client = processCPU() - clientBefore
	redisAfter, err := redisCPU(ctx)
	if err != nil {
		return m, err
	}
	runtime.ReadMemStats(&after)
	m.redis = redisAfter - redisBefore
	m.allocations, m.bytes = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	if m.points == 0 {
		return m, fmt.Errorf("no point was written in %s", slice)
	}
	return m, nil
}

// redisCPU returns the CPU time, user and system, that the server has used:
// that of its main thread where the server tells it, else that of the process.
func redisCPU(client redis.UniversalClient) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		info, err := infoOf(ctx, client, "cpu")
		if err != nil {
			return 0, err
		}
		user, system := "used_cpu_user_main_thread", "used_cpu_sys_main_thread"
		if info[user] == "" {
			user, system = "used_cpu_user", "used_cpu_sys"
		}
		return infoCPU(info, user, system)
	}
}

// infoCPU returns the sum of two CPU times of INFO.
func infoCPU(info map[string]string, user, system string) (time.Duration, error) {
	u, err := strconv.ParseFloat(info[user], 64)
	if err != nil {
		return 0, fmt.Errorf("INFO cpu has no readable %s", user)
	}
	s, err := strconv.ParseFloat(info[system], 64)
	if err != nil {
		return 0, fmt.Errorf("INFO cpu has no readable %s", system)
	}
	return time.Duration((u + s) * float64(time.Second)), nil
}

// infoOf returns the fields of a section of INFO.
func infoOf(ctx context.Context, client redis.UniversalClient, section string) (map[string]string, error) {
	text, err := client.Info(ctx, section).Result()
	if err != nil {
		return nil, err
	}
	info := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			info[name] = value
		}
	}
	return info, lines.Err()
}
