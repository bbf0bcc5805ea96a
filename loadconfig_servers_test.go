package voltage

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

const loadServerSite = `servers:
  - id: scada
    name: Control room
    server: modbus-tls
    modbus-tls:
      listen: ${LISTEN}
      allow: [192.168.1.0/24]
      cert_file: server.pem
      key_file: /etc/server.key
      client_ca_file: ca.pem
      write_roles: [operator]
      map: maps/scada.csv
      bad: last
      gaps: zero
      read_only: true
      refresh: 2s
      stale: 30s
      write_timeout: 3s
      max_connections: 4
  - id: panel
    server: modbus-rtu
    disabled: true
    modbus-rtu:
      device: /dev/ttyS1
      baud: 9600
      parity: none
      stop_bits: 2
      map:
        - {unit: 3, address: 40101, model: pcs1, point: power, scale: 0.1, offset: 2}
        - {address: "holding:0:int32:CDAB na=-1", model: pcs1, point: setpoint, write: true}
        - {address: input:0, channel: 1001, point: 3, field: quality}
`

const loadServerMap = `# what the control room sees
Address;model;point;field;write;unit;channel
input:0:float32 range=-5..5;pcs1;power;;;;

holding:1:bits0-3;;3;quality;0;2;1001
holding:2;pcs1;setpoint;;TRUE;;
`

func TestLoadConfigServers(t *testing.T) {
	t.Parallel()
	cfg, err := loadTest(map[string]string{"site.yaml": loadServerSite, "maps/scada.csv": loadServerMap}, map[string]string{"LISTEN": "0.0.0.0:802"}, all.Kinds()...)
	require.NoError(t, err)
	require.Len(t, cfg.Servers, 2)
	assert.Equal(t, "scada", cfg.Servers[0].ID)
	assert.Equal(t, "Control room", cfg.Servers[0].Name)
	assert.False(t, cfg.Servers[0].Disabled)
	assert.True(t, cfg.Servers[1].Disabled)
	for _, s := range cfg.Servers {
		_, err := s.NewServer(slog.New(slog.DiscardHandler), model.SystemClock, nil)
		require.NoError(t, err)
	}
}

func TestLoadConfigServerFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		site, table string
		want        []string
	}{
		"required": {site: "servers:\n  - {name: x}\n", want: []string{"site.yaml:2: servers[0].id: missing", "site.yaml:2: servers[0].server: missing"}},
		"unknown": {site: "servers:\n  - {id: a, server: modbus-tpc, modbus: {}}\n", want: []string{
			`site.yaml:2: servers[0].modbus: unknown key: want one of id, name, server, disabled, modbus-rtu, modbus-rtu-tcp, modbus-tcp, modbus-tls`,
			`site.yaml:2: servers[0].server: unknown server "modbus-tpc": known are modbus-rtu, modbus-rtu-tcp, modbus-tcp, modbus-tls; the program passes them to LoadConfig, such as those of channel/all`}},
		"another's": {site: "servers:\n  - {id: a, server: modbus-rtu, modbus-rtu: {device: /dev/x, map: [{address: 'coil:1', model: m, point: p}]}, modbus-tcp: {}}\n",
			want: []string{"site.yaml:2: servers[0].modbus-tcp: settings of another server than this one, modbus-rtu"}},
		"twice": {site: "servers:\n  - &a {id: a, server: modbus-rtu, modbus-rtu: {device: /dev/x, map: [{address: 'coil:1', model: m, point: p}]}}\n  - *a\n",
			want: []string{"site.yaml:2: servers[1].id: server a is there twice, first on line 2"}},
		"settings": {site: `servers:
  - id: a b
    server: modbus-tcp
    modbus-tcp:
      listen: 0.0.0.0:502
      gaps: none
      bda: na
`, want: []string{`site.yaml:2: servers[0].id: "a b": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			"site.yaml:6: servers[0].modbus-tcp.gaps: want zero or exception", "site.yaml:7: servers[0].modbus-tcp.bda: unknown key; did you mean bad?"}},
		"checks": {site: `servers:
  - id: a
    server: modbus-tcp
    modbus-tcp:
      listen: 0.0.0.0:502
      stale: 1ms
      map:
        - {address: "holding:1:int32", model: m, point: p}
        - {address: "holding:2", model: m, point: p, field: quality}
        - address: input:1
          channel: c
          point: p
          write: true
`, want: []string{
			`site.yaml:5: servers[0].modbus-tcp.listen: "0.0.0.0:502": Modbus has no login, so whoever reaches the port is served: want the clients' networks in allow, TLS, or a loopback address`,
			"site.yaml:6: servers[0].modbus-tcp.stale: 1ms: want 1s to 1h",
			`site.yaml:9: servers[0].modbus-tcp.map[1].address: "holding:2": unit 1 has row 1 there, "holding:1:int32"`,
			"site.yaml:13: servers[0].modbus-tcp.map[2].write: input registers are only read; want coil or holding"}},
		"table": {site: "servers:\n  - {id: a, server: modbus-tcp, modbus-tcp: {listen: '127.0.0.1:0', map: map.csv}}\n",
			table: "address,model,point,scael,write\nholding:1,m,p,,maybe\n", want: []string{
				`map.csv:1: unknown column "scael"; did you mean scale?`, `map.csv:2: write: "maybe" is neither true nor false`}},
		"rows of a table": {site: "servers:\n  - {id: a, server: modbus-tcp, modbus-tcp: {listen: '127.0.0.1:0', map: map.csv}}\n",
			table: "address,model,point\n\nholding:1,m,p\nholding:1,m,q\nholding:x,m,q\n", want: []string{
				`map.csv:4: address: "holding:1": unit 1 has row 1 there, "holding:1"`,
				`map.csv:5: address: "holding:x": number "x": want 0 to 65535, decimal or 0x hexadecimal`}},
		"no table": {site: "servers:\n  - {id: a, server: modbus-tcp, modbus-tcp: {listen: '127.0.0.1:0', map: nowhere.csv}}\n",
			want: []string{"site.yaml:2: servers[0].modbus-tcp.map: nowhere.csv: file does not exist"}},
		"cells": {site: "servers:\n  - {id: a, server: modbus-tcp, modbus-tcp: {listen: '127.0.0.1:0', map: map.csv}}\n", table: "address,model\n1,2,3\n",
			want: []string{"map.csv:2: 3 cells, and the header has 2; a text with the separator in it needs quotes"}},
		"no rows": {site: "servers:\n  - {id: a, server: modbus-tcp, modbus-tcp: {listen: '127.0.0.1:0'}}\n",
			want: []string{"site.yaml:2: servers[0].modbus-tcp.map: 0 rows: want 1 to 20000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{"site.yaml": c.site}
			if c.table != "" {
				files["map.csv"] = c.table
			}
			_, err := loadTest(files, nil, all.Kinds()...)
			require.Error(t, err)
			assert.Equal(t, strings.Join(c.want, "\n"), err.Error())
		})
	}
	_, err := loadTest(map[string]string{"site.yaml": "servers: [{id: a, server: modbus-tcp}]\n"}, nil, modbus.Kinds()...)
	require.ErrorContains(t, err, "the program knows none")
	_, err = loadTest(map[string]string{"site.yaml": "site: a\n"}, nil, channel.Kind{Name: "both", Open: modbus.Kind().Open,
		Serve: func(func(any) error) (channel.ServerFactory, error) { return nil, nil }})
	require.ErrorContains(t, err, "has not one of Open and Serve")
}

func FuzzLoadServerTable(f *testing.F) {
	f.Add(loadServerMap)
	f.Add("address,model,point,scale\nholding:1,m,p,1e400\n")
	f.Add("\ufeffaddress;;unit\n1;;\"\n\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		site := "servers: [{id: a, server: modbus-tcp, modbus-tcp: {listen: '127.0.0.1:0', map: meter.csv}}]\n"
		cfg, err := loadTest(map[string]string{"site.yaml": site, "meter.csv": text}, nil, all.Kinds()...)
		checkLoaded(t, cfg, err)
	})
}
