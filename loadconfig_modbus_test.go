package voltage

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/channel/modbus"
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
