package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/voltageems/voltage"
	senders "github.com/voltageems/voltage/alarm/notify/all"
	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/model"
)

// planned is the plan of one channel.
type planned struct {
	Channel string `json:"channel"`
	Plan    string `json:"plan,omitempty"`
	Remark  string `json:"remark,omitempty"` // why there is none
}

func runModbusPlan(_ context.Context, c *call) error {
	channels, err := c.plannedChannels(c.names[0], all.Kinds())
	if err != nil {
		return err
	}
	return c.printPlans(channels)
}

// plannedChannels reads the channels of a site file or of a profile.
func (c *call) plannedChannels(file string, kinds []channel.Kind) ([]channel.Config, error) {
	d := &c.device
	if d.profile {
		if d.channel != "" {
			return nil, usageError("-profile and -channel exclude each other")
		}
		p, err := voltage.LoadProfile(file, kinds...)
		if err != nil {
			return nil, err
		}
		driver := d.driver
		if driver == "" && len(p.Drivers) > 0 {
			driver = p.Drivers[0]
		}
		if driver == "" {
			return nil, usageError("the profile names no driver: want -driver")
		}
		ch, err := p.Channel("profile", driver, nil)
		return []channel.Config{ch}, err
	}
	if d.driver != "" {
		return nil, usageError("-driver belongs to -profile")
	}
	cfg, err := voltage.LoadConfigWith(file, voltage.Kinds{Channels: kinds, Senders: senders.Kinds()})
	if err != nil {
		return nil, err
	}
	if d.channel == "" {
		return cfg.Channels, nil
	}
	i := slices.IndexFunc(cfg.Channels, func(ch channel.Config) bool { return ch.ID == d.channel })
	if i < 0 {
		return nil, fmt.Errorf("%s has no channel %s: its channels are %s", file, d.channel, strings.Join(ids(cfg.Channels), ", "))
	}
	return cfg.Channels[i : i+1], nil
}

func ids(channels []channel.Config) (list []string) {
	for _, ch := range channels {
		list = append(list, ch.ID)
	}
	return list
}

func (c *call) printPlans(channels []channel.Config) error {
	plans := []planned{}
	for _, ch := range channels {
		p := planned{Channel: ch.ID}
		d, err := ch.NewDriver(slog.New(slog.DiscardHandler), model.SystemClock)
		if err != nil {
			return err
		}
		if planner, ok := d.(channel.Planner); ok {
			p.Plan = planner.Plan()
		} else {
			p.Remark = "the driver has no plan"
			if d == nil {
				p.Remark = "no driver: its samples come from the program"
			}
		}
		plans = append(plans, p)
	}
	if c.json {
		return c.printJSON(plans)
	}
	for i, p := range plans {
		if i > 0 {
			fmt.Fprintln(c.out)
		}
		fmt.Fprintf(c.out, "channel %s\n", p.Channel)
		for line := range strings.Lines(cmp.Or(p.Plan, p.Remark)) {
			fmt.Fprintf(c.out, "  %s\n", strings.TrimRight(line, "\n"))
		}
	}
	return nil
}
