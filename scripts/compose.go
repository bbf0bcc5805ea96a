package scripts

import (
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

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
	// Text is what Redis runs, and what redis-cli --eval takes.
	Text string
	// SHA is the digest by which EVALSHA calls it.
	SHA string
}

// Scripts returns every script of this build, by name.
func Scripts() ([]Script, error) {
	return compose(luaFiles)
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

func compose(files fs.FS) ([]Script, error) {
	paths, err := fs.Glob(files, "lua/*.lua")
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	list := make([]Script, 0, len(paths))
	for _, p := range paths {
		s, err := composeOne(files, p)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

var (
	includeLine = regexp.MustCompile(`^-- @include ([a-z_]+)$`)
	versionLine = regexp.MustCompile(`(?m)^-- @version (\d+\.\d+\.\d+)$`)
)

func composeOne(files fs.FS, file string) (Script, error) {
	name := strings.TrimSuffix(path.Base(file), ".lua")
	source, err := fs.ReadFile(files, file)
	if err != nil {
		return Script{}, err
	}
	m := versionLine.FindSubmatch(source)
	if m == nil {
		return Script{}, fmt.Errorf("script %s: no \"-- @version 1.0.0\" line", file)
	}
	var body strings.Builder
	if err := expand(files, file, nil, map[string]bool{}, &body); err != nil {
		return Script{}, err
	}
	digest := sha1.Sum([]byte(body.String()))
	version := string(m[1]) + "+" + hex.EncodeToString(digest[:4])
	text := fmt.Sprintf("local SCRIPT, VERSION = '%s', '%s'\n%s", name, version, body.String())
	sum := sha1.Sum([]byte(text))
	return Script{Name: name, Version: version, Text: text, SHA: hex.EncodeToString(sum[:])}, nil
}

// expand writes the includes of a file, each once and before what needs it,
// then the file itself.
func expand(files fs.FS, file string, above []string, done map[string]bool, out *strings.Builder) error {
	if slices.Contains(above, file) {
		return fmt.Errorf("script %s: include cycle: %s → %s", above[0], strings.Join(above, " → "), file)
	}
	if done[file] {
		return nil
	}
	source, err := fs.ReadFile(files, file)
	if err != nil {
		if len(above) > 0 {
			return fmt.Errorf("script %s: include %s: %w", above[len(above)-1], file, err)
		}
		return err
	}
	var own strings.Builder
	for line := range strings.Lines(string(source)) {
		if m := includeLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			if err := expand(files, "lua/include/"+m[1]+".lua", append(above, file), done, out); err != nil {
				return err
			}
			continue
		}
		own.WriteString(line)
	}
	done[file] = true
	out.WriteString("-- from " + strings.TrimPrefix(file, "lua/") + "\n" + own.String())
	return nil
}
