package voltage

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// loadSecret is a text that must not appear in messages, and what stands there
// in its place.
type loadSecret struct{ text, shown string }

var loadVariable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}`)

// loadSensitive reports whether a field's name says that its value is a secret.
func loadSensitive(p loadPath) bool {
	for _, part := range p {
		key, ok := part.(string)
		if !ok {
			continue
		}
		key = strings.ToLower(key)
		for _, word := range []string{"pass", "secret", "token", "credential"} {
			if strings.Contains(key, word) {
				return true
			}
		}
		if key == "key" || key == "pin" || strings.HasSuffix(key, "_key") || strings.HasSuffix(key, "_pin") {
			return true
		}
	}
	return false
}

// expand replaces ${NAME} and ${NAME:-default} by environment variables and
// $${ by ${. The result is a value: what a variable holds is never read as YAML.
func (l *loader) expand(s string, p loadPath) (string, error) {
	if loadSensitive(p) {
		l.hide(s, "***")
	}
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var b strings.Builder
	for rest := s; rest != ""; {
		at := strings.Index(rest, "${")
		if at < 0 {
			b.WriteString(rest)
			break
		}
		if at > 0 && rest[at-1] == '$' {
			b.WriteString(rest[:at-1] + "${")
			rest = rest[at+2:]
			continue
		}
		b.WriteString(rest[:at])
		rest = rest[at:]
		m := loadVariable.FindStringSubmatch(rest)
		if m == nil {
			return "", errors.New("${ does not begin ${NAME} or ${NAME:-default}; write $${ for the characters themselves")
		}
		rest = rest[len(m[0]):]
		value, ok := l.env(m[1])
		switch {
		case m[2] != "" && value == "": // as the shell has it: not set, or empty
			value = m[3]
		case !ok:
			return "", fmt.Errorf("the environment variable %s is not set", m[1])
		default:
			l.hide(value, "${"+m[1]+"}")
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// hide keeps a text out of messages.
func (l *loader) hide(text, shown string) {
	if text == "" || strings.HasPrefix(text, "${") || len(l.secrets) > loadMaxFaults {
		return
	}
	quoted := strconv.Quote(text)
	for _, form := range []string{text, quoted[1 : len(quoted)-1], url.QueryEscape(text), url.PathEscape(text)} {
		if s := (loadSecret{form, shown}); !slices.Contains(l.secrets, s) {
			l.secrets = append(l.secrets, s)
		}
	}
}

// redact takes secrets out of a message that others wrote. A short one is
// replaced only where it stands alone, for it may be a part of any word.
func (l *loader) redact(text string) string {
	// The longest first, for one may contain another.
	slices.SortStableFunc(l.secrets, func(a, b loadSecret) int { return cmp.Compare(len(b.text), len(a.text)) })
	for _, s := range l.secrets {
		if len(s.text) >= 4 {
			text = strings.ReplaceAll(text, s.text, s.shown)
			continue
		}
		alone := regexp.MustCompile(`(^|[^A-Za-z0-9])` + regexp.QuoteMeta(s.text) + `($|[^A-Za-z0-9])`)
		text = alone.ReplaceAllString(text, "${1}"+strings.ReplaceAll(s.shown, "$", "$$")+"${2}")
	}
	return text
}
