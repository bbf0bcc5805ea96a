// Command allinone is the whole of Voltage in one process: a simulated storage
// site, the engine, the API and a live page, with nothing installed and no
// arguments.
//
//	go run ./examples/allinone
//	go run ./examples/allinone -redis redis://127.0.0.1:6379
//	go run ./examples/allinone -data ./data          # keeps everything in ./data
//	go run ./examples/allinone -config site.yaml     # your own site instead of the simulated one
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/alarm"
	senders "github.com/voltageems/voltage/alarm/notify/all"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/internal/demo"
	"github.com/voltageems/voltage/internal/simsite"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

func main() {
	config := flag.String("config", "", "site file; without one, a simulated site is started and run")
	redisURL := flag.String("redis", "", "Redis URL; without one, the store of the site file, or without a file a redis-server from PATH, else the embedded store")
	listen := flag.String("listen", "", "address of the API and the page, loopback unless the site file has credentials; without one, that of the site file, else 127.0.0.1:8080")
	north := flag.String("modbus", "127.0.0.1:1502", "address of the Modbus server of the simulated site, loopback only; empty for none")
	data := flag.String("data", "", "folder in which a managed Redis keeps the data; without one nothing is kept")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "allinone: %q stands alone: want flags, such as -config site.yaml\n", flag.Arg(0))
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *config, *redisURL, *listen, *north, *data); err != nil {
		fmt.Fprintln(os.Stderr, "allinone:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, config, redisURL, listen, north, data string) error {
	if redisURL != "" && data != "" {
		return errors.New("-redis and -data exclude each other: the folder is that of a managed Redis")
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	scripts.RouteClientLog(log)
	var cfg voltage.Config
	if config != "" {
		var err error
		if cfg, err = voltage.LoadConfigWith(config, voltage.Kinds{Channels: all.Kinds(), Senders: senders.Kinds()}); err != nil {
			return err
		}
	} else {
		site := simsite.New(simsite.Config{Logger: log})
		if err := site.Start(ctx); err != nil {
			return err
		}
		defer func() {
			stop, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			site.Close(stop)
		}()
		cfg = voltage.Config{Channels: demo.Channels(site.Addr), Models: demo.Models(), Alarms: demo.Alarms(), Rules: demo.Rules()}
		if north != "" { // a port that is taken is reported, and served when it is free
			cfg.Servers = demo.Servers(north)
		}
	}
	cfg.Log = log
	cfg.HTTP.Listen = cmp.Or(listen, cfg.HTTP.Listen, "127.0.0.1:8080")
	if redisURL != "" || data != "" || config == "" {
		cfg.Store = store(redisURL, data)
	}
	eng, err := voltage.NewEngine(cfg)
	if err != nil {
		return err
	}
	eng.OnAlarm(func(_ context.Context, ev alarm.Event) {
		fmt.Printf("alarm %s %s: %s.%s = %g: %s\n", ev.Alarm, ev.Transition, ev.Model, ev.Point, ev.Value, ev.Message)
	})
	eng.OnCommand(func(_ context.Context, ev model.CommandEvent) {
		fmt.Printf("command %s:%s = %g %s %s\n", ev.Model, ev.Control, ev.Value, ev.State, ev.Detail)
	})
	if err := eng.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("\nVoltage runs. Page and API: http://%s\n", eng.Addr())
	if config == "" {
		fmt.Printf(hints, eng.Addr(), eng.Addr())
		if host, port, err := net.SplitHostPort(north); err == nil {
			fmt.Printf(modbusHint, port, host, port, host)
		}
		fmt.Print("Ctrl-C ends it.\n\n")
	}
	go summary(ctx, eng) // not waited for: it may be asking a store that hangs
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	return eng.Stop(end)
}

const hints = `Try:
  curl -d '{"value":50}' -H 'Content-Type: application/json' http://%s/models/pcs1/control/power_setpoint
  curl -d '{"value":1}' -H 'Content-Type: application/json' http://%s/models/bms1/control/inject_over_temperature
`

// modbusHint reads what the control room sees, and moves the converter as it does.
const modbusHint = `  mbpoll -m tcp -p %s -0 -1 -t 3:int -B -r 0 -c 3 %s
  mbpoll -m tcp -p %s -0 -r 0 %s 500
`

// store picks where the data lives: the given Redis, a managed one where a
// binary exists, else the embedded one.
func store(url, data string) scripts.StoreConfig {
	if url != "" {
		return scripts.StoreConfig{URL: url}
	}
	if data != "" { // whoever names a folder wants the data kept: no silent fallback
		return scripts.StoreConfig{Managed: &scripts.Managed{Folder: data}}
	}
	if _, ok := scripts.FindManagedBinary(); ok {
		return scripts.StoreConfig{Managed: &scripts.Managed{Persistence: scripts.PersistNone}}
	}
	return scripts.StoreConfig{Embedded: true}
}

// summary prints a line about the site now and then, until ctx ends.
func summary(ctx context.Context, eng *voltage.Engine) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now().Format(time.TimeOnly)
		v, err := eng.Values(ctx, "site")
		if ctx.Err() != nil {
			return
		}
		if err != nil { // a site file of the user's own has other models
			channels, _ := eng.Channels(ctx)
			online := 0
			for _, c := range channels {
				if c.State == model.ChannelOnline {
					online++
				}
			}
			fmt.Printf("%s  %d of %d channels online\n", now, online, len(channels))
			continue
		}
		alarms, _ := eng.Alarms(ctx)
		fmt.Printf("%s  grid %7.1f kW  PV %7.1f kW  battery %7.1f kW  charge %5.1f %%  %5.1f °C  alarms %d  %s\n", now,
			v["grid_power"].Value, v["pv_power"].Value, v["battery_power"].Value, v["state_of_charge"].Value,
			v["battery_temperature"].Value, len(alarms), v["battery_power"].Quality)
	}
}
