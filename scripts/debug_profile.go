package scripts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voltageems/voltage/scripts/internal/luabox"
)

// Profile is what the Redis commands of a script cost.
type Profile struct {
	Script, Version string
	Args            []string
	// Runs is how often it ran.
	Runs int
	// Answers counts the codes that it answered.
	Answers map[string]int
	// Commands are the most expensive first.
	Commands []CommandCost
	// Elapsed is what the server spent on all runs: on the commands, and on the Lua
	// besides. 0 for runs in this process, where the Lua says nothing about Redis.
	Elapsed time.Duration
}

// CommandCost is what one Redis command cost, in all runs.
type CommandCost struct {
	// Command is its name in capitals.
	Command string
	Calls   int64
	Total   time.Duration
}

// DryProfile runs a script so often in this process, as DryRun does, each run on
// what the one before left. Its times compare the commands with each other. They
// are not those of Redis.
func (p *Plane) DryProfile(ctx context.Context, s Script, runs int, args ...string) (f Profile, err error) {
	clock, err := p.clock(ctx)
	if err != nil {
		return f, err
	}
	b, err := p.newBench(ctx, s, clock)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, b.store.Close(ctx)) }()
	f = Profile{Script: s.Name, Version: s.Version, Args: args, Runs: runs, Answers: map[string]int{}}
	sums := map[string]*CommandCost{}
	for range runs {
		t, calls, err := b.run(ctx, args)
		if err != nil {
			return f, err
		}
		if t.Err != nil {
			return f, t.Err
		}
		f.answered(t.Reply)
		for _, c := range luabox.Profile(calls) {
			sum := sums[c.Command]
			if sum == nil {
				sum = &CommandCost{Command: c.Command}
				sums[c.Command] = sum
			}
			sum.Calls += int64(c.Calls)
			sum.Total += c.Total
		}
	}
	for _, c := range sums {
		f.Commands = append(f.Commands, *c)
	}
	f.sort()
	return f, nil
}

// RealProfile runs the script that is active on the store so often, for real,
// and returns by how much the server's own statistics of commands grew
// meanwhile. They are the server's: what other clients do at that time is in
// them. It writes.
func (p *Plane) RealProfile(ctx context.Context, script string, runs int, args ...string) (f Profile, err error) {
	s, err := p.activeOnStore(ctx, script)
	if err != nil {
		return f, err
	}
	f = Profile{Script: s.Name, Version: s.Version, Args: args, Runs: runs, Answers: map[string]int{}}
	if err := p.load(ctx, &s); err != nil {
		return f, err
	}
	call := []any{"EVALSHA", s.SHA}
	if p.keys == "" {
		call = append(call, "0")
	} else {
		call = append(call, "1", p.anchor)
	}
	for _, a := range args {
		call = append(call, a)
	}
	before, err := p.commandStats(ctx)
	if err != nil {
		return f, err
	}
	for range runs {
		reply, err := p.client.Do(ctx, call...).Result()
		if err != nil && !isNil(err) {
			return f, scriptError(&s, err)
		}
		f.answered(replyTexts(reply))
	}
	after, err := p.commandStats(ctx)
	if err != nil {
		return f, err
	}
	for name, c := range after {
		c.Calls -= before[name].Calls
		c.Total -= before[name].Total
		switch {
		case name == "EVALSHA":
			f.Elapsed = c.Total
		case c.Calls > 0 && name != "INFO":
			f.Commands = append(f.Commands, c)
		}
	}
	f.sort()
	return f, nil
}

func (f *Profile) answered(reply []string) {
	code := ""
	if len(reply) > 0 {
		code = reply[0]
	}
	f.Answers[code]++
}

func (f *Profile) sort() {
	slices.SortFunc(f.Commands, func(a, b CommandCost) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Command, b.Command))
	})
}

var commandStat = regexp.MustCompile(`(?m)^cmdstat_([a-z0-9_|-]+):calls=(\d+),usec=(\d+)`)

// commandStats reads what the commands cost so far on the node that has the site.
func (p *Plane) commandStats(ctx context.Context) (map[string]CommandCost, error) {
	var node redis.Cmdable = p.client
	if cluster, ok := p.client.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, p.keys.anchor())
		if err != nil {
			return nil, storeError("finding the site's node", err)
		}
		node = master
	}
	text, err := node.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, storeError("reading the statistics of commands (INFO commandstats)", err)
	}
	all := map[string]CommandCost{}
	for _, m := range commandStat.FindAllStringSubmatch(text, -1) {
		calls, err1 := strconv.ParseInt(m[2], 10, 64)
		micros, err2 := strconv.ParseInt(m[3], 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		name := strings.ToUpper(m[1])
		all[name] = CommandCost{Command: name, Calls: calls, Total: time.Duration(micros) * time.Microsecond}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: it has no statistics of commands", ErrStore)
	}
	return all, nil
}
