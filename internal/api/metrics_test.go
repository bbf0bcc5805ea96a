package api

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

func (s *fakeSite) ScriptStats() []scripts.ScriptStats { return nil }

func (s *fakeSite) Servers() []model.ServerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boom {
		panic("boom")
	}
	return []model.ServerStatus{{ID: "scada", Serving: true}, {ID: "panel", Failures: 3}}
}

// countingSite has called scripts.
type countingSite struct {
	*fakeSite
	stats []scripts.ScriptStats
}

func (s *countingSite) ScriptStats() []scripts.ScriptStats { return s.stats }

// exposition is a parsed answer: family → kind, series as written → value.
type exposition struct {
	kinds  map[string]string
	series map[string]float64
}

var (
	sampleLine = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`^([a-z]+)="((?:[^"\\]|\\["\\n])*)"(?:,|$)`)
)

// parseExposition reads the Prometheus text format 0.0.4 as strictly as its
// description has it: every family once, HELP and TYPE before its samples, no
// series twice, histograms cumulative and ending in +Inf.
func parseExposition(text string) (exposition, error) {
	e := exposition{map[string]string{}, map[string]float64{}}
	if !strings.HasSuffix(text, "\n") {
		return e, errors.New("no newline at the end")
	}
	helped, family := "", ""
	cumulative, bounds := map[string]float64{}, map[string]float64{} // of a histogram's series, the last bucket
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		bad := func(why string) (exposition, error) { return e, fmt.Errorf("%s: %s", why, line) }
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			helped, _, _ = strings.Cut(rest, " ")
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if _, twice := e.kinds[name]; twice || helped != name || !slices.Contains([]string{"counter", "gauge", "histogram"}, kind) {
				return bad("family twice, without HELP before or of an unknown type")
			}
			family, e.kinds[name] = name, kind
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			return bad("no sample")
		}
		name, labels, series := m[1], m[2], line[:len(line)-len(m[3])-1]
		value, err := strconv.ParseFloat(m[3], 64)
		if _, twice := e.series[series]; err != nil || twice {
			return bad("no number, or a series twice")
		}
		e.series[series] = value
		others, le := "", ""
		for labels != "" {
			pair := labelPair.FindStringSubmatch(labels)
			if pair == nil {
				return bad("labels")
			}
			labels = labels[len(pair[0]):]
			if pair[1] == "le" {
				le = pair[2]
			} else {
				others += pair[1] + "=" + pair[2] + "\n"
			}
		}
		bound, boundErr := strconv.ParseFloat(le, 64)
		switch {
		case e.kinds[family] == "histogram" && name == family+"_bucket":
			if before, ok := bounds[others]; boundErr != nil || ok && bound <= before || value < cumulative[others] {
				return bad("buckets are not in order, or not cumulative")
			}
			bounds[others], cumulative[others] = bound, value
		case e.kinds[family] == "histogram" && name == family+"_count":
			if !math.IsInf(bounds[others], 1) || value != cumulative[others] {
				return bad("the last bucket is +Inf and has all")
			}
		case e.kinds[family] == "histogram" && name == family+"_sum":
		case name != family || le != "":
			return bad("a sample outside of its family")
		case e.kinds[family] == "counter" && (!strings.HasSuffix(name, "_total") || value < 0):
			return bad("no counter")
		}
	}
	return e, nil
}

func TestScriptMetrics(t *testing.T) {
	t.Parallel()
	version := func(v string, calls int64) scripts.ScriptStats {
		return scripts.ScriptStats{Script: "data_sync", Version: v, Calls: calls, Errors: 2, Lost: 3, Slow: 1, Points: 500,
			Total: 1500 * time.Millisecond, Histogram: []scripts.StatsBucket{
				{UpTo: 50 * time.Microsecond, Calls: 0}, {UpTo: time.Millisecond, Calls: 5}, {UpTo: 5 * time.Second, Calls: calls - 1},
			}}
	}
	site := &countingSite{newFakeSite(), []scripts.ScriptStats{
		{Script: "command", Versions: []scripts.ScriptStats{{Script: "command", Version: "1.0.0+aa"}}},
		{Script: "data_sync", Refused: map[string]int64{"MAPPING": 4, "FENCED": 1},
			Versions: []scripts.ScriptStats{version("1.1.0+ab\"c", 10), version("1.0.0+ff", 7)}},
	}}
	h := newHandler(t, site, nil)
	text := do(h, "GET", "/metrics", "").Body.String()
	e, err := parseExposition(text)
	require.NoError(t, err)
	of := `{script="data_sync",version="1.1.0+ab\"c"`
	for series, want := range map[string]float64{
		"voltage_script_calls_total" + of + "}":                             10,
		"voltage_script_errors_total" + of + "}":                            2,
		"voltage_script_lost_total" + of + "}":                              3,
		"voltage_script_slow_total" + of + "}":                              1,
		"voltage_script_points_total" + of + "}":                            500,
		"voltage_script_seconds_sum" + of + "}":                             1.5,
		"voltage_script_seconds_count" + of + "}":                           10,
		"voltage_script_seconds_bucket" + of + `,le="5e-05"}`:               0,
		"voltage_script_seconds_bucket" + of + `,le="5"}`:                   9,
		"voltage_script_seconds_bucket" + of + `,le="+Inf"}`:                10,
		`voltage_script_calls_total{script="data_sync",version="1.0.0+ff"}`: 7,
		`voltage_script_calls_total{script="command",version="1.0.0+aa"}`:   0,
		`voltage_script_refusals_total{script="data_sync",code="MAPPING"}`:  4,
		`voltage_script_refusals_total{script="data_sync",code="FENCED"}`:   1,
		`voltage_script_seconds_count{script="command",version="1.0.0+aa"}`: 0,
		`voltage_up`:                                    1,
		`voltage_server_serving{server="scada"}`:        1,
		`voltage_server_serving{server="panel"}`:        0,
		`voltage_server_failures_total{server="panel"}`: 3,
	} {
		got, ok := e.series[series]
		if assert.True(t, ok, series) {
			assert.Equal(t, want, got, series)
		}
	}
	assert.Equal(t, "histogram", e.kinds["voltage_script_seconds"])

	// what this process counted is told also when the store does not answer
	site.set(func() { site.err = scripts.ErrStore })
	e, err = parseExposition(do(h, "GET", "/metrics", "").Body.String())
	require.NoError(t, err)
	assert.Zero(t, e.series["voltage_up"])
	assert.Equal(t, 10.0, e.series["voltage_script_calls_total"+of+"}"])
}

// The parser above must find what it is there for.
func TestExpositionParserRefuses(t *testing.T) {
	t.Parallel()
	head := "# HELP a_total x\n# TYPE a_total counter\n"
	histogram := "# HELP h x\n# TYPE h histogram\n"
	for _, text := range []string{
		"a_total 1\n", head + "a_total 1", head + "a_total one\n", head + "a_total 1\na_total 2\n", head + "b_total 1\n",
		head + "a_total{x=\"a\"b\"} 1\n", head + head, "# TYPE a_total counter\n", head + "a_total -1\n",
		histogram + "h_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 1\n", histogram + "h_bucket{le=\"1\"} 2\nh_count 2\n",
		histogram + "h_bucket{le=\"+Inf\"} 2\nh_count 3\n",
	} {
		_, err := parseExposition(text)
		assert.Error(t, err, text)
	}
	_, err := parseExposition(head + "a_total{x=\"a\\\"b\"} 1\n" + histogram + "h_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 2\n")
	require.NoError(t, err)
}
