package voltage_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// What is registered or removed while the store is away is reported and done
// when it is back: a channel must not stay stopped, nor a removed model stay.
func TestRegistrationDuringAnOutage(t *testing.T) {
	t.Parallel()
	server := storetest.Own(t)
	client := storetest.Client(t, server.URL)
	ch := channel.Config{ID: "1", Points: []model.Point{{ID: "1"}}}
	site := storetest.Site(t)
	eng, err := voltage.NewEngine(voltage.Config{Site: site, Store: scripts.StoreConfig{URL: server.URL}, Log: testLog(t),
		Channels: []channel.Config{ch}, Models: []model.Instance{{ID: "gone"}}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	defer eng.Stop(context.Background())

	// a key of the wrong type stands for a store that refuses
	key := "{" + site + "}:point:1"
	require.NoError(t, client.Rename(t.Context(), key, key+"-aside").Err())
	require.NoError(t, client.Set(t.Context(), key, "x", 0).Err())
	ch.Points = append(ch.Points, model.Point{ID: "2"})
	require.ErrorIs(t, eng.RegisterChannel(ch), scripts.ErrStore)
	eventually(t, "the channel runs all the same", func() bool {
		return eng.Push(t.Context(), "1", model.Sample{Point: "2", Value: 7}) == nil
	})
	require.NoError(t, client.Del(t.Context(), key).Err())
	eventually(t, "its points are stored", func() bool {
		v, err := eng.ChannelValues(t.Context(), "1")
		return err == nil && v["2"].Value == 7 && client.HExists(t.Context(), key, "2").Val()
	})

	server.Kill()
	require.ErrorIs(t, eng.RemoveModel("gone"), scripts.ErrStore)
	require.ErrorIs(t, eng.RegisterModel(model.Instance{ID: "new"}), scripts.ErrStore)
	server.Restart()
	eventually(t, "the models are as they should be", func() bool {
		_, old := eng.Values(t.Context(), "gone")
		_, err := eng.Values(t.Context(), "new")
		return err == nil && errors.Is(old, scripts.ErrNotFound)
	})
}
