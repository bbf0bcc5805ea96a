package voltage

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/alarm"
	senders "github.com/voltageems/voltage/alarm/notify/all"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/rule"
	"github.com/voltageems/voltage/scripts"
)

// loadTest loads files that exist only in memory.
func loadTest(files map[string]string, env map[string]string, kinds ...channel.Kind) (Config, error) {
	read := func(path string, _ int64) ([]byte, error) {
		text, ok := files[filepath.ToSlash(path)]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}
	lookup := func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
	return loadConfig("site.yaml", []byte(files["site.yaml"]), Kinds{Channels: kinds, Senders: senders.Kinds()}, read, lookup)
}

func loadFloatOf(v float64) *float64 { return &v }

func TestLoadConfigReadsEverything(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for _, name := range []string{"site.yaml", "meter.csv"} {
		data, err := os.ReadFile(filepath.Join("testdata", "loadconfig", name))
		require.NoError(t, err)
		files[name] = string(data)
	}
	got, err := loadTest(files, map[string]string{"REDIS_PASSWORD": "geheim"}, all.Kinds()...)
	require.NoError(t, err)

	require.Len(t, got.Channels, 3)
	for i, want := range []bool{true, true, false} {
		assert.Equal(t, want, got.Channels[i].Driver != nil, "driver of channel %d", i)
	}
	for _, c := range got.Channels[:2] {
		_, err := c.Driver(channel.Setup{ID: c.ID, Points: c.Points, Scan: time.Second, Timeout: time.Second,
			Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock})
		assert.NoError(t, err, c.ID)
	}
	got.Channels[0].Driver, got.Channels[1].Driver = nil, nil

	want := Config{
		Site: "plant-a", Engine: "engine-1", Lease: 10 * time.Second,
		Store: scripts.StoreConfig{
			URL: "rediss://voltage:geheim@redis.example.org:6379/2",
			TLS: scripts.StoreTLS{CAFile: filepath.Join("tls", "ca.pem"), CertFile: "/etc/voltage/cert.pem", KeyFile: "/etc/voltage/key.pem"},
		},
		HTTP: HTTP{Listen: "127.0.0.1:8080", AllowedHosts: []string{"plant-a.example.org", "gateway"}, Cache: 2 * time.Second},
		Scripts: ScriptConfig{Folder: "lua", Updates: true, Probation: -1, Slow: 50 * time.Millisecond,
			Sync: map[string]scripts.SyncMode{"*": scripts.SyncLua, "1001": scripts.SyncShadow, "pcs": scripts.SyncDirect, "pushed": ""}},
		HistoryQueue: 64 << 20,
		Channels: []channel.Config{
			{
				ID: "1001", Name: "Grid meter", Scan: 500 * time.Millisecond, Timeout: 2 * time.Second, Stale: 3 * time.Second, Refresh: 5 * time.Minute,
				Points: []model.Point{
					{ID: "1", Name: "Voltage L1", Address: "input:0:float32", Unit: "V"},
					{ID: "2", Kind: model.Signal, Address: "discrete:1", Labels: map[int]string{0: "open", 1: "closed"}},
					{ID: "3", Name: "Power", Address: "input:4:int32:CDAB", Scale: 0.001, Offset: 1.5, Unit: "kW"},
					{ID: "4", Name: "Limit", Kind: model.Control, Address: "holding:7:int16", Scale: 0.1, Unit: "kW",
						Min: loadFloatOf(-10), Max: loadFloatOf(10), Step: 0.5, ReadBack: true, Tolerance: 0.05},
				},
			},
			{
				ID: "pcs", Disabled: true,
				Points: []model.Point{
					{ID: "1", Name: "Active power", Address: "follow:3:10", Unit: "kW", Scale: 0.1, Offset: -5},
					{ID: "2", Name: "Mode", Kind: model.Signal, Address: "toggle", Labels: map[int]string{0: "off", 1: "on", -1: "fault"}},
					{ID: "3", Name: "Setpoint", Kind: model.Control, Address: "setpoint:0", Min: loadFloatOf(-50), Max: loadFloatOf(50), Step: 0.5, ReadBack: true, Tolerance: 0.2},
					{ID: "4", Name: "Ramp", Kind: model.Adjustment, Address: "setpoint:10"},
					{ID: "5", Name: "no", Address: "text:1.0", Text: true},
				},
			},
			{ID: "pushed", Stale: -1},
		},
		Models: []model.Instance{
			{
				ID: "meter", Name: "Grid meter",
				Measurements: map[string]string{"power": "1001:3", "elsewhere": "2001:7", "Voltage_L1": "1001:1"},
				Signals:      map[string]string{"2": "1001:2"},
				Controls:     map[string]string{"Limit": "1001:4"},
			},
			{
				ID: "pcs", Disabled: true,
				Measurements: map[string]string{"Active_power": "pcs:1", "no": "pcs:5"},
				Signals:      map[string]string{"Mode": "pcs:2"},
				Controls:     map[string]string{"Setpoint": "pcs:3"},
				Adjustments:  map[string]string{"Ramp": "pcs:4"},
			},
			{
				ID:           "view",
				Measurements: map[string]string{"active_power": "pcs:1"},
				Signals:      map[string]string{"mode": "pcs:2"},
				Controls:     map[string]string{"setpoint": "pcs:3"},
				Adjustments:  map[string]string{"ramp": "pcs:4"},
			},
		},
		Alarms: []alarm.Rule{
			{ID: "high", Model: "meter", Point: "power", Operator: model.Above, Threshold: 60, Hysteresis: 5, Severity: model.High, Message: "Too much"},
			{ID: "off", Model: "other-engine", Point: "running", Operator: model.Equal, Disabled: true},
		},
		Rules: []rule.Rule{
			{
				ID: "limit", Name: "Limit the feed-in",
				Conditions: []rule.Condition{{Model: "meter", Point: "power", Operator: model.Below, Threshold: -1500}},
				Actions: []rule.Action{
					{Type: model.ActionControl, Model: "view", Control: "setpoint", Value: -10},
					{Type: model.ActionAlarm, Severity: model.Low, Message: "Limited"},
				},
			},
			{
				ID: "idle", Disabled: true,
				Conditions: []rule.Condition{{Model: "a", Point: "b", Operator: model.NotEqual, Threshold: 1}},
				Actions:    []rule.Action{{Type: model.ActionNotification, Message: "Hello"}},
			},
		},
	}
	assert.Equal(t, want, got)
	assert.NoError(t, got.Validate())
}

func TestLoadConfigReadsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write("real.csv", "id,address\n1,constant:5\n")
	require.NoError(t, os.Symlink("real.csv", filepath.Join(dir, "points.csv")))
	path := write("site.yaml", "store: {managed: {folder: data, persistence: snapshot, max_memory: 64MiB, binary: redis-server}}\n"+
		"channels: [{id: a, driver: virtual, points: points.csv}]\n")
	link := filepath.Join(dir, "link.yaml")
	require.NoError(t, os.Symlink("site.yaml", link))
	for _, path := range []string{path, link} {
		cfg, err := LoadConfig(path, all.Kinds()...)
		require.NoError(t, err)
		assert.Equal(t, []model.Point{{ID: "1", Address: "constant:5"}}, cfg.Channels[0].Points)
		assert.Equal(t, &scripts.Managed{Folder: filepath.Join(dir, "data"), Persistence: scripts.PersistSnapshot, MaxMemory: 64 << 20, Binary: "redis-server"}, cfg.Store.Managed)
	}

	missing := filepath.Join(dir, "missing.yaml")
	_, err := LoadConfig(missing)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.EqualError(t, err, missing+": no such file or directory")

	_, err = LoadConfig(dir)
	require.ErrorIs(t, err, model.ErrInvalid)
	assert.ErrorContains(t, err, "not a regular file")

	big := write("big.yaml", strings.Repeat("# a comment of sixteen\n", loadMaxYAML/20))
	_, err = LoadConfig(big)
	assert.EqualError(t, err, big+": invalid: larger than 4 MiB")

	lost := write("lost.yaml", "channels:\n  - id: a\n    points: lost.csv\n")
	_, err = LoadConfig(lost)
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.EqualError(t, err, lost+":3: channels[0].points: "+filepath.Join(dir, "lost.csv")+": no such file or directory")
}

func TestLoadConfigRefusesBadKinds(t *testing.T) {
	t.Parallel()
	kind := all.Kinds()[0]
	_, err := loadTest(map[string]string{"site.yaml": "site: a\n"}, nil, kind, kind)
	require.ErrorIs(t, err, model.ErrInvalid)
	_, err = loadTest(map[string]string{"site.yaml": "site: a\n"}, nil, channel.Kind{Name: "x"})
	require.ErrorIs(t, err, model.ErrInvalid)
}

// TestLoadConfigDocumentation loads the example of docs/configuration.md.
func TestLoadConfigDocumentation(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("docs", "configuration.md"))
	require.NoError(t, err)
	files := map[string]string{}
	block := regexp.MustCompile("(?ms)^<!-- file: ([a-z./]+) -->\n```[a-z]*\n(.*?)^```$")
	for _, m := range block.FindAllStringSubmatch(string(data), -1) {
		files[m[1]] = m[2]
	}
	require.Contains(t, files, "site.yaml")
	require.Contains(t, files, "meter.csv")
	require.Empty(t, lintProfile("profiles/breaker.yaml", all.Kinds(), readTest(files)))
	cfg, err := loadTest(files, nil, all.Kinds()...)
	require.NoError(t, err)
	assert.NotEmpty(t, cfg.Channels)
	assert.NotEmpty(t, cfg.Models)
	assert.NotEmpty(t, cfg.Alarms)
	assert.NotEmpty(t, cfg.Rules)
	eng, err := NewEngine(cfg)
	require.NoError(t, err)
	assert.NoError(t, eng.Stop(t.Context()))

	cfg, err = loadTest(map[string]string{"site.yaml": files["alarms.yaml"]}, nil, all.Kinds()...)
	require.NoError(t, err)
	assert.Len(t, cfg.Alarms, 9, "four limits, four others, and the one channel has a rule of its own")
	for _, o := range model.AlarmOperators() {
		text := "`" + string(o) + "`"
		if o.Valid() {
			text = "`\"" + string(o) + "\"`" // YAML needs the quotes
		}
		assert.Contains(t, string(data), text)
	}
}

// TestModbusDocumentation follows docs/modbus.md: its steps make a profile that
// the linter has nothing against, and a site that uses it.
func TestModbusDocumentation(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("docs", "modbus.md"))
	require.NoError(t, err)
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^   ```yaml\n(.*?)^   ```$").FindAllStringSubmatch(string(data), -1) {
		blocks = append(blocks, strings.ReplaceAll("\n"+m[1], "\n   ", "\n")[1:])
	}
	require.Len(t, blocks, 5)
	profile, site := strings.Join(blocks[:4], ""), blocks[4]
	files := map[string]string{"profiles/hp-7.yaml": profile, "site.yaml": site,
		"hp-7.yaml": strings.ReplaceAll(profile, ", read_back: true", "")}
	require.Empty(t, lintProfile("profiles/hp-7.yaml", all.Kinds(), readTest(files)))
	found := lintProfile("hp-7.yaml", all.Kinds(), readTest(files))
	require.Len(t, found, 1)
	assert.Contains(t, string(data), found[0].String(), "the example of a finding is what the linter says")
	cfg, err := loadTest(files, nil, all.Kinds()...)
	require.NoError(t, err)
	assert.Len(t, cfg.Alarms, 1)
}
