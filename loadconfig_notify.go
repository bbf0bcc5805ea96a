package voltage

import (
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/alarm/notify"
	"github.com/voltageems/voltage/model"
)

type loadNotify struct {
	MaxAge      time.Duration `yaml:"max_age"`
	MaxAttempts int           `yaml:"max_attempts"`
	Targets     []loadTarget  `yaml:"targets"`
	Routes      []loadRoute   `yaml:"routes"`
}

// loadTarget is a target in the file. Sections are the keys that are not its own:
// the settings stand under the sender's name.
type loadTarget struct {
	ID       string             `yaml:"id"`
	Sender   string             `yaml:"sender"`
	Language notify.Language    `yaml:"language"`
	Rate     loadRate           `yaml:"rate"`
	Timeout  time.Duration      `yaml:"timeout"`
	Template *loadTexts         `yaml:"template"`
	Sections map[string]loadRaw `yaml:",inline"`
}

// loadTexts are the templates of a target.
type loadTexts struct {
	Subject string `yaml:"subject"`
	Body    string `yaml:"body"`
}

// loadRate is messages a minute, or "unlimited", which is negative.
type loadRate int

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *loadRate) UnmarshalText(b []byte) error {
	if string(b) == "unlimited" {
		*r = -1
		return nil
	}
	var n uint16
	if err := loadSet(reflect.ValueOf(&n).Elem(), string(b)); err != nil || n == 0 {
		return fmt.Errorf("%.20q: want messages a minute, or unlimited", b)
	}
	*r = loadRate(n)
	return nil
}

type loadRoute struct {
	Severity    model.Severity          `yaml:"severity"`
	Types       []string                `yaml:"types"`
	Models      []string                `yaml:"models"`
	Transitions []model.AlarmTransition `yaml:"transitions"`
	Targets     []string                `yaml:"targets"`
	Language    notify.Language         `yaml:"language"`
	Escalate    []loadEscalation        `yaml:"escalate"`
}

type loadEscalation struct {
	After   time.Duration `yaml:"after"`
	Targets []string      `yaml:"targets"`
}

// knowSenders takes over the kinds of senders. The error is about them.
func (l *loader) knowSenders(kinds []notify.Kind) error {
	l.senders = map[string]notify.Kind{}
	for _, k := range kinds {
		_, twice := l.senders[k.Name]
		if twice || k.Name == "" || (k.Open == nil) == (k.Texts == nil) || k.Texts != nil && l.texts != nil {
			return fmt.Errorf("%w: sender %q is there twice, or lacks a name, or has not one of Open and Texts", model.ErrInvalid, k.Name)
		}
		if k.Texts != nil {
			l.texts = k.Texts
			continue
		}
		l.senders[k.Name] = k
	}
	return nil
}

// notifications makes and checks the section.
func (l *loader) notifications(f loadNotify) notify.Config {
	p := loadPath{"notifications"}
	c := notify.Config{MaxAge: f.MaxAge, MaxAttempts: f.MaxAttempts}
	check := func(at loadPath, part notify.Config, strip string, keys ...string) {
		for _, err := range loadSplit(part.Validate()) {
			key, text := loadLocate(strings.TrimPrefix(strings.TrimPrefix(loadText(err), "notifications: "), strip), keys)
			l.fail(at.field(key), "%s", text)
		}
	}
	check(p, notify.Config{MaxAge: c.MaxAge}, "", "max_age")
	check(p, notify.Config{MaxAttempts: c.MaxAttempts}, "", "max_attempts")
	if l.zero(p.with("max_age"), f.MaxAge) {
		l.fail(p.with("max_age"), "0s: want at least 1m, or nothing for the default")
	}
	if len(f.Targets) > notify.MaxTargets {
		l.fail(p.with("targets"), "%d targets: at most %d", len(f.Targets), notify.MaxTargets)
		return c
	}
	// Routes are held against every id of the file, also of targets with faults.
	any := func(notify.Setup) (notify.Sender, error) { return nil, nil }
	var ids []notify.Target
	for i, t := range f.Targets {
		at := p.with("targets", i)
		skip := l.unfit(at, reflect.TypeFor[loadTarget](), "id", "sender")
		target := notify.Target{ID: t.ID, Language: t.Language, Rate: int(t.Rate), Timeout: t.Timeout, Sender: any}
		if !slices.Contains(skip, "id") {
			if err := model.CheckID("target", t.ID); err != nil {
				_, text := loadLocate(loadText(err), []string{"id"})
				l.fail(at.with("id"), "%s", text)
			} else {
				if !slices.ContainsFunc(ids, func(o notify.Target) bool { return o.ID == t.ID }) {
					ids = append(ids, notify.Target{ID: t.ID, Sender: any})
				}
				check(at, notify.Config{Targets: []notify.Target{target}}, "target "+t.ID+": ", "language", "rate", "timeout")
			}
			l.once(at, "target", t.ID)
		}
		if l.zero(at.with("timeout"), t.Timeout) {
			l.fail(at.with("timeout"), "0s: want a duration above 0, or nothing for the default")
		}
		target.Texts = l.targetTexts(at.with("template"), t.Template)
		if target.Sender = l.sender(at, t, slices.Contains(skip, "sender")); target.Sender != nil {
			c.Targets = append(c.Targets, target)
		}
	}
	for i, r := range f.Routes {
		at := p.with("routes", i)
		route := notify.Route{Severity: r.Severity, Types: r.Types, Models: r.Models, Transitions: r.Transitions, Targets: r.Targets, Language: r.Language}
		for _, e := range r.Escalate {
			route.Escalate = append(route.Escalate, notify.Escalation(e))
		}
		if !l.brokenUnder(at) {
			check(at, notify.Config{Targets: ids, Routes: []notify.Route{route}}, "route 1: ", "severity", "types", "models", "transitions", "targets", "language", "escalate")
		}
		c.Routes = append(c.Routes, route)
	}
	if len(c.Routes) > notify.MaxRoutes {
		l.fail(p.with("routes"), "%d routes: at most %d", len(c.Routes), notify.MaxRoutes)
	}
	return c
}

// targetTexts makes the texts of a target; nil for those of the program.
func (l *loader) targetTexts(p loadPath, f *loadTexts) notify.Texts {
	if f == nil || l.brokenUnder(p) {
		return nil
	}
	if l.texts == nil {
		l.fail(p, "the program knows no templates: it passes them to LoadConfigWith, such as those of alarm/notify/all")
		return nil
	}
	texts, err := l.texts(f.Subject, f.Body)
	if err != nil {
		key, text := loadLocate(loadText(err), []string{"subject", "body"})
		l.fail(p.field(key), "%s", text)
		return nil
	}
	return texts
}

// sender makes the factory of a target and has it check everything.
func (l *loader) sender(p loadPath, t loadTarget, unfit bool) notify.Factory {
	names := slices.Sorted(maps.Keys(l.senders))
	for _, key := range slices.Sorted(maps.Keys(t.Sections)) {
		_, known := l.senders[key]
		switch line := t.Sections[key].line; {
		case key == t.Sender, known && unfit:
		case known:
			l.at(p.with(key), line, "settings of another sender than this one, %s", t.Sender)
		default:
			own := append(slices.Clone(l.fieldsOf(reflect.TypeFor[loadTarget]()).names), names...)
			l.at(p.with(key), line, "unknown key%s", loadSuggest(key, own))
		}
	}
	if unfit {
		return nil
	}
	kind, ok := l.senders[t.Sender]
	if !ok {
		know := "the program knows none"
		if len(names) > 0 {
			know = "known are " + strings.Join(names, ", ")
		}
		l.fail(p.with("sender"), "unknown sender %.40q: %s; the program passes them to LoadConfigWith, such as those of alarm/notify/all", t.Sender, know)
		return nil
	}
	var factory notify.Factory
	at := p.with(t.Sender)
	keys, ok := l.settings(at, "sender", t.Sections[t.Sender], func(decode func(any) error) (made bool, err error) {
		factory, err = kind.Open(decode)
		return factory != nil, err
	})
	if !ok {
		return nil
	}
	before := l.count()
	_, err := factory(notify.Setup{ID: "target", Site: "site", Engine: "engine", Log: slog.New(slog.DiscardHandler), Clock: model.SystemClock})
	l.failSection(at, keys, err)
	if l.count() > before {
		return nil
	}
	return factory
}
