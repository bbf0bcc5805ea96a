package scripts

import (
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

//go:generate go run ./internal/luaversions

//go:embed lua/*.lua lua/include/*.lua
var luaFiles embed.FS

// Script is one script, composed from its source and the includes that it
// names, ready to be loaded.
type Script struct {
	// Name is the file's name without ".lua", such as "data_sync".
	Name string
	// Version is "major.minor.patch+digest". Major is the contract with the
	// callers; the digest is of the composed text, so that no two texts share a
	// version.
	Version string
	// Text is what Redis runs, and what redis-cli --eval takes: a first line that
	// tells the script its name and version, then each file whole, behind a line
	// "-- from include/base.lua".
	Text string
	// SHA is the digest by which EVALSHA calls it.
	SHA string
}

// Scripts returns every script of this build, by name.
func Scripts() ([]Script, error) {
	files, err := fs.Sub(luaFiles, "lua")
	if err != nil {
		return nil, err
	}
	return ComposeFolder(files)
}

// Dump returns the text of one script of this build.
func Dump(name string) (string, error) {
	list, err := Scripts()
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(list))
	for _, s := range list {
		if s.Name == name {
			return s.Text, nil
		}
		names = append(names, s.Name)
	}
	return "", fmt.Errorf("%w: script %.64q: there are %s", ErrNotFound, name, strings.Join(names, ", "))
}

// ComposeFolder composes every script of a folder, by name. The folder has a
// file <name>.lua for each script and include/<name>.lua for what they share:
// all that they include, for nothing is taken from this build. Errors wrap
// [ErrScript] and name the file and, where there is one, the line.
func ComposeFolder(files fs.FS) ([]Script, error) {
	paths, err := fs.Glob(files, "*.lua")
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: the folder has no file <name>.lua", ErrScript)
	}
	slices.Sort(paths)
	list := make([]Script, 0, len(paths))
	for _, p := range paths {
		s, err := composeOne(files, p)
		if err != nil {
			return nil, fmt.Errorf("%w %w", ErrScript, err)
		}
		list = append(list, s)
	}
	return list, nil
}

var (
	scriptName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	firstLine  = regexp.MustCompile(`^local SCRIPT, VERSION = '([a-z][a-z0-9_]*)', '([0-9.]+\+[0-9a-f]+)'$`)
	markerLine = regexp.MustCompile(`^-- from ((?:include/)?[a-z][a-z0-9_]*\.lua|trace)$`)
)

// composeOne composes the script of one file.
func composeOne(files fs.FS, file string) (Script, error) {
	name := strings.TrimSuffix(path.Base(file), ".lua")
	if !scriptName.MatchString(name) {
		return Script{}, fmt.Errorf("%s: a script's name has lower-case letters, digits and _", file)
	}
	c := composer{files: files, done: map[string]bool{}}
	h, err := c.expand(file, nil)
	if err != nil {
		return Script{}, err
	}
	if h.version == "" {
		return Script{}, fmt.Errorf("%s: the header has no line \"-- @version 1.0.0\"", file)
	}
	body := c.out.String()
	digest := sha1.Sum([]byte(body))
	version := h.version + "+" + hex.EncodeToString(digest[:4])
	return newScript(name, version, fmt.Sprintf("local SCRIPT, VERSION = '%s', '%s'\n%s", name, version, body)), nil
}

func newScript(name, version, text string) Script {
	sum := sha1.Sum([]byte(text))
	return Script{Name: name, Version: version, Text: text, SHA: hex.EncodeToString(sum[:])}
}

type composer struct {
	files fs.FS
	done  map[string]bool
	out   strings.Builder
}

// expand writes the includes of a file, each once and before what needs it,
// then the file itself with every line in its place, so that lines can be found
// again. above are the files that led here.
func (c *composer) expand(file string, above []string) (header, error) {
	source, err := fs.ReadFile(c.files, file)
	if err != nil {
		return header{}, fmt.Errorf("%s: %w", file, err)
	}
	var lines []string
	for line := range strings.Lines(string(source)) {
		lines = append(lines, strings.TrimRight(line, "\r\n"))
	}
	h, err := parseHeader(file, lines)
	if err != nil {
		return header{}, err
	}
	above = append(slices.Clone(above), file)
	for _, inc := range h.includes {
		f := "include/" + inc.name + ".lua"
		if slices.Contains(above, f) {
			return header{}, fmt.Errorf("%s:%d: include cycle: %s → %s", file, inc.line, strings.Join(above, " → "), f)
		}
		if c.done[f] {
			continue
		}
		if _, err := c.expand(f, above); errors.Is(err, fs.ErrNotExist) && !c.exists(f) {
			return header{}, fmt.Errorf("%s:%d: @include %s: there is no file %s", file, inc.line, inc.name, f)
		} else if err != nil {
			return header{}, err
		}
	}
	c.done[file] = true
	c.out.WriteString("-- from " + file + "\n")
	for _, line := range lines {
		c.out.WriteString(line + "\n")
	}
	return h, nil
}

func (c *composer) exists(file string) bool {
	_, err := fs.Stat(c.files, file)
	return err == nil
}

// Source tells where a line of Text comes from, counted from 1: the file as
// ComposeFolder names it ("include/alarm.lua", "data_sync.lua") and the line in
// it. It looks at the text alone, so that it works for a text that was read
// back from a store. The file is empty for a line that is of no file, such as
// the first; a line after the end counts as the last one, for that is where a
// missing "end" is found missing.
func (s Script) Source(line int) (file string, n int) {
	if line < 1 {
		return "", 0
	}
	end, at := 0, 0 // Text[:end] are the first lines, at of them
	for at < line && end < len(s.Text) {
		at++
		if i := strings.IndexByte(s.Text[end:], '\n'); i >= 0 {
			end += i + 1
		} else {
			end = len(s.Text)
		}
	}
	head := s.Text[:end]
	for before := head; ; {
		i := strings.LastIndex(before, markerStart)
		if i < 0 {
			return "", at
		}
		if i == 0 || head[i-1] == '\n' {
			first, _, _ := strings.Cut(head[i:], "\n")
			switch file = marker(first); file {
			case "":
			case "trace":
				return "", at
			default:
				return file, strings.Count(strings.TrimSuffix(head[i:], "\n"), "\n")
			}
		}
		before = before[:i]
	}
}

const markerStart = "-- from "

// marker returns the file that begins below a line, empty where none does.
func marker(line string) string {
	if !strings.HasPrefix(line, markerStart) {
		return ""
	}
	if m := markerLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
		return m[1]
	}
	return ""
}

// files returns the parts of a composed text, in order.
func (s Script) files() (list []sourceFile) {
	for text := range strings.Lines(s.Text) {
		text = strings.TrimRight(text, "\n")
		if name := marker(text); name != "" {
			list = append(list, sourceFile{name: name})
		} else if len(list) > 0 {
			f := &list[len(list)-1]
			f.lines = append(f.lines, text)
		}
	}
	return list
}

type sourceFile struct {
	name  string
	lines []string
}
