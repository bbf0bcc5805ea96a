// Command simulator runs the simulated storage site alone: a grid meter, a PV
// inverter, a battery converter (PCS) and a battery (BMS) as Modbus TCP devices,
// for trying out any Modbus client. Ctrl-C ends it.
//
//	go run ./examples/simulator
//	go run ./examples/simulator -listen 127.0.0.1:0 -seed 7
//
// The devices answer on loopback only, unless -listen says otherwise.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/voltageems/voltage/internal/simsite"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:15020", "address of the first device; the others take the ports that follow, or free ones for port 0")
	seed := flag.Uint64("seed", 1, "start of the noise; the same seed gives the same run")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "simulator: %q stands alone: want flags, such as -listen 127.0.0.1:0\n", flag.Arg(0))
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, simsite.Config{Listen: *listen, Seed: *seed}, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves the site until the context ends.
func run(ctx context.Context, cfg simsite.Config, out io.Writer) error {
	site := simsite.New(cfg)
	if err := site.Start(ctx); err != nil {
		return err
	}
	printDevices(out, site)
	<-ctx.Done()

	closing, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return site.Close(closing)
}

func printDevices(out io.Writer, site *simsite.Site) {
	units, points := map[string]byte{}, map[string]int{}
	for _, e := range simsite.Map() {
		units[e.Device] = e.UnitID
		points[e.Device]++
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tADDRESS\tUNIT\tPOINTS")
	for _, name := range simsite.Devices() {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", name, site.Addr(name), units[name], points[name])
	}
	_ = w.Flush() // the table is for people; the site runs without it
}
