package voltage_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// testServer is a server whose Serve is a function.
type testServer func(ctx context.Context, n channel.Northbound) error

func (s testServer) Serve(ctx context.Context, n channel.Northbound) error { return s(ctx, n) }

func serverConfig(id string, serve func(ctx context.Context, n channel.Northbound, report func(...string)) error) channel.ServerConfig {
	return channel.ServerConfig{ID: id, Server: func(s channel.ServerSetup) (channel.Server, error) {
		return testServer(func(ctx context.Context, n channel.Northbound) error { return serve(ctx, n, s.Report) }), nil
	}}
}

// A server that fails, or panics, is run again, and everybody can see it.
func TestServersAreRunAgain(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	runs := 0
	well := make(chan struct{})
	eng := startEngine(t, voltage.Config{Servers: []channel.ServerConfig{serverConfig("scada", func(ctx context.Context, _ channel.Northbound, _ func(...string)) error {
		mu.Lock()
		runs++
		n := runs
		mu.Unlock()
		select {
		case <-well:
			<-ctx.Done()
			return nil
		default:
		}
		if n%2 == 0 {
			panic("a fault")
		}
		return errors.New("the port is taken")
	})}})
	var seen sync.Map
	eventually(t, "failures in the problems", func() bool {
		for _, p := range eng.Problems() {
			seen.Store(p, true)
		}
		_, taken := seen.Load("server scada: the port is taken")
		_, fault := seen.Load("server scada: it panicked: a fault")
		return taken && fault
	})
	require.GreaterOrEqual(t, eng.Servers()[0].Failures, int64(2))
	close(well)
	eventually(t, "no problems any more", func() bool { return len(eng.Problems()) == 0 })
	s := eng.Servers()[0]
	require.True(t, s.Serving)
	require.NotEmpty(t, s.LastError)
	require.Equal(t, "scada", s.Name)
}

func TestServersComeAndGo(t *testing.T) {
	t.Parallel()
	began, ended := make(chan string, 10), make(chan string, 10)
	config := func(name string) channel.ServerConfig {
		c := serverConfig("scada", func(ctx context.Context, n channel.Northbound, report func(...string)) error {
			_, err := n.Values(ctx, "nobody")
			if !errors.Is(err, channel.ErrNoModel) || !errors.Is(err, scripts.ErrNotFound) {
				name = "wrong error"
			}
			report("row 1: " + name)
			began <- name
			<-ctx.Done()
			ended <- name
			return ctx.Err()
		})
		c.Name = name
		return c
	}
	eng := startEngine(t, voltage.Config{})
	require.Empty(t, eng.Servers())
	require.NoError(t, eng.RegisterServer(config("one")))
	require.Equal(t, "one", <-began)
	require.Equal(t, []string{"server scada: row 1: one"}, eng.Problems())
	require.NoError(t, eng.RegisterServer(config("two")))
	require.Equal(t, "one", <-ended)
	require.Equal(t, "two", <-began)
	require.Equal(t, []string{"server scada: row 1: two"}, eng.Problems())
	require.Equal(t, []string{"row 1: two"}, eng.Servers()[0].Problems)
	require.NoError(t, eng.RemoveServer("scada"))
	require.Equal(t, "two", <-ended)
	require.Empty(t, eng.Problems())
	require.ErrorIs(t, eng.RemoveServer("scada"), scripts.ErrNotFound)
	off := config("off")
	off.Disabled = true
	require.NoError(t, eng.RegisterServer(off))
	require.False(t, eng.Servers()[0].Serving)

	require.ErrorIs(t, eng.RegisterServer(channel.ServerConfig{ID: "x"}), model.ErrInvalid)
	require.ErrorIs(t, eng.RegisterServer(channel.ServerConfig{ID: "x", Server: func(channel.ServerSetup) (channel.Server, error) { panic("bad") }}), model.ErrInvalid)
	_, err := voltage.NewEngine(voltage.Config{Servers: []channel.ServerConfig{off, off}})
	require.ErrorContains(t, err, "server scada is there twice")
}

// Servers end first, and one that does not end holds up nothing for long.
func TestServersEndFirst(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	values := make(chan error, 1)
	eng, err := voltage.NewEngine(voltage.Config{Log: testLog(t),
		Channels: []channel.Config{{ID: "1", Points: []model.Point{{ID: "1"}}}},
		Servers: []channel.ServerConfig{
			serverConfig("good", func(ctx context.Context, n channel.Northbound, _ func(...string)) error {
				<-ctx.Done()
				_, err := n.ChannelValues(context.Background(), "1")
				values <- err
				return nil
			}),
			serverConfig("stuck", func(context.Context, channel.Northbound, func(...string)) error { <-release; return nil }),
		}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	eventually(t, "both serve", func() bool { return eng.Servers()[0].Serving && eng.Servers()[1].Serving })
	stopped := make(chan error, 1)
	go func() { stopped <- eng.Stop(context.Background()) }()
	require.ErrorIs(t, <-values, voltage.ErrNotRunning)
	select {
	case err := <-stopped:
		require.ErrorContains(t, err, "stopping server stuck")
	case <-time.After(patience):
		t.Fatal("Stop waits for a server that does not end")
	}
	close(release)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	eng, err := voltage.NewEngine(voltage.Config{Log: testLog(t)})
	require.NoError(t, err)
	require.ErrorIs(t, eng.Watch(t.Context(), nil), voltage.ErrNotRunning)
	require.NoError(t, eng.RegisterChannel(channel.Config{ID: "1", Points: []model.Point{{ID: "1"}}}))
	require.NoError(t, eng.RegisterModel(model.Instance{ID: "m", Measurements: map[string]string{"power": "1:1"}}))
	require.NoError(t, eng.Start(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	updates, done := make(chan model.Update, 100), make(chan error, 2)
	go func() {
		done <- eng.Watch(ctx, func(u model.Update) {
			updates <- u
			if u.Model == "" {
				panic("a fault of the callback")
			}
		})
	}()
	require.Equal(t, model.Update{}, <-updates, "nothing was read yet")
	eventually(t, "a runner takes the sample", func() bool {
		return eng.Push(t.Context(), "1", model.Sample{Point: "1", Value: 5}) == nil
	})
	for {
		u := <-updates
		if u.Model == "m" && u.Points[0].Value == "5.000000" {
			break
		}
	}
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	// The end of the engine ends a watch as well.
	go func() { done <- eng.Watch(context.Background(), func(u model.Update) { updates <- u }) }()
	require.Equal(t, model.Update{}, <-updates)
	require.NoError(t, eng.Stop(context.Background()))
	require.ErrorIs(t, <-done, voltage.ErrNotRunning)
}
