package channel

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
)

func TestHeartbeatIsChecked(t *testing.T) {
	t.Parallel()
	points := []model.Point{{ID: "m"}, {ID: "c", Kind: model.Control}, {ID: "r", Kind: model.Control, ReadBack: true}}
	for want, h := range map[string]Heartbeat{
		"":                                    {Point: "c", Every: time.Second, Max: 255},
		"heartbeat every 0s: want 10ms":       {Point: "c"},
		"heartbeat max -1":                    {Point: "c", Every: time.Second, Max: -1},
		"the channel has no such point":       {Point: "x", Every: time.Second},
		"heartbeat point m: a measurement":    {Point: "m", Every: time.Second},
		"heartbeat point r: want one without": {Point: "r", Every: time.Second},
	} {
		err := Config{ID: "1", Points: points, Heartbeat: &h}.Validate()
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, model.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
}
