package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus/server"
	"github.com/voltageems/voltage/channel/virtual"
	"github.com/voltageems/voltage/internal/testcert"
)

// patient is a time-out that no slow machine reaches.
const patient = "20s"

// memory is a device with registers 0 to 9 and 100, 101 and the text of 20, 21.
func memory() *server.Memory {
	m := &server.Memory{}
	m.SetRegisters(server.HoldingRegister, 0, 0, 1, 2, 0xFFFB, 4, 5, 6, 7, 8, 9)
	m.SetRegisters(server.HoldingRegister, 20, 0x4F4B, 0)
	m.SetRegisters(server.HoldingRegister, 100, 0x4148, 0)
	m.SetRegisters(server.InputRegister, 0, 77)
	m.SetBits(server.Coil, 3, true)
	return m
}

// startDevice serves devices and returns the address.
func startDevice(t *testing.T, cfg server.Config) string {
	t.Helper()
	s, err := server.New(cfg)
	require.NoError(t, err)
	addr, err := s.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return addr.String()
}

func units(m map[byte]server.Handler) server.Config { return server.Config{Units: m} }

func TestModbusRead(t *testing.T) {
	t.Parallel()
	m := memory()
	for flag, rtu := range map[string]bool{"-tcp": false, "-rtu-tcp": true} {
		addr := startDevice(t, server.Config{Units: map[byte]server.Handler{1: m, 5: m}, RTU: rtu})
		code, out, errs := ctl(t, "modbus", "read", flag, addr, "-timeout", patient, "holding:100:float32", "40004:int16", "coil:3", "holding:20:string2",
			"input:0", "holding:9-11", "holding:3:int16 na=-5")
		require.Equal(t, exitFailed, code)
		require.Equal(t, "voltagectl: 3 of 9 could not be read\n", errs)
		require.Equal(t, `
ADDRESS                VALUE  REGISTERS  REMARK
holding:100:float32    12.5   4148 0000  
40004:int16            -5     FFFB       
coil:3                 1      -          
holding:20:string2     "OK"   4F4B 0000  
input:0                77     004D       
holding:9              9      0009       
holding:10             -      -          exception 2 (illegal data address)
holding:11             -      -          exception 2 (illegal data address)
holding:3:int16 na=-5  -      FFFB       invalid: not a value of this type, or not one to believe
`, "\n"+out)

		out = ok(t, "modbus", "read", flag, addr, "-timeout", patient, "-unit", "5", "-json", "-base", "1", "-scale", "0.1", "holding:4:int16")
		require.JSONEq(t, `[{"address": "holding:4:int16", "value": -0.5, "raw": ["FFFB"]}]`, out)
	}
}

func TestModbusErrors(t *testing.T) {
	t.Parallel()
	refused := startDevice(t, server.Config{Units: map[byte]server.Handler{1: memory()}, Intercept: func(server.Request) server.Action {
		return server.Action{Exception: server.DeviceFailure}
	}})
	silent := startDevice(t, server.Config{Units: map[byte]server.Handler{1: memory()}, Intercept: func(server.Request) server.Action {
		return server.Action{Ignore: true}
	}})
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"read -tcp " + refused + " -timeout " + patient + " holding:0", exitFailed, "1 of 1 could not be read"},
		{"read -tcp " + silent + " -timeout 50ms -unit 1 holding:0", exitFailed, "unit 1 does not answer within 50ms"},
		{"read -tcp " + silent + " -timeout 50ms -unit 3 holding:0", exitFailed, "unit 3 does not answer"},
		{"read -tcp 127.0.0.1:1 holding:0", exitFailed, "connection refused"},
		{"read -tcp 127.0.0.1:x holding:0", exitUsage, "the port is not a number from 1 to 65535"},
		{"read holding:0", exitUsage, "which device?"},
		{"read -tcp a", exitUsage, "ADDRESS… is missing"},
		{"read -tcp a -rtu /dev/null holding:0", exitUsage, "-tcp and -rtu exclude each other"},
		{"read -tcp a -baud 9600 holding:0", exitUsage, "-baud belongs to -rtu"},
		{"read -rtu a holding:0", exitUsage, "want a path such as /dev/ttyUSB0"},
		{"read -tcp a -unit 300 holding:0", exitUsage, "unit 300: want 0 to 255"},
		{"read -tcp a -scale 0 holding:0", exitUsage, "-scale 0: want a number that is not 0"},
		{"read -tcp a -base 2 holding:0", exitUsage, "-base 2: want 0 or 1"},
		{"read -tcp a -base 1 holding:0", exitUsage, "want 1 to 65536"},
		{"read -tcp a -base 1 40001", exitUsage, "a reference number counts from 1 in any case"},
		{"read -tcp a holding", exitUsage, "want space:number[:type[:order]]"},
		{"read -tcp a 4001", exitUsage, "a reference number has five or six digits"},
		{"read -tcp a 40001-30002", exitUsage, "a reference number has five or six digits"},
		{"read -tcp a holding:9-3", exitUsage, "the range runs backwards"},
		{"read -tcp a holding:0-9999", exitUsage, "more than 2000 addresses"},
		{"read -tcp a holding:0:flat32", exitUsage, `type "flat32": want bool`},
		{"read -tcp a holding:99999999999", exitUsage, "too large"},
		{"write -tcp a holding:0", exitUsage, "want ADDRESS=VALUE"},
		{"write -tcp a holding:0=x", exitUsage, "want a number, on or off"},
		{"write -tcp a holding:0-3=1", exitUsage, "a range is not written"},
		{"write -tcp a input:0=1", exitUsage, "the space input is read-only"},
		{"write -tcp a discrete:0=1", exitUsage, "the space discrete is read-only"},
		{"read -tcp a -timeout 5 holding:0", exitUsage, `invalid value "5" for flag -timeout: want a time with its unit, such as 500ms or 2s`},
		{"read -tcp a -unit x holding:0", exitUsage, `invalid value "x" for flag -unit: want a whole number`},
		{"read -tcp a -scale x holding:0", exitUsage, `invalid value "x" for flag -scale: want a number`},
		{"write -tcp a holding:0:bit3=1", exitUsage, "say how with -part-writes mask or rewrite"},
		{"write -tcp a -part-writes x holding:0:bit3=1", exitUsage, "mask or rewrite"},
		{"write -tcp a holding:0:string2=1", exitUsage, "text is not written"},
		{"scan -tcp a -units 9-1", exitUsage, "want units from 0 to 255"},
		{"scan -rtu /dev/null -units 0", exitUsage, "want units from 1 to 247"},
		{"scan -tcp a -units 1 -addresses holding:0", exitUsage, "exclude each other"},
		{"scan -tcp a -unit 1", exitUsage, "-unit belongs to -addresses"},
		{"scan -tcp a -addresses holding:0-9:float32", exitUsage, "want registers or bits"},
		{"scan -tcp a -probe holding:0-9", exitUsage, "want one address"},
		{"watch -tcp a -every 0s holding:0", exitUsage, "want at least 1ms"},
		{"read -timeout 0s -tcp a holding:0", exitUsage, "want 1ms to 1h"},
		{"plan missing.yaml", exitFailed, "no such file"},
		{"plan ../allinone/site.yaml -channel 7", exitFailed, "has no channel 7: its channels are 1001, 1002"},
		{"plan -profile ../profiles/simulated-bms.yaml -driver can", exitFailed, "want one of modbus-tcp"},
		{"plan ../allinone/site.yaml -driver virtual", exitUsage, "-driver belongs to -profile"},
		{"nothing", exitUsage, "there is no such command: want read, write, scan, watch, plan"},
		{"-json read", exitUsage, "flags stand behind the command, such as voltagectl modbus read -json"},
		{"", exitUsage, "which command? read, write, scan, watch, plan"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			code, out, errs := ctl(t, append([]string{"modbus"}, strings.Fields(c.args)...)...)
			require.Equal(t, c.code, code, errs)
			require.Contains(t, errs, c.want, out)
		})
	}
	_, out, _ := ctl(t, "modbus", "read", "-tcp", refused, "-timeout", patient, "holding:0")
	require.Contains(t, out, "exception 4 (server device failure)")
	code, _, errs := ctl(t, "-redis", "redis://127.0.0.1:1", "modbus", "read", "-tcp", "a", "holding:0")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "need no store")
	code, _, errs = ctl(t, "-tcp", "a", "modbus", "read", "holding:0")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "only -redis, -site and -json stand before the command")
}

// full is an output that takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// Output that is lost is a failure, whatever the command.
func TestOutputIsLost(t *testing.T) {
	t.Parallel()
	addr := startDevice(t, units(map[byte]server.Handler{1: memory()}))
	for _, args := range [][]string{
		{"modbus", "read", "-tcp", addr, "-timeout", patient, "holding:0"}, {"modbus", "read", "-json", "-tcp", addr, "-timeout", patient, "holding:0"},
		{"modbus", "plan", "../allinone/site.yaml"}, {"scripts", "list"}, {"help"},
	} {
		var errs bytes.Buffer
		require.Equal(t, exitFailed, run(t.Context(), args, full{}, &errs), args)
		require.Equal(t, "voltagectl: no space left\n", errs.String())
	}
}

// What came in place of an answer tells of a wrong speed or a second master.
func TestModbusNoise(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				for b := make([]byte, 100); ; {
					if _, err := c.Read(b); err != nil {
						return
					}
					_, _ = c.Write(make([]byte, 9)) // an error is the end of the client
				}
			}()
		}
	}()
	code, _, errs := ctl(t, "modbus", "read", "-rtu-tcp", l.Addr().String(), "-timeout", "1s", "holding:0")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "unit 1 does not answer within 1s")
	require.Contains(t, errs, "garbage")
	code, _, errs = ctl(t, "modbus", "scan", "-rtu-tcp", l.Addr().String(), "-timeout", "1s", "-units", "4")
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `unit 4 does not answer within 1s.*garbage`, errs)
	require.Contains(t, errs, "no unit answers")
}

func TestModbusWrite(t *testing.T) {
	t.Parallel()
	m := memory()
	addr := startDevice(t, units(map[byte]server.Handler{1: m}))
	out := ok(t, "modbus", "write", "-tcp", addr, "-timeout", patient, "-scale", "0.1", "holding:3:int16=-12.5", "holding:100:float32=0.5", "coil:3=off")
	require.Equal(t, `
ADDRESS              OLD      NEW    READ BACK  RESULT
holding:3:int16      -0.5  →  -12.5  -12.5      confirmed
holding:100:float32  1.25  →  0.5    0.5        confirmed
coil:3               1     →  0      0          confirmed
`, "\n"+out)
	v, _ := m.Register(server.HoldingRegister, 3)
	require.EqualValues(t, -125, int16(v))
	on, _ := m.Bit(server.Coil, 3)
	require.False(t, on)

	out = ok(t, "modbus", "write", "-tcp", addr, "-timeout", patient, "-no-read-back", "-json", "40001=0x10")
	require.JSONEq(t, `[{"address": "40001", "old": 0, "value": 16, "result": "done"}]`, out)

	out = ok(t, "modbus", "write", "-tcp", addr, "-timeout", patient, "-part-writes", "mask", "holding:9:bit1=on")
	require.Contains(t, out, "confirmed")
	v, _ = m.Register(server.HoldingRegister, 9)
	require.EqualValues(t, 11, v)

	code, out, errs := ctl(t, "modbus", "write", "-tcp", addr, "-timeout", patient, "holding:0=1", "holding:50=2", "holding:1=3", "holding:2=4")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "confirmed")
	require.Equal(t, "voltagectl: holding:50: refused: exception 2 (illegal data address) to function 6; 2 after it not tried\n", errs)
	v, _ = m.Register(server.HoldingRegister, 1)
	require.EqualValues(t, 1, v, "what comes after the failure is left alone")
}

// A broadcast is written without reading, and nobody acknowledges it.
func TestModbusBroadcast(t *testing.T) {
	t.Parallel()
	m := memory()
	addr := startDevice(t, server.Config{Units: map[byte]server.Handler{1: m}, RTU: true})
	out := ok(t, "modbus", "write", "-rtu-tcp", addr, "-timeout", patient, "-unit", "0", "holding:0=7")
	require.Contains(t, out, "sent")
	require.Eventually(t, func() bool { v, _ := m.Register(server.HoldingRegister, 0); return v == 7 }, 30*time.Second, 5*time.Millisecond)
}

func TestModbusScan(t *testing.T) {
	t.Parallel()
	m := memory()
	s, err := server.New(units(map[byte]server.Handler{3: m, 7: &server.Memory{}}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	addr, err := s.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)

	code, out, errs := ctl(t, "modbus", "scan", "-tcp", addr.String(), "-timeout", patient, "-units", "1-9,20", "-json")
	require.Zero(t, code, errs)
	require.JSONEq(t, `[{"unit": 3, "answer": "holding:0 = 0"}, {"unit": 7, "answer": "exception 2 (illegal data address)"}]`, out)
	require.Contains(t, errs, "asking 10 units for holding:0")
	require.Contains(t, errs, "unit 3 answers")
	require.EqualValues(t, 1, s.Stats().Accepted, "one connection for all units")

	code, out, errs = ctl(t, "modbus", "scan", "-tcp", addr.String(), "-timeout", patient, "-units", "1-2")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "no unit answers")
	require.Equal(t, "UNIT  ANSWER\n", out)

	out = ok(t, "modbus", "scan", "-tcp", addr.String(), "-timeout", patient, "-unit", "3", "-addresses", "40001-40200")
	require.Equal(t, `
FROM   TO     COUNT  ANSWER
40001  40010  10     exists
40011  40020  10     exception 2 (illegal data address)
40021  40022  2      exists
40023  40100  78     exception 2 (illegal data address)
40101  40102  2      exists
40103  40200  98     exception 2 (illegal data address)
`, "\n"+out)
	out = ok(t, "modbus", "scan", "-tcp", addr.String(), "-timeout", patient, "-unit", "3", "-addresses", "coil:2-4", "-json")
	var areas []area
	require.NoError(t, json.Unmarshal([]byte(out), &areas))
	require.Equal(t, area{"coil:3", "coil:3", 1, "exists"}, areas[1])
}

var clockForm = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3}  |  \([^)]*s\)$`)

// screen is what a command prints, for tests that look while it runs.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestModbusWatch(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	m := memory()
	var out screen
	addr := startDevice(t, server.Config{Units: map[byte]server.Handler{1: m}, Intercept: func(r server.Request) server.Action {
		switch shown := out.String(); {
		case strings.Contains(shown, "42 → 43"):
			cancel()
		case strings.Contains(shown, "does not answer"):
			m.SetRegisters(server.HoldingRegister, 0, 43)
		case strings.Contains(shown, "0 → 42"):
			return server.Action{Exception: server.GatewayTargetFailed}
		case strings.Contains(shown, "holding:1  1"):
			m.SetRegisters(server.HoldingRegister, 0, 42)
		}
		return server.Action{}
	}})
	var errs bytes.Buffer
	require.Zero(t, run(ctx, []string{"modbus", "watch", "-tcp", addr, "-timeout", patient, "-every", "1ms", "holding:0", "holding:1"}, &out, &errs), errs.String())
	require.Equal(t, `
holding:0  0
holding:1  1
holding:0  0 → 42
unit 1 does not answer: exception 11 (gateway target device failed to respond) to function 3
holding:0  42 → 43
`, "\n"+clockForm.ReplaceAllString(out.String(), ""))
	text := ok(t, "modbus", "watch", "-tcp", addr, "-timeout", patient, "-every", "1ms", "-n", "1", "-json", "holding:1")
	var ch struct {
		Address string
		Value   float64
		Latency int64 `json:"latency_ns"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &ch))
	require.Equal(t, "holding:1", ch.Address)
	require.Positive(t, ch.Latency)
}

// Ctrl-C is the way to end it, not a failure.
func TestModbusWatchEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	addr := startDevice(t, server.Config{Units: map[byte]server.Handler{1: memory()}, Intercept: func(server.Request) server.Action {
		cancel()
		return server.Action{}
	}})
	var out, errs bytes.Buffer
	require.Zero(t, run(ctx, []string{"modbus", "watch", "-tcp", addr, "-timeout", patient, "holding:0"}, &out, &errs), errs.String())
}

// planning is a driver that has a plan.
type planning struct{ channel.Driver }

func (planning) Plan() string { return "read holding 0-9\nread input 3" }

func TestModbusPlan(t *testing.T) {
	t.Parallel()
	kind := channel.Kind{Name: "planning", Profile: func(func(any) error) (channel.Factory, error) {
		return func(s channel.Setup) (channel.Driver, error) {
			d, err := virtual.New()(s)
			return planning{d}, err
		}, nil
	}}
	kind.Open = kind.Profile
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	site := write("site.yaml", "channels: [{id: a, driver: planning}, {id: b, driver: virtual}, {id: c}]\n")
	profile := write("p.yaml", "profile: 1\ndrivers: {planning: }\npoints: [{id: 1, address: toggle}]\n")
	show := func(file string, flags modbusFlags) string {
		var out bytes.Buffer
		c := &call{out: &out, device: flags}
		channels, err := c.plannedChannels(file, []channel.Kind{kind, virtual.Kind()})
		require.NoError(t, err)
		require.NoError(t, c.printPlans(channels))
		return out.String()
	}
	require.Equal(t, "channel a\n  read holding 0-9\n  read input 3\n\nchannel b\n  the driver has no plan\n\nchannel c\n  no driver: its samples come from the program\n",
		show(site, modbusFlags{}))
	require.Equal(t, "channel b\n  the driver has no plan\n", show(site, modbusFlags{channel: "b"}))
	require.Equal(t, "channel profile\n  read holding 0-9\n  read input 3\n", show(profile, modbusFlags{profile: true}))
	require.Contains(t, ok(t, "modbus", "plan", "../allinone/site.yaml", "-channel", "1005"), "channel 1005\n")
	require.Contains(t, ok(t, "modbus", "plan", "-json", "-profile", "../profiles/eastron-sdm630.yaml", "-driver", "modbus-rtu"), `"channel": "profile"`)
}

func TestProfileLint(t *testing.T) {
	t.Parallel()
	require.Empty(t, ok(t, "profile", "lint", "-strict", "../profiles/simulated-bms.yaml", "../profiles/eastron-sdm120.yaml"))
	path := filepath.Join(t.TempDir(), "p.yaml")
	require.NoError(t, os.WriteFile(path, []byte("profile: 1\nname: a\nmanufacturer: b\nmodel: c\nsource: {url: d}\ndrivers: {virtual: }\npoints: [{id: 1, address: toggle, unit: kw}]\n"), 0o600))
	require.Equal(t, path+":7: warning: points[0].unit: \"kw\" is not one of the usual ones; did you mean kW?\n", ok(t, "profile", "lint", path))
	code, _, errs := ctl(t, "profile", "lint", "-strict", path)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "voltagectl: 0 errors, 1 warning\n", errs)
	require.NoError(t, os.WriteFile(path, []byte("profile: 3\n"), 0o600))
	code, out, _ := ctl(t, "-json", "profile", "lint", path)
	require.Equal(t, exitFailed, code)
	var list []finding
	require.NoError(t, json.Unmarshal([]byte(out), &list))
	require.Equal(t, finding{path, 1, "error", "profile: 3: this program reads version 1"}, list[0])
}

func TestModbusTLS(t *testing.T) {
	t.Parallel()
	ca := testcert.NewCA(t)
	own, client := ca.Issue(t, testcert.Spec{Hosts: []string{"gateway"}}), ca.Issue(t, testcert.Spec{})
	addr := startDevice(t, server.Config{Units: map[byte]server.Handler{1: memory()}, TLS: &tls.Config{
		Certificates: []tls.Certificate{own.Certificate}, ClientCAs: ca.Pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}})
	out := ok(t, "modbus", "read", "-tls", addr, "-timeout", patient, "-ca", ca.File, "-cert", client.CertFile, "-key", client.KeyFile,
		"-server-name", "gateway", "holding:100:float32")
	require.Contains(t, out, "12.5")
	code, _, errs := ctl(t, "modbus", "read", "-tls", addr, "-timeout", patient, "-ca", ca.File, "holding:0")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "certificate")
	code, _, errs = ctl(t, "modbus", "read", "-tcp", addr, "-ca", ca.File, "holding:0")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "-ca belongs to -tls")
}

// What the help says is what users learn from.
func TestModbusHelp(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, g := range groups() {
		if g.redis {
			continue // says who is logged in
		}
		b.WriteString(ok(t, g.name, "help"))
		for _, k := range g.commands {
			out := ok(t, g.name, k.name, "-h")
			require.Equal(t, out, ok(t, "help", g.name, k.name))
			b.WriteString("\n$ voltagectl " + g.name + " " + k.name + " -h\n" + out)
		}
	}
	golden := filepath.Join("testdata", "modbus-help.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

func FuzzPlaces(f *testing.F) {
	for _, s := range []string{"holding:0-9:float32", "40001-40010", "coil:0x10", "input:7:string4:BA na=1", "000001"} {
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, text string, base int) {
		list, err := parsePlaces(text, base)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(list), maxAddresses)
		for _, p := range list {
			require.True(t, p.start >= 0 && p.start <= 65535, p)
		}
	})
}
