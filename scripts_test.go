package voltage_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
	"github.com/voltageems/voltage/scripts/storetest"
)

// scriptFiles returns the files of this build's scripts, with another version
// number for data_sync and, where old is not empty, with old replaced by new in it.
func scriptFiles(t *testing.T, version, old, new string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	require.NoError(t, fs.WalkDir(os.DirFS("scripts/lua"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".lua") {
			return err
		}
		text, err := os.ReadFile(filepath.Join("scripts/lua", path))
		require.NoError(t, err)
		files[path] = &fstest.MapFile{Data: text}
		return nil
	}))
	text := string(files["data_sync.lua"].Data)
	before, after, ok := strings.Cut(text, "-- @version ")
	require.True(t, ok)
	_, after, _ = strings.Cut(after, "\n")
	text = before + "-- @version " + version + "\n" + after
	if old != "" {
		require.Contains(t, text, old)
		text = strings.Replace(text, old, new, 1)
	}
	files["data_sync.lua"].Data = []byte(text)
	return files
}

// newDataSync is data_sync with another version number.
func newDataSync(t *testing.T, version string) scripts.Script {
	t.Helper()
	list, err := scripts.ComposeFolder(scriptFiles(t, version, "", ""))
	require.NoError(t, err)
	for _, s := range list {
		if s.Name == "data_sync" {
			return s
		}
	}
	t.Fatal("no data_sync")
	return scripts.Script{}
}

// roundClock is the system clock, with another time between the rounds in which
// an engine looks at its store and folder.
type roundClock struct {
	model.Clock
	round time.Duration // 0: there is no second round
}

func (c roundClock) After(d time.Duration) <-chan time.Time {
	switch {
	case d != time.Second && d != 5*time.Second: // of a lease, a retry, …
		return c.Clock.After(d)
	case c.round == 0:
		return nil // so what is noticed was told
	}
	return c.Clock.After(c.round)
}

// scriptEngine is an engine with one channel that is pushed to.
type scriptEngine struct {
	*voltage.Engine
	id string // of the channel and the model
}

func startScripts(t *testing.T, client redis.UniversalClient, site, id string, round time.Duration, c voltage.ScriptConfig) *scriptEngine {
	t.Helper()
	eng, err := voltage.NewEngine(voltage.Config{Site: site, Engine: "e" + id, Store: scripts.StoreConfig{Client: client}, Scripts: c,
		Channels: []channel.Config{{ID: id, Points: []model.Point{{ID: "1", Name: "power"}}}},
		Models:   []model.Instance{{ID: "m" + id, Measurements: map[string]string{"power": id + ":1"}}},
		Log:      slog.New(slog.DiscardHandler), Clock: roundClock{model.SystemClock, round}})
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, eng.Stop(context.Background())) })
	return &scriptEngine{eng, id}
}

// store pushes a value and waits until the model has it.
func (e *scriptEngine) store(t *testing.T, value float64) {
	t.Helper()
	eventually(t, "the channel takes samples", func() bool {
		return e.Push(t.Context(), e.id, model.Sample{Point: "1", Value: value}) == nil
	})
	eventually(t, "the model has the value", func() bool {
		v, err := e.Values(t.Context(), "m"+e.id)
		return err == nil && v["power"].Value == value
	})
}

func (e *scriptEngine) do(t *testing.T, method, target string, in any, out any) int {
	t.Helper()
	body := ""
	if in != nil {
		b, err := json.Marshal(in)
		require.NoError(t, err)
		body = string(b)
	}
	r := httptest.NewRequest(method, "http://127.0.0.1"+target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:50000"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, r)
	if out != nil {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), out), w.Body.String())
	}
	return w.Code
}

// active returns the version of data_sync that this engine's last call ran, ""
// where none has come back yet.
func (e *scriptEngine) active() string {
	for _, s := range e.Plane().Stats() {
		if s.Script == "data_sync" && len(s.Versions) > 0 {
			return s.Versions[0].Version
		}
	}
	return ""
}

// runs waits until the engine's last call ran a version: the store has a value a
// moment before the engine knows.
func (e *scriptEngine) runs(t *testing.T, version string) {
	t.Helper()
	eventually(t, "the last call ran "+version, func() bool { return e.active() == version })
}

// A newer script that is activated through one engine's API runs in all engines
// of the site, and so does the one before after a rollback.
func TestScriptsByHTTP(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		site := storetest.Site(t)
		a := startScripts(t, client, site, "1", 5*time.Second, voltage.ScriptConfig{Updates: true, Sync: map[string]scripts.SyncMode{"2": scripts.SyncShadow}})
		b := startScripts(t, client, site, "2", 5*time.Second, voltage.ScriptConfig{Sync: map[string]scripts.SyncMode{"2": scripts.SyncDirect}})
		a.store(t, 1)
		eventually(t, "a call is counted", func() bool { return a.active() != "" })
		own := a.active()

		v2 := newDataSync(t, "1.99.0")
		var st scripts.ScriptState
		type object = map[string]any
		require.Equal(t, http.StatusForbidden, b.do(t, "POST", "/scripts/data_sync/activate", object{"source": v2.Text}, nil))
		require.Equal(t, http.StatusOK, a.do(t, "POST", "/scripts/data_sync/activate", object{"source": v2.Text, "by": "anna"}, &st))
		require.Equal(t, v2.Version, st.Active)
		require.Equal(t, []string{own}, st.History)
		for _, e := range []*scriptEngine{a, b} {
			e.store(t, 2)
			list, err := e.Scripts(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, list)
		}
		a.runs(t, v2.Version)
		require.Equal(t, http.StatusConflict, a.do(t, "POST", "/scripts/data_sync/activate", object{"source": newDataSync(t, "1.98.0").Text}, nil))

		// The first one to configure a channel's mode is the one that counts, until somebody changes it.
		var sync struct{ Modes map[string]scripts.SyncMode }
		require.Equal(t, http.StatusOK, b.do(t, "GET", "/sync", nil, &sync))
		require.Equal(t, map[string]scripts.SyncMode{"*": scripts.SyncLua, "2": scripts.SyncShadow}, sync.Modes)
		require.Equal(t, http.StatusForbidden, b.do(t, "PUT", "/sync", object{"mode": "direct"}, nil))
		sync.Modes = nil
		require.Equal(t, http.StatusOK, a.do(t, "PUT", "/sync", object{"mode": "lua", "channels": []string{"2"}}, &sync))
		require.Equal(t, scripts.SyncLua, sync.Modes["2"])
		b.store(t, 3)
		b.runs(t, v2.Version)
		require.NoError(t, a.SetSyncMode(t.Context(), scripts.SyncDirect, []string{"1"}, scripts.Change{By: "test"}))
		a.store(t, 3)

		version, err := a.RollbackScript(t.Context(), "data_sync", scripts.Change{By: "test"})
		require.NoError(t, err)
		require.Equal(t, own, version)
		b.store(t, 4)
		b.runs(t, own)
		require.NoError(t, a.ActivateScript(t.Context(), v2, scripts.Change{By: "test"}))
		var journal struct{ Events []scripts.ScriptEvent }
		require.Equal(t, http.StatusOK, b.do(t, "GET", "/scripts/journal?limit=1000", nil, &journal))
		var who []string
		for _, ev := range journal.Events {
			if ev.Script == "data_sync" {
				who = append(who, ev.Event+" by "+ev.By)
			}
		}
		require.Equal(t, []string{"activated by start", "activated by anna", "sync by http", "sync by test", "rolled_back by test", "activated by test"}, who)
	})
}

// An engine that makes no calls learns of a change by being told.
func TestScriptsAreFollowed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		site := storetest.Site(t)
		a := startScripts(t, client, site, "1", 0, voltage.ScriptConfig{})
		p, err := scripts.New(client, scripts.Options{Site: site})
		require.NoError(t, err)
		require.NoError(t, p.Prepare(t.Context()))
		// What the engine cannot follow is a problem that it shows.
		require.NoError(t, client.HSet(t.Context(), "{"+site+"}:sync:modes", "1", "quick").Err())
		require.NoError(t, client.Publish(t.Context(), "{"+site+"}:lua:changed", "sync").Err())
		eventually(t, "the bad mode is reported", func() bool { return strings.Contains(strings.Join(a.Problems(), "\n"), `"quick"`) })
		require.NoError(t, p.SetSyncMode(t.Context(), scripts.SyncLua, []string{"1"}, scripts.Change{By: "test"}))
		eventually(t, "the problem is gone", func() bool { return len(a.Problems()) == 0 })
	})
}

// A script in the folder is activated while the engine runs; one that is broken
// changes nothing and shows among the problems.
func TestScriptsFolder(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		folder := t.TempDir()
		moment := time.Now().Add(-time.Hour)
		write := func(files fstest.MapFS) {
			t.Helper()
			require.NoError(t, os.MkdirAll(filepath.Join(folder, "include"), 0o755))
			moment = moment.Add(time.Minute) // another one each time, however coarse the clock is
			for path, f := range files {
				at := filepath.Join(folder, path)
				require.NoError(t, os.WriteFile(at, f.Data, 0o600))
				require.NoError(t, os.Chtimes(at, moment, moment))
			}
		}
		write(scriptFiles(t, "1.90.0", "", ""))
		e := startScripts(t, client, storetest.Site(t), "1", 100*time.Millisecond, voltage.ScriptConfig{Folder: folder})
		active := func(number string) {
			t.Helper()
			eventually(t, "data_sync "+number+" is active", func() bool {
				st, err := e.Plane().ScriptState(t.Context(), "data_sync")
				return err == nil && strings.HasPrefix(st.Active, number+"+")
			})
			require.Empty(t, e.Problems())
			e.store(t, float64(len(number)))
		}
		problem := func(text string) {
			t.Helper()
			eventually(t, "the problem is shown: "+text, func() bool { return strings.Contains(strings.Join(e.Problems(), "\n"), text) })
			st, err := e.Plane().ScriptState(t.Context(), "data_sync")
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(st.Active, "1.90.0+"), st.Active)
		}
		active("1.90.0")
		e.store(t, 7)

		write(scriptFiles(t, "1.91.0", "\nlocal ", "\nlocl "))
		problem("data_sync.lua: ")
		write(scriptFiles(t, "1.91.0", "\nlocal ", "\nerror('boom')\nlocal "))
		problem("boom")
		write(scriptFiles(t, "1.90.0", "\nlocal ", "\nlocal  "))
		problem("raise @version")
		write(fstest.MapFS{"data_sync.lua": {Data: []byte("-- @version 1\n")}})
		problem("data_sync.lua:1: ")
		write(scriptFiles(t, "1.92.0", "", ""))
		active("1.92.0")
		e.store(t, 8)
	})
}

// A file that could not be read is read when its rights are set, which changes
// neither its size nor its time.
func TestScriptsFolderUnreadable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "include"), 0o755))
	for path, f := range scriptFiles(t, "1.90.0", "", "") {
		require.NoError(t, os.WriteFile(filepath.Join(folder, path), f.Data, 0o600))
	}
	require.NoError(t, os.Chmod(filepath.Join(folder, "data_sync.lua"), 0))
	e := startScripts(t, storetest.Embedded(t), storetest.Site(t), "1", 100*time.Millisecond, voltage.ScriptConfig{Folder: folder})
	eventually(t, "the problem is shown", func() bool { return strings.Contains(strings.Join(e.Problems(), "\n"), "permission denied") })
	require.NoError(t, os.Chmod(filepath.Join(folder, "data_sync.lua"), 0o600))
	eventually(t, "the script is active", func() bool {
		st, err := e.Plane().ScriptState(t.Context(), "data_sync")
		return err == nil && strings.HasPrefix(st.Active, "1.90.0+")
	})
}

// A folder that is not there is a problem, and no reason not to start.
func TestScriptsFolderMissing(t *testing.T) {
	t.Parallel()
	e := startScripts(t, storetest.Embedded(t), storetest.Site(t), "1", 5*time.Second, voltage.ScriptConfig{Folder: filepath.Join(t.TempDir(), "none")})
	eventually(t, "the problem is shown", func() bool { return strings.Contains(strings.Join(e.Problems(), "\n"), "no such file") })
	e.store(t, 1)
}

func TestScriptConfig(t *testing.T) {
	t.Parallel()
	for channel, mode := range map[string]scripts.SyncMode{"a b": scripts.SyncLua, "1": "quick", "": scripts.SyncLua} {
		_, err := voltage.NewEngine(voltage.Config{Scripts: voltage.ScriptConfig{Sync: map[string]scripts.SyncMode{channel: mode}}})
		require.ErrorIs(t, err, model.ErrInvalid)
		require.ErrorContains(t, err, "scripts: sync: ")
	}
	require.NoError(t, voltage.Config{Scripts: voltage.ScriptConfig{Sync: map[string]scripts.SyncMode{"*": scripts.SyncLua, "1": ""}}}.Validate())
	eng, err := voltage.NewEngine(voltage.Config{})
	require.NoError(t, err)
	_, err = eng.Scripts(t.Context())
	require.ErrorIs(t, err, voltage.ErrNotRunning)
	require.ErrorIs(t, eng.ActivateScript(t.Context(), scripts.Script{}, scripts.Change{}), voltage.ErrNotRunning)
	_, err = eng.RollbackScript(t.Context(), "data_sync", scripts.Change{})
	require.ErrorIs(t, err, voltage.ErrNotRunning)
	require.ErrorIs(t, eng.SetSyncMode(t.Context(), scripts.SyncLua, nil, scripts.Change{}), voltage.ErrNotRunning)
}
