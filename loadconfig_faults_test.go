package voltage

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/all"
	"github.com/voltageems/voltage/model"
	"github.com/voltageems/voltage/scripts"
)

// loadFaultCase is a broken site.yaml, perhaps with tables, and what is said
// about it, line by line.
type loadFaultCase struct {
	name string
	yaml string
	csv  string // meter.csv
	want []string
}

func runLoadFaults(t *testing.T, cases []loadFaultCase) {
	t.Helper()
	env := map[string]string{"TEN": "ten", "PASSWORD": "hunter2", "EMPTY": "", "SHORT": "x"}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{"site.yaml": c.yaml}
			if c.csv != "" {
				files["meter.csv"] = c.csv
			}
			cfg, err := loadTest(files, env, all.Kinds()...)
			require.Error(t, err)
			assert.Equal(t, strings.Join(c.want, "\n"), err.Error())
			assert.Equal(t, Config{}, cfg)
			assert.NotContains(t, err.Error(), "hunter2")
			for _, e := range loadSplit(err) {
				assert.True(t, errors.Is(e, model.ErrInvalid) || errors.Is(e, scripts.ErrStoreConfig), "%s", e)
			}
		})
	}
}

func TestLoadConfigFaultsOfTheText(t *testing.T) {
	t.Parallel()
	runLoadFaults(t, []loadFaultCase{
		{name: "empty", yaml: "", want: []string{"site.yaml:1: the file is empty"}},
		{name: "only a comment", yaml: "# nothing\n", want: []string{"site.yaml:1: the file is empty"}},
		{name: "null", yaml: "~\n", want: []string{"site.yaml:1: the file is empty"}},
		{name: "a list", yaml: "- a\n", want: []string{"site.yaml:1: want a section with keys, not a list"}},
		{name: "two documents", yaml: "site: a\n---\nsite: b\n", want: []string{"site.yaml:2: a second document begins here; a file has one"}},
		{name: "not UTF-8", yaml: "site: a\nengine: \xff\n", want: []string{"site.yaml:2: not UTF-8 text"}},
		{name: "control character", yaml: "site: a\nengine: \x01\n", want: []string{"site.yaml:2: control characters are not allowed"}},
		{name: "tab", yaml: "http:\n\tlisten: a\n", want: []string{"site.yaml:2: a tab in the indentation, or text that begins with a character that needs quotes, such as @ % or `"}},
		{name: "colon", yaml: "site: a\nengine: a: b\n", want: []string{
			"site.yaml:2: a colon where none is expected: text that holds a colon and a space needs quotes, or the indentation is wrong"}},
		{name: "indentation", yaml: "site: a\nhttp:\n  listen: a\n  allowed_hosts:\n    - a\n   - b\nengine: b\n",
			want: []string{"site.yaml:6: the indentation does not fit the lines above, or a key or list item is malformed"}},
		{name: "list item among keys", yaml: "site: a\nengine: b\n- c\n",
			want: []string{"site.yaml:3: the indentation does not fit the lines above, or a key or list item is malformed"}},
		{name: "open bracket", yaml: "site: a\nhttp: {listen: a\n", want: []string{"site.yaml:2: did not find expected ',' or '}'"}},
		{name: "unknown alias", yaml: "site: a\nstore:\n  redis: *hunter2\n",
			want: []string{"site.yaml:3: an alias (*name) of an anchor (&name) that is not there; text that begins with * needs quotes"}},
		{name: "tag", yaml: "site: !hunter2 a\n", want: []string{"site.yaml:1: site: tags (!name) are not used; text that begins with ! needs quotes"}},
		{name: "duplicate keys", yaml: "site: a\nhttp:\n  listen: 127.0.0.1:1\n  listen: 127.0.0.1:2\nsite: b\n",
			want: []string{"site.yaml:4: http.listen: the key is there twice, first on line 3", "site.yaml:5: site: the key is there twice, first on line 1"}},
		{name: "merge of a value", yaml: "x-a: &a 5\nhttp:\n  <<: *a\n", want: []string{"site.yaml:1: http: << takes a section, or a list of sections"}},
		{name: "key that is a list", yaml: "? [a]\n: b\n", want: []string{"site.yaml:1: a key must be plain text"}},
		{name: "contains itself", yaml: "channels: &a [*a]\n", want: []string{"site.yaml:1: channels[0]: want a section with keys, not a list"}},
	})
}

func TestLoadConfigFaultsOfTheSite(t *testing.T) {
	t.Parallel()
	runLoadFaults(t, []loadFaultCase{
		{name: "unknown keys", yaml: "sites: a\nchanels: []\nfoo: 1\nhttp: {listn: a, b: c}\nx-free: {a: 1}\n", want: []string{
			"site.yaml:1: sites: unknown key; did you mean site?",
			"site.yaml:2: chanels: unknown key; did you mean channels?",
			"site.yaml:3: foo: unknown key: want one of site, engine, lease, store, http, scripts, history_queue, cloud_queue, channels, templates, bindings, models, alarms, rules, servers, notifications",
			"site.yaml:4: http.listn: unknown key; did you mean listen?",
			"site.yaml:4: http.b: unknown key: want one of listen, tls, insecure, keys, jwt, allowed_hosts, trusted_proxies, rate, open_probes, cache",
		}},
		{name: "scripts", yaml: "scripts:\n  folder: [a]\n  updates: yes\n  sync:\n    a b: lua\n    1001: quick\n    \"*\": direct\n    1002: {a: b}\n  probation: 0s\n  slow: soon\n", want: []string{
			"site.yaml:2: scripts.folder: want a single value, not a list",
			`site.yaml:3: scripts.updates: "yes" is neither true nor false`,
			`site.yaml:5: scripts.sync."a b": channel: id "a b": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			`site.yaml:6: scripts.sync.1001: sync mode "quick": want lua, direct or shadow`,
			"site.yaml:8: scripts.sync.1002: want a single value, not a section",
			`site.yaml:9: scripts.probation: "0s": want a duration above 0, or never`,
			`site.yaml:10: scripts.slow: "soon" is not a duration such as 500ms, 3s or 1m30s`,
		}},
		{name: "values", yaml: "site: a b\nengine: [a]\nlease: 10ms\nhttp:\n  listen: 0.0.0.0:80\n  allowed_hosts: a\nhistory_queue: 5 apples\ncloud_queue: -1\n", want: []string{
			`site.yaml:1: site: id "a b": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			"site.yaml:2: engine: want a single value, not a list",
			"site.yaml:3: lease: 10ms: want at least 1s",
			`site.yaml:5: http.listen: "0.0.0.0:80": without credentials only loopback addresses are served: add keys or jwt`,
			"site.yaml:6: http.allowed_hosts: want a list, not a single value",
			`site.yaml:7: history_queue: "5 apples" is not a size such as 67108864, 64MiB or 1GiB`,
			`site.yaml:8: cloud_queue: "-1" is not a size such as 67108864, 64MiB or 1GiB`,
		}},
		{name: "zero lease", yaml: "lease: 0s\n", want: []string{"site.yaml:1: lease: 0s: want at least 1s, or nothing for the default"}},
		{name: "two stores", yaml: "store:\n  redis: redis://a:hunter2@b\n  embedded: true\n", want: []string{"site.yaml:1: store: at most one of redis, managed and embedded"}},
		{name: "TLS without redis", yaml: "store:\n  embedded: true\n  tls: {ca_file: a}\n", want: []string{"site.yaml:3: store.tls: belongs to redis, which is not there"}},
		{name: "TLS half a certificate", yaml: "store:\n  redis: rediss://b\n  tls:\n    cert_file: a\n",
			want: []string{"site.yaml:3: store.tls: a TLS client certificate needs both cert_file and key_file"}},
		{name: "redis scheme", yaml: "store:\n  redis: http://a:hunter2@b/0\n",
			want: []string{"site.yaml:2: store.redis: http://b/0: unknown scheme; want redis, rediss, unix, redis-sentinel, rediss-sentinel, redis-cluster or rediss-cluster"}},
		{name: "redis URL", yaml: "store:\n  redis: ${PASSWORD}\n", want: []string{"site.yaml:2: store.redis: the URL cannot be read; percent-encode special characters in user and password"}},
		{name: "redis empty", yaml: "store:\n  redis: ${EMPTY}\n", want: []string{"site.yaml:2: store.redis: empty: want a URL such as redis://127.0.0.1:6379/0"}},
		{name: "redis as key", yaml: "store: {\"redis://a:hunter2@b\"}\n",
			want: []string{`site.yaml:1: store."redis://***@b": unknown key: want one of redis, tls, managed, embedded`}},
		{name: "variable missing", yaml: "store:\n  redis: redis://${NOBODY}@b\n", want: []string{"site.yaml:2: store.redis: the environment variable NOBODY is not set"}},
		{name: "variable malformed", yaml: "store:\n  redis: redis://${no-body}@b\n",
			want: []string{"site.yaml:2: store.redis: ${ does not begin ${NAME} or ${NAME:-default}; write $${ for the characters themselves"}},
		{name: "variable of another type", yaml: "store:\n  managed: {folder: a, max_memory: \"${PASSWORD}\"}\n",
			want: []string{`site.yaml:2: store.managed.max_memory: "${PASSWORD}": the value does not fit here: want a size`}},
		{name: "managed", yaml: "store:\n  managed: {persistence: always, max_memory: 1kB}\n",
			want: []string{`site.yaml:2: store.managed.persistence: "always": want aof, snapshot or none`}},
		{name: "managed empty", yaml: "store:\n  managed:\n", want: []string{`site.yaml:2: store.managed: a managed store with persistence "aof" needs a folder`}},
		{name: "managed memory", yaml: "store:\n  managed:\n    folder: a\n    max_memory: 1kB\n",
			want: []string{"site.yaml:4: store.managed.max_memory: 1000 bytes: want 0 (no limit) or at least 4 MiB"}},
		{name: "boolean", yaml: "store:\n  embedded: yes\n", want: []string{`site.yaml:2: store.embedded: "yes" is neither true nor false`}},
	})
}

func TestLoadConfigFaultsOfChannels(t *testing.T) {
	t.Parallel()
	const pre = "channels:\n  - id: a\n    driver: virtual\n"
	runLoadFaults(t, []loadFaultCase{
		{name: "not a list", yaml: "channels:\n  a: {}\n", want: []string{"site.yaml:1: channels: want a list, not a section"}},
		{name: "items", yaml: "channels:\n  - 5\n  -\n", want: []string{
			"site.yaml:2: channels[0]: want a section with keys, not a single value", "site.yaml:3: channels[1]: empty list item"}},
		{name: "fields", yaml: "channels:\n  - name: x\n    scan: 1x\n    timeout: 0s\n    stale: -3s\n    refresh: 10ms\n    disabled: off\n    scna: 1s\n", want: []string{
			"site.yaml:2: channels[0].id: missing",
			`site.yaml:3: channels[0].scan: "1x" is not a duration such as 500ms, 3s or 1m30s`,
			"site.yaml:4: channels[0].timeout: 0s: want a duration above 0, or nothing for the default",
			`site.yaml:5: channels[0].stale: "-3s": want a duration above 0, or never`,
			"site.yaml:6: channels[0].refresh: 10ms: want at least 1s",
			`site.yaml:7: channels[0].disabled: "off" is neither true nor false`,
			"site.yaml:8: channels[0].scna: unknown key; did you mean scan?",
		}},
		{name: "seconds without a unit", yaml: "channels:\n  - {id: a, scan: 1}\n", want: []string{`site.yaml:2: channels[0].scan: "1" is not a duration such as 500ms, 3s or 1m30s`}},
		{name: "duplicate id", yaml: "channels:\n  - id: 1001\n  - name: b\n    id: \"1001\"\n", want: []string{"site.yaml:4: channels[1].id: channel 1001 is there twice, first on line 2"}},
		{name: "bad id", yaml: "channels:\n  - name: b\n    id: a b\n", want: []string{`site.yaml:3: channels[0].id: "a b": use 1 to 64 of A-Z a-z 0-9 _ . -`}},
		{name: "unknown driver", yaml: "channels:\n  - id: a\n    driver: modbus-tpc\n    modbus-tpc: {address: a}\n",
			want: []string{`site.yaml:3: channels[0].driver: unknown driver "modbus-tpc": known are modbus-rtu, modbus-rtu-tcp, modbus-tcp, modbus-tls, virtual; the program passes them to LoadConfig, such as those of channel/all`}},
		{name: "section of another driver", yaml: pre + "    modbus-tcp: {address: a}\n  - id: b\n    virtual: {}\n", want: []string{
			"site.yaml:4: channels[0].modbus-tcp: settings of another driver than the channel's, virtual",
			"site.yaml:6: channels[1].virtual: settings of a driver, but the channel has none: add driver: virtual"}},
		{name: "driver settings", yaml: "channels:\n  - id: a\n    driver: modbus-tcp\n    modbus-tcp:\n      adress: b\n      unit: ${TEN}\n      max_read: 1.5\n      delay: 5\n", want: []string{
			"site.yaml:5: channels[0].modbus-tcp.adress: unknown key; did you mean address?",
			`site.yaml:6: channels[0].modbus-tcp.unit: "${TEN}": the value does not fit here: want a whole number of ` + fmt.Sprint(32<<(^uint(0)>>63)) + ` bits`,
			`site.yaml:7: channels[0].modbus-tcp.max_read: "1.5" is not a whole number`,
			`site.yaml:8: channels[0].modbus-tcp.delay: "5" is not a duration such as 500ms, 3s or 1m30s`}},
		{name: "driver refuses", yaml: "channels:\n  - id: a\n    driver: modbus-tcp\n    modbus-tcp:\n      address: 127.0.0.1:1\n      unit: 256\n      max_read: 0\n", want: []string{
			"site.yaml:6: channels[0].modbus-tcp.unit: 256: want 0 to 255",
			"site.yaml:7: channels[0].modbus-tcp.max_read: 0: want 1 to 125 registers"}},
		{name: "driver without settings", yaml: "channels:\n  - id: a\n    driver: modbus-tcp\n",
			want: []string{`site.yaml:2: channels[0].modbus-tcp.address: "": want host:port, such as 192.168.1.10:502`}},
		{name: "points", yaml: pre + "    points: {a: b}\n", want: []string{"site.yaml:4: channels[0].points: want the name of a CSV file or a list of points"}},
		{name: "points of a file without a name", yaml: pre + "    points: \"\"\n", want: []string{"site.yaml:4: channels[0].points: want the name of a CSV file or a list of points"}},
		{name: "inline points", yaml: pre + `    points:
      - {id: 1, address: "constant:1", scale: .inf, kind: state, text: 1}
      - {id: 2, address: "sinus:1"}
      - {id: 2, address: "constant:1"}
      - {address: "constant:1", min: 5, max: 4, step: -1, tolerance: 1e999}
      - id: 3
        address: setpoint:0
      - {id: 4, address: "constant:1", labels: {a: b}, scale: "0,1"}
      - 7
`, want: []string{
			`site.yaml:5: channels[0].points[0].scale: ".inf": want a finite number`,
			`site.yaml:5: channels[0].points[0].kind: "state": want measurement, signal, control or adjustment`,
			`site.yaml:5: channels[0].points[0].text: "1" is neither true nor false`,
			`site.yaml:6: channels[0].points[1].address: "sinus:1": unknown signal "sinus": want one of constant, sine, ramp, random_walk, square, toggle, csv, text, setpoint, follow`,
			"site.yaml:7: channels[0].points[2].id: point 2 is there twice, first on line 6",
			`site.yaml:8: channels[0].points[3].tolerance: "1e999": want a finite number`,
			"site.yaml:8: channels[0].points[3].id: missing",
			"site.yaml:8: channels[0].points[3].step: -1: negative",
			"site.yaml:8: channels[0].points[3].min: 5: above max 4",
			`site.yaml:10: channels[0].points[4].address: "setpoint:0": setpoint is for controls and adjustments; a measurement can follow one`,
			`site.yaml:11: channels[0].points[5].labels.a: key "a" is not a whole number`,
			`site.yaml:11: channels[0].points[5].scale: "0,1" is not a number: write the decimals after a point`,
			"site.yaml:12: channels[0].points[6]: want a section with keys, not a single value",
		}},
		{name: "octal", yaml: "channels:\n  - {id: 010, driver: modbus-tcp, modbus-tcp: {address: a, unit: 010}}\n", want: []string{`site.yaml:2: channels[0].modbus-tcp.unit: "010" is not a whole number`}},
	})
}

func TestLoadConfigFaultsOfTables(t *testing.T) {
	t.Parallel()
	const site = "channels:\n  - id: a\n    driver: virtual\n    points: meter.csv\n"
	runLoadFaults(t, []loadFaultCase{
		{name: "empty", yaml: site, csv: "\n# nothing\n", want: []string{"meter.csv:1: empty: want a header line that names the columns"}},
		{name: "header", yaml: site, csv: "# a\nId,scal,Kind,kind,colour\n1,,,,\n", want: []string{
			`meter.csv:2: unknown column "scal"; did you mean scan?`,
			"meter.csv:2: kind: the column is there twice",
			`meter.csv:2: unknown column "colour": want one of id, name, kind, address, scan, scale, offset, unit, text, min, max, step, read_back, tolerance, read_back_time, select, labels, enum`,
			`meter.csv:3: address: "": unknown signal "": want one of constant, sine, ramp, random_walk, square, toggle, csv, text, setpoint, follow`,
		}},
		{name: "no id", yaml: site, csv: "name,address\na,b\n", want: []string{"meter.csv:1: id: the column is missing; the first line names the columns"}},
		{name: "cells", yaml: site, csv: "id;address;kind;scale;text;min;labels;offset\n" +
			"1;constant:1;x;0,1;maybe;inf;on;1e400\n" +
			";constant:1;;;;;;\n" +
			"a b;constant:1;;;;;;\nc d;constant:1;;;;;;\n" +
			"1;constant:1;;;;;;\n" +
			"3;constant:x;;;;;\"0=a;0=b\";\n" +
			"4;constant:x;;;;;;\n" +
			"5;setpoint:1;c;;1;;;0x10\n", want: []string{
			`meter.csv:2: kind: "x": want measurement, signal, control or adjustment`,
			`meter.csv:2: scale: "0,1" is not a number: write the decimals after a point`,
			`meter.csv:2: text: "maybe" is neither true nor false`,
			`meter.csv:2: min: "inf": want a finite number`,
			`meter.csv:2: labels: "on": want labels such as 0=off;1=on`,
			`meter.csv:2: offset: "1e400": want a finite number`,
			"meter.csv:3: id: missing",
			`meter.csv:4: id: "a b": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			`meter.csv:5: id: "c d": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			"meter.csv:6: id: point 1 is there twice, first on line 2",
			"meter.csv:7: labels: 0 has two labels",
			`meter.csv:8: address: "constant:x": "x": want a number within ±1e15 in constant:VALUE`,
			`meter.csv:9: offset: "0x10" is not a number`,
			"meter.csv:9: text: true: commands carry numbers, so text is for measurements and signals",
		}},
		{name: "too few cells", yaml: site, csv: "id,address\n1\n", want: []string{"meter.csv:2: 1 cells, and the header has 2; a text with the separator in it needs quotes"}},
		{name: "quotes", yaml: site, csv: "id,address\n1,\"a\"b\n", want: []string{`meter.csv:2: column 5: extraneous or missing " in quoted-field`}},
		{name: "not UTF-8", yaml: site, csv: "id,name,address\n1,W\xe4rme,constant:1\n", want: []string{`meter.csv:2: not UTF-8 text: save the file as "CSV UTF-8"`}},
		{name: "shared by two channels", yaml: site + "  - id: b\n    driver: virtual\n    points: meter.csv\n", csv: "id,address,scale\n1,constant:x,\n2,constant:1,x\n", want: []string{
			`meter.csv:2: address: "constant:x": "x": want a number within ±1e15 in constant:VALUE`,
			`meter.csv:3: scale: "x" is not a number`}},
		{name: "both files", yaml: site + "models: [{id: a b}]\n", csv: "id,address,scale\n2,constant:1,x\n", want: []string{
			`site.yaml:5: models[0].id: "a b": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			`meter.csv:2: scale: "x" is not a number`}},
	})
	many := "id\n" + strings.Repeat("1\n", channel.MaxPoints+5)
	_, err := loadTest(map[string]string{"site.yaml": "channels: [{id: a, points: meter.csv}]\n", "meter.csv": many}, nil)
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	assert.Len(t, lines, loadMaxReport+1)
	assert.Equal(t, fmt.Sprintf("site.yaml: and %d more", channel.MaxPoints-loadMaxReport), lines[loadMaxReport])
}

func TestLoadConfigFaultsOfModels(t *testing.T) {
	t.Parallel()
	const site = "channels:\n  - id: a\n    points: [{id: 1, name: L 1}, {id: 2, name: L/1}, {id: 3, kind: control}]\n"
	runLoadFaults(t, []loadFaultCase{
		{name: "fields", yaml: "models:\n  - name: a\n    signal: {}\n  - id: b\n    signals: [a]\n  - id: enabled\n  - id: b\n", want: []string{
			"site.yaml:2: models[0].id: missing",
			"site.yaml:3: models[0].signal: unknown key; did you mean signals?",
			"site.yaml:5: models[1].signals: want a section with keys, not a list",
			"site.yaml:6: models[2].id: the id enabled is reserved",
			"site.yaml:7: models[3].id: model b is there twice, first on line 4"}},
		{name: "bindings", yaml: site + "models:\n  - id: m\n    measurements: {a b: \"a:1\", x: a, y: \"a:9\", z: [1]}\n    controls:\n      x: other:1\n      w: a:1\n", want: []string{
			"site.yaml:6: models[0].measurements.z: want a single value, not a list",
			`site.yaml:6: models[0].measurements."a b": the name may have 1 to 64 of A-Z a-z 0-9 _ . -`,
			`site.yaml:6: models[0].measurements.x: "a": want channel:point, such as "1001:1"`,
			"site.yaml:6: models[0].measurements.y: channel a has no point 9",
			"site.yaml:8: models[0].controls.x: the name is both a measurement and a control",
			"site.yaml:9: models[0].controls.w: point 1 of channel a is a measurement and cannot be written"}},
		{name: "names that collide", yaml: site + "models:\n  - id: m\n    channel: a\n  - id: n\n    channel: ab\n", want: []string{
			"site.yaml:6: models[0].channel: points 1 and 2 of channel a both get the name L_1: rename one, or bind it under a name of its own",
			`site.yaml:8: models[1].channel: the file has no channel "ab"`}},
		{name: "alarms", yaml: site + `models: [{id: m, measurements: {power: "a:1"}}]
alarms:
  - {model: m, point: powr, operator: "=>", threshold: x, severity: urgent, hysteresis: -1}
  - {id: a, model: elsewhere, point: any, operator: ">"}
  - {id: b, model: elsewhere, point: any, operator: ">", threshold: 1}
  - {id: b, model: elsewhere, point: any, operator: "<", threshold: 1}
  - {id: b, model: elsewhere, point: other, operator: "<", threshold: 1e16}
  - 5
`, want: []string{
			`site.yaml:6: alarms[0].threshold: "x" is not a number`,
			"site.yaml:6: alarms[0].id: missing",
			`site.yaml:6: alarms[0].operator: "=>": want one of > >= < <= == != in_range out_of_range deviation rate change bit_set bit_clear stale bad_quality offline`,
			"site.yaml:6: alarms[0].hysteresis: -1: want zero or more",
			`site.yaml:6: alarms[0].severity: "urgent": want low, medium, high or critical`,
			`site.yaml:6: alarms[0].point: model m has no point "powr"; did you mean power?`,
			"site.yaml:7: alarms[1].threshold: missing",
			"site.yaml:9: alarms[3].id: alarm rule b of elsewhere:any is there twice, first on line 8",
			"site.yaml:10: alarms[4].threshold: 1e+16: not a number that can be stored",
			"site.yaml:11: alarms[5]: want a section with keys, not a single value",
		}},
		{name: "conditions of alarms", yaml: site + `models: [{id: m, measurements: {power: "a:1", other: "a:2"}}]
alarms:
  - {id: a, model: m, point: power, operator: in_range, threshold: -5}
  - {id: b, model: m, point: power, operator: out_of_range, threshold: 5, high: 4}
  - {id: c, model: m, point: power, operator: deviation, threshold: 5}
  - {id: d, model: m, point: power, operator: deviation, threshold: 5, reference: othr}
  - {id: e, model: m, point: power, operator: deviation, threshold: -5, reference: "m:x", hysteresis: 9}
  - {id: f, model: m, point: power, operator: rate, threshold: 0, severity: x}
  - {id: g, model: m, point: power, operator: change, threshold: x, on_delay: 1s}
  - {id: h, model: m, point: power, operator: ">", threshold: 1, high: 3, reference: other, on_delay: 1h, off_delay: 721h}
  - {id: i, model: m, point: power, operator: ">", threshold: 1, count: 3}
  - {id: j, model: m, point: power, operator: ">", threshold: 1, count: 3.5, window: 1m}
  - {id: k, model: m, point: power, operator: ">", threshold: 1, count: 51, window: 1m, message: ok}
  - {id: l, model: m, point: power, operator: ">", threshold: 1, window: 1m, latch: 1}
  - {id: m, model: m, point: power, operator: ranged, threshold: 1, high: 3, hysteresis: 1}
  - {id: n, model: m, point: power, operator: bit_set, threshold: 1.5}
  - {id: o, model: rule, point: power, operator: stale}
  - {id: p, model: a b, point: power, operator: stale}
  - {id: q, model: m, point: "*", operator: stale}
`, want: []string{
			"site.yaml:6: alarms[0].high: missing",
			"site.yaml:7: alarms[1].high: 4: want a number that is not below the threshold",
			"site.yaml:8: alarms[2].reference: missing",
			`site.yaml:9: alarms[3].reference: model m has no point "othr"; did you mean other?`,
			"site.yaml:10: alarms[4].threshold: -5: a deviation has no sign",
			`site.yaml:10: alarms[4].reference: model m has no point "x"`,
			`site.yaml:11: alarms[5].severity: "x": want low, medium, high or critical`,
			"site.yaml:11: alarms[5].threshold: 0: want more than zero units a second",
			`site.yaml:12: alarms[6].threshold: "x" is not a number`,
			"site.yaml:12: alarms[6].on_delay: 1s: a change is over at once",
			"site.yaml:13: alarms[7].off_delay: 721h0m0s: want 0 to 720h, in whole milliseconds",
			"site.yaml:13: alarms[7].high: 3: is for in_range and out_of_range",
			`site.yaml:13: alarms[7].reference: "other": is for deviation`,
			"site.yaml:14: alarms[8].window: 0s: a count needs a time to look back",
			`site.yaml:15: alarms[9].count: "3.5" is not a whole number`,
			"site.yaml:16: alarms[10].count: 51: want 2 to 50",
			`site.yaml:17: alarms[11].latch: "1" is neither true nor false`,
			"site.yaml:17: alarms[11].window: 1m0s: is for rate, and with a count",
			`site.yaml:18: alarms[12].operator: "ranged": want one of > >= < <= == != in_range out_of_range deviation rate change bit_set bit_clear stale bad_quality offline`,
			"site.yaml:19: alarms[13].threshold: 1.5: want the number of a bit, 0 to 52",
			"site.yaml:20: alarms[14].model: rule: is for the alarms that rules raise",
			`site.yaml:21: alarms[15].model: id "a b": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			`site.yaml:22: alarms[16].point: id "*": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			`site.yaml:22: alarms[16].point: model m has no point "*"`,
		}},
		{name: "alarms of channels", yaml: site + `alarms:
  - {id: a, model: channel, point: b, operator: offline}
  - {id: a, model: channel, point: a, operator: stale}
  - {id: b, model: m, point: a, operator: offline}
  - {id: c, model: channel, point: "*", operator: offline, enable: {point: x, operator: "==", threshold: 1}}
  - {id: c, model: channel, point: "*", operator: offline}
  - {id: d, model: channel, point: a, limits: {hi: 1}}
  - {id: e, model: channel, point: a, operator: offline, on_delay: 0s}
`, want: []string{
			`site.yaml:5: alarms[0].point: the file has no channel "b"`,
			`site.yaml:6: alarms[1].operator: stale: "offline" is for the model "channel", whose points are the channels, and that has no other`,
			`site.yaml:7: alarms[2].operator: offline: "offline" is for the model "channel", whose points are the channels, and that has no other`,
			"site.yaml:8: alarms[3].enable: x of channel: want a point of a model",
			"site.yaml:9: alarms[4].id: alarm rule c of channel:* is there twice, first on line 8",
			`site.yaml:10: alarms[5].operator: >: "offline" is for the model "channel", whose points are the channels, and that has no other`,
			"site.yaml:11: alarms[6].on_delay: 0s: want a duration above 0, or nothing for 10s",
		}},
		{name: "no channels", yaml: "alarms: [{id: c, model: channel, point: '*', operator: offline}]\n", want: []string{
			"site.yaml:1: alarms[0].point: the file has no channels"}},
		{name: "enable and limits", yaml: site + `models: [{id: m, measurements: {power: "a:1", other: "a:2"}}]
alarms:
  - {id: a, model: m, point: power, operator: ">", threshold: 1, enable: {point: othr, operator: "~", threshold: 1}}
  - {id: b, model: m, point: power, operator: ">", threshold: 1, enable: {model: n, operator: "=="}}
  - {id: c, model: m, point: power, operator: ">", threshold: 1, enable: other}
  - {id: d, model: m, point: power, operator: ">", threshold: 1, enable: {point: other, operator: "==", threshold: 1, reference: x}}
  - {id: e, model: m, point: power, limits: {hi: 60, hihi: 60}}
  - {id: f, model: m, point: power, limits: {}}
  - {id: g, model: m, point: power, limits: 5}
  - {id: h, model: m, point: power, limits: {hi: 60, high: 70}}
  - {id: i, model: m, point: power, operator: ">", threshold: 5, high: 6, limits: {lo: 60}}
  - {id: k, model: m, point: power, limits: {lo: 60}, hysteresis: -1, on_delay: 1us}
  - {id: l, model: m, point: power, limits: {lo: 60, hi: 70}}
  - {id: l_hi, model: m, point: power, operator: "<", threshold: 5}
`, want: []string{
			`site.yaml:6: alarms[0].enable: with operator "~": want one of > >= < <= == !=`,
			`site.yaml:6: alarms[0].enable.point: model m has no point "othr"; did you mean other?`,
			"site.yaml:7: alarms[1].enable.point: missing", "site.yaml:7: alarms[1].enable.threshold: missing",
			"site.yaml:8: alarms[2].enable: want a section with keys, not a single value",
			"site.yaml:9: alarms[3].enable.reference: unknown key: want one of model, point, operator, threshold",
			"site.yaml:10: alarms[4].limits.hi: 60: is not below hihi 60",
			"site.yaml:11: alarms[5].limits: want one or more of hihi, hi, lo, lolo",
			"site.yaml:12: alarms[6].limits: want a section with keys, not a single value",
			"site.yaml:13: alarms[7].limits.high: unknown key: want one of hihi, hi, lo, lolo",
			"site.yaml:14: alarms[8].operator: does not go with limits, which say it themselves",
			"site.yaml:14: alarms[8].threshold: does not go with limits, which say it themselves",
			"site.yaml:14: alarms[8].high: does not go with limits, which say it themselves",
			"site.yaml:15: alarms[9].on_delay: 1µs: want 0 to 720h, in whole milliseconds",
			"site.yaml:15: alarms[9].hysteresis: -1: want zero or more",
			"site.yaml:17: alarms[11].id: alarm rule l_hi of m:power is there twice, first on line 16",
		}},
		{name: "rules", yaml: site + `models: [{id: m, measurements: {power: "a:1"}, controls: {limit: "a:3"}}]
rules:
  - id: r
    conditions:
      - {model: m, point: limi, operator: gt, threshold: 1}
      - {model: m x, operator: ">"}
    actions:
      - {type: control, model: m, control: power}
      - {type: control, model: m, control: nothing, value: 1}
      - {type: notify, severity: x}
      - {type: alarm}
      - {type: notification, message: ""}
  - {id: r, conditions: [], actions: [{type: alarm, message: x, text: y}]}
`, want: []string{
			`site.yaml:8: rules[0].conditions[0].operator: "gt": want one of > >= < <= == !=`,
			`site.yaml:8: rules[0].conditions[0].point: model m has no point "limi"; did you mean limit?`,
			"site.yaml:9: rules[0].conditions[1].point: missing",
			"site.yaml:9: rules[0].conditions[1].threshold: missing",
			`site.yaml:9: rules[0].conditions[1].model: id "m x": use 1 to 64 of A-Z a-z 0-9 _ . -`,
			"site.yaml:11: rules[0].actions[0].value: missing",
			"site.yaml:11: rules[0].actions[0].control: power of model m is a measurement, not a control",
			`site.yaml:12: rules[0].actions[1].control: model m has no control "nothing"`,
			`site.yaml:13: rules[0].actions[2].severity: "x": want low, medium, high or critical`,
			`site.yaml:13: rules[0].actions[2].type: "notify": want control, alarm or notification`,
			"site.yaml:14: rules[0].actions[3].message: missing",
			"site.yaml:15: rules[0].actions[4]: notification: the message is missing",
			"site.yaml:16: rules[1].actions[0].text: unknown key: want one of type, model, control, value, severity, message",
			"site.yaml:16: rules[1].id: rule r is there twice, first on line 6",
			"site.yaml:16: rules[1].conditions: 0: want 1 to 32",
		}},
	})
}
