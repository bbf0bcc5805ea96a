package voltage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// Bounds of configuration files, in bytes. A tree of YAML nodes takes up to a
// hundred times its text, so long lists of points belong into CSV files.
const (
	loadMaxYAML = 4 << 20
	loadMaxCSV  = 16 << 20
)

// LoadConfig reads a configuration file in YAML and the CSV tables that it
// names, as docs/configuration.md describes them. The kinds are the drivers and
// servers that the file may use: channel/all gathers those of Voltage, and a
// program adds its own.
//
//	cfg, err := voltage.LoadConfig("site.yaml", all.Kinds()...)
//
// A file with targets of notifications needs LoadConfigWith.
//
// Relative paths in the file count from the file's folder. ${NAME} in the sections
// of the store, of http, of drivers, of servers and of senders is replaced by the environment
// variable. LoadConfig reads
// files and the environment and does no other I/O.
//
// The error names every fault of all files, up to 50, each with file, line and
// field, and wraps model.ErrInvalid, scripts.ErrStoreConfig or the error of the
// file system. It holds no value of an environment variable and no password of
// a URL. Log and Clock of the result are nil.
func LoadConfig(path string, kinds ...channel.Kind) (Config, error) {
	return LoadConfigWith(path, Kinds{Channels: kinds})
}

// Kinds are what a configuration file may name. A program links what it passes.
type Kinds struct {
	// Channels are drivers and servers, such as those of channel/all.
	Channels []channel.Kind
	// Senders reach the targets of notifications, such as those of
	// alarm/notify/all, which has templates of texts as well.
	Senders []notify.Kind
}

// LoadConfigWith is LoadConfig with kinds of everything:
//
//	cfg, err := voltage.LoadConfigWith("site.yaml", voltage.Kinds{Channels: channels.Kinds(), Senders: senders.Kinds()})
func LoadConfigWith(path string, kinds Kinds) (Config, error) {
	data, err := loadReadFile(path, loadMaxYAML)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, loadCause(err))
	}
	return loadConfig(path, data, kinds, loadReadFile, os.LookupEnv)
}

// loadConfig is LoadConfig without the operating system.
func loadConfig(path string, data []byte, kinds Kinds, read func(string, int64) ([]byte, error), env func(string) (string, bool)) (Config, error) {
	l, err := newLoader(path, kinds.Channels, read, env)
	if err == nil {
		err = l.knowSenders(kinds.Senders)
	}
	if err != nil {
		return Config{}, fmt.Errorf("LoadConfig: %w", err)
	}
	var cfg Config
	if l.parse(data) {
		var file loadFile
		l.decode(l.root, reflect.ValueOf(&file).Elem(), nil, l.root.Line, false)
		cfg = l.build(file)
	}
	if err := l.err(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// newLoader returns the loader of a file. The error is about the kinds.
func newLoader(path string, kinds []channel.Kind, read func(string, int64) ([]byte, error), env func(string) (string, bool)) (*loader, error) {
	l := &loader{
		loadShared: &loadShared{
			read: read, files: []string{path}, kinds: map[string]channel.Kind{}, servers: map[string]channel.Kind{}, tables: map[string]*loadTable{},
			profiles: map[string]*loadProfile{}, templates: map[string]*loadedTemplate{}, fields: map[reflect.Type]*loadFields{}, seen: map[string]bool{}, budget: loadMaxNodes,
		},
		env: env, path: path, dir: filepath.Dir(path), ids: map[string]int{}, broken: map[string]bool{}, rows: map[string]loadRows{},
	}
	for _, k := range kinds {
		known := l.kinds
		if k.Serve != nil {
			known = l.servers
		}
		if _, ok := known[k.Name]; ok || k.Name == "" || (k.Open == nil) == (k.Serve == nil) {
			return nil, fmt.Errorf("%w: kind %q is there twice, or lacks a name, or has not one of Open and Serve", model.ErrInvalid, k.Name)
		}
		known[k.Name] = k
	}
	return l, nil
}

// loadShared is what the loaders of one configuration share: that of the file,
// and one for each profile that it names.
type loadShared struct {
	read     func(path string, limit int64) ([]byte, error)
	files    []string                // the configuration file, then profiles and tables in order of use
	kinds    map[string]channel.Kind // of drivers
	servers  map[string]channel.Kind // of servers
	senders  map[string]notify.Kind  // of targets
	texts    func(subject, body string) (notify.Texts, error)
	tables   map[string]*loadTable
	profiles map[string]*loadProfile
	// templates by name, and the files of them that were read
	templates     map[string]*loadedTemplate
	templateFiles map[string]bool
	fields        map[reflect.Type]*loadFields
	budget        int // how many nodes may still be looked at; aliases multiply them

	faults  []loadFault
	more    int             // faults that were not kept
	seen    map[string]bool // faults, to report each once
	secrets []loadSecret
}

// loader reads one YAML file.
type loader struct {
	*loadShared
	env func(string) (string, bool) // nil where ${NAME} is not replaced

	path, dir string
	file      int // its place in files
	root      *yaml.Node
	broken    map[string]bool     // fields that could not be decoded
	rows      map[string]loadRows // lists of sections that may be tables, by path
	ids       map[string]int      // place of the first entry by what and id

	channels map[string]*loadTable // points by channel, for the models' bindings
	models   map[string]*loadNames // names by model, for alarms and rules
	alarms   []model.AlarmRule     // those that models get from profiles and templates
	bindings map[string][]loadBinding
}

// child returns the loader of another file of the same configuration, in which
// environment variables are not replaced.
func (l *loader) child(path string, file int) *loader {
	return &loader{loadShared: l.loadShared, path: path, dir: filepath.Dir(path), file: file, ids: map[string]int{}, broken: map[string]bool{}, rows: map[string]loadRows{}}
}

// loadFile is the file's layout.
type loadFile struct {
	Site         string             `yaml:"site"`
	Engine       string             `yaml:"engine"`
	Lease        time.Duration      `yaml:"lease"`
	Store        loadStore          `yaml:"store"`
	HTTP         loadHTTP           `yaml:"http"`
	Scripts      loadScripts        `yaml:"scripts"`
	HistoryQueue loadSize           `yaml:"history_queue"`
	CloudQueue   loadSize           `yaml:"cloud_queue"`
	Channels     []loadChannel      `yaml:"channels"`
	Templates    []string           `yaml:"templates"`
	Bindings     string             `yaml:"bindings"`
	Models       []loadModel        `yaml:"models"`
	Alarms       []loadSiteAlarm    `yaml:"alarms"`
	Rules        []model.Rule       `yaml:"rules"`
	Servers      []loadServer       `yaml:"servers"`
	Notify       loadNotify         `yaml:"notifications"`
	Extra        map[string]loadRaw `yaml:",inline"`
}

type loadScripts struct {
	Folder    string                      `yaml:"folder"`
	Updates   bool                        `yaml:"updates"`
	Sync      map[string]scripts.SyncMode `yaml:"sync"`
	Probation loadStale                   `yaml:"probation"`
	Slow      loadStale                   `yaml:"slow"`
}

type loadStore struct {
	Redis    *string      `yaml:"redis"`
	TLS      loadTLS      `yaml:"tls"`
	Managed  *loadManaged `yaml:"managed"`
	Embedded bool         `yaml:"embedded"`
}

type loadTLS struct {
	CAFile     string `yaml:"ca_file"`
	CertFile   string `yaml:"cert_file"`
	KeyFile    string `yaml:"key_file"`
	ServerName string `yaml:"server_name"`
}

type loadManaged struct {
	Folder      string   `yaml:"folder"`
	Persistence string   `yaml:"persistence"`
	Binary      string   `yaml:"binary"`
	MaxMemory   loadSize `yaml:"max_memory"`
}

// build checks what was decoded and makes the Config of it.
func (l *loader) build(f loadFile) Config {
	l.extra(f.Extra, reflect.TypeFor[loadFile]())
	cfg := Config{
		Site: f.Site, Engine: f.Engine, Lease: f.Lease,
		HTTP:         l.http(f.HTTP),
		HistoryQueue: int64(f.HistoryQueue), CloudQueue: int64(f.CloudQueue),
		Store: l.store(f.Store), Scripts: l.scripts(f.Scripts),
	}
	l.checkPart(loadPath{}, Config{Site: cfg.Site}, "site")
	l.checkPart(loadPath{}, Config{Engine: cfg.Engine}, "engine")
	l.checkPart(loadPath{}, Config{Lease: cfg.Lease}, "lease")
	if l.zero(loadPath{"lease"}, f.Lease) {
		l.fail(loadPath{"lease"}, "0s: want at least 1s, or nothing for the default")
	}
	cfg.Channels = l.buildChannels(f.Channels)
	l.readTemplates(f.Templates)
	l.readBindings(f.Bindings, f.Models)
	cfg.Models = l.buildModels(f.Models)
	cfg.Alarms = l.buildAlarms(f.Alarms)
	cfg.Rules = l.buildRules(f.Rules)
	cfg.Servers = l.buildServers(f.Servers)
	cfg.Notifications = l.notifications(f.Notify)
	if len(l.faults) == 0 { // what no check above located
		for _, err := range loadSplit(cfg.Validate()) {
			l.add(0, 1, "", loadText(err), model.ErrInvalid)
		}
	}
	return cfg
}

// extra refuses unknown sections. Those that begin with x- are a place for
// anchors.
func (l *loader) extra(keys map[string]loadRaw, layout reflect.Type) {
	known := l.fieldsOf(layout).names
	for key, raw := range keys {
		if len(key) < 2 || key[:2] != "x-" {
			l.at(loadPath{key}, raw.line, "unknown key%s", loadSuggest(key, known))
		}
	}
}

// zero reports whether a duration is written out as nothing, which would
// silently mean the default.
func (l *loader) zero(p loadPath, d time.Duration) bool {
	return d == 0 && !l.isBroken(p) && l.has(p)
}

// checkPart validates a part of the configuration and locates the faults by the
// keys that they name.
func (l *loader) checkPart(p loadPath, part Config, keys ...string) {
	for _, err := range loadSplit(part.Validate()) {
		key, text := loadLocate(loadText(err), keys)
		if key == "" {
			l.fail(p, "%s", text)
			continue
		}
		l.fail(p.with(key), "%s", text)
	}
}

func (l *loader) store(f loadStore) scripts.StoreConfig {
	p := loadPath{"store"}
	bad := func(p loadPath, text string) {
		l.addAt(p, l.line(p), text, scripts.ErrStoreConfig)
	}
	s := scripts.StoreConfig{
		TLS: scripts.StoreTLS{
			CAFile: l.relative(f.TLS.CAFile), CertFile: l.relative(f.TLS.CertFile),
			KeyFile: l.relative(f.TLS.KeyFile), ServerName: f.TLS.ServerName,
		},
		Embedded: f.Embedded,
	}
	ways := 0
	if f.Redis != nil {
		ways++
		if s.URL = *f.Redis; s.URL == "" && !l.isBroken(p.with("redis")) {
			bad(p.with("redis"), "empty: want a URL such as redis://127.0.0.1:6379/0")
		}
	}
	if f.Embedded {
		ways++
	}
	if m := f.Managed; m != nil {
		ways++
		s.Managed = &scripts.Managed{
			Folder: l.relative(m.Folder), Persistence: scripts.Persistence(m.Persistence),
			Binary: m.Binary, MaxMemory: int64(m.MaxMemory),
		}
		if filepath.Base(m.Binary) != m.Binary { // a bare name is looked for on PATH
			s.Managed.Binary = l.relative(m.Binary)
		}
	}
	switch {
	case ways > 1:
		bad(p, "at most one of redis, managed and embedded")
	case s.TLS != (scripts.StoreTLS{}) && f.Redis == nil:
		bad(p.with("tls"), "belongs to redis, which is not there")
	case !l.brokenUnder(p):
		for _, err := range loadSplit(Config{Store: s}.Validate()) {
			field, text := loadStoreText(loadText(err))
			bad(p.with(field...), text)
		}
	}
	return s
}

func (l *loader) scripts(f loadScripts) ScriptConfig {
	for channel, m := range f.Sync {
		p := loadPath{"scripts", "sync", channel}
		if err := checkSync(channel, m); err != nil && !l.isBroken(p) {
			l.fail(p, "%s", loadText(err))
		}
	}
	return ScriptConfig{Folder: l.relative(f.Folder), Updates: f.Updates, Sync: f.Sync,
		Probation: time.Duration(f.Probation), Slow: time.Duration(f.Slow)}
}

// relative turns a path of the file into one of the process.
func (l *loader) relative(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.dir, path)
}

func loadReadFile(path string, limit int64) ([]byte, error) {
	// A pipe would block for as long as nobody writes to it.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", model.ErrInvalid)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: larger than %d MiB", model.ErrInvalid, limit>>20)
	}
	return data, err
}

// loadCause takes the path away from an error of the file system; the message
// has it already.
func loadCause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
