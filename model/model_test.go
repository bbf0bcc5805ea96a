package model

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"1001", "pcs-1", "a.b_C", strings.Repeat("x", 64)} {
		require.True(t, ValidID(good), good)
	}
	for _, bad := range []string{"", "a:b", "a b", "ä", "{a}", "a/b", "*", strings.Repeat("x", 65)} {
		require.False(t, ValidID(bad), bad)
		require.ErrorIs(t, CheckID("point", bad), ErrInvalid)
	}
	r, err := ParseRef("1001:1")
	require.NoError(t, err)
	require.Equal(t, "1001:1", r.String())
	for _, bad := range []string{"", "a", ":", "a:", ":b", "a:b:c"} {
		_, err := ParseRef(bad)
		require.ErrorIs(t, err, ErrInvalid, bad)
	}
}

func TestStoredForm(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0.000000", 25.123456: "25.123456", -0.0000001: "0.000000", math.Copysign(0, -1): "0.000000",
		-1.5: "-1.500000", 1e15: "1000000000000000.000000", 0.0000006: "0.000001"} {
		require.Equal(t, want, FormatValue(v))
	}
	require.False(t, Storable(math.NaN()))
	require.False(t, Storable(math.Inf(-1)))
	require.False(t, Storable(1.1e15))
}

func TestQualities(t *testing.T) {
	t.Parallel()
	for q := Good; q <= Offline; q++ {
		parsed, err := ParseQuality(q.String())
		require.NoError(t, err)
		require.Equal(t, q, parsed)
		require.Equal(t, q == Good || q == Uncertain || q == Substituted, q.Usable())
	}
	_, err := ParseQuality("excellent")
	require.ErrorIs(t, err, ErrInvalid)
	require.False(t, Quality(200).Usable())
}

func TestPointScale(t *testing.T) {
	t.Parallel()
	p := Point{ID: "1", Scale: 0.1, Offset: -40}
	require.InDelta(t, 10.0, p.Value(500), 1e-9)
	require.InDelta(t, 500.0, p.Raw(10), 1e-9)
	require.True(t, p.Matches(10, 10.04))
	require.False(t, p.Matches(10, 10.06))
	require.True(t, Point{ID: "1", Tolerance: 2}.Matches(10, 12))
	require.Equal(t, 1.0, Point{}.Factor())
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	for name, err := range map[string]error{
		"point without id":        Point{}.Validate(),
		"scale":                   Point{ID: "1", Scale: nan}.Validate(),
		"min above max":           Point{ID: "1", Min: new(2.0), Max: new(1.0)}.Validate(),
		"not finite max":          Point{ID: "1", Max: &nan}.Validate(),
		"text control":            Point{ID: "1", Kind: Control, Text: true}.Validate(),
		"reserved model":          Instance{ID: "enabled"}.Validate(),
		"reserved rule model":     Instance{ID: "rule"}.Validate(),
		"name of two kinds":       Instance{ID: "m", Measurements: map[string]string{"x": "1:1"}, Signals: map[string]string{"x": "1:2"}}.Validate(),
		"binding":                 Instance{ID: "m", Controls: map[string]string{"x": "1"}}.Validate(),
		"not finite command":      Command{Model: "m", Control: "c", Value: nan}.Validate(),
		"reserved command":        Command{ID: "journal", Model: "m", Control: "c"}.Validate(),
		"long timeout":            Command{Model: "m", Control: "c", Timeout: 2 * time.Hour}.Validate(),
		"control character":       Command{Model: "m", Control: "c", User: "a\x00"}.Validate(),
		"operator":                AlarmRule{ID: "r", Model: "m", Point: "p", Operator: "~"}.Validate(),
		"hysteresis":              AlarmRule{ID: "r", Model: "m", Point: "p", Operator: Above, Hysteresis: -1}.Validate(),
		"severity":                AlarmRule{ID: "r", Model: "m", Point: "p", Operator: Above, Severity: "dire"}.Validate(),
		"rule without conditions": Rule{ID: "r", Actions: []Action{{Type: ActionNotification, Message: "x"}}}.Validate(),
		"action without message": Rule{ID: "r", Conditions: []Condition{{Model: "m", Point: "p", Operator: Above}},
			Actions: []Action{{Type: ActionAlarm}}}.Validate(),
	} {
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	require.NoError(t, Command{Model: "m", Control: "c", Value: 1, Key: "k", User: "Änne"}.Validate())
	require.NoError(t, AlarmRule{ID: "r", Model: "m", Point: "p", Operator: Below, Threshold: 5}.Validate())
}
