package redisproc

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
)

// Names are the servers that Voltage runs on, in the order of preference.
func Names() []string { return []string{"redis-server", "valkey-server"} }

// Find returns the first of names that is on PATH. On systems where [Start] is
// not supported it finds none.
func Find(names ...string) (string, bool) {
	if runtime.GOOS != "linux" {
		return "", false
	}
	for _, name := range names {
		// A result relative to the working directory comes with an error and is
		// not used: what runs must not depend on where the program was started.
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}

// Version is a server version; patch levels make no difference here.
type Version struct{ Major, Minor int }

// AtLeast reports whether v is major.minor or later.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// String returns "major.minor".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// ErrVersion is wrapped by errors about a version that cannot be read.
var ErrVersion = errors.New("cannot read the server version")

var numbers = regexp.MustCompile(`^(\d{1,6})\.(\d{1,6})`)

// ParseVersion reads "7.0.15".
func ParseVersion(s string) (Version, error) {
	m := numbers.FindStringSubmatch(s)
	if m == nil {
		return Version{}, fmt.Errorf("%w: %.40q", ErrVersion, s)
	}
	major, err1 := strconv.Atoi(m[1])
	minor, err2 := strconv.Atoi(m[2])
	return Version{major, minor}, errors.Join(err1, err2)
}

var printed = regexp.MustCompile(`\bv=([0-9.]+)`)

// BinaryVersion asks a binary for its version (--version).
func BinaryVersion(ctx context.Context, binary string) (Version, error) {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return Version{}, fmt.Errorf("%w: %s --version: %w", ErrVersion, binary, err)
	}
	m := printed.FindSubmatch(out)
	if m == nil {
		return Version{}, fmt.Errorf("%w: %s --version printed %.80q", ErrVersion, binary, out)
	}
	return ParseVersion(string(m[1]))
}
