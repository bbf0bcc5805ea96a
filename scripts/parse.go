package scripts

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// versionDigest is a version as a composed text has it.
var versionDigest = regexp.MustCompile(`^\d{1,6}\.\d{1,6}\.\d{1,6}\+[0-9a-f]{8}$`)

// ParseScript reads a composed script from its text, as [Dump] and
// [ComposeFolder] make it and ScriptSource returns it: of at most [MaxScript]
// bytes, with a first line that gives the name and the version. It refuses a text
// that was changed after it was composed: a version stands for one text. It does
// not look at the Lua; VerifyScript does. Errors wrap [ErrScript].
func ParseScript(text string) (Script, error) {
	bad := func(format string, args ...any) (Script, error) {
		return Script{}, fmt.Errorf("%w: "+format, append([]any{ErrScript}, args...)...)
	}
	if len(text) > MaxScript {
		return bad("the text has %d bytes, at most %d are possible", len(text), MaxScript)
	}
	first, body, _ := strings.Cut(text, "\n")
	m := firstLine.FindStringSubmatch(first)
	if m == nil || !scriptName.MatchString(m[1]) || !versionDigest.MatchString(m[2]) {
		return bad("line 1 is not that of a composed script, \"local SCRIPT, VERSION = 'name', '1.0.0+12345678'\": compose the files first")
	}
	name, version := m[1], m[2]
	number, digest, _ := strings.Cut(version, "+")
	sum := sha1.Sum([]byte(body))
	if actual := hex.EncodeToString(sum[:4]); actual != digest {
		return bad("%s: the first line says version %s, but the text below it has the digest %s: "+
			"it was changed after it was composed; change the files and compose them again", name, version, actual)
	}
	s := newScript(name, version, text)
	// The digest does not cover the first line: without this, one text could have
	// any number.
	files := s.files()
	if len(files) == 0 || files[len(files)-1].name != name+".lua" {
		return bad("%s: the text does not end with the file %s.lua, as a composed script does", name, name)
	}
	own := files[len(files)-1]
	h, err := parseHeader(own.name, own.lines)
	if err != nil {
		return bad("%w", err)
	}
	if h.version != number {
		return bad("%s: the first line says version %s, the header @version %s", name, version, h.version)
	}
	return s, nil
}

// CompareVersions orders two versions of a script by their three numbers: -1 if a
// is the older one, 0 if the numbers are the same, whatever the texts are, 1 if
// it is the newer one. Errors wrap [ErrVersion].
func CompareVersions(a, b string) (int, error) { return compareVersions(a, b) }
