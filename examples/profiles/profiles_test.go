package profiles

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage"
	"github.com/voltageems/voltage/channel/all"
)

// Every profile can be loaded, and the linter has nothing to say about it.
func TestProfiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 7)
	for _, file := range files {
		require.Empty(t, voltage.LintProfile(file, all.Kinds()...))
		p, err := voltage.LoadProfile(file, all.Kinds()...)
		require.NoError(t, err)
		require.NotEmpty(t, p.Points)
		for _, driver := range p.Drivers {
			ch, err := p.Channel("1", driver, nil)
			require.NoError(t, err)
			require.NotNil(t, ch.Driver)
		}
		require.NoError(t, p.Instance("m", "1").Validate())
		for _, r := range p.Rules("m") {
			require.NoError(t, r.Validate())
		}
	}
}
