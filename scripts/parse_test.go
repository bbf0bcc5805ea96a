package scripts_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/voltageems/voltage/scripts"
)

func TestParseScript(t *testing.T) {
	t.Parallel()
	list, err := scripts.Scripts()
	require.NoError(t, err)
	for _, want := range list {
		got, err := scripts.ParseScript(want.Text)
		require.NoError(t, err, want.Name)
		require.Equal(t, want, got)
	}

	s := list[0]
	number, digest, _ := strings.Cut(s.Version, "+")
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "line 1 is not that of a composed script"},
		{"a file", "-- @version 1.0.0\nreturn 1\n", "line 1 is not that of a composed script"},
		{"huge", s.Text + strings.Repeat("-", scripts.MaxScript), "bytes, at most 262144"},
		{"changed", s.Text + "-- more\n", s.Name + ": the first line says version " + s.Version + ", but the text below it has the digest "},
		{"cut", s.Text[:len(s.Text)/2], "has the digest"},
		{"CRLF", strings.ReplaceAll(s.Text, "\n", "\r\n"), "line 1"},
		{"another number", strings.Replace(s.Text, number+"+"+digest, "1.99.0+"+digest, 1), "the header @version " + number},
		{"another name", strings.Replace(s.Text, "'"+s.Name+"'", "'other'", 1), "does not end with the file other.lua"},
		{"a name with a quote", strings.Replace(s.Text, "'"+s.Name+"'", "'a' .. x", 1), "line 1"},
		{"a long digest", strings.Replace(s.Text, digest, digest+"00", 1), "line 1"},
		{"nothing below", "local SCRIPT, VERSION = 'a', '1.0.0+da39a3ee'", "does not end with the file a.lua"},
	} {
		_, err := scripts.ParseScript(tt.text)
		require.ErrorIs(t, err, scripts.ErrScript, tt.name)
		require.ErrorContains(t, err, tt.want, tt.name)
	}
}

func FuzzParseScript(f *testing.F) {
	f.Add("local SCRIPT, VERSION = 'a', '1.0.0+da39a3ee'\n-- from a.lua\n-- @version 1.0.0\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := scripts.ParseScript(text)
		if err != nil {
			require.ErrorIs(t, err, scripts.ErrScript)
			return
		}
		require.Equal(t, text, s.Text)
		_, err = s.Manifest()
		if err != nil {
			require.ErrorIs(t, err, scripts.ErrScript)
		}
	})
}
