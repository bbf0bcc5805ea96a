package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/channeltest"
	"github.com/voltageems/voltage/model"
)

// TestConformance is all that a driver needs to show that it keeps the contract.
func TestConformance(t *testing.T) {
	t.Parallel()
	target := model.Point{ID: "3", Kind: model.Control, Address: "target", ReadBack: true}
	channeltest.Run(t, channeltest.Harness{
		Start: func(tb testing.TB) channeltest.Peer {
			s, err := startSensor()
			require.NoError(tb, err)
			tb.Cleanup(s.stop)
			return channeltest.Peer{
				Factory: Sensor(s.address),
				Stop:    s.stop,
				Restart: func() { require.NoError(tb, s.start()) },
				Freeze:  s.freeze,
				Held:    func(string) (float64, bool) { return s.value("target") },
			}
		},
		Points: []channeltest.Expect{
			{Point: model.Point{ID: "1", Address: "temperature"}, Any: true},
			{Point: model.Point{ID: "2", Address: "humidity", Scale: 0.1}, Value: 48},
		},
		Unreadable: []model.Point{{ID: "4", Address: "noise"}},
		BadAddresses: []model.Point{
			{ID: "empty"},
			{ID: "words", Address: "two words"},
			{ID: "text", Address: "name", Text: true},
		},
		Writes:  []channel.Write{{Point: target, Value: 21.5}, {Point: target, Value: 18}},
		Refused: []channel.Write{{Point: target, Value: 99}},
	})
}

func TestProgram(t *testing.T) {
	t.Parallel()
	// Generous, for it only ends a run that does not come to its end.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out := &output{enough: func(s string) bool {
		return strings.Contains(s, "command target 27 verified <nil>") && strings.Count(s, "temperature 2") > 1
	}, stop: cancel}
	require.NoError(t, run(ctx, out, ""))
	require.ErrorIs(t, ctx.Err(), context.Canceled, out.String())
	require.Regexp(t, `temperature 23\.\d °C good   humidity 48\.0 % good   noise 0\.0 dB invalid   target 20\.0 °C good`, out.String())
}

// output stops the program when it has printed enough.
type output struct {
	strings.Builder
	enough func(string) bool
	stop   func()
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Builder.Write(b)
	if o.enough(o.String()) {
		o.stop()
	}
	return n, err
}
