package main

import (
	"context"
	"strings"
)

// command is one of "voltagectl GROUP …".
type command struct {
	group   string // of groups; empty for scripts
	name    string
	names   []string // of the arguments; in brackets what may be left out
	options string   // the flags in the usage line
	flags   string   // the flags besides -redis, -site and -json
	brief   string
	detail  string

	takesArgs bool // arguments of a script follow
	many      bool // the last of the names may come more than once
	store     bool // it needs -redis
	run       func(context.Context, *call) error
}

// group is a kind of commands.
type group struct {
	name     string
	about    string
	redis    bool // its commands have -redis and -site
	commands []command
}

// list names the commands.
func (g group) list() string {
	var names []string
	for _, k := range g.commands {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

func groups() []group {
	return []group{
		{"scripts", "The scripts that move a site's values in Redis. docs/scripts.md explains them.", true, commands()},
		{"alarm", "The alarms of a site. docs/alarms.md explains them.", true, append(alarmCommands(), alarmTestCommand())},
		{"modbus", "Modbus devices: what they hold, where, and what an engine would ask them for.\ndocs/modbus.md explains them.", false, modbusCommands()},
		{"profile", "Device profiles. docs/modbus.md shows how to write one.", false, profileCommands()},
	}
}

// commands are those for scripts.
func commands() []command {
	const from = "folder file version"
	return []command{
		{name: "list", run: runList, brief: "the scripts of this build; with -redis, those of the site",
			detail: "Lists the scripts of this build. With -redis also which version is active, since\nwhen, what is on trial, and how many calls failed."},
		{name: "show", names: []string{"NAME"}, flags: from, options: "[-folder DIR | -file F | -version V]", run: runShow,
			brief:  "what a script is for, how it is called, what it answers and which keys it touches",
			detail: "Prints the script's header as a page. With -redis that of the active version, and\nits history, trials and refused versions."},
		{name: "dump", names: []string{"NAME"}, flags: from, options: "[-folder DIR | -file F | -version V]", run: runDump,
			brief:  "the text as Redis runs it, for redis-cli --eval",
			detail: "Prints the composed text of this build's script. With -redis that of the active\nversion, or with -version of another one that the store has."},
		{name: "verify", names: []string{"[NAME]"}, flags: from, options: "[-folder DIR | -file F | -version V]", run: runVerify,
			brief:  "whether a script may become active",
			detail: "Composes the scripts, checks their headers and version numbers, and runs the\nself-test in this process, where an endless loop harms nobody: they have to answer\nand write what this build's do. With -redis they are also loaded and tested on the\nstore, in a scratch site that is removed again. Without NAME: every script."},
		{name: "activate", names: []string{"NAME"}, flags: from + " canary percent by reason", store: true, run: runActivate,
			options: "[-folder DIR | -file F | -version V] [-canary CH,CH | -percent N] [-by WHO] [-reason WHY]",
			brief:   "verifies a version and makes it the active one, or puts it on trial",
			detail:  "Verifies a script, this build's unless a flag says otherwise, and makes it the active\none for every engine of the site at once; no sample is lost. With -canary or -percent\nit is only put on trial for these channels (data_sync alone)."},
		{name: "rollback", names: []string{"NAME"}, flags: "by reason", options: "[-by WHO] [-reason WHY]", store: true, run: runRollback,
			brief:  "goes back to the version that was active before",
			detail: "Makes the version before the active one active again. The one that was active is\nrefused from then on: no engine activates it by itself when it starts."},
		{name: "canary-end", names: []string{"NAME"}, flags: "by reason", options: "[-by WHO] [-reason WHY]", store: true, run: runCanaryEnd,
			brief:  "ends a trial; its channels go back to the active version",
			detail: "Ends the trial of a version. To keep what was tried, activate it first."},
		{name: "stats", names: []string{"[NAME]"}, store: true, run: runStats,
			brief:  "calls, errors and times of the scripts on the site",
			detail: "Prints what the calls of all engines came to, as these stored it, which they do every\nfew seconds. Times are those of the whole round trip, measured by the engines. With\nNAME also by version, by code and as a histogram."},
		{name: "journal", flags: "limit", options: "[-n 20]", store: true, run: runJournal,
			brief:  "what became active, was tried and was rolled back, by whom and why",
			detail: "Prints the last entries of the site's script journal."},
		{name: "differences", flags: "limit", options: "[-n 20]", store: true, run: runDifferences,
			brief:  "what shadow mode found",
			detail: "Prints the last differences between data_sync and the Go evaluator that engines found\nfor channels in shadow mode."},
		{name: "sync", names: []string{"[MODE]"}, flags: "channels percent by reason", store: true, run: runSync,
			options: "[-channels CH,CH | -percent N] [-by WHO] [-reason WHY]",
			brief:   "how channels store their values: lua, direct or shadow",
			detail:  "Without MODE, prints the modes. With lua, direct or shadow it changes that of the\nchannels, at run time: of all, where no flag names some."},
		{name: "trace", names: []string{"NAME"}, flags: from + " dry-run demo", takesArgs: true, run: runTrace,
			options: "[-dry-run] [-folder DIR | -file F | -version V]",
			brief:   "one call, step by step: every redis.call with its place, reply and time",
			detail: "Runs a script with the arguments of one of its forms (see show) and prints every call\nthat it makes.\n\nWithout -redis it runs in this process, on a scratch store with demo definitions.\n" +
				"With -redis the active version runs for real, and what it writes is written. With\n-dry-run it runs in this process on copies of the keys that it touches: the store is\nonly read. Then it may also be another version, which is run as if it were active."},
		{name: "profile", names: []string{"NAME"}, flags: from + " runs real demo", takesArgs: true, run: runProfile,
			options: "[-n 200] [-real] [-folder DIR | -file F | -version V]",
			brief:   "calls and time per Redis command",
			detail:  "Runs a script many times in this process, on a scratch store (with -redis on copies of\nthe site's keys, which are only read), and prints what each Redis command cost.\nThese times compare the commands with each other; they are not those of Redis. For\nthose: -redis and -real, which runs the active version on the store, where it writes."},
	}
}
