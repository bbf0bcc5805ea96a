package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/voltageems/voltage/scripts"
)

// report is the result of a run.
type report struct {
	Environment environment `json:"environment"`
	Throughput  rows        `json:"throughput,omitempty"`
	Ratios      []ratio     `json:"ratios,omitempty"`
	Embedded    rows        `json:"embedded,omitempty"`
	Memory      *memory     `json:"memory_bytes,omitempty"`
	Latency     *latency    `json:"latency,omitempty"`
	Statistics  *statistics `json:"statistics,omitempty"`
	Update      *update     `json:"update,omitempty"`
	WebSockets  *webSockets `json:"websocket,omitempty"`

	Modbus *modbusReport `json:"modbus,omitempty"`
	Alarms *alarmReport  `json:"alarms,omitempty"`
}

// environment is what the figures depend on.
type environment struct {
	Go         string  `json:"go"`
	Platform   string  `json:"platform"`
	CPUs       int     `json:"cpus"`
	MaxProcs   int     `json:"gomaxprocs"`
	Redis      string  `json:"redis"`
	Store      string  `json:"store"`
	Listpack   string  `json:"hash_max_listpack_entries,omitempty"`
	Channels   int     `json:"channels"`
	Models     int     `json:"models"`
	Points     int     `json:"points"`
	AlarmRules int     `json:"alarm_rules"`
	Batch      int     `json:"points_per_batch"`
	Seconds    float64 `json:"seconds"`
	Rounds     int     `json:"rounds"`
	Parallel   int     `json:"parallel"`
	Took       float64 `json:"took_seconds"`
}

func environmentOf(ctx context.Context, s *scripts.Store, o options) environment {
	e := environment{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), MaxProcs: runtime.GOMAXPROCS(0),
		Store: string(s.Kind), Redis: s.Version, Channels: o.channels, Models: o.channels * modelsPerChannel, Points: o.channels * pointsPerChannel, AlarmRules: o.channels * pointsPerChannel / alarmEvery,
		Batch: pointsPerChannel, Seconds: o.seconds, Rounds: o.rounds, Parallel: o.parallel}
	if info, err := infoOf(ctx, s.Client, "server"); err == nil && info["redis_version"] != "" {
		e.Redis = info["redis_version"]
		if v := info["valkey_version"]; v != "" {
			e.Redis = "Valkey " + v
		}
	}
	// A server that forbids CONFIG keeps this for itself; the report then says nothing of it.
	if c, err := s.Client.ConfigGet(ctx, "hash-max-listpack-entries").Result(); err == nil {
		e.Listpack = c["hash-max-listpack-entries"]
	}
	return e
}

// ratio compares two ways within each round, or one figure of one way with its goals.
type ratio struct {
	Name string `json:"name"`
	figure
	// Goals are what the ratio is to reach.
	Goals []goal `json:"goals,omitempty"`

	measured bool // in this run
}

// goal is a bound that a figure is to keep to.
type goal struct {
	Name  string  `json:"name"` // "target ≥" or "aim ≤": a target is promised, an aim is worked towards
	Value float64 `json:"value"`
	Met   bool    `json:"met"`
}

// The targets and aims of the project.
const (
	targetSpeed    = 25.0 // points/s of the batch path, in units of the per-point way
	aimSpeed       = 50.0
	aimRedis       = 1.5 // Redis CPU of the batch path, in units of the same writes without Lua
	aimClient      = 1.0 // client CPU, µs a point
	aimAllocations = 0.01
	aimLatency     = 20.0 // ms, 99th percentile
)

func newRatio(name string, a, b []float64) ratio {
	values := make([]float64, 0, len(a))
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			values = append(values, a[i]/b[i])
		}
	}
	return ratio{Name: name, figure: figureOf(values), measured: len(values) > 0}
}

func (r ratio) atLeast(name string, value float64) ratio {
	r.Goals = append(r.Goals, goal{name + " ≥", value, r.Median >= value})
	return r
}

func (r ratio) atMost(name string, value float64) ratio {
	r.Goals = append(r.Goals, goal{name + " ≤", value, r.Median <= value})
	return r
}

// compare fills in the ratios of the ways that were measured.
func (r *report) compare() {
	x := r.Throughput
	point, bare := x.get(wayPoint), x.get(wayBare)
	batch, plain, many, tenth := x.get(wayBatch), x.get(wayBatchPlain), x.get(wayBatchMany), x.get(wayBatchTenth)
	direct, directTenth, shadow := x.get(wayDirect), x.get(wayDirectTenth), x.get(wayShadow)
	pipe, pipePlain, pipeTenth := x.get(wayPipe), x.get(wayPipePlain), x.get(wayPipeTenth)
	list := []ratio{
		newRatio("points/s, batch with history : per point", batch.points, point.points).atLeast("target", targetSpeed).atLeast("aim", aimSpeed),
		newRatio("points/s, direct : per point", direct.points, point.points).atLeast("aim", aimSpeed),
		newRatio("points/s, batch without history : per point", plain.points, point.points),
		newRatio("points/s, parallel : one goroutine", many.points, batch.points),
		newRatio("points/s, shadow : batch with history", shadow.points, batch.points),
		newRatio("Redis CPU, per point : batch with history", point.redis, batch.redis),
		newRatio("Redis CPU, batch : pipeline, both with history", batch.redis, pipe.redis).atMost("aim", aimRedis),
		newRatio("Redis CPU, direct : pipeline, both with history", direct.redis, pipe.redis).atMost("aim", aimRedis),
		newRatio("Redis CPU, batch : pipeline, both without history", plain.redis, pipePlain.redis).atMost("aim", aimRedis),
		newRatio("Redis CPU, batch : pipeline, both of a tenth", tenth.redis, pipeTenth.redis).atMost("aim", aimRedis),
		newRatio("Redis CPU, direct : pipeline, both of a tenth", directTenth.redis, pipeTenth.redis).atMost("aim", aimRedis),
		newRatio("Redis CPU, batch with history : bare HSET", batch.redis, bare.redis),
		newRatio("client CPU, batch : pipeline, both with history", batch.client, pipe.client),
		newRatio("client CPU, direct : pipeline, both with history", direct.client, pipe.client),
		micros("batch with history", batch), micros("direct", direct), micros("batch of a tenth", tenth),
		furtherAllocations("batch with history", batch, tenth), furtherAllocations("direct", direct, directTenth),
	}
	r.Ratios = nil
	for _, x := range list {
		if x.measured {
			r.Ratios = append(r.Ratios, x)
		}
	}
}

func micros(name string, r *row) ratio {
	return ratio{Name: "client CPU µs/point, " + name, figure: r.Client, measured: r.Way != ""}.atMost("aim", aimClient)
}

// furtherAllocations tells what grows with the points apart from what every batch
// costs: by how many allocations a batch of all points has more than one of a
// tenth, for each point that it has more.
func furtherAllocations(name string, all, tenth *row) ratio {
	r := ratio{Name: "allocations/further point, " + name}
	if all.Allocations == nil || tenth.Allocations == nil {
		return r
	}
	const few = pointsPerChannel / partial
	further := (all.Allocations.Median*pointsPerChannel - tenth.Allocations.Median*few) / (pointsPerChannel - few)
	r.figure, r.measured = figureOf([]float64{further}), true
	return r.atMost("aim", aimAllocations)
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r *report) writeText(w io.Writer) error {
	var b bytes.Buffer
	r.Environment.text(&b)
	if r.Throughput != nil {
		fmt.Fprintf(&b, "\nThroughput: median (min–max) of %d rounds\n", r.Environment.Rounds)
		r.Throughput.text(&b, true)
		r.ratiosText(&b)
	}
	if r.Statistics != nil {
		r.Statistics.text(&b)
	}
	if r.Embedded != nil {
		fmt.Fprintf(&b, "\nEmbedded store: median (min–max) of %d rounds; its own CPU time is in the client's\n", r.Environment.Rounds)
		r.Embedded.text(&b, false)
	}
	if r.Memory != nil {
		r.Memory.text(&b)
	}
	if r.Modbus != nil {
		r.Modbus.text(&b)
	}
	if r.Latency != nil {
		r.Latency.text(&b)
	}
	if r.WebSockets != nil {
		r.WebSockets.text(&b)
	}
	if r.Alarms != nil {
		r.Alarms.text(&b, r.Environment.Rounds)
	}
	if r.Update != nil {
		r.Update.text(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (e environment) text(b *bytes.Buffer) {
	fmt.Fprintf(b, "%s, %s, %d CPUs, GOMAXPROCS %d; Redis %s (%s, hash-max-listpack-entries %s)\n", e.Go, e.Platform, e.CPUs, e.MaxProcs, e.Redis, e.Store, orDash(e.Listpack))
	fmt.Fprintf(b, "%d points on %d models, %d channels, %d alarm rules that do not fire; batches of %d; every value changes\n", e.Points, e.Models, e.Channels, e.AlarmRules, e.Batch)
	if n, err := strconv.Atoi(e.Listpack); err == nil && n >= pointsPerModel {
		fmt.Fprintf(b, "This server keeps hashes of up to %d fields as listpacks, which are slow to write: set hash-max-listpack-entries to 8 (docs/store.md)\n", n)
	}
	fmt.Fprintf(b, "%d rounds of %g s a way; the whole run took %.0f s\n", e.Rounds, e.Seconds, e.Took)
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func table(b *bytes.Buffer, lines func(w io.Writer)) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	lines(w)
	_ = w.Flush() // into a buffer
}

func (r rows) text(b *bytes.Buffer, redis bool) {
	table(b, func(w io.Writer) {
		fmt.Fprint(w, "WAY\tPOINTS/S\t")
		if redis {
			fmt.Fprint(w, "REDIS µs/POINT\t")
		}
		fmt.Fprintln(w, "CLIENT µs/POINT\tALLOCS/POINT\tBYTES/POINT")
		for _, row := range r {
			fmt.Fprintf(w, "%s\t%s\t", row.Way, row.Points.format("%.0f"))
			if redis {
				fmt.Fprintf(w, "%s\t", row.Redis.format("%.2f"))
			}
			fmt.Fprintf(w, "%s\t", row.Client.format("%.2f"))
			if row.Allocations == nil {
				fmt.Fprintln(w, "\t")
				continue
			}
			fmt.Fprintf(w, "%.3f\t%.1f\n", row.Allocations.Median, row.Bytes.Median)
		}
	})
}

func (f figure) format(verb string) string {
	return fmt.Sprintf(verb+" ("+verb+"–"+verb+")", f.Median, f.Min, f.Max)
}

func (r *report) ratiosText(b *bytes.Buffer) {
	fmt.Fprintln(b, "\nRatios, taken within each round")
	table(b, func(w io.Writer) {
		for _, x := range r.Ratios {
			fmt.Fprintf(w, "%s\t%s\t%s\n", x.Name, x.figure.format("%.2f"), x.verdicts())
		}
	})
}

func (r ratio) verdicts() string {
	words := make([]string, len(r.Goals))
	for i, g := range r.Goals {
		words[i] = verdict(g.Name, g.Value, r.Median, g.Met)
	}
	return strings.Join(words, "; ")
}

func verdict(goal string, value, measured float64, met bool) string {
	word := "NOT met"
	if met {
		word = "met"
	}
	return fmt.Sprintf("%s %g: measured %.3g, %s", goal, value, measured, word)
}

func (m *memory) text(b *bytes.Buffer) {
	fmt.Fprintf(b, "\nMemory for %d points\n", m.Points)
	table(b, func(w io.Writer) {
		for _, l := range []struct {
			what  string
			bytes int64
		}{{"Redis: definitions, mappings, alarm rules", m.Definitions}, {"Redis: values (raw, model, time stamps)", m.Values},
			{"Redis: history queue, one change of each point", m.History}, {"Go heap: plan", m.Plan}, {"Go heap: Writers with their buffers", m.Writers}} {
			fmt.Fprintf(w, "%s\t%.2f MB\t%.0f bytes/point\n", l.what, float64(l.bytes)/1e6, float64(l.bytes)/float64(m.Points))
		}
	})
}
