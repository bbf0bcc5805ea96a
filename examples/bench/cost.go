package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// statistics is what the statistics of the scripts cost the data path. They are
// always on, so that there is no way without them to compare with; they are
// measured by themselves instead.
type statistics struct {
	// Call is what the library adds to one call of a script, in ns: its counting,
	// and the building of a few arguments, which are not counted apart.
	Call figure `json:"call_ns"`
	// Redis and Client are CPU µs of one FlushStats.
	Redis  float64 `json:"flush_redis_cpu_us"`
	Client float64 `json:"flush_client_cpu_us"`
	// RedisShare and ClientShare are the parts, in percent, of what the batches
	// cost at full load, with a flush every 5 s.
	RedisShare  float64 `json:"redis_cpu_percent"`
	ClientShare float64 `json:"client_cpu_percent"`
	Goal        goal    `json:"goal"`
}

const (
	flushPeriod = 5 * time.Second // of the engine
	flushes     = 200             // in one measurement
	targetStats = 3.0             // percent
)

// statistics measures with the history site, whose batches cost what row says.
func (b *bench) statistics(ctx context.Context, row *row) (*statistics, error) {
	b.say("cost of statistics …")
	var s statistics
	var err error
	if s.Call, err = b.countingCost(ctx); err != nil {
		return nil, err
	}
	if s.Redis, s.Client, err = b.flushCost(ctx); err != nil {
		return nil, err
	}
	perSecond := 1 / flushPeriod.Seconds()
	// CPU µs that the batches use in a second; one call has a whole batch
	redis, client := row.Points.Median*row.Redis.Median, row.Points.Median*row.Client.Median
	calls := row.Points.Median / pointsPerChannel
	if redis > 0 {
		s.RedisShare = 100 * s.Redis * perSecond / redis
	}
	if client > 0 {
		s.ClientShare = 100 * (s.Call.Median/1000*calls + s.Client*perSecond) / client
	}
	worst := max(s.RedisShare, s.ClientShare)
	s.Goal = goal{Name: "target <", Value: targetStats, Met: worst < targetStats}
	return &s, nil
}

// instant answers every command at once, as the script would, without a server.
type instant struct {
	args  []any // of the last command
	reply []any
}

func (i *instant) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i *instant) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (i *instant) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		i.args = cmd.Args()
		if c, ok := cmd.(*redis.Cmd); ok {
			c.SetVal(i.reply)
		}
		return nil
	}
}

// countingCost compares, in turns, calls of a script through the library with
// the same calls through the client alone, both on a client that answers at once.
func (b *bench) countingCost(ctx context.Context) (figure, error) {
	hook := &instant{reply: []any{"OK"}}
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0"}) // never dialled
	defer client.Close()
	client.AddHook(hook)
	p, err := scripts.New(client, scripts.Options{Site: b.name, Log: b.log})
	if err != nil {
		return figure{}, err
	}
	lease := scripts.Lease{Channel: "1001", Engine: "bench", Epoch: "1"}
	with := func() error { return p.Renew(ctx, lease, leaseTime) }
	if err := with(); err != nil {
		return figure{}, err
	}
	args := slices.Clone(hook.args)
	without := func() error {
		cmd := redis.NewCmd(ctx, args...)
		_ = client.Process(ctx, cmd) // the error is cmd's
		_, err := cmd.StringSlice()
		return err
	}
	perCall := func(call func() error) (float64, error) {
		const atOnce = 100
		start, n := time.Now(), 0
		for time.Since(start) < b.slice()/10 {
			for range atOnce {
				if err := call(); err != nil {
					return 0, err
				}
			}
			n += atOnce
		}
		return float64(time.Since(start)) / float64(n), nil
	}
	differences := make([]float64, b.options.rounds)
	for i := range differences {
		a, err := perCall(with)
		if err != nil {
			return figure{}, err
		}
		c, err := perCall(without)
		if err != nil {
			return figure{}, err
		}
		differences[i] = max(a-c, 0)
	}
	return figureOf(differences), nil
}

// flushCost is the CPU µs of one FlushStats of which two scripts have something
// to tell: that of calls with it less that of the same calls without.
func (b *bench) flushCost(ctx context.Context) (redisMicros, clientMicros float64, err error) {
	p := b.sites.history.plane
	lease, err := p.Acquire(ctx, b.sites.d.channels[0], "bench", leaseTime)
	if err != nil {
		return 0, 0, err
	}
	w := p.NewWriter(lease, b.sites.d.points[0])
	one := []model.Sample{{Point: b.sites.d.points[0][0].ID}}
	cpu := redisCPU(b.store.Client)
	run := func(flush bool) (redis, client time.Duration, err error) {
		before, err := cpu(ctx)
		if err != nil {
			return 0, 0, err
		}
		own := processCPU()
		for range flushes {
			one[0].Value++
			if _, _, err := w.Write(ctx, one, false); err != nil {
				return 0, 0, err
			}
			if err := p.Renew(ctx, lease, leaseTime); err != nil {
				return 0, 0, err
			}
			if flush {
				if err := p.FlushStats(ctx); err != nil {
					return 0, 0, err
				}
			}
		}
		own = processCPU() - own
		after, err := cpu(ctx)
		return after - before, own, err
	}
	var server, client []float64
	for range b.options.rounds {
		r1, c1, err := run(true)
		if err != nil {
			return 0, 0, err
		}
		r0, c0, err := run(false)
		if err != nil {
			return 0, 0, err
		}
		server = append(server, float64((r1-r0)/time.Nanosecond)/1000/flushes)
		client = append(client, float64((c1-c0)/time.Nanosecond)/1000/flushes)
	}
	return max(figureOf(server).Median, 0), max(figureOf(client).Median, 0), nil
}

func (s *statistics) text(b *bytes.Buffer) {
	fmt.Fprintln(b, "\nStatistics of the scripts, which are always on")
	table(b, func(w io.Writer) {
		fmt.Fprintf(w, "around one call, at most\t%s ns\n", s.Call.format("%.0f"))
		fmt.Fprintf(w, "one FlushStats, every %.0f s\t%.0f µs of Redis CPU, %.0f µs of client CPU\n", flushPeriod.Seconds(), s.Redis, s.Client)
		word := verdict(strings.TrimSpace(s.Goal.Name), s.Goal.Value, max(s.RedisShare, s.ClientShare), s.Goal.Met)
		fmt.Fprintf(w, "part of what batches with history cost at full load\t%.3f %% of Redis CPU, %.3f %% of client CPU\t%s\n", s.RedisShare, s.ClientShare, word)
	})
}
