package voltage_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// A store that accepts connections and answers nothing is no reason for an end
// that takes long or looks like a failure.
func TestStopWhileTheStoreHangs(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	eng, err := voltage.NewEngine(voltage.Config{Site: storetest.Site(t), Store: scripts.StoreConfig{URL: server.URL}, Log: testLog(t),
		Channels: []channel.Config{{ID: "1", Points: []model.Point{{ID: "1"}}}}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	server.Pause()
	require.NoError(t, eng.Stop(context.Background()))
	server.Resume()
}

func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	eng, err := voltage.NewEngine(voltage.Config{Store: scripts.StoreConfig{URL: "redis://" + silent.Addr().String()}, Log: testLog(t)})
	require.NoError(t, err)
	started := make(chan error, 1)
	go func() { started <- eng.Start(context.Background()) }()
	conn, err := silent.Accept() // Start waits for an answer
	require.NoError(t, err)
	defer conn.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, eng.Stop(ended), context.Canceled, "Stop is bounded by its context")
	require.Error(t, <-started)
	require.NoError(t, eng.Stop(t.Context()))
	require.ErrorIs(t, eng.Start(t.Context()), voltage.ErrNotRunning)
}

func TestStopFromACallback(t *testing.T) {
	t.Parallel()
	eng, err := voltage.NewEngine(voltage.Config{Log: testLog(t), Channels: []channel.Config{{ID: "1", Points: []model.Point{{ID: "1"}}}}})
	require.NoError(t, err)
	stopped := make(chan error, 1)
	var once sync.Once
	eng.OnChannel(func(context.Context, model.ChannelStatus) {
		once.Do(func() { stopped <- eng.Stop(context.Background()) })
	})
	require.NoError(t, eng.Start(t.Context()))
	select {
	case err := <-stopped:
		require.ErrorContains(t, err, "callback")
	case <-time.After(patience):
		t.Fatal("Stop waits for the callback that called it")
	}
}
