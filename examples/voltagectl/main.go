// Command voltagectl is the operator's tool. For the scripts in Redis: it shows
// them, verifies and activates versions, rolls them back, and traces, tries and
// profiles their calls (docs/scripts.md). For the alarms of a site: it lists and counts
// them, does what an operator does with them, and prints their journal
// (docs/alarms.md). For Modbus devices: it reads, writes,
// finds and watches, and shows what an engine would ask them for; and it checks
// device profiles (docs/modbus.md).
//
//	voltagectl scripts list                                    the scripts of this build
//	voltagectl scripts dump NAME                               a script as Redis runs it
//	voltagectl scripts trace data_sync -- c2m 1001 10001 25.5  what a call does, step by step
//	voltagectl -redis redis://127.0.0.1:6379 scripts stats     what the calls on a site cost
//	voltagectl -redis redis://127.0.0.1:6379 alarm list         what stands open on a site
//	voltagectl modbus read -tcp 192.168.1.10 holding:100:float32
//	voltagectl modbus scan -rtu /dev/ttyUSB0 -baud 9600         which units answer
//	voltagectl profile lint meter.yaml                          what is wrong with a profile
//
// Without -redis it works in this process and needs nothing. It never activates
// its own scripts unless it is told to.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/voltageems/voltage/scripts"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	scripts.RouteClientLog(slog.New(slog.DiscardHandler)) // what matters comes as an error
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errUsage is wrapped by what is wrong with the command line.
var errUsage = errors.New("wrong use")

func usageError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUsage}, args...)...)
}

// run carries out a command line and returns the exit code.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	printed := &sink{to: out}
	c := &call{out: printed, errs: errs}
	err := c.dispatch(ctx, args)
	if err == nil {
		err = printed.err
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage):
		fmt.Fprintf(errs, "voltagectl: %v\n", err)
		if c.command.name == "" {
			fmt.Fprintf(errs, "voltagectl help shows the commands\n")
		} else {
			fmt.Fprintf(errs, "usage: voltagectl %s\n", c.command.usage())
		}
		return exitUsage
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(errs, "voltagectl: %s\n", strings.TrimRight(line, "\n"))
	}
	return exitFailed
}

// sink is the output of a command, which remembers that it could not be
// written, such as to a full disk.
type sink struct {
	to  io.Writer
	err error // the first
}

func (s *sink) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.to.Write(b)
	s.err = err
	return n, err
}

// dispatch finds the command and runs it.
func (c *call) dispatch(ctx context.Context, args []string) error {
	// what stands behind -- is the script's, whatever it looks like
	if i := slices.Index(args, "--"); i >= 0 {
		args, c.rest = args[:i], args[i+1:]
		c.hasRest = true
	}
	words, help, err := c.leading(args)
	if err != nil {
		return err
	}
	if len(words) > 0 && words[0] == "help" {
		help, words = true, words[1:]
	}
	if len(words) == 0 {
		if help || len(args) == 0 {
			return c.printHelp(groups()...)
		}
		return usageError("which command?")
	}
	all := groups()
	g := slices.IndexFunc(all, func(g group) bool { return g.name == words[0] })
	if g < 0 {
		return usageError("%q: the commands begin with \"scripts\", \"alarm\", \"modbus\" or \"profile\"", words[0])
	}
	group := all[g]
	if len(words) > 1 && slices.Contains([]string{"help", "-h", "-help", "--help"}, words[1]) {
		help, words = true, slices.Delete(words, 1, 2)
	}
	if len(words) < 2 {
		if help {
			return c.printHelp(group)
		}
		return usageError("%s: which command? %s", group.name, group.list())
	}
	if strings.HasPrefix(words[1], "-") {
		return usageError("%s %s: flags stand behind the command, such as voltagectl %s %s %s", group.name, words[1], group.name, group.commands[0].name, words[1])
	}
	i := slices.IndexFunc(group.commands, func(k command) bool { return k.name == words[1] })
	if i < 0 {
		return usageError("%s %s: there is no such command: want %s", group.name, words[1], group.list())
	}
	c.command = group.commands[i]
	c.command.group = group.name
	if !group.redis && (c.redis != "" || c.site != "") {
		return usageError("%s commands need no store: -redis and -site belong to scripts and alarm", group.name)
	}
	if help {
		return c.printCommandHelp()
	}
	if help, err := c.parse(words[2:]); err != nil {
		return err
	} else if help {
		return c.printCommandHelp()
	}
	return c.command.run(ctx, c)
}
