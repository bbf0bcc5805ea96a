package scripts

import (
	"regexp"
	"slices"
	"strings"

	"github.com/voltageems/voltage/scripts/internal/luabox"
)

func (c TracedCall) command() string {
	if len(c.Args) == 0 {
		return ""
	}
	return strings.ToUpper(c.Args[0])
}

// Publishes reports whether the call sends a message on a Pub/Sub channel.
func (c TracedCall) Publishes() bool { return c.command() == "PUBLISH" || c.command() == "SPUBLISH" }

// Writes reports whether the call is of a command that may change data. PUBLISH
// does not. A command that no script is known to use counts as one that does.
func (c TracedCall) Writes() bool {
	_, writes := luabox.Effect(c.Args)
	return writes && !c.Publishes()
}

// Keys returns the keys that the call names; of PUBLISH there are none.
func (c TracedCall) Keys() []string {
	keys, _ := luabox.Effect(c.Args)
	return keys
}

// KeyUse returns what the manifest says of a key, or of the Pub/Sub channel that
// a script publishes on; name is without the site's prefix. The pattern with the
// most plain text is taken: alarm:state is not alarm:<id>.
func (m Manifest) KeyUse(name string, publishes bool) (use KeyUse, ok bool) {
	most := -1
	for _, k := range m.Keys {
		plain := len(placeholder.ReplaceAllString(k.Pattern, ""))
		meant := k.Access != "p"
		if publishes {
			meant = strings.Contains(k.Access, "p")
		}
		if meant && plain > most && keyPattern(k.Pattern).MatchString(name) {
			use, ok, most = k, true, plain
		}
	}
	return use, ok
}

func keyPattern(pattern string) *regexp.Regexp {
	var b strings.Builder
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(pattern, -1) {
		b.WriteString(regexp.QuoteMeta(pattern[end:m[0]]))
		if name := pattern[m[2]:m[3]]; strings.Contains(name, "|") {
			alternatives := strings.Split(name, "|")
			for i := range alternatives {
				alternatives[i] = regexp.QuoteMeta(alternatives[i])
			}
			b.WriteString("(?:" + strings.Join(alternatives, "|") + ")")
		} else {
			b.WriteString("[^:]+")
		}
		end = m[1]
	}
	return regexp.MustCompile("^(?:" + b.String() + regexp.QuoteMeta(pattern[end:]) + ")$")
}

// Form returns the form of the manifest that arguments are of: the one of which
// they begin with the words that it begins with.
func (m Manifest) Form(args []string) (Form, bool) {
	best, most := -1, -1
	for i, f := range m.Forms {
		words := f.Words()
		if len(words) <= len(args) && len(words) > most && slices.Equal(words, args[:len(words)]) {
			best, most = i, len(words)
		}
	}
	if best < 0 {
		return Form{}, false
	}
	return m.Forms[best], true
}

// Words returns the plain words with which the form begins: of "c2m <channel>"
// c2m.
func (f Form) Words() (words []string) {
	for _, w := range strings.Fields(f.Usage) {
		if strings.ContainsAny(w, "<[…") {
			break
		}
		words = append(words, w)
	}
	return words
}

// Meaning says what a code that the script answers means.
func (m Manifest) Meaning(code string) (string, bool) {
	i := slices.IndexFunc(m.Codes, func(c Code) bool { return c.Code == code })
	if i < 0 {
		return "", false
	}
	return m.Codes[i].Meaning, true
}
