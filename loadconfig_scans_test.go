package voltage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/channel/virtual"
)

func TestLoadConfigScans(t *testing.T) {
	t.Parallel()
	cfg, err := loadTest(map[string]string{"site.yaml": `
channels:
  - id: a
    driver: modbus-tcp
    modbus-tcp: {address: 127.0.0.1, pipeline: 4, retries: 1, connect_delay: 200ms}
    scan: 2s
    scans: {fast: 100ms, slow: 1m}
    points:
      - {id: 1, address: 40001, scan: fast}
      - {id: 2, address: 40002}
      - {id: 3, address: 40003, scan: once}
  - {id: b, driver: virtual, scans: {slow: 5s}, points: b.csv}
`, "b.csv": "id,address,scan\n1,constant:1,slow\n2,constant:1,\n3,constant:1,demand\n"}, nil, append(modbus.Kinds(), virtual.Kind())...)
	require.NoError(t, err)
	a, b := cfg.Channels[0], cfg.Channels[1]
	assert.Equal(t, map[string]time.Duration{"fast": 100 * time.Millisecond, "slow": time.Minute}, a.Scans)
	assert.Equal(t, []string{"fast", "", channel.ScanOnce}, []string{a.Points[0].Scan, a.Points[1].Scan, a.Points[2].Scan})
	assert.Equal(t, []string{"slow", "", channel.ScanDemand}, []string{b.Points[0].Scan, b.Points[1].Scan, b.Points[2].Scan})
	require.NoError(t, a.Validate())
	require.NoError(t, b.Validate())
}

func TestLoadConfigFaultsOfScans(t *testing.T) {
	t.Parallel()
	const pre = "channels:\n  - id: a\n"
	runLoadFaults(t, []loadFaultCase{
		{name: "scans", yaml: pre + "    scans:\n      fast: 1x\n      once: 1s\n", want: []string{
			`site.yaml:4: channels[0].scans.fast: "1x" is not a duration such as 500ms, 3s or 1m30s`,
			"site.yaml:5: channels[0].scans.once: every channel has this scan class, and it has no time"}},
		{name: "too fast", yaml: pre + "    scans:\n      slow: 1m\n      fast: 10us\n", want: []string{"site.yaml:5: channels[0].scans.fast: 10µs: want at least 1ms"}},
		{name: "default", yaml: pre + "    scans: {default: 1m}\n",
			want: []string{"site.yaml:3: channels[0].scans.default: this is the scan class of the points that name none: its time is the channel's scan"}},
		{name: "a list", yaml: pre + "    scans: [1s]\n", want: []string{"site.yaml:3: channels[0].scans: want a section with keys, not a list"}},
		{name: "unknown class", yaml: pre + "    scans: {slow: 1m}\n    points:\n      - {id: 1, scan: slow}\n      - {id: 2, scan: slwo}\n",
			want: []string{`site.yaml:6: channels[0].points[1].scan: "slwo" is no scan class of the channel: want slow, once, demand, or nothing for its scan`}},
		{name: "of a wrong class", yaml: pre + "    scans: {slow: 1ns}\n    points:\n      - {id: 1, scan: slow}\n", want: []string{
			"site.yaml:3: channels[0].scans.slow: 1ns: want at least 1ms"}},
	})
	_, err := loadTest(map[string]string{"site.yaml": "channels:\n  - {id: a, points: a.csv}\n", "a.csv": "id,scan\n1,once\n2,fast\n"}, nil)
	require.ErrorContains(t, err, `a.csv:3: scan: "fast" is no scan class of the channel: want once, demand, or nothing for its scan`)
}
