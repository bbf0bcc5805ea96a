package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/internal/demo"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts/storetest"
)

// The file is the simulated site that the program runs by itself.
func TestSiteFile(t *testing.T) {
	t.Parallel()
	cfg, err := voltage.LoadConfig("site.yaml", all.Kinds()...)
	require.NoError(t, err)
	want := demo.Channels(func(string) string { return "127.0.0.1:502" })
	require.Len(t, cfg.Channels, len(want))
	for i := range want {
		got := cfg.Channels[i]
		require.NotNil(t, got.Driver)
		got.Driver, want[i].Driver = nil, nil
		require.Equal(t, want[i].WithDefaults(), got.WithDefaults())
	}
	trim := func(list []model.Instance) []model.Instance {
		for i := range list {
			for _, bindings := range []*map[string]string{&list[i].Measurements, &list[i].Signals, &list[i].Controls, &list[i].Adjustments} {
				if len(*bindings) == 0 {
					*bindings = nil
				}
			}
		}
		return list
	}
	require.Equal(t, trim(demo.Models()), trim(cfg.Models))
	require.Equal(t, demo.Alarms(), cfg.Alarms)
	require.Equal(t, demo.Rules(), cfg.Rules)
	require.Len(t, cfg.Servers, 1)
	server := demo.Servers("127.0.0.1:1502")[0]
	require.Equal(t, []string{server.ID, server.Name}, []string{cfg.Servers[0].ID, cfg.Servers[0].Name})
}

// The same site of templates has what the program's own one has, and more.
func TestTemplatesFile(t *testing.T) {
	t.Parallel()
	cfg, err := voltage.LoadConfig("templates.yaml", all.Kinds()...)
	require.NoError(t, err)
	models := map[string]model.Instance{}
	for _, m := range cfg.Models {
		models[m.ID] = m
	}
	for _, want := range demo.Models() {
		got, ok := models[want.ID]
		if !ok {
			continue // there is no weather
		}
		for _, k := range model.Kinds() {
			for name := range want.Bindings(k) {
				_, calculated := got.Calculations[name]
				require.True(t, calculated || got.Bindings(k)[name] != "", "%s: %s", want.ID, name)
			}
		}
	}
	require.Contains(t, models["site"].Calculations, "load_power")
	require.NotContains(t, models["bms1"].Calculations, "stored_energy", "the device has it")
	_, err = voltage.NewEngine(cfg)
	require.NoError(t, err)
}

func TestFlagsThatExcludeEachOther(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, run(t.Context(), "", "redis://127.0.0.1:1", "", "", t.TempDir()), "-data")
}

// The promise of the README, on the program itself: nothing installed and no
// arguments (but a free port), and the same on a real Redis.
func TestProgram(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "allinone")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Stderr = os.Stderr
	require.NoError(t, build.Run())
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		tryProgram(t, exec.Command(binary), "PATH=")
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		tryProgram(t, exec.Command(binary, "-redis", storetest.Own(t).URL), "PATH="+os.Getenv("PATH"))
	})
	t.Run("managed", func(t *testing.T) {
		t.Parallel()
		storetest.Redis(t) // skips without the binary
		tryProgram(t, exec.Command(binary), "PATH="+os.Getenv("PATH"))
	})
}

// listen takes a port that nobody else takes when it is given up for the program: it
// is below those that the system gives to whoever asks for any, as the simulated
// devices do.
func listen(t *testing.T) net.Listener {
	t.Helper()
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20000+rand.IntN(10000))); err == nil {
			return l
		}
	}
	t.Fatal("there is no free port")
	return nil
}

func tryProgram(t *testing.T, cmd *exec.Cmd, env string) {
	l := listen(t)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	taken := listen(t) // the site runs although this port is taken
	t.Cleanup(func() { _ = taken.Close() })
	served := strings.HasSuffix(t.Name(), "embedded") // here it is free
	if served {
		require.NoError(t, taken.Close())
	}
	cmd.Args = append(cmd.Args, "-listen", addr, "-modbus", taken.Addr().String())
	cmd.Env = []string{env, "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	get := func(path string, into any) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
		require.NoError(t, err)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(into) == nil
	}
	type values struct {
		Values map[string]struct {
			Value   any
			Quality string
		}
	}
	good := func() (n int) {
		for _, m := range []string{"meter1", "pv1", "pcs1", "bms1"} {
			var v values
			if !get("/models/"+m+"/values", &v) {
				return 0
			}
			for _, value := range v.Values {
				if value.Quality == "good" && value.Value != nil {
					n++
				}
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return good() >= 40 }, 30*time.Second, 50*time.Millisecond)
	res, err := http.Post("http://"+addr+"/models/pcs1/control/power_setpoint", "application/json", strings.NewReader(`{"value":50}`))
	require.NoError(t, err)
	defer res.Body.Close()
	var result model.CommandResult
	require.NoError(t, json.NewDecoder(res.Body).Decode(&result))
	require.Equal(t, model.CommandVerified, result.State)
	require.Equal(t, 50.0, *result.ReadBack)

	if served {
		d, err := modbus.TCP(taken.Addr().String())(channel.Setup{ID: "room", Scan: 50 * time.Millisecond, Timeout: 5 * time.Second,
			Points: []model.Point{{ID: "1", Address: "input:4:int32 na=0x80000000"}}, Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return d.Connect(ctx) == nil }, 30*time.Second, 50*time.Millisecond, "the control room is served")
		require.Eventually(t, func() bool {
			samples, err := d.Read(ctx)
			return err == nil && len(samples) == 1 && samples[0].Quality == model.Good && samples[0].Value > 40_000
		}, 30*time.Second, time.Millisecond, "the battery's power in W")
		require.NoError(t, d.Close(ctx))
	}

	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
}
