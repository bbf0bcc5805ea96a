package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts"
)

func TestRecord(t *testing.T) {
	t.Parallel()
	a, b := scripts.Script{Name: "a", Version: "1.0.0+aaaaaaaa"}, scripts.Script{Name: "b", Version: "1.10.0+bbbbbbbb"}
	first, err := record("", []scripts.Script{a, b})
	require.NoError(t, err)
	require.Equal(t, head+"a              1.0.0    aaaaaaaa\nb              1.10.0   bbbbbbbb\n", first)
	same, err := record(first, []scripts.Script{a, b})
	require.NoError(t, err)
	require.Equal(t, first, same)

	// changed texts need a higher version, and both are named
	for version, ok := range map[string]bool{"1.10.0": false, "1.9.9": false, "1.10.1": true, "2.0.0": true} {
		changed := []scripts.Script{{Name: "a", Version: "1.0.0+cccccccc"}, {Name: "b", Version: version + "+dddddddd"}}
		_, err = record(first, changed)
		require.ErrorContains(t, err, "a (1.0.0, was 1.0.0)")
		if ok {
			require.NotContains(t, err.Error(), "b (")
		} else {
			require.ErrorContains(t, err, "b ("+version+", was 1.10.0)")
		}
		_, err = record(first, []scripts.Script{a, changed[1]})
		require.Equal(t, ok, err == nil, version)
	}
	// one that went away is forgotten; a higher version of the same text is fine
	less, err := record(first, []scripts.Script{{Name: "a", Version: "1.0.1+aaaaaaaa"}})
	require.NoError(t, err)
	require.Equal(t, head+"a              1.0.1    aaaaaaaa\n", less)
}

func TestRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "versions.txt")
	require.NoError(t, run(file))
	first, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(first), "data_sync ")
	require.NoError(t, run(file))
	require.NoError(t, os.WriteFile(file, []byte("data_sync 9.9.9 00000000\n"), 0o600))
	require.ErrorContains(t, run(file), "data_sync (")
	left, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "data_sync 9.9.9 00000000\n", string(left))
	require.Error(t, run(filepath.Join(t.TempDir(), "none", "versions.txt")))
}
