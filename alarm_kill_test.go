package voltage_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// alarmEngineEnv makes this test binary the engine of TestKilledAlarms:
// "site|redis URL|first step|last step|position".
const alarmEngineEnv = "VOLTAGE_TEST_ALARM_ENGINE"

// A life is what happens to one point and its alarm, step by step, and what the
// journal must then have, in order. Every point lives once, so that its alarm never
// comes often enough to be held as chattering.
type life struct {
	rule  model.AlarmRule
	steps []lifeStep
	// journal has transition and value or, of what a person does, comment
	journal []string
	status  model.AlarmStatus // of the open alarm at the end; "" for none
	shelved bool
}

type lifeStep struct {
	op    string // "value", "wait" for a status, or what a person does
	value float64
	text  string // status or comment
}

// lives are repeated from point to point.
var lives = []life{
	{steps: []lifeStep{{"value", 101, ""}, {"value", 1, ""}, {"value", 102, ""}},
		journal: []string{"raised 101", "cleared 1", "reraised 102"}, status: model.AlarmActive},
	{steps: []lifeStep{{"value", 101, ""}, {"ack", 0, "seen"}, {"value", 1, ""}, {"value", 102, ""}, {"value", 2, ""}},
		journal: []string{"raised 101", "acknowledged seen", "cleared 1", "raised 102", "cleared 2"}, status: model.AlarmCleared},
	{steps: []lifeStep{{"value", 101, ""}, {"value", 1, ""}, {"ack", 0, "late"}},
		journal: []string{"raised 101", "cleared 1", "acknowledged late"}},
	{rule: model.AlarmRule{OnDelay: 150 * time.Millisecond}, steps: []lifeStep{{"value", 101, ""}, {"wait", 0, "active"}, {"value", 1, ""}},
		journal: []string{"raised 101", "cleared 1"}, status: model.AlarmCleared},
	{rule: model.AlarmRule{OffDelay: 150 * time.Millisecond}, steps: []lifeStep{{"value", 101, ""}, {"value", 1, ""}, {"wait", 0, "cleared"}, {"ack", 0, "over"}},
		journal: []string{"raised 101", "cleared 1", "acknowledged over"}},
	{steps: []lifeStep{{"shelve", 0, "before"}, {"value", 101, ""}, {"value", 1, ""}, {"unshelve", 0, "done"}, {"value", 102, ""}},
		journal: []string{"shelved before", "raised 101", "cleared 1", "unshelved done", "raised 102"}, status: model.AlarmActive},
	{steps: []lifeStep{{"value", 101, ""}, {"shelve", 0, "busy"}, {"ack", 0, "seen"}},
		journal: []string{"raised 101", "shelved busy", "acknowledged seen"}, status: model.AlarmAcknowledged, shelved: true},
	{rule: model.AlarmRule{Latch: true}, steps: []lifeStep{{"value", 101, ""}, {"value", 1, ""}, {"reset", 0, "looked"}, {"value", 102, ""}, {"value", 2, ""}},
		journal: []string{"raised 101", "latched 1", "reset looked", "raised 102", "latched 2"}, status: model.AlarmLatched},
}

const killPoints = 400

// killSteps are all steps of all points, one after the other.
func killSteps() (all []struct {
	point int
	lifeStep
}) {
	for p := range killPoints {
		for _, s := range lives[p%len(lives)].steps {
			all = append(all, struct {
				point int
				lifeStep
			}{p, s})
		}
	}
	return all
}

func killPoint(p int) string { return "p" + strconv.Itoa(p) }

func killRef(p int) string { return alarm.Ref("m", killPoint(p), "r") }

func killSite(t *testing.T, site, store string) *voltage.Engine {
	cfg := voltage.Config{Site: site, Store: scripts.StoreConfig{URL: store}, Log: testLog(t), Lease: time.Second,
		Channels: []channel.Config{{ID: "own"}}, Models: []model.Instance{{ID: "m", Measurements: map[string]string{}}}}
	for p := range killPoints {
		name := killPoint(p)
		cfg.Channels[0].Points = append(cfg.Channels[0].Points, model.Point{ID: name})
		cfg.Models[0].Measurements[name] = "own:" + name
		r := lives[p%len(lives)].rule
		r.ID, r.Model, r.Point, r.Operator, r.Threshold = "r", "m", name, model.Above, 100
		cfg.Alarms = append(cfg.Alarms, r)
	}
	eng, err := voltage.NewEngine(cfg)
	require.NoError(t, err)
	return eng
}

// TestAlarmEngineProcess is no test but the engine that TestKilledAlarms kills. It
// does one step after the other, and each again until it is certainly done; it says
// which, and which transitions OnAlarmFrom tells it of.
func TestAlarmEngineProcess(t *testing.T) {
	settings := os.Getenv(alarmEngineEnv)
	if settings == "" {
		t.Skip("it is the engine of TestKilledAlarms")
	}
	part := strings.Split(settings, "|")
	first, err := strconv.Atoi(part[2])
	require.NoError(t, err)
	last, err := strconv.Atoi(part[3])
	require.NoError(t, err)
	eng := killSite(t, part[0], part[1])
	require.NoError(t, eng.OnAlarmFrom(part[4], func(_ context.Context, ev alarm.Event) { fmt.Println("saw", ev.Position) }))
	require.NoError(t, eng.Start(t.Context()))
	defer eng.Stop(context.Background())
	steps := killSteps()
	// as a sensor that still has its value
	for i := first - 1; i >= 0 && steps[first].op != "value" && steps[i].point == steps[first].point; i-- {
		if steps[i].op == "value" {
			sure(t, eng, steps[i].point, steps[i].lifeStep)
			break
		}
	}
	for i := first; i < last; i++ {
		fmt.Println("do", i)
		sure(t, eng, steps[i].point, steps[i].lifeStep)
		fmt.Println("ok", i)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it ends it
}

// sure does a step until it is certain that it is done.
func sure(t *testing.T, eng *voltage.Engine, point int, s lifeStep) {
	ctx := t.Context()
	require.Eventually(t, func() bool {
		switch s.op {
		case "value":
			if eng.Push(ctx, "own", model.Sample{Point: killPoint(point), Value: s.value}) != nil {
				return false
			}
			for range 200 { // what is stored is written
				v, err := eng.Values(ctx, "m")
				if err == nil && v[killPoint(point)].Value == s.value && v[killPoint(point)].Quality == model.Good {
					return true
				}
				select {
				case <-ctx.Done():
					return false
				case <-time.After(5 * time.Millisecond):
				}
			}
			return false
		case "wait":
			list, err := eng.QueryAlarms(ctx, alarm.Query{Point: killPoint(point), Model: "m"})
			return err == nil && len(list) == 1 && string(list[0].Status) == s.text
		case "ack":
			_, err := eng.Acknowledge(ctx, killRef(point), "anna", s.text)
			return err == nil
		case "reset":
			_, err := eng.ResetAlarm(ctx, killRef(point), "anna", s.text)
			return err == nil
		case "unshelve":
			_, err := eng.UnshelveAlarm(ctx, killRef(point), "anna", s.text)
			return err == nil
		case "shelve": // once more would be another one
			list, err := eng.UnannouncedAlarms(ctx)
			if err != nil {
				return false
			}
			if slices.ContainsFunc(list, func(u alarm.Unannounced) bool { return u.Point == killPoint(point) }) {
				return true
			}
			_, err = eng.ShelveAlarm(ctx, killRef(point), "anna", s.text, time.Hour)
			return err == nil
		}
		panic(s.op)
	}, time.Minute, 5*time.Millisecond, "%s %+v", killPoint(point), s)
}

// TestKilledAlarms kills the engine and Redis (kill -9) again and again, at any
// step, while alarms come and go, wait for their delays, are acknowledged, shelved and
// reset. No transition is lost and none is repeated, and who follows the journal
// from where he was sees them all.
func TestKilledAlarms(t *testing.T) {
	t.Parallel()
	own := storetest.Own(t, "--appendonly", "yes", "--appendfsync", "always")
	rounds, budget := 1, 10*time.Second
	if os.Getenv("VOLTAGE_LONG") == "1" {
		rounds, budget = 10, time.Minute
	}
	for range rounds {
		killAlarms(t, own, budget)
	}
}

// killAlarms does so for about the given time, or until every point has lived.
func killAlarms(t *testing.T, own *storetest.Server, budget time.Duration) {
	site, steps := storetest.Site(t), killSteps()
	client := storetest.Client(t, own.URL)
	done, saved := 0, "" // steps that are done; the position that the program has stored
	var seen [][]string  // positions, by process
	kills := map[string]int{}
	end := time.After(budget)
	over := false
	enough := func() bool { return over && kills["engine"] > 1 && kills["redis"] > 1 }
	for done < len(steps) && !enough() {
		p := startAlarmProcess(t, site, own.URL, done, len(steps), saved)
		seen = append(seen, nil)
		until := rand.IntN(60) // lines
		for killed := false; !killed; {
			select {
			case line, ok := <-p.lines:
				require.True(t, ok, "the engine ended by itself: %s", p.text())
				done, saved = p.note(t, line, done, saved, &seen[len(seen)-1])
				if until--; until > 0 && done < len(steps) {
					continue
				}
				if rand.IntN(2) == 0 { // the engine lives on
					own.Kill()
					own.Restart()
					kills["redis"]++
					until = rand.IntN(60)
					killed = done == len(steps)
					continue
				}
				killed = true
			case <-end:
				over = true
				killed = enough()
			case <-time.After(time.Minute):
				t.Fatalf("nothing happens after step %d, %+v: %s", done, steps[done], p.text())
			}
		}
		p.stop()
		kills["engine"]++
		for line := range p.lines { // what it said before it died
			done, saved = p.note(t, line, done, saved, &seen[len(seen)-1])
		}
		// its lease is over
		require.NoError(t, client.Del(t.Context(), "{"+site+"}:comsrv:own:owner").Err())
	}
	// the life of the last point, up to its end: nobody knows whether the step that
	// was under way was done
	last := min(done, len(steps)-1)
	points := steps[last].point + 1
	for last < len(steps) && steps[last].point == points-1 {
		last++
	}
	plane, err := scripts.New(client, scripts.Options{Site: site, Log: testLog(t)})
	require.NoError(t, err)
	p := startAlarmProcess(t, site, own.URL, min(done, len(steps)-1), last, saved)
	seen = append(seen, nil)
	for at := ""; done < last || saved != at; {
		if done >= last {
			at, err = plane.AlarmJournalEnd(t.Context())
			require.NoError(t, err)
			if saved == at {
				break
			}
		}
		select {
		case line, ok := <-p.lines:
			require.True(t, ok, "the engine ended by itself: %s", p.text())
			done, saved = p.note(t, line, done, saved, &seen[len(seen)-1])
		case <-time.After(time.Minute):
			t.Fatalf("nothing happens after step %d; seen to %s of %s: %s", done, saved, at, p.text())
		}
	}
	own.Kill()
	p.stop()
	own.Restart()
	t.Logf("%d points, %d steps; killed: %v", points, last, kills)
	require.Positive(t, kills["engine"])
	require.Positive(t, kills["redis"])
	checkLives(t, plane, points)
	checkSeen(t, plane, seen)
}

// checkLives compares the journal and where the alarms stand with what was done.
func checkLives(t *testing.T, plane *scripts.Plane, points int) {
	journal := map[string][]string{}
	for after := ""; ; {
		list, err := plane.AlarmJournal(t.Context(), after, 1000)
		require.NoError(t, err)
		for _, e := range list {
			said := strconv.FormatFloat(e.Value, 'f', -1, 64)
			if e.By != "" {
				said = e.Comment
			}
			journal[e.Point] = append(journal[e.Point], string(e.Transition)+" "+said)
			after = e.Position
		}
		if len(list) < 1000 {
			break
		}
	}
	open, err := plane.OpenAlarms(t.Context())
	require.NoError(t, err)
	stands := map[string]alarm.Alarm{}
	for _, a := range open {
		require.NotContains(t, stands, a.Point, "two open alarms")
		stands[a.Point] = a
	}
	shelved, err := plane.UnannouncedAlarms(t.Context())
	require.NoError(t, err)
	aside := map[string]bool{}
	for _, u := range shelved {
		aside[u.Point] = true
	}
	for p := range killPoints {
		name, l := killPoint(p), lives[p%len(lives)]
		if p >= points {
			require.Empty(t, journal[name])
			continue
		}
		require.Equal(t, l.journal, journal[name], "%s: %+v", name, l.steps)
		require.Equal(t, l.status, stands[name].Status, "%s: %+v", name, l.steps)
		require.Equal(t, l.shelved, aside[name], name)
		require.Equal(t, l.shelved, stands[name].Suppression == model.Shelved, name)
	}
}

// checkSeen: every process saw the transitions from where the one before it was, in
// order, and together they saw all.
func checkSeen(t *testing.T, plane *scripts.Plane, seen [][]string) {
	var all []string
	for after := ""; ; {
		list, err := plane.AlarmJournal(t.Context(), after, 1000)
		require.NoError(t, err)
		for _, e := range list {
			all = append(all, e.Position)
			after = e.Position
		}
		if len(list) < 1000 {
			break
		}
	}
	next := 0
	for _, some := range seen {
		for _, position := range some {
			require.Less(t, next, len(all))
			require.Equal(t, all[next], position)
			next++
		}
	}
	require.Equal(t, len(all), next)
}

// alarmProcess is an engine in a process of its own.
type alarmProcess struct {
	process
	lines chan string // closed when it has ended
}

func startAlarmProcess(t *testing.T, site, store string, first, last int, position string) *alarmProcess {
	t.Helper()
	p := &alarmProcess{lines: make(chan string, 10_000)}
	p.cmd = exec.Command(os.Args[0], "-test.run=^TestAlarmEngineProcess$", "-test.v")
	p.cmd.Env = append(os.Environ(), alarmEngineEnv+"="+strings.Join([]string{site, store, strconv.Itoa(first), strconv.Itoa(last), position}, "|"))
	in, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line := lines.Text()
			if f := strings.Fields(line); len(f) == 2 && slices.Contains([]string{"do", "ok", "saw"}, f[0]) {
				p.lines <- line
				continue
			}
			p.mu.Lock()
			p.out.WriteString(line + "\n")
			p.mu.Unlock()
		}
	}()
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = p.cmd.Process.Kill()
		_ = in.Close()
		<-read
		_ = p.cmd.Wait()
	}
	t.Cleanup(p.stop)
	return p
}

// note takes a line of the process into account. What the program has been told of,
// it has stored.
func (p *alarmProcess) note(t *testing.T, line string, done int, saved string, seen *[]string) (int, string) {
	t.Helper()
	f := strings.Fields(line)
	switch f[0] {
	case "ok":
		n, err := strconv.Atoi(f[1])
		require.NoError(t, err)
		done = n + 1
	case "saw":
		*seen, saved = append(*seen, f[1]), f[1]
	}
	return done, saved
}
