package voltage_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// A command that lay in the socket of a store that stood still is not given to
// the device when the store goes on after the command's time.
func TestCommandThatTheStoreHeldUp(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	client := storetest.Client(t, server.URL)
	site := storetest.Site(t)
	eng, err := voltage.NewEngine(voltage.Config{Site: site, Store: scripts.StoreConfig{URL: server.URL}, Log: testLog(t), Lease: time.Minute,
		Channels: []channel.Config{{ID: "1", Driver: virtual.New(), Scan: 100 * time.Millisecond,
			Points: []model.Point{{ID: "sp", Kind: model.Control, Address: "setpoint:0"}}}},
		Models: []model.Instance{{ID: "m", Controls: map[string]string{"sp": "1:sp"}}}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	defer eng.Stop(context.Background())
	control := func(v float64, timeout time.Duration) error {
		_, err := eng.Control(t.Context(), model.Command{Model: "m", Control: "sp", Value: v, Timeout: timeout})
		return err
	}
	eventually(t, "commands work", func() bool { return control(1, time.Second) == nil })
	server.Pause()
	ended, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = eng.Submit(ended, model.Command{Model: "m", Control: "sp", Value: 2, Timeout: 100 * time.Millisecond})
	require.Error(t, err)
	server.Resume()
	eventually(t, "commands work again", func() bool { return control(3, time.Second) == nil })
	entries, err := client.XRange(t.Context(), "{"+site+"}:command:journal", "-", "+").Result()
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, e := range entries {
		require.NotEqual(t, "2.000000", e.Values["value"], "%v", e.Values)
	}
}
