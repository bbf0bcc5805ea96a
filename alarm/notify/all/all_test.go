package all_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/voltageems/voltage/alarm/notify/all"
)

func TestKindsAreNamedAndUnique(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range all.Kinds() {
		assert.NotEqual(t, k.Open == nil, k.Texts == nil, "%s: a sender or templates", k.Name)
		assert.False(t, seen[k.Name], "%s is there twice", k.Name)
		seen[k.Name] = true
	}
	assert.Equal(t, map[string]bool{"webhook": true, "smtp": true, "mqtt": true, "exec": true, "text": true}, seen)
}
