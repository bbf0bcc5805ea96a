package scripts

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

// alarmSite is a site as it stands in Redis: the channel 1001 with the points 1
// to 5, the last a text, bound to pcs1, the first to site too; and 1002 with
// bms1's.
func alarmSite(t testing.TB, rules map[string]map[string]string) *stored {
	t.Helper()
	text := func(v any) string {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return string(b)
	}
	s := &stored{version: "7", c2m: map[string]string{
		"1001:1": "pcs1:power,site:power", "1001:2": "pcs1:temperature", "1001:3": "pcs1:running", "1001:4": "pcs1:setpoint", "1001:5": "pcs1:serial",
		"1002:1": "bms1:voltage"},
		models: map[string]map[string]string{
			"pcs1": {"json": text(model.Instance{Measurements: map[string]string{"power": "1001:1", "temperature": "1001:2", "serial": "1001:5"},
				Signals: map[string]string{"running": "1001:3"}, Controls: map[string]string{"setpoint": "1001:4"}})},
			"site": {"json": text(model.Instance{Measurements: map[string]string{"power": "1001:1"}})},
			"bms1": {"json": text(model.Instance{Measurements: map[string]string{"voltage": "1002:1"}})},
		},
		pointDefinitions: map[string]map[string]string{"1001": {}, "1002": {"1": text(model.Point{ID: "1"})}},
		alarmRules:       rules,
	}
	for _, p := range alarmPoints() {
		s.pointDefinitions["1001"][p.ID] = text(p)
	}
	return s
}

func alarmPoints() []model.Point {
	return []model.Point{{ID: "1"}, {ID: "2"}, {ID: "3", Kind: model.Signal}, {ID: "4", Kind: model.Control}, {ID: "5", Text: true}}
}

// alarmWriter is a Writer of the channel 1001 that is asked for its batches and
// never sends one.
type alarmWriter struct {
	*Writer
	t testing.TB
}

func newAlarmWriter(t testing.TB, rules map[string]map[string]string) (alarmWriter, *plan) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	p, err := New(client, Options{Site: "s"})
	require.NoError(t, err)
	pl := newPlan(alarmSite(t, rules))
	w := p.NewWriter(Lease{Channel: "1001", Epoch: "1"}, alarmPoints())
	w.resolve(pl)
	return alarmWriter{w, t}, pl
}

// build makes the call of a batch.
func (w alarmWriter) build(samples []model.Sample, refresh bool) []any {
	w.places = w.places[:0]
	for i := range samples {
		place, err := w.check(&samples[i], i)
		require.NoError(w.t, err)
		w.places = append(w.places, place)
	}
	p := w.p
	return w.Writer.build.args(w.Writer, p.scriptFor(p.scripts["data_sync"], "1001"), p.generation.Load(), samples, refresh)
}

// items returns the alarm items of a batch that was stored, a line each.
func (w alarmWriter) items(refresh bool, samples ...model.Sample) []string {
	w.t.Helper()
	var args []string
	for _, a := range w.build(samples, refresh) {
		if text, ok := a.(*string); ok {
			a = *text
		}
		args = append(args, fmt.Sprint(a))
	}
	for i := range samples {
		pt := w.at(i)
		pt.at, pt.stored = pt.building, pt.lastValue
	}
	at := slices.Index(args, sectionAlarms)
	if at < 0 {
		return nil
	}
	n, err := strconv.Atoi(args[at+1])
	require.NoError(w.t, err)
	var list []string
	for i := range n {
		list = append(list, strings.Join(args[at+2+5*i:at+7+5*i], " "))
	}
	return list
}

func at(point string, value float64, ms int64) model.Sample {
	return model.Sample{Point: point, Value: value, Time: time.UnixMilli(ms)}
}

func bad(point string, q model.Quality) model.Sample {
	return model.Sample{Point: point, Quality: q}
}

func TestAlarmItemsOfConditions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"operator":">","threshold":60,"hysteresis":2.5}`:                        "> 60.000000 2.500000",
		`{"operator":"!=","threshold":1}`:                                         "!= 1.000000 0.000000",
		`{"operator":"in_range","threshold":-5,"high":60,"hysteresis":1}`:         "in_range -5.000000:60.000000 1.000000",
		`{"operator":"out_of_range","threshold":0,"high":0}`:                      "out_of_range 0.000000:0.000000 0.000000",
		`{"operator":"deviation","threshold":5,"reference":"temperature"}`:        "deviation 5.000000:pcs1:temperature 0.000000",
		`{"operator":"deviation","threshold":5,"reference":"bms1:voltage"}`:       "deviation 5.000000:bms1:voltage 0.000000",
		`{"operator":"rate","threshold":5,"hysteresis":1}`:                        "rate 5.000000:1000 1.000000",
		`{"operator":"rate","threshold":0.5,"window_ms":60000}`:                   "rate 0.500000:60000 0.000000",
		`{"operator":"change","threshold":9}`:                                     "change 0 0.000000",
		`{"operator":"bit_set","threshold":3}`:                                    "bit_set 3.000000 0.000000",
		`{"operator":"stale"}`:                                                    "stale 0 0.000000",
		`{"operator":"bad_quality"}`:                                              "bad_quality 0 0.000000",
		`{"operator":">","threshold":1,"on_delay_ms":5,"latch":true,"count":"1"}`: "> 1.000000 0.000000",
	} {
		w, pl := newAlarmWriter(t, map[string]map[string]string{"pcs1:power": {"r": text}})
		require.Empty(t, pl.problems, text)
		require.Equal(t, []string{"pcs1:power:r 7.000000 " + want}, w.items(false, model.Sample{Point: "1", Value: 7}), text)
	}
}

func TestAlarmItemsOfSamples(t *testing.T) {
	t.Parallel()
	w, pl := newAlarmWriter(t, map[string]map[string]string{
		"pcs1:power":  {"high": `{"operator":">","threshold":60}`, "gone": `{"operator":"stale"}`, "off": `{"operator":">","threshold":1,"disabled":true}`},
		"site:power":  {"high": `{"operator":">=","threshold":50}`},
		"pcs1:serial": {"gone": `{"operator":"bad_quality"}`, "text": `{"operator":">","threshold":1}`},
	})
	require.Empty(t, pl.problems)
	high := func(value string) []string {
		return []string{"pcs1:power:high " + value + " > 60.000000 0.000000", "site:power:high " + value + " >= 50.000000 0.000000"}
	}
	all := func(value string) []string {
		return slices.Insert(high(value), 0, "pcs1:power:gone "+value+" stale 0 0.000000")
	}
	good := model.Sample{Point: "1", Value: 7}
	require.Equal(t, all("7.000000"), w.items(false, good), "the first sample: nobody knows which quality is stored")
	require.Equal(t, high("7.000000"), w.items(false, good), "the quality is as it was")
	require.Equal(t, all("7.000000"), w.items(true, good), "a refresh judges everything")
	require.Equal(t, high("8.500000@1700000000123"), w.items(false, at("1", 8.5, 1700000000123)))
	require.Nil(t, w.items(false, at("1", 9, 1700000000000)), "older than what is stored")
	require.Equal(t, high("9.000000@1700000000124"), w.items(false, at("1", 8, 1700000000122), at("1", 9, 1700000000124)))
	require.Equal(t, all("!stale"), w.items(false, bad("1", model.Stale)))
	require.Nil(t, w.items(false, bad("1", model.Stale)), "it was told")
	require.Equal(t, all("!stale"), w.items(true, bad("1", model.Stale)))
	require.Equal(t, all("!offline"), w.items(false, bad("1", model.Offline)))
	require.Equal(t, all("!bad"), w.items(false, bad("1", 99)), "a driver's own quality")
	require.Equal(t, all("7.000000"), w.items(false, model.Sample{Point: "1", Value: 7, Quality: model.Uncertain}))
	require.Equal(t, slices.Concat(high("1.000000"), high("2.000000"), all("!invalid")),
		w.items(false, model.Sample{Point: "1", Value: 1}, model.Sample{Point: "1", Value: 2}, bad("1", model.Invalid)), "in the order of the samples")
	w.unsettle()
	require.Equal(t, all("!invalid"), w.items(false, bad("1", model.Invalid)), "after a try of which nobody knows")

	// A text has nothing to compare, and can go bad like any value.
	gone := func(value string) []string { return []string{"pcs1:serial:gone " + value + " bad_quality 0 0.000000"} }
	require.Equal(t, gone(""), w.items(false, model.Sample{Point: "5", Text: "A1", Time: time.UnixMilli(1700000000123)}))
	require.Nil(t, w.items(false, model.Sample{Point: "5", Text: "A2"}))
	require.Equal(t, gone("!blocked"), w.items(false, bad("5", model.Blocked)))
	require.Equal(t, gone(""), w.items(false, model.Sample{Point: "5", Text: "A2"}))

	require.Nil(t, w.items(true, at("2", 1, 1700000000123), bad("3", model.Bad)), "points without rules")
}

// A rule that looks at another point is judged when that one changes.
func TestAlarmItemsOfDependents(t *testing.T) {
	t.Parallel()
	enable := func(point string) string {
		return `{"operator":"<","threshold":600,"enable":{"model_id":"pcs1","point_name":"` + point + `","operator":"==","threshold":1}}`
	}
	w, pl := newAlarmWriter(t, map[string]map[string]string{
		"bms1:voltage":     {"low": enable("running")},                                                                       // of another channel
		"pcs1:temperature": {"cold": enable("running"), "far": `{"operator":"deviation","threshold":5,"reference":"power"}`}, // of this one
		"pcs1:running":     {"self": enable("running")},
		"pcs1:power": {"both": `{"operator":"deviation","threshold":5,"reference":"temperature",
			"enable":{"point_name":"temperature","operator":">","threshold":0}}`},
		"channel:1001": {"offline": `{"operator":"offline","enable":{"model_id":"pcs1","point_name":"running","operator":"==","threshold":1}}`},
	})
	require.Empty(t, pl.problems)
	low, cold := "bms1:voltage:low  < 600.000000 0.000000", "pcs1:temperature:cold  < 600.000000 0.000000"
	far, both := "pcs1:temperature:far  deviation 5.000000:pcs1:power 0.000000", "pcs1:power:both  deviation 5.000000:pcs1:temperature 0.000000"
	direct := func(item, value string) string { return strings.Replace(item, "  ", " "+value+" ", 1) }
	self := "pcs1:running:self 1.000000 < 600.000000 0.000000"

	running := model.Sample{Point: "3", Value: 1}
	require.Equal(t, []string{self, low, cold}, w.items(false, running))
	require.Equal(t, []string{self, self, low, cold}, w.items(true, running, running), "once in a batch")
	require.Equal(t, []string{"pcs1:running:self !stale < 600.000000 0.000000", low, cold}, w.items(false, bad("3", model.Stale)))
	require.Nil(t, w.items(false, bad("3", model.Stale)), "nothing has changed")
	require.Equal(t, []string{direct(both, "7.000000"), direct(cold, "20.000000"), direct(far, "20.000000"), far, both},
		w.items(false, model.Sample{Point: "1", Value: 7}, model.Sample{Point: "2", Value: 20}), "what is judged by its own sample comes first")
	require.Equal(t, []string{far}, w.items(false, model.Sample{Point: "1", Value: 7})[1:])
}

// What the rules look at is named where nothing leads to it, and channels are
// left to the tick.
func TestAlarmPlan(t *testing.T) {
	t.Parallel()
	w, pl := newAlarmWriter(t, map[string]map[string]string{
		"pcs1:power":   {"a": `{"operator":"deviation","threshold":5,"reference":"nothing"}`, "b": `{"operator":">"}`},
		"pcs1:nothing": {"a": `{"operator":"stale"}`},
		"bms1:voltage": {"a": `{"operator":"<","threshold":5,"enable":{"model_id":"pcs9","point_name":"running","operator":"==","threshold":1}}`},
		"channel:1002": {"a": `{"operator":"offline"}`},
		"channel:1001": {"a": `{"operator":"offline","on_delay_ms":10000}`, "b": `{"operator":"offline","latch":true}`},
		"channel:1003": {"a": `{"operator":"offline"}`},
		"channel:1004": {"a": `{"operator":"offline","disabled":true}`},
		"channel:1005": {"a": `{"operator":"stale"}`},
	})
	require.Equal(t, []string{
		"alarm rule a of bms1:voltage: enable pcs9:running: no such point is mapped",
		"alarm rule a of pcs1:power: reference pcs1:nothing: no such point is mapped",
		"alarm rules of channel:1003: there is no channel 1003 with points",
		"alarm rules of pcs1:nothing: no such point is mapped",
		`invalid: alarm rule "b" of pcs1:power: no threshold`,
		`invalid: alarm rule a of channel:1005: operator stale: "offline" is for the model "channel", whose points are the channels, and that has no other`,
	}, pl.problems)
	require.Nil(t, w.p.OfflineChannels(), "nothing was read yet")
	w.p.plan.Store(pl)
	require.Equal(t, []string{"1001", "1002", "1003"}, w.p.OfflineChannels())
}

// Only what matters to a writer makes it send everything again.
func TestAlarmRulesOfAnotherPlan(t *testing.T) {
	t.Parallel()
	rule := `{"operator":"<","threshold":5,"enable":{"point_name":"running","operator":"==","threshold":%d},"on_delay_ms":%d}`
	with := func(threshold, delay int) map[string]map[string]string {
		return map[string]map[string]string{"pcs1:power": {"a": fmt.Sprintf(rule, threshold, delay)}}
	}
	w, _ := newAlarmWriter(t, with(1, 500))
	require.False(t, w.resolve(newPlan(alarmSite(t, with(1, 500)))), "the same rules, read again")
	require.True(t, w.resolve(newPlan(alarmSite(t, with(2, 500)))), "another condition")
	require.True(t, w.resolve(newPlan(alarmSite(t, with(2, 501)))), "another delay")
}

// A batch of any number of samples with rules, device times and dependents is
// made without an allocation.
func TestAlarmItemsCostNothing(t *testing.T) {
	w, _ := newAlarmWriter(t, map[string]map[string]string{
		"pcs1:power":       {"a": `{"operator":">","threshold":60}`, "b": `{"operator":"rate","threshold":60}`},
		"pcs1:temperature": {"a": `{"operator":"deviation","threshold":5,"reference":"power"}`},
	})
	samples := make([]model.Sample, 0, 300)
	ms := int64(1700000000000)
	batch := func() {
		samples = samples[:0]
		for i := range cap(samples) / 2 {
			ms++
			samples = append(samples, at("1", float64(i), ms), at("2", float64(i), ms))
		}
		w.build(samples, false)
		for i := range samples {
			pt := w.at(i)
			pt.at, pt.stored = pt.building, pt.lastValue
		}
	}
	batch()
	require.Less(t, testing.AllocsPerRun(20, batch), 10.0)
}
