// Command luaversions writes lua/versions.txt, which records the version of
// every script and the digest of its text. It refuses where a text changed and
// its version did not rise, for engines of two builds could not tell which of the
// two texts is the newer one. `go generate ./scripts` runs it.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/voltageems/voltage/scripts"
)

const (
	file = "lua/versions.txt"
	head = `# Every script with its version and the digest of its composed text, written by
# ` + "`go generate ./scripts`" + `. A text that changes needs a higher @version. While a version
# was never released, its text may still change: take its line out first.
`
)

func main() {
	if err := run(file); err != nil {
		fmt.Fprintln(os.Stderr, "luaversions:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := scripts.Scripts()
	if err != nil {
		return err
	}
	text, err := record(string(old), list)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// record returns the new text of the file. All scripts that stand in the way are
// named: an include that changed changes several.
func record(old string, list []scripts.Script) (string, error) {
	was := map[string][]string{}
	for line := range strings.Lines(old) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "#" {
			was[f[0]] = f[1:]
		}
	}
	var b strings.Builder
	b.WriteString(head)
	var stuck []string
	for _, s := range list {
		version, digest, _ := strings.Cut(s.Version, "+")
		if f := was[s.Name]; f != nil && f[1] != digest && !newer(version, f[0]) {
			stuck = append(stuck, fmt.Sprintf("%s (%s, was %s)", s.Name, version, f[0]))
		}
		fmt.Fprintf(&b, "%-14s %-8s %s\n", s.Name, version, digest)
	}
	if len(stuck) > 0 {
		return "", fmt.Errorf("these texts changed and their versions did not rise; raise @version in lua/<name>.lua first: %s", strings.Join(stuck, ", "))
	}
	return b.String(), nil
}

// newer reports whether version a is higher than b. What is no version is lower
// than any.
func newer(a, b string) bool {
	var na, nb [3]int
	if _, err := fmt.Sscanf(a, "%d.%d.%d", &na[0], &na[1], &na[2]); err != nil {
		return false
	}
	if _, err := fmt.Sscanf(b, "%d.%d.%d", &nb[0], &nb[1], &nb[2]); err != nil {
		return true
	}
	for i := range na {
		if na[i] != nb[i] {
			return na[i] > nb[i]
		}
	}
	return false
}
