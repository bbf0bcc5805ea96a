package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/voltageems/voltage/scripts"
)

// options are the command line.
type options struct {
	redis    string
	seconds  float64
	rounds   int
	parallel int
	channels int
	probes   int
	clients  int
	json     bool
	only     string
}

func main() {
	if os.Getenv(peerVariable) != "" {
		if err := runPeer(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench: devices:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.redis, "redis", "", "URL of the Redis to measure; without it one is started from PATH")
	flag.Float64Var(&o.seconds, "seconds", 0.75, "length of one measurement")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each way is measured")
	flag.IntVar(&o.parallel, "parallel", 4, "goroutines of the parallel figure")
	flag.IntVar(&o.channels, "channels", 20, "channels of 500 points and 5 models each")
	flag.IntVar(&o.probes, "probes", 1000, "latency probes of each kind, for at most 20 × seconds")
	flag.IntVar(&o.clients, "clients", 200, "WebSocket clients, a twentieth of which never read")
	flag.StringVar(&o.only, "only", "", "throughput, memory, embedded, modbus, ws, alarms, latency or update (the last two measure the throughput of the batch path, too); empty means all but alarms")
	flag.BoolVar(&o.json, "json", false, "print the result as JSON")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong use")

func (o options) validate() error {
	switch {
	case o.seconds <= 0 || o.rounds < 1 || o.parallel < 1 || o.channels < 1 || o.probes < 1 || o.clients < 1:
		return fmt.Errorf("%w: seconds, rounds, parallel, channels, probes and clients are more than zero", errUsage)
	case o.clients > 250: // an engine takes 256
		return fmt.Errorf("%w: -clients %d: want at most 250", errUsage, o.clients)
	case o.only != "" && !slices.Contains(parts, o.only):
		return fmt.Errorf("%w: -only %.20q: want one of %s", errUsage, o.only, strings.Join(parts, ", "))
	}
	return nil
}

// parts of a run.
var parts = []string{"throughput", "memory", "embedded", "modbus", "latency", "update", "ws", "alarms"}

// wants: a Redis that is not the run's own has its script cache emptied only
// where that is asked for, and the alarms take as long as all the rest.
func (o options) wants(part string) bool {
	return o.only == part || o.only == "" && part != "alarms" && (part != "update" || o.redis == "")
}

func (o options) slice() time.Duration { return time.Duration(o.seconds * float64(time.Second)) }

// run measures what the options ask for and prints the report to out. What is
// under way goes to progress.
func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelWarn}))
	scripts.RouteClientLog(log)
	began := time.Now()
	store, url, err := openRedis(ctx, o.redis, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	b := &bench{options: o, store: store, url: url, log: log, progress: progress, name: fmt.Sprintf("bench-%x", time.Now().UnixNano()&0xffffff)}
	defer func() { err = errors.Join(err, b.clean(context.WithoutCancel(ctx))) }()
	b.report.Environment = environmentOf(ctx, store, o)

	failed := b.measure(ctx) // what was measured before is worth printing all the same
	b.report.Environment.Took = time.Since(began).Round(100 * time.Millisecond).Seconds()
	write := b.report.writeText
	if o.json {
		write = b.report.writeJSON
	}
	return errors.Join(failed, write(out))
}

// openRedis opens the Redis to measure, and returns the URL by which an engine
// reaches the same.
func openRedis(ctx context.Context, url string, log *slog.Logger) (*scripts.Store, string, error) {
	cfg := scripts.StoreConfig{URL: url}
	if url == "" {
		if _, ok := scripts.FindManagedBinary(); !ok {
			return nil, "", errors.New("there is nothing to measure: neither redis-server nor valkey-server is on PATH; install one (Debian: apt install redis-server) or name one with -redis redis://127.0.0.1:6379")
		}
		cfg = scripts.StoreConfig{Managed: &scripts.Managed{Persistence: scripts.PersistNone}}
	}
	store, err := scripts.OpenStore(ctx, cfg, log)
	if err != nil {
		return nil, "", err
	}
	if store.Cluster {
		return nil, "", errors.Join(errors.New("a Redis Cluster cannot be measured: the CPU figures are those of one server"), store.Close(ctx))
	}
	if url == "" {
		url = store.Address
	}
	return store, url, nil
}

// bench is one run.
type bench struct {
	options
	store    *scripts.Store
	url      string
	log      *slog.Logger
	progress io.Writer
	name     string // first part of every site's name
	sites    *sites
	report   report
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

func (b *bench) measure(ctx context.Context) error {
	var maximum float64
	if b.wants("memory") {
		b.say("memory …")
		m, err := b.memory(ctx)
		if err != nil {
			return fmt.Errorf("memory: %w", err)
		}
		b.report.Memory = m
	}
	if b.wants("throughput") || b.wants("latency") || b.wants("update") {
		brief := !b.wants("throughput")
		rows, err := b.throughput(ctx, brief)
		if err != nil {
			return fmt.Errorf("throughput: %w", err)
		}
		b.report.Throughput = rows
		b.report.compare()
		maximum = rows.get(wayBatch).Points.Median
		if !brief {
			if b.report.Statistics, err = b.statistics(ctx, rows.get(wayBatch)); err != nil {
				return fmt.Errorf("cost of statistics: %w", err)
			}
		}
	}
	if b.wants("embedded") {
		rows, err := b.embedded(ctx)
		if err != nil {
			return fmt.Errorf("embedded store: %w", err)
		}
		b.report.Embedded = rows
	}
	if b.wants("modbus") {
		m, err := b.modbus(ctx)
		if err != nil {
			return fmt.Errorf("modbus: %w", err)
		}
		b.report.Modbus = m
	}
	if b.wants("latency") {
		l, err := b.latency(ctx, maximum)
		if err != nil {
			return fmt.Errorf("latency: %w", err)
		}
		b.report.Latency = l
	}
	if b.wants("ws") {
		s, err := b.webSockets(ctx)
		if err != nil {
			return fmt.Errorf("WebSocket: %w", err)
		}
		b.report.WebSockets = s
	}
	if b.wants("alarms") {
		b.report.Alarms = &alarmReport{}
		if err := b.alarms(ctx, b.report.Alarms); err != nil {
			return fmt.Errorf("alarms: %w", err)
		}
	}
	if b.wants("update") {
		u, err := b.update(ctx, maximum)
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		b.report.Update = u
	}
	return nil
}

// clean removes what the run wrote, in small steps, for the Redis may be shared.
func (b *bench) clean(ctx context.Context) error {
	scan := b.store.Client.Scan(ctx, 0, "{"+b.name+"*", 1000).Iterator()
	for scan.Next(ctx) {
		if err := b.store.Client.Unlink(ctx, scan.Val()).Err(); err != nil {
			return fmt.Errorf("removing the keys of the run: %w", err)
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("removing the keys of the run: %w", err)
	}
	return nil
}
