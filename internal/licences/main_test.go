package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	bsd2 = "Redistribution and use in source and\nbinary forms, with or without modification"
	bsd3 = bsd2 + " … Neither the name may be used to endorse or promote products"
	epl  = "Eclipse Public License - v 2.0"
)

// module is a folder with these files.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func TestLicence(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{bsd2: "BSD-2-Clause", bsd3: "BSD-3-Clause", "Apache License": "Apache-2.0"} {
		name, err := licence(module(t, map[string]string{"LICENSE.txt": text}))
		require.NoError(t, err)
		require.Equal(t, want, name)
	}
	for text, want := range map[string]string{epl: "eclipse public license", "GNU Lesser General\nPublic License": "general public license", "All rights reserved": "no known licence"} {
		_, err := licence(module(t, map[string]string{"COPYING": text}))
		require.ErrorContains(t, err, want)
	}
	_, err := licence(t.TempDir())
	require.ErrorContains(t, err, "no licence file")
}

// A choice holds only while the module offers it and has the text that is taken.
func TestChoice(t *testing.T) {
	t.Parallel()
	c := choice{offer: "EPL-2.0 or BSD-3-Clause", offerFile: "NOTICE", taken: "BSD-3-Clause", takenFile: "edl"}
	name, err := c.licence(module(t, map[string]string{"LICENSE": epl, "NOTICE": "Licence: EPL-2.0 or BSD-3-Clause.", "edl": bsd3}))
	require.NoError(t, err)
	require.Equal(t, "BSD-3-Clause (edl), taken of the choice in NOTICE", name)
	for want, files := range map[string]map[string]string{
		"does not offer the choice":        {"LICENSE": epl, "NOTICE": "EPL-2.0", "edl": bsd3},
		"NOTICE: no such file":             {"LICENSE": bsd3, "edl": bsd3},
		"edl: no such file":                {"NOTICE": c.offer},
		"edl is BSD-2-Clause, not":         {"NOTICE": c.offer, "edl": bsd2},
		"the text of the eclipse public l": {"NOTICE": c.offer, "edl": epl},
	} {
		_, err := c.licence(module(t, files))
		require.ErrorContains(t, err, want)
	}
}
