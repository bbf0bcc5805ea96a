package all_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/voltageems/voltage/channel/all"
)

func TestKindsAreNamedAndUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range all.Kinds() {
		assert.NotEmpty(t, k.Name)
		assert.NotNil(t, k.Open, k.Name)
		assert.False(t, seen[k.Name], "%s is there twice", k.Name)
		seen[k.Name] = true
	}
	assert.True(t, seen["modbus-tcp"])
	assert.True(t, seen["modbus-tls"])
	assert.True(t, seen["modbus-rtu"])
	assert.True(t, seen["modbus-rtu-tcp"])
	assert.True(t, seen["virtual"])
}
