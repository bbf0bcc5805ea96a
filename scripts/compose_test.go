package scripts

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// folder makes a folder of scripts from name and text in turn.
func folder(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

func TestComposeFolder(t *testing.T) {
	t.Parallel()
	files := folder(
		"b.lua", "-- b: second\n-- @version 1.2.3\n-- @include one\r\n-- @include two\n-- @include one\nreturn one() + two()",
		"a.lua", "-- a: first\n-- @version 0.1.0\nreturn 1\n",
		"include/one.lua", "-- shared\nlocal function one() return 1 end",
		"include/two.lua", "-- @include one\nlocal function two() return one() + 1 end\n",
		"readme.txt", "not a script")
	list, err := ComposeFolder(files)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, "a", list[0].Name)
	b := list[1]
	require.Regexp(t, `^1\.2\.3\+[0-9a-f]{8}$`, b.Version)
	require.Len(t, b.SHA, 40)
	require.Equal(t, `local SCRIPT, VERSION = 'b', '`+b.Version+`'
-- from include/one.lua
-- shared
local function one() return 1 end
-- from include/two.lua
-- @include one
local function two() return one() + 1 end
-- from b.lua
-- b: second
-- @version 1.2.3
-- @include one
-- @include two
-- @include one
return one() + two()
`, b.Text)

	// the same text has the same version, another has another
	again, err := ComposeFolder(files)
	require.NoError(t, err)
	require.Equal(t, list, again)
	files["include/one.lua"].Data = append(files["include/one.lua"].Data, " -- changed"...)
	again, err = ComposeFolder(files)
	require.NoError(t, err)
	require.Equal(t, list[0], again[0])
	require.NotEqual(t, b.Version, again[1].Version)
}

func TestComposeRefuses(t *testing.T) {
	t.Parallel()
	head := "-- a: x\n-- @version 1.0.0\n"
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"nothing":       {[]string{"a.txt", ""}, "the folder has no file <name>.lua"},
		"no version":    {[]string{"a.lua", "return 1\n"}, `a.lua: the header has no line "-- @version 1.0.0"`},
		"bad version":   {[]string{"a.lua", "-- a: x\n-- @version 1.0\n"}, "a.lua:2: @version"},
		"two versions":  {[]string{"a.lua", head + "-- @version 1.0.1\n"}, "a.lua:3: @version stands twice"},
		"missing":       {[]string{"a.lua", head + "-- @include none\n"}, "a.lua:3: @include none: there is no file include/none.lua"},
		"missing below": {[]string{"a.lua", head + "-- @include b\n", "include/b.lua", "--\n-- @include none\n"}, "include/b.lua:2: @include none"},
		"outside":       {[]string{"a.lua", head + "-- @include ../b\n"}, "a.lua:3: @include"},
		"cycle": {[]string{"a.lua", head + "-- @include b\n", "include/b.lua", "-- @include c\n", "include/c.lua", "-- x\n-- @include b\n"},
			"include/c.lua:2: include cycle: a.lua → include/b.lua → include/c.lua → include/b.lua"},
		"itself":           {[]string{"a.lua", head + "-- @include b\n", "include/b.lua", "-- @include b\n"}, "include/b.lua:1: include cycle"},
		"unknown":          {[]string{"a.lua", head + "-- @includes b\n"}, "a.lua:3: unknown directive @includes"},
		"unknown below":    {[]string{"a.lua", head + "-- @include b\n", "include/b.lua", "-- @param x\n"}, "include/b.lua:1: unknown directive @param"},
		"not the form":     {[]string{"a.lua", head + "--@include b\n"}, "a.lua:3: a directive is written"},
		"below the header": {[]string{"a.lua", head + "local a\n-- @include b\n"}, "a.lua:4: @include stands below the header"},
		"include version":  {[]string{"a.lua", head + "-- @include b\n", "include/b.lua", "-- @version 1.0.0\n"}, "include/b.lua:1: @version belongs to scripts"},
		"marker":           {[]string{"a.lua", head + "-- from include/b.lua\n"}, "a.lua:3: a line"},
		"name":             {[]string{"a'b.lua", head}, "lower-case letters"},
		"code":             {[]string{"a.lua", head + "-- @code ok fine\n"}, "a.lua:3: @code"},
		"keys":             {[]string{"a.lua", head + "-- @keys wr alarm:<id> why\n"}, "a.lua:3: @keys"},
		"keys why":         {[]string{"a.lua", head + "-- @keys rw alarm:<id>\n"}, "a.lua:3: @keys"},
		"form":             {[]string{"a.lua", head + "-- @form c2m\n"}, "a.lua:3: @form"},
		"reply":            {[]string{"a.lua", head + "-- @reply\n"}, "a.lua:3: @reply"},
	} {
		_, err := ComposeFolder(folder(c.files...))
		require.ErrorIs(t, err, ErrScript, name)
		require.ErrorContains(t, err, c.want, name)
	}
}

// Every line of every composed text is found again in its file, also in the
// traced form.
func TestSource(t *testing.T) {
	t.Parallel()
	list, err := Scripts()
	require.NoError(t, err)
	sources := map[string][]string{}
	for _, s := range list {
		texts := []Script{s}
		if s.Name == "data_sync" { // has every include; all would take seconds with -race
			texts = append(texts, s.Traced())
		}
		for _, text := range texts {
			found := 0
			for i, line := range strings.Split(strings.TrimSuffix(text.Text, "\n"), "\n") {
				file, n := text.Source(i + 1)
				if file == "" || n == 0 {
					continue
				}
				if sources[file] == nil {
					source, err := fs.ReadFile(luaFiles, "lua/"+file)
					require.NoError(t, err)
					sources[file] = strings.Split(string(source), "\n")
				}
				if want := sources[file][n-1]; line != want {
					t.Fatalf("%s: line %d is %s:%d, %q, not %q", s.Name, i+1, file, n, want, line)
				}
				found++
			}
			lines := strings.Count(s.Text, "\n")
			require.Equal(t, lines-1-len(s.files()), found, s.Name) // all but the first and the markers
		}
		file, n := s.Source(1)
		require.Equal(t, "", file)
		require.Equal(t, 1, n)
		own := strings.Split(s.Text, "-- from "+s.Name+".lua\n")[1]
		file, n = s.Source(1 << 30)
		require.Equal(t, s.Name+".lua", file)
		require.Equal(t, strings.Count(own, "\n"), n)
		file, n = s.Source(0)
		require.Equal(t, "", file)
		require.Equal(t, 0, n)
	}
	file, n := Script{Text: "return 1\nreturn 2\n"}.Source(2)
	require.Equal(t, "", file)
	require.Equal(t, 2, n)
}

// No text changes without its version: engines of two builds could not tell
// which of two texts is the newer one.
func TestVersions(t *testing.T) {
	t.Parallel()
	recorded, err := os.ReadFile("lua/versions.txt")
	require.NoError(t, err)
	was := map[string][]string{}
	for line := range strings.Lines(string(recorded)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "#" {
			was[f[0]] = f[1:]
		}
	}
	list, err := Scripts()
	require.NoError(t, err)
	var changed, other []string
	for _, s := range list {
		version, digest, _ := strings.Cut(s.Version, "+")
		f := was[s.Name]
		delete(was, s.Name)
		switch {
		case f != nil && f[0] == version && f[1] != digest:
			changed = append(changed, s.Name)
		case f == nil || f[0] != version:
			other = append(other, s.Name)
		}
	}
	for name := range was {
		other = append(other, name)
	}
	if len(changed) > 0 {
		t.Errorf("the text of %s changed and @version did not: raise it in the header of each (lua/<name>.lua; an include changes every script that includes it), then `go generate ./scripts`",
			strings.Join(changed, ", "))
	}
	if len(other) > 0 {
		t.Errorf("lua/versions.txt does not know the version of %s: `go generate ./scripts`", strings.Join(other, ", "))
	}
}
