package scripts

import "github.com/voltageems/voltage/model"

// Every key and Pub/Sub channel of a site. The scripts build the same names in
// Lua from the same prefix.

// keys is the site's prefix: "{site}:", or nothing for the site without a name.
type keys string

func newKeys(site string) keys {
	if site == "" {
		return ""
	}
	return keys("{" + site + "}:")
}

func (k keys) key(parts ...string) string {
	n := len(k) + len(parts)
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n)
	b = append(b, k...)
	for i, p := range parts {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, p...)
	}
	return string(b)
}

// anchor routes a script call to the site's slot and tells it the prefix.
func (k keys) anchor() string { return k.key("anchor") }

func (k keys) generation() string     { return k.key("site", "generation") }
func (k keys) schema() string         { return k.key("site", "schema") }
func (k keys) mappingVersion() string { return k.key("mapping", "version") }
func (k keys) c2m() string            { return k.key("mapping", "c2m") }
func (k keys) enabled() string        { return k.key("model", "enabled") }

// disabled has the models that somebody disabled at run time.
func (k keys) disabled() string { return k.key("site", "disabled") }

func (k keys) channelValues(channel string, kind model.Kind) string {
	return k.key("comsrv", channel, kind.Letter())
}
func (k keys) channelPart(channel, part string) string { return k.key("comsrv", channel, part) }
func (k keys) modelValues(id string, kind model.Kind) string {
	return k.key("modsrv", id, kind.String())
}
func (k keys) modelPart(id, part string) string { return k.key("modsrv", id, part) }

func (k keys) cachedValues(id string) string { return k.key("cache", "model", id, "values") }
func (k keys) cached(name string) string     { return k.key("cache", name) }
func (k keys) cacheVersion() string          { return k.key("cache", "version") }

func (k keys) ruleStats(id string) string            { return k.key("rule", "stats", id) }
func (k keys) alarm(id string) string                { return k.key("alarm", id) }
func (k keys) alarmRules(model, point string) string { return k.key("alarm", "rules", model, point) }
func (k keys) alarmActive() string                   { return k.key("alarm", "active") }
func (k keys) alarmClosed() string                   { return k.key("alarm", "closed") }
func (k keys) alarmState() string                    { return k.key("alarm", "state") }
func (k keys) alarmShelved() string                  { return k.key("alarm", "shelved") }
func (k keys) timers() string                        { return k.key("timers") }
func (k keys) alarmJournal() string                  { return k.key("alarm", "journal") }
func (k keys) command(id string) string              { return k.key("command", id) }
func (k keys) commandJournal() string                { return k.key("command", "journal") }
func (k keys) commandQueue(channel string) string    { return k.key("cmd", channel, "queue") }
func (k keys) commandTargets() string                { return k.key("mapping", "m2c") }
func (k keys) model(id string) string                { return k.key("model", id) }
func (k keys) commandControl(channel string) string  { return k.key("cmd", channel, "control") }
func (k keys) auditJournal() string                  { return k.key("audit", "journal") }
func (k keys) historyQueue() string                  { return k.key("hissrv", "queue") }
func (k keys) cloudQueue() string                    { return k.key("cloud", "queue") }

func (k keys) scriptSHA(name string) string             { return k.key("lua", "sha", name) }
func (k keys) scriptVersion(name string) string         { return k.key("lua", "version", name) }
func (k keys) scriptSource(name, version string) string { return k.key("lua", "source", name, version) }
func (k keys) scriptLoaded(version string) string       { return k.key("lua", "loaded", version) }

func (k keys) scriptStats(name string) string { return k.key("lua", "stats", name) }

// flushed holds the number of the last transaction with which a Plane stored
// its statistics, for a day.
func (k keys) flushed(id string) string         { return k.key("lua", "flushed", id) }
func (k keys) scriptSince(name string) string   { return k.key("lua", "since", name) }
func (k keys) scriptHistory(name string) string { return k.key("lua", "history", name) }
func (k keys) scriptRefused(name string) string { return k.key("lua", "refused", name) }
func (k keys) scriptCanary(name string) string  { return k.key("lua", "canary", name) }
func (k keys) scriptJournal() string            { return k.key("lua", "journal") }
func (k keys) differences(script string) string { return k.key("lua", "differences", script) }
func (k keys) syncModes() string                { return k.key("sync", "modes") }

// scriptChanged carries the name of a script of which something changed, or
// "sync" when channels changed their way.
func (k keys) scriptChanged() string { return k.key("lua", "changed") }

func (k keys) update(model string) string { return k.key("modsrv", model, "update") }

// defined keeps what an engine of this name defined.
func (k keys) defined(engine string) string { return k.key("site", "defined", engine) }

// engine is held by the one engine of this name that runs.
func (k keys) engine(name string) string { return k.key("site", "engine", name) }
