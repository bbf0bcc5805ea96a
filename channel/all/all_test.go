package all_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/voltageems/voltage/channel/all"
)

func TestKindsAreNamedAndUnique(t *testing.T) {
	t.Parallel()
	seen, servers := map[string]bool{}, map[string]bool{}
	for _, k := range all.Kinds() {
		assert.NotEmpty(t, k.Name)
		assert.NotEqual(t, k.Open == nil, k.Serve == nil, "%s: a driver or a server", k.Name)
		known := seen
		if k.Serve != nil {
			known = servers
		}
		assert.False(t, known[k.Name], "%s is there twice", k.Name)
		known[k.Name] = true
	}
	assert.True(t, seen["modbus-tcp"])
	assert.True(t, seen["modbus-tls"])
	assert.True(t, seen["modbus-rtu"])
	assert.True(t, seen["modbus-rtu-tcp"])
	assert.True(t, seen["virtual"])
	assert.Equal(t, map[string]bool{"modbus-tcp": true, "modbus-tls": true, "modbus-rtu": true, "modbus-rtu-tcp": true}, servers)
}
