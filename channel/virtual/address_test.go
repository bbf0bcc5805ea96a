package virtual

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/voltageems/voltage/model"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]address{
		"constant:5":               {shape: constant, start: 5},
		"constant:-1.5e3":          {shape: constant, start: -1500},
		"sine:10:2:60s":            {shape: sine, start: 10, size: 2, period: 60},
		"sine:10:2:1m30s:90":       {shape: sine, start: 10, size: 2, period: 90, phase: 0.25},
		"ramp:0:100:0.5":           {shape: ramp, end: 100, period: 0.5},
		"random_walk:5:1":          {shape: randomWalk, start: 5, size: 1, low: -model.MaxValue, high: model.MaxValue},
		"random_walk:5:1:0:10":     {shape: randomWalk, start: 5, size: 1, low: 0, high: 10},
		"square:10":                {shape: square, period: 10, duty: 0.5},
		"square:10s:25":            {shape: square, period: 10, duty: 0.25},
		"toggle":                   {shape: toggle},
		"csv:day.csv:power":        {shape: replay, file: "day.csv", column: "power"},
		"csv:day.csv:loop":         {shape: replay, file: "day.csv", column: "loop"},
		"csv:day.csv:power:loop":   {shape: replay, file: "day.csv", column: "power", loop: true},
		`csv:C:\day.csv:power`:     {shape: replay, file: `C:\day.csv`, column: "power"},
		"csv:day.csv:grid kW:loop": {shape: replay, file: "day.csv", column: "grid kW", loop: true},
		"text:":                    {shape: text},
		"text:hello: world":        {shape: text, text: "hello: world"},
		"setpoint:50":              {shape: setpoint, start: 50},
		"follow:10":                {shape: follow, target: "10"},
		"follow:10:2.5":            {shape: follow, target: "10", size: 2.5},
	} {
		got, err := parse(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                      `unknown signal ""`,
		"cosine:1":              `unknown signal "cosine"`,
		"constant":              "want constant:VALUE",
		"constant:":             `"": want a number`,
		"constant:1:2":          "want constant:VALUE",
		"constant:five":         `"five": want a number within ±1e15`,
		"constant:NaN":          `"NaN"`,
		"constant:inf":          `"inf"`,
		"constant:1e16":         `"1e16"`,
		"sine:1:2":              "want sine:MEAN:AMPLITUDE:PERIOD[:PHASE]",
		"sine:1:2:0":            `"0": want a period`,
		"sine:1:2:-1s":          `"-1s": want a period`,
		"sine:1:2:1us":          `"1us": want a period`,
		"ramp:1:2:NaN":          `"NaN": want a period`,
		"ramp:1:2:1e12":         `"1e12": want a period`,
		"square:1s:101":         `"101": want a duty`,
		"toggle:1":              "want toggle",
		"random_walk:1:-1":      `"-1": want a step`,
		"random_walk:1:1:0":     "want random_walk",
		"random_walk:1:1:2:0":   `"0": want a maximum`,
		"random_walk:11:1:0:10": `"11": want a start`,
		"csv:day.csv":           "want csv:FILE:COLUMN",
		"csv::power":            "want csv:FILE:COLUMN",
		"csv:day.csv:":          "want csv:FILE:COLUMN",
		"csv":                   "want csv:FILE:COLUMN",
		"text":                  "want text:TEXT",
		"setpoint":              "want setpoint:INITIAL",
		"follow:1:0":            `"0": want a rate`,
		"follow":                "want follow:POINT[:RATE]",
	} {
		_, err := parse(s)
		require.ErrorContains(t, err, want, s)
	}
}

// FuzzParse wants every address to be refused or to give a signal whose values
// are finite or of bad quality, at all times.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"constant:5", "sine:10:2:60s:90", "ramp:0:100:1ms", "random_walk:5:1:0:10", "square:10s:25", "toggle",
		"csv:day.csv:power:loop", "text:hello", "setpoint:50", "follow:10:2.5", "sine:1e15:1e15:0.001:1e15", "::", "",
	} {
		f.Add(s, 1.0, 0.0, 1.0)
	}
	f.Fuzz(func(t *testing.T, s string, scale, offset, at float64) {
		a, err := parse(s)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		p := model.Point{ID: "1", Scale: scale, Offset: offset}
		signal := newSignal(p, a, 1, "c")
		signal.recording = &table{seconds: []float64{0, 1, 5}}
		signal.cells = []float64{1, math.NaN(), -1e15}
		held := map[string]float64{"1": 5, a.target: 1e15}
		for _, seconds := range []float64{0, 0.25, math.Abs(at), 1e9} {
			if !model.Finite(seconds) {
				continue
			}
			sample := signal.sample(seconds, held)
			require.True(t, !sample.Quality.Usable() || model.Storable(sample.Value), "%s at %v: %v", s, seconds, sample)
		}
	})
}
