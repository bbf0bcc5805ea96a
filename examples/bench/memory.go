package main

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
)

// memory is what the site takes, in bytes.
type memory struct {
	Points int64 `json:"points"`
	// Redis, by what takes it: definitions (points, models, mappings, alarm
	// rules), current values (raw hash, model hash, time stamps), and one
	// history entry of each point.
	Definitions int64 `json:"redis_definitions"`
	Values      int64 `json:"redis_values"`
	History     int64 `json:"redis_history_per_change"`
	// The Go heap: the resolved plan, and the Writers with their buffers.
	Plan    int64 `json:"heap_plan"`
	Writers int64 `json:"heap_writers"`
}

// memory builds a site in steps and looks at what each took.
func (b *bench) memory(ctx context.Context) (*memory, error) {
	d := newDefinitions(b.channels)
	site := b.name + "-memory"
	// The scripts and the connections' buffers are no part of the points.
	plane, err := b.newPlane(ctx, b.store.Client, b.name+"-first", 0)
	if err != nil {
		return nil, err
	}
	if err := plane.PutPoints(ctx, "first", d.points[0]); err != nil {
		return nil, err
	}
	if plane, err = b.newPlane(ctx, b.store.Client, site, 0); err != nil {
		return nil, err
	}
	m := memory{Points: int64(d.size())}
	var errs [4]error
	var used [4]int64
	used[0], errs[0] = b.usedMemory(ctx)
	if err := d.put(ctx, plane); err != nil {
		return nil, err
	}
	used[1], errs[1] = b.usedMemory(ctx)

	before := heap()
	if _, err := plane.Models(ctx); err != nil { // loads the plan
		return nil, err
	}
	planned := heap()
	batch, err := newBatches(ctx, plane, d)
	if err != nil {
		return nil, err
	}
	if err := batch.once(ctx); err != nil {
		return nil, err
	}
	written := heap()
	runtime.KeepAlive(batch)
	runtime.KeepAlive(plane)
	used[2], errs[2] = b.usedMemory(ctx)

	withHistory, err := b.newPlane(ctx, b.store.Client, site, historyBytes)
	if err != nil {
		return nil, err
	}
	if batch, err = newBatches(ctx, withHistory, d); err != nil {
		return nil, err
	}
	if err := batch.once(ctx); err != nil {
		return nil, err
	}
	used[3], errs[3] = b.usedMemory(ctx)
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	m.Definitions, m.Values, m.History = used[1]-used[0], used[2]-used[1], used[3]-used[2]
	m.Plan, m.Writers = planned-before, written-planned
	return &m, nil
}

func (b *bench) usedMemory(ctx context.Context) (int64, error) {
	info, err := infoOf(ctx, b.store.Client, "memory")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(info["used_memory"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("INFO memory has no readable used_memory")
	}
	return n, nil
}

// heap returns the live bytes of the heap.
func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC() // the second one frees what the first one's finalizers and pools held
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
