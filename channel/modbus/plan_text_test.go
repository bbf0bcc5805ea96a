package modbus

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/model"
)

var update = flag.Bool("update", false, "write the golden files of this package")

func TestPlanText(t *testing.T) {
	t.Parallel()
	classes := func(s channel.Setup) channel.Setup {
		s.Scan = time.Second
		s.Scans = map[string]time.Duration{"fast": 100 * time.Millisecond, "slow": time.Minute}
		return s
	}
	in := func(class string, p model.Point) model.Point {
		p.Scan = class
		return p
	}
	mixed := []model.Point{
		point("p", "holding:100:float32"), point("q", "holding:104:float32"), point("on", "coil:3"), point("alarm", "coil:10"),
		in("fast", point("u", "input:0")), in("slow", point("energy", "holding:200:int64")),
		in(channel.ScanOnce, model.Point{ID: "serial", Address: "holding:40:string4", Text: true}),
		in(channel.ScanDemand, point("log", "input:900:uint32")),
	}
	for n := range 20 {
		mixed = append(mixed, in("slow", point(fmt.Sprintf("cell%d", n), fmt.Sprintf("input:%d", 1000+n))))
	}
	var many []model.Point
	for n := range 300 {
		many = append(many, in("fast", point(fmt.Sprint(n), fmt.Sprintf("holding:%d", n))))
	}
	for name, c := range map[string]struct {
		factory channel.Factory
		points  []model.Point
	}{
		"tcp":       {TCP("192.168.1.10", Unit(7)), mixed},
		"serial":    {RTU("/dev/ttyUSB0", Baud(9600), Unit(3)), mixed},
		"overload":  {RTU("/dev/ttyUSB0", Baud(9600)), many},
		"delay":     {TCP("192.168.1.10", Delay(60*time.Millisecond)), many},
		"broadcast": {RTU("/dev/ttyUSB0", Unit(0)), []model.Point{control("a", "holding:1")}},
		"nothing":   {TCP("192.168.1.10"), nil},
	} {
		made, err := c.factory(classes(setup(c.points...)))
		require.NoError(t, err, name)
		got := made.(channel.Planner).Plan()
		file := filepath.Join("testdata", "plan_"+name+".txt")
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(want), got, "%s; go test -run TestPlanText -update writes it anew", name)
	}
}
