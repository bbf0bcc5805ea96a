package alarmtest_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm/alarmtest"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// topics are the files that document what alarms do, each by what it covers.
var topics = []string{"comparisons", "conditions", "counts", "delays", "design", "floods", "lifecycle", "quality", "rules", "shelving"}

// TestFiles runs them on every store, and with the same logic in Go instead of Lua. As
// the engine leaves out what did not change, and must come to the same, they run that
// way as well.
func TestFiles(t *testing.T) {
	t.Parallel()
	seen := &coverage{seen: map[string]bool{}}
	t.Run("embedded", func(t *testing.T) {
		if _, err := exec.LookPath("redis-server"); storetest.Raced && err == nil {
			t.Skip("Lua in this process is slow under the race detector, and redis-server is here")
		}
		for _, topic := range topics {
			t.Run(topic, func(t *testing.T) {
				t.Parallel()
				runTopic(t, topic, storetest.Embedded(t), scripts.SyncLua, false, seen)
			})
		}
	})
	for _, mode := range []scripts.SyncMode{scripts.SyncLua, scripts.SyncDirect, scripts.SyncShadow} {
		t.Run("redis "+string(mode), func(t *testing.T) {
			url := storetest.Redis(t)
			for _, topic := range topics {
				t.Run(topic, func(t *testing.T) {
					t.Parallel()
					runTopic(t, topic, storetest.Client(t, url), mode, true, seen)
				})
			}
		})
	}
	if len(seen.seen) == 0 {
		t.Skip("no store was asked: neither is redis-server here nor was the embedded one wanted")
	}
	seen.check(t)
}

func runTopic(t *testing.T, topic string, client redis.UniversalClient, mode scripts.SyncMode, changed bool, seen *coverage) {
	name := filepath.Join("testdata", topic+".alarmtest")
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	f, err := alarmtest.Parse(name, text)
	require.NoError(t, err)
	var planes []*scripts.Plane
	results, err := f.Run(t.Context(), alarmtest.Options{Changed: changed, Open: func(now func() time.Time) (*scripts.Plane, error) {
		p, err := scripts.New(client, scripts.Options{Site: storetest.Site(t), Now: now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, err
		}
		planes = append(planes, p)
		return p, errors.Join(p.Prepare(t.Context()), p.SetInitialSyncModes(t.Context(), map[string]scripts.SyncMode{"*": mode}))
	}})
	require.NoError(t, err)
	require.Len(t, results, len(f.Tests()))
	for _, r := range results {
		for _, failure := range r.Failures {
			t.Errorf("test %q: %s", r.Test, failure)
		}
	}
	for _, p := range planes {
		seen.add(t, p)
		require.Zero(t, p.ShadowStats().Differences)
	}
}

// TestTopics has no file be forgotten.
func TestTopics(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/*.alarmtest")
	require.NoError(t, err)
	var found []string
	for _, name := range names {
		found = append(found, strings.TrimSuffix(filepath.Base(name), ".alarmtest"))
	}
	require.Equal(t, topics, found)
}

// coverage is what happened in the journals of the tests.
type coverage struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (c *coverage) add(t *testing.T, p *scripts.Plane) {
	t.Helper()
	list, err := p.AlarmJournal(t.Context(), "", 10_000)
	require.NoError(t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	status := map[string]string{}
	for _, e := range list {
		before := status[e.Alarm]
		if before == "" {
			before = "normal"
		}
		after := string(e.Status)
		if e.Alarm == "" {
			before, after = "normal", "normal"
		}
		status[e.Alarm] = after
		c.seen[fmt.Sprintf("%s %s %s", before, e.Transition, after)] = true
		rules, err := p.AlarmRules(t.Context(), e.Model, e.Point)
		require.NoError(t, err)
		for _, r := range rules {
			if r.ID != e.Rule {
				continue
			}
			what := fmt.Sprintf("%s %s", r.Operator, e.Transition)
			c.seen[what] = true
			for feature, has := range map[string]bool{"deadband": r.Hysteresis > 0, "on_delay": r.OnDelay > 0, "off_delay": r.OffDelay > 0, "count": r.Count > 1,
				"latch": r.Latch, "enable": r.Enable != nil, "device time": !e.DeviceTime.IsZero()} {
				if has {
					c.seen[what+" "+feature] = true
					c.seen[feature+" "+string(e.Transition)] = true
				}
			}
		}
	}
}

// check wants every operator to raise and to return, with a deadband where it has
// one, and every transition in every status in which there is one.
func (c *coverage) check(t *testing.T) {
	t.Helper()
	var want []string
	for _, o := range model.AlarmOperators() {
		want = append(want, fmt.Sprintf("%s raised", o), fmt.Sprintf("%s cleared", o))
		if o.TakesHysteresis() {
			want = append(want, fmt.Sprintf("%s raised deadband", o), fmt.Sprintf("%s cleared deadband", o))
		}
	}
	for _, feature := range []string{"on_delay", "off_delay", "count", "enable", "device time"} {
		want = append(want, feature+" raised", feature+" cleared")
	}
	want = append(want, "latch latched", "enable suppressed", "enable unsuppressed")
	want = append(want, transitions...)
	for _, w := range want {
		if !c.seen[w] {
			t.Errorf("no file of testdata has %q", w)
		}
	}
	// and no transition that nobody has thought of
	known := map[string]bool{}
	for _, w := range transitions {
		known[w] = true
	}
	for s := range c.seen {
		if f := strings.Fields(s); len(f) == 3 && model.AlarmStatus(f[0]) != "" && isStatus(f[0]) && !known[s] {
			t.Errorf("%q happened, and is not in the table of transitions", s)
		}
	}
}

func isStatus(s string) bool {
	for _, status := range model.AlarmStatuses() {
		if s == string(status) {
			return true
		}
	}
	return s == "normal"
}

// transitions are all that there are: status, transition, status after it. "normal"
// is a rule without an open alarm.
var transitions = strings.Split(strings.TrimSpace(`
normal raised active
normal shelved normal
normal unshelved normal
normal out_of_service normal
normal in_service normal
active acknowledged acknowledged
active cleared cleared
active cleared closed
active latched latched
active closed closed
active shelved active
active unshelved active
active out_of_service active
active in_service active
active suppressed active
active unsuppressed active
active chattering active
acknowledged cleared closed
acknowledged latched latched
acknowledged closed closed
acknowledged shelved acknowledged
acknowledged unshelved active
acknowledged out_of_service acknowledged
acknowledged in_service active
acknowledged suppressed acknowledged
acknowledged unsuppressed active
cleared reraised active
cleared acknowledged closed
cleared closed closed
cleared shelved cleared
cleared unshelved cleared
cleared out_of_service cleared
cleared in_service cleared
cleared suppressed cleared
cleared unsuppressed cleared
latched reraised active
latched acknowledged latched
latched reset closed
latched closed closed
latched shelved latched
latched unshelved latched
latched out_of_service latched
latched in_service latched
latched suppressed latched
latched unsuppressed latched
`), "\n")

// run is one text on a store of its own.
func run(t *testing.T, text string) ([]alarmtest.Result, error) {
	t.Helper()
	f, err := alarmtest.Parse("x.alarmtest", []byte(text))
	require.NoError(t, err)
	client := storetest.Embedded(t)
	return f.Run(t.Context(), alarmtest.Options{
		Open: func(now func() time.Time) (*scripts.Plane, error) {
			return scripts.New(client, scripts.Options{Site: storetest.Site(t), Now: now, Log: slog.New(slog.DiscardHandler)})
		},
		Load: func(path string) (alarmtest.Definitions, error) {
			if path != "site.yaml" {
				return alarmtest.Definitions{}, errors.New("no such file")
			}
			return alarmtest.Definitions{
				Models: []model.Instance{{ID: "pcs1", Measurements: map[string]string{"temperature": "1001:7"}, Signals: map[string]string{"door": "1001:8"},
					Calculations: map[string]model.Calculation{"twice": {Expression: "2*temperature"}}}},
				Alarms: []model.AlarmRule{{ID: "hot", Model: "pcs1", Point: "temperature", Operator: model.Above, Threshold: 60},
					{ID: "twice", Model: "pcs1", Point: "twice", Operator: model.Above, Threshold: 120},
					{ID: "gone", Model: "channel", Point: "1001", Operator: model.IsOffline, OnDelay: time.Second}},
			}, nil
		},
	})
}

// TestDifferences: what is other than expected is told with file and line, and shown
// as a diff.
func TestDifferences(t *testing.T) {
	t.Parallel()
	results, err := run(t, `test "one"
rule hot pcs1:temperature > 60
rule odd pcs1:temperature json {}
load 10s pcs1:temperature 61 50
at 5s reset hot
at 6s ack nobody
at 7s ack hot refused
at 7s drop cold
eval 8s
  hot active 61 message "too hot"
  cold active 1
journal 8s
  0s raised hot 61
  6s acknowledged hot 61
  7s acknowledged hot 62
notified 8s
  none

test "two"
load 10s a:b 1
journal
  none
`)
	require.NoError(t, err)
	require.Len(t, results, 2)
	require.Equal(t, alarmtest.Result{File: "x.alarmtest", Line: 19, Test: "two"}, results[1])
	got := strings.Join(results[0].Failures, "\n")
	for _, want := range []string{
		"x.alarmtest:5: reset hot: ",
		"x.alarmtest:6: ack nobody: ",
		"x.alarmtest:7: ack hot was not refused",
		"x.alarmtest:8: drop: there is no rule cold",
		`x.alarmtest:9: eval 8s: the open alarms are others (- expected, + found):
    - cold active 1
    - hot active 61 message "too hot"
    + hot acknowledged 61 message "pcs1.temperature = 61.000000 > 60.000000"`,
		`x.alarmtest:12: journal 8s: the transitions are others (- expected, + found):
      0s raised hot 61
    - 6s acknowledged hot 61
    - 7s acknowledged hot 62
    + 7s acknowledged hot 61`,
		`x.alarmtest:16: notified 8s: the notifications are others (- expected, + found):
    + 0s raised hot 61
    + 7s acknowledged hot 61`,
		`x.alarmtest:1: a problem that no line expects: invalid: alarm rule "odd" of pcs1:temperature`,
	} {
		require.Contains(t, got, want)
	}
	require.Len(t, results[0].Failures, 8)
}

// TestConfiguration: the rules and points of a site's configuration.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	results, err := run(t, `config site.yaml
test "the site's rules"
load 10s pcs1:temperature 50 61
load 10s pcs1:twice 100 122
load 10s pcs1:door 0 1
rule open pcs1:door == 1
eval 10s
  hot active 61
  open active 1
  twice active 122
at 20s channel 1001 offline
eval 21s
  gone active 1
  hot active 61 quality offline
  open active 1 quality offline
  twice active 122
`)
	require.NoError(t, err)
	require.Empty(t, results[0].Failures)

	for text, want := range map[string]string{
		"config site.yaml\ntest \"a\"\nload 1s pcs1:pressure 1\njournal\n":                         "the configuration has no point pcs1:pressure",
		"config site.yaml\ntest \"a\"\npoints 1 pcs1:temperature\njournal\n":                       "points: the configuration says where they come from",
		"config other.yaml\ntest \"a\"\njournal\n":                                                 "x.alarmtest: config: no such file",
		"config site.yaml\ntest \"a\"\nload 1s pcs2:temperature 1\nload 1s pcs1:door 1\njournal\n": "the configuration has no point pcs2:temperature",
	} {
		_, err := run(t, text)
		require.ErrorContains(t, err, want)
	}
	f, err := alarmtest.Parse("x", []byte("config site.yaml\ntest \"a\"\njournal\n"))
	require.NoError(t, err)
	_, err = f.Run(t.Context(), alarmtest.Options{})
	require.ErrorContains(t, err, "configurations are not read here")
}

// TestFaults: every fault of a file, each with its line.
func TestFaults(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                         "there is no test",
		"load 1s a:b 1":            "stands before the first test",
		`test "a" "b"`:             `want test "NAME"`,
		"T;config x":               "want config FILE once, before the first test",
		`T;test "t"`:               `test "t" is there twice`,
		"T;lod 1s a:b 1":           `"lod": want test, points,`,
		"T;  hot active 1":         "an indented line belongs to",
		"T;load 1s a 1":            `"a": want MODEL:POINT`,
		"T;load 1s a:b":            "want load STEP",
		"T;load 1s from 5s a:b":    "want load STEP",
		"T;load soon a:b 1":        `"soon" is no time`,
		"T;load 0s a:b 1":          "want a step",
		"T;load 1s a:b 1x0":        `"1x0" is no value`,
		"T;load 1s a:b x":          `"x" is no value`,
		"T;load 1s a:b 1e300":      `"1e300" is no value`,
		"T;load 1s a:b !bald":      `"!bald" is no value`,
		"T;load 1s a:b 5!stale":    `"5!stale" is no value`,
		"T;load 1s a:b !uncertain": `"!uncertain" is no value`,
		"T;load 1s a:b 5@noon":     `"5@noon" is no value`,
		"T;load 1s a:b 0x99999;load 1s a:b 0x99999": "more than 100000 values",
		"T;load 1000h a:b 0x10":                     "goes beyond",
		"T;load 500us a:b 0":                        `"500us" is no time`,
		"T;points 1":                                "want points CHANNEL",
		"T;points 1 a:b;points 2 a:b":               "a:b comes from channel 1 already",
		"T;rule hot a:b":                            "want rule ID",
		"T;rule hot a:b >":                          `a limit: "" is no number`,
		"T;rule hot a:b ~ 5":                        `operator "~": want one of`,
		"T;rule hot a:b in_range 5":                 `an upper limit: "" is no number`,
		"T;rule hot a:b > 5 on_delay 5":             `on_delay: "5" is no time`,
		"T;rule hot a:b > 5 severity bad":           "severity",
		"T;rule hot a:b > 5 count x":                "count: want a whole number",
		"T;rule hot a:b > 5 enable c":               `enable: "" is no number`,
		"T;rule hot a:b json":                       "want json TEXT",
		"T;rule hot a > 5":                          `"a": want MODEL:POINT`,
		"T;channel 1 away":                          "want channel CHANNEL STATE",
		"T;at 5s":                                   "want at TIME ACTION",
		"T;at -5s drop hot":                         "want 0s to",
		"T;at 5s jump":                              `"jump": want rule, drop`,
		"T;at 5s drop":                              "want drop RULE",
		"T;at 5s value a:b 1x2":                     "want one value",
		"T;at 5s value a:b _":                       "want one value",
		"T;at 5s refresh now":                       "want refresh alone",
		"T;at 5s ack":                               "want ack RULE",
		"T;at 5s ack hot by":                        "nothing follows by",
		"T;at 5s ack hot for 5s":                    `ack: "for": want by WHO`,
		"T;at 5s shelve hot":                        "for how long?",
		"T;at 5s shelve hot for ever":               `"ever" is no time`,
		`T;at 5s ack hot "open`:                     "the quotation mark at the end is missing",
		"T;eval":                                    "want eval TIME",
		"T;eval 5s;at 4s drop hot":                  "a line before looked at 5s already",
		"T;eval 5s;load 1s a:b 5":                   "a line before looked at 5s already",
		"T;eval 5s;  hot":                           "want RULE STATUS VALUE",
		"T;eval 5s;  hot warm 5":                    "want RULE STATUS VALUE",
		"T;eval 5s;  hot active much":               `value: "much" is no number`,
		"T;eval 5s;  hot active 5 by anna":          `"by": want one of count,`,
		"T;eval 5s;  hot active 5 count":            "nothing follows count",
		"T;eval 5s;  hot active 5 count two":        `count: "two" is no number`,
		"T;eval 5s;  hot active 5 until noon":       `"noon" is no time`,
		"T;eval 5s;  hot active 5 count 2 count 3":  "count is there twice",
		"T;journal;  5s raised":                     "want TIME TRANSITION RULE",
		"T;journal;  5 raised hot":                  `"5" is no time`,
		"T;journal;  5s rose hot 5":                 `"rose" is no transition`,
		"T;journal;  5s raised hot 5 chattering":    `"chattering" does not belong to journal`,
		"T;load 1s a:b 5":                           "expects nothing",
	} {
		text := strings.ReplaceAll(strings.Replace(line, "T;", "test \"t\"\n", 1), ";", "\n")
		_, err := alarmtest.Parse("x", []byte(text))
		require.ErrorIs(t, err, model.ErrInvalid, line)
		require.ErrorContains(t, err, want, line)
		require.Regexp(t, `x:\d+: `, err.Error(), line)
	}
	_, err := alarmtest.Parse("x", []byte("test \"t\"\nfoo\nbar\n"))
	require.ErrorContains(t, err, "x:2:")
	require.ErrorContains(t, err, "x:3:")
	_, err = alarmtest.Parse("x", make([]byte, 2<<20))
	require.ErrorContains(t, err, "at most 1048576")
}

func FuzzParse(f *testing.F) {
	for _, topic := range topics {
		text, err := os.ReadFile(filepath.Join("testdata", topic+".alarmtest"))
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := alarmtest.Parse("x", text)
		require.True(t, (file == nil) == (err != nil))
		if file != nil {
			require.NotEmpty(t, file.Tests())
		}
	})
}
