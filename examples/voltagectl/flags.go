package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os/user"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/voltageems/voltage/scripts"
)

// call is one command line.
type call struct {
	command command
	names   []string // arguments that are no flags
	rest    []string // those behind --
	hasRest bool
	flags   *flag.FlagSet
	out     io.Writer
	errs    io.Writer

	redis, site           string
	json                  bool
	folder, file, version string
	canary, channels      string
	percent               int
	by, reason            string
	dryRun, demo, real    bool
	runs, limit           int

	device modbusFlags
	alarm  alarmFlags
}

// leading takes the flags before the command: -redis, -site and -json stand
// there, or behind it.
func (c *call) leading(args []string) (words []string, help bool, err error) {
	fs := c.newFlags("")
	c.global(fs, true)
	help, err = parse(fs, args)
	if text := fmt.Sprint(err); strings.Contains(text, flagUnknown) {
		err = fmt.Errorf("%w; only -redis, -site and -json stand before the command", err)
	}
	return fs.Args(), help, err
}

func (c *call) newFlags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

func (c *call) global(fs *flag.FlagSet, redis bool) {
	fs.BoolVar(&c.json, "json", c.json, "print JSON")
	if !redis {
		return
	}
	fs.StringVar(&c.redis, "redis", c.redis, "`URL` of the site's Redis, such as redis://127.0.0.1:6379 or unix:///run/redis.sock")
	fs.StringVar(&c.site, "site", c.site, "the site's `name`; without one, bare keys")
}

// flagUnknown is what package flag says of a flag that there is not.
const flagUnknown = "flag provided but not defined"

// flagForm is what it says of a value that is none.
var flagForm = regexp.MustCompile(`^(.* for flag -(\S+)): (parse error|value out of range)$`)

func parse(fs *flag.FlagSet, args []string) (help bool, err error) {
	err = fs.Parse(args)
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, flag.ErrHelp):
		return true, nil
	}
	if m := flagForm.FindStringSubmatch(err.Error()); m != nil {
		want := "a whole number"
		switch value, _ := fs.Lookup(m[2]).Value.(flag.Getter); value.Get().(type) {
		case time.Duration:
			want = "a time with its unit, such as 500ms or 2s"
		case float64:
			want = "a number"
		}
		return false, usageError("%s: want %s", m[1], want)
	}
	return false, usageError("%v", err)
}

// parse reads a command's flags and arguments, in any order.
func (c *call) parse(args []string) (help bool, err error) {
	c.flags = c.allFlags()
	for len(args) > 0 {
		if help, err := parse(c.flags, args); help || err != nil {
			return help, err
		}
		args = c.flags.Args()
		// A script's own arguments may stand without -- as long as none looks like a flag.
		if len(args) > 0 {
			c.names, args = append(c.names, args[0]), args[1:]
		}
	}
	most := len(c.command.names)
	if c.command.many {
		most = max(most, len(c.names))
	}
	if c.command.takesArgs && c.hasRest && len(c.names) > most {
		return false, usageError("%q stands before --: what is the script's stands behind it", c.names[most])
	}
	if c.command.takesArgs && len(c.names) > most {
		c.rest, c.names = c.names[most:], c.names[:most]
	} else if c.hasRest && !c.command.takesArgs {
		return false, usageError("nothing stands behind --")
	}
	if len(c.names) > most {
		return false, usageError("%q is too much", c.names[most])
	}
	for i := len(c.names); i < len(c.command.names); i++ {
		if name := c.command.names[i]; !strings.HasPrefix(name, "[") {
			return false, usageError("%s is missing", name)
		}
	}
	if c.command.store && c.redis == "" {
		return false, usageError("it needs the site's store: -redis redis://127.0.0.1:6379")
	}
	return false, nil
}

// allFlags are the flags of the command.
func (c *call) allFlags() *flag.FlagSet {
	fs := c.newFlags(c.command.name)
	c.global(fs, withStore(c.command.group))
	for _, name := range strings.Fields(c.command.flags) {
		switch name {
		case "folder":
			fs.StringVar(&c.folder, name, "", "take the script from a `folder` with NAME.lua and include/")
		case "file":
			fs.StringVar(&c.file, name, "", "take it from a composed `file`, as dump writes it")
		case "version":
			fs.StringVar(&c.version, name, "", "take a `version` that the store has, such as 1.1.0+12345678 or 1.1.0")
		case "canary":
			fs.StringVar(&c.canary, name, "", "only on trial, for these `channels`, separated by commas (data_sync)")
		case "channels":
			fs.StringVar(&c.channels, name, "", "for these `channels`, separated by commas")
		case "percent":
			fs.IntVar(&c.percent, name, 0, "for so many `percent` of the channels, 1 to 100")
		case "by":
			fs.StringVar(&c.by, name, whoami(), "`who` does it, for the journal")
		case "reason":
			fs.StringVar(&c.reason, name, "", "`why`, for the journal")
		case "dry-run":
			fs.BoolVar(&c.dryRun, name, false, "write nothing: run it in this process, on copies of the keys")
		case "demo":
			fs.BoolVar(&c.demo, name, true, "without -redis: with definitions to try it on")
		case "real":
			fs.BoolVar(&c.real, name, false, "run it on the store, which writes, and take the server's own statistics")
		case "runs":
			fs.IntVar(&c.runs, "n", 200, "how `often` to run it")
		case "limit":
			fs.IntVar(&c.limit, "n", 20, "how `many` to show, the last ones")
		default:
			if c.command.group == "alarm" {
				c.alarm.add(fs, name)
			} else {
				c.modbusFlag(fs, name)
			}
		}
	}
	return fs
}

// withStore reports whether the commands of a group have -redis and -site.
func withStore(name string) bool {
	return name == "" || slices.ContainsFunc(groups(), func(g group) bool { return g.name == name && g.redis })
}

// given reports whether a flag was on the command line.
func (c *call) given(name string) bool {
	found := false
	c.flags.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// exclusive refuses more than one of these flags.
func (c *call) exclusive(names ...string) error {
	given := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !c.given(n) })
	if len(given) > 1 {
		return usageError("-%s exclude each other", strings.Join(given, " and -"))
	}
	return nil
}

func (c *call) change() scripts.Change { return scripts.Change{By: c.by, Reason: c.reason} }

func whoami() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "voltagectl"
}

// list takes a comma-separated list apart.
func list(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func (k command) usage() string {
	b := or(k.group, "scripts") + " " + k.name
	if k.group == "modbus" && strings.Contains(k.flags, "tcp") {
		b += " DEVICE"
	}
	if len(k.names) > 0 {
		b += " " + strings.Join(k.names, " ")
	}
	if k.options != "" {
		b += " " + k.options
	}
	if k.takesArgs {
		b += " -- ARGS…"
	}
	return b
}

func (c *call) printHelp(list ...group) error {
	store := ""
	if slices.ContainsFunc(list, func(g group) bool { return g.redis }) {
		store = "[-redis URL] [-site NAME] "
	}
	fmt.Fprint(c.out, "usage: voltagectl "+store+"[-json] "+join(list)+" COMMAND …\n")
	star := false
	for _, g := range list {
		fmt.Fprintf(c.out, "\n%s: %s\n\n", g.name, g.about)
		for _, k := range g.commands {
			mark := " "
			if k.store {
				mark, star = "*", true
			}
			fmt.Fprintf(c.out, " %s %-12s %s\n", mark, k.name, k.brief)
		}
	}
	if star {
		fmt.Fprint(c.out, "\n * needs -redis; the others look at this build, or work in this process, without it\n")
	}
	fmt.Fprint(c.out, "\nvoltagectl "+join(list)+" help COMMAND says more. Exit codes: 0 done, 1 failed, 2 wrong use.\n")
	return nil
}

func join(list []group) string {
	var names []string
	for _, g := range list {
		names = append(names, g.name)
	}
	return strings.Join(names, "|")
}

func (c *call) printCommandHelp() error {
	flags := "[-redis URL] [-site NAME] "
	if !withStore(c.command.group) {
		flags = ""
	}
	fmt.Fprintf(c.out, "usage: voltagectl %s%s\n\n%s\n", flags, c.command.usage(), c.command.detail)
	fmt.Fprintln(c.out)
	fs := c.allFlags()
	fs.SetOutput(c.out)
	fs.PrintDefaults()
	return nil
}
