package voltage

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/all"
)

var loadFaultForm = regexp.MustCompile(`^(site\.yaml|meter\.csv):[0-9]+: `)

// checkLoaded checks what holds for every input: a configuration is valid, and
// a fault has its file and line.
func checkLoaded(t *testing.T, cfg Config, err error) {
	if err == nil {
		require.NoError(t, cfg.Validate())
		return
	}
	faults := loadSplit(err)
	require.LessOrEqual(t, len(faults), loadMaxReport+1)
	for i, fault := range faults {
		if i < loadMaxReport {
			require.Regexp(t, loadFaultForm, fault.Error())
		}
	}
}

func loadSeed(f *testing.F, name string) string {
	data, err := os.ReadFile(filepath.Join("testdata", "loadconfig", name))
	require.NoError(f, err)
	return string(data)
}

func FuzzLoadConfig(f *testing.F) {
	site, table := loadSeed(f, "site.yaml"), loadSeed(f, "meter.csv")
	f.Add(site)
	f.Add("channels: &a [*a]\n")
	f.Add("? [a]\n: {<<: [b], !x y: |\n  z}\n")
	f.Add("a: &a {<<: *a}\nhttp: *a\n")
	f.Add("channels: [{id: 1, driver: modbus-tcp, modbus-tcp: {address: a, unit: 300}, points: [{id: 1, address: x}]}]\n")
	f.Add("servers: [{id: 1, server: modbus-tcp, modbus-tcp: {listen: '127.0.0.1:0', map: [{address: 'holding:1', model: m, point: p, field: age}]}}]\n")
	f.Add("servers: [{id: 1, server: modbus-tls, modbus-tls: {listen: '127.0.0.1:0', map: meter.csv, cert_file: a}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		files := map[string]string{"site.yaml": text, "meter.csv": table}
		cfg, err := loadTest(files, map[string]string{"REDIS_PASSWORD": "a"}, all.Kinds()...)
		checkLoaded(t, cfg, err)
	})
}

func FuzzLoadTable(f *testing.F) {
	f.Add(loadSeed(f, "meter.csv"))
	f.Add("id,address\n1,\"a\"b\n")
	f.Add("\ufeffid;labels\n1;0=a\n\n#\n;;\n2;\"\n\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		site := "channels: [{id: a, driver: virtual, points: meter.csv}, {id: b, points: meter.csv}]\nmodels: [{id: m, channel: b}]\n"
		cfg, err := loadTest(map[string]string{"site.yaml": site, "meter.csv": text}, nil, all.Kinds()...)
		checkLoaded(t, cfg, err)
		if err == nil {
			require.LessOrEqual(t, len(cfg.Channels[0].Points), strings.Count(text, "\n")+1)
		}
	})
}
