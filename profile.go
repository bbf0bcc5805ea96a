package voltage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/voltageems/voltage/alarm"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

// Profile is what all devices of one type have in common: their points, how to
// poll them, the settings of the driver that they need, and their alarms. Sites
// name it in their channels; a firmware without a site file uses it in Go:
//
//	p, err := voltage.LoadProfile("profiles/meter.yaml", modbus.Kinds()...)
//	ch, err := p.Channel("1001", "modbus-tcp", map[string]any{"address": "192.168.1.10"})
//	cfg.Channels = append(cfg.Channels, ch)
//	cfg.Models = append(cfg.Models, p.Instance("meter1", "1001"))
//	cfg.Alarms = append(cfg.Alarms, p.Rules("meter1")...)
//
// docs/configuration.md describes the file. Points and Alarms may be changed
// before they are used.
type Profile struct {
	// Name, Manufacturer and Model are for people. They may be empty.
	Name, Manufacturer, Model string
	// Source says where the register map is from.
	Source ProfileSource
	// Drivers are the kinds of driver that the profile is for, in the order of
	// their names. Empty means that it does not say.
	Drivers []string
	// Scan, Scans and Timeout are those of channel.Config; zero where the profile
	// leaves them to the channel.
	Scan    time.Duration
	Scans   map[string]time.Duration
	Timeout time.Duration
	// Points are the points of the device.
	Points []model.Point
	// Alarms are the alarm rules, without a model. Their Point is a name as
	// Instance gives it.
	Alarms []alarm.Rule

	loaded *loadProfile
	kinds  []channel.Kind
}

// ProfileSource says where the contents of a profile come from, so that they can
// be checked.
type ProfileSource struct {
	// Manual is the document's title, such as "SDM630 Modbus protocol".
	Manual string `yaml:"manual"`
	// Edition is the document's version or date.
	Edition string `yaml:"edition"`
	// Page is where in it the registers stand, such as "12-19".
	Page string `yaml:"page"`
	// URL is where the document can be had, or else what the profile was checked
	// against.
	URL string `yaml:"url"`
}

// LoadProfile reads a device profile and the point table that it names. The
// kinds are the drivers with which settings and addresses are checked; those of
// others are left unchecked. Channels of profiles that were loaded with the same
// kinds share connections as those of one configuration file do.
//
// It reads files and does no other I/O. The error is as that of LoadConfig.
func LoadProfile(path string, kinds ...channel.Kind) (Profile, error) {
	pr, err := loadProfileFrom(path, kinds, loadReadFile)
	if err == nil {
		err = pr.err()
	}
	if err != nil {
		return Profile{}, err
	}
	f := pr.layout
	p := Profile{
		Name: f.Name, Manufacturer: f.Manufacturer, Model: f.Model, Source: f.Source,
		Drivers: slices.Sorted(maps.Keys(f.Drivers)), Scan: f.Scan, Scans: maps.Clone(f.Scans), Timeout: f.Timeout,
		Points: slices.Clone(pr.table.points), loaded: pr, kinds: kinds,
	}
	for _, a := range pr.alarms {
		p.Alarms = append(p.Alarms, a.rules("", a.Point)...)
	}
	return p, nil
}

// loadProfileFrom reads a profile and has the drivers check it. The error is
// that the file cannot be read, or about the kinds; faults are in the profile.
func loadProfileFrom(path string, kinds []channel.Kind, read func(string, int64) ([]byte, error)) (*loadProfile, error) {
	l, err := newLoader(path, kinds, read, nil)
	if err != nil {
		return nil, fmt.Errorf("LoadProfile: %w", err)
	}
	data, err := read(path, loadMaxYAML)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, loadCause(err))
	}
	pr := &loadProfile{loader: l, table: &loadTable{incomplete: true}}
	pr.build(data)
	for name := range pr.layout.Drivers {
		pr.try(name)
	}
	return pr, nil
}

// try opens a driver without a device and has it check the points. It returns
// nil where that is not possible.
func (pr *loadProfile) try(driver string) channel.Driver {
	kind, ok := pr.kinds[driver]
	if !ok || kind.Profile == nil {
		return nil
	}
	at := loadPath{"drivers", driver}
	kind.Open = pr.under(driver, kind.Profile)
	factory := pr.open(at, kind, loadRaw{})
	if factory == nil {
		return nil
	}
	cfg := channel.Config{ID: "profile", Driver: factory, Points: pr.table.points}
	pr.fill(&cfg)
	before := pr.count()
	pr.checkAddresses(at, factory, cfg, pr.table)
	if pr.count() > before {
		return nil
	}
	d, err := cfg.NewDriver(loadNoLog, model.SystemClock)
	if err != nil {
		return nil // it was reported, or one of its points was
	}
	return d
}

// Channel returns a channel with the profile's points and a driver of one of the
// kinds that LoadProfile was given. The settings are those of the driver's
// section in a configuration file; they go before those of the profile, key by
// key. Without settings the channel has no device: its driver says what is wrong
// with its points and what it would read, and cannot connect.
//
// The caller may change the rest of the Config. Errors wrap model.ErrInvalid.
func (p Profile) Channel(id, driver string, settings map[string]any) (channel.Config, error) {
	bad := func(format string, args ...any) (channel.Config, error) {
		return channel.Config{}, fmt.Errorf("%w: channel %s: "+format, append([]any{model.ErrInvalid, id}, args...)...)
	}
	if p.loaded == nil {
		return bad("the profile was not loaded")
	}
	i := slices.IndexFunc(p.kinds, func(k channel.Kind) bool { return k.Name == driver && k.Serve == nil })
	if i < 0 {
		return bad("driver %.64q: LoadProfile was not given this kind: want one of %s", driver, p.usable())
	}
	if len(p.Drivers) > 0 && !slices.Contains(p.Drivers, driver) {
		return bad("driver %.64q: the profile is for %s", driver, strings.Join(p.Drivers, ", "))
	}
	kind := p.kinds[i]
	if settings == nil {
		kind.Open = kind.Profile
	}
	if kind.Open == nil {
		return bad("driver %.64q cannot be opened this way", driver)
	}
	node := new(yaml.Node)
	if err := node.Encode(settings); err != nil {
		return bad("settings: %v", err)
	}
	l, err := newLoader(p.loaded.path, p.kinds, nil, nil)
	if err != nil {
		return bad("%w", err)
	}
	l.root = p.loaded.root
	l.files = append(l.files, "channel "+id)
	own := l.child("channel "+id, 1)
	own.root = node
	kind.Open = (&loadProfile{loader: l, layout: p.loaded.layout}).under(driver, kind.Open)
	factory := own.open(loadPath{driver}, kind, loadRaw{node: node})
	if err := l.err(); err != nil {
		return channel.Config{}, err
	}
	cfg := channel.Config{ID: id, Name: p.Name, Driver: factory, Points: slices.Clone(p.Points),
		Scan: p.Scan, Scans: maps.Clone(p.Scans), Timeout: p.Timeout}
	if err := cfg.Validate(); err != nil {
		return channel.Config{}, err
	}
	return cfg, nil
}

// usable names the drivers that a channel can have.
func (p Profile) usable() string {
	var names []string
	for _, k := range p.kinds {
		if k.Serve == nil && (len(p.Drivers) == 0 || slices.Contains(p.Drivers, k.Name)) {
			names = append(names, k.Name)
		}
	}
	return strings.Join(names, ", ")
}

// Instance returns a model that binds every point of a channel of this profile
// under its name, as "channel" in a configuration file does.
func (p Profile) Instance(id, channelID string) model.Instance {
	m := model.Instance{ID: id, Name: p.Name}
	for _, point := range p.Points {
		var to *map[string]string
		switch point.Kind {
		case model.Signal:
			to = &m.Signals
		case model.Control:
			to = &m.Controls
		case model.Adjustment:
			to = &m.Adjustments
		default:
			to = &m.Measurements
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[loadName(point)] = model.Ref{Owner: channelID, Name: point.ID}.String()
	}
	return m
}

// Rules returns the profile's alarm rules for a model that Instance made.
func (p Profile) Rules(modelID string) []alarm.Rule {
	rules := slices.Clone(p.Alarms)
	for i := range rules {
		rules[i].Model = modelID
		if e := rules[i].Enable; e != nil {
			rules[i].Enable = new(*e)
		}
	}
	return rules
}
