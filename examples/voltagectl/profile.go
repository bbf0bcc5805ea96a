package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/voltageems/voltage/scripts"
)

// mostRuns bounds -n of profile.
const mostRuns = 100_000

func runProfile(ctx context.Context, c *call) error {
	name := c.names[0]
	switch {
	case c.runs < 1 || c.runs > mostRuns:
		return usageError("-n is 1 to %d", mostRuns)
	case c.real && c.redis == "":
		return usageError("-real runs on the site's store: -redis")
	case c.real && c.folder+c.file+c.version != "":
		return usageError("only the active version runs for real: leave -real away")
	case c.given("demo") && c.redis != "":
		return usageError("-demo is for a scratch store: leave -redis away")
	}
	if c.redis == "" {
		return c.withScratch(ctx, func(p *scripts.Plane) error {
			s, err := c.chosenOr(ctx, nil, name)
			if err != nil {
				return err
			}
			return c.dryProfile(ctx, p, s, "on a scratch store")
		})
	}
	return c.withPlane(ctx, func(p *scripts.Plane) error {
		if !c.real {
			s, err := c.chosenOr(ctx, p, name)
			if err != nil {
				return err
			}
			return c.dryProfile(ctx, p, s, "on copies of the site's keys, which stay as they are")
		}
		if _, err := mustBeActive(ctx, c, p, name); err != nil {
			return err
		}
		f, err := p.RealProfile(ctx, name, c.runs, c.rest...)
		if err != nil {
			return err
		}
		return c.printProfile(f, fmt.Sprintf("%s for real, which wrote; the growth of the server's INFO commandstats.\n"+
			"It is the server's: what other clients did at that time is in it.", counted(f.Runs, "run")))
	})
}

func (c *call) dryProfile(ctx context.Context, p *scripts.Plane, s scripts.Script, where string) error {
	f, err := p.DryProfile(ctx, s, c.runs, c.rest...)
	if err != nil {
		return err
	}
	return c.printProfile(f, fmt.Sprintf("%s in this process, %s, each on what the one before left.\n"+
		"The times compare the commands with each other; they are not those of Redis.", counted(f.Runs, "run"), where))
}

func (c *call) printProfile(f scripts.Profile, measured string) error {
	if c.json {
		return c.printJSON(f)
	}
	fmt.Fprintf(c.out, "%s %s: %s\nmeasured: %s\n", f.Script, f.Version, showArgs(f.Args, 10*argsWidth), measured)
	var answers []string
	for _, code := range sortedKeys(f.Answers) {
		answers = append(answers, fmt.Sprintf("%s %d", or(code, "nothing"), f.Answers[code]))
	}
	fmt.Fprintf(c.out, "answers:  %s\n\n", strings.Join(answers, ", "))
	sum := time.Duration(0)
	for _, k := range f.Commands {
		sum += k.Total
	}
	all, runs := max(f.Elapsed, sum), time.Duration(f.Runs)
	share := func(d time.Duration) string { return fmt.Sprintf("%.1f %%", 100*float64(d)/float64(max(all, 1))) }
	rows := []string{"COMMAND\tCALLS A RUN\tTIME A CALL\tTIME A RUN\tSHARE"}
	for _, k := range f.Commands {
		rows = append(rows, fmt.Sprintf("%s\t%.2f\t%s\t%s\t%s", k.Command, float64(k.Calls)/float64(f.Runs),
			span(k.Total/time.Duration(max(k.Calls, 1))), span(k.Total/runs), share(k.Total)))
	}
	if f.Elapsed > 0 { // the server's own sum
		rows = append(rows, "the Lua itself\t\t\t"+span((all-sum)/runs)+"\t"+share(all-sum))
	}
	c.table(append(rows, "together\t\t\t"+span(all/runs)+"\t"+share(all))...)
	return nil
}
