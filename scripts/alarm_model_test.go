package scripts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/internal/reference"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// The life of alarms, at random: on a small site of a few points and rules, samples
// near the limits, qualities, time, ticks, a person at the desk and changes of rules.
// After each step a store shows the same states, records, journal, timers and
// notifications as the Go counterpart, and what must always hold does, see
// alarm_invariants_test.go. alarm_model_gen_test.go makes the steps.

const (
	alarmSiteSteps = 400 // of one site, before a new one begins
	alarmBlock     = 100 // that go to the store together
)

// alarmLook is what there is of alarms after a step.
type alarmLook struct {
	State, Shelved map[string]string
	Active         []string
	Closed, Timers map[string]float64
	Journal        []map[string]string // of this step
	Queue          []map[string]string // of this step, the oldest first
	Records        map[string]map[string]string
}

// alarmStep is a step that was made on the Go counterpart.
type alarmStep struct {
	step          step
	args          []string
	reply         string
	look          alarmLook
	before, after map[string]string // the qualities of the points
	operators     map[string]string // of the rules in the journal
}

// alarmSite is a site on both.
type alarmSite struct {
	client  redis.UniversalClient
	scripts map[string]scripts.Script
	prefix  string
	memory  *reference.Memory
	ledger  *alarmLedger
}

func newAlarmSite(client redis.UniversalClient, all map[string]scripts.Script) *alarmSite {
	return &alarmSite{client: client, scripts: all, prefix: fmt.Sprintf("{alarms%d-%d}:", os.Getpid(), matches.Add(1)),
		memory: reference.NewMemory(func() time.Time { return time.UnixMilli(start) }), ledger: newAlarmLedger()}
}

func (s *alarmSite) close() {
	names, err := s.client.Keys(context.Background(), s.prefix+"*").Result()
	if err == nil && len(names) > 0 {
		s.client.Del(context.Background(), names...)
	}
}

// evaluate makes a step on the Go counterpart.
func (s *alarmSite) evaluate(st step) alarmStep {
	done := alarmStep{step: st, args: slices.Clone(st[1:]), operators: map[string]string{}}
	for i, a := range done.args {
		switch {
		case strings.HasPrefix(a, "@"):
			done.args[i] = s.prefix + a[1:]
		case a == "$version":
			done.args[i] = s.memory.Key(s.prefix + "mapping:version").Text
		case a == "$batch":
			n, _ := strconv.Atoi(s.memory.Key(s.prefix + "comsrv:1001:fence").Hash["batch"])
			done.args[i] = strconv.Itoa(n + 1)
		}
	}
	quality := func() map[string]string { return s.memory.Key(s.prefix + "modsrv:m:quality").Hash }
	done.before = quality()
	if st[0] == "raw" {
		_, err := s.memory.Call(done.args...)
		done.reply = canonicalOutcome(nil, err)
	} else {
		reply, err := reference.Run(s.memory, reference.Script{Name: st[0]}, []string{s.prefix + "anchor"}, done.args)
		done.reply = canonicalOutcome(reply, err)
	}
	done.after = quality()
	done.look = s.lookHere()
	for _, e := range done.look.Journal {
		var rule struct{ Operator string }
		_ = json.Unmarshal([]byte(s.memory.Key(s.prefix + "alarm:rules:" + e["model_id"] + ":" + e["point_name"]).Hash[e["rule_id"]]), &rule)
		done.operators[ruleName(e)] = rule.Operator
	}
	return done
}

func ruleName(of map[string]string) string {
	return of["model_id"] + ":" + of["point_name"] + ":" + of["rule_id"]
}

// lookHere looks at the Go counterpart. The journal and the notifications go: the
// next look shows the new ones alone.
func (s *alarmSite) lookHere() alarmLook {
	key := func(name string) reference.Key { return s.memory.Key(s.prefix + name) }
	l := alarmLook{State: key("alarm:state").Hash, Shelved: key("alarm:shelved").Hash, Active: key("alarm:active").List,
		Closed: key("alarm:closed").Scores, Timers: key("timers").Scores, Records: map[string]map[string]string{}}
	for _, e := range key("alarm:journal").Stream {
		l.Journal = append(l.Journal, fieldsOf(e.Fields))
	}
	l.Queue = notificationsOf(key("notification:queue").List)
	if len(l.Journal)+len(l.Queue) > 0 {
		_, _ = s.memory.Call("DEL", s.prefix+"alarm:journal", s.prefix+"notification:queue")
	}
	record := func(id string) {
		if id != "" && l.Records[id] == nil {
			l.Records[id] = key("alarm:" + id).Hash
		}
	}
	for _, id := range l.Active {
		record(id)
	}
	for _, e := range l.Journal {
		record(e["alarm"])
	}
	return l
}

func fieldsOf(list []string) map[string]string {
	fields := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		fields[list[i]] = list[i+1]
	}
	return fields
}

func notificationsOf(list []string) (all []map[string]string) {
	for _, text := range slices.Backward(list) {
		var fields map[string]string
		if err := json.Unmarshal([]byte(text), &fields); err != nil {
			fields = map[string]string{"malformed": text}
		}
		all = append(all, fields)
	}
	return all
}

// looking is a look at the store that is under way: at the records that the Go
// counterpart has.
type looking struct {
	state, shelved *redis.MapStringStringCmd
	active         *redis.StringSliceCmd
	closed, timers *redis.ZSliceCmd
	journal        *redis.XMessageSliceCmd
	queue          *redis.StringSliceCmd
	records        map[string]*redis.MapStringStringCmd
}

func (s *alarmSite) lookThere(pipe redis.Pipeliner, want alarmLook) looking {
	ctx := context.Background()
	l := looking{state: pipe.HGetAll(ctx, s.prefix+"alarm:state"), shelved: pipe.HGetAll(ctx, s.prefix+"alarm:shelved"),
		active: pipe.SMembers(ctx, s.prefix+"alarm:active"), closed: pipe.ZRangeWithScores(ctx, s.prefix+"alarm:closed", 0, -1),
		timers: pipe.ZRangeWithScores(ctx, s.prefix+"timers", 0, -1), journal: pipe.XRange(ctx, s.prefix+"alarm:journal", "-", "+"),
		queue: pipe.LRange(ctx, s.prefix+"notification:queue", 0, -1), records: map[string]*redis.MapStringStringCmd{}}
	for id := range want.Records {
		l.records[id] = pipe.HGetAll(ctx, s.prefix+"alarm:"+id)
	}
	if len(want.Journal)+len(want.Queue) > 0 {
		pipe.Del(ctx, s.prefix+"alarm:journal", s.prefix+"notification:queue")
	}
	return l
}

// result is what the look has shown.
func (l looking) result() alarmLook {
	scores := func(list []redis.Z) map[string]float64 {
		if len(list) == 0 {
			return nil
		}
		all := make(map[string]float64, len(list))
		for _, z := range list {
			all[z.Member.(string)] = z.Score
		}
		return all
	}
	hash := func(h map[string]string) map[string]string {
		if len(h) == 0 {
			return nil
		}
		return h
	}
	look := alarmLook{State: hash(l.state.Val()), Shelved: hash(l.shelved.Val()), Closed: scores(l.closed.Val()), Timers: scores(l.timers.Val()),
		Queue: notificationsOf(l.queue.Val()), Records: map[string]map[string]string{}}
	if active := l.active.Val(); len(active) > 0 {
		slices.Sort(active)
		look.Active = active
	}
	for _, e := range l.journal.Val() {
		fields := make(map[string]string, len(e.Values))
		for name, v := range e.Values {
			fields[name], _ = v.(string)
		}
		look.Journal = append(look.Journal, fields)
	}
	for id, h := range l.records {
		look.Records[id] = hash(h.Val())
	}
	return look
}

// play makes steps on the store, and returns what differs and after how many.
func (s *alarmSite) play(done []alarmStep) (difference string, at int) {
	ctx := context.Background()
	pipe := s.client.Pipeline()
	replies, looks := make([]*redis.Cmd, len(done)), make([]looking, len(done))
	keys := []string{s.prefix + "anchor"}
	for i, d := range done {
		if d.step[0] == "raw" {
			replies[i] = pipe.Do(ctx, anys(d.args)...)
		} else {
			replies[i] = pipe.EvalSha(ctx, s.scripts[d.step[0]].SHA, keys, anys(d.args)...)
		}
		looks[i] = s.lookThere(pipe, d.look)
	}
	if _, err := pipe.Exec(ctx); err != nil && !isReply(err) {
		return err.Error(), 1
	}
	for i, d := range done {
		_, err := replies[i].Result()
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		var reply []string
		if err == nil && d.step[0] != "raw" {
			reply, err = replies[i].StringSlice()
		}
		if got := canonicalOutcome(reply, err); got != d.reply {
			return fmt.Sprintf("reply of %s:\n  reference: %s\n  store: %s %v", d.step, d.reply, got, err), i + 1
		}
		look := looks[i].result()
		if what := lookDiffers(d.look, look); what != "" {
			return fmt.Sprintf("after %s:\n%s", d.step, what), i + 1
		}
		if what := s.ledger.check(d, look); what != "" {
			return fmt.Sprintf("after %s: %s\n  %+v", d.step, what, look), i + 1
		}
	}
	return "", len(done)
}

// isReply: the store has answered, and each command has its own error.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func lookDiffers(want, got alarmLook) string {
	for _, shelved := range []map[string]string{want.Shelved, got.Shelved} {
		for name, text := range shelved {
			shelved[name] = canonicalJSON(text)
		}
	}
	if maps.Equal(want.State, got.State) && maps.Equal(want.Shelved, got.Shelved) && slices.Equal(want.Active, got.Active) &&
		maps.Equal(want.Closed, got.Closed) && maps.Equal(want.Timers, got.Timers) && slices.EqualFunc(want.Journal, got.Journal, maps.Equal) &&
		slices.EqualFunc(want.Queue, got.Queue, maps.Equal) && maps.EqualFunc(want.Records, got.Records, maps.Equal) {
		return ""
	}
	w, g := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range w.NumField() {
		if !reflect.DeepEqual(w.Field(i).Interface(), g.Field(i).Interface()) {
			return fmt.Sprintf("%s:\n  reference: %v\n  store: %v", w.Type().Field(i).Name, w.Field(i), g.Field(i))
		}
	}
	return ""
}

// replay makes steps on a new site.
func (s *alarmSite) replay(steps []step) (difference string, at int) {
	again := newAlarmSite(s.client, s.scripts)
	defer again.close()
	done := make([]alarmStep, len(steps))
	for i, st := range steps {
		done[i] = again.evaluate(st)
	}
	return again.play(done)
}

// shrink returns the fewest steps that it finds within a while that still fail.
func (s *alarmSite) shrink(steps []step, difference string) ([]step, string) {
	until := time.Now().Add(20 * time.Second)
	for size := max(len(steps)/2, 1); ; {
		removed := false
		for from := 0; from < len(steps) && time.Now().Before(until); {
			fewer := slices.Concat(steps[:from], steps[min(from+size, len(steps)):])
			if d, at := s.replay(fewer); d != "" {
				steps, difference, removed = fewer[:at], d, true
			} else {
				from += size
			}
		}
		if time.Now().After(until) || size == 1 && !removed {
			return steps, difference
		}
		size = max(size/2, 1)
	}
}

// TestAlarmModel runs 100,000 steps on Redis and 20,000 on the embedded store in CI,
// 1,000,000 and 200,000 with VOLTAGE_LONG=1, and fewer where nobody asked for many.
func TestAlarmModel(t *testing.T) {
	t.Parallel()
	for _, store := range []struct {
		name                string
		few, ci, raced, all int
		open                func(t *testing.T) redis.UniversalClient
	}{
		{"redis", 10_000, 100_000, 2_000, 1_000_000, func(t *testing.T) redis.UniversalClient { return storetest.Client(t, storetest.Own(t).URL) }},
		{"embedded", 1_000, 20_000, 400, 200_000, func(t *testing.T) redis.UniversalClient { return storetest.Embedded(t) }},
	} {
		t.Run(store.name, func(t *testing.T) {
			steps := store.few
			switch {
			case os.Getenv("VOLTAGE_LONG") == "1":
				steps = store.all
			case storetest.Raced: // it has one goroutine
				steps = store.raced
			case os.Getenv("VOLTAGE_CI") == "1":
				steps = store.ci
			}
			testAlarmModel(t, store.open(t), steps)
		})
	}
}

func testAlarmModel(t *testing.T, client redis.UniversalClient, steps int) {
	list, err := scripts.Scripts()
	require.NoError(t, err)
	all := map[string]scripts.Script{}
	for _, s := range list {
		all[s.Name] = s
		require.NoError(t, client.ScriptLoad(t.Context(), s.Text).Err())
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VOLTAGE_SEED"); s != "" { // a failure names its seed: again with that one first
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	seen := map[string]int{}
	for made := 0; made < steps; seed++ {
		s := newAlarmSite(client, all)
		g := newAlarmGenerator(&dice{random: rand.New(rand.NewPCG(seed, seed))}, s)
		var before []step
		for len(before) < alarmSiteSteps {
			var block []alarmStep
			for range alarmBlock {
				block = append(block, s.evaluate(g.next()))
				before = append(before, block[len(block)-1].step)
			}
			if difference, at := s.play(block); difference != "" {
				fewest, difference := s.shrink(before[:len(before)-len(block)+at], difference)
				var text strings.Builder
				for _, st := range fewest {
					fmt.Fprintln(&text, st)
				}
				t.Fatalf("VOLTAGE_SEED=%d: %s\n\nafter these steps:\n%s", seed, difference, text.String())
			}
		}
		s.close()
		made += len(before)
		for kind, n := range s.ledger.seen {
			seen[kind] += n
		}
	}
	if testing.Verbose() {
		for _, kind := range slices.Sorted(maps.Keys(seen)) {
			t.Logf("%7d %s", seen[kind], kind)
		}
	}
	for _, kind := range alarmTransitions {
		if steps < 10_000 { // may well be without one that is rare
			break
		}
		require.NotZero(t, seen[kind], "no alarm was ever %s", kind)
	}
}
