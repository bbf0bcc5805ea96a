package voltage

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel"
	"github.com/voltageems/voltage/channel/modbus"
	"github.com/voltageems/voltage/model"
)

// TestLoadConfigModbusAddresses checks that addresses of every form need no
// quotes, in YAML as in CSV, and that a wrong one is reported where it stands.
func TestLoadConfigModbusAddresses(t *testing.T) {
	t.Parallel()
	want := []string{"40101", "00001", "400101:float32:CDAB", "holding:0x10 base=1", "holding:1:bits4-7 na=0xF",
		"holding:100:int16 na=0x8000 na=-1 range=-50..120 rate=.5", "coil:3 invert", "input:7:string16:BA"}
	yaml := "channels:\n  - id: a\n    driver: modbus-tcp\n    modbus-tcp: {address: 127.0.0.1}\n    points:\n"
	csv := "address,id,text\n"
	for i, a := range want {
		id, text := string(rune('a'+i)), "false"
		if i == len(want)-1 {
			text = "true"
		}
		yaml += "      - {id: " + id + ", address: " + a + ", text: " + text + "}\n"
		csv += a + "," + id + "," + text + "\n"
	}
	yaml += "  - {id: b, driver: modbus-tcp, modbus-tcp: {address: 127.0.0.1}, points: meter.csv}\n"
	cfg, err := loadTest(map[string]string{"site.yaml": yaml, "meter.csv": csv}, nil, modbus.Kinds()...)
	require.NoError(t, err)
	for _, ch := range cfg.Channels {
		for i, p := range ch.Points {
			assert.Equal(t, want[i], p.Address)
		}
		assert.Len(t, ch.Points, len(want))
	}

	_, err = loadTest(map[string]string{"site.yaml": yaml, "meter.csv": csv + "holding:1:string8,x,\n40001 na=-1,y,\n"}, nil, modbus.Kinds()...)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "string8 is text, and the point is a number: want text: true")
	assert.Contains(t, err.Error(), `option "na=-1": want a number of uint16`)
}

// TestLoadConfigPaths checks that paths in a driver's section count from the
// folder of the file, and that a file which is missing is named where it stands.
func TestLoadConfigPaths(t *testing.T) {
	t.Parallel()
	var got struct {
		Files []channel.Path          `yaml:"files"`
		Named map[string]channel.Path `yaml:"named"`
		Text  string                  `yaml:"text"`
		None  channel.Path            `yaml:"none"`
	}
	kind := channel.Kind{Name: "own", Open: func(decode func(any) error) (channel.Factory, error) {
		err := decode(&got)
		return func(channel.Setup) (channel.Driver, error) { return nil, nil }, err
	}}
	yaml := "channels:\n  - {id: a, driver: own, own: {files: [ca.pem, /etc/ca.pem, '${FOLDER}/x'], named: {a: ../b}, text: ca.pem, none: }}\n"
	read := func(string, int64) ([]byte, error) { return nil, nil }
	env := func(string) (string, bool) { return "keys", true }
	_, err := loadConfig(filepath.Join("etc", "site.yaml"), []byte(yaml), Kinds{Channels: []channel.Kind{kind}}, read, env)
	require.NoError(t, err)
	in := func(path string) channel.Path { return channel.Path(filepath.FromSlash(path)) }
	assert.Equal(t, []channel.Path{in("etc/ca.pem"), "/etc/ca.pem", in("etc/keys/x")}, got.Files)
	assert.Equal(t, in("b"), got.Named["a"])
	assert.Equal(t, "ca.pem", got.Text)
	assert.Empty(t, got.None)

	yaml = "channels:\n  - id: a\n    driver: modbus-tls\n    modbus-tls:\n      address: 127.0.0.1\n      ca_file: none.pem\n"
	_, err = loadTest(map[string]string{"site.yaml": yaml}, nil, modbus.Kinds()...)
	require.ErrorIs(t, err, model.ErrInvalid)
	assert.ErrorContains(t, err, "site.yaml:6: channels[0].modbus-tls.ca_file: stat none.pem: no such file")

	yaml = "channels:\n  - id: a\n    driver: modbus-tcp\n    modbus-tcp: {address: 127.0.0.1, part_writes: atomic}\n"
	_, err = loadTest(map[string]string{"site.yaml": yaml}, nil, modbus.Kinds()...)
	assert.ErrorContains(t, err, `site.yaml:4: channels[0].modbus-tcp.part_writes: "atomic": want mask or rewrite`)
}
