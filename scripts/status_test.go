package scripts_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

func TestStatusIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, s := range []model.ChannelStatus{
		{ID: "1", Name: "1", State: model.ChannelConnecting, Owner: "e"},
		{ID: "1", Name: "1", State: model.ChannelOnline, Owner: "e", Since: time.UnixMilli(1), LastScan: time.UnixMilli(2), LastError: "x",
			LastErrorAt: time.UnixMilli(3), Reads: 4, Samples: 5, Stored: 6, Lost: 7, Errors: 8, Reconnects: 9, Commands: 10, Beats: 13,
			LastScans: map[string]time.Time{"default": time.UnixMilli(11), "slow": time.UnixMilli(12)}},
	} {
		fields := map[string]string{}
		for _, f := range scripts.StatusFields(s) {
			fields[f.Name] = f.Value
		}
		require.Equal(t, s, scripts.ParseStatus("1", fields, "e"))
		require.Equal(t, model.ChannelStopped, scripts.ParseStatus("1", fields, "").State)
	}
}
