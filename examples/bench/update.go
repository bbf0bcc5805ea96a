package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/scripts"
)

// update is what hot updates, rollbacks and flushes of the script cache do to a
// loaded engine.
type update struct {
	Calm    latencies `json:"without_updates"`
	Updated latencies `json:"with_updates"`
	// How long each took, until the engine that asked for it went on.
	Activate distribution `json:"activate_ms"`
	Rollback distribution `json:"rollback_ms"`
	Flush    distribution `json:"script_flush_ms"`
	// Pushed is how many samples Push took; ledger is what became of them in the
	// history, and Stale how many points did not end at their last value.
	Pushed int64 `json:"pushed"`
	ledger
	Stale int64 `json:"stale"`
	// Dropped are samples of which the engine itself says that it dropped them,
	// because the store did not keep up. They are among the missing ones.
	Dropped int64 `json:"dropped"`
	// Backed is how often the engine went back to a version by itself.
	Backed int  `json:"automatic_rollbacks"`
	Goal   goal `json:"goal"`
}

const (
	updatePause   = 500 * time.Millisecond // between two updates
	updateHistory = 1 << 30                // bytes, more than the run makes
	updateWait    = 30 * time.Second       // for what waits at the end
)

// update measures on an engine of its own at half of the maximum: first without
// updates, then with one every half a second.
func (b *bench) update(ctx context.Context, maximum float64) (_ *update, err error) {
	d := newDefinitions(b.channels)
	b.say("update: starting an engine with %d points …", d.size())
	const site = "-update"
	l, err := b.startEngine(ctx, scripts.StoreConfig{URL: b.url}, d, site, updateHistory)
	if err != nil {
		return nil, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, l.stop(ctx))
		}
	}()
	u := &update{ledger: *newLedger(b.store.Client, b.name+site, d)}
	readCtx, stopReading := context.WithCancel(ctx)
	defer stopReading()
	read := make(chan error, 1)
	go func() { read <- u.follow(readCtx) }()

	o := &operator{engine: l.engine, flush: b.store.Client.ScriptFlush}
	if o.folder, err = unpack(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.folder)) }()
	load, limit := maximum/2, latencyTime*b.slice()
	err = l.under(ctx, load, func() (err error) {
		b.say("update: at %.0f points/s, without updates …", load)
		if u.Calm, err = l.measure(ctx, load, math.MaxInt, limit/2); err != nil {
			return err
		}
		b.say("update: at %.0f points/s, with updates …", load)
		updateCtx, stop := context.WithCancel(ctx)
		defer stop()
		updated := make(chan error, 1)
		go func() { updated <- o.run(updateCtx, min(updatePause, limit/12)) }()
		u.Updated, err = l.measure(ctx, load, math.MaxInt, limit)
		stop()
		return errors.Join(err, <-updated)
	})
	if err != nil {
		return nil, err
	}
	u.Activate, u.Rollback, u.Flush = o.activations.result(), o.rollbacks.result(), o.flushes.result()

	if u.Dropped, err = l.drain(ctx); err != nil {
		return nil, err
	}
	stopReading()
	if err := <-read; err != nil {
		return nil, err
	}
	u.ledger.close(l.feeds)
	for c, id := range d.channels {
		u.Pushed += l.feeds[c].turn * pointsPerChannel
		values, err := l.engine.Plane().ChannelValues(ctx, id)
		if err != nil {
			return nil, err
		}
		for i, p := range d.points[c] {
			if values[p.ID].Value != valueOf(l.feeds[c].turn, i) {
				u.Stale++
			}
		}
	}
	events, err := l.engine.Plane().ScriptJournal(ctx, "", 1000)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.By == "auto" {
			u.Backed++
		}
	}
	u.Goal = goal{Name: "target =", Value: 0, Met: u.unaccounted() == 0 && u.Gaps == 0 && u.Stale == 0}
	stopped = true
	return u, l.stop(ctx)
}

// drain waits until everything that was pushed is stored, or dropped.
func (l *loadedEngine) drain(ctx context.Context) (dropped int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, updateWait)
	defer cancel()
	for {
		samples, stored, lost, err := l.counters(ctx)
		if err != nil {
			return 0, err
		}
		if samples <= stored+lost {
			return lost, nil
		}
		if err := pause(ctx); err != nil {
			return 0, fmt.Errorf("%d samples were not stored in %s: %w", samples-stored-lost, updateWait, err)
		}
	}
}

// operator changes the active version of data_sync again and again.
type operator struct {
	engine *voltage.Engine
	flush  func(context.Context) *redis.StatusCmd
	folder string // has the files of the last version

	activations, rollbacks, flushes timings
}

// timings are how long several things of a kind took.
type timings struct {
	taken   samples
	failed  int
	failure string
}

func (t *timings) do(f func() error) {
	start := time.Now()
	if err := f(); err != nil {
		if t.failed++; t.failed == 1 {
			t.failure = err.Error()
		}
		return
	}
	t.taken.add(time.Since(start))
}

func (t *timings) result() distribution {
	d := t.taken.distribution()
	d.Failed, d.Failure = t.failed, t.failure
	return d
}

// run does one thing after the other until ctx ends, but each at least once.
func (o *operator) run(ctx context.Context, every time.Duration) error {
	work := context.WithoutCancel(ctx) // what is begun is ended
	by := scripts.Change{By: "bench", Reason: "a measurement"}
	const all = 4
	timer := time.NewTicker(every)
	defer timer.Stop()
	for turn := 0; turn < all || ctx.Err() == nil; turn++ {
		<-timer.C
		switch turn % all {
		case 0:
			s, err := o.compose()
			if err != nil {
				return err
			}
			o.activations.do(func() error { return o.engine.ActivateScript(work, s, by) })
		case 2:
			o.rollbacks.do(func() error {
				_, err := o.engine.RollbackScript(work, updatedScript, by)
				return err
			})
		default: // after each, so that both kinds of versions are lost
			o.flushes.do(func() error { return o.flush(work).Err() })
		}
	}
	return nil
}

const updatedScript = "data_sync"

// unpack writes the files of data_sync into a folder, as a maker has them who
// works on it.
func unpack() (folder string, err error) {
	text, err := scripts.Dump(updatedScript)
	if err != nil {
		return "", err
	}
	script, err := scripts.ParseScript(text)
	if err != nil {
		return "", err
	}
	if folder, err = os.MkdirTemp("", "bench-scripts-"); err != nil {
		return "", err
	}
	files := map[string]*strings.Builder{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		name, at := script.Source(n)
		if name == "" || at == 0 { // the first line, or one that tells the file
			continue
		}
		if files[name] == nil {
			files[name] = &strings.Builder{}
		}
		files[name].WriteString(line)
	}
	err = os.Mkdir(filepath.Join(folder, "include"), 0o700)
	for name, b := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), []byte(b.String()), 0o600))
	}
	return folder, err
}

// compose makes a version of data_sync that is newer than all before.
func (o *operator) compose() (scripts.Script, error) {
	path := filepath.Join(o.folder, updatedScript+".lua")
	text, err := os.ReadFile(path)
	if err != nil {
		return scripts.Script{}, err
	}
	const mark = "-- @version "
	before, rest, _ := strings.Cut(string(text), mark)
	number, after, found := strings.Cut(rest, "\n")
	var major, minor, patch int
	if _, err := fmt.Sscanf(number, "%d.%d.%d", &major, &minor, &patch); err != nil || !found {
		return scripts.Script{}, fmt.Errorf("%s has no readable %s", path, mark)
	}
	next := fmt.Sprintf("%s%s%d.%d.%d\n%s", before, mark, major, minor, patch+1, after)
	if err := os.WriteFile(path, []byte(next), 0o600); err != nil {
		return scripts.Script{}, err
	}
	list, err := scripts.ComposeFolder(os.DirFS(o.folder))
	if err != nil {
		return scripts.Script{}, err
	}
	return list[0], nil
}

func (u *update) text(b *bytes.Buffer) {
	fmt.Fprintln(b, "\nHot updates of data_sync in a whole engine, ms")
	table(b, func(w io.Writer) {
		fmt.Fprintln(w, "WHAT\tTIMES\tP50\tP99\tMAX\t")
		for _, x := range []struct {
			name string
			distribution
		}{{"verify and activate another version", u.Activate}, {"roll back", u.Rollback}, {"SCRIPT FLUSH", u.Flush}} {
			fmt.Fprintf(w, "%s\t%d\t%.2f\t%.2f\t%.2f\t\n", x.name, x.Probes, x.P50, x.P99, x.Max)
			if x.Failed > 0 {
				fmt.Fprintf(w, "%s\t%d FAILED\t\t\t\t%s\n", x.name, x.Failed, x.Failure)
			}
		}
	})
	table(b, func(w io.Writer) {
		fmt.Fprintln(w, "LOAD\tPROBE\tPROBES\tP50\tP99\tMAX\t")
		u.Calm.text(w, fmt.Sprintf("%.0f points/s", u.Calm.Asked), false)
		u.Updated.text(w, "the same, with updates", true)
	})
	fmt.Fprintf(b, "%d samples pushed, %d found in the history: missing %d, repeated %d, never pushed %d, gaps in the counts %d; points not at their last value %d; rolled back by itself %d\n",
		u.Pushed, u.Read, u.Missing, u.Repeated, u.Wrong, u.Gaps, u.Stale, u.Backed)
	if u.Dropped > 0 {
		fmt.Fprintf(b, "Of the missing ones the engine dropped %d and counted them: the machine does not carry this load\n", u.Dropped)
	}
	fmt.Fprintf(b, "Lost and repeated beyond that: %s\n", verdict(u.Goal.Name, u.Goal.Value, float64(u.unaccounted()), u.Goal.Met))
	if u.Updated.Stored < 0.95*u.Updated.Asked {
		fmt.Fprintln(b, "The engine did NOT keep up with the load: the latencies are those of an overloaded engine.")
	}
}

// unaccounted counts the samples that are not in the history exactly once, but
// for those that the engine dropped.
func (u *update) unaccounted() int64 {
	return max(u.Missing-u.Dropped, u.Dropped-u.Missing) + u.Repeated + u.Wrong
}
