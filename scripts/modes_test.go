package scripts_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// modeWorld is a site with everything that batches can set off, and an ear on
// its Pub/Sub channels.
type modeWorld struct {
	*scripts.Plane
	client redis.UniversalClient
	prefix string
	now    int64
	points []model.Point
	writer *scripts.Writer
	sub    *redis.PubSub
	marks  int
}

const worldPoints = 24

func newWorld(t *testing.T, client redis.UniversalClient, change func(*scripts.Options)) *modeWorld {
	t.Helper()
	w := &modeWorld{client: client, now: start}
	o := scripts.Options{Site: storetest.Site(t), Now: func() time.Time { return time.UnixMilli(w.now) },
		HistoryBytes: 1 << 20, CloudBytes: 1 << 20, Restore: w.define, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	w.prefix = "{" + o.Site + "}:"
	var err error
	w.Plane, err = scripts.New(client, o)
	require.NoError(t, err)
	for i := range worldPoints {
		p := model.Point{ID: fmt.Sprint(i)}
		switch {
		case i >= 22:
			p.Kind, p.Min, p.Max, p.Step = model.Control, new(-100.0), new(100.0), 0.5
		case i >= 20:
			p.Kind = model.Signal
		case i == 19:
			p.Text = true
		}
		w.points = append(w.points, p)
	}
	ctx := context.Background()
	require.NoError(t, w.Prepare(ctx))
	require.NoError(t, w.define(ctx))
	w.acquire(t)
	w.sub = client.PSubscribe(ctx, w.prefix+"*")
	_, err = w.sub.Receive(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.sub.Close() })
	return w
}

func (w *modeWorld) acquire(t *testing.T) {
	t.Helper()
	lease, err := w.Acquire(context.Background(), "1001", "engine", time.Hour)
	require.NoError(t, err)
	w.writer = w.NewWriter(lease, w.points)
}

func (w *modeWorld) define(ctx context.Context) error {
	m1 := model.Instance{ID: "m1", Measurements: map[string]string{}, Signals: map[string]string{"on": "1001:20"}, Controls: map[string]string{"set": "1001:22"}}
	m2 := model.Instance{ID: "m2", Measurements: map[string]string{}, Signals: map[string]string{"on": "1001:21"}, Controls: map[string]string{"set": "1001:23"}}
	for i := range 20 {
		if i < 12 {
			m1.Measurements[fmt.Sprintf("v%d", i)] = fmt.Sprintf("1001:%d", i)
		}
		if i > 8 {
			m2.Measurements[fmt.Sprintf("v%d", i)] = fmt.Sprintf("1001:%d", i)
		}
	}
	do := []error{w.PutPoints(ctx, "1001", w.points), w.PutModel(ctx, m1), w.PutModel(ctx, m2)}
	for i := range 12 {
		do = append(do, w.PutAlarmRule(ctx, model.AlarmRule{ID: "high", Model: "m1", Point: fmt.Sprintf("v%d", i), Operator: model.Above,
			Threshold: 50, Hysteresis: float64(i % 3 * 5), Severity: model.High}))
		if i%4 == 0 {
			do = append(do, w.PutAlarmRule(ctx, model.AlarmRule{ID: "low", Model: "m1", Point: fmt.Sprintf("v%d", i), Operator: "<=",
				Threshold: 10.5, Hysteresis: 2, Message: `below, "far"`}))
		}
	}
	for i, a := range []model.Action{
		{Type: model.ActionControl, Model: "m1", Control: "set", Value: 12.5},
		{Type: model.ActionControl, Model: "m2", Control: "set", Value: 0.3}, // not on the step
		{Type: model.ActionControl, Model: "m2", Control: "none", Value: 1},
		{Type: model.ActionAlarm, Severity: model.Critical, Message: "rule alarm"},
		{Type: model.ActionNotification, Message: "rule note"},
	} {
		do = append(do, w.PutRule(ctx, model.Rule{ID: fmt.Sprintf("r%d", i), Conditions: []model.Condition{
			{Model: "m1", Point: fmt.Sprintf("v%d", i), Operator: ">", Threshold: 60},
			{Model: "m2", Point: fmt.Sprintf("v%d", 12+i), Operator: "<", Threshold: 80}},
			Actions: []model.Action{a, {Type: model.ActionControl, Model: "m1", Control: "set", Value: float64(i)}}}))
	}
	for _, err := range do {
		if err != nil {
			return err
		}
	}
	return nil
}

// event is one thing that happens to a world, the same to each.
type modeEvent struct {
	at      int64
	samples []model.Sample
	refresh bool
	// before the batch
	foreign string // a key that another program takes for something else …
	healed  string // … and one that it gives back
	by      string // ack or close, of the newest open alarm
	renewed bool   // the channel is acquired again
	rule    bool   // definitions change
}

var foreignKeys = []string{"modsrv:m1:measurement", "modsrv:m2:ts", "comsrv:1001:m", "modsrv:m1:quality", "alarm:journal", "alarm:state",
	"alarm:active", "alarm:closed", "timers", "hissrv:queue", "rule:stats:r0", "rules:state", "command:journal", "cmd:1001:queue", "cmd:1001:control", "notification:queue",
	"alarm:counter", "cache:model:m1:values", "rule:r1"}

func modeEvents(r *rand.Rand, n int, foreign bool) []modeEvent {
	list, at, wrong := make([]modeEvent, n), start, ""
	for i := range list {
		at += r.Int64N(3000)
		e := modeEvent{at: at, refresh: r.IntN(8) == 0, renewed: r.IntN(40) == 0, rule: r.IntN(30) == 0}
		count := 1 + r.IntN(worldPoints)
		if r.IntN(3) == 0 {
			count = 2 * worldPoints
		}
		for range count {
			e.samples = append(e.samples, modeSample(r, at))
		}
		switch r.IntN(10) {
		case 0:
			e.by = "ack"
		case 1:
			e.by = "close"
		}
		if foreign && wrong == "" && r.IntN(4) == 0 {
			wrong = foreignKeys[r.IntN(len(foreignKeys))]
			e.foreign = wrong
		} else if wrong != "" && r.IntN(3) == 0 {
			e.healed, wrong = wrong, ""
		}
		list[i] = e
	}
	return list
}

func modeSample(r *rand.Rand, at int64) model.Sample {
	s := model.Sample{Point: fmt.Sprint(r.IntN(worldPoints)), Value: float64(r.IntN(1000)) / 10}
	if s.Point == "19" {
		s.Text = fmt.Sprintf("a,%d%%", r.IntN(5))
	}
	if r.IntN(8) == 0 {
		s.Quality = model.Quality(r.IntN(int(model.Offline) + 1))
	}
	if r.IntN(6) == 0 {
		s.Time = time.UnixMilli(at - r.Int64N(5000))
	}
	return s
}

// happen lets an event happen, in a mode.
func (w *modeWorld) happen(t *testing.T, e modeEvent, mode scripts.SyncMode) []string {
	t.Helper()
	ctx := context.Background()
	w.now = e.at
	if e.foreign != "" {
		require.NoError(t, w.client.Set(ctx, w.prefix+e.foreign, "another program's", 0).Err())
	}
	if e.healed != "" {
		require.NoError(t, w.client.Del(ctx, w.prefix+e.healed).Err())
	}
	if e.renewed {
		w.acquire(t)
	}
	if e.rule {
		require.NoError(t, w.PutAlarmRule(ctx, model.AlarmRule{ID: "extra", Model: "m2", Point: "v14", Operator: ">", Threshold: float64(e.at % 100)}))
	}
	if open, err := w.client.SMembers(ctx, w.prefix+"alarm:active").Result(); e.by != "" && err == nil && len(open) > 0 {
		slices.Sort(open)
		id := open[len(open)-1]
		if e.by == "ack" {
			_, _ = w.Acknowledge(ctx, id, "operator", "seen")
		} else {
			_, _ = w.CloseAlarm(ctx, id, "operator", "done")
		}
	}
	require.NoError(t, w.SetSyncMode(ctx, mode, []string{"1001"}, scripts.Change{By: "test"}))
	_, warnings, err := w.writer.Write(ctx, slices.Clone(e.samples), e.refresh)
	require.NoError(t, err)
	for i, text := range warnings { // where in the script, Go does not say
		warnings[i] = strings.ReplaceAll(linesOfLua.ReplaceAllString(text, "$1"), w.prefix, "")
	}
	return warnings
}

var linesOfLua = regexp.MustCompile(`(: )(?:(?:@?user_script)?: ?\d+: )+`)

// dump is everything that the site has, but for what the modes themselves leave
// and what the store's own clock made.
func (w *modeWorld) dump(t *testing.T) map[string]string {
	t.Helper()
	ctx := context.Background()
	all := map[string]string{}
	for _, key := range keysOf(t, w.client, w.prefix) {
		name := strings.TrimPrefix(key, w.prefix)
		if strings.HasPrefix(name, "lua:") || name == "sync:modes" || name == "site:generation" {
			continue
		}
		kind, err := w.client.Type(ctx, key).Result()
		require.NoError(t, err)
		text := kind
		if ttl := w.client.TTL(ctx, key).Val(); ttl > 0 {
			text += " expires"
		}
		switch kind {
		case "string":
			text += " " + w.client.Get(ctx, key).Val()
		case "set":
			members := w.client.SMembers(ctx, key).Val()
			slices.Sort(members)
			text += fmt.Sprint(members)
		case "zset":
			text += fmt.Sprint(w.client.ZRangeWithScores(ctx, key, 0, -1).Val())
		case "list":
			for _, item := range w.client.LRange(ctx, key, 0, -1).Val() {
				var v any // the order of the names is free
				require.NoError(t, json.Unmarshal([]byte(item), &v))
				text += fmt.Sprint("\n", v)
			}
		case "hash":
			h := w.client.HGetAll(ctx, key).Val()
			if strings.HasPrefix(name, "command:") && h["entry"] != "" {
				h["entry"] = "an id"
			}
			text += fmt.Sprint(h)
		case "stream":
			for _, e := range w.client.XRange(ctx, key, "-", "+").Val() {
				if e.Values["entry"] != "" && e.Values["entry"] != nil {
					e.Values["entry"] = "an id"
				}
				text += fmt.Sprint("\n", e.Values)
			}
		}
		all[name] = text
	}
	return all
}

// messages returns what was published so far.
func (w *modeWorld) messages(t *testing.T) (list []string) {
	t.Helper()
	w.marks++
	mark := fmt.Sprint("mark", w.marks)
	require.NoError(t, w.client.Publish(context.Background(), w.prefix+"mark", mark).Err())
	for {
		m, err := w.sub.ReceiveTimeout(context.Background(), 20*time.Second)
		require.NoError(t, err)
		if m, ok := m.(*redis.Message); ok {
			if m.Payload == mark {
				return list
			}
			if name := strings.TrimPrefix(m.Channel, w.prefix); name != "lua:changed" {
				list = append(list, name+" "+m.Payload)
			}
		}
	}
}

// long is the count of a short run, or of a full one.
func long(short, full int) int {
	if os.Getenv("VOLTAGE_LONG") == "1" {
		return full
	}
	return short
}

// seeded returns a source of chance and tells its seed.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(1)
	if os.Getenv("VOLTAGE_LONG") == "1" {
		seed = rand.Uint64()
	}
	t.Log("seed", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// Every mode does the same, batch by batch, whatever the order of modes.
func TestModesAreTheSame(t *testing.T) {
	t.Parallel()
	for _, foreign := range []bool{false, true} {
		t.Run(fmt.Sprintf("foreign=%v", foreign), func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, client redis.UniversalClient) { testModes(t, client, foreign) })
		})
	}
}

func testModes(t *testing.T, client redis.UniversalClient, foreign bool) {
	r := seeded(t)
	events := modeEvents(r, long(40, 400), foreign)
	lua, mixed := newWorld(t, client, nil), newWorld(t, client, nil)
	modes := []scripts.SyncMode{scripts.SyncLua, scripts.SyncDirect, scripts.SyncShadow, scripts.SyncDirect}
	for i, e := range events {
		mode := modes[r.IntN(len(modes))]
		want := lua.happen(t, e, scripts.SyncLua)
		got := mixed.happen(t, e, mode)
		require.Equal(t, want, got, "batch %d, %s", i, mode)
		require.Equal(t, lua.messages(t), mixed.messages(t), "batch %d, %s", i, mode)
		if i%10 == 9 || i == len(events)-1 {
			require.Equal(t, lua.dump(t), mixed.dump(t), "up to batch %d, %s", i, mode)
		}
	}
	require.Empty(t, mixed.shadowed(t, 10))
}
